"""All connections at once: lookup, budgets over all of them, the closed ones that linger."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final

from smtpdebug.model.packets import Unreachable
from smtpdebug.model.streams import CLIENT, Limits, Location, Stream, StreamClosed, TcpStreamEvent
from smtpdebug.tcp.connection import LINGER_NS, Connection
from smtpdebug.tcp.flows import Key
from smtpdebug.tcp.half import Half
from smtpdebug.tcp.icmp import in_words, quoted_key
from smtpdebug.tcp.sequence import ahead
from smtpdebug.tcp.whole import Settled

LINGERING: Final = 1024
"""Closed streams that wait for stragglers; beyond it the first closed is let go at once."""
PAST: Final = 8192
"""Four-tuples of closed streams remembered, to know stragglers and port reuse."""
RECENT_TOTAL: Final = 32 << 20
"""Octets kept for the comparison of later copies, for all streams."""


class Table:
    """Connections by four-tuple, the one longest untouched first."""

    def __init__(self, limits: Limits, out: deque[TcpStreamEvent]) -> None:
        self._limits, self._out = limits, out
        self._by_key: dict[Key, Connection | Settled] = {}
        self._by_serial: dict[int, Connection | Settled] = {}
        self._uneasy: dict[int, Connection] = {}
        """Those where time alone may bring something, by serial."""
        self._lingering: deque[Connection | Settled] = deque()
        self._past: dict[Key, tuple[int, int]] = {}
        self._held: dict[int, int] = {}
        self._recent = 0
        self.held_bytes = 0
        self.limits_hit: dict[str, int] = {}

    # ---- lookup

    def touch(self, key: Key) -> Connection | None:
        """The connection of a four-tuple, marked as the latest used."""
        connection = self._by_key.pop(key, None)
        if connection is None:
            return None
        if type(connection) is Settled:
            connection = self._revive(connection)
        self._by_key[key] = connection
        return connection  # type: ignore[return-value]  # type() narrows one way only

    def __contains__(self, key: Key) -> bool:
        """Whether a connection of this four-tuple is there."""
        return key in self._by_key

    def by_stream(self, stream: Stream) -> Connection | None:
        """The connection of a stream that is not closed."""
        connection = self._by_serial.get(stream.serial)
        return self._revive(connection) if isinstance(connection, Settled) else connection

    def _revive(self, settled: Settled) -> Connection:
        """A straggler, or somebody who looks: what is over is a connection again, in the same places."""
        connection = settled.revived = settled.revive(self._limits, self._out)
        self._by_serial[settled.stream.serial] = connection
        if settled.key in self._by_key:
            self._by_key[settled.key] = connection
        return connection

    def add(self, connection: Connection | Settled) -> None:
        """A new connection; the one longest untouched makes room if there are too many."""
        while len(self._by_key) >= max(1, self._limits.streams):
            self._hit("streams")
            self.shut(next(iter(self._by_key.values())), "limit")
        self._by_key[connection.key] = connection
        self._by_serial[connection.stream.serial] = connection
        if type(connection) is Settled:
            self._lingering.append(connection)

    def drain(self) -> Iterator[Connection | Settled]:
        """All connections, in the order they were opened."""
        yield from sorted(self._by_key.values(), key=lambda c: c.stream.serial)

    # ---- ends

    def shut(self, connection: Connection | Settled, reason: str) -> None:
        """Name what is missing, give out what is held, and forget the connection."""
        if connection.closed:
            return
        connection.closed = True
        past = connection.past() if isinstance(connection, Settled) else self._end(connection)
        stream, key = connection.stream, connection.key
        self._out.append(StreamClosed(stream, reason))
        if self._by_key.get(key) is connection:
            del self._by_key[key]
        self._by_serial.pop(stream.serial, None)
        self._past.pop(key, None)
        self._past[key] = past
        if len(self._past) > PAST:
            del self._past[next(iter(self._past))]

    def _end(self, connection: Connection) -> tuple[int, int]:
        stream, low, high = connection.stream, connection.low, connection.high
        for half in (low, high) if low.side == CLIENT else (high, low):
            half.flush(stream.last)
        connection.let_out(everything=True)
        connection.sync()
        self._count(connection, 0, 0)
        if connection.dropped_events:
            self._hit("stream_events", connection.dropped_events)
        self._uneasy.pop(stream.serial, None)
        return _past(low), _past(high)

    def was_used(self, key: Key) -> bool:
        """Whether an earlier connection had this four-tuple, as far back as is remembered."""
        return key in self._past

    def is_past(self, key: Key, low: bool, end: int) -> bool:
        """Whether payload up to sequence number ``end`` was part of a stream that is closed."""
        past = self._past.get(key)
        if past is None:
            return False
        expected = past[0] if low else past[1]
        return expected >= 0 and ahead(end, expected) <= 0

    def expire(self, now_ns: int) -> None:
        """Let go of streams closed long enough ago."""
        lingering = self._lingering
        while lingering:
            first = lingering[0]
            if type(first) is Settled:
                first = first.revived or first
            closing = first.closing_ns
            if not first.closed and closing is not None:
                if len(lingering) <= LINGERING and now_ns - closing <= LINGER_NS:
                    return
                self.shut(first, "closed")
            if type(first) is Connection:
                first.lingers = False
            lingering.popleft()

    # ---- after a walk

    def settle(self, connection: Connection) -> None:
        """Bring the budgets and lists up to date after some packets of a connection."""
        if connection.closed:
            return
        serial = connection.stream.serial
        if connection.uneasy():
            self._uneasy[serial] = connection
        elif self._uneasy:
            self._uneasy.pop(serial, None)
        low, high = connection.low, connection.high
        if connection.closing_ns is not None and not connection.lingers:
            connection.lingers = True
            self._lingering.append(connection)
            low.recent.clear()
            high.recent.clear()
        recent = 0
        if low.recent:
            low.trim()
            recent = sum(map(len, low.recent))
        if high.recent:
            high.trim()
            recent += sum(map(len, high.recent))
        self._count(connection, low.held_bytes + high.held_bytes, recent)
        if self._recent > RECENT_TOTAL:
            self._forget_recent()

    def _count(self, connection: Connection, held: int, recent: int) -> None:
        self._recent += recent - connection.recent_bytes
        connection.recent_bytes = recent
        if not held and not self._held:
            return
        serial = connection.stream.serial
        before = self._held.pop(serial, 0)
        if held:
            self._held[serial] = held
        self.held_bytes += held - before

    def _forget_recent(self) -> None:
        for connection in self._by_key.values():
            if type(connection) is Connection and connection.recent_bytes:
                connection.low.recent.clear()
                connection.high.recent.clear()
                self._count(connection, connection.low.held_bytes + connection.high.held_bytes, 0)
                if self._recent <= RECENT_TOTAL // 2:
                    return

    def hush(self, connection: Connection) -> None:
        """Give nothing of it any more."""
        connection.ignored = True
        connection.low.hush()
        connection.high.hush()
        if connection.queue is not None:
            connection.queue.clear()
        self.settle(connection)

    # ---- budgets

    def check_held(self, connection: Connection) -> None:
        """Keep within ``reorder_segments``, ``stream_bytes`` and ``total_bytes``."""
        limits = self._limits
        for half in (connection.low, connection.high):
            while half.held and len(half.held) > limits.reorder_segments:
                self._let_go(half, "reorder_segments")
            while half.held and half.held_bytes > limits.stream_bytes:
                self._let_go(half, "stream_bytes")
        low, high = connection.low, connection.high
        self._count(connection, low.held_bytes + high.held_bytes, connection.recent_bytes)
        while self.held_bytes > limits.total_bytes:
            holder = self._by_serial[next(iter(self._held))]
            assert isinstance(holder, Connection)  # what is settled holds nothing
            for half in (holder.low, holder.high):
                while half.held:
                    self._let_go(half, "total_bytes")
            self._count(holder, 0, holder.recent_bytes)

    def _let_go(self, half: Half, limit: str) -> None:
        self._hit(limit)
        if not half.started:
            half.start(None)
        if half.held:
            half.give_up(half.held[0].offset, half.held[-1].began, "limit")

    def _hit(self, limit: str, times: int = 1) -> None:
        self.limits_hit[limit] = self.limits_hit.get(limit, 0) + times

    # ---- time and ICMP

    def ripen(self, ts_ns: int) -> None:
        """Name the holes that are certain by ``ts_ns``."""
        for connection in list(self._uneasy.values()):
            low, high = connection.low, connection.high
            low.ripen(connection.count, ts_ns, high.heard_ns)
            high.ripen(connection.count, ts_ns, low.heard_ns)
            connection.settle()
            connection.sync()
            self.settle(connection)

    def unreachable(self, key: Key, error: Unreachable) -> None:
        """An ICMP error that quotes a segment of this four-tuple."""
        connection, quoted = self._by_key.get(key), quoted_key(error)
        if connection is None or quoted is None:
            return
        if isinstance(connection, Settled):
            connection = self._revive(connection)
        half = connection.low if quoted[1] else connection.high
        stream = connection.stream
        at = Location(error.capture, error.frame, error.ts_ns)
        if half.isn == error.seq and stream.syn_ack_ns is None and stream.refused_by is None:
            stream.refused_by = "icmp"
        connection.note("unreachable", half.side, at, text=in_words(error))


def _past(half: Half) -> int:
    return half.next_seq if half.base >= 0 else -1
