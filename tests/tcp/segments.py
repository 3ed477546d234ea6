"""Segments written down, made into packet batches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from smtpdebug.model.packets import ACK, FIN, PSH, RST, SYN, PacketBatch, Unreachable
from smtpdebug.model.streams import Chunk, Gap, Limits, Stream, StreamClosed, StreamOpened, TcpStreamEvent
from smtpdebug.tcp.reassembly import Reassembler

MS = 1_000_000
SECOND = 1000 * MS
START = 1_700_000_000 * SECOND
CLIENT_IP, SERVER_IP = 0x0A000007, 0x0A000002

__all__ = ["ACK", "FIN", "PSH", "RST", "SYN"]


@dataclass(frozen=True)
class Seg:
    """One TCP segment; ``ts_ns`` counts from ``START``."""

    src: int
    dst: int
    sport: int
    dport: int
    flags: int = ACK
    seq: int = 0
    ack: int = 0
    data: bytes = b""
    ts_ns: int = 0
    window: int = 500
    length: int | None = None
    frame: int = 0
    capture: int = 0
    version: int = 4


@dataclass
class Wire:
    """Two ends that talk; each call appends a segment. Offsets are relative to the octet after the SYN."""

    sport: int = 54170
    dport: int = 25
    client_isn: int = 1000
    server_isn: int = 5000
    segments: list[Seg] = field(default_factory=list)
    step_ns: int = MS
    now_ns: int = 0
    client_ip: int = CLIENT_IP
    server_ip: int = SERVER_IP
    version: int = 4

    def put(
        self,
        side: str,
        flags: int,
        seq: int,
        ack: int = 0,
        data: bytes = b"",
        window: int = 500,
        length: int | None = None,
    ) -> Seg:
        """``seq`` and ``ack`` as offsets (-1 is the SYN itself)."""
        mine, theirs = (self.client_isn, self.server_isn) if side == "C" else (self.server_isn, self.client_isn)
        ends = (self.client_ip, self.server_ip, self.sport, self.dport)
        if side == "S":
            ends = (self.server_ip, self.client_ip, self.dport, self.sport)
        self.now_ns += self.step_ns
        segment = Seg(
            *ends,
            flags=flags,
            seq=(mine + 1 + seq) % (1 << 32),
            ack=(theirs + 1 + ack) % (1 << 32) if flags & ACK else 0,
            data=data,
            ts_ns=self.now_ns,
            window=window,
            length=length,
            version=self.version,
        )
        self.segments.append(segment)
        return segment

    def handshake(self) -> Wire:
        self.put("C", SYN, -1)
        self.put("S", SYN | ACK, -1, 0)
        self.put("C", ACK, 0, 0)
        return self

    def c(self, seq: int, data: bytes = b"", ack: int = 0, flags: int = ACK | PSH, **more: int) -> Wire:
        self.put("C", flags, seq, ack, data, **more)
        return self

    def s(self, seq: int, data: bytes = b"", ack: int = 0, flags: int = ACK | PSH, **more: int) -> Wire:
        self.put("S", flags, seq, ack, data, **more)
        return self

    def wait(self, ns: int) -> Wire:
        self.now_ns += ns
        return self


def numbered(segments: Iterable[Seg]) -> list[Seg]:
    """With frame numbers from 1 in this order."""
    return [replace(segment, frame=number) for number, segment in enumerate(segments, 1)]


def batch(
    segments: Sequence[Seg], captures: tuple[str, ...] = ("a.pcap",), unreachable: tuple[Unreachable, ...] = ()
) -> PacketBatch:
    """One batch; segments without a frame number are numbered from 1."""
    if segments and not segments[0].frame:
        segments = numbered(segments)
    payloads = [s.data for s in segments]
    captured = np.array([len(p) for p in payloads], dtype=np.int32)
    ends = np.cumsum(captured, dtype=np.int64)

    def column(values: Iterable[int], dtype: type) -> np.ndarray:
        return np.array(list(values), dtype=dtype)

    low = (1 << 64) - 1
    return PacketBatch(
        buf=b"".join(payloads),
        captures=captures,
        capture=column((s.capture for s in segments), np.int32),
        frame=column((s.frame for s in segments), np.int64),
        ts_ns=column((START + s.ts_ns for s in segments), np.int64),
        version=column((s.version for s in segments), np.uint8),
        src_hi=column((s.src >> 64 for s in segments), np.uint64),
        src_lo=column((s.src & low for s in segments), np.uint64),
        dst_hi=column((s.dst >> 64 for s in segments), np.uint64),
        dst_lo=column((s.dst & low for s in segments), np.uint64),
        sport=column((s.sport for s in segments), np.uint16),
        dport=column((s.dport for s in segments), np.uint16),
        seq=column((s.seq for s in segments), np.uint32),
        ack=column((s.ack for s in segments), np.uint32),
        flags=column((s.flags for s in segments), np.uint8),
        window=column((s.window for s in segments), np.uint16),
        ttl=column((64 for _ in segments), np.uint8),
        dont_fragment=np.ones(len(segments), dtype=np.bool_),
        start=ends - captured,
        captured=captured,
        length=column((len(s.data) if s.length is None else s.length for s in segments), np.int32),
        unreachable=unreachable,
        packets=len(segments),
    )


@dataclass
class Seen:
    """What the reassembler gave, by stream."""

    events: list[TcpStreamEvent]
    reassembler: Reassembler

    @property
    def streams(self) -> list[Stream]:
        return [e.stream for e in self.events if isinstance(e, StreamOpened)]

    @property
    def stream(self) -> Stream:
        (only,) = self.streams
        return only

    def of(self, stream: Stream, side: int) -> list[Chunk | Gap]:
        return [e for e in self.events if isinstance(e, Chunk | Gap) and e.stream is stream and e.side == side]

    def bytes(self, side: int, stream: Stream | None = None) -> bytes:
        items = self.of(stream or self.stream, side)
        return b"".join(e.data for e in items if isinstance(e, Chunk))

    def gaps(self, side: int, stream: Stream | None = None) -> list[tuple[int, int, str]]:
        items = self.of(stream or self.stream, side)
        return [(e.offset, e.length, e.reason) for e in items if isinstance(e, Gap)]

    @property
    def closings(self) -> list[str]:
        return [e.reason for e in self.events if isinstance(e, StreamClosed)]

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.stream.events]


def run(
    segments: Sequence[Seg] | Wire, *, cuts: Sequence[int] = (), limits: Limits | None = None, close: bool = True
) -> Seen:
    """Feed segments, cut into batches before the given indexes."""
    rows = numbered(segments.segments if isinstance(segments, Wire) else segments)
    reassembler = Reassembler(limits or Limits())
    events: list[TcpStreamEvent] = []
    edges = [0, *sorted(cuts), len(rows)]
    for begin, end in pairwise(edges):
        if end > begin:
            events.extend(reassembler.feed(batch(rows[begin:end])))
    if close:
        events.extend(reassembler.close())
    return Seen(events, reassembler)
