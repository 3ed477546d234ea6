"""What is kept of a conversation for comparisons: enough, little, and the same after a trip between processes."""

from __future__ import annotations

import msgspec
import pytest

from smtpdebug.model.smtp import Conversation
from smtpdebug.rules.sighting import Sighting
from smtpdebug.rules.verdicts import Comparisons, Verdicts
from smtpdebug.testing import dialogue

OPENED = "S: 220 mx.example.org ESMTP\nC: EHLO a.example.net\nS: 250-mx.example.org\nS: 250 {}\n"
INTO_TLS = "C: STARTTLS\nS: 220 go\n-- tls --\nC: EHLO a\nS: 250-mx.example.org\nS: 250 SIZE"
SENDER = "C: MAIL FROM:<A@example.net>\nS: 250 ok\n"


def seen(text: str) -> Sighting:
    return Verdicts().look(dialogue(text))


def test_recipients_are_kept_by_what_was_said_to_them() -> None:
    told = seen(
        OPENED.format("SIZE")
        + SENDER
        + "C: RCPT TO:<B@example.org>\nS: 450 later\nC: RCPT TO:<c@example.org>\nS: 250 ok\n"
        "C: RCPT TO:<d@example.org>\nS: 550 no\nC: DATA\nS: 354 go\nC: hello\nC: .\nS: 250 ok\nC: QUIT\nS: 221 bye"
    )
    assert told.deferred == [("a@example.net", "b@example.org")]
    assert told.welcomed == [("a@example.net", "c@example.org")]
    assert len(told.accepted) == 1


def test_a_chunk_that_is_not_the_last_is_no_message() -> None:
    told = seen(
        OPENED.format("CHUNKING")
        + SENDER
        + "C: RCPT TO:<b@example.org>\nS: 250 ok\nC! BDAT 3\\r\\nabc\nS: 250 3 octets\n"
        "C! BDAT 5 LAST\\r\\nabc\\r\\n\nS: 250 accepted\nC: QUIT\nS: 221 bye"
    )
    assert len(told.accepted) == 1


@pytest.mark.parametrize(
    ("text", "offered"),
    [
        (OPENED.format("STARTTLS"), True),
        (OPENED.format("SIZE"), False),
        ("S: 220 mx.example.org\nC: HELO a\nS: 250 mx.example.org", None),
        (OPENED.format("STARTTLS") + INTO_TLS, True),
    ],
    ids=["offered", "not offered", "HELO cannot tell", "inside TLS it is not offered again"],
)  # fmt: skip
def test_the_offer_of_starttls_is_the_one_in_clear(text: str, offered: bool | None) -> None:
    assert seen(text).starttls is offered


def test_it_is_bounded() -> None:
    envelope = SENDER + "".join(f"C: RCPT TO:<b{n}@example.org>\nS: 450 later\n" for n in range(1500))
    accepted = (SENDER + "C: RCPT TO:<b@example.org>\nS: 250 ok\nC: DATA\nS: 354 go\nC: x\nC: .\nS: 250 ok\n") * 600
    told = seen(OPENED.format("SIZE") + accepted + envelope + "C: RSET\nS: 250 ok")
    assert len(told.accepted) == 512
    assert 1000 <= len(told.deferred) <= 1024
    assert len(msgspec.msgpack.encode(told)) < 64 << 10


def conversations() -> list[Conversation]:
    offers = ("STARTTLS", "SIZE", "STARTTLS", "SIZE")
    text = SENDER + "C: RCPT TO:<b@example.org>\nS: {}\nC: RSET\nS: 250 ok\nC: QUIT\nS: 221 bye"
    replies = ("450 later", "250 ok", "450 4.7.1 too much mail", "250 ok")
    return [
        dialogue(OPENED.format(offer) + text.format(reply), start=f"2024-01-01T00:0{minute}:00Z")
        for minute, (offer, reply) in enumerate(zip(offers, replies, strict=True))
    ]


def test_looked_at_in_any_order_and_sent_they_compare_as_in_one_run() -> None:
    run = Verdicts()
    whole = conversations()
    for conversation in whole:
        run.judge(conversation)
    apart = conversations()
    looked = {number: Verdicts().look(apart[number]) for number in (2, 0, 3, 1)}
    comparisons = Comparisons(run.rules)
    for number, conversation in enumerate(apart):
        sent = msgspec.msgpack.decode(msgspec.msgpack.encode(looked[number]), type=Sighting)
        findings, diagnoses = comparisons.compare(sent)
        ids = {diagnosis.id for diagnosis in whole[number].diagnoses}
        assert [f for f in whole[number].findings if f.rule == "ST109"] == findings
        assert {diagnosis.id for diagnosis in diagnoses} == ids - {d.id for d in conversation.diagnoses}
    assert [f.rule for c in whole for f in c.findings].count("ST109") == 2
    assert "D55" in [d.id for d in whole[1].diagnoses]
