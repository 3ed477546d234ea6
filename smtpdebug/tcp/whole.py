"""The shortest way: a connection that opened, talked and closed within a batch, without a flaw, is taken at once.

Most connections of a large capture are such. Nothing of them is held, missing or open, so that no
:class:`~smtpdebug.tcp.connection.Connection` is needed to follow them: what there is to say is said, and
:class:`Settled` is what remains of one while stragglers may still come. When one comes, ``revived`` gives the
connection as its packets would have left it.
"""

from __future__ import annotations

from collections import deque
from itertools import repeat

import msgspec

from smtpdebug.model.streams import (
    CLIENT,
    SERVER,
    Limits,
    Location,
    Side,
    Stream,
    StreamWhole,
    TcpEvent,
    TcpStreamEvent,
)
from smtpdebug.tcp.connection import Connection
from smtpdebug.tcp.flows import Key, endpoint
from smtpdebug.tcp.half import Half
from smtpdebug.tcp.parts import End, Payloads, Run, Shake
from smtpdebug.tcp.sequence import MASK


class Settled(msgspec.Struct, eq=False, gc=False):
    """A connection that is over and left no question open; what is needed to make a ``Connection`` of it again."""

    key: Key
    stream: Stream
    low: Side
    """Which side the lower endpoint is."""
    isn: tuple[int, int]
    heard_ns: tuple[int, int]
    """Of client and server."""
    count: int
    closing_ns: int
    closed: bool = False
    revived: Connection | None = None

    def past(self) -> tuple[int, int]:
        """The next sequence number from the lower and from the upper endpoint, the FIN not counted."""
        low, stream = self.low, self.stream
        return self._next(low, stream), self._next(SERVER if low == CLIENT else CLIENT, stream)

    def _next(self, side: Side, stream: Stream) -> int:
        return (self.isn[side] + 1 + stream.bytes[side]) & MASK

    def revive(self, limits: Limits, out: deque[TcpStreamEvent]) -> Connection:
        """The connection, as its packets would have left it on the long way."""
        client, server = (self._half(side, out) for side in (CLIENT, SERVER))
        low, high = (client, server) if self.low == CLIENT else (server, client)
        connection = Connection(self.key, self.stream, limits, low, high)
        connection.count, connection.closing_ns = self.count, self.closing_ns
        connection.lingers = connection.shaken = True
        return connection

    def _half(self, side: Side, out: deque[TcpStreamEvent]) -> Half:
        stream, isn = self.stream, self.isn[side]
        half = Half(stream, side, out)
        size = stream.bytes[side]
        half.isn, half.base, half.started = isn, (isn + 1) & MASK, True
        half.next = half.acked = half.fin = half.unique = size
        half.next_seq, half.fin_acked, half.touched = self._next(side, stream), True, size > 0
        half.now, half.packets, half.heard_ns = self.count, stream.packets[side], self.heard_ns[side]
        half.largest, half.first_data_ns = stream.max_segment[side], stream.first_data_ns[side]
        return half


def whole_stream(
    serial: int, key: Key, shake: Shake, run: Run, end: End, payloads: Payloads, capture: str, reused: bool
) -> Stream:
    """Everything there is to know of the connection."""
    low_end, high_end = endpoint(key[0], *key[1:4]), endpoint(key[0], *key[4:7])
    from_low, from_high = _first_data(run, payloads.low, payloads), _first_data(run, payloads.high, payloads)
    ends = end.end - end.begin
    first: Side = CLIENT if end.low == shake.low else SERVER
    second: Side = SERVER if first == CLIENT else CLIENT
    if shake.low:
        client, server = low_end, high_end
        data_ns, packets = [from_low, from_high], [run.low_packets, run.high_packets]
        octets, largest = [run.low_bytes, run.high_bytes], [run.low_largest, run.high_largest]
    else:
        client, server = high_end, low_end
        data_ns, packets = [from_high, from_low], [run.high_packets, run.low_packets]
        octets, largest = [run.high_bytes, run.low_bytes], [run.high_largest, run.low_largest]
    packets[CLIENT] += 2
    packets[SERVER] += 1
    packets[first] += 2
    packets[second] += ends - 2
    return Stream(
        serial=serial,
        client=client,
        server=server,
        opened=Location(capture, shake.first_frame, shake.syn_ns),
        last=Location(capture, end.last_frame, end.last_ns),
        complete=True,
        decided_by="syn",
        captures=[capture],
        syn_ns=shake.syn_ns,
        last_syn_ns=shake.syn_ns,
        syn_ack_ns=shake.syn_ack_ns,
        established_ns=shake.established_ns,
        established_frame=shake.last_frame,
        first_data_ns=data_ns,
        closed_by="client-fin" if first == CLIENT else "server-fin",
        fin_ns=[end.first_ns, end.second_ns] if first == CLIENT else [end.second_ns, end.first_ns],
        rst_ns=[None, None],
        packets=packets,
        bytes=octets,
        retransmissions=[0, 0],
        out_of_order=[0, 0],
        conflicts=[0, 0],
        zero_windows=[0, 0],
        keep_alives=[0, 0],
        missing=[0, 0],
        mss=[None, None],
        max_segment=largest,
        events=[
            TcpEvent("fin", first, Location(capture, end.first_frame, end.first_ns), octets[first]),
            TcpEvent("fin", second, Location(capture, end.second_frame, end.second_ns), octets[second]),
        ],
        reused=reused,
    )


def _first_data(run: Run, mine: list[int], payloads: Payloads) -> int | None:
    octets = run.low_bytes if mine is payloads.low else run.high_bytes
    return payloads.ts_ns[mine.index(1, run.first, run.beyond)] if octets else None


def settled(key: Key, stream: Stream, shake: Shake, end: End) -> Settled:
    """What remains of the connection."""
    client_ns = max(0, shake.syn_ns, shake.established_ns)
    server_ns = max(0, shake.syn_ack_ns)
    first_ns, second_ns = max(end.first_ns, end.last_ns), max(end.answer_ns, end.second_ns)
    if end.low == shake.low:
        heard = max(client_ns, first_ns), max(server_ns, second_ns)
    else:
        heard = max(client_ns, second_ns), max(server_ns, first_ns)
    low: Side = CLIENT if shake.low else SERVER
    count = 3 + end.end - end.begin
    return Settled(key, stream, low, (shake.client_isn, shake.server_isn), heard, count, max(heard))


def said(stream: Stream, run: Run, payloads: Payloads, buf: bytes, capture: str, client_low: bool) -> StreamWhole:
    """What both sides said: made column by column, so that Python takes no step for a single one."""
    rows = slice(run.first, run.beyond)
    sides: list[Side] = (payloads.high if client_low else payloads.low)[rows]  # type: ignore[assignment]  # 0 and 1
    return StreamWhole(
        stream,
        sides,
        payloads.offsets[rows],
        list(map(buf.__getitem__, map(slice, payloads.begin[rows], payloads.end[rows]))),
        list(map(Location, repeat(capture), payloads.frame[rows], payloads.ts_ns[rows])),
        payloads.ackeds[rows],
    )
