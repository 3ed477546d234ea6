"""Packets as columns: one NumPy array a field, one row a TCP segment."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
import numpy as np
import numpy.typing as npt

FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32


class Unreachable(msgspec.Struct, frozen=True, gc=False):
    """An ICMP or ICMPv6 error that quotes a TCP segment (RFC 792, RFC 4443)."""

    capture: str
    frame: int
    ts_ns: int
    reporter: str
    """IP address of the host that sent the error."""
    version: int
    """4 or 6: tells the ICMP types of both families apart."""
    type: int
    code: int
    src: str
    """Quoted (inner) source address: the side whose segment did not arrive."""
    dst: str
    sport: int
    dport: int
    seq: int
    mtu: int | None
    """Next-hop MTU of "fragmentation needed" and "packet too big", else ``None``."""


@dataclass(slots=True)
class PacketBatch:
    """Up to 64 Ki TCP segments in time order, as parallel arrays of shape ``(n,)``.

    Payload bytes of row ``i`` are ``buf[start[i] : start[i] + captured[i]]``. Consumers copy what they keep
    (``bytes``), so that no slice pins ``buf``. IPv4 addresses have ``hi == 0`` and the address in ``lo``;
    ``version`` tells them from IPv6.
    """

    buf: bytes
    captures: tuple[str, ...]
    """Names of the files in this set so far, as the user gave them."""
    capture: npt.NDArray[np.int32]
    """Index in ``captures``."""
    frame: npt.NDArray[np.int64]
    """Number of the packet in its file, from 1."""
    ts_ns: npt.NDArray[np.int64]
    """Nanoseconds since the Unix epoch, UTC."""
    version: npt.NDArray[np.uint8]
    src_hi: npt.NDArray[np.uint64]
    src_lo: npt.NDArray[np.uint64]
    dst_hi: npt.NDArray[np.uint64]
    dst_lo: npt.NDArray[np.uint64]
    sport: npt.NDArray[np.uint16]
    dport: npt.NDArray[np.uint16]
    seq: npt.NDArray[np.uint32]
    ack: npt.NDArray[np.uint32]
    flags: npt.NDArray[np.uint8]
    """TCP flags, low eight bits (``FIN``, ``SYN``, ``RST``, ``PSH``, ``ACK``, ``URG``)."""
    window: npt.NDArray[np.uint16]
    """As on the wire, not scaled."""
    ttl: npt.NDArray[np.uint8]
    """IPv4 time to live or IPv6 hop limit."""
    dont_fragment: npt.NDArray[np.bool_]
    """IPv4 DF; always true for IPv6."""
    start: npt.NDArray[np.int64]
    """Offset of the payload in ``buf``."""
    captured: npt.NDArray[np.int32]
    """Payload bytes that are in the capture."""
    length: npt.NDArray[np.int32]
    """Payload bytes that were on the wire, from the IP header; ``captured < length`` is a snaplen cut."""

    unreachable: tuple[Unreachable, ...] = ()
    packets: int = 0
    """Packet records read to make this batch, TCP or not."""
    first_ns: int = 0
    last_ns: int = 0
    """Times of the first and last packet record of the batch, TCP or not."""
    skipped: dict[str, int] = field(default_factory=dict)
    """Packets without a row, by reason (``"udp"``, ``"arp"``, ``"unknown link type 147"``, …)."""
    secrets: tuple[bytes, ...] = ()
    """Key log text of pcapng Decryption Secrets Blocks that came before these packets."""

    def __len__(self) -> int:
        return len(self.ts_ns)
