"""Columns against scapy, field by field, and the decisions that are easy to get wrong."""

from __future__ import annotations

import importlib
import struct
import warnings
from ipaddress import ip_address
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpdebug.model.packets import PacketBatch
from smtpdebug.pcap.columns import decode
from smtpdebug.pcap.records import Records

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    l2: Any = importlib.import_module("scapy.layers.l2")
    inet: Any = importlib.import_module("scapy.layers.inet")
    inet6: Any = importlib.import_module("scapy.layers.inet6")

IP, TCP, UDP, ICMP = inet.IP, inet.TCP, inet.UDP, inet.ICMP
Ether, Dot1Q, Dot1AD = l2.Ether, l2.Dot1Q, l2.Dot1AD

SLL2_HEADER = struct.Struct(">HHIHBB8s")


def frame(**fields: int) -> Any:
    """An Ethernet header with addresses: without them scapy would ask the network."""
    return Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02", **fields)


def records_of(packets: list[tuple[int, bytes]], *, cut: int | None = None) -> Records:
    """Records of (link type, bytes), as a walker gives them; ``cut`` is a snaplen."""
    captured = [packet[:cut] for _, packet in packets]
    sizes = np.array([len(packet) for packet in captured], np.int64)
    n = len(packets)
    return Records(
        b"".join(captured),
        np.arange(1, n + 1, dtype=np.int64),
        np.arange(n, dtype=np.int64) * 1000,
        np.cumsum(sizes) - sizes,
        sizes,
        np.array([len(packet) for _, packet in packets], np.int64),
        np.array([link for link, _ in packets], np.int32),
        np.zeros(n, np.int32),
    )


def one(link: int, packet: bytes, **options: int) -> PacketBatch:
    return decode(records_of([(link, packet)], **options))


def payload(batch: PacketBatch, row: int = 0) -> bytes:
    start = int(batch.start[row])
    return batch.buf[start : start + int(batch.captured[row])]


def link_header(link: int, version: int, packet: bytes) -> bytes:
    """The packet behind a header of that link type, written from the LINKTYPE descriptions, not by our code."""
    kind = 0x0800 if version == 4 else 0x86DD
    if link == 1:
        return bytes(frame(type=kind)) + packet
    if link == 113:
        return struct.pack(">HHH8sH", 0, 1, 6, bytes(8), kind) + packet
    if link == 276:
        return SLL2_HEADER.pack(kind, 0, 3, 1, 0, 6, bytes(8)) + packet
    if link == 0:
        return struct.pack("<I", 2 if version == 4 else 10) + packet
    if link == 108:
        return struct.pack(">I", 2 if version == 4 else 24) + packet
    return packet


LINKS = (1, 113, 276, 0, 108, 12, 14, 101, 228, 229)
addresses4 = st.integers(0, 2**32 - 1).map(lambda number: str(ip_address(number)))
addresses6 = st.integers(2**32, 2**128 - 1).map(lambda number: str(ip_address(number)))


@st.composite
def segments(draw: st.DrawFn) -> tuple[Any, int]:
    """A scapy packet from the IP header on, and its version."""
    version = draw(st.sampled_from((4, 6)))
    options = draw(st.sampled_from(([], [("NOP", None)] * 4, [("MSS", 1460), ("SAckOK", b""), ("NOP", None)])))
    tcp = TCP(
        sport=draw(st.integers(0, 65535)),
        dport=draw(st.integers(0, 65535)),
        seq=draw(st.integers(0, 2**32 - 1)),
        ack=draw(st.integers(0, 2**32 - 1)),
        flags=draw(st.integers(0, 255)),
        window=draw(st.integers(0, 65535)),
        options=options,
    ) / draw(st.binary(max_size=40))
    if version == 4:
        router_alert = draw(st.sampled_from(([], [inet.IPOption(b"\x94\x04\x00\x00")])))
        flags = draw(st.sampled_from(("", "DF")))
        ip = IP(src=draw(addresses4), dst=draw(addresses4), ttl=draw(st.integers(0, 255)), flags=flags)
        ip.options = router_alert
        return ip / tcp, 4
    ip6 = inet6.IPv6(src=draw(addresses6), dst=draw(addresses6), hlim=draw(st.integers(0, 255)))
    for extension in draw(
        st.lists(
            st.sampled_from((inet6.IPv6ExtHdrHopByHop, inet6.IPv6ExtHdrDestOpt, inet6.IPv6ExtHdrRouting)), max_size=3
        )
    ):
        ip6 = ip6 / extension()
    return ip6 / tcp, 6


@given(st.lists(st.tuples(segments(), st.sampled_from(LINKS), st.integers(0, 2)), min_size=1, max_size=6))
def test_columns_are_what_scapy_built(built: list[tuple[tuple[Any, int], int, int]]) -> None:
    """Mixed link types in one batch, with bytes of padding behind some packets."""
    packets, wanted = [], []
    for (packet, version), link, pad in built:
        if (link, version) in ((228, 6), (229, 4)):
            link = 101
        raw = bytes(packet)
        packets.append((link, link_header(link, version, raw) + b"\xee" * pad))
        wanted.append((type(packet)(raw), version))
    batch = decode(records_of(packets))
    assert batch.skipped == {}
    assert len(batch) == len(packets) == batch.packets
    for row, (packet, version) in enumerate(wanted):
        tcp = packet[TCP]
        source, target = int(ip_address(packet.src)), int(ip_address(packet.dst))
        low = 2**64 - 1
        assert int(batch.frame[row]) == row + 1
        assert int(batch.version[row]) == version
        assert (int(batch.src_hi[row]) << 64 | int(batch.src_lo[row])) == source
        assert (int(batch.dst_hi[row]) << 64 | int(batch.dst_lo[row])) == target
        assert int(batch.src_lo[row]) == source & low
        assert [int(batch.sport[row]), int(batch.dport[row])] == [tcp.sport, tcp.dport]
        assert [int(batch.seq[row]), int(batch.ack[row])] == [tcp.seq, tcp.ack]
        assert int(batch.flags[row]) == int(tcp.flags) & 0xFF
        assert int(batch.window[row]) == tcp.window
        assert int(batch.ttl[row]) == (packet.ttl if version == 4 else packet.hlim)
        assert bool(batch.dont_fragment[row]) == (version == 6 or "DF" in packet.flags)
        assert payload(batch, row) == bytes(tcp.payload)
        assert int(batch.length[row]) == int(batch.captured[row]) == len(bytes(tcp.payload))


@given(segments(), st.sampled_from((1, 276, 0, 12)), st.integers(0, 200))
def test_a_snaplen_cut_is_seen_never_misread(built: tuple[Any, int], link: int, cut: int) -> None:
    packet, version = built
    raw = bytes(packet)
    framed = link_header(link, version, raw)
    header = len(framed) - len(bytes(packet[TCP].payload))
    batch = one(link, framed, cut=cut)
    tcp_at = header - (type(packet)(raw)[TCP].dataofs * 4)
    if cut >= tcp_at + 20:
        assert len(batch) == 1
        assert int(batch.length[0]) == len(framed) - header
        assert payload(batch) == framed[header:cut]
    else:
        assert len(batch) == 0
        assert sum(batch.skipped.values()) == 1


@given(st.binary(max_size=120), st.sampled_from((*LINKS, 147, 107, 239, 258)))
def test_any_bytes_give_a_row_or_a_reason(packet: bytes, link: int) -> None:
    batch = one(link, packet)
    assert len(batch) + sum(batch.skipped.values()) <= 1
    if len(batch):
        assert 0 <= int(batch.captured[0]) <= int(batch.length[0])
        assert int(batch.start[0]) + int(batch.captured[0]) <= len(packet)
    elif not batch.unreachable:
        assert sum(batch.skipped.values()) == 1


SYN = IP(src="192.0.2.1", dst="192.0.2.2") / TCP(sport=40000, dport=25, seq=7, flags="S")
DATA = IP(src="192.0.2.1", dst="192.0.2.2") / TCP(sport=40000, dport=25, flags="PA") / b"QUIT\r\n"


@pytest.mark.parametrize("kinds", [[0x8100], [0x88A8, 0x8100], [0x9100, 0x8100], [0x88A8, 0x8100, 0x8100]])
def test_vlan_tags_stack(kinds: list[int]) -> None:
    tags = bytes(12)
    for kind in kinds:
        tags += struct.pack(">HH", kind, 42)
    batch = one(1, tags + b"\x08\x00" + bytes(DATA))
    assert payload(batch) == b"QUIT\r\n"


@pytest.mark.parametrize("link", [113, 276])
def test_vlan_tags_in_cooked_captures(link: int) -> None:
    tagged = link_header(link, 4, b"").replace(b"\x08\x00", b"\x81\x00", 1) if link == 276 else None
    header = tagged or struct.pack(">HHH8sH", 0, 1, 6, bytes(8), 0x8100)
    assert payload(one(link, header + b"\x00\x2a\x08\x00" + bytes(DATA))) == b"QUIT\r\n"


def test_snap_carries_ip_and_plain_llc_is_counted() -> None:
    snap = bytes(12) + struct.pack(">H", 8 + len(bytes(DATA))) + b"\xaa\xaa\x03\x00\x00\x00\x08\x00" + bytes(DATA)
    spanning_tree = bytes(12) + b"\x00\x26\x42\x42\x03" + bytes(35)
    batch = decode(records_of([(1, snap), (1, spanning_tree)]))
    assert payload(batch) == b"QUIT\r\n"
    assert batch.skipped == {"LLC without SNAP": 1}


def test_ethernet_padding_is_not_payload() -> None:
    """A 40-byte packet in a 60-byte frame; the six bytes of padding are not zero, as real cards leave them."""
    ack = bytes(IP() / TCP(flags="A"))
    batch = one(1, link_header(1, 4, ack) + bytes.fromhex("0000b9a74ee1"))
    assert (int(batch.length[0]), int(batch.captured[0])) == (0, 0)


def test_length_zero_is_offload() -> None:
    raw = bytearray(bytes(DATA))
    raw[2:4] = b"\0\0"
    assert payload(one(1, link_header(1, 4, bytes(raw)))) == b"QUIT\r\n"
    raw6 = bytearray(bytes(inet6.IPv6() / TCP() / b"QUIT\r\n"))
    raw6[4:6] = b"\0\0"
    assert payload(one(1, link_header(1, 6, bytes(raw6)))) == b"QUIT\r\n"


def test_offload_with_a_snaplen_still_knows_what_was_sent() -> None:
    raw = bytearray(bytes(IP() / TCP() / bytes(3000)))
    raw[2:4] = b"\0\0"
    batch = one(1, link_header(1, 4, bytes(raw)), cut=100)
    assert (int(batch.length[0]), int(batch.captured[0])) == (3000, 100 - 54)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("family", [10, 24, 28, 30])
def test_loopback_families(order: str, family: int) -> None:
    raw = bytes(inet6.IPv6() / TCP() / b"x")
    for link in (0, 108):
        assert payload(one(link, struct.pack(order + "I", family) + raw)) == b"x"


def test_what_has_no_row_is_counted_by_name() -> None:
    packets = [
        bytes(frame(type=0x0806)) + bytes(28),
        bytes(frame() / IP() / UDP(sport=53, dport=53) / b"x"),
        bytes(frame() / IP() / ICMP()),
        bytes(frame(type=0x88CC)) + bytes(20),
        bytes(frame(type=0x1234)) + bytes(20),
        bytes(frame() / IP(proto=132) / bytes(12)),
        bytes(frame())[:10],
    ]
    batch = decode(records_of([(1, packet) for packet in packets] + [(147, b"x"), (101, b"\x10")]))
    assert len(batch) == 0
    assert batch.packets == 9
    assert batch.skipped == {
        "ARP": 1,
        "UDP": 1,
        "ICMP": 1,
        "LLDP": 1,
        "EtherType 0x1234": 1,
        "SCTP": 1,
        "link header cut": 1,
        "unknown link type 147": 1,
        "not IP": 1,
    }


def test_bad_headers_are_counted() -> None:
    header_4 = bytearray(bytes(DATA))
    header_4[0] = 0x44  # a header of 16 bytes
    version = bytearray(bytes(DATA))
    version[0] = 0x75
    too_short = bytearray(bytes(DATA))
    too_short[2:4] = b"\0\x10"  # a total length below the header's
    offset = bytearray(bytes(DATA))
    offset[32] = 0x40  # a TCP header of 16 bytes
    far_offset = bytearray(bytes(SYN))
    far_offset[32] = 0xF0  # a TCP header longer than the packet
    batch = decode(records_of([(228, bytes(raw)) for raw in (header_4, version, too_short, offset, far_offset)]))
    assert len(batch) == 0
    assert batch.skipped == {"bad IP header": 3, "bad TCP header": 2}


def test_ip_in_ip_and_6in4() -> None:
    inner6 = inet6.IPv6(src="2001:db8::1", dst="2001:db8::2") / TCP(dport=25) / b"six"
    outer = IP(src="198.51.100.1", dst="198.51.100.2")
    batch = decode(records_of([(101, bytes(outer / DATA)), (101, bytes(outer / inner6))]))
    assert [payload(batch, 0), payload(batch, 1)] == [b"QUIT\r\n", b"six"]
    assert int(batch.src_lo[0]) == int(ip_address("192.0.2.1"))
    assert batch.version.tolist() == [4, 6]


def test_rows_keep_the_order_of_the_packets() -> None:
    """Two families, a tunnel and fragments are read in passes; the rows come in the order of the frames."""
    six = bytes(inet6.IPv6() / TCP())
    packets = [(101, six), (101, bytes(SYN)), (101, bytes(IP() / SYN)), (101, six), (101, bytes(SYN))]
    assert decode(records_of(packets)).frame.tolist() == [1, 2, 3, 4, 5]


def test_no_packets() -> None:
    batch = decode(records_of([]))
    assert (len(batch), batch.packets, batch.skipped) == (0, 0, {})


def test_the_length_of_an_authentication_header_is_in_words() -> None:
    """RFC 4302 section 2.2: in 4-byte words, minus 2; the other extension headers count 8-byte units, minus 1."""
    tcp = bytes(TCP(dport=25) / b"x")
    ah = bytes([6, 4]) + bytes(22)
    ip = struct.pack(">IHBB", 0x60000000, len(ah) + len(tcp), 51, 64) + bytes(32)
    batch = one(229, ip + ah + tcp)
    assert (payload(batch), int(batch.dport[0])) == (b"x", 25)
