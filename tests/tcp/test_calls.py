"""The calls a consumer makes while it reads, and ICMP."""

from __future__ import annotations

from segments import ACK, FIN, MS, START, SYN, Wire, batch, numbered

from smtpdebug.model.packets import Unreachable
from smtpdebug.model.streams import Chunk, Gap, Location, StreamOpened, TcpStreamEvent
from smtpdebug.tcp.reassembly import Reassembler


def talk() -> Wire:
    wire = Wire(sport=30000, dport=40000)
    return (
        wire.c(0, b"220 hi\r\n")
        .s(0, b"EHLO\r\n", 8)
        .c(8, b"250\r\n", 6)
        .s(6, b"QUIT\r\n", 13)
        .c(13, b"", 12, FIN | ACK)
    )


def test_flip_while_reading_changes_what_comes_later_and_the_stream() -> None:
    reassembler, sides = Reassembler(), []
    events = reassembler.feed(batch(numbered(talk().segments)))
    for event in events:
        if isinstance(event, Chunk):
            sides.append(event.side)
            if len(sides) == 1:
                reassembler.flip(event.stream)
                stream = event.stream
    assert sides == [0, 0, 1, 0], "the first was given before; all others are the other way round"
    list(reassembler.close())
    assert (stream.client.port, stream.server.port, stream.decided_by) == (40000, 30000, "content")
    assert stream.bytes == [12, 13]
    assert stream.packets == [2, 3]
    assert stream.closed_by == "server-fin"
    assert [(e.kind, e.side) for e in stream.events] == [("fin", 1)]


def test_flip_between_batches() -> None:
    rows, reassembler = numbered(talk().segments), Reassembler()
    first = [e for e in reassembler.feed(batch(rows[:3])) if isinstance(e, Chunk)]
    reassembler.flip(first[0].stream)
    later = [*reassembler.feed(batch(rows[3:])), *reassembler.close()]
    assert [e.side for e in later if isinstance(e, Chunk)] == [0]


def test_ignored_streams_are_counted_and_hold_nothing() -> None:
    wire = Wire().handshake().c(0, b"GET /\r\n").s(0, b"abc", 7).s(9, b"jkl", 7).s(3, b"defghi", 7).c(7, b"x", 12)
    reassembler = Reassembler()
    given: list[TcpStreamEvent] = []
    for event in reassembler.feed(batch(numbered(wire.segments))):
        given.append(event)
        if isinstance(event, Chunk):
            reassembler.ignore(event.stream)
    assert [type(e) for e in given] == [StreamOpened, Chunk]
    stream = given[0].stream
    wire.segments.clear()
    wire.s(20, b"uvw", 8).c(8, b"y", 23).s(12, b"m", 8)
    more = [*reassembler.feed(batch(wire.segments)), *reassembler.close()]
    assert not [e for e in more if isinstance(e, Chunk | Gap)]
    assert reassembler.held_bytes == 0
    assert stream.packets == [5, 6]
    assert stream.bytes[0] == 9


def error(wire: Wire, seq: int, at_ns: int, kind: int = 3, code: int = 1, mtu: int | None = None) -> Unreachable:
    return Unreachable(
        "a.pcap", 99, START + at_ns, "10.0.0.1", 4, kind, code, "10.0.0.7", "10.0.0.2", wire.sport, wire.dport, seq, mtu
    )


def test_icmp_refuses_a_syn() -> None:
    wire = Wire()
    wire.put("C", SYN, -1)
    for together in (True, False):
        reassembler = Reassembler()
        unreachable = (error(wire, 1000, 2 * MS),)
        events = list(reassembler.feed(batch(wire.segments, unreachable=unreachable if together else ())))
        if not together:
            events += reassembler.feed(batch([], unreachable=unreachable))
        stream = events[0].stream
        assert stream.refused_by == "icmp"
        (event,) = stream.events
        assert (event.kind, event.side, event.at) == ("unreachable", 0, Location("a.pcap", 99, START + 2 * MS))
        assert event.note == "ICMP type 3 code 1 from 10.0.0.1"


def test_icmp_on_an_open_connection_is_an_event_with_its_mtu() -> None:
    wire = Wire().handshake().c(0, b"x" * 1400)
    reassembler = Reassembler()
    events = list(reassembler.feed(batch(wire.segments, unreachable=(error(wire, 1001, 9 * MS, 3, 4, 1280),))))
    stream = events[0].stream
    assert stream.refused_by is None
    assert [e.note for e in stream.events] == ["ICMP type 3 code 4 from 10.0.0.1, next-hop MTU 1280"]


def test_icmp_takes_its_place_in_time() -> None:
    """The error is about the first attempt; the second, on the same four-tuple, is answered in the same batch."""
    wire = Wire()
    wire.put("C", SYN, -1)
    refused = error(wire, 1000, wire.now_ns)
    again = Wire(client_isn=900_000_000, now_ns=10 * MS).handshake()
    reassembler = Reassembler()
    events = list(reassembler.feed(batch([*wire.segments, *again.segments], unreachable=(refused,))))
    opened = [e.stream for e in events if isinstance(e, StreamOpened)]
    assert [s.refused_by for s in opened] == ["icmp", None]


def test_icmp_that_quotes_nothing_known_is_nothing() -> None:
    wire = Wire()
    reassembler = Reassembler()
    nonsense = Unreachable("a", 1, 0, "x", 4, 3, 1, "not an address", "10.0.0.2", 1, 2, 3, None)
    assert list(reassembler.feed(batch([], unreachable=(error(wire, 1, 0), nonsense)))) == []


def test_payload_is_copied_out_of_the_batch() -> None:
    wire = Wire().handshake().c(0, b"x")
    reassembler = Reassembler()
    chunk = next(e for e in reassembler.feed(batch(wire.segments)) if isinstance(e, Chunk))
    assert type(chunk.data) is bytes, "a view would keep the whole batch in memory"


def test_acked_is_minus_one_without_an_ack() -> None:
    wire = Wire().handshake().c(0, b"x", 0, 0).c(1, b"y", 0, ACK)
    reassembler = Reassembler()
    chunks = [e for e in reassembler.feed(batch(wire.segments)) if isinstance(e, Chunk)]
    assert [c.acked for c in chunks] == [-1, 0]
