"""Client and server that are set up for different ports, from the packets to what is said of them."""

from __future__ import annotations

import contextlib
import ssl
from pathlib import Path

from smtpdebug.api import analyze
from smtpdebug.model.packets import ACK, FIN, RST, SYN
from smtpdebug.model.smtp import Conversation
from smtpdebug.model.streams import CLIENT, SERVER
from smtpdebug.pcap.writer import Link, write_pcap
from smtpdebug.rules.verdicts import Verdicts
from smtpdebug.testing import dialogue

SECOND = 1_000_000_000
Said = tuple[int, int, int, bytes]
"""Nanoseconds, side, flags, payload."""


def client_hello() -> bytes:
    """As OpenSSL sends it."""
    context, out = ssl.create_default_context(), ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname="mx.example.org")
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return out.read()


def read(path: Path, port: int, said: list[Said]) -> Conversation:
    """The conversation of a capture in which, after the handshake, this was said."""
    here, there = ("192.0.2.7", 54170), ("198.51.100.2", port)
    links = Link(*here, *there), Link(*there, *here)
    at = [1000, 5000]
    packets = []
    for when, side, flags, payload in [
        (0, CLIENT, SYN, b""),
        (1, SERVER, SYN | ACK, b""),
        (2, CLIENT, ACK, b""),
        *said,
    ]:
        acked = at[1 - side] if flags & ACK else 0
        packets.append((when, links[side].segment(at[side], acked, flags, payload)))
        at[side] += len(payload) + bool(flags & (SYN | FIN))
    capture = path / "capture.pcap"
    with capture.open("wb") as file:
        write_pcap(file, packets)
    (conversation,) = analyze(capture).conversations
    return conversation


def worse_than_notes(conversation: Conversation) -> list[str]:
    return [finding.rule for finding in conversation.findings if finding.severity.value != "note"]


def test_tls_to_a_server_that_speaks_in_clear(tmp_path: Path) -> None:
    hello = client_hello()
    conversation = read(
        tmp_path,
        25,
        [
            (10, SERVER, ACK, b"220 mx.example.org ESMTP\r\n"),
            (20, CLIENT, ACK, hello),
            (30, SERVER, ACK, b"502 5.5.1 what\r\n"),
            (40, CLIENT, RST, b""),
        ],
    )
    assert conversation.tls is not None
    assert conversation.tls.reason == "answered-in-clear"
    assert [diagnosis.id for diagnosis in conversation.diagnoses] == ["D28"]
    assert "SR110" not in worse_than_notes(conversation), "the server took the ClientHello for a command"
    assert "ST513" in worse_than_notes(conversation)


def test_a_client_that_waits_for_the_greeting_of_a_tls_server(tmp_path: Path) -> None:
    """What OpenSSL's ``SSL_accept`` sends at the end of the silence is no fault of a handshake."""
    conversation = read(
        tmp_path,
        465,
        [
            (12 * SECOND, CLIENT, FIN | ACK, b""),
            (12 * SECOND + 10, SERVER, ACK, b"\x15\x03\x01\x00\x02\x02\x32"),
            (12 * SECOND + 20, SERVER, FIN | ACK, b""),
        ],
    )
    assert worse_than_notes(conversation) == ["ST512"]
    assert [diagnosis.id for diagnosis in conversation.diagnoses] == ["D90"]


def test_an_http_client_is_not_judged_by_the_rules_of_smtp() -> None:
    conversation = dialogue(
        "S: 220 mx.example.org ESMTP\nC: GET / HTTP/1.1\nS: 502 5.5.2 what\nC: Host: mx\nS: 502 5.5.2 what\n"
        "C: Accept: */*\nS: 502 5.5.2 what\nC closes"
    )
    Verdicts().judge(conversation)
    assert worse_than_notes(conversation) == ["SC121"]
    assert [diagnosis.id for diagnosis in conversation.diagnoses] == ["D71"]


def test_a_client_that_the_server_does_not_let_send_is_not_silent_of_its_own() -> None:
    text = (
        "S: 220 mx.example.org ESMTP\nC: EHLO client.example.net\nS: 250 mx.example.org\n"
        "C: MAIL FROM:<a@example.net>\nS: 250 ok\nC: RCPT TO:<b@example.org>\nS: 250 ok\n"
        "C: DATA\nS: 354 go\nC: Subject: x\nC:\nC: text\n-- 60s --\nS resets"
    )
    for zero_windows, expected in (([0, 0], True), ([0, 4], False)):
        conversation = dialogue(text)
        conversation.stream.zero_windows = zero_windows
        Verdicts().judge(conversation)
        assert ("D61" in [diagnosis.id for diagnosis in conversation.diagnoses]) is expected
