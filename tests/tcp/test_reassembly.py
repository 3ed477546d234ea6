"""Reassembly, by cases that RFC 9293 and captures know; expectations are reasoned from the segments."""

from __future__ import annotations

from dataclasses import replace

import pytest
from segments import ACK, FIN, RST, SECOND, START, SYN, Wire, batch, run

from smtpdebug.model.streams import Chunk, StreamClosed, StreamOpened
from smtpdebug.tcp.reassembly import Reassembler


def test_plain_conversation() -> None:
    wire = Wire().handshake().s(0, b"220 hi\r\n").c(0, b"QUIT\r\n", 8).s(8, b"221 bye\r\n", 6)
    wire.s(17, b"", 6, FIN | ACK).c(6, b"", 18, FIN | ACK).s(18, b"", 7, ACK)
    seen = run(wire)
    assert isinstance(seen.events[0], StreamOpened)
    assert seen.bytes(0) == b"QUIT\r\n"
    assert seen.bytes(1) == b"220 hi\r\n221 bye\r\n"
    assert seen.gaps(0) == seen.gaps(1) == []
    assert seen.closings == ["closed"]
    stream = seen.stream
    assert (stream.complete, stream.decided_by, stream.closed_by) == (True, "syn", "server-fin")
    assert stream.packets == [4, 5]
    assert stream.bytes == [6, 17]
    quit_line = next(e for e in seen.events if isinstance(e, Chunk) and e.side == 0)
    assert (quit_line.acked, quit_line.offset, quit_line.at.frame, quit_line.began.frame) == (8, 0, 5, 5)
    assert stream.last.frame == 9
    assert stream.events[0].kind == "fin"


def test_late_segment_is_put_in_place_at_its_own_packet() -> None:
    wire = Wire().handshake().c(4, b"efgh").c(0, b"abcd").c(8, b"ij")
    seen = run(wire)
    chunks = [(c.offset, c.data, c.began.frame, c.at.frame) for c in seen.of(seen.stream, 0) if isinstance(c, Chunk)]
    assert chunks == [(0, b"abcd", 5, 5), (4, b"efgh", 4, 5), (8, b"ij", 6, 6)]
    assert seen.stream.out_of_order == [1, 0]


def test_wrap_of_sequence_numbers() -> None:
    wire = Wire(client_isn=(1 << 32) - 4, server_isn=(1 << 32) - 1).handshake()
    wire.s(0, b"220 hello\r\n").c(6, b"ghij", 11).c(0, b"abcdef", 11).s(11, b"x", 10)
    seen = run(wire)
    assert seen.bytes(0) == b"abcdefghij"
    assert seen.bytes(1) == b"220 hello\r\nx"


def test_overlap_first_copy_wins_and_the_other_is_counted() -> None:
    wire = Wire().handshake().c(0, b"abcd").c(2, b"cDef").c(0, b"Xbcdefgh")
    seen = run(wire)
    assert seen.bytes(0) == b"abcdefgh"
    # Segment two differs at offset 3, segment three at offset 0 and (already given out) not elsewhere.
    assert seen.stream.conflicts == [2, 0]
    assert seen.stream.retransmissions == [2, 0]
    assert seen.kinds == ["retransmission", "conflicting-overlap"] * 2


def test_held_overlap_obeys_the_first_copy_too() -> None:
    wire = Wire().handshake().c(4, b"EF").c(2, b"cdefgh").c(0, b"abcd")
    seen = run(wire)
    assert seen.bytes(0) == b"abcdEFgh"
    assert seen.stream.conflicts == [2, 0]


def test_data_on_the_syn_counts_from_offset_zero() -> None:
    wire = Wire()
    wire.put("C", SYN, -1, 0, b"EHLO")
    wire.put("S", SYN | ACK, -1, 4, b"220 ")
    wire.c(4, b" x\r\n", 4)
    seen = run(wire)
    assert seen.bytes(0) == b"EHLO x\r\n"
    assert seen.bytes(1) == b"220 "
    assert seen.gaps(0) == seen.gaps(1) == []


def test_keep_alives_are_neither_data_nor_retransmissions() -> None:
    wire = Wire().handshake().c(0, b"NOOP\r\n").s(0, b"", 6, ACK)
    wire.c(5, b"", 0, ACK).s(0, b"", 6, ACK).c(5, b"\0", 0, ACK).s(0, b"", 6, ACK)
    seen = run(wire)
    assert seen.bytes(0) == b"NOOP\r\n"
    assert seen.stream.keep_alives == [2, 0]
    assert seen.stream.retransmissions == seen.stream.conflicts == [0, 0]
    assert seen.kinds == ["keep-alive", "keep-alive"]


def test_zero_window_probe_and_opening() -> None:
    wire = Wire().handshake().c(0, b"ab").s(0, b"", 2, ACK, window=0)
    wire.c(1, b"", 0, ACK).s(0, b"", 2, ACK, window=0).c(2, b"c").s(0, b"", 3, ACK, window=9).c(3, b"d")
    seen = run(wire)
    assert seen.bytes(0) == b"abcd"
    assert seen.stream.zero_windows == [0, 2]
    assert seen.stream.keep_alives == [0, 0]
    assert seen.kinds == ["zero-window", "zero-window-probe", "zero-window-probe", "window-open"]


def test_half_close_and_fin_with_data() -> None:
    wire = Wire().handshake().c(0, b"QUIT\r\n", 0, FIN | ACK).s(0, b"", 7, ACK).s(0, b"221 bye\r\n", 7)
    wire.c(7, b"", 9, ACK).s(9, b"", 7, FIN | ACK).c(7, b"", 10, ACK)
    seen = run(wire)
    assert seen.bytes(0) == b"QUIT\r\n"
    assert seen.bytes(1) == b"221 bye\r\n"
    assert seen.closings == ["closed"]
    assert seen.stream.closed_by == "client-fin"
    assert [e.offset for e in seen.stream.events if e.kind == "fin"] == [6, 9]
    assert seen.gaps(0) == seen.gaps(1) == []


def test_data_after_fin_is_noted_and_not_given() -> None:
    wire = Wire().handshake().c(0, b"ab", 0, FIN | ACK).c(2, b"zz").c(0, b"abzz")
    seen = run(wire)
    assert seen.bytes(0) == b"ab"
    assert seen.kinds == ["fin", "data-after-fin", "data-after-fin", "retransmission"]


def test_refused_by_a_reset() -> None:
    wire = Wire()
    wire.put("C", SYN, -1)
    wire.put("S", RST | ACK, -5001, 0)
    wire.wait(SECOND).put("C", SYN, -1)
    seen = run(wire)
    assert (seen.stream.refused_by, seen.stream.closed_by) == ("rst", "server-rst")
    assert seen.stream.syn_retransmissions == 1


def test_reset_ends_but_what_was_in_flight_is_accepted() -> None:
    wire = Wire().handshake().c(0, b"DATA\r\n")
    wire.put("C", RST | ACK, 6, 0, b"why it was reset")
    wire.s(0, b"354 go\r\n", 6)
    seen = run(wire)
    assert seen.bytes(0) == b"DATA\r\n"
    assert seen.bytes(1) == b"354 go\r\n"
    assert (seen.stream.closed_by, seen.closings) == ("client-rst", ["closed"])


def test_reset_outside_the_window_does_not_end_it() -> None:
    wire = Wire().handshake().c(0, b"a")
    wire.put("S", RST, 1 << 29)
    wire.wait(10 * SECOND).c(1, b"b")
    seen = run(wire)
    assert seen.bytes(0) == b"ab"
    assert len(seen.streams) == 1
    assert seen.kinds == ["rst-ignored"]
    assert (seen.stream.closed_by, seen.stream.rst_ns) == (None, [None, None])


def closed(wire: Wire) -> Wire:
    return wire.c(0, b"", 0, FIN | ACK).s(0, b"", 1, FIN | ACK).c(1, b"", 1, ACK)


def test_port_reuse_after_a_close() -> None:
    first = closed(Wire().handshake())
    second = Wire(client_isn=9_000_000, server_isn=77, now_ns=first.now_ns).handshake().c(0, b"EHLO\r\n")
    seen = run([*first.segments, *second.segments])
    assert seen.closings == ["reused", "end-of-capture"]
    assert [s.reused for s in seen.streams] == [False, True]
    assert seen.bytes(0, seen.streams[1]) == b"EHLO\r\n"
    assert seen.streams[0].packets == [4, 2]


def test_port_reuse_without_a_close_needs_a_number_out_of_the_window() -> None:
    first = Wire().handshake().c(0, b"a")
    stray = Wire(client_isn=2000, now_ns=first.now_ns)
    stray.put("C", SYN, -1)
    assert len(run([*first.segments, *stray.segments]).streams) == 1
    other = Wire(client_isn=500_000_000, now_ns=first.now_ns)
    other.put("C", SYN, -1)
    assert run([*first.segments, *other.segments]).closings == ["reused", "end-of-capture"]


@pytest.mark.parametrize("distance", [-1_000_000, -50, 50, 100_000])
@pytest.mark.parametrize("ends", ["", "C", "S"])
def test_port_reuse_near_the_old_number_is_told_by_the_servers_answer(distance: int, ends: str) -> None:
    """RFC 9293 section 3.10.7.4 and RFC 6191: only a server without the connection answers with a SYN-ACK."""
    first = Wire(client_isn=2_000_000).handshake().c(0, b"EHLO\r\n")
    if ends:
        first.put(ends, FIN | ACK, 6 if ends == "C" else 0, 0 if ends == "C" else 6)
    second = Wire(client_isn=2_000_000 + distance, server_isn=77, now_ns=first.now_ns)
    second.put("C", SYN, -1)
    second.handshake().s(0, b"220 hi\r\n").c(0, b"QUIT\r\n", 8)
    seen = run([*first.segments, *second.segments])
    assert seen.closings == ["reused", "end-of-capture"]
    old, new = seen.streams
    assert (seen.bytes(0, old), seen.bytes(0, new), seen.bytes(1, new)) == (b"EHLO\r\n", b"QUIT\r\n", b"220 hi\r\n")
    assert (new.syn_retransmissions, new.syn_ns) == (1, second.segments[0].ts_ns + START)
    assert sum(old.packets) == len(first.segments)
    assert sum(new.packets) == len(second.segments)


def test_stragglers_belong_to_the_stream_for_five_seconds_and_are_strays_later() -> None:
    wire = closed(Wire().handshake()).wait(2 * SECOND).s(0, b"", 1, FIN | ACK).wait(4 * SECOND).s(0, b"", 1, FIN | ACK)
    for cuts in (range(0), range(1, 8)):
        seen = run(wire, cuts=cuts)
        assert seen.stream.packets == [4, 3]
        assert seen.reassembler.strays == 1


def test_data_sent_again_into_a_closed_stream_is_no_new_stream() -> None:
    wire = Wire().handshake().c(0, b"hello").s(0, b"", 5, RST | ACK).wait(6 * SECOND).c(0, b"hello").c(5, b"more")
    seen = run(wire)
    assert [s.reused for s in seen.streams] == [False, True]
    assert [seen.bytes(0, s) for s in seen.streams] == [b"hello", b"more"]
    assert seen.reassembler.strays == 1


def test_bare_segments_of_an_unknown_connection_are_strays() -> None:
    wire = Wire().c(5, b"", 7, ACK).s(7, b"", 5, FIN | ACK).c(5, b"", 8, RST)
    seen = run(wire)
    assert seen.events == []
    assert seen.reassembler.strays == 3


def test_syn_ack_tells_the_sides_without_a_syn() -> None:
    wire = Wire(sport=25, dport=40000)
    wire.put("S", SYN | ACK, -1, 0)
    wire.c(0, b"x", 0)
    seen = run(wire)
    assert (seen.stream.client.port, seen.stream.server.port) == (25, 40000)
    assert (seen.stream.decided_by, seen.stream.complete) == ("syn", True)


def test_handshake_captured_out_of_order() -> None:
    wire = Wire().handshake().c(0, b"x")
    syn, syn_ack, ack, data = wire.segments
    for order in ([syn_ack, syn, ack, data], [syn, ack, syn_ack, data], [syn_ack, ack, syn, data]):
        stream = run(order).stream
        assert (stream.complete, stream.client.port) == (True, 54170)
        assert stream.syn_ns is not None
        assert stream.syn_ack_ns is not None
        assert stream.established_ns is not None
        assert (stream.syn_ns - START, stream.syn_ack_ns - START, stream.established_ns - START) == (
            syn.ts_ns,
            syn_ack.ts_ns,
            ack.ts_ns,
        )
        assert run(order).bytes(0) == b"x"


def test_repeated_syn_and_which_was_answered() -> None:
    wire = Wire()
    first = wire.put("C", SYN, -1)
    second = wire.wait(SECOND).put("C", SYN, -1)
    wire.put("S", SYN | ACK, -1, 0)
    wire.put("S", SYN | ACK, -1, 0)
    wire.c(0, b"", 0, ACK)
    stream = run(wire).stream
    assert (stream.syn_ns, stream.last_syn_ns) == (START + first.ts_ns, START + second.ts_ns)
    assert (stream.syn_retransmissions, stream.syn_ack_retransmissions) == (1, 1)
    assert [e.kind for e in stream.events] == ["syn-repeated", "syn-ack-repeated"]


def test_snaplen_cut_is_a_gap_at_once() -> None:
    wire = Wire().handshake().c(0, b"abc", length=10).c(10, b"xyz").c(13, b"", length=4)
    seen = run(wire, close=False)
    assert seen.bytes(0) == b"abcxyz"
    assert seen.gaps(0) == [(3, 7, "snaplen"), (13, 4, "snaplen")]
    assert seen.stream.missing == [11, 0]


def test_ipv6_and_rare_versions_have_their_endpoints_in_words() -> None:
    wire = Wire(client_ip=0x20010DB8 << 96 | 1, server_ip=0x20010DB8 << 96 | 2, version=6).handshake()
    stream = run(wire).stream
    assert (stream.client.ip, stream.server.ip) == ("2001:db8::1", "2001:db8::2")


def test_a_stream_over_several_files_names_them_in_order() -> None:
    wire = Wire().handshake().c(0, b"a").c(1, b"b").c(2, b"c")
    rows = [replace(s, capture=min(2, index // 2), frame=index + 1) for index, s in enumerate(wire.segments)]
    reassembler = Reassembler()
    events = [*reassembler.feed(batch(rows, ("a", "b", "c"))), *reassembler.close()]
    opened = events[0]
    assert isinstance(opened, StreamOpened)
    assert opened.stream.captures == ["a", "b", "c"]


def test_nonsense_times_hold_nothing_up() -> None:
    """A SYN-ACK 48 years ahead, then time runs backwards: as one kernel wrote it."""
    wire = Wire().handshake().s(0, b"220 hi\r\n").c(0, b"QUIT\r\n", 8)
    rows = list(wire.segments)
    rows[1] = replace(rows[1], ts_ns=48 * 365 * 86400 * SECOND)
    rows[4] = replace(rows[4], ts_ns=-1)
    seen = run(rows, cuts=range(1, 5))
    assert (seen.bytes(0), seen.bytes(1)) == (b"QUIT\r\n", b"220 hi\r\n")
    assert len(seen.streams) == 1


def test_refused_then_accepted_on_the_same_attempt() -> None:
    """The server comes up between two copies of one SYN."""
    wire = Wire()
    wire.put("C", SYN, -1)
    wire.put("S", RST | ACK, -5001, 0)
    wire.wait(SECOND).handshake().c(0, b"EHLO\r\n").wait(60 * SECOND)
    closed_late = wire.c(6, b"", 0, FIN | ACK).s(0, b"", 7, FIN | ACK).c(7, b"", 1, ACK)
    for cuts in (range(0), range(1, 9)):
        seen = run(closed_late, cuts=cuts)
        stream = seen.stream
        assert (stream.refused_by, stream.closed_by, stream.syn_retransmissions) == (None, "client-fin", 1)
        assert seen.bytes(0) == b"EHLO\r\n"
        assert stream.last_syn_ns is not None
        assert stream.last_syn_ns - START >= SECOND


def test_a_close_is_given_when_the_linger_is_over_even_after_a_refusal() -> None:
    wire = Wire()
    wire.put("C", SYN, -1)
    wire.put("S", RST | ACK, -5001, 0)
    wire.wait(SECOND).handshake().wait(60 * SECOND)
    reassembler = Reassembler()
    for piece in (wire.segments[:2], wire.segments[2:]):
        list(reassembler.feed(batch(piece)))
    assert list(reassembler.advance(START + wire.now_ns)) == []
    wire.segments.clear()
    list(reassembler.feed(batch(closed(wire).segments)))
    assert list(reassembler.advance(START + wire.now_ns + 5 * SECOND)) == []
    (over,) = reassembler.advance(START + wire.now_ns + 5 * SECOND + 1)
    assert isinstance(over, StreamClosed)
    assert over.reason == "closed"
    assert list(reassembler.close()) == []


def test_an_attempt_refused_long_ago_is_another_stream() -> None:
    wire = Wire()
    wire.put("C", SYN, -1)
    wire.put("S", RST | ACK, -5001, 0)
    wire.wait(6 * SECOND).put("C", SYN, -1)
    for cuts in (range(0), [1, 2]):
        assert [s.reused for s in run(wire, cuts=cuts).streams] == [False, True]
