"""The short way, which takes handshakes, runs and ends at once, says exactly what the long way says."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recut import recut, swapped, turns
from segments import ACK, FIN, PSH, RST, START, Seg, Wire, batch, numbered
from test_recut import FIELDS

from smtpdebug.model.packets import Unreachable
from smtpdebug.model.streams import Chunk, Limits, StreamClosed, StreamOpened, StreamWhole, TcpStreamEvent
from smtpdebug.tcp.reassembly import Reassembler
from smtpdebug.tcp.whole import Settled

ALWAYS, NEVER = 0, 1 << 62
"""Rows of a batch up to which it is not looked at as a whole."""
Facts = list[tuple[Any, ...]]


def said(
    segments: Sequence[Seg],
    few: int,
    *,
    cuts: Sequence[int] = (),
    unreachable: tuple[Unreachable, ...] = (),
    ignore_after: int = 1 << 30,
    limits: Limits | None = None,
    seconds: int = 0,
    inside: bool = True,
) -> tuple[Facts, Facts, Any]:
    """All events in order, all that is known of the streams, and the counters.

    ``inside`` adds the state of each connection after each batch: a difference there may show only much later.
    """
    rows = numbered(segments)
    reassembler = Reassembler(limits or Limits())
    reassembler._few = few
    events: list[TcpStreamEvent] = []
    facts: Facts = []
    for begin, end in pairwise([0, *sorted(cuts), len(rows)]):
        if begin == end:
            continue
        piece = batch(rows[begin:end], ("a.pcap", "b.pcap"), unreachable if not begin else ())
        for event in reassembler.feed(piece):
            events.append(event)
            if len(events) == ignore_after:
                reassembler.ignore(event.stream)
        facts += [_fields(e.stream) for e in events if isinstance(e, StreamOpened)]
        if inside:
            facts += _inside(reassembler)
        if seconds:
            events.extend(reassembler.advance(START + rows[end - 1].ts_ns + seconds * 10**9))
    events.extend(reassembler.close())
    facts += [_fields(e.stream) for e in events if isinstance(e, StreamOpened)]
    return [_fields(e) for e in events], facts, (reassembler.strays, reassembler.limits_hit, reassembler.held_bytes)


def _fields(thing: msgspec.Struct) -> tuple[Any, ...]:
    """Its name and fields with their types (``True == 1``); lists copied, the stream by its number."""
    values = [
        value.serial if name == "stream" else value
        for name, value in msgspec.structs.asdict(thing).items()
        if name not in ("low", "high", "out", "limits")
    ]
    return type(thing).__name__, repr(values)


def _inside(reassembler: Reassembler) -> Facts:
    return [
        _fields(thing)
        for settled in reassembler._table.drain()
        for connection in [settled.revive(Limits(), deque()) if isinstance(settled, Settled) else settled]
        for thing in (connection, connection.low, connection.high)
    ]


@st.composite
def calm(draw: st.DrawFn, *, whole: bool = False) -> list[Seg]:
    """What most connections are: a handshake, data in order with ACKs in between, one of the usual ends.

    ``whole``: nothing of these is left out.
    """
    isn = st.one_of(st.integers(0, (1 << 32) - 1), st.integers((1 << 32) - 40, (1 << 32) - 1))
    wire = Wire(client_isn=draw(isn), server_isn=draw(isn), step_ns=draw(st.sampled_from([1000, 0, 400_000_000])))
    if draw(st.booleans()):
        wire = replace(wire, client_ip=wire.server_ip, server_ip=wire.client_ip)
    if whole or draw(st.integers(0, 7)):
        wire.handshake()
    sent = {"C": 0, "S": 0}
    acked = {"C": 0, "S": 0}
    for side, size in draw(
        st.lists(st.tuples(st.sampled_from("CS"), st.sampled_from([0, 0, 1, 7, 30])), min_size=int(whole), max_size=30)
    ):
        other = "S" if side == "C" else "C"
        acked[side] = draw(st.sampled_from([sent[other], acked[side]]))
        wire.put(side, ACK | PSH, sent[side], acked[side], bytes([65 + len(wire.segments) % 26]) * size)
        sent[side] += size
    a, b = draw(st.sampled_from([("C", "S"), ("S", "C")]))
    fin, ack = FIN | ACK, ACK
    ends: list[list[tuple[str, int, int, int]]] = [
        [],
        [(a, fin, 0, 0), (b, ack, 0, 1), (b, fin, 0, 1), (a, ack, 1, 1)],
        [(a, fin, 0, 0), (b, fin, 0, 1), (a, ack, 1, 1)],
        [(a, fin, 0, 0), (b, fin, 0, 0), (a, ack, 1, 1), (b, ack, 1, 1)],
        [(a, fin, 0, 0), (b, RST | ACK, 0, 1)],
        [(a, fin, 0, 0), (b, ack, 0, 1), (b, fin, 0, 1), (a, ack, 1, 1), (b, fin, 0, 1), (a, ack, 1, 1)],
    ]
    for side, flags, seq, ack_of in draw(st.sampled_from(ends[1:3] if whole else ends)):
        wire.put(side, flags, sent[side] + seq, sent["S" if side == "C" else "C"] + ack_of)
    return wire.segments


@st.composite
def spoiled(draw: st.DrawFn) -> list[Seg]:
    """A calm connection to which something happened."""
    rows = draw(calm())
    for index in draw(st.lists(st.integers(0, max(0, len(rows) - 1)), max_size=3)):
        if not rows:
            break
        index %= len(rows)
        row = rows[index]
        match draw(st.integers(0, 7)):
            case 0:
                del rows[index]
            case 1:
                rows.insert(index, row)
            case 2:
                rows[index] = replace(row, window=0)
            case 3:
                rows[index] = replace(row, length=len(row.data) + 3)
            case 4:
                rows[index] = replace(row, capture=1)
            case 5:
                rows[index] = replace(row, flags=draw(st.integers(0, 255)))
            case 6:
                rows[index] = replace(row, ack=(row.ack + draw(st.integers(-20, 20))) % (1 << 32))
            case _:
                rows[index] = replace(row, seq=(row.seq + draw(st.integers(-20, 20))) % (1 << 32))
    return rows


@st.composite
def several(draw: st.DrawFn) -> list[Seg]:
    """Several connections at once, and one four-tuple used again."""
    rows: list[Seg] = []
    for number in range(draw(st.integers(1, 4))):
        kind = draw(st.integers(0, 2))
        one = draw(calm()) if kind == 0 else draw(spoiled()) if kind == 1 else []
        if kind == 2:
            one = draw(swapped(draw(recut(draw(turns()), lose=draw(st.booleans()))).segments))
        port, late = draw(st.integers(0, 1)), draw(st.sampled_from([0, 1500, 10**9, 10**10]))
        for row in one:
            ports = (row.sport + port, row.dport) if row.dport == 25 else (row.sport, row.dport + port)
            rows.append(replace(row, sport=ports[0], dport=ports[1], ts_ns=row.ts_ns + late + number))
    if draw(st.booleans()):
        rows.sort(key=lambda row: row.ts_ns)
    return rows


@given(several(), st.data())
def test_both_ways_say_the_same(rows: list[Seg], data: st.DataObject) -> None:
    ignore_after = data.draw(st.one_of(st.just(1 << 30), st.integers(1, 12)))
    cuts = data.draw(st.lists(st.integers(0, len(rows)), max_size=3))
    limits = data.draw(st.sampled_from([Limits(), Limits(streams=1), Limits(stream_events=1, reorder_segments=2)]))
    seconds = data.draw(st.sampled_from([0, 0, 2, 6]))

    def way(few: int) -> tuple[Facts, Facts, Any]:
        return said(rows, few, cuts=cuts, ignore_after=ignore_after, limits=limits, seconds=seconds)

    assert way(ALWAYS) == way(NEVER)


@given(st.lists(FIELDS, min_size=1, max_size=40))
def test_both_ways_say_the_same_of_nonsense(rows: list[Seg]) -> None:
    assert said(rows, ALWAYS) == said(rows, NEVER)


@given(calm(), st.integers(0, 40), st.integers(0, 10**6))
def test_icmp_errors_find_their_place_either_way(rows: list[Seg], seq: int, at_ns: int) -> None:
    error = Unreachable(
        "a.pcap", 99, START + at_ns, "10.0.0.1", 4, 3, 1, "10.0.0.7", "10.0.0.2", 54170, 25, 1000 + seq, None
    )
    assert said(rows, ALWAYS, unreachable=(error,)) == said(rows, NEVER, unreachable=(error,))


@given(calm(), st.integers(2, 6))
def test_as_if_each_packet_came_alone(rows: list[Seg], limit: int) -> None:
    """Packet by packet, no part is longer than a packet, so that only the long way is left."""
    limits = Limits(stream_events=limit)
    alone = said(rows, ALWAYS, cuts=range(1, len(rows)), limits=limits, inside=False)
    together = said(rows, ALWAYS, limits=limits, inside=False)
    assert alone[0] == together[0]
    assert alone[1][-1:] == together[1][-1:]
    assert alone[2] == together[2]


@given(several(), st.data())
def test_what_is_ignored_is_counted_all_the_same(rows: list[Seg], data: st.DataObject) -> None:
    """Whenever a reader says that it wants no more, which with other batches is another time."""
    cuts = data.draw(st.lists(st.integers(0, len(rows)), max_size=3))
    counts: list[list[list[Any]]] = []
    for ignore in (False, True):
        reassembler = Reassembler()
        streams = []
        numbers = numbered(rows)
        for begin, end in pairwise([0, *sorted(cuts), len(numbers)]):
            if begin == end:
                continue
            for event in reassembler.feed(batch(numbers[begin:end], ("a.pcap", "b.pcap"))):
                streams += [event.stream] if isinstance(event, StreamOpened) else []
                if ignore:
                    reassembler.ignore(event.stream)
        list(reassembler.close())
        names = ("client", "packets", "bytes", "missing", "retransmissions", "out_of_order", "keep_alives", "closed_by")
        counts.append([[getattr(stream, name) for name in names] for stream in streams])
    assert counts[0] == counts[1]


def clean() -> Wire:
    wire = Wire().handshake().s(0, b"220 hi\r\n").c(0, b"", 8).c(0, b"QUIT\r\n", 8).s(8, b"", 6).s(8, b"221\r\n", 6)
    wire.put("S", FIN | ACK, 13, 6)
    wire.put("C", ACK, 6, 14)
    wire.put("C", FIN | ACK, 6, 14)
    wire.put("S", ACK, 14, 7)
    return wire


@given(calm(whole=True), spoiled(), st.integers(0, 60), st.sampled_from([0, 10**9, 10**10]))
def test_what_comes_after_the_end_is_told_alike(rows: list[Seg], more: list[Seg], take: int, later_ns: int) -> None:
    """Stragglers, repeated ends, and the four-tuple used again, in the next batch."""
    after = [replace(row, ts_ns=rows[-1].ts_ns + later_ns + 1) for row in [*rows[::-1], *more][:take]]
    for limits in (Limits(), Limits(streams=1)):
        for ignore_after in (1 << 30, 3):
            alike = [
                said([*rows, *after], few, cuts=[len(rows)], limits=limits, ignore_after=ignore_after)
                for few in (ALWAYS, NEVER)
            ]
            assert alike[0] == alike[1]


def test_clean_traffic_goes_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without this, the tests above would pass with the short way never taken."""

    def refuse(*_: object) -> None:
        pytest.fail("a packet of a clean connection went the long way")

    monkeypatch.setattr(Reassembler, "_slow", refuse)
    monkeypatch.setattr(Reassembler, "_step", refuse)
    events, facts, _ = said(clean().segments, ALWAYS, cuts=[5])
    assert [kind for kind, _ in events] == ["StreamOpened", "Chunk", "Chunk", "Chunk", "StreamClosed"]
    assert facts
    monkeypatch.setattr(Reassembler, "_open", refuse)
    assert said(clean().segments, ALWAYS)[0] == events, "whole in one batch, it needs no connection"
    reassembler = Reassembler(wholes=True)
    reassembler._few = ALWAYS
    whole, closed = [*reassembler.feed(batch(clean().segments)), *reassembler.close()]
    assert isinstance(whole, StreamWhole)
    assert isinstance(closed, StreamClosed)
    assert [_fields(chunk) for chunk in whole.chunks()] == events[1:4]


def test_one_lost_packet_costs_the_long_way_only_until_it_is_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A segment sent again in the middle: what comes before and after it is still taken at once."""
    wire = Wire().handshake().c(0, b"abc").s(0, b"", 3).c(0, b"abc")
    for index in range(1, 20):
        wire.c(index * 3, b"def").s(0, b"", index * 3 + 3)
    asked: list[object] = []
    slow = Reassembler._slow

    def count(self: Reassembler, *arguments: Any) -> Any:
        asked.append(arguments)
        return slow(self, *arguments)

    monkeypatch.setattr(Reassembler, "_slow", count)
    reassembler = Reassembler()
    events = [*reassembler.feed(batch(wire.segments)), *reassembler.close()]
    assert b"".join(e.data for e in events if isinstance(e, Chunk)) == b"abc" + b"def" * 19
    assert len(asked) == 1
