"""One direction of a connection: what came, in which order, and what is still missing.

Offsets count octets from the one after the SYN; sequence numbers become offsets by their distance to the next one
expected. Of each octet the first copy that was captured counts.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from typing import Final

import msgspec

from smtpdebug.model.streams import Chunk, Gap, Location, Side, Stream, TcpStreamEvent
from smtpdebug.tcp.sequence import MASK, ahead

RECENT: Final = 64 << 10
"""Octets already given out that are kept to compare later copies with."""
PIECES: Final = 256
"""Segments in which they are kept at most."""
GRACE_PACKETS: Final = 16
GRACE_NS: Final = 1_000_000_000
"""Data may be captured after its own ACK (two taps, several queues): how much later."""
SILENT_NS: Final = 3_000_000_000
"""How long a hole stays open that nobody acknowledges, when the other side is not heard at all."""
START_REACH: Final = 1 << 20
"""How far before the first data a first ACK may lie and still say where the capture's part begins."""


class Held(msgspec.Struct, frozen=True, gc=False):
    """A segment, or what is new of it, that came before its turn. ``data`` is short where the capture cut it."""

    offset: int
    end: int
    data: bytes
    began: Location
    acked: int
    order: int
    """Packets of the connection when it came."""

    def cut(self, begin: int, end: int) -> Held:
        """The part from offset ``begin`` to ``end``."""
        return Held(begin, end, self.data[begin - self.offset : end - self.offset], self.began, self.acked, self.order)


class Evidence(msgspec.Struct, frozen=True, gc=False):
    """The peer acknowledged up to ``offset`` although that is not in the capture (yet)."""

    offset: int
    count: int
    """Packets of the connection so far."""
    at: Location


class Half(msgspec.Struct, eq=False, gc=False):
    """One direction: who sends is ``side``, and events go to ``out``."""

    stream: Stream
    side: Side
    out: deque[TcpStreamEvent]
    isn: int = -1
    on_syn: int = 0
    """Octets of data that came with the SYN (RFC 7413)."""
    base: int = -1
    """Sequence number of offset 0, or -1."""
    started: bool = False
    """Where the stream begins is settled: by the SYN, the peer's ACK, or after a few packets."""
    touched: bool = False
    """Something of this direction was given out."""
    next: int = 0
    next_seq: int = 0
    held: list[Held] = []
    held_bytes: int = 0
    first_held_count: int = 0
    recent: list[bytes] = []
    acked: int = -1
    """Highest offset that the peer acknowledged."""
    evidence: list[Evidence] = []
    ripe: Evidence | None = None
    """The latest whose grace is over."""
    queue: list[tuple[int, Chunk | Gap]] | None = None
    """Where events go, with the number of their packet, while it is open whether acknowledged data still comes:
    what the other side says meanwhile must not overtake it."""
    order: int = 0
    now: int = 0
    """Of the latest event; of the latest packet."""
    fin: int = -1
    fin_acked: bool = False
    zero_window: bool = False
    quiet: bool = False
    """Nobody wants the bytes: count only, and compare no copies."""
    packets: int = 0
    unique: int = 0
    missing: int = 0
    largest: int = 0
    first_data_ns: int | None = None
    heard_ns: int = 0
    """Last packet from this side that took the slow path."""

    # ---- where it begins

    def begin(self, seq: int, *, certain: bool) -> None:
        """Offset 0 is ``seq``; when not certain, only until :meth:`start`."""
        self.base = self.next_seq = seq & MASK
        self.next, self.started = 0, certain

    def start(self, seq: int | None) -> None:
        """Settle where a direction without a SYN begins: the lowest data seen, or the peer's ACK just before it."""
        lowest = self.held[0].offset if self.held else 0
        if seq is not None:
            offset = ahead(seq, self.next_seq)
            if lowest - START_REACH < offset < lowest:
                lowest = offset
        self._shift(lowest)
        self.started = True
        self.release(None)

    def rewind(self, offset: int) -> None:
        """Data before the assumed begin, while nothing was given out: begin there."""
        self.missing = 0
        if offset >= 0:
            self.next, self.next_seq = offset, (self.base + offset) & MASK
        else:
            self.next, self.next_seq = 0, self.base
            self._shift(offset)

    def rebase(self, seq: int) -> None:
        """Offset 0 is ``seq`` after all; nothing was given out yet."""
        self.next, self.next_seq = 0, self.base
        self._shift(ahead(seq, self.base))
        self.held = [item for item in self.held if item.offset >= 0]
        self.held_bytes = sum(len(item.data) for item in self.held)
        self.started = True
        self.release(None)

    def _shift(self, by: int) -> None:
        if by:
            self.base = self.next_seq = (self.base + by) & MASK
            self.held = [Held(h.offset - by, h.end - by, h.data, h.began, h.acked, h.order) for h in self.held]
            self.fin = self.fin - by if self.fin >= 0 else -1
            self.acked = self.acked - by if self.acked >= 0 else -1
            self.ripe = None
            self.evidence = [Evidence(e.offset - by, e.count, e.at) for e in self.evidence]

    def skip(self, offset: int) -> None:
        """Nothing of this direction is captured: follow the peer's ACKs, so that they keep their meaning.

        One octet more is rather the FIN.
        """
        self.missing += offset - self.next if offset - self.next > 1 else 0
        self.next, self.next_seq = offset, (self.base + offset) & MASK

    # ---- bytes

    def deliver(self, item: Held, at: Location) -> None:
        """Give out a segment that begins at ``next``; what the capture cut off is a gap.

        Args:
            item: the segment.
            at: the packet that made it available in order.
        """
        data, offset = item.data, self.next
        have = len(data)
        self.touched = True
        self.unique += have
        if have and not self.quiet:
            order = item.order if self.acked < item.end else min(item.order, self._when_acked(item.end))
            self._emit(Chunk(self.stream, self.side, offset, data, item.began, at, item.acked), order)
            self.recent.append(data)
            if len(self.recent) >= PIECES:
                self.trim()
        self.next, self.next_seq = item.end, (self.base + item.end) & MASK
        if offset + have < item.end:
            self._gap(offset + have, item.end, item.began, "snaplen", item.order)

    def _gap(self, begin: int, end: int, at: Location, reason: str, order: int) -> None:
        self.touched = True
        self.recent.clear()
        self.missing += end - begin
        self.next, self.next_seq = end, (self.base + end) & MASK
        if not self.quiet:
            self._emit(Gap(self.stream, self.side, begin, end - begin, at, reason), order)

    def _emit(self, event: Chunk | Gap, order: int) -> None:
        """Give an event, or keep it in its place among those of the other side, see ``queue``."""
        if self.queue is None:
            self.out.append(event)
            return
        self.order = max(self.order, order)
        self.queue.append((self.order, event))

    def _when_acked(self, offset: int) -> int:
        """Just before the packet that acknowledged up to ``offset``: its sender had the data by then."""
        for found in self.evidence:
            if found.offset >= offset:
                return found.count - 1
        return self.ripe.count - 1 if self.ripe is not None and self.ripe.offset >= offset else self.now

    def trim(self) -> None:
        """Forget what is older than the last ``RECENT`` octets."""
        if len(self.recent) >= PIECES:
            # Joined, so that segments of an octet each are not counted again and again.
            self.recent[:] = [b"".join(self.recent)[-RECENT:]]
            return
        size, keep = 0, 0
        for data in reversed(self.recent):
            if size >= RECENT:
                break
            size += len(data)
            keep += 1
        del self.recent[: len(self.recent) - keep]

    def conflicts(self, offset: int, data: bytes) -> int:
        """How many octets of a later copy differ from those given out, as far back as they are kept."""
        known = b"".join(self.recent)[-RECENT:]
        begin = max(offset, self.next - len(known))
        end = min(offset + len(data), self.next)
        if begin >= end:
            return 0
        where = begin - (self.next - len(known))
        return _differing(data[begin - offset : end - offset], known[where : where + end - begin])

    def hold(self, new: Held) -> tuple[int, int]:
        """Keep a segment until its turn: ``(new octets, octets that differ from a held copy)``."""
        held = self.held
        if not held or held[-1].end <= new.offset:
            held.append(new)
            self.held_bytes += len(new.data)
            return new.end - new.offset, 0
        first = bisect_right(held, new.offset, key=_offset)
        if first and held[first - 1].end > new.offset:
            first -= 1
        last, cursor, fresh, conflicts = first, new.offset, 0, 0
        pieces: list[Held] = []
        while last < len(held) and held[last].offset < new.end:
            old = held[last]
            if cursor < old.offset:
                pieces.append(new.cut(cursor, old.offset))
            shared = max(old.offset, new.offset)
            conflicts += _differing(old.cut(shared, old.end).data, new.cut(shared, new.end).data)
            pieces.append(old)
            cursor = max(cursor, old.end)
            last += 1
        if cursor < new.end:
            pieces.append(new.cut(cursor, new.end))
        for piece in pieces:
            if piece.began is new.began:
                fresh += piece.end - piece.offset
                self.held_bytes += len(piece.data)
        held[first:last] = pieces
        return fresh, conflicts

    def release(self, at: Location | None) -> None:
        """Give out held segments whose turn it is; ``at`` is the packet that made it so, ``None`` for no wait."""
        held, taken = self.held, 0
        while taken < len(held) and held[taken].offset == self.next:
            item = held[taken]
            self.deliver(item, at or item.began)
            self.held_bytes -= len(item.data)
            taken += 1
        del held[:taken]

    # ---- holes

    def hole_end(self) -> int:
        """Where what is missing at ``next`` ends, as far as the capture says; -1 for no hole or an open one."""
        if self.held:
            return self.held[0].offset
        return self.fin if self.fin > self.next else -1

    def give_up(self, limit: int, at: Location, reason: str) -> None:
        """Name the holes up to ``limit`` and give out what stands behind them."""
        while True:
            end = self.hole_end()
            if end < 0:
                # One octet with nothing after it is more likely the FIN, which the capture lacks.
                if limit <= self.next or (self.fin < 0 and limit == self.next + 1):
                    return
                end = limit
            if end > limit:
                if limit <= self.next:
                    return
                end = limit  # what is acknowledged is lost here; of the rest a later packet tells
            order = self._when_acked(end)
            self._gap(self.next, end, at, reason, min(order, self.held[0].order) if self.held else min(order, self.now))
            self.release(None)

    def ripen(self, count: int, ts_ns: int, heard_ns: int) -> None:
        """Name the holes that are certain by now.

        Args:
            count: packets of the connection so far, this one included.
            ts_ns: the time by the packets.
            heard_ns: when the other side was last heard.
        """
        if not self.started:
            if self.held and ts_ns - self.held[0].began.ts_ns > GRACE_NS:
                self.start(None)
            return
        evidence = self.evidence
        while evidence and (count - evidence[0].count > GRACE_PACKETS or ts_ns - evidence[0].at.ts_ns > GRACE_NS):
            self._believe(evidence.pop(0))
        if self.ripe is not None and self.ripe.offset > self.next:
            self._believe(self.ripe)
        held = self.held
        if held and ts_ns - held[0].began.ts_ns > SILENT_NS and heard_ns < held[0].began.ts_ns:
            self.give_up(held[0].offset, held[0].began, "lost")

    def _believe(self, found: Evidence) -> None:
        self.ripe = found
        self.give_up(found.offset, found.at, "lost")

    def acknowledge(self, offset: int, count: int, at: Location) -> None:
        """The peer has everything before ``offset``."""
        if self.fin >= 0 and offset > self.fin:
            self.fin_acked = True
            offset = self.fin
        if offset <= self.acked:
            return
        self.acked = offset
        if offset > self.next:
            if self.packets:
                self.evidence.append(Evidence(offset, count, at))
            else:
                self.skip(offset)

    def forget_evidence(self) -> None:
        """Drop what has come after all, or was named missing."""
        evidence = self.evidence
        while evidence and evidence[0].offset <= self.next:
            evidence.pop(0)

    def clamp(self) -> None:
        """The FIN is known: an ACK beyond it acknowledges no more data."""
        if self.acked > self.fin:
            self.fin_acked, self.acked = True, self.fin
        if self.ripe is not None:
            self.ripe = Evidence(min(self.ripe.offset, self.fin), self.ripe.count, self.ripe.at)
        self.evidence = [Evidence(min(e.offset, self.fin), e.count, e.at) for e in self.evidence]

    def flush(self, at: Location) -> None:
        """The stream ends: name every hole, give out everything."""
        if not self.started:
            self.start(None)
        while self.evidence:
            self._believe(self.evidence.pop(0))
        while (end := self.hole_end()) >= 0:
            self.give_up(end, at, "closed")
        self.recent.clear()

    def hush(self) -> None:
        """Count only, from here on: what is given out is kept back, all else goes on, so that the counts do not depend
        on when this was asked."""
        self.quiet = True
        self.recent.clear()

    def calm(self) -> bool:
        """Nothing is held, missing or ending: segments in order may take the short way."""
        return self.started and not self.held and self.acked <= self.next and self.fin < 0 and not self.zero_window


def _offset(item: Held) -> int:
    return item.offset


def _differing(a: bytes, b: bytes) -> int:
    size = min(len(a), len(b))
    if a[:size] == b[:size]:
        return 0
    return sum(x != y for x, y in zip(a, b, strict=False))
