"""IPv4 (RFC 791) and IPv6 (RFC 8200) headers, vectorised: where the transport header starts and how much follows."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from smtpdebug.pcap.link import IPV4, IPV6
from smtpdebug.pcap.records import I64, U8

U64 = npt.NDArray[np.uint64]

CUT: Final = "IP header cut"
BAD: Final = "bad IP header"
_MOST_EXTENSIONS: Final = 8
_AUTHENTICATION, _FRAGMENT = 51, 44
_EXTENSIONS: Final = (0, 43, 60, _FRAGMENT, _AUTHENTICATION, 135, 139, 140)
"""Hop-by-hop, routing, destination options, fragment, AH, mobility, HIP, Shim6: a next header and a length each."""


@dataclass(slots=True)
class Network:
    """IP packets as arrays of shape ``(n,)``."""

    row: I64
    """Which packet record each came from."""
    at: I64
    """Where the IP header starts."""
    version: U8
    src_hi: U64
    src_lo: U64
    dst_hi: U64
    dst_lo: U64
    protocol: U8
    ttl: U8
    dont_fragment: npt.NDArray[np.bool_]
    transport: I64
    """Where the transport header starts."""
    length: I64
    """Bytes from there to the end of the packet, as sent."""
    end: I64
    """Where what was captured of the packet ends; link-layer padding is beyond it."""
    fragment: npt.NDArray[np.bool_]
    """A piece of a larger packet."""

    def __len__(self) -> int:
        return len(self.row)

    def take(self, rows: I64 | npt.NDArray[np.bool_]) -> Network:
        """Some of the packets."""
        return Network(*(getattr(self, name)[rows] for name in _FIELDS))


_FIELDS: Final = tuple(field.name for field in fields(Network))


def join_networks(parts: list[Network]) -> Network:
    """All packets of all parts."""
    if len(parts) == 1:
        return parts[0]
    return Network(*(np.concatenate([getattr(part, name) for part in parts]) for name in _FIELDS))


def read_ip(data: U8, row: I64, at: I64, kind: I64, end: I64, wire_end: I64, skipped: dict[str, int]) -> list[Network]:
    """Reads the IP headers at these places.

    Args:
        data: the bytes, padded.
        row: packet record of each.
        at: where each IP header starts.
        kind: EtherType, ``IPV4`` or ``IPV6``.
        end: where what was captured ends.
        wire_end: where the packet as sent would end.
        skipped: grows by what cannot be read, by reason.
    """
    parts = []
    for version, read in ((IPV4, _ipv4), (IPV6, _ipv6)):
        mine = kind == version
        if not bool(mine.any()):
            continue
        if bool(mine.all()):
            parts.append(read(data, row, at, end, wire_end, skipped))
            break
        parts.append(read(data, row[mine], at[mine], end[mine], wire_end[mine], skipped))
    return parts


def count(skipped: dict[str, int], reason: str, number: int) -> None:
    """Adds to a counter."""
    if number:
        skipped[reason] = skipped.get(reason, 0) + number


def _keep(good: npt.NDArray[np.bool_], *arrays: I64) -> tuple[I64, ...]:
    return arrays if bool(good.all()) else tuple(array[good] for array in arrays)


def _ipv4(data: U8, row: I64, at: I64, end: I64, wire_end: I64, skipped: dict[str, int]) -> Network:
    whole = end - at >= 20
    count(skipped, CUT, len(at) - int(whole.sum()))
    row, at, end, wire_end = _keep(whole, row, at, end, wire_end)
    head = sliding_window_view(data, 20)[at]
    total = head[:, 2:4].copy().view(">u2").reshape(-1).astype(np.int64)
    header = (head[:, 0] & 15).astype(np.int64) * 4
    # Total length 0 is segmentation offload: the card was to fill it in, and the captured length is the truth.
    if len(total) and int(total.min()) == 0:
        total = np.where(total == 0, wire_end - at, total)
    good = (head[:, 0] >> 4 == 4) & (header >= 20) & (total >= header)
    if not bool(good.all()):
        count(skipped, BAD, len(at) - int(good.sum()))
        row, at, end, total, header = _keep(good, row, at, end, total, header)
        head = head[good]
    words = head.view(">u4").reshape(-1, 5)
    fragments = head[:, 6:8].copy().view(">u2").reshape(-1)
    zero = np.zeros(len(at), np.uint64)
    return Network(
        row=row,
        at=at,
        version=np.full(len(at), 4, np.uint8),
        src_hi=zero,
        src_lo=words[:, 3].astype(np.uint64),
        dst_hi=zero,
        dst_lo=words[:, 4].astype(np.uint64),
        protocol=head[:, 9],
        ttl=head[:, 8],
        dont_fragment=(fragments & 0x4000) != 0,
        transport=at + header,
        length=total - header,
        end=np.minimum(end, at + total),
        fragment=(fragments & 0x3FFF) != 0,
    )


def _ipv6(data: U8, row: I64, at: I64, end: I64, wire_end: I64, skipped: dict[str, int]) -> Network:
    whole = end - at >= 40
    good = whole & (data[at] >> 4 == 6)
    count(skipped, CUT, len(at) - int(whole.sum()))
    count(skipped, BAD, int(whole.sum()) - int(good.sum()))
    row, at, end, wire_end = _keep(good, row, at, end, wire_end)
    head = sliding_window_view(data, 40)[at]
    payload = head[:, 4:6].copy().view(">u2").reshape(-1).astype(np.int64)
    # Payload length 0 is offload or a jumbogram (RFC 2675): the captured length is the truth.
    packet_end = at + 40 + np.where(payload == 0, np.maximum(wire_end - at - 40, 0), payload)
    end = np.minimum(end, packet_end)
    transport, protocol, fragment = _extensions(data, at + 40, head[:, 6].copy(), end)
    words = head[:, 8:40].copy().view(">u8").reshape(-1, 4).astype(np.uint64)
    count_cut = transport > end
    network = Network(
        row=row,
        at=at,
        version=np.full(len(at), 6, np.uint8),
        src_hi=words[:, 0],
        src_lo=words[:, 1],
        dst_hi=words[:, 2],
        dst_lo=words[:, 3],
        protocol=protocol,
        ttl=head[:, 7],
        dont_fragment=np.ones(len(at), np.bool_),
        transport=transport,
        length=packet_end - transport,
        end=end,
        fragment=fragment,
    )
    if bool(count_cut.any()):
        count(skipped, CUT, int(count_cut.sum()))
        network = network.take(~count_cut)
    return network


def _extensions(data: U8, transport: I64, protocol: U8, end: I64) -> tuple[I64, U8, npt.NDArray[np.bool_]]:
    # RFC 8200 section 4. A cut within an extension header leaves the place beyond the end, which the caller counts.
    fragment = np.zeros(len(transport), np.bool_)
    for _ in range(_MOST_EXTENSIONS):
        more = np.isin(protocol, _EXTENSIONS) & ~fragment & (transport <= end)
        if not bool(more.any()):
            break
        rows = np.flatnonzero(more)
        here, kind = transport[rows], protocol[rows]
        fits = here + 8 <= end[rows]
        here = np.where(fits, here, 0)
        units = data[here + 1].astype(np.int64)
        size = np.where(kind == _AUTHENTICATION, (units + 2) * 4, np.where(kind == _FRAGMENT, 8, (units + 1) * 8))
        # An atomic fragment (offset 0, none to follow; RFC 6946) is a whole packet.
        offset = (data[here + 2].astype(np.int64) << 8) | data[here + 3]
        piece = fits & (kind == _FRAGMENT) & (offset & 0xFFF9 != 0)
        fragment[rows] = piece
        step = np.where(fits, size, end[rows] - transport[rows] + 1)
        transport[rows] += np.where(piece, 0, step)
        protocol[rows] = np.where(piece, _FRAGMENT, np.where(fits, data[here], kind))
    return transport, protocol, fragment
