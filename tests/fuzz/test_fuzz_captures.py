"""Damaged and hostile captures: nothing but ``CaptureError`` is raised, and what is held stays within its budget."""

from __future__ import annotations

import gzip
import struct
from functools import cache
from pathlib import Path

import lz4.frame
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from smtpdebug.engine import Engine, Item
from smtpdebug.errors import CaptureError
from smtpdebug.model.smtp import Conversation
from smtpdebug.model.streams import MAIL_PORTS, Limits
from smtpdebug.pcap.formats import walker_for
from smtpdebug.render.jsonl import JsonLines
from smtpdebug.rules.verdicts import Verdicts
from smtpdebug.sources.blocks import ByteStream, DamagedCompression
from smtpdebug.sources.files import batches_from_bytes
from smtpdebug.tcp.reassembly import Reassembler
from smtpdebug.tls.decrypt import NativeDecryptor

CAPTURES = Path(__file__).resolve().parents[2] / "captures"
SEEDS = sorted(CAPTURES.glob("*/capture*.pcap"))
SMALL = Limits(
    streams=5,
    stream_bytes=2_000,
    total_bytes=4_000,
    reorder_segments=4,
    stream_events=3,
    line_bytes=100,
    exchanges=5,
    header_bytes=50,
    body_bytes=50,
    pending_conversations=2,
    tls_spool_bytes=2_000,
    fragments=2,
)
HEADS = (
    struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1),
    struct.pack(">IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, 276),
    struct.pack("<IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28) + struct.pack("<IIHHII", 1, 20, 1, 0, 0, 20),
)
"""Of a classic capture in either byte order, and of a pcapng one with an interface."""


@cache
def seed(path: Path) -> bytes:
    return path.read_bytes()


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A shipped capture with bytes changed, pieces cut out, repeated and moved."""
    data = bytearray(seed(draw(st.sampled_from(SEEDS))))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data)))
        size = draw(st.sampled_from([1, 2, 4, 16, 60, 400]))
        match draw(st.integers(0, 3)):
            case 0:
                data[at : at + size] = draw(st.binary(min_size=size, max_size=size))
            case 1:
                del data[at : at + size]
            case 2:
                data[at:at] = data[at : at + size] * draw(st.integers(1, 3))
            case 3:
                to = draw(st.integers(0, len(data)))
                data[to : to + size] = data[at : at + size]
    return bytes(data)


@st.composite
def texts_changed(draw: st.DrawFn) -> bytes:
    """A shipped capture whose framing is whole while payload octets are others."""
    data = bytearray(seed(draw(st.sampled_from(SEEDS))))
    at, rows = 24, []
    while at + 16 <= len(data):
        size = struct.unpack_from("<I", data, at + 8)[0]
        rows.append((at + 16, size))
        at += 16 + size
    for start, size in draw(st.lists(st.sampled_from(rows), min_size=1, max_size=8)):
        if size > 40:
            where = start + draw(st.integers(26, size - 1))
            new = draw(st.one_of(st.binary(max_size=40), st.sampled_from(WORDS)))[: start + size - where]
            data[where : where + len(new)] = new
    return bytes(data)


@st.composite
def packets_moved(draw: st.DrawFn) -> bytes:
    """Shipped captures with packets lost, repeated, late, cut short or with other flags and sequence numbers."""
    data = seed(draw(st.sampled_from(SEEDS)))
    at, rows = 24, []
    while at + 16 <= len(data):
        size = struct.unpack_from("<I", data, at + 8)[0]
        rows.append((data[at : at + 8], size, data[at + 16 : at + 16 + size]))
        at += 16 + size
    for _ in range(draw(st.integers(1, 6))):
        here = draw(st.integers(0, len(rows) - 1))
        when, wire, packet = rows[here]
        match draw(st.integers(0, 4)):
            case 0:
                if len(rows) > 1:
                    del rows[here]
            case 1:
                there = draw(st.integers(0, len(rows) - 1))
                rows.insert(there, (rows[there][0], wire, packet))
            case 2:
                there = draw(st.integers(0, len(rows) - 1))
                rows[here], rows[there] = (when, *rows[there][1:]), (rows[there][0], wire, packet)
            case 3:
                rows[here] = when, wire, packet[: draw(st.integers(0, len(packet)))]
            case 4:
                octet = draw(st.integers(min(36, len(packet) - 1), len(packet) - 1)) if packet else 0
                changed = bytearray(packet)
                changed[octet : octet + 1] = draw(st.binary(min_size=1, max_size=1))
                rows[here] = when, wire, bytes(changed)
    return data[:24] + b"".join(when + struct.pack("<II", len(packet), wire) + packet for when, wire, packet in rows)


WORDS = [
    b"\r\n",
    b"\r\n.\r\n",
    b"\n.\n",
    b"DATA\r\n",
    b"250-",
    b"354 ok\r\n",
    b"220 ok\r\n",
    b"BDAT 99999999999999\r\n",
    b"STARTTLS\r\n",
    b"AUTH PLAIN =\r\n",
    b"\x16\x03\x01\xff\xff\x01",
    b"\x15\x03\x03\x00\x02\x02\x28",
    b"\x80\x2e\x01",
    b"PROXY TCP4 1.1.1.1\r\n",
    b"\r\n\r\n\0\r\nQUIT",
    b"LHLO x\r\n",
]


def read_through(data: bytes, limits: Limits, batch_packets: int) -> list[Conversation]:
    """The whole pipeline over one capture; a capture that is none is the only thing that may be raised."""
    decryptor = NativeDecryptor(limits=limits)
    engine = Engine(limits, decryptor=decryptor, judge=Verdicts())
    found = []
    try:
        batches, _ = batches_from_bytes(data, batch_packets=batch_packets, limits=limits)
    except CaptureError:
        return []
    for batch in batches:
        found += list(engine.feed(batch))
    found += list(engine.close())
    return [event for event in found if not isinstance(event, Item)]


class Sponge:
    """Takes what is written."""

    def write(self, data: bytes) -> int:
        return len(data)

    def flush(self) -> None: ...


@given(mutated() | texts_changed() | packets_moved(), st.sampled_from([Limits(), SMALL]), st.sampled_from([1, 9, 1000]))
def test_the_whole_pipeline(data: bytes, limits: Limits, batch_packets: int) -> None:
    sink = JsonLines(Sponge())  # type: ignore[arg-type]  # all that it asks of a file
    for conversation in read_through(data, limits, batch_packets):
        assert len(conversation.exchanges) <= limits.exchanges + 256
        assert len(conversation.stream.events) <= limits.stream_events
        assert conversation.finished
        sink.conversation(conversation)
    sink.close()


@given(mutated() | texts_changed() | packets_moved(), st.integers(1, 30))
def test_damage_reads_the_same_in_any_batches(data: bytes, batch_packets: int) -> None:
    sink = JsonLines(Sponge())  # type: ignore[arg-type]  # as above
    lines = [[sink.line(one) for one in read_through(data, Limits(), size)] for size in (batch_packets, 1000)]
    assert lines[0] == lines[1]


@given(mutated(), st.integers(1, 50))
def test_held_bytes_stay_within_the_budget(data: bytes, batch_packets: int) -> None:
    reassembler = Reassembler(SMALL, MAIL_PORTS)
    try:
        batches, _ = batches_from_bytes(data, batch_packets=batch_packets)
    except CaptureError:
        return
    for batch in batches:
        for _ in reassembler.feed(batch):
            assert reassembler.held_bytes <= SMALL.total_bytes + 65_535
        assert reassembler.held_bytes <= SMALL.total_bytes
    list(reassembler.close())
    assert reassembler.held_bytes == 0


@given(st.sampled_from(HEADS), st.binary(max_size=400), st.integers(1, 20))
def test_walkers(head: bytes, rest: bytes, most: int) -> None:
    """Any bytes behind a good beginning: rows lie within the buffer, and the walk comes to an end."""
    data = head + rest
    found = walker_for(data)
    assert found is not None
    walker, at = found
    for _ in range(len(data)):
        records, now = walker.walk(data, at, most)
        assert at <= now <= len(data)
        assert (records.offset >= 0).all()
        assert (records.captured >= 0).all()
        assert (records.offset + records.captured <= len(records.buf)).all()
        assert (records.wire >= records.captured).all()
        if now == at or walker.fault is not None:
            break
        at = now
    walker.rest(data, at)
    read_through(data, SMALL, most)


@given(st.binary(max_size=64), st.sampled_from(["gz", "zst", "lz4"]), st.data())
def test_damaged_compression(text: bytes, form: str, data: st.DataObject) -> None:
    whole = HEADS[0] + text
    pack = {"gz": gzip.compress, "zst": zstandard.ZstdCompressor().compress, "lz4": lz4.frame.compress}[form]
    packed = bytearray(pack(whole))
    at = data.draw(st.integers(4, len(packed) - 1))
    packed[at] ^= data.draw(st.integers(1, 255))
    read_through(bytes(packed[: data.draw(st.integers(0, len(packed)))]), SMALL, 10)


@pytest.mark.parametrize("form", ["gz", "zst", "lz4"])
def test_a_bomb_is_read_in_pieces(form: str) -> None:
    """64 MiB of zeros in a few KiB: no read gives more than was asked for."""
    size = 64 << 20
    pack = {"gz": gzip.compress, "zst": zstandard.ZstdCompressor().compress, "lz4": lz4.frame.compress}[form]
    stream = ByteStream("bomb", pack(bytes(size)))
    seen = 0
    try:
        while piece := stream.read(1 << 16):
            assert len(piece) <= 1 << 16
            seen += len(piece)
    except DamagedCompression:
        pytest.fail("it is whole")
    assert seen == size
