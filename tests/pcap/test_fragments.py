"""IP fragments: put together whatever their order, bounded, counted when incomplete."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable
from ipaddress import ip_address

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpdebug.model.packets import PacketBatch
from smtpdebug.model.streams import Limits
from smtpdebug.pcap.columns import Decoder
from smtpdebug.pcap.records import Records
from smtpdebug.pcap.writer import Link

MAIL = b"".join(b"line %d of the message\r\n" % number for number in range(200))


def pieces_of(packet: bytes, size: int) -> list[bytes]:
    """An IPv4 or IPv6 packet cut into fragments of ``size`` payload bytes (RFC 791 3.2, RFC 8200 4.5)."""
    out = []
    if packet[0] >> 4 == 4:
        header, data = packet[:20], packet[20:]
        for at in range(0, len(data), size):
            part = data[at : at + size]
            more = 0x2000 if at + size < len(data) else 0
            out.append(header[:2] + struct.pack(">HHH", 20 + len(part), 77, more | at // 8) + header[8:20] + part)
        return out
    header, data = packet[:40], packet[40:]
    for at in range(0, len(data), size):
        part = data[at : at + size]
        more = int(at + size < len(data))
        fragment = struct.pack(">BBHI", header[6], 0, at | more, 77)
        out.append(header[:4] + struct.pack(">HB", 8 + len(part), 44) + header[7:40] + fragment + part)
    return out


def feed(decoder: Decoder, packets: Iterable[bytes], at_s: int = 0, cut: int = 65_535) -> PacketBatch:
    whole = list(packets)
    kept = [packet[:cut] for packet in whole]
    sizes = np.array([len(packet) for packet in kept], np.int64)
    n = len(kept)
    return decoder.decode(
        Records(
            b"".join(kept),
            np.arange(1, n + 1, dtype=np.int64),
            np.arange(n, dtype=np.int64) + at_s * 1_000_000_000,
            np.cumsum(sizes) - sizes,
            sizes,
            np.array([len(packet) for packet in whole], np.int64),
            np.full(n, 101, np.int32),
            np.zeros(n, np.int32),
        )
    )


def segment(version: int, data: bytes = MAIL) -> bytes:
    ends = ("192.0.2.1", "192.0.2.2") if version == 4 else ("2001:db8::1", "2001:db8::2")
    return Link(ends[0], 40000, ends[1], 25, ethernet=False).segment(1000, 1, 24, data)


@given(
    st.sampled_from((4, 6)), st.sampled_from((8, 16, 64, 1400)), st.randoms(use_true_random=False), st.integers(1, 9)
)
def test_any_order_any_batches(version: int, size: int, shuffle: random.Random, batch: int) -> None:
    pieces = pieces_of(segment(version, MAIL[:600]), size)
    shuffle.shuffle(pieces)
    decoder = Decoder()
    rows = []
    for start in range(0, len(pieces), batch):
        got = feed(decoder, pieces[start : start + batch])
        assert got.skipped == {}
        if len(got):
            payload = got.buf[int(got.start[0]) :][: int(got.captured[0])]
            rows.append((len(got), int(got.frame[0]) + start, payload, got))
    assert [row[:3] for row in rows] == [(1, len(pieces), MAIL[:600])]
    got = rows[0][3]
    low = int(ip_address("192.0.2.1" if version == 4 else "2001:db8::1")) & (2**64 - 1)
    assert (int(got.src_lo[0]), int(got.sport[0]), int(got.seq[0])) == (low, 40000, 1000)
    assert decoder.close() == {}


def test_the_first_copy_of_a_byte_wins() -> None:
    pieces = pieces_of(segment(4, b"A" * 100), 64)
    other = pieces_of(segment(4, b"B" * 100), 64)
    got = feed(Decoder(), [pieces[0], other[0], pieces[1]])
    assert got.buf[int(got.start[0]) :][: int(got.captured[0])] == b"A" * 100


def test_two_packets_with_one_identification_and_other_ends_do_not_mix() -> None:
    one = pieces_of(segment(4), 1400)
    other = pieces_of(Link("192.0.2.9", 40000, "192.0.2.2", 25, ethernet=False).segment(5, 1, 24, b"z" * 3000), 1400)
    got = feed(Decoder(), [one[0], other[0], one[1], other[1], *one[2:], *other[2:]])
    assert sorted(got.length.tolist()) == sorted([len(MAIL), 3000])


def test_incomplete_packets_are_counted() -> None:
    decoder = Decoder()
    pieces = pieces_of(segment(4), 1400)
    assert len(feed(decoder, pieces[:-1])) == 0
    assert decoder.close() == {"fragment without the rest of its packet": len(pieces) - 1}


def test_a_packet_is_waited_for_sixty_seconds() -> None:
    decoder = Decoder()
    pieces = pieces_of(segment(4), 1400)
    feed(decoder, pieces[:-1])
    late = feed(decoder, pieces[-1:], at_s=61)
    assert len(late) == 0
    assert late.skipped == {"fragment without the rest of its packet": len(pieces) - 1}


def test_held_fragments_are_bounded() -> None:
    decoder = Decoder(Limits(fragments=10))
    first = [
        pieces_of(Link(f"192.0.2.{host}", 1, "198.51.100.1", 25, ethernet=False).segment(1, 1, 24, bytes(100)), 64)[0]
        for host in range(100)
    ]
    got = feed(decoder, first)
    assert got.skipped == {"fragment without the rest of its packet": 90}
    assert decoder.close() == {"fragment without the rest of its packet": 10}


def test_a_fragment_cut_by_the_snaplen_is_counted() -> None:
    got = feed(Decoder(), pieces_of(segment(4), 1400), cut=1000)
    assert len(got) == 0
    assert got.skipped["fragment cut short"] >= 3


@pytest.mark.parametrize("version", [4, 6])
def test_an_atomic_fragment_is_a_packet(version: int) -> None:
    pieces = pieces_of(segment(version, b"x"), 1400)
    assert len(pieces) == 1
    assert len(feed(Decoder(), pieces)) == 1


@pytest.mark.parametrize("version", [4, 6])
def test_padding_behind_a_fragment_is_no_part_of_it(version: int) -> None:
    """The last fragment may be so short that Ethernet pads it; in whatever order it comes."""
    data = MAIL[:100]
    for pieces in (pieces_of(segment(version, data), 112), pieces_of(segment(version, data), 112)[::-1]):
        got = feed(Decoder(), [piece + b"\xee" * 9 for piece in pieces])
        assert got.buf[int(got.start[0]) :][: int(got.captured[0])] == data
        assert int(got.length[0]) == len(data)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_pieces_that_overlap_in_part(order: tuple[int, ...]) -> None:
    """One piece begins within the one before it: each byte is there once."""
    packet = segment(4, MAIL[:180])
    header, data = packet[:20], packet[20:]

    def piece(start: int, stop: int) -> bytes:
        part = data[start:stop]
        more = 0x2000 if stop < len(data) else 0
        return header[:2] + struct.pack(">HHH", 20 + len(part), 5, more | start // 8) + header[8:20] + part

    pieces = [piece(0, 80), piece(64, 128), piece(120, 200)]
    got = feed(Decoder(), [pieces[number] for number in order])
    assert got.buf[int(got.start[0]) :][: int(got.captured[0])] == MAIL[:180]
