"""The writer, against scapy and by the checksums' own definition."""

from __future__ import annotations

import importlib
import io
import struct
import warnings
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpdebug.pcap.writer import Link, checksum, write_pcap

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    l2: Any = importlib.import_module("scapy.layers.l2")
    inet6: Any = importlib.import_module("scapy.layers.inet6")


@pytest.mark.parametrize("ends", [("192.0.2.1", "198.51.100.2"), ("2001:db8::1", "2001:db8::2")])
@pytest.mark.parametrize("payload", [b"", b"x", b"EHLO a\r\n"])
def test_a_segment_is_what_scapy_would_build(ends: tuple[str, str], payload: bytes) -> None:
    frame = Link(ends[0], 40000, ends[1], 25, checksums=True).segment(
        2**32 - 1, 7, 24, payload, window=512, options=b"\x02\x04\x05\xb4"
    )
    parsed = l2.Ether(frame)
    tcp = parsed["TCP"]
    assert (tcp.sport, tcp.dport, tcp.seq, tcp.ack, int(tcp.flags), tcp.window) == (40000, 25, 2**32 - 1, 7, 24, 512)
    assert tcp.options == [("MSS", 1460)]
    assert bytes(tcp.payload) == payload
    given_sums = tcp.chksum, getattr(parsed.payload, "chksum", None)
    del tcp.chksum
    if given_sums[1] is not None:
        del parsed.payload.chksum
    again = l2.Ether(bytes(parsed))
    assert (again["TCP"].chksum, getattr(again.payload, "chksum", None)) == given_sums


@given(st.binary(min_size=2, max_size=60).filter(any))
def test_a_checksum_makes_the_sum_of_all_words_minus_zero(data: bytes) -> None:
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data)) + checksum(data)
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    assert total == 0xFFFF


def test_the_file_layout() -> None:
    file = io.BytesIO()
    assert write_pcap(file, [(1_700_000_000_123_456_789, b"abc")], linktype=101) == 1
    data = file.getvalue()
    assert struct.unpack("<IHHiIII", data[:24]) == (0xA1B23C4D, 2, 4, 0, 0, 262_144, 101)
    assert struct.unpack("<IIII", data[24:40]) == (1_700_000_000, 123_456_789, 3, 3)
    assert data[40:] == b"abc"


def test_addresses_of_two_families_are_refused() -> None:
    with pytest.raises(ValueError, match="families"):
        Link("192.0.2.1", 1, "2001:db8::1", 2)
