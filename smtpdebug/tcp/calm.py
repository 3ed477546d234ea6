"""The short way: a whole handshake, run or end is taken at once.

Each function leaves the connection exactly as its packets would one by one on the long way
(:meth:`Connection.packet`), or says that it cannot and touches nothing.
"""

from __future__ import annotations

from itertools import compress

from smtpdebug.model.streams import CLIENT, SERVER, Location
from smtpdebug.tcp.connection import Connection
from smtpdebug.tcp.half import PIECES, Half
from smtpdebug.tcp.parts import End, Payloads, Run, Shake
from smtpdebug.tcp.sequence import MASK
from smtpdebug.tcp.whole import said


def take_shake(connection: Connection, shake: Shake) -> None:
    """The handshake of a connection that was made for it."""
    client, server = connection.half(CLIENT), connection.half(SERVER)
    stream = connection.stream
    stream.complete = True
    stream.syn_ns = stream.last_syn_ns = shake.syn_ns
    stream.syn_ack_ns, stream.established_ns = shake.syn_ack_ns, shake.established_ns
    stream.established_frame = shake.last_frame
    connection.shaken = True
    for half, isn in ((client, shake.client_isn), (server, shake.server_isn)):
        half.isn = isn
        half.base = half.next_seq = (isn + 1) & MASK
        half.started = True
        half.acked = 0
        half.now = 3
    client.packets, server.packets = 2, 1
    client.heard_ns = max(0, shake.syn_ns, shake.established_ns)
    server.heard_ns = max(0, shake.syn_ack_ns)
    connection.count = 3
    connection.plain = True


def take_run(connection: Connection, run: Run, payloads: Payloads, buf: bytes, capture: str) -> bool:
    """Segments in order; whether they could be taken."""
    low, high = connection.low, connection.high
    if not connection.plain or low.next_seq != run.low_seq or high.next_seq != run.high_seq:
        return False
    if run.first != run.beyond and not low.quiet:
        _give(connection, run, payloads, buf, capture)
    low_base, high_base = low.next, high.next
    low.packets += run.low_packets
    high.packets += run.high_packets
    if run.low_bytes:
        _grow(low, run.low_bytes, run.low_largest, run, payloads.low, payloads)
    if run.high_bytes:
        _grow(high, run.high_bytes, run.high_largest, run, payloads.high, payloads)
    low.acked = max(low.acked, low_base + run.high_acked)
    high.acked = max(high.acked, high_base + run.low_acked)
    return True


def _grow(half: Half, octets: int, largest: int, run: Run, mine: list[int], payloads: Payloads) -> None:
    half.next += octets
    half.next_seq = (half.next_seq + octets) & MASK
    half.unique += octets
    half.touched = True
    if largest > half.largest:
        if not half.largest:
            half.first_data_ns = payloads.ts_ns[mine.index(1, run.first, run.beyond)]
        half.largest = largest


def _give(connection: Connection, run: Run, payloads: Payloads, buf: bytes, capture: str) -> None:
    low, high = connection.low, connection.high
    given = said(connection.stream, run, payloads, buf, capture, low.side == CLIENT).chunks()
    rows = slice(run.first, run.beyond)
    from_low, from_high = payloads.low[rows], payloads.high[rows]
    if low.next or high.next:
        # The stream began before this run.
        moved = zip(given, payloads.acked[rows].tolist(), from_low, strict=True)
        for chunk, acked, is_low in moved:
            own, other = (low, high) if is_low else (high, low)
            chunk.offset += own.next
            chunk.acked = max(0, acked + other.next)
    low.out.extend(given)
    data = [chunk.data for chunk in given]
    for half, mine in ((low, from_low), (high, from_high)):
        half.recent += compress(data, mine)
        if len(half.recent) >= PIECES:
            half.trim()


def take_end(connection: Connection, end: End, capture: str) -> bool:
    """Both FINs and their ACKs; whether they could be taken."""
    first, second = (connection.low, connection.high) if end.low else (connection.high, connection.low)
    if not connection.plain or first.next_seq != end.first_seq or second.next_seq != end.second_seq:
        return False
    stream = connection.stream
    # Without its handshake each ACK is still asked whether it is the one that completes it.
    if first.ripe is not None or second.ripe is not None or not connection.shaken:
        return False
    rows = end.end - end.begin
    connection.count += rows
    first.now = second.now = connection.count
    first.packets += 2
    second.packets += rows - 2
    first.heard_ns = max(first.heard_ns, end.first_ns, end.last_ns)
    second.heard_ns = max(second.heard_ns, end.answer_ns, end.second_ns)
    stream.closed_by = stream.closed_by or ("server-fin" if first.side else "client-fin")
    fins = ((first, end.first_frame, end.first_ns), (second, end.second_frame, end.second_ns))
    for half, frame, ts_ns in fins:
        half.fin = half.acked = half.next
        half.fin_acked = True
        if stream.fin_ns[half.side] is None:
            stream.fin_ns[half.side] = ts_ns
            connection.note("fin", half.side, Location(capture, frame, ts_ns), half.next)
    connection.closing_ns = max(first.heard_ns, second.heard_ns)
    connection.plain = False
    return True
