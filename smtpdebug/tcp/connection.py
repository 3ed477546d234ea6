"""One connection: two directions, the handshake and the end, and what is noted of them on the ``Stream``."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

import msgspec

from smtpdebug.model.packets import ACK, FIN, RST, SYN
from smtpdebug.model.streams import (
    CLIENT,
    SERVER,
    Chunk,
    Gap,
    Limits,
    Location,
    Side,
    Stream,
    TcpEvent,
)
from smtpdebug.tcp.flows import Key
from smtpdebug.tcp.half import Half, Held
from smtpdebug.tcp.handshake import NEAR, take_syn
from smtpdebug.tcp.segment import Segment
from smtpdebug.tcp.sequence import MASK, ahead, plausible

START_PACKETS: Final = 4
"""Packets to wait, without a SYN, for earlier data or the peer's first ACK."""
LINGER_NS: Final = 5_000_000_000
"""Packets this long after the close still belong to the connection."""

_NAMES: Final = ("client", "server")


class Connection(msgspec.Struct, eq=False, gc=False):
    """State of one four-tuple."""

    key: Key
    stream: Stream
    limits: Limits
    low: Half
    high: Half
    plain: bool = False
    """Nothing is special: the short way may be taken."""
    count: int = 0
    """Packets that took the long way: all of them while something is missing."""
    closing_ns: int | None = None
    closed: bool = False
    ignored: bool = False
    shaken: bool = False
    """The client has acknowledged the SYN-ACK."""
    lingers: bool = False
    early_ack: tuple[int, int, int] | None = None
    """Number, time and frame of a client's ACK captured before the SYN-ACK."""
    dropped_events: int = 0
    knocks: list[Segment] = []
    """SYNs with another number that may be a stray or the four-tuple used again: the server's answer tells."""
    queue: list[tuple[int, Chunk | Gap]] | None = None
    """See ``Half.queue``, which is the same list."""
    recent_bytes: int = 0

    def half(self, side: Side) -> Half:
        """The direction that ``side`` sends."""
        return self.low if self.low.side == side else self.high

    # ---- one packet, the long way

    def packet(self, segment: Segment, at: Location, buf: bytes) -> None:
        """Take a segment that belongs to this connection."""
        half, peer = (self.low, self.high) if segment.low else (self.high, self.low)
        flags, ts_ns = segment.flags, segment.ts_ns
        self.count += 1
        half.packets += 1
        half.now = peer.now = self.count
        if half.held or peer.held or half.evidence or peer.evidence or half.ripe or peer.ripe:
            self.low.ripen(self.count, ts_ns, self.high.heard_ns)
            self.high.ripen(self.count, ts_ns, self.low.heard_ns)
        if ts_ns > half.heard_ns:
            half.heard_ns = ts_ns
        if flags & SYN:
            take_syn(self, half, segment, at)
        if flags & RST:
            self._rst(half, peer, segment, at)
            self.settle()
            return
        acked = self._acknowledged(half, peer, segment, at) if flags & ACK else -1
        if peer.evidence and self.queue is None:
            self.queue = half.queue = peer.queue = []
        if not flags & SYN:
            self._window(half, segment, at)
        if segment.length or not flags & (SYN | FIN):
            self._payload(half, peer, segment, at, acked, buf)
        if flags & FIN:
            self._fin(half, segment, at)
        self.settle()

    def settle(self) -> None:
        """Start what waited long enough, see the end, and decide whether the short way is open."""
        low, high = self.low, self.high
        for half in (low, high):
            if half.held and not half.started:
                waited = self.count - half.first_held_count
                if waited >= START_PACKETS or half.fin >= 0 or self.closing_ns is not None:
                    half.start(None)
            if half.evidence:
                half.forget_evidence()
        if self.queue is not None:
            self.let_out()
        if self.closing_ns is None and low.fin_acked and high.fin_acked:
            self.closing_ns = max(low.heard_ns, high.heard_ns)
        shaken = self.shaken or self.stream.syn_ack_ns is None
        self.plain = shaken and self.closing_ns is None and low.calm() and high.calm()

    def let_out(self, *, everything: bool = False) -> None:
        """Give the queued events in the order of their packets, up to the oldest open question."""
        queue = self.queue
        if queue is None:
            return
        open_since = [half.evidence[0].count for half in (self.low, self.high) if half.evidence]
        horizon = min(open_since, default=0)
        queue.sort(key=_order)
        if not open_since or everything:
            self.low.out.extend(event for _, event in queue)
            self.queue = self.low.queue = self.high.queue = None
            return
        ready = bisect_left(queue, horizon, key=_order)
        self.low.out.extend(event for _, event in queue[:ready])
        del queue[:ready]

    def uneasy(self) -> bool:
        """Time alone may bring something: a hole or an undecided start."""
        low, high = self.low, self.high
        return bool(low.held or high.held or low.evidence or high.evidence)

    # ---- handshake

    def _acknowledged(self, half: Half, peer: Half, segment: Segment, at: Location) -> int:
        """What the segment's ACK says of the other direction; its offset there, or -1."""
        ack, stream = segment.ack, self.stream
        if half.side == CLIENT and not self.shaken and not segment.flags & SYN:
            if peer.isn < 0:
                self.early_ack = (ack, segment.ts_ns, segment.frame)
            elif (distance := ahead(ack, peer.isn)) >= 1:
                self.shaken = True
                if (
                    distance <= 1 + peer.on_syn
                ):  # an ACK of more came later: the one of the handshake is not in the capture
                    stream.established_ns, stream.established_frame = segment.ts_ns, segment.frame
        if peer.base < 0:
            peer.begin(ack, certain=True)
        elif not peer.started:
            peer.start(ack)
        distance = ahead(ack, peer.next_seq)
        if not plausible(distance):
            return -1
        offset = peer.next + distance
        if offset > peer.acked:
            peer.acknowledge(offset, self.count, at)
        return max(offset, 0) if peer.fin < 0 else max(min(offset, peer.fin), 0)

    # ---- payload

    def _payload(self, half: Half, peer: Half, segment: Segment, at: Location, acked: int, buf: bytes) -> None:
        length, begin = segment.length, segment.start
        seq = segment.seq + 1 if segment.flags & SYN else segment.seq
        if half.base < 0:
            if not length:
                return
            half.begin(seq, certain=False)
        distance = ahead(seq & MASK, half.next_seq)
        if not plausible(distance):
            if length:
                self.stream.out_of_order[half.side] += 1
            return
        offset = half.next + distance
        if distance == -1 and length <= 1 and half.started and half.touched and half.acked >= half.next:
            self._keep_alive(half, peer, at)
            return
        if not length:
            if distance == -1 and half.started and (half.touched or half.isn >= 0):
                self._keep_alive(half, peer, at)
            return
        if half.first_data_ns is None:
            half.first_data_ns = segment.ts_ns
        half.largest = max(half.largest, length)
        data = buf[begin : begin + min(segment.captured, length)]
        end = offset + length
        if 0 <= half.fin < end:
            self.note("data-after-fin", half.side, at, max(offset, half.fin), end - max(offset, half.fin))
            if half.fin <= offset:
                return
            data, end = data[: half.fin - offset], half.fin
        if length == 1 and peer.zero_window and distance == 0:
            self.note("zero-window-probe", half.side, at, offset, 1)
        self._place(half, Held(offset, end, data, at, acked, self.count))

    def _keep_alive(self, half: Half, peer: Half, at: Location) -> None:
        if peer.zero_window:
            self.note("zero-window-probe", half.side, at, half.next)
            return
        self.stream.keep_alives[half.side] += 1
        self.note("keep-alive", half.side, at, half.next)

    def _place(self, half: Half, new: Held) -> None:
        """Give out, hold or count a segment, by where it lies."""
        if not half.started:
            if not half.held:
                half.first_held_count = self.count
            self._hold(half, new)
            return
        if new.offset < half.next:
            if half.isn < 0 and not half.touched:
                half.rewind(new.offset)
                new = Held(half.next, half.next + new.end - new.offset, new.data, new.began, new.acked, new.order)
            else:
                overlap = self._repeated(half, new)
                if overlap is None:
                    return
                new = overlap
        if new.offset > half.next:
            self._hold(half, new)
            return
        if not half.held:
            if half.acked > new.offset or half.fin >= 0:
                self.stream.out_of_order[half.side] += half.acked > new.offset
            half.deliver(new, new.began)
            return
        self.stream.out_of_order[half.side] += 1
        self._hold(half, new)
        half.release(new.began)

    def _repeated(self, half: Half, new: Held) -> Held | None:
        """A segment that begins before ``next``: count the copy, return what is new of it."""
        side, shared = half.side, min(new.end, half.next) - new.offset
        self.stream.retransmissions[side] += 1
        self.note("retransmission", side, new.began, new.offset, shared)
        self._conflict(half, half.conflicts(new.offset, new.data), new)
        return new.cut(half.next, new.end) if new.end > half.next else None

    def _hold(self, half: Half, new: Held) -> None:
        fresh, conflicts = half.hold(new)
        if not fresh:
            self.stream.retransmissions[half.side] += 1
            self.note("retransmission", half.side, new.began, new.offset, new.end - new.offset)
        self._conflict(half, conflicts, new)

    def _conflict(self, half: Half, octets: int, new: Held) -> None:
        if octets:
            self.stream.conflicts[half.side] += octets
            self.note("conflicting-overlap", half.side, new.began, new.offset, octets)

    # ---- window and end

    def _window(self, half: Half, segment: Segment, at: Location) -> None:
        if not segment.window:
            self.stream.zero_windows[half.side] += 1
            if not half.zero_window:
                half.zero_window = True
                self.note("zero-window", half.side, at)
        elif half.zero_window:
            half.zero_window = False
            self.note("window-open", half.side, at)

    def _fin(self, half: Half, segment: Segment, at: Location) -> None:
        if half.base < 0:
            half.begin(segment.seq, certain=True)
        distance = ahead(segment.seq, half.next_seq)
        if not plausible(distance) or (half.fin >= 0 and segment.length == 0):
            return
        # ``next`` may have moved past this segment's own payload.
        offset = half.next + distance + segment.length
        if half.fin >= 0 or offset < half.next:
            return
        half.fin = offset
        stream, side = self.stream, half.side
        if stream.fin_ns[side] is None:
            stream.fin_ns[side] = segment.ts_ns
            self.note("fin", side, at, offset)
        stream.closed_by = stream.closed_by or f"{_NAMES[side]}-fin"
        half.clamp()

    def _rst(self, half: Half, peer: Half, segment: Segment, at: Location) -> None:
        stream, side = self.stream, half.side
        if not self._rst_fits(half, peer, segment):
            self.note("rst-ignored", side, at)
            return
        self.note("rst", side, at)
        if stream.rst_ns[side] is None:
            stream.rst_ns[side] = segment.ts_ns
        stream.closed_by = stream.closed_by or f"{_NAMES[side]}-rst"
        if side == SERVER and stream.complete and half.isn < 0 and not half.touched:
            stream.refused_by = "rst"
        if self.closing_ns is None:
            self.closing_ns = segment.ts_ns

    @staticmethod
    def _rst_fits(half: Half, peer: Half, segment: Segment) -> bool:
        """RFC 5961 section 3: a reset far from what is expected is not obeyed."""
        if half.base < 0 or abs(ahead(segment.seq, half.next_seq)) < NEAR:
            return True
        return bool(segment.flags & ACK) and peer.base >= 0 and abs(ahead(segment.ack, peer.next_seq)) < NEAR

    # ---- bookkeeping

    def seen_in(self, capture: str) -> None:
        """A packet of it is in this capture."""
        if capture not in self.stream.captures:
            self.stream.captures.append(capture)

    def note(self, kind: str, side: Side, at: Location, offset: int = -1, length: int = 0, text: str = "") -> None:
        """Keep a TcpEvent, up to the limit."""
        events = self.stream.events
        if len(events) < self.limits.stream_events:
            events.append(TcpEvent(kind, side, at, offset, length, text))
        else:
            self.dropped_events += 1

    def sync(self) -> None:
        """Bring the counters kept on the directions to the stream."""
        stream = self.stream
        for half in (self.low, self.high):
            side = half.side
            stream.packets[side] = half.packets
            stream.bytes[side] = half.unique
            stream.missing[side] = half.missing
            stream.max_segment[side] = half.largest
            stream.first_data_ns[side] = half.first_data_ns

    def flip(self) -> None:
        """Client and server are the other way round."""
        stream = self.stream
        for half in (self.low, self.high):
            half.side = other(half.side)
        stream.client, stream.server = stream.server, stream.client
        for name in ("first_data_ns", "fin_ns", "rst_ns", "packets", "bytes", "retransmissions", "out_of_order",
                     "conflicts", "zero_windows", "keep_alives", "missing", "mss", "max_segment"):  # fmt: skip
            getattr(stream, name).reverse()
        stream.events = [TcpEvent(e.kind, other(e.side), e.at, e.offset, e.length, e.note) for e in stream.events]
        if stream.closed_by:
            side, _, how = stream.closed_by.partition("-")
            stream.closed_by = f"{'server' if side == 'client' else 'client'}-{how}"
        stream.decided_by = "content"


def _order(item: tuple[int, Chunk | Gap]) -> int:
    return item[0]


def other(side: Side) -> Side:
    """The other side."""
    return SERVER if side == CLIENT else CLIENT
