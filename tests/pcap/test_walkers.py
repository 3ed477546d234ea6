"""File formats: every byte order and time resolution, blocks to skip, damage."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpdebug.pcap.classic import ClassicWalker
from smtpdebug.pcap.formats import SnoopWalker, looks_like, walker_for
from smtpdebug.pcap.ng import Interface, NgWalker
from smtpdebug.pcap.records import Records, Walker, join_records

PACKETS = [(1_700_000_000_123_456_789 + number * 1_000_000_007, bytes([number]) * (number % 7)) for number in range(20)]


def walk_all(data: bytes, most: int = 1000, block: int = 10**9) -> tuple[Records, Walker, list[bytes]]:
    """All records of a file that comes in blocks, and each record's bytes."""
    found = walker_for(data)
    assert found is not None
    walker, at = found
    parts, have = [], at
    buf = data[:at]
    while True:
        records, at = walker.walk(buf, at, most)
        if len(records):
            parts.append(records)
            if len(records) == most:
                continue
        if have >= len(data) or walker.fault:
            break
        buf, at, start = buf[at:] + data[have : have + block], 0, have
        have = min(len(data), start + block)
    rest = walker.rest(buf, at)
    if walker.fault is None and rest is not None:
        walker.fault = rest
    joined = join_records(parts) if parts else records
    taken = [
        joined.buf[start : start + size]
        for start, size in zip(joined.offset.tolist(), joined.captured.tolist(), strict=True)
    ]
    return joined, walker, taken


def classic(order: str, magic: int, unit: int, extra: int = 0) -> bytes:
    out = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, 1)
    for ts_ns, packet in PACKETS:
        seconds, rest = divmod(ts_ns, 10**9)
        out += struct.pack(order + "IIII", seconds, rest // unit, len(packet), len(packet) + 5) + bytes(extra) + packet
    return out


FORMS = [("<", 0xA1B2C3D4, 1000, 0), (">", 0xA1B2C3D4, 1000, 0), ("<", 0xA1B23C4D, 1, 0), (">", 0xA1B23C4D, 1, 0)]


@pytest.mark.parametrize("form", [*FORMS, ("<", 0xA1B2CD34, 1000, 8), (">", 0xA1B2CD34, 1000, 8)])
@pytest.mark.parametrize(("most", "block"), [(1000, 10**9), (1, 10**9), (3, 7), (1000, 1)])
def test_classic(form: tuple[str, int, int, int], most: int, block: int) -> None:
    records, walker, taken = walk_all(classic(*form), most, block)
    unit = form[2]
    assert walker.fault is None
    assert records.ts_ns.tolist() == [ts_ns // unit * unit for ts_ns, _ in PACKETS]
    assert taken == [packet for _, packet in PACKETS]
    assert records.frame.tolist() == list(range(1, 21))
    assert records.wire.tolist() == [len(packet) + 5 for _, packet in PACKETS]
    assert set(records.link.tolist()) == {1}


def test_the_link_type_is_the_lower_half() -> None:
    """The upper bits say how long the frame check sequence is (pcap draft, section 4)."""
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 0x14000071)
    assert ClassicWalker(head).link == 113


@given(st.integers(0, len(classic(*FORMS[0]))))
def test_a_cut_file_gives_all_before_the_cut(size: int) -> None:
    data = classic(*FORMS[0])[:size]
    if size < 24:
        assert walker_for(data) is None
        return
    ends = [24]
    for _, packet in PACKETS:
        ends.append(ends[-1] + 16 + len(packet))
    whole = sum(end <= size for end in ends) - 1
    records, walker, _ = walk_all(data)
    assert len(records) == whole
    if size in ends:
        assert walker.fault is None
    else:
        assert walker.fault is not None
        assert (walker.fault.frame, walker.fault.offset) == (whole + 1, ends[whole])
        assert "cut short" in walker.fault.what


@pytest.mark.parametrize("length", [262_145, 2**31, 2**32 - 1])
@pytest.mark.parametrize("block", [10**9, 5])
def test_an_absurd_length_in_the_middle_is_damage(length: int, block: int) -> None:
    data = bytearray(classic(*FORMS[0]))
    at = 24 + sum(16 + len(packet) for _, packet in PACKETS[:9])
    data[at + 8 : at + 12] = struct.pack("<I", length)
    records, walker, _ = walk_all(bytes(data), block=block)
    assert len(records) == 9
    assert walker.fault is not None
    assert (walker.fault.what, walker.fault.frame, walker.fault.offset) == ("the record header is damaged", 10, at)


def test_a_hole_of_zero_bytes_is_damage() -> None:
    """A file system that lost blocks leaves zeros, which would read as empty packets of 1970."""
    records, walker, _ = walk_all(classic(*FORMS[0]) + bytes(4096))
    assert len(records) == len(PACKETS)
    assert walker.fault is not None


# -- pcapng, written from draft-ietf-opsawg-pcapng


def block(order: str, kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    size = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + size + body + size


def section(order: str, major: int = 1) -> bytes:
    return block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, major, 0, -1))


def option(order: str, code: int, value: bytes) -> bytes:
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def interface(order: str, link: int, *options: bytes, snaplen: int = 0) -> bytes:
    body = struct.pack(order + "HHI", link, 0, snaplen) + b"".join(options)
    return block(order, 1, body + (option(order, 0, b"") if options else b""))


def enhanced(order: str, number: int, units: int, packet: bytes, wire: int | None = None) -> bytes:
    units &= 2**64 - 1
    head = struct.pack(order + "IIIII", number, units >> 32, units & 0xFFFFFFFF, len(packet), wire or len(packet))
    return block(order, 6, head + packet + bytes(-len(packet) % 4) + option(order, 1, b"a comment") + bytes(4))


def obsolete(order: str, number: int, units: int, packet: bytes) -> bytes:
    head = struct.pack(order + "HHIIII", number, 9, units >> 32, units & 0xFFFFFFFF, len(packet), len(packet))
    return block(order, 2, head + packet)


def simple(order: str, packet: bytes, wire: int | None = None) -> bytes:
    return block(order, 3, struct.pack(order + "I", wire or len(packet)) + packet)


T = 1_700_000_000


def everything(order: str, other: str) -> bytes:
    return (
        section(order)
        + block(order, 0x0BAD_F00D, b"of a vendor")
        + interface(order, 1)
        + interface(order, 276, option(order, 9, b"\x09"))
        + enhanced(order, 0, T * 10**6 + 5, b"micro")
        + block(order, 5, bytes(12))
        + enhanced(order, 1, T * 10**9 + 7, b"nano", wire=99)
        + block(order, 10, struct.pack(order + "II", 0x544C534B, 9) + b"KEY LOG 1" + bytes(3))
        + block(order, 10, struct.pack(order + "II", 0x57474B4C, 4) + b"wire")
        + simple(order, b"simple")
        + obsolete(order, 1, T * 10**9 + 9, b"obsolete")
        + section(other)
        + interface(other, 113, option(other, 9, b"\x8a"), option(other, 14, struct.pack(other + "q", 1000)))
        + enhanced(other, 0, (T << 10) + 512, b"binary")
        + enhanced(other, 5, 1, b"no such interface")
        + interface(other, 101, snaplen=4)
        + simple(other, b"with the snaplen of the first")
    )


@pytest.mark.parametrize(("order", "other"), [("<", ">"), (">", "<"), ("<", "<")])
@pytest.mark.parametrize(("most", "size"), [(1000, 10**9), (1, 10**9), (2, 11), (1000, 1)])
def test_pcapng(order: str, other: str, most: int, size: int) -> None:
    records, walker, taken = walk_all(everything(order, other), most, size)
    assert walker.fault is None
    assert taken == [
        b"micro",
        b"nano",
        b"simple",
        b"obsolete",
        b"binary",
        b"no such interface",
        b"with the snaplen of the first",
    ]
    assert records.ts_ns.tolist()[:5] == [
        T * 10**9 + 5000,
        T * 10**9 + 7,
        T * 10**9 + 7,  # a simple packet has no time: that of the packet before it
        T * 10**9 + 9,
        (T + 1000) * 10**9 + 500_000_000,
    ]
    assert records.link.tolist() == [1, 276, 1, 276, 113, -1, 113]
    assert records.wire.tolist()[1] == 99
    assert records.frame.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert walker.take_secrets() == (b"KEY LOG 1",)
    assert walker.take_secrets() == ()


def test_a_simple_packet_is_cut_at_the_snaplen_of_the_first_interface() -> None:
    data = section("<") + interface("<", 1, snaplen=4) + simple("<", b"abcd", wire=30) + simple("<", b"ef")
    records, _, taken = walk_all(data)
    assert taken == [b"abcd", b"ef"]
    assert records.wire.tolist() == [30, 2]


def test_custom_blocks_have_a_frame_number_as_in_wireshark() -> None:
    custom = block("<", 0xBAD, struct.pack("<I", 32473) + b"mine")
    data = section("<") + interface("<", 1) + custom + enhanced("<", 0, T, b"x")
    assert walk_all(data)[0].frame.tolist() == [2]


@pytest.mark.parametrize(
    ("resolution", "units", "ns"),
    [
        (6, T * 10**6, T * 10**9),
        (0, T, T * 10**9),
        (12, 10**18 + 1999, 10**15 + 1),
        (12, -(2**63), 2**63 // 1000),  # so fine a unit needs the top bit within 107 days
        (0x80, T, T * 10**9),
        (0x80 | 32, (T << 32) + 2**31, T * 10**9 + 500_000_000),
        (0x80 | 50, (5 << 50) + 2**49, 5_500_000_000),
        (19, 10**18 + 10, 100_000_000),
        (6, -1, -1000),
        (3, 2**62, 2**62),  # beyond what nanoseconds can hold: kept in range
    ],
)
def test_resolutions(resolution: int, units: int, ns: int) -> None:
    assert Interface(1, 0, resolution).nanoseconds(np.array([units], np.int64)).tolist() == [ns]


def test_a_damaged_block_ends_the_walk_with_a_word() -> None:
    good = section("<") + interface("<", 1) + enhanced("<", 0, T, b"x")
    for bad in (struct.pack("<II", 6, 8) + bytes(40), struct.pack("<II", 6, 2**31) + bytes(40), bytes(64)):
        records, walker, _ = walk_all(good + bad)
        assert len(records) == 1
        assert walker.fault is not None
        assert (walker.fault.what, walker.fault.frame) == ("the block header is damaged", 2)
        assert walker.fault.offset == len(good)


def test_a_section_of_another_version_is_not_guessed_at() -> None:
    data = section("<") + interface("<", 1) + enhanced("<", 0, T, b"x") + section("<", major=2)
    records, walker, _ = walk_all(data)
    assert len(records) == 1
    assert walker.fault is not None
    assert "version 2" in walker.fault.what


@given(st.data())
def test_a_mutated_capture_raises_nothing_and_keeps_what_came_before(data: st.DataObject) -> None:
    heads = {1: classic(*FORMS[1])[:24], 2: section("<") + interface("<", 1)}
    kind = data.draw(st.sampled_from((1, 2)))
    parts = [
        struct.pack(">IIII", T, number, number, number) + bytes([number]) * number
        if kind == 1
        else enhanced("<", 0, T * 10**6 + number, bytes([number]) * number)
        for number in range(1, 12)
    ]
    whole = heads[kind] + b"".join(parts)
    at = data.draw(st.integers(len(heads[kind]), len(whole) - 1))
    change = data.draw(st.binary(min_size=1, max_size=8))
    mutated = whole[:at] + change + whole[at + len(change) :]
    ends = np.cumsum([len(part) for part in parts]) + len(heads[kind])
    intact = int((ends <= at).sum())
    records, _, taken = walk_all(mutated)
    assert taken[:intact] == [bytes([number]) * number for number in range(1, intact + 1)]
    assert records.ts_ns.tolist()[:intact] == [T * 10**9 + number * 1000 for number in range(1, intact + 1)]


@given(st.binary(max_size=400), st.sampled_from((classic(*FORMS[0])[:24], section("<"), section(">"))))
def test_noise_after_a_header_raises_nothing(noise: bytes, head: bytes) -> None:
    records, _, taken = walk_all(head + noise)
    assert len(taken) == len(records)


def test_snoop() -> None:
    """RFC 1761."""
    head = b"snoop\0\0\0" + struct.pack(">II", 2, 4)
    data = head
    for number in range(3):
        packet = b"p" * (10 + number)
        pad = -len(packet) % 4
        data += struct.pack(">6I", 99, len(packet), 24 + len(packet) + pad, 0, T, number) + packet + bytes(pad)
    records, walker, taken = walk_all(data, most=2, block=13)
    assert isinstance(walker, SnoopWalker)
    assert taken == [b"p" * 10, b"p" * 11, b"p" * 12]
    assert records.ts_ns.tolist() == [T * 10**9 + number * 1000 for number in range(3)]
    assert records.wire.tolist() == [99] * 3
    assert walk_all(data[:-1])[1].fault is not None


def test_walkers_refuse_what_is_theirs_not() -> None:
    with pytest.raises(ValueError, match="pcap"):
        ClassicWalker(bytes(24))
    with pytest.raises(ValueError, match="pcapng"):
        NgWalker(bytes(24))


@pytest.mark.parametrize(
    ("head", "word"),
    [
        (b"-----BEGIN RSA PRIVATE KEY-----", "PEM"),
        (b"10:00:00.000 IP 192.0.2.1.25 > 192.0.2.2.4000: Flags [S]", "text"),
        (b"PK\x03\x04" + bytes(20), "archive"),
        (b"\xd4\xc3\xb2\xa1\x02", "cut"),
        (bytes(24), "expected pcap"),
    ],
)
def test_what_is_no_capture_is_named(head: bytes, word: str) -> None:
    assert walker_for(head) is None
    assert word in looks_like(head)


def test_an_absurd_length_is_damage_even_where_the_file_is_long_enough() -> None:
    data = classic(*FORMS[0])
    tail = struct.pack("<IIII", T, 0, 262_145, 262_145) + bytes(300_000)
    records, walker, _ = walk_all(data + tail)
    assert len(records) == len(PACKETS)
    assert walker.fault is not None
    assert walker.fault.offset == len(data)


def test_a_packet_reaches_no_further_than_its_block() -> None:
    whole = bytearray(enhanced("<", 0, T, b"abcdefgh"))
    whole[20:24] = struct.pack("<I", 10**6)
    data = section("<") + interface("<", 1) + bytes(whole) + enhanced("<", 0, T, b"next")
    records, _, taken = walk_all(data)
    assert len(records) == 2
    # Its options follow the packet in the block and cannot be told from it any more.
    assert taken[0].startswith(b"abcdefgh")
    assert len(taken[0]) == len(whole) - 32
    assert taken[1] == b"next"
