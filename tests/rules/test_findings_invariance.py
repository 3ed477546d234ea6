"""However the bytes are cut into packets, the findings are the same (DESIGN principle 7)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from smtpdebug.model.smtp import Conversation
from smtpdebug.rules.judge import RuleSet
from smtpdebug.testing import dialogue

RULES = RuleSet()

TURNS = [
    ("S", b"220 mx.example.org ESMTP\r\n"),
    ("C", b"EHLO localhost\r\n"),
    ("S", b"250-mx.example.org\r\n250-PIPELINING\r\n250-ENHANCEDSTATUSCODES\r\n250 SIZE 100\r\n"),
    (
        "C",
        b"MAIL FROM: <a@example.net> SIZE=200\r\nRCPT TO:<al ice@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n",
    ),
    ("S", b"250 2.1.0 OK\r\n501 4.1.3 bad\r\n250 OK\r\n354 go ahead\r\n"),
    ("C", b"Subject: hello\r\n\r\n.not doubled\r\nhello\n.\r\nhello\r\n.\r\n"),
    ("S", b"250 2.0.0 OK\r\n"),
    ("C", b"FROB x\r\n"),
    ("S", b"500-5.5.2 what\r\n500 5.5.1 ever\r\n"),
    ("C", b"RSET now\r\n"),
    ("S", b"250 2.0.0 OK\r\n"),
    ("C", b"QUIT\r\n"),
    ("S", b"250 2.0.0 bye\r\n"),
]


def _escaped(data: bytes) -> str:
    return "".join(chr(octet) if 32 < octet < 127 and octet != 92 else f"\\x{octet:02x}" for octet in data)


def _cut(places: list[int]) -> Conversation:
    """The turns, each cut at those of the places (counted over all of them) that fall into it."""
    lines, passed = [], 0
    for side, data in TURNS:
        inside = sorted({place - passed for place in places if passed < place < passed + len(data)})
        for start, end in zip([0, *inside], [*inside, len(data)], strict=True):
            lines.append(f"{side}! {_escaped(data[start:end])}")
        passed += len(data)
    return dialogue("\n".join([*lines, "S closes", "C closes"]))


def _said(conversation: Conversation) -> list[tuple[str, str]]:
    return sorted((finding.rule, finding.message) for finding in RULES.judge(conversation))


WHOLE = _said(_cut([]))


def test_the_conversation_has_faults_of_every_kind() -> None:
    rules = {rule for rule, _ in WHOLE}
    assert {"SC106", "SC123", "SC126", "SC160", "SR170", "SR171", "SR172", "SC120", "SC118", "SR129", "SR150"} <= rules


@given(st.lists(st.integers(0, sum(len(data) for _, data in TURNS)), max_size=60))
def test_findings_do_not_depend_on_how_the_bytes_were_cut(places: list[int]) -> None:
    assert _said(_cut(places)) == WHOLE


def test_one_octet_a_packet() -> None:
    assert _said(_cut(list(range(1000)))) == WHOLE
