"""ICMP errors that quote TCP."""

from __future__ import annotations

import struct

import pytest

from smtpdebug.pcap.icmp import read_error
from smtpdebug.pcap.writer import Link

QUOTED_4 = Link("192.0.2.1", 40000, "198.51.100.25", 25, ethernet=False).segment(123456, 0, 2)
QUOTED_6 = Link("2001:db8::1", 40000, "2001:db8::25", 25, ethernet=False).segment(123456, 0, 2)


def error_of(message: bytes, version: int = 4) -> object:
    reporter = bytes([203, 0, 113, 1]) if version == 4 else bytes.fromhex("20010db8") + bytes(11) + b"\x99"
    return read_error(message, version=version, reporter=reporter, capture="c", frame=9, ts_ns=5)


def icmp(kind: int, code: int, rest: int, quoted: bytes) -> bytes:
    return struct.pack(">BBHI", kind, code, 0, rest) + quoted


# RFC 792: destination unreachable (3: port 3, fragmentation needed 4, administratively 13), time exceeded (11).
@pytest.mark.parametrize(
    ("kind", "code", "rest", "mtu"), [(3, 1, 0, None), (3, 13, 0, None), (3, 4, 1400, 1400), (11, 0, 0, None)]
)
@pytest.mark.parametrize("size", [28, 40])
def test_icmp(kind: int, code: int, rest: int, mtu: int | None, size: int) -> None:
    """Routers quote 8 bytes of TCP at least (RFC 792), more if they like."""
    error = error_of(icmp(kind, code, rest, QUOTED_4[:size]))
    from smtpdebug.model.packets import Unreachable

    assert error == Unreachable(
        "c", 9, 5, "203.0.113.1", 4, kind, code, "192.0.2.1", "198.51.100.25", 40000, 25, 123456, mtu
    )


# RFC 4443: unreachable (1: no route 0, prohibited 1, port 4), too big (2), time exceeded (3).
@pytest.mark.parametrize(
    ("kind", "code", "rest", "mtu"), [(1, 0, 0, None), (1, 4, 0, None), (2, 0, 1280, 1280), (3, 0, 0, None)]
)
def test_icmp6(kind: int, code: int, rest: int, mtu: int | None) -> None:
    from smtpdebug.model.packets import Unreachable

    error = error_of(icmp(kind, code, rest, QUOTED_6), 6)
    assert error == Unreachable(
        "c", 9, 5, "2001:db8::99", 6, kind, code, "2001:db8::1", "2001:db8::25", 40000, 25, 123456, mtu
    )


def test_icmp6_quoting_a_packet_with_an_extension_header() -> None:
    hop_by_hop = QUOTED_6[:6] + b"\0" + QUOTED_6[7:40] + b"\x06\0" + bytes(6) + QUOTED_6[40:]
    assert error_of(icmp(1, 0, 0, hop_by_hop), 6) is not None


def test_what_is_no_such_error() -> None:
    assert error_of(icmp(8, 0, 0, QUOTED_4)) is None  # echo request
    assert error_of(icmp(3, 3, 0, QUOTED_4[:9] + b"\x11" + QUOTED_4[10:])) is None  # quotes UDP
    assert error_of(icmp(3, 3, 0, QUOTED_4[:24])) is None  # cut
    later_piece = QUOTED_4[:6] + b"\x00\x10" + QUOTED_4[8:]
    assert error_of(icmp(3, 3, 0, later_piece)) is None  # no TCP header in it
    for size in range(60):
        assert error_of(icmp(3, 3, 0, QUOTED_4)[:size]) is None or size >= 36
        assert error_of(icmp(1, 0, 0, QUOTED_6)[:size], 6) is None or size >= 56
