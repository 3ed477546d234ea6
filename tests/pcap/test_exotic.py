"""Rare link types and tunnels: the same segment is found inside whatever it is wrapped in."""

from __future__ import annotations

import importlib
import logging
import struct
import warnings
from typing import Any

import numpy as np
import pytest

from smtpdebug.model.packets import PacketBatch
from smtpdebug.pcap.columns import decode
from smtpdebug.pcap.records import Records
from smtpdebug.pcap.writer import Link

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    logging.getLogger("scapy").setLevel(logging.CRITICAL)
    l2: Any = importlib.import_module("scapy.layers.l2")
    inet: Any = importlib.import_module("scapy.layers.inet")
    inet6: Any = importlib.import_module("scapy.layers.inet6")
    ppp: Any = importlib.import_module("scapy.layers.ppp")
    vxlan: Any = importlib.import_module("scapy.layers.vxlan")
    dot11: Any = importlib.import_module("scapy.layers.dot11")
    mpls: Any = importlib.import_module("scapy.contrib.mpls")
    geneve: Any = importlib.import_module("scapy.contrib.geneve")
    erspan: Any = importlib.import_module("scapy.contrib.erspan")
    gtp: Any = importlib.import_module("scapy.contrib.gtp")

SEGMENT_4 = Link("192.0.2.1", 40000, "192.0.2.2", 25, ethernet=False).segment(7, 8, 24, b"QUIT\r\n")
SEGMENT_6 = Link("2001:db8::1", 40000, "2001:db8::2", 25, ethernet=False).segment(7, 8, 24, b"QUIT\r\n")


def ether(**fields: Any) -> Any:
    """An Ethernet header with addresses: without them scapy would ask the network."""
    return l2.Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02", **fields)


def read(link: int, *packets: bytes) -> PacketBatch:
    sizes = np.array([len(packet) for packet in packets], np.int64)
    n = len(packets)
    return decode(
        Records(
            b"".join(packets),
            np.arange(1, n + 1, dtype=np.int64),
            np.arange(n, dtype=np.int64),
            np.cumsum(sizes) - sizes,
            sizes,
            sizes,
            np.full(n, link, np.int32),
            np.zeros(n, np.int32),
        )
    )


def found(batch: PacketBatch) -> list[tuple[int, int, int, bytes]]:
    return [
        (
            int(batch.version[row]),
            int(batch.dport[row]),
            int(batch.seq[row]),
            batch.buf[int(batch.start[row]) :][: int(batch.captured[row])],
        )
        for row in range(len(batch))
    ]


WANTED_4 = (4, 25, 7, b"QUIT\r\n")
WANTED_6 = (6, 25, 7, b"QUIT\r\n")


def tunnels() -> dict[str, bytes]:
    head, outer = ether(), inet.IP(src="198.51.100.1", dst="198.51.100.2")
    four, inner = inet.IP(SEGMENT_4), ether() / inet.IP(SEGMENT_4)
    packets = {
        "PPPoE": head / ppp.PPPoE(sessionid=1) / ppp.PPP() / four,
        "PPPoE in QinQ": ether() / l2.Dot1AD(vlan=1) / l2.Dot1Q(vlan=2) / ppp.PPPoE() / ppp.PPP() / four,
        "MPLS": head / mpls.MPLS(label=16, s=1) / four,
        "MPLS, two labels": head / mpls.MPLS(label=16, s=0) / mpls.MPLS(label=17, s=1) / four,
        "GRE": head / outer / l2.GRE() / four,
        "GRE with key": head / outer / l2.GRE(key_present=1, key=5) / four,
        "GRE with Ethernet": head / outer / l2.GRE(proto=0x6558) / inner,
        "ERSPAN II": head / outer / l2.GRE(seqnum_present=1) / erspan.ERSPAN_II() / inner,
        "VXLAN": head / outer / inet.UDP(dport=4789) / vxlan.VXLAN(vni=5) / inner,
        "Geneve": head / outer / inet.UDP(dport=6081) / geneve.GENEVE() / inner,
        "GTP-U": head / outer / inet.UDP(dport=2152) / gtp.GTP_U_Header(teid=1) / gtp.GTPPDUSessionContainer() / four,
        "VXLAN over IPv6": head / inet6.IPv6() / inet.UDP(dport=4789) / vxlan.VXLAN() / inner,
        "GRE in IP in IP": head / outer / outer / l2.GRE() / four,
    }
    return {name: bytes(packet) for name, packet in packets.items()}


@pytest.mark.parametrize("name", tunnels())
def test_tunnels(name: str) -> None:
    batch = read(1, tunnels()[name])
    assert found(batch) == [WANTED_4], batch.skipped
    assert batch.skipped == {}


def link_layers() -> dict[str, tuple[int, bytes, list[tuple[int, int, int, bytes]]]]:
    four = inet.IP(SEGMENT_4)
    nflog_head = struct.pack("<BBH", 2, 0, 0) + struct.pack("<HH", 8, 1) + b"\x08\0\0\0"
    nflog_head += struct.pack("<HH", 4 + 5, 10) + b"drop\0" + bytes(3)
    wireless = dot11.Dot11(type=2, FCfield=1) / dot11.LLC() / l2.SNAP() / four
    pktap = struct.pack("<III", 108, 1, 1) + bytes(96)
    return {
        "PPP": (9, bytes(ppp.PPP() / four), [WANTED_4]),
        "802.11": (105, bytes(wireless), [WANTED_4]),
        "802.11 with radiotap": (127, bytes(dot11.RadioTap() / wireless), [WANTED_4]),
        "frame relay": (107, b"\x18\x41\x03\xcc" + SEGMENT_4, [WANTED_4]),
        "frame relay, padded": (107, b"\x18\x41\x03\x00\x8e" + SEGMENT_6, [WANTED_6]),
        "frame relay, SNAP": (107, b"\x18\x41\x03\x00\x80\0\0\0\x08\0" + SEGMENT_4, [WANTED_4]),
        "frame relay, Cisco": (107, b"\x18\x41\x08\x00" + SEGMENT_4, [WANTED_4]),
        "Cisco HDLC": (104, b"\x0f\0\x86\xdd" + SEGMENT_6, [WANTED_6]),
        "NFLOG": (239, nflog_head + struct.pack("<HH", 4 + len(SEGMENT_4), 9) + SEGMENT_4, [WANTED_4]),
        "PKTAP": (258, pktap + bytes(ether() / four), [WANTED_4]),
    }


@pytest.mark.parametrize("name", link_layers())
def test_rare_link_types(name: str) -> None:
    link, packet, wanted = link_layers()[name]
    batch = read(link, packet, packet)
    assert found(batch) == wanted * 2
    assert batch.skipped == {}


def test_the_length_of_pppoe_tells_padding_from_payload() -> None:
    """Seen in the wild: a router counted Ethernet's padding in the IP total length; RFC 2516's length is right."""
    ack = bytearray(Link("192.0.2.1", 1, "192.0.2.2", 25, ethernet=False).segment(1, 2, 16) + bytes(6))
    ack[2:4] = (46).to_bytes(2)
    frame = bytes(12) + b"\x88\x64\x11\x00\x00\x01" + (42).to_bytes(2) + b"\x00\x21" + bytes(ack)
    batch = read(1, frame)
    assert (batch.length.tolist(), batch.captured.tolist()) == ([0], [0])


def test_what_carries_no_tcp_is_counted_by_its_outer_name() -> None:
    head, outer = ether(), inet.IP()
    batch = read(
        1,
        bytes(head / outer / inet.UDP(sport=5, dport=4789) / b"not vxlan"),
        bytes(head / outer / l2.GRE(proto=0x880B) / bytes(8)),
        bytes(ether(type=0x8864) / bytes(8)),
    )
    assert len(batch) == 0
    assert batch.skipped == {"UDP": 1, "GRE": 1, "EtherType 0x8864": 1}


@pytest.mark.parametrize("depth", [4, 40])
def test_endless_tunnels_end(depth: int) -> None:
    packet = inet.IP(SEGMENT_4)
    for _ in range(depth):
        packet = inet.IP() / packet
    batch = read(101, bytes(packet))
    if depth <= 4:
        assert found(batch) == [WANTED_4]
    else:
        assert batch.skipped == {"IP in IP": 1}
