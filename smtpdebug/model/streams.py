"""TCP: where a byte was seen, what a stream is, and the events that reassembly gives."""

from __future__ import annotations

from itertools import repeat
from typing import Final, Literal, TypeAlias

import msgspec

CLIENT: Final = 0
SERVER: Final = 1
Side: TypeAlias = Literal[0, 1]

PLAIN_PORTS: Final = frozenset({24, 25, 587, 2525, 2587})
"""LMTP, SMTP and submission, with or without STARTTLS, and the usual alternatives."""
TLS_PORTS: Final = frozenset({465, 2465})
"""TLS from the first byte (RFC 8314 section 3.3)."""
MAIL_PORTS: Final = PLAIN_PORTS | TLS_PORTS


class Location(msgspec.Struct, frozen=True, gc=False):
    """Where in the captures something was seen: every finding points to one."""

    capture: str
    frame: int
    ts_ns: int


class Endpoint(msgspec.Struct, frozen=True, gc=False):
    """An address (IPv6 in its short form, without brackets) and a TCP port."""

    ip: str
    port: int


class TcpEvent(msgspec.Struct, frozen=True, gc=False):
    """Something TCP did that a person may need to know, kept for the transcript and the diagnoses (bounded).

    ``kind`` is one of: ``syn-repeated``, ``syn-ack-repeated``, ``retransmission``, ``conflicting-overlap``,
    ``zero-window``, ``zero-window-probe``, ``window-open``, ``keep-alive``, ``fin``, ``rst``, ``unreachable``,
    ``data-after-fin``, ``rst-ignored``.
    """

    kind: str
    side: Side
    """Who sent the segment."""
    at: Location
    offset: int = -1
    """Stream offset in that direction, where it applies."""
    length: int = 0
    """Bytes, where it applies."""
    note: str = ""


class Stream(msgspec.Struct, gc=False, eq=False):
    """One TCP connection and what is known of it; the reassembler keeps it up to date as packets come.

    Pairs are ``[client, server]``. Times are nanoseconds since the epoch; ``None`` where not seen.
    """

    serial: int
    """Number within this run: a handle, never shown (identity is by content)."""
    client: Endpoint
    server: Endpoint
    opened: Location
    """First packet."""
    last: Location
    """Last packet so far."""
    complete: bool = False
    """The SYN was seen, so that offsets begin at the true first byte."""
    decided_by: str = "order"
    """How client and server were told apart: ``syn``, ``port``, ``order`` (first seen is the client), ``content``."""
    captures: list[str] = []
    syn_ns: int | None = None
    """First SYN."""
    last_syn_ns: int | None = None
    """The SYN that was answered (the last one before the SYN-ACK)."""
    syn_ack_ns: int | None = None
    established_ns: int | None = None
    """The client's ACK that completes the handshake; ``None`` where that packet is not in the capture."""
    established_frame: int = 0
    """That ACK's frame."""
    first_data_ns: list[int | None] = msgspec.field(default_factory=lambda: [None, None])
    syn_retransmissions: int = 0
    syn_ack_retransmissions: int = 0
    refused_by: str | None = None
    """``rst`` or ``icmp`` where the SYN was refused."""
    closed_by: str | None = None
    """The first to close: ``client-fin``, ``server-fin``, ``client-rst``, ``server-rst``."""
    fin_ns: list[int | None] = msgspec.field(default_factory=lambda: [None, None])
    rst_ns: list[int | None] = msgspec.field(default_factory=lambda: [None, None])
    packets: list[int] = msgspec.field(default_factory=lambda: [0, 0])
    bytes: list[int] = msgspec.field(default_factory=lambda: [0, 0])
    """Unique payload bytes, gaps not counted."""
    retransmissions: list[int] = msgspec.field(default_factory=lambda: [0, 0])
    out_of_order: list[int] = msgspec.field(default_factory=lambda: [0, 0])
    conflicts: list[int] = msgspec.field(default_factory=lambda: [0, 0])
    """Bytes that came again with other content (first copy wins)."""
    zero_windows: list[int] = msgspec.field(default_factory=lambda: [0, 0])
    keep_alives: list[int] = msgspec.field(default_factory=lambda: [0, 0])
    missing: list[int] = msgspec.field(default_factory=lambda: [0, 0])
    """Bytes lost to gaps."""
    mss: list[int | None] = msgspec.field(default_factory=lambda: [None, None])
    max_segment: list[int] = msgspec.field(default_factory=lambda: [0, 0])
    """Largest payload seen in one packet."""
    events: list[TcpEvent] = []
    reused: bool = False
    """The same four-tuple carried an earlier connection in this capture."""


class StreamOpened(msgspec.Struct, frozen=True, gc=False):
    """The first packet of a connection was seen."""

    stream: Stream


class Chunk(msgspec.Struct, gc=False):
    """Bytes of one direction, in order, none twice. Never empty.

    ``began`` is the packet that carried the bytes, ``at`` the packet that made them available in order; the same
    unless an earlier segment came late.
    """

    stream: Stream
    side: Side
    """Who sent the bytes."""
    offset: int
    """Offset of the first byte in this direction; 0 is the byte after the SYN. In TLS: of the plaintext."""
    data: bytes
    began: Location
    at: Location
    acked: int = -1
    """How many bytes of the other direction the carrying packet acknowledged (its ACK as a stream offset): what the
    sender had received when it sent this. -1 where unknown (always so inside TLS)."""
    encrypted: bool = False
    """Came out of a decryptor."""


class StreamWhole(msgspec.Struct, frozen=True, gc=False):
    """A connection that opened, talked and closed within a batch, without a flaw: stands for ``StreamOpened`` and all
    its chunks, whose fields it has as columns."""

    stream: Stream
    sides: list[Side]
    offsets: list[int]
    data: list[bytes]
    at: list[Location]
    acked: list[int]

    def chunks(self) -> list[Chunk]:
        """The chunks, where somebody needs them one by one."""
        at = self.at
        return list(map(Chunk, repeat(self.stream), self.sides, self.offsets, self.data, at, at, self.acked))


class Gap(msgspec.Struct, frozen=True, gc=False):
    """Bytes that were on the wire and are not in the capture; given in order between the chunks around it."""

    stream: Stream
    side: Side
    offset: int
    length: int
    at: Location
    """The packet that made it certain."""
    reason: str
    """``lost``, ``snaplen``, ``limit`` (a budget was hit), ``closed`` or ``undecrypted``."""
    encrypted: bool = False
    """In the plaintext of TLS, where nobody knows how long it is: it counts as one octet."""

    @property
    def octets(self) -> int:
        """How many octets are missing; 0 where that is not known."""
        return 0 if self.encrypted else self.length


class StreamClosed(msgspec.Struct, frozen=True, gc=False):
    """No more will come: closed on the wire, let go by a limit, or the capture ended."""

    stream: Stream
    reason: str
    """``closed``, ``reused``, ``limit`` or ``end-of-capture``."""


TcpStreamEvent: TypeAlias = StreamOpened | StreamWhole | Chunk | Gap | StreamClosed


class Limits(msgspec.Struct, frozen=True):
    """Every budget in one place; hitting one is counted and reported (DESIGN principle 9)."""

    streams: int = 200_000
    """Connections followed at once; the one longest idle is let go."""
    stream_bytes: int = 4 << 20
    """Out-of-order bytes held for one direction of one stream."""
    total_bytes: int = 128 << 20
    """Out-of-order bytes held for all streams."""
    reorder_segments: int = 1024
    """Out-of-order segments held for one direction."""
    stream_events: int = 200
    """TcpEvents kept for one stream; counters go on."""
    line_bytes: int = 64 << 10
    """Bytes of one command or reply line kept; the rest is counted."""
    exchanges: int = 100_000
    """Exchanges kept for one conversation; events go on."""
    header_bytes: int = 64 << 10
    """Mail headers kept of one message."""
    body_bytes: int = 0
    """Mail body kept of one message (``--bodies`` raises it)."""
    pending_conversations: int = 4096
    """Finished conversations held back for earlier unfinished ones, to keep the order."""
    tls_spool_bytes: int = 64 << 20
    """Undecrypted TLS records held for secrets that may still come."""
    fragments: int = 4096
    """IP fragments held at once."""
