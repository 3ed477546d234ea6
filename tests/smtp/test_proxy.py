"""Against the examples and layouts of HAProxy's doc/proxy-protocol.txt, sections 2.1 and 2.2."""

from __future__ import annotations

import pytest

from smtpdebug.model.streams import Location
from smtpdebug.smtp.proxy import SIGNATURE, preface_length, read_preface

AT = Location("x", 4, 0)
V2_TCP4 = SIGNATURE + b"\x21\x11\x00\x0c" + bytes([203, 0, 113, 9, 192, 0, 2, 1]) + b"\xd4\x31\x00\x19"


def test_version_1() -> None:
    line = b"PROXY TCP4 203.0.113.9 192.0.2.1 54321 25\r\n"
    assert preface_length(line + b"EHLO x\r\n") == len(line)
    preface = read_preface(line, AT)
    assert (preface.version, preface.source, preface.destination, preface.valid) == (
        1,
        "203.0.113.9:54321",
        "192.0.2.1:25",
        True,
    )


def test_version_1_over_ipv6_and_unknown() -> None:
    assert read_preface(b"PROXY TCP6 2001:db8::1 2001:db8::2 1 25\r\n", AT).source == "[2001:db8::1]:1"
    unknown = read_preface(b"PROXY UNKNOWN\r\n", AT)
    assert (unknown.source, unknown.valid) == (None, True)


@pytest.mark.parametrize(
    "line",
    [b"PROXY TCP4 x y 1 2\r\n", b"PROXY TCP4 1.2.3.4 1.2.3.4 1 99999\r\n", b"PROXY UDP4\r\n", b"PROXY UNKNOWN\n"],
)
def test_version_1_broken(line: bytes) -> None:
    assert preface_length(line) == len(line)
    assert not read_preface(line, AT).valid


def test_version_2() -> None:
    assert preface_length(V2_TCP4 + b"\x16\x03\x01") == len(V2_TCP4)
    preface = read_preface(V2_TCP4, AT)
    assert (preface.version, preface.source, preface.destination) == (2, "203.0.113.9:54321", "192.0.2.1:25")


def test_version_2_local_has_no_addresses() -> None:
    preface = read_preface(SIGNATURE + b"\x20\x00\x00\x00", AT)
    assert (preface.source, preface.valid) == (None, True)


@pytest.mark.parametrize("data", [b"P", b"PROXY", b"\r", SIGNATURE, V2_TCP4[:20], b"PROXY TCP4"])
def test_more_bytes_must_tell(data: bytes) -> None:
    assert preface_length(data) is None


@pytest.mark.parametrize("data", [b"EHLO x\r\n", b"PROXIMITY\r\n", b"PROXY " + b"x" * 200, b"\r\nQUIT\r\n"])
def test_no_preface(data: bytes) -> None:
    assert preface_length(data) == 0
