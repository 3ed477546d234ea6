"""Diagnoses: every page is true, the order is by confidence, credentials are never printed, healthy costs little."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from smtpdebug.cli import diagnosis_pages as writer
from smtpdebug.model.findings import Diagnosis
from smtpdebug.model.smtp import Conversation
from smtpdebug.rules.diagnosis import DIAGNOSES, DiagnosisSpec, diagnose
from smtpdebug.rules.diagnosis.facts import Facts, Trigger
from smtpdebug.rules.diagnosis.pages import all_pages
from smtpdebug.rules.examples import apply_facts, bare, blocks, sections
from smtpdebug.rules.judge import Judge, RuleSet
from smtpdebug.rules.memory import Earlier
from smtpdebug.rules.sighting import Sighting
from smtpdebug.rules.verdicts import Verdicts
from smtpdebug.testing import dialogue

SPECS = sorted(DIAGNOSES.values(), key=lambda spec: int(spec.id[1:]))
COMPARING = {"D07"}
"""Diagnoses that need an earlier conversation have a test of their own."""

CLEAN = """
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 PIPELINING
    C: MAIL FROM:<a@example.net>
    S: 250 2.1.0 Ok
    C: RCPT TO:<b@example.org>
    S: 250 2.1.5 Ok
    C: DATA
    S: 354 End data with <CR><LF>.<CR><LF>
    C: Subject: x
    C:
    C: hello
    C: .
    S: 250 2.0.0 Ok: queued
    C: QUIT
    S: 221 2.0.0 Bye
    C closes
    S closes
"""


def made_of(section: str) -> Conversation:
    found = blocks(section)
    conversation = dialogue(found["smtp"]) if "smtp" in found else bare()
    if "facts" in found:
        apply_facts(conversation, found["facts"])
    # as in a run: the rules have spoken before
    conversation.findings = Judge(RuleSet(), conversation).close()
    return conversation


def ids(diagnoses: list[Diagnosis]) -> list[str]:
    return [d.id for d in diagnoses]


def test_there_are_enough_and_names_are_unique() -> None:
    assert len(SPECS) >= 40
    assert len({spec.name for spec in SPECS}) == len(SPECS)


@pytest.mark.parametrize("spec", [s for s in SPECS if s.id not in COMPARING], ids=lambda s: s.id)
def test_example_gives_the_diagnosis(spec: DiagnosisSpec) -> None:
    found = [d for d in diagnose(made_of(sections(spec.page)["Example"])) if d.id == spec.id]
    assert len(found) == 1
    (one,) = found
    assert one.says.endswith((".", ")"))
    assert one.evidence
    assert one.advice
    assert one.otherwise
    assert sections(spec.page)["Evidence"]
    assert one.confidence in ("high", "medium", "low")


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.id)
def test_silent_example_does_not(spec: DiagnosisSpec) -> None:
    assert spec.id not in ids(diagnose(made_of(sections(spec.page)["Silent"])))


def test_clean_delivery_has_no_diagnosis() -> None:
    assert diagnose(dialogue(CLEAN)) == []


def test_most_confident_comes_first() -> None:
    found = diagnose(
        dialogue(
            """
            -- 7s --
            S: 220 mx.example.org ESMTP
            C: EHLO client.example.net
            S: 250 mx.example.org
            C: MAIL FROM:<a@example.net>
            -- 6s --
            S: 250 2.1.0 Ok
            C: RCPT TO:<b@example.org>
            S: 550 5.1.1 User unknown
            C: QUIT
            S: 221 2.0.0 Bye
            """
        )
    )
    rank = {"high": 0, "medium": 1, "low": 2}
    order = [rank[d.confidence] for d in found]
    assert order == sorted(order)
    assert ids(found)[0] == "D76"
    assert {"D24", "D85"} <= set(ids(found))


def test_credentials_are_judged_by_shape_and_not_printed() -> None:
    name, password = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
    answer = base64.b64encode(f"\0{name}\0{password}".encode()).decode()
    conversation = dialogue(
        f"""
        S: 220 email-smtp.amazonaws.com ESMTP SimpleEmailService-1
        C: EHLO client.example.net
        S: 250-email-smtp.amazonaws.com
        S: 250 AUTH PLAIN LOGIN
        C: AUTH PLAIN {answer}
        S: 535 Authentication Credentials Invalid
        C: QUIT
        S: 221 Bye
        """
    )
    found = diagnose(conversation)
    assert ids(found) == ["D43"]
    assert "secret access key" in found[0].says
    said = repr(found)
    assert not any(secret in said for secret in (name, password, answer, password[:12], name[4:]))


def test_an_ordinary_wrong_password_is_not_called_an_aws_key() -> None:
    answer = base64.b64encode(b"\0alice\0secret").decode()
    found = diagnose(
        dialogue(
            f"""
            S: 220 mx.example.org ESMTP
            C: EHLO client.example.net
            S: 250-mx.example.org
            S: 250 AUTH PLAIN
            C: AUTH PLAIN {answer}
            S: 535 5.7.8 Error: authentication failed
            C: QUIT
            S: 221 2.0.0 Bye
            """
        )
    )
    assert ids(found) == ["D43"]
    assert "AWS" not in found[0].says


def test_ipv6_fallback_needs_the_failed_attempt_before() -> None:
    failed, after = bare(), dialogue(CLEAN)
    apply_facts(
        failed,
        f'server_ip = "2001:db8::2"\n[stream]\nsyn_retransmissions = 1\nsyn_ns = {after.stream.opened.ts_ns - 10**9}\n',
    )
    after.stream.syn_ns = after.stream.last_syn_ns = after.stream.opened.ts_ns
    after.stream.syn_ack_ns = after.stream.established_ns = after.stream.opened.ts_ns + 1000
    assert judged(after) == [[]]
    assert judged(failed, after)[1] == ["D07"]


def judged(*conversations: Conversation) -> list[list[str]]:
    verdicts = Verdicts()
    for conversation in conversations:
        verdicts.judge(conversation)
    return [ids(conversation.diagnoses) for conversation in conversations]


GREYLIST = """
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 2.1.0 Ok
    C: RCPT TO:<b@example.org>
    S: {reply}
    C: RSET
    S: 250 2.0.0 Ok
    C: QUIT
    S: 221 2.0.0 Bye
"""


def test_greylisting_is_known_when_the_triplet_comes_back() -> None:
    first = dialogue(GREYLIST.format(reply="450 4.2.0 not now"))
    second = dialogue(GREYLIST.format(reply="250 2.1.5 Ok"), start="2024-01-01T00:10:00Z")
    assert "D55" not in judged(second)[0]
    before, after = judged(first, second)
    assert "D55" not in before
    assert "D55" in after
    assert "10 min earlier" in next(d.says for d in second.diagnoses if d.id == "D55")


def test_a_server_that_said_greylisted_is_not_told_twice() -> None:
    first = dialogue(GREYLIST.format(reply="450 4.2.0 Greylisted, come back later"))
    again = dialogue(GREYLIST.format(reply="450 4.2.0 Greylisted, come back later"), start="2024-01-01T00:01:00Z")
    assert [found.count("D55") for found in judged(first, again)] == [1, 1]


def test_throttling_prints_the_rate_that_was_seen() -> None:
    transaction = """
        C: MAIL FROM:<a@example.net>
        S: 250 Ok
        C: RCPT TO:<b@example.org>
        S: 250 Ok
        C: DATA
        S: 354 go ahead
        C: Subject: x
        C: .
        S: {final}
    """
    text = "S: 220 email-smtp.amazonaws.com ESMTP SimpleEmailService-1\nC: EHLO a.example\nS: 250 x\n"
    text += transaction.format(final="250 Ok 1") * 3
    text += transaction.format(final="454 Throttling failure: Maximum sending rate exceeded.")
    found = diagnose(dialogue(text))
    assert ids(found)[0] == "D52"
    assert "3 messages" in found[0].says
    assert "rate" in found[0].advice


def test_throttling_after_earlier_conversations_tells_their_rate_too() -> None:
    before = [dialogue(CLEAN, start=f"2024-01-01T00:00:0{second}Z") for second in (0, 2, 4)]
    held = dialogue(
        "S: 220 mx.example.org ESMTP\nC: EHLO a.example\nS: 250 x\nC: MAIL FROM:<a@example.net>\n"
        "S: 450 4.7.1 Error: too much mail from 192.0.2.7\nC: QUIT\nS: 221 bye",
        start="2024-01-01T00:00:06Z",
    )
    assert judged(held)[0] == ["D52"]
    assert "On earlier connections" not in held.diagnoses[0].says
    assert judged(*before, held)[-1] == ["D52"]
    # three messages in the six seconds since the first was accepted
    assert held.diagnoses[0].says.endswith(
        "On earlier connections of this capture the server took 0.5 messages a second."
    )


def test_memory_is_bounded() -> None:
    earlier, at = Earlier(), bare().stream.opened
    for number in range(11_000):
        seen = Sighting("192.0.2.7", f"server {number}", 25, at, starttls=True, starttls_at=at)
        seen.accepted, seen.deferred = [at.ts_ns, at.ts_ns], [("a", f"b {number}")]
        earlier.remember(seen)
    assert earlier.accepted_per_second("server 0", at.ts_ns) is None
    assert earlier.accepted_per_second("server 10999", at.ts_ns) == 2.0
    assert earlier.deferred("192.0.2.7", "a", "b 0") is None
    assert earlier.deferred("192.0.2.7", "a", "b 10999") == at.ts_ns
    assert earlier.offer(Sighting("", "server 0", 25, at)).there is None
    assert earlier.offer(Sighting("", "server 10999", 25, at)).there == at


def test_pages_name_every_diagnosis() -> None:
    pages = all_pages()
    assert set(pages) == {"index.md"} | {f"{spec.id}.md" for spec in SPECS}
    assert all(spec.name in pages["index.md"] for spec in SPECS)


def test_docs_are_current() -> None:
    docs = Path(__file__).parents[2] / "docs"
    for folder, tree in writer.trees().items():
        found = {path.name: path.read_text("utf-8") for path in (docs / folder).glob("*.md")}
        assert found == tree, "run `make fix`"


def test_writing_twice_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "diagnoses").mkdir()
    (tmp_path / "diagnoses" / "D00.md").write_text("of old")
    assert "diagnoses/D00.md" in writer.write(tmp_path)
    assert writer.write(tmp_path) == []


# RFC 1812 section 5.2.7.1 and RFC 4443 section 3.1 for the numbers.
@pytest.mark.parametrize(
    ("note", "words"),
    [
        ("ICMP type 3 code 13 from 192.0.2.1", "prohibited by a filter"),
        ("ICMP type 3 code 1 from 192.0.2.1", "host unreachable"),
        ("ICMPv6 type 1 code 0 from 2001:db8::1", "no route"),
    ],
)
def test_icmp_is_told_in_words_with_its_sender(note: str, words: str) -> None:
    conversation = bare()
    apply_facts(
        conversation,
        f'[stream]\nsyn_ms = 0\nrefused_by = "icmp"\n'
        f'events = [{{ kind = "unreachable", side = "client", note = "{note}" }}]\n',
    )
    (found,) = (d for d in diagnose(conversation) if d.id == "D03")
    assert words in found.says
    assert note.rpartition(" ")[2] in found.says


def test_a_connection_closed_by_two_fins_is_not_looked_at_for_tcp_troubles() -> None:
    assert not Facts(dialogue(CLEAN)).traits & Trigger.TCP


def test_a_stuck_segment_in_the_mail_data_is_one_diagnosis_and_not_three() -> None:
    conversation = dialogue(
        CLEAN[: CLEAN.index("C: .")] + "-- 300s --\nS: 421 4.4.2 mx.example.org Error: timeout exceeded\nS closes"
    )
    assert {"D60", "D61"} <= set(ids(diagnose(conversation)))
    sent = conversation.stream.bytes[0]
    repeats = ", ".join(
        f'{{ kind = "retransmission", side = "client", offset = {sent - 1448}, length = 1448, ms = {ms} }}'
        for ms in (300, 900, 2100)
    )
    apply_facts(conversation, f"[stream]\nretransmissions = [3, 0]\nevents = [{repeats}]\n")
    found = ids(diagnose(conversation))
    assert found[0] == "D12"
    assert not {"D60", "D61"} & set(found)


GREETING_DUE = (
    "[stream]\nsyn_ms = 0\nlast_syn_ms = 0\nsyn_ack_ms = 80\nestablished_ms = 83\ncomplete = true\nlast_ms = 269\n"
)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ('closed_by = "server-fin"\nfin_ms = [-1, 186]\n', True),
        (
            'closed_by = "server-fin"\nfin_ms = [240, 186]\nbytes = [6, 0]\nfirst_data_ms = [187, -1]\n',
            True,
        ),  # QUIT after it
        (
            'closed_by = "server-fin"\nfin_ms = [240, 186]\nbytes = [6, 0]\nfirst_data_ms = [100, -1]\n',
            False,
        ),  # spoke first
        ('closed_by = "client-fin"\nfin_ms = [150, 186]\n', False),
        ('closed_by = "server-fin"\nfin_ms = [-1, 186]\nbytes = [0, 40]\n', False),
        ('closed_by = "server-fin"\nfin_ms = [-1, 186]\nmissing = [0, 40]\n', False),
        ('closed_by = "server-rst"\nrst_ms = [-1, 186]\n', True),
    ],
)
def test_a_server_that_closes_before_the_greeting(more: str, told: bool) -> None:
    conversation = bare()
    apply_facts(conversation, GREETING_DUE + more)
    Verdicts(RuleSet(select=("ST411",))).judge(conversation)
    assert [finding.rule for finding in conversation.findings] == (["ST411"] if told else [])
    says = [diagnosis.says for diagnosis in conversation.diagnoses if diagnosis.id == "D08"]
    assert len(says) == told
    assert all(" 103 ms later, before any greeting" in each for each in says)
