"""Holes: when they are certain, what is named, and that nothing overtakes what may still come."""

from __future__ import annotations

import pytest
from segments import ACK, FIN, MS, SECOND, START, SYN, Seen, Wire, batch, numbered, run

from smtpdebug.model.streams import Chunk, Gap, Limits
from smtpdebug.tcp.reassembly import Reassembler


def holed() -> Wire:
    """The client's octets 0-4 are not captured, the server has them."""
    return Wire().handshake().c(4, b"efgh").s(0, b"", 8, ACK)


def idle(wire: Wire, packets: int) -> Wire:
    for _ in range(packets):
        wire.s(0, b"", 8, ACK)
    return wire


def test_hole_is_named_after_sixteen_more_packets() -> None:
    assert run(idle(holed(), 16), close=False).events[1:] == []
    seen = run(idle(holed(), 17), close=False)
    assert seen.gaps(0) == [(0, 4, "lost")]
    assert seen.bytes(0) == b"efgh"
    gap, chunk = seen.of(seen.stream, 0)
    assert gap.at.frame == 5, "the ACK is what made it certain"
    assert isinstance(chunk, Chunk)
    assert chunk.at.frame == chunk.began.frame == 4


@pytest.mark.parametrize("late", [0, 15])
def test_data_captured_after_its_own_ack_is_put_in_place(late: int) -> None:
    seen = run(idle(holed(), late).c(0, b"abcd"))
    assert seen.bytes(0) == b"abcdefgh"
    assert seen.gaps(0) == []
    assert seen.stream.out_of_order == [1, 0]


def test_hole_is_named_after_a_second() -> None:
    wire = holed().wait(SECOND).c(8, b"ij")
    seen = run(wire, close=False)
    assert seen.gaps(0) == [(0, 4, "lost")]
    assert seen.bytes(0) == b"efghij"


def test_too_late_is_a_retransmission() -> None:
    seen = run(idle(holed(), 17).c(0, b"abcd"))
    assert seen.bytes(0) == b"efgh"
    assert seen.stream.retransmissions == [1, 0]


def test_advance_names_it_without_a_packet() -> None:
    reassembler = Reassembler()
    wire = holed()
    assert len(list(reassembler.feed(batch(numbered(wire.segments))))) == 1
    acked_at = START + wire.now_ns
    assert list(reassembler.advance(acked_at + SECOND)) == []
    gap, chunk = reassembler.advance(acked_at + SECOND + 1)
    assert isinstance(gap, Gap)
    assert isinstance(chunk, Chunk)


def test_not_acknowledged_is_waited_for_while_the_peer_speaks() -> None:
    """The receiver asks again: the sender's timer (RFC 6298) brings it, after seconds."""
    wire = Wire().handshake().c(4, b"efgh").s(0, b"", 0, ACK).wait(30 * SECOND).s(0, b"", 0, ACK).c(0, b"abcd")
    seen = run(wire)
    assert seen.bytes(0) == b"abcdefgh"
    assert seen.gaps(0) == []


def test_one_sided_capture_waits_three_seconds() -> None:
    wire = Wire()
    wire.put("C", SYN, -1)
    wire.c(0, b"ab").c(4, b"ef").wait(2 * SECOND).c(6, b"g")
    assert run(wire, close=False).bytes(0) == b"ab"
    wire.wait(2 * SECOND).c(7, b"h")
    seen = run(wire, close=False)
    assert seen.bytes(0) == b"abefgh"
    assert seen.gaps(0) == [(2, 2, "lost")]


def test_side_that_is_not_captured_has_no_gaps() -> None:
    wire = Wire()
    wire.put("C", SYN, -1)
    wire.c(0, b"EHLO\r\n", 20).c(6, b"QUIT\r\n", 90)
    seen = run(wire)
    assert seen.bytes(0) == b"EHLO\r\nQUIT\r\n"
    assert seen.gaps(1) == []
    assert [c.acked for c in seen.of(seen.stream, 0) if isinstance(c, Chunk)] == [0, 70]
    assert seen.stream.missing == [0, 70]


def test_the_fin_of_a_side_that_is_not_captured_is_no_missing_octet() -> None:
    wire = Wire()
    wire.put("C", SYN, -1)
    wire.c(0, b"EHLO\r\n", 20).c(6, b"", 90, FIN | ACK).c(7, b"", 91)
    assert run(wire).stream.missing == [0, 70]


def test_hole_at_the_end_of_the_capture() -> None:
    seen = run(Wire().handshake().c(0, b"ab").c(4, b"ef").c(8, b"ij"))
    assert seen.gaps(0) == [(2, 2, "closed"), (6, 2, "closed")]
    assert seen.bytes(0) == b"abefij"


def test_missing_tail_before_a_fin() -> None:
    wire = Wire().handshake().c(0, b"ab").c(9, b"", 0, FIN | ACK).s(0, b"", 10, FIN | ACK).c(10, b"", 1, ACK)
    assert run(wire).gaps(0) == [(2, 7, "lost")]


def test_ack_of_a_fin_that_is_not_captured_is_no_lost_octet() -> None:
    wire = Wire().handshake().c(0, b"ab").s(0, b"", 3, ACK).wait(5 * SECOND).s(0, b"", 3, ACK)
    assert run(wire).gaps(0) == []


def test_fin_captured_after_its_ack() -> None:
    wire = Wire().handshake().c(0, b"ab").s(0, b"", 3, FIN | ACK).c(2, b"", 1, FIN | ACK)
    seen = run(wire)
    assert seen.gaps(0) == []
    assert seen.closings == ["closed"]


def order(seen: Seen) -> list[str]:
    """What came, in order: text of chunks, ``-`` for gaps."""
    return [e.data.decode() if isinstance(e, Chunk) else "-" for e in seen.events if isinstance(e, Chunk | Gap)]


def test_reply_does_not_overtake_what_it_answers() -> None:
    """MAIL's first half is lost; the reply acknowledges it and must not come before the other half."""
    wire = Wire().handshake().c(5, b"FROM:<a>\r\n").s(0, b"250 ok\r\n", 15).c(15, b"RCPT\r\n", 8).s(8, b"251\r\n", 21)
    assert order(run(wire)) == ["-", "FROM:<a>\r\n", "250 ok\r\n", "RCPT\r\n", "251\r\n"]


def test_reply_captured_before_its_command_is_given_after_it() -> None:
    wire = Wire().handshake().s(0, b"250 ok\r\n", 6).c(0, b"NOOP\r\n").c(6, b"QUIT\r\n", 8).s(8, b"221\r\n", 12)
    assert order(run(wire)) == ["NOOP\r\n", "250 ok\r\n", "QUIT\r\n", "221\r\n"]


def test_questions_that_never_end_do_not_pile_up() -> None:
    """A hole in each segment: what the other side says comes after a bounded number of packets."""
    wire = Wire(step_ns=1000).handshake()
    for index in range(100):
        wire.c(index * 10 + 5, b"xxxxx", index).s(index, b"y", index * 10 + 10)
    seen = run(wire, close=False)
    assert len(seen.bytes(1)) > 80
    assert len(seen.bytes(0)) > 80 * 5


# ---- joined in the middle


def test_start_is_the_first_ack_of_the_peer() -> None:
    wire = Wire().c(104, b"efgh", 7).s(7, b"", 100, ACK).c(100, b"abcd", 7).s(7, b"250\r\n", 108)
    seen = run(wire)
    assert (seen.bytes(0), seen.bytes(1)) == (b"abcdefgh", b"250\r\n")
    assert seen.gaps(0) == seen.gaps(1) == []
    assert not seen.stream.complete


def test_start_before_the_first_data_is_a_gap() -> None:
    wire = Wire().c(104, b"efgh", 7).s(7, b"", 100, ACK).s(7, b"", 108, ACK)
    seen = run(wire)
    assert seen.gaps(0) == [(0, 4, "lost")]
    assert seen.bytes(0) == b"efgh"


def test_one_side_without_a_syn_waits_four_packets_for_earlier_data() -> None:
    wire = Wire().c(8, b"ij").c(4, b"efgh").c(0, b"abcd")
    assert run(wire, close=False).bytes(0) == b""
    wire.c(10, b"k").c(11, b"l")
    seen = run(wire, close=False)
    assert seen.bytes(0) == b"abcdefghijkl"
    assert seen.gaps(0) == []


def test_data_before_the_first_ack_seen_is_not_lost() -> None:
    """The client's ACK 7 says where the server was; the server's octets 3 to 6 are captured after it."""
    wire = Wire().c(100, b"x", 7).s(3, b"abcd", 101).s(7, b"efgh", 101).c(101, b"y", 5).c(102, b"z", 11)
    seen = run(wire)
    assert seen.bytes(1) == b"abcdefgh"
    assert seen.gaps(1) == []
    assert [c.acked for c in seen.of(seen.stream, 0) if isinstance(c, Chunk)] == [0, 2, 8]


def test_an_ack_older_than_the_capture_is_offset_zero() -> None:
    wire = Wire().c(100, b"x", 7).s(7, b"a", 101).c(101, b"y", 3).c(102, b"z", 3, window=0)
    seen = run(wire)
    assert [c.acked for c in seen.of(seen.stream, 0) if isinstance(c, Chunk)] == [0, 0, 0]


def test_octets_acknowledged_before_the_begin_moved_are_still_named() -> None:
    wire = Wire().c(100, b"x", 7).s(17, b"", 101, ACK).c(101, b"", 17, ACK).s(3, b"abcd", 101).c(101, b"", 17, ACK)
    seen = run(wire)
    assert seen.bytes(1) == b"abcd"
    assert seen.gaps(1) == [(4, 10, "lost")]


def test_syn_captured_after_data() -> None:
    wire = Wire().c(4, b"efgh")
    wire.put("C", SYN, -1)
    assert run(wire).gaps(0) == [(0, 4, "closed")]
    wire.c(0, b"abcd")
    seen = run(wire)
    assert seen.bytes(0) == b"abcdefgh"
    assert (seen.stream.complete, seen.stream.decided_by) == (True, "port")


def test_syn_far_from_a_stream_without_one_is_another_connection() -> None:
    wire = Wire().c(0, b"a").s(0, b"b", 1)
    again = Wire(client_isn=800_000_000, now_ns=wire.now_ns).handshake()
    seen = run([*wire.segments, *again.segments])
    assert [(s.complete, s.reused) for s in seen.streams] == [(False, False), (True, True)]


def test_sides_by_port_and_by_order() -> None:
    by_port = run(Wire(sport=587, dport=40000).c(0, b"220 hi\r\n").s(0, b"EHLO\r\n")).stream
    assert (by_port.decided_by, by_port.server.port) == ("port", 587)
    by_order = run(Wire(sport=30000, dport=40000).c(0, b"220 hi\r\n").s(0, b"EHLO\r\n")).stream
    assert (by_order.decided_by, by_order.client.port) == ("order", 30000)


# ---- budgets


def test_segments_held_are_bounded() -> None:
    wire = Wire().handshake()
    for index in range(1, 8):
        wire.c(index * 10, b"x")
    seen = run(wire, limits=Limits(reorder_segments=3), close=False)
    assert seen.reassembler.limits_hit == {"reorder_segments": 4}
    assert [reason for _, _, reason in seen.gaps(0)] == ["limit"] * 4
    assert seen.bytes(0) == b"xxxx"


def test_streams_are_bounded_and_the_idle_one_goes() -> None:
    wires = [Wire(sport=1000 + index, now_ns=index * 10 * MS).handshake() for index in range(3)]
    wires[0].wait(50 * MS).c(0, b"still here")
    rows = sorted((s for w in wires for s in w.segments), key=lambda s: s.ts_ns)
    seen = run(rows, cuts=range(1, 10), limits=Limits(streams=2))
    assert seen.reassembler.limits_hit["streams"] >= 1
    assert seen.closings.count("limit") == seen.reassembler.limits_hit["streams"]
    assert len(seen.closings) == len(seen.streams)


def test_events_of_a_stream_are_bounded_and_counters_go_on() -> None:
    wire = Wire().handshake().c(0, b"abc")
    for _ in range(9):
        wire.c(0, b"abc")
    seen = run(wire, limits=Limits(stream_events=4))
    assert len(seen.stream.events) == 4
    assert seen.stream.retransmissions == [9, 0]
    assert seen.reassembler.limits_hit == {"stream_events": 5}
