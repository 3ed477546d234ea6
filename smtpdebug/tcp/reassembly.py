"""Batches of packets in, bytes in order out: one pass, bounded memory, no clock but the packets'.

What comes out depends on the packets alone, never on where one batch ends and the next begins. Batches are walked
connection by connection, so events of different streams interleave in any order; those of one stream are in order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice

from smtpdebug.model.packets import ACK, RST, SYN, PacketBatch, Unreachable
from smtpdebug.model.streams import (
    CLIENT,
    MAIL_PORTS,
    SERVER,
    Chunk,
    Gap,
    Limits,
    Location,
    Side,
    Stream,
    StreamOpened,
    TcpStreamEvent,
)
from smtpdebug.tcp.calm import take_end, take_run, take_shake
from smtpdebug.tcp.connection import LINGER_NS, Connection, other
from smtpdebug.tcp.flows import Key, Row, endpoint, group
from smtpdebug.tcp.half import Half
from smtpdebug.tcp.handshake import hand_over, let_in, same_attempt
from smtpdebug.tcp.icmp import Errors
from smtpdebug.tcp.look import FEW, Parts
from smtpdebug.tcp.parts import End, Part, Run, Shake
from smtpdebug.tcp.segment import Segment
from smtpdebug.tcp.sequence import HALF_SPACE, MASK
from smtpdebug.tcp.table import Table
from smtpdebug.tcp.whole import said, settled, whole_stream

__all__ = ["MAIL_PORTS", "Reassembler"]


class Reassembler:
    """TCP reassembly (RFC 9293) for captures.

    Args:
        limits: the budgets ``streams``, ``stream_bytes``, ``total_bytes``, ``reorder_segments``, ``stream_events``.
        ports: server ports, to tell client from server where no SYN was seen.
        shard: ``(k, n)`` follows only every n-th connection, those of shard ``k``: all of ``0 .. n - 1`` together
            follow each connection once, whatever the batches. Budgets are those of one shard.
        wholes: give a ``StreamWhole`` where one can be given.
    """

    def __init__(
        self,
        limits: Limits = Limits(),  # noqa: B008
        ports: frozenset[int] = MAIL_PORTS,
        shard: tuple[int, int] | None = None,
        *,
        wholes: bool = False,
    ) -> None:
        if shard is not None and not 0 <= shard[0] < shard[1]:
            raise ValueError(f"no such shard: {shard[0]} of {shard[1]}")
        self._limits, self._ports, self._shard, self._wholes = limits, ports, shard, wholes
        self._few = FEW
        self._out: deque[TcpStreamEvent] = deque()
        self._table = Table(limits, self._out)
        self._serial = 0
        self.strays = 0
        """Packets that belong to no stream: no SYN, no payload, or left over from one that is closed."""

    @property
    def limits_hit(self) -> dict[str, int]:
        """How often each budget was hit, by its name in ``Limits``."""
        return self._table.limits_hit

    @property
    def held_bytes(self) -> int:
        """Out-of-order octets held now, for all streams."""
        return self._table.held_bytes

    # ---- the four calls

    def feed(self, batch: PacketBatch) -> Iterator[TcpStreamEvent]:
        """Take a batch; give what it settles. To be consumed before the next call."""
        out, table, errors = self._out, self._table, Errors(batch.unreachable, self._shard)
        # The end is noted with two events: where not even those may be kept, the long way counts what is dropped.
        take_wholes = self._limits.stream_events >= 2
        if len(batch):
            grouped = group(batch, self._shard)
            parts = Parts(grouped, errors, self._few)
            each = iter(parts)
            for key, count, whole in zip(grouped.keys, parts.counts, parts.wholes, strict=True):
                if whole and key not in table and take_wholes:
                    self._whole(key, next(each), next(each), next(each), parts)  # type: ignore[arg-type]
                elif key in errors:
                    rows = [row for part in islice(each, count) for row in parts.rows(part)]
                    self._walk_with_errors(key, rows, parts, errors.take(key))
                else:
                    self._walk(key, islice(each, count), parts)
                while out:
                    yield out.popleft()
        for key, unreachable in errors.rest():
            self._table.unreachable(key, unreachable)
        if len(batch):
            self._table.expire(int(batch.ts_ns[-1]))
            while out:
                yield out.popleft()

    def advance(self, ts_ns: int) -> Iterator[TcpStreamEvent]:
        """Time has passed without packets: name the holes and ends that are certain by now."""
        self._table.ripen(ts_ns)
        self._table.expire(ts_ns)
        out = self._out
        while out:
            yield out.popleft()

    def close(self) -> Iterator[TcpStreamEvent]:
        """The capture ended: everything held is given out, every stream closed."""
        out = self._out
        for connection in self._table.drain():
            self._table.shut(connection, "end-of-capture" if connection.closing_ns is None else "closed")
            while out:
                yield out.popleft()

    def ignore(self, stream: Stream) -> None:
        """Nobody wants the bytes of this stream: from here on it is only counted."""
        connection = self._table.by_stream(stream)
        if connection is not None and not connection.ignored:
            self._table.hush(connection)
        if self._out:
            kept = [e for e in self._out if e.stream is not stream or not isinstance(e, Chunk | Gap)]
            self._out.clear()
            self._out.extend(kept)

    def flip(self, stream: Stream) -> None:
        """What was said shows that client and server are the other way round.

        Counters and events of the stream change sides, and so do all chunks and gaps given from here on; those
        given already are the caller's.
        """
        connection = self._table.by_stream(stream)
        if connection is None:
            return
        connection.flip()
        for index, event in enumerate(self._out):
            if event.stream is not stream:
                continue
            if isinstance(event, Chunk):
                event.side = other(event.side)
            elif isinstance(event, Gap):
                side = other(event.side)
                self._out[index] = Gap(
                    stream, side, event.offset, event.length, event.at, event.reason, event.encrypted
                )

    # ---- one connection's rows

    def _walk_with_errors(self, key: Key, rows: list[Row], parts: Parts, errors: list[Unreachable]) -> None:
        """As :meth:`_walk`, with ICMP errors at their place in time."""
        done = 0
        for error in errors:
            here = done
            while here < len(rows) and rows[here][10] <= error.ts_ns:
                here += 1
            self._walk(key, [rows[done:here]], parts)
            self._table.unreachable(key, error)
            done = here
        self._walk(key, [rows[done:]], parts)

    def _walk(self, key: Key, mine: Iterable[Part], parts: Parts) -> None:
        """Packets of one four-tuple, in order: each part the short way if it can be, else row by row."""
        connection = self._table.touch(key)
        batch, payloads = parts.grouped.batch, parts.payloads
        for part in mine:
            if not isinstance(part, list) and payloads is not None:
                capture = batch.captures[part.capture]
                if isinstance(part, Run):
                    taken = connection is not None and take_run(connection, part, payloads, batch.buf, capture)
                elif isinstance(part, End):
                    taken = connection is not None and take_end(connection, part, capture)
                elif taken := connection is None:
                    connection = self._shaken(key, part, capture)
                if taken and connection is not None:
                    connection.seen_in(capture)
                    connection.stream.last = Location(capture, part.last_frame, part.last_ns)
                    continue
            connection = self._step(key, connection, parts.rows(part), batch.buf)
        if connection is not None:
            connection.sync()
            self._table.settle(connection)

    def _whole(self, key: Key, shake: Shake, run: Run, end: End, parts: Parts) -> None:
        """A connection that is over already."""
        batch, payloads, table = parts.grouped.batch, parts.payloads, self._table
        assert payloads is not None
        capture = batch.captures[shake.capture]
        self._serial += 1
        stream = whole_stream(self._serial, key, shake, run, end, payloads, capture, table.was_used(key))
        whole = said(stream, run, payloads, batch.buf, capture, shake.low)
        self._out.append(whole if self._wholes else StreamOpened(stream))
        table.add(settled(key, stream, shake, end))
        if not self._wholes:
            self._out.extend(whole.chunks())

    def _shaken(self, key: Key, shake: Shake, capture: str) -> Connection:
        """A new connection, with its handshake."""
        at = Location(capture, shake.first_frame, shake.syn_ns)
        connection = self._open(key, at, low=shake.low, flags=SYN)
        take_shake(connection, shake)
        return connection

    def _step(self, key: Key, connection: Connection | None, rows: Iterable[Row], buf: bytes) -> Connection | None:
        """Row by row. Segments in order with nothing special need no :meth:`_slow`, here too."""
        out = self._out
        last: Row | None = None
        seen_in = ""
        for row in rows:
            if connection is not None and connection.plain:
                low, plain, _, seq, ack, _, length, _, start, frame, ts_ns, capture = row
                half, peer = (connection.low, connection.high) if low else (connection.high, connection.low)
                behind = (peer.next_seq - ack) & MASK
                if plain and seq == half.next_seq and behind < HALF_SPACE:
                    half.packets += 1
                    if capture is not seen_in:
                        seen_in = capture
                        connection.seen_in(capture)
                    acked = peer.next - behind
                    if acked > peer.acked:
                        peer.acked = acked
                    if length:
                        offset = half.next
                        half.next = offset + length
                        half.next_seq = (seq + length) & MASK
                        half.unique += length
                        half.touched = True
                        if length > half.largest:
                            if not half.largest:
                                half.first_data_ns = ts_ns
                            half.largest = length
                        if not half.quiet:
                            data = buf[start : start + length]
                            at = Location(capture, frame, ts_ns)
                            out.append(Chunk(half.stream, half.side, offset, data, at, at, acked if acked > 0 else 0))
                            recent = half.recent
                            recent.append(data)
                            if len(recent) >= 256:
                                half.trim()
                    last = row
                    continue
            connection = self._slow(key, connection, row, last, buf)
            last = row if connection is not None else None
        if connection is not None:
            _leave(connection, last)
        return connection

    def _slow(
        self, key: Key, connection: Connection | None, row: Row, last: Row | None, buf: bytes
    ) -> Connection | None:
        """The long way for one packet: may open, close or replace the connection of its four-tuple."""
        segment = Segment(*row)
        if connection is not None:
            over = self._over(connection, segment)
            if over:
                again = hand_over(connection) if let_in(connection, segment) else []
                _leave(connection, last)
                self._table.shut(connection, over)
                connection = None
                for knock in again:
                    connection = self._take(key, connection, knock, buf)
        return self._take(key, connection, segment, buf)

    def _take(self, key: Key, connection: Connection | None, segment: Segment, buf: bytes) -> Connection | None:
        """One packet of the connection that is there, or of a new one; ``None`` for a stray."""
        at = Location(segment.capture, segment.frame, segment.ts_ns)
        if connection is None:
            if self._is_stray(key, segment):
                self.strays += 1
                return None
            connection = self._open(key, at, low=segment.low, flags=segment.flags)
        connection.seen_in(segment.capture)
        connection.packet(segment, at, buf)
        if connection.low.held or connection.high.held:
            self._table.check_held(connection)
        return connection

    @staticmethod
    def _over(connection: Connection, segment: Segment) -> str:
        """Why this packet is not of the connection that is there, or ``""``."""
        if connection.closing_ns is not None and segment.ts_ns - connection.closing_ns > LINGER_NS:
            return "closed"
        again = segment.flags & SYN and (let_in(connection, segment) or not same_attempt(connection, segment))
        return "reused" if again else ""

    def _is_stray(self, key: Key, segment: Segment) -> bool:
        if segment.flags & SYN:
            return bool(segment.flags & RST)
        if not segment.length or segment.flags & RST:
            return True
        end = (segment.seq + segment.length) & MASK
        return self._table.is_past(key, segment.low, end)

    def _open(self, key: Key, at: Location, *, low: bool, flags: int) -> Connection:
        """A new stream: who is the client, in the order SYN, port, first sender.

        Args:
            key: its four-tuple.
            at: its first packet.
            low: whether the lower endpoint sent that.
            flags: of that packet.
        """
        low_end, high_end = endpoint(key[0], *key[1:4]), endpoint(key[0], *key[4:7])
        low_mail, high_mail = low_end.port in self._ports, high_end.port in self._ports
        if flags & SYN:
            decided_by, client_low = "syn", low == (not flags & ACK)
        elif low_mail != high_mail:
            decided_by, client_low = "port", high_mail
        else:
            decided_by, client_low = "order", low
        client, server = (low_end, high_end) if client_low else (high_end, low_end)
        self._serial += 1
        stream = Stream(
            serial=self._serial,
            client=client,
            server=server,
            opened=at,
            last=at,
            decided_by=decided_by,
            captures=[at.capture],
            reused=self._table.was_used(key),
            # The defaults of these are made by a Python function each, thirteen calls.
            first_data_ns=[None, None],
            fin_ns=[None, None],
            rst_ns=[None, None],
            packets=[0, 0],
            bytes=[0, 0],
            retransmissions=[0, 0],
            out_of_order=[0, 0],
            conflicts=[0, 0],
            zero_windows=[0, 0],
            keep_alives=[0, 0],
            missing=[0, 0],
            mss=[None, None],
            max_segment=[0, 0],
        )
        sides: tuple[Side, Side] = (CLIENT, SERVER) if client_low else (SERVER, CLIENT)
        connection = Connection(
            key, stream, self._limits, Half(stream, sides[0], self._out), Half(stream, sides[1], self._out)
        )
        self._out.append(StreamOpened(stream))
        self._table.add(connection)
        return connection


def _leave(connection: Connection, last: Row | None) -> None:
    """Bring the stream up to date; ``last`` is the latest packet of it in this part."""
    if last is not None:
        connection.stream.last = Location(last[11], last[9], last[10])
    connection.sync()
