"""Properties of reassembly: the same bytes whatever the cutting and batching, and what is lost has its name."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from recut import Recut, Turn, recut, swapped, turns
from segments import Seen, Seg, batch, numbered, run

from smtpdebug.model.streams import Chunk, Gap, Limits, StreamClosed, TcpStreamEvent
from smtpdebug.tcp.reassembly import Reassembler

Plain = tuple[object, ...]


def plain(event: TcpStreamEvent) -> Plain:
    """An event without the handle of its stream."""
    if isinstance(event, Chunk):
        return ("chunk", event.side, event.offset, event.data, event.began.frame, event.at.frame, event.acked)
    if isinstance(event, Gap):
        return ("gap", event.side, event.offset, event.length, event.at.frame, event.reason)
    return (type(event).__name__, event.reason if isinstance(event, StreamClosed) else "")


def by_stream(seen: Seen) -> list[tuple[list[Plain], Plain]]:
    """Per stream: its events and its counters."""
    found: list[tuple[list[Plain], Plain]] = []
    for stream in sorted(seen.streams, key=lambda s: s.opened.frame):
        counters = (
            stream.packets,
            stream.bytes,
            stream.retransmissions,
            stream.out_of_order,
            stream.conflicts,
            stream.missing,
            stream.max_segment,
            stream.first_data_ns,
            stream.last,
            stream.closed_by,
            [e.kind for e in stream.events],
        )
        found.append(([plain(e) for e in seen.events if e.stream is stream], counters))
    return found


def assert_tiled(seen: Seen) -> None:
    """Chunks and gaps of each direction follow each other without hole, overlap or empty piece."""
    for stream in seen.streams:
        for side in (0, 1):
            position = 0
            for item in seen.of(stream, side):
                size = len(item.data) if isinstance(item, Chunk) else item.length
                assert item.offset == position
                assert size > 0
                position += size


def runs(seen: Seen, side: int) -> list[tuple[int, int]]:
    """Gaps as runs, neighbours joined."""
    joined: list[tuple[int, int]] = []
    for offset, length, _ in seen.gaps(side):
        if joined and joined[-1][1] == offset:
            joined[-1] = (joined[-1][0], offset + length)
        else:
            joined.append((offset, offset + length))
    return joined


@st.composite
def whole(draw: st.DrawFn) -> Recut:
    return draw(recut(draw(turns())))


@st.composite
def lossy(draw: st.DrawFn) -> Recut:
    return draw(recut(draw(turns()), lose=True))


@given(whole(), st.data())
def test_nothing_lost_nothing_changed(case: Recut, data: st.DataObject) -> None:
    segments = data.draw(swapped(case.segments))
    cuts = data.draw(st.lists(st.integers(1, len(segments)), max_size=6))
    seen = run(segments, cuts=cuts)
    assert (seen.bytes(0), seen.bytes(1)) == case.sent
    assert seen.gaps(0) == seen.gaps(1) == []
    assert_tiled(seen)
    assert seen.closings == ["closed"]
    assert seen.stream.bytes == [len(case.sent[0]), len(case.sent[1])]
    assert seen.reassembler.held_bytes == 0


@given(lossy())
def test_what_is_lost_is_named_exactly(case: Recut) -> None:
    seen = run(case.segments)
    assert_tiled(seen)
    for side in (0, 1):
        assert runs(seen, side) == case.missing(side)
        for item in seen.of(seen.stream, side):
            if isinstance(item, Chunk):
                assert item.data == case.sent[side][item.offset : item.offset + len(item.data)]
    assert seen.stream.missing == [sum(end - begin for begin, end in case.missing(side)) for side in (0, 1)]


@given(lossy(), lossy(), st.data())
def test_batches_change_nothing(one: Recut, two: Recut, data: st.DataObject) -> None:
    other = [
        replace(s, sport=s.sport + (s.dport == 25), dport=s.dport + (s.sport == 25), ts_ns=s.ts_ns + 1)
        for s in two.segments
    ]
    segments = sorted([*one.segments, *other], key=lambda s: s.ts_ns)
    cuts = data.draw(st.lists(st.integers(1, len(segments)), max_size=8))
    assert by_stream(run(segments, cuts=cuts)) == by_stream(run(segments))
    each = range(1, len(segments))
    assert by_stream(run(segments, cuts=each)) == by_stream(run(segments))


@given(lossy())
def test_time_passing_between_packets_changes_nothing(case: Recut) -> None:
    rows = numbered(case.segments)
    reassembler = Reassembler()
    events: list[TcpStreamEvent] = []
    for row in rows:
        piece = batch([row])
        events.extend(reassembler.feed(piece))
        events.extend(reassembler.advance(int(piece.ts_ns[-1])))
    events.extend(reassembler.close())
    assert by_stream(Seen(events, reassembler)) == by_stream(run(case.segments))


@given(turns(), st.data())
def test_joined_in_the_middle(said: list[Turn], data: st.DataObject) -> None:
    case = data.draw(recut(said, handshake=False, disturb=False))
    seen = run(case.segments)
    assert (seen.bytes(0), seen.bytes(1)) == case.sent
    assert seen.gaps(0) == seen.gaps(1) == []
    assert not seen.stream.complete
    assert seen.stream.decided_by == "port"


@given(lossy(), st.integers(1, 40), st.integers(1, 3), st.booleans())
def test_budgets_hold_after_every_packet(case: Recut, octets: int, held: int, total: bool) -> None:
    limits = Limits(total_bytes=octets) if total else Limits(stream_bytes=octets, reorder_segments=held)
    reassembler = Reassembler(limits)
    events: list[TcpStreamEvent] = []
    for row in numbered(case.segments):
        events.extend(reassembler.feed(batch([row])))
        assert reassembler.held_bytes <= octets * (1 if total else 2)
    events.extend(reassembler.close())
    seen = Seen(events, reassembler)
    assert_tiled(seen)
    for side in (0, 1):
        for item in seen.of(seen.stream, side):
            if isinstance(item, Chunk):
                assert item.data == case.sent[side][item.offset : item.offset + len(item.data)]
    if any(reason == "limit" for side in (0, 1) for _, _, reason in seen.gaps(side)):
        assert reassembler.limits_hit


FIELDS = st.builds(
    Seg,
    src=st.sampled_from([1, 2]),
    dst=st.sampled_from([1, 2]),
    sport=st.sampled_from([25, 26]),
    dport=st.sampled_from([25, 26]),
    flags=st.integers(0, 255),
    seq=st.one_of(st.integers(0, 40), st.integers(0, (1 << 32) - 1)),
    ack=st.one_of(st.integers(0, 40), st.integers(0, (1 << 32) - 1)),
    data=st.binary(max_size=20),
    ts_ns=st.one_of(st.integers(0, 10**10), st.integers(-(2**62), 2**62)),
    window=st.integers(0, 2),
    length=st.one_of(st.none(), st.integers(20, 60)),
)


@given(st.lists(FIELDS, max_size=40), st.lists(st.integers(0, 40), max_size=4))
def test_nonsense_is_survived(segments: list[Seg], cuts: list[int]) -> None:
    seen = run(segments, cuts=[cut for cut in cuts if cut <= len(segments)])
    assert_tiled(seen)
    assert len(seen.closings) == len(seen.streams)
    assert sum(sum(s.packets) for s in seen.streams) + seen.reassembler.strays == len(segments)
    assert seen.reassembler.held_bytes == 0
