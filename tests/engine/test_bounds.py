"""What an engine holds does not grow with what it has seen, and the handshake does not depend on batches."""

from __future__ import annotations

import gc
import io
from collections.abc import Sequence

import pytest

from smtpdebug.engine import Engine, Item
from smtpdebug.engine.builder import Builder
from smtpdebug.model.packets import ACK, FIN, PSH, SYN
from smtpdebug.model.smtp import Conversation
from smtpdebug.model.streams import Limits
from smtpdebug.pcap.writer import Link, PcapWriter
from smtpdebug.sources.files import batches_from_bytes

START = 1_700_000_000_000_000_000
MS = 1_000_000


def capture(packets: Sequence[tuple[int, bytes, int | None]]) -> bytes:
    """A classic capture of (milliseconds, frame, length on the wire or None) packets."""
    file = io.BytesIO()
    writer = PcapWriter(file)
    for at, packet, wire in packets:
        writer.write(START + at * MS, packet, wire)
    return file.getvalue()


def conversations(data: bytes, limits: Limits | None = None, batch_packets: int = 1000) -> list[Conversation]:
    engine = Engine(limits)
    batches, _ = batches_from_bytes(data, batch_packets=batch_packets)
    found = [event for batch in batches for event in engine.feed(batch)]
    return [event for event in (*found, *engine.close()) if not isinstance(event, Item)]


def test_connections_without_a_word_are_let_go() -> None:
    """A scan: SYNs that nobody answers. Beyond the limit of streams each new one takes the place of an old one."""
    scan = [
        (number, Link("192.0.2.1", 1024 + number, "192.0.2.2", 25).segment(7, 0, SYN), None) for number in range(500)
    ]
    engine = Engine(Limits(streams=10, pending_conversations=10))
    batches, _ = batches_from_bytes(capture(scan), batch_packets=20)
    given = 0
    for batch in batches:
        given += sum(1 for _ in engine.feed(batch))
    gc.collect()
    assert given >= 480
    assert sum(isinstance(thing, Builder) for thing in gc.get_objects()) <= 10 + 10
    given += sum(1 for _ in engine.close())
    assert given == 500


@pytest.mark.parametrize("batch_packets", [1, 2, 1000])
def test_without_the_ack_of_the_handshake_the_greeting_waits_from_itself(batch_packets: int) -> None:
    """The client's first ACK in the capture comes after the greeting: it does not say since when the server could."""
    client, server = Link("192.0.2.1", 40000, "192.0.2.2", 25), Link("192.0.2.2", 25, "192.0.2.1", 40000)
    greeting, quit_, bye = b"220 mx.example.org\r\n", b"QUIT\r\n", b"221 bye\r\n"
    told, asked = 501 + len(greeting), 101 + len(quit_)
    over = told + len(bye)
    data = capture(
        [
            (0, client.segment(100, 0, SYN), None),
            (10, server.segment(500, 101, SYN | ACK), None),
            (50, server.segment(501, 101, ACK | PSH, greeting), None),
            (70, client.segment(101, told, ACK | PSH, quit_), None),
            (80, server.segment(told, asked, ACK | PSH, bye), None),
            (90, server.segment(over, asked, ACK | FIN), None),
            (95, client.segment(asked, over + 1, ACK | FIN), None),
            (99, server.segment(over + 1, asked + 1, ACK), None),
        ]
    )
    (one,) = conversations(data, batch_packets=batch_packets)
    greeted = one.exchanges[0]
    assert greeted.command is not None
    assert (greeted.command.at.frame, greeted.command.at.ts_ns - START) == (3, 50 * MS)
    assert greeted.wait_ns == 0


def test_a_capture_of_headers_only_does_not_pile_up_gaps() -> None:
    """``tcpdump -s 54``: every payload is a gap; what is held of them is bounded, what is missing is counted."""
    client = Link("192.0.2.1", 40000, "192.0.2.2", 25)
    packets: list[tuple[int, bytes, int | None]] = [(0, client.segment(100, 0, SYN), None)]
    for number in range(3000):
        whole = client.segment(101 + 10 * number, 1, ACK | PSH, b"x" * 10)
        packets.append((1 + number, whole[:54], len(whole)))
    (one,) = conversations(capture(packets), Limits(exchanges=100))
    assert one.stream.missing == [30_000, 0]
    assert one.truncated
    assert len(one.timeline) < 1500
