"""ICMP and ICMPv6 errors that quote a TCP segment (RFC 792, RFC 1191, RFC 4443): a host or a router said no."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Final

from smtpdebug.model.packets import Unreachable

_UNREACHABLE, _TIME_EXCEEDED = 3, 11
_UNREACHABLE_6, _TOO_BIG_6, _TIME_EXCEEDED_6 = 1, 2, 3
_FRAGMENTATION_NEEDED: Final = 4
_TCP: Final = 6
_SKIPPABLE: Final = frozenset({0, 43, 60})
"""IPv6 extension headers a quoted packet may carry before TCP."""


def read_error(
    message: bytes, *, version: int, reporter: bytes, capture: str, frame: int, ts_ns: int
) -> Unreachable | None:
    """The error in an ICMP message, ``None`` if it is none or does not quote TCP.

    Args:
        message: from the ICMP type on.
        version: 4 or 6.
        reporter: source address of the packet, 4 or 16 bytes.
        capture, frame, ts_ns: where it was seen.
    """
    if len(message) < 8 + 28:
        return None
    kind, code = message[0], message[1]
    quoted = _quoted_4(message[8:]) if version == 4 else _quoted_6(message[8:])
    errors = (_UNREACHABLE, _TIME_EXCEEDED) if version == 4 else (_UNREACHABLE_6, _TOO_BIG_6, _TIME_EXCEEDED_6)
    if kind not in errors or quoted is None:
        return None
    src, dst, tcp = quoted
    mtu: int | None = None
    if version == 4 and kind == _UNREACHABLE and code == _FRAGMENTATION_NEEDED:
        mtu = int.from_bytes(message[6:8])  # RFC 1191 section 4; 0 from a router older than that
    elif version == 6 and kind == _TOO_BIG_6:
        mtu = int.from_bytes(message[4:8])
    return Unreachable(
        capture=capture,
        frame=frame,
        ts_ns=ts_ns,
        reporter=str(IPv4Address(reporter) if version == 4 else IPv6Address(reporter)),
        version=version,
        type=kind,
        code=code,
        src=src,
        dst=dst,
        sport=int.from_bytes(tcp[0:2]),
        dport=int.from_bytes(tcp[2:4]),
        seq=int.from_bytes(tcp[4:8]),
        mtu=mtu,
    )


def _quoted_4(packet: bytes) -> tuple[str, str, bytes] | None:
    header = (packet[0] & 15) * 4
    later_piece = int.from_bytes(packet[6:8]) & 0x1FFF
    if packet[0] >> 4 != 4 or header < 20 or packet[9] != _TCP or later_piece or len(packet) < header + 8:
        return None
    return str(IPv4Address(packet[12:16])), str(IPv4Address(packet[16:20])), packet[header : header + 8]


def _quoted_6(packet: bytes) -> tuple[str, str, bytes] | None:
    if packet[0] >> 4 != 6 or len(packet) < 48:
        return None
    at, following = 40, packet[6]
    while following in _SKIPPABLE and at + 8 <= len(packet):
        at, following = at + (packet[at + 1] + 1) * 8, packet[at]
    if following != _TCP or len(packet) < at + 8:
        return None
    return str(IPv6Address(packet[8:24])), str(IPv6Address(packet[24:40])), packet[at : at + 8]
