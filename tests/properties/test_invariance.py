"""Same packets, same records: however they are batched, cut into files, compressed, framed, sharded or repeated.

The captures that ship are read as they are and then in every other form. What a record says must not change; only
where it says that something was seen (capture and frame) follows the files.
"""

from __future__ import annotations

import gzip
import heapq
import random
import struct
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import lz4.frame
import msgspec
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smtpdebug.api import Secrets
from smtpdebug.engine import Engine, Item
from smtpdebug.model.smtp import Conversation
from smtpdebug.pcap.writer import PcapWriter
from smtpdebug.render.jsonl import record
from smtpdebug.rules.verdicts import Verdicts
from smtpdebug.sources.files import BATCH_PACKETS, open_captures

CAPTURES = Path(__file__).resolve().parents[2] / "captures"
CASES = sorted({path.parent.name for path in CAPTURES.glob("*/capture*.pcap")})
PLACES = frozenset({"captures", "capture", "frame"})
COUNTERS = frozenset({"packets", "retransmissions", "out_of_order", "keep_alives", "zero_windows"})

Packet: TypeAlias = tuple[int, int, bytes]
"""Nanoseconds since the epoch, length on the wire, what was captured."""
Records: TypeAlias = list[dict[str, Any]]


@cache
def packets(case: str) -> tuple[int, tuple[Packet, ...]]:
    """Link type and packets of a case, read by a walker of our own: classic pcap in the byte order of x86."""
    link, found = 1, []
    for path in sorted((CAPTURES / case).glob("capture*.pcap")):
        data = path.read_bytes()
        magic, link = struct.unpack_from("<I16xI", data)
        unit = {0xA1B2C3D4: 1000, 0xA1B23C4D: 1}[magic]
        at = 24
        while at + 16 <= len(data):
            seconds, fraction, size, wire = struct.unpack_from("<IIII", data, at)
            found.append((seconds * 1_000_000_000 + fraction * unit, wire, data[at + 16 : at + 16 + size]))
            at += 16 + size
    return link, tuple(found)


def secrets_of(case: str) -> Secrets:
    """The keys that come with a case."""
    folder = CAPTURES / case
    rsa_key, keylog = folder / "server.key", folder / "keylog.txt"
    return Secrets([rsa_key] if rsa_key.exists() else [], [keylog] if keylog.exists() else [], decrypt_with="native")


def judged(
    case: str, paths: Iterable[str | Path], *, batch_packets: int = BATCH_PACKETS, shard: tuple[int, int] | None = None
) -> list[Conversation]:
    """The conversations of these files, judged, in the order they come."""
    secrets = secrets_of(case)
    engine = Engine(decryptor=secrets.decryptor, keys=secrets.ring, judge=Verdicts(), shard=shard)
    captures = open_captures(list(paths), batch_packets=batch_packets)
    found = [event for batch in captures for event in engine.feed(batch)]
    found += engine.close()
    assert not captures.errors
    assert not captures.notes
    return [event for event in found if not isinstance(event, Item)]


def without(value: Any, names: frozenset[str]) -> Any:
    """A record without the fields of these names, at any depth."""
    if isinstance(value, dict):
        return {name: without(each, names) for name, each in value.items() if name not in names}
    if isinstance(value, list):
        return [without(each, names) for each in value]
    return value


def records(conversations: Iterable[Conversation], *leave_out: frozenset[str]) -> Records:
    """What ``-f jsonl`` writes, as dictionaries."""
    lines = [msgspec.json.decode(msgspec.json.encode(record(one))) for one in conversations]
    return [without(line, frozenset().union(*leave_out)) for line in lines]


@cache
def plain(case: str) -> Sequence[Conversation]:
    """The case as it ships."""
    return judged(case, sorted((CAPTURES / case).glob("capture*.pcap")))


def write(path: Path, link: int, some: Iterable[Packet]) -> Path:
    """A classic capture of these packets."""
    with path.open("wb") as file:
        writer = PcapWriter(file, link)
        for ts_ns, wire, data in some:
            writer.write(ts_ns, data, wire)
    return path


def ng(link: int, some: Iterable[Packet]) -> bytes:
    """A pcapng file with nanosecond times (draft-ietf-opsawg-pcapng sections 4.1 to 4.3)."""

    def block(kind: int, body: bytes) -> bytes:
        size = 12 + len(body)
        return struct.pack("<II", kind, size) + body + struct.pack("<I", size)

    out = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
    out += block(1, struct.pack("<HHI", link, 0, 0) + struct.pack("<HHB3xHH", 9, 1, 9, 0, 0))
    for ts_ns, wire, data in some:
        head = struct.pack("<IIIII", 0, ts_ns >> 32, ts_ns & 0xFFFFFFFF, len(data), wire)
        out += block(6, head + data + bytes(-len(data) % 4))
    return out


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("size", [1, 7])
def test_batches_do_not_show(case: str, size: int) -> None:
    files = sorted((CAPTURES / case).glob("capture*.pcap"))
    assert plain(case)
    assert records(judged(case, files, batch_packets=size)) == records(plain(case))


@pytest.mark.parametrize("case", CASES)
def test_cut_into_three_files_under_any_names(case: str, tmp_path: Path) -> None:
    link, all_packets = packets(case)
    chance = random.Random(case)
    for number in range(2):
        first, second = sorted(chance.sample(range(1, len(all_packets)), 2)) if len(all_packets) > 2 else (1, 1)
        names = chance.sample(["a", "b", "c"], 3)
        parts = (all_packets[:first], all_packets[first:second], all_packets[second:])
        folder = tmp_path / str(number)
        folder.mkdir()
        written = [write(folder / name, link, part) for name, part in zip(names, parts, strict=True) if part]
        chance.shuffle(written)
        assert records(judged(case, written), PLACES) == records(plain(case), PLACES)


COMPRESSED: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "zst": zstandard.ZstdCompressor().compress,
    "lz4": lz4.frame.compress,
}


@pytest.mark.parametrize("case", CASES)
def test_compressed_or_as_pcapng(case: str, tmp_path: Path) -> None:
    link, all_packets = packets(case)
    one = write(tmp_path / "one", link, all_packets)
    wanted = records(judged(case, [one]), frozenset({"captures", "capture"}))
    assert without(wanted, PLACES) == records(plain(case), PLACES)
    forms = {name: pack(one.read_bytes()) for name, pack in COMPRESSED.items()} | {"ng": ng(link, all_packets)}
    for name, data in forms.items():
        path = tmp_path / name
        path.write_bytes(data)
        assert records(judged(case, [path]), frozenset({"captures", "capture"})) == wanted, name


@pytest.mark.parametrize("case", CASES)
def test_every_packet_twice(case: str, tmp_path: Path) -> None:
    """As a capture on two interfaces of one host has them: what was said is the same, only TCP counts more."""
    link, all_packets = packets(case)
    twice = write(tmp_path / "twice", link, [packet for packet in all_packets for _ in range(2)])
    said = frozenset({"tcp", "findings", "diagnoses"})
    assert records(judged(case, [twice]), PLACES, said) == records(plain(case), PLACES, said)


@pytest.mark.parametrize("shards", [2, 3])
@pytest.mark.parametrize("case", CASES)
def test_shards_make_up_the_whole(case: str, shards: int) -> None:
    files = sorted((CAPTURES / case).glob("capture*.pcap"))
    parts = [judged(case, files, shard=(k, shards)) for k in range(shards)]
    merged = heapq.merge(*parts, key=_first_packet)
    assert records(merged) == records(plain(case))


def _first_packet(conversation: Conversation) -> tuple[int, str, int]:
    opened = conversation.stream.opened
    return opened.ts_ns, opened.capture, opened.frame


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cases=st.lists(st.sampled_from(CASES), min_size=2, max_size=4, unique=True), size=st.integers(1, 40))
def test_captures_of_many_at_once(cases: list[str], size: int, tmp_path: Path) -> None:
    """Cases laid over each other in time: each connection says what it says alone, whatever the batches."""
    wanted = [packets(case) for case in cases]
    link = wanted[0][0]
    shifted = []
    for kind, some in wanted:
        if kind == link:
            shifted.append([(ts_ns - some[0][0] + 1_700_000_000_000_000_000, wire, data) for ts_ns, wire, data in some])
    mixed = write(tmp_path / "mixed", link, heapq.merge(*shifted, key=lambda packet: packet[0]))
    assert records(judged("plain", [mixed], batch_packets=size)) == records(judged("plain", [mixed]))
