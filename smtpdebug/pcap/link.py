"""Link layers, vectorised: where the IP header starts.

Link types are the LINKTYPE numbers of tcpdump.org. Each function takes the places of many packets at once and gives the
place of their network header and its EtherType, or one of the negative codes below.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from smtpdebug.pcap.records import I64, U8

IPV4: Final = 0x0800
IPV6: Final = 0x86DD

CUT: Final = -1
"""The packet ends within its link header."""
LLC: Final = -2
"""IEEE 802.2 without SNAP: no IP."""
NOT_IP: Final = -3
"""The header says, or the first half byte shows, that this is no IP."""
RARE: Final = -4
"""A link type that is asked of ``exotic``."""

PAD: Final = 64
"""Bytes that must follow the last packet in the array, so that headers can be gathered without a look at the end."""

_VLAN_TAGS: Final = (0x8100, 0x88A8, 0x9100, 0x9200, 0x9300)
_MOST_TAGS: Final = 8

ETHERNET, NULL, LOOP, LINUX_SLL, LINUX_SLL2 = 1, 0, 108, 113, 276
RAW: Final = frozenset({12, 14, 101})
ONLY_IPV4, ONLY_IPV6 = 228, 229
_FAMILIES_IPV6: Final = (10, 24, 28, 30)
"""AF_INET6 of Linux, NetBSD and OpenBSD, FreeBSD, Darwin."""

COMMON: Final = frozenset({ETHERNET, NULL, LOOP, LINUX_SLL, LINUX_SLL2, ONLY_IPV4, ONLY_IPV6}) | RAW


def be16(data: U8, at: I64) -> I64:
    """Big-endian 16-bit numbers at these places."""
    return np.asarray(sliding_window_view(data, 2)[at].view(">u2").reshape(-1).astype(np.int64))


def be32(data: U8, at: I64) -> I64:
    """Big-endian 32-bit numbers at these places."""
    return np.asarray(sliding_window_view(data, 4)[at].view(">u4").reshape(-1).astype(np.int64))


def network_layer(link: int, data: U8, at: I64, end: I64) -> tuple[I64, I64]:
    """The place of each packet's network header and its EtherType (or a negative code).

    Args:
        link: LINKTYPE of all these packets, one of ``COMMON``; any other gives ``RARE``.
        data: the bytes, with ``PAD`` spare ones at the end.
        at: where each packet starts.
        end: where what was captured of it ends.
    """
    if link == ETHERNET:
        place, kind = _typed(data, at + 12, at + 14, end)
    elif link == LINUX_SLL:
        place, kind = _typed(data, at + 14, at + 16, end)
    elif link == LINUX_SLL2:
        place, kind = _typed(data, at, at + 20, end)
    elif link in (NULL, LOOP):
        place, kind = _by_family(data, at, end)
    elif link in RAW:
        place, kind = at, by_version(data, at, end)
    elif link in (ONLY_IPV4, ONLY_IPV6):
        place, kind = at, np.full(len(at), IPV4 if link == ONLY_IPV4 else IPV6, np.int64)
    else:
        place, kind = at, np.full(len(at), RARE, np.int64)
    if len(kind):
        short = place > end
        if bool(short.any()):
            kind = np.where(short & (kind != RARE), CUT, kind)
    return place, kind


def _typed(data: U8, type_at: I64, place: I64, end: I64) -> tuple[I64, I64]:
    kind = be16(data, np.minimum(type_at, len(data) - PAD))
    if len(kind) and bool((kind == kind[0]).all()) and int(kind[0]) in (IPV4, IPV6):
        return place, kind  # nearly every batch
    for _ in range(_MOST_TAGS):
        # IEEE 802.1Q and 802.1ad: the tag's type, two bytes of tag, then the real type, as often as they are stacked.
        tagged = np.isin(kind, _VLAN_TAGS) & (place + 4 <= end)
        if not bool(tagged.any()):
            break
        rows = np.flatnonzero(tagged)
        kind[rows] = be16(data, place[rows] + 2)
        place = place + 4 * tagged
    lengths = kind < 0x0600  # IEEE 802.3: a length, and in SLL 4 for 802.2
    if bool(lengths.any()):
        place, kind = _snap(data, place, end, kind, np.flatnonzero(lengths))
    return place, kind


def _snap(data: U8, place: I64, end: I64, kind: I64, rows: I64) -> tuple[I64, I64]:
    # IEEE 802.2 LLC with SNAP (AA AA 03, organisation 0) carries an EtherType too (RFC 1042).
    here = place[rows]
    whole = here + 8 <= end[rows]
    here = np.where(whole, here, 0)
    snap = whole & (be32(data, here) == 0xAAAA0300) & (be16(data, here + 4) == 0)
    place, kind = place.copy(), kind.copy()
    kind[rows] = np.where(snap, be16(data, here + 6), LLC)
    place[rows] += 8 * snap
    return place, kind


def _by_family(data: U8, at: I64, end: I64) -> tuple[I64, I64]:
    # Four bytes of address family, in the byte order of the host that captured (NULL) or of the network (LOOP). Hosts
    # and writers mix both up, and a family is small, so either order is taken.
    big = be32(data, at)
    family = np.where(big < 0x10000, big, big >> 24)
    kind = np.full(len(at), NOT_IP, np.int64)
    kind[family == 2] = IPV4
    kind[np.isin(family, _FAMILIES_IPV6)] = IPV6
    return at + 4, kind


def by_version(data: U8, at: I64, end: I64) -> I64:
    """EtherType by the version in the first half byte."""
    version = data[at] >> 4
    kind = np.full(len(at), NOT_IP, np.int64)
    kind[version == 4] = IPV4
    kind[version == 6] = IPV6
    return np.where(at < end, kind, CUT)


NAMES: Final = {
    CUT: "link header cut",
    LLC: "LLC without SNAP",
    NOT_IP: "not IP",
    0x0806: "ARP",
    0x8035: "RARP",
    0x0842: "Wake-on-LAN",
    0x8808: "Ethernet flow control",
    0x8809: "slow protocols (LACP)",
    0x8863: "PPPoE discovery",
    0x888E: "EAPOL",
    0x88CC: "LLDP",
    0x88E5: "MACsec (encrypted)",
    0x8137: "IPX",
    0x809B: "AppleTalk",
    0x9000: "Ethernet loopback test",
}
"""What to call packets that are no IP."""


def name_of(kind: int) -> str:
    """The reason to count a packet of this EtherType under."""
    return NAMES.get(kind) or f"EtherType 0x{kind:04x}"
