"""Reassembly, by cases that RFC 9293 and captures know; expectations are reasoned from the segments."""

from __future__ import annotations

from segments import ACK, FIN, Wire, run

from smtpdebug.model.streams import Chunk, StreamOpened


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
