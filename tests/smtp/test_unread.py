"""What becomes of lines behind a gap. Expected: what the server answered, which knew all of them."""

from __future__ import annotations

import pytest

from smtpdebug.model.smtp import AUTH_ANSWER, END_OF_DATA, Conversation, Unread
from smtpdebug.testing import dialogue

HAIL = "S: 220 mx ESMTP\nC: EHLO c\nS: 250 mx\n-- gap 20 --\n"
BYE = "\nC: QUIT\nS: 221 bye"


def pairs(conversation: Conversation) -> list[tuple[str | None, int | None]]:
    found = [(e.command.verb if e.command else None, e.reply.code if e.reply else None) for e in conversation.exchanges]
    return found[2:]


def unread(conversation: Conversation) -> list[bytes]:
    return [item.data for item in conversation.timeline if isinstance(item, Unread)]


@pytest.mark.parametrize(
    ("said", "verb", "code"),
    [
        ("C: FROB x\nS: 500 5.5.1 unrecognized", "FROB", 500),
        ("C: MIAL FROM:<a@x>\nS: 502 5.5.2 Error: command not recognized", "MIAL", 502),
        ("C: dXNlcm5hbWU=\nS: 334 UGFzc3dvcmQ6\nC: c2VjcmV0\nS: 235 ok", AUTH_ANSWER, 334),
        ("C: c2VjcmV0MTIz\nS: 535 5.7.8 no", AUTH_ANSWER, 535),
        ("C: *\nS: 501 5.7.0 cancelled", AUTH_ANSWER, 501),
    ],
)
def test_a_reply_to_just_this_line_shows_that_it_was_a_command(said: str, verb: str, code: int) -> None:
    conversation = dialogue(HAIL + said + BYE)
    assert pairs(conversation)[0] == (verb, code)
    assert pairs(conversation)[-1] == ("QUIT", 221)
    assert unread(conversation) == []


@pytest.mark.parametrize("rest", ["TO:<b@y>", "FROM:<a@x>", "TA", "example.net"])
def test_the_rest_of_a_cut_line_is_shown_and_is_no_command(rest: str) -> None:
    conversation = dialogue(HAIL + f"C: {rest}\nS: 250 ok" + BYE)
    assert pairs(conversation) == [(None, 250), ("QUIT", 221)]
    assert unread(conversation) == [rest.encode() + b"\r\n"]


def test_the_last_of_mail_data_is_kept_as_such() -> None:
    conversation = dialogue(HAIL + "C: Subject: x\nC:\nC: text\nC: .\nS: 250 queued" + BYE)
    assert pairs(conversation) == [(END_OF_DATA, 250), ("QUIT", 221)]
    (item,) = (item for item in conversation.timeline if isinstance(item, Unread))
    assert (item.data, item.lines, item.length, item.mail) == (b"Subject: x\r\n\r\ntext\r\n", 3, 20, True)


def test_mail_data_to_the_end_of_the_capture() -> None:
    conversation = dialogue(HAIL + "C: hello\nC: world\nC: QU")
    assert unread(conversation) == [b"hello\r\nworld\r\nQU\r\n"]


def test_two_gaps_are_two_stretches() -> None:
    conversation = dialogue(HAIL + "C: one\n-- gap 5 --\nC: two\nC: RSET\nS: 250 ok" + BYE)
    assert unread(conversation) == [b"one\r\n", b"two\r\n"]
