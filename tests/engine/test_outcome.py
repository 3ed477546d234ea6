"""One word for how a conversation ended, on dialogues and on connections that never came so far."""

import io

import pytest

from smtpdebug.engine import Engine
from smtpdebug.engine.outcome import outcome
from smtpdebug.model.packets import ACK, FIN, SYN
from smtpdebug.model.smtp import Conversation
from smtpdebug.model.streams import Endpoint, Location, Stream
from smtpdebug.pcap.writer import Link, write_pcap
from smtpdebug.sources.files import batches_from_bytes
from smtpdebug.testing import dialogue

HELLO = "S: 220 hi\nC: EHLO a\nS: 250 hi\n"
MAIL = "C: MAIL FROM:<a@example.net>\nS: 250 ok\nC: RCPT TO:<b@example.org>\nS: 250 ok\n"
DATA = "C: DATA\nS: 354 go\nC: Subject: x\nC: .\n"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (HELLO + "C: QUIT\nS: 221 bye\nC closes", "completed"),
        (HELLO + MAIL + "C: QUIT\nS: 221 bye\nC closes", "completed"),
        (HELLO + MAIL + DATA + "S: 250 queued\nC closes", "completed"),
        (HELLO + "C closes", "completed"),
        (HELLO + MAIL + "C: RSET\nS: 250 ok\nC closes", "completed"),
        (HELLO + MAIL + "C closes", "aborted"),
        (HELLO + MAIL + DATA + "C closes", "aborted"),
        (HELLO + MAIL + "S: 421 time out\nS closes", "aborted"),
        (HELLO + MAIL + "C resets", "reset"),
        (HELLO + "C: QUIT\nS: 221 bye\nC resets", "completed"),
        ("S: 554 no\nC: QUIT\nS: 221 bye\nC closes", "rejected"),
        ("S: 421 busy\nS closes", "rejected"),
        (HELLO + MAIL, "open"),
    ],
)
def test_dialogues(text: str, wanted: str) -> None:
    assert outcome(dialogue(text)) == wanted


def connection() -> Conversation:
    at = Location("a.pcap", 1, 0)
    stream = Stream(1, Endpoint("192.0.2.1", 1025), Endpoint("192.0.2.2", 25), at, at, complete=True, syn_ns=0)
    return Conversation(stream, protocol="unknown")


def test_connections_that_never_opened() -> None:
    silent, refused, unreachable = connection(), connection(), connection()
    silent.stream.packets = [5, 0]
    refused.stream.refused_by = "rst"
    unreachable.stream.refused_by = "icmp"
    assert [outcome(c) for c in (silent, refused, unreachable)] == ["no-answer", "refused", "refused"]


def test_a_server_that_was_not_captured_did_answer() -> None:
    conversation = dialogue("C: EHLO a\nC: MAIL FROM:<a@example.net>\nC: QUIT\nC closes")
    conversation.stream.packets = [9, 0]
    conversation.stream.bytes = [60, 0]
    conversation.stream.syn_ns, conversation.stream.syn_ack_ns = 0, None
    assert outcome(conversation) == "completed"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("S closes\nC: QUIT\nC closes", "aborted"),
        ("C: EHLO a\nS closes", "aborted"),
        ("S closes\nC: QUIT\nC resets", "aborted"),
        ("S resets", "reset"),
        ("S: 421 busy\nS closes", "rejected"),
        ("C: QUIT\nC closes", "completed"),  # the client left, and the server may have been about to greet
    ],
)
def test_a_server_that_closes_without_a_word(text: str, wanted: str) -> None:
    conversation = dialogue(text)
    conversation.stream.packets[1] += 1  # its FIN, which a dialogue does not count
    assert outcome(conversation) == wanted


def test_a_connection_on_which_nobody_said_a_word() -> None:
    client, server = Link("192.0.2.1", 40000, "192.0.2.2", 25), Link("192.0.2.2", 25, "192.0.2.1", 40000)
    file = io.BytesIO()
    packets = [
        (0, client.segment(100, 0, SYN)),
        (10, server.segment(500, 101, SYN | ACK)),
        (20, client.segment(101, 501, ACK)),
        (30, server.segment(501, 101, ACK | FIN)),
        (40, client.segment(101, 502, ACK | FIN)),
        (50, server.segment(502, 102, ACK)),
    ]
    write_pcap(file, packets)
    batches, _ = batches_from_bytes(file.getvalue())
    engine = Engine()
    (conversation,) = [event for batch in batches for event in engine.feed(batch)] + list(engine.close())
    assert isinstance(conversation, Conversation)
    assert conversation.outcome == "aborted"


def test_a_reply_that_the_capture_lost_was_said() -> None:
    conversation = dialogue("C: NOOP\nS closes")
    conversation.stream.packets[1] = 2
    conversation.stream.missing[1] = 40
    assert outcome(conversation) == "completed"
