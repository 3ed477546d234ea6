"""Rarer link headers and tunnels: only where the inner IP header starts; the columns code reads the rest.

Scapy knows them all and is some 300 times slower than the columns, so it is imported when the first such packet comes
and sees no more than the first bytes of it. The few link types that it lacks are read here.
"""

from __future__ import annotations

import functools
import importlib
import logging
import warnings
from collections.abc import Iterator
from typing import Any, Final, Literal, NamedTuple

from smtpdebug.pcap.link import IPV4, IPV6, NOT_IP

_SEEN: Final = 768
"""Bytes of a packet that scapy is given: more than any stack of headers."""

ETHERTYPES: Final = frozenset({0x8847, 0x8848, 0x8864, 0x88E7, 0x6558, 0x894F})
"""MPLS, PPPoE session, 802.1ah, transparent bridging, NSH: IP may be within."""

TUNNEL_PORTS: Final = frozenset({2152, 4789, 4790, 6081, 8472})
"""UDP ports of GTP-U, VXLAN, VXLAN-GPE, Geneve and Linux's first VXLAN."""
GRE: Final = 47
IP_IN_IP: Final = {4: IPV4, 41: IPV6}
"""Protocol numbers whose payload is an IP packet (RFC 2003, RFC 4213)."""

_PPPOE: Final = 0x8864
_FRAME_RELAY, _CISCO_HDLC, _NFLOG, _PKTAP = (107, 104, 239, 258)


_LAYERS: Final = (
    "scapy.layers.l2",
    "scapy.layers.inet",
    "scapy.layers.inet6",
    "scapy.layers.ppp",
    "scapy.layers.vxlan",
    "scapy.layers.dot11",
    "scapy.layers.ppi",
    "scapy.contrib.mpls",
    "scapy.contrib.geneve",
    "scapy.contrib.erspan",
    "scapy.contrib.gtp",
    "scapy.contrib.nsh",
)


class Inner(NamedTuple):
    """Where a packet within starts."""

    offset: int
    link: int | None
    """Its link type, or ``None`` where ``kind`` tells what it is."""
    kind: int = NOT_IP
    """EtherType."""
    size: int | None = None
    """How long the outer header says it is, where that is needed to tell padding from payload."""


class _Scapy:
    """The parts of scapy that are used, imported once."""

    def __init__(self) -> None:
        for name in ("scapy", "scapy.runtime", "scapy.loading", "scapy.interactive"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # cryptography's, about ciphers that scapy names
            for name in _LAYERS:  # importing a layer binds it to those below it
                importlib.import_module(name)
            from scapy.config import conf
            from scapy.layers.inet import IP
            from scapy.layers.inet6 import IPv6
            from scapy.layers.l2 import Ether
        self.links: Any = conf.l2types.num2layer
        self.ether, self.ipv4, self.ipv6 = Ether, IP, IPv6

    def innermost(self, layer: Any, packet: bytes) -> tuple[int, int] | None:
        """Offset and EtherType of the last IP header in the packet, the quoted ones of ICMP left aside."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                parsed = layer(packet)
            except Exception:  # scapy raises what it likes on damaged packets; each is then counted as not understood
                return None
        found = None
        for part in _layers(parsed):
            if part.__class__ in (self.ipv4, self.ipv6) and part.original:
                at = packet.find(part.original)
                if at >= 0:
                    found = at, (IPV4 if part.__class__ is self.ipv4 else IPV6)
        return found


def _layers(packet: Any) -> Iterator[Any]:
    while packet:
        yield packet
        packet = packet.payload


@functools.cache
def _scapy() -> _Scapy:
    return _Scapy()


def within_link(link: int, packet: bytes) -> Inner | None:
    """What a packet of a rare link type carries; ``None`` if it carries no IP or is not understood."""
    own = _OWN.get(link)
    if own is not None:
        return own(packet)
    layer = _scapy().links.get(link)
    found = None if layer is None else _scapy().innermost(layer, packet[:_SEEN])
    return None if found is None else Inner(found[0], None, found[1])


def within_type(kind: int, packet: bytes) -> Inner | None:
    """The IP packet within a payload of one of ``ETHERTYPES``."""
    scapy = _scapy()
    found = scapy.innermost(scapy.ether, bytes(12) + kind.to_bytes(2) + packet[:_SEEN])
    if found is None or found[0] < 14:
        return None
    offset = found[0] - 14
    size = None
    if kind == _PPPOE and offset == 8:
        # RFC 2516: the length counts the two bytes of the PPP protocol. Some access routers write an IP total length
        # that takes in Ethernet's padding; this one is right then.
        size = max(0, int.from_bytes(packet[4:6]) - 2)
    return Inner(offset, None, found[1], size)


def within_ip(version: int, packet: bytes) -> Inner | None:
    """The IP packet within the payload of an IP packet (GRE, or UDP on one of ``TUNNEL_PORTS``)."""
    scapy = _scapy()
    found = scapy.innermost(scapy.ipv4 if version == 4 else scapy.ipv6, packet[:_SEEN])
    return None if found is None or found[0] == 0 else Inner(found[0], None, found[1])


def known_link(link: int) -> bool:
    """Whether packets of this link type can be asked for at all."""
    return link in _OWN or (link >= 0 and _scapy().links.get(link) is not None)


def _frame_relay(packet: bytes) -> Inner | None:
    # RFC 2427: address of two to four bytes (the last has its low bit set), 0x03, perhaps a pad, the protocol.
    at = next((i + 1 for i, byte in enumerate(packet[:4]) if byte & 1), 0)
    if not at:
        return None
    if packet[1:4] in (b"\xf1\x08\x00", b"\xf1\x86\xdd") or packet[at : at + 2] in (b"\x08\x00", b"\x86\xdd"):
        return Inner(at + 2, None, int.from_bytes(packet[at : at + 2]))  # Cisco's own encapsulation
    if packet[at : at + 1] != b"\x03":
        return None
    at += 1
    if packet[at : at + 1] == b"\0":
        at += 1
    protocol = packet[at : at + 1]
    if protocol in (b"\xcc", b"\x8e"):
        return Inner(at + 1, None, IPV4 if protocol == b"\xcc" else IPV6)
    if packet[at : at + 4] == b"\x80\0\0\0" and len(packet) >= at + 6:
        return Inner(at + 6, None, int.from_bytes(packet[at + 4 : at + 6]))
    return None


def _cisco_hdlc(packet: bytes) -> Inner | None:
    return Inner(4, None, int.from_bytes(packet[2:4])) if len(packet) >= 4 else None


def _nflog(packet: bytes) -> Inner | None:
    # linktype NFLOG: family, version, resource id, then attributes in the capturing host's byte order; 9 is the packet.
    families = {2: IPV4, 10: IPV6}
    if len(packet) < 4 or packet[0] not in families:
        return None
    orders: tuple[Literal["little", "big"], ...] = ("little", "big")
    for order in orders:
        at = 4
        while at + 4 <= len(packet):
            size = int.from_bytes(packet[at : at + 2], order)
            kind = int.from_bytes(packet[at + 2 : at + 4], order) & 0x7FFF
            if size < 4 or kind > 64:
                break
            if kind == 9:
                return Inner(at + 4, None, families[packet[0]])
            at += (size + 3) & ~3
    return None


def _pktap(packet: bytes) -> Inner | None:
    # Darwin's PKTAP, little-endian: length of the header, type of record, link type of what follows.
    if len(packet) < 12:
        return None
    size, link = int.from_bytes(packet[0:4], "little"), int.from_bytes(packet[8:12], "little")
    # Raw IP is DLT 12 in the header of Darwin.
    return Inner(size, link) if 12 <= size <= len(packet) else None


_OWN: Final = {_FRAME_RELAY: _frame_relay, _CISCO_HDLC: _cisco_hdlc, _NFLOG: _nflog, _PKTAP: _pktap}
