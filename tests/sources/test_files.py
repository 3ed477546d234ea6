"""Files, folders, globs and compression: what is read, what is said of what is not."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from pathlib import Path

import lz4.frame
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from smtpdebug.errors import CaptureError
from smtpdebug.pcap.writer import Link, write_pcap
from smtpdebug.sources.files import CaptureSet, batches_from_bytes, open_captures

T = 1_700_000_000_000_000_000
LINK = Link("192.0.2.1", 40000, "192.0.2.2", 25)
PACKETS = [(T + number * 1000, LINK.segment(number, 0, 24, b"line %d\r\n" % number)) for number in range(50)]


def capture(packets: list[tuple[int, bytes]] = PACKETS) -> bytes:
    file = io.BytesIO()
    write_pcap(file, packets)
    return file.getvalue()


def seqs(captures: CaptureSet) -> list[int]:
    return [seq for batch in captures for seq in batch.seq.tolist()]


def zstd(data: bytes) -> bytes:
    return zstandard.compress(data)


WRAPS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "zstd": zstd,
    "lz4": lz4.frame.compress,
    "two gzip members": lambda data: gzip.compress(data[:700]) + gzip.compress(data[700:]),
    "two zstd frames": lambda data: zstd(data[:700]) + zstd(data[700:]),
    "two lz4 frames": lambda data: lz4.frame.compress(data[:700]) + lz4.frame.compress(data[700:]),
    "gzip with padding": lambda data: gzip.compress(data) + bytes(512),
}


@pytest.mark.parametrize("wrap", WRAPS)
def test_compression_goes_by_content(wrap: str, tmp_path: Path) -> None:
    path = tmp_path / "of-any-name"
    path.write_bytes(WRAPS[wrap](capture()))
    captures = open_captures([path])
    assert seqs(captures) == list(range(50))
    assert (captures.errors, captures.notes, captures.packets) == ([], [], 50)
    assert captures.bytes_total == captures.bytes_read == path.stat().st_size


@pytest.mark.parametrize("wrap", ["gzip", "zstd", "lz4"])
def test_compressed_data_that_ends_early_gives_what_is_there(wrap: str, tmp_path: Path) -> None:
    packets = [
        (ts_ns, frame + bytes((number * 7919 + k) % 251 for k in range(900)))
        for number, (ts_ns, frame) in enumerate(PACKETS * 40)
    ]
    stored = WRAPS[wrap](capture(packets))
    path = tmp_path / "cut"
    path.write_bytes(stored[: len(stored) * 2 // 3])
    captures = open_captures([path])
    list(captures)
    assert captures.errors == []
    assert 0 < captures.packets < len(packets) or wrap == "zstd"
    assert len(captures.notes) == 1
    assert str(path) in captures.notes[0]


@pytest.mark.parametrize("wrap", ["gzip", "zstd", "lz4"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_compressed_data_without_its_end_is_said_to_end_early(wrap: str, kept: float, tmp_path: Path) -> None:
    stored = WRAPS[wrap](capture())
    path = tmp_path / "cut"
    path.write_bytes(stored[: int(len(stored) * kept)])
    captures = open_captures([path])
    list(captures)
    (told,) = [str(error) for error in captures.errors] + captures.notes
    assert "the compressed data ends early" in told


@pytest.mark.parametrize("wrap", ["gzip", "zstd", "lz4"])
@given(data=st.data())
def test_damaged_compressed_data_is_an_error_or_a_note(wrap: str, data: st.DataObject) -> None:
    stored = bytearray(WRAPS[wrap](capture()))
    at = data.draw(st.integers(4, len(stored) - 1))
    stored[at] ^= data.draw(st.integers(1, 255))
    try:
        batches, captures = batches_from_bytes(bytes(stored))
    except CaptureError:
        return
    assert sum(batch.packets for batch in batches) == captures.packets


def test_a_cut_last_packet_is_a_note_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "cut.pcap"
    data = capture()
    path.write_bytes(data[:-3])
    captures = open_captures([path])
    assert seqs(captures) == list(range(49))
    at = len(data) - 16 - len(PACKETS[-1][1])
    assert captures.notes == [
        f"{path}, frame 50, offset {at}: the last packet is cut short; what comes before it was read"
    ]
    assert captures.errors == []


def test_files_that_are_no_captures_are_errors_and_the_others_are_read(tmp_path: Path) -> None:
    (tmp_path / "empty.pcap").write_bytes(b"")
    (tmp_path / "text.pcap").write_text("10:00:00 IP 192.0.2.1.25 > 192.0.2.2.4000: Flags [S]\n")
    (tmp_path / "good.pcap").write_bytes(capture())
    (tmp_path / "only-header.pcap").write_bytes(capture([]))
    names = ["empty.pcap", "text.pcap", "missing.pcap", "good.pcap", "only-header.pcap"]
    captures = open_captures([tmp_path / name for name in names])
    assert seqs(captures) == list(range(50))
    said = [str(error) for error in captures.errors]
    assert [error.path for error in captures.errors] == [str(tmp_path / name) for name in names[:3]]
    assert "empty file" in said[0]
    assert "not a packet capture; it looks like text" in said[1]
    assert "No such file" in said[2]


def test_a_header_alone_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "header.pcap"
    path.write_bytes(capture([]))
    captures = open_captures([path])
    assert seqs(captures) == []
    assert (captures.errors, captures.notes, captures.packets) == ([], [], 0)


def test_a_folder_is_its_captures_and_the_rest_is_counted_once(tmp_path: Path) -> None:
    (tmp_path / "b.pcap").write_bytes(capture(PACKETS[:20]))
    (tmp_path / "a.pcap").write_bytes(capture(PACKETS[20:]))
    (tmp_path / "server.log").write_text("postfix/smtpd: connect from ...\n")
    (tmp_path / "new.pcap").write_bytes(b"")
    captures = open_captures([tmp_path])
    assert seqs(captures) == list(range(50))
    assert captures.errors == []
    assert captures.notes == [f"{tmp_path}: 2 files left out that are not captures or are empty"]


def test_a_folder_without_captures_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "server.log").write_text("postfix/smtpd: connect from ...\n")
    captures = open_captures([tmp_path, tmp_path / "empty"])
    assert [str(error) for error in captures.errors] == [
        f"{tmp_path / 'empty'}: no capture in this folder",
        f"{tmp_path}: no capture in this folder; folders within it are not read; "
        f"name one, or a glob such as {tmp_path}/*/*.pcap",
    ]


def test_globs_and_repeated_names(tmp_path: Path) -> None:
    (tmp_path / "x1.pcap").write_bytes(capture(PACKETS[:20]))
    (tmp_path / "x2.pcap").write_bytes(capture(PACKETS[20:]))
    pattern = str(tmp_path / "x*.pcap")
    captures = open_captures([pattern, tmp_path / "x1.pcap", tmp_path])
    assert seqs(captures) == list(range(50))
    nothing = open_captures([str(tmp_path / "y*.pcap")])
    assert [str(error) for error in nothing.errors] == [f"{tmp_path}/y*.pcap: no file matches"]


def test_a_file_name_with_glob_characters_is_that_file(tmp_path: Path) -> None:
    path = tmp_path / "trace[1].pcap"
    path.write_bytes(capture())
    assert seqs(open_captures([path])) == list(range(50))


@pytest.mark.parametrize("size", [1, 3, 7, 64])
def test_batches_hold_no_more_than_asked(size: int) -> None:
    batches, captures = batches_from_bytes(capture(), "name", batch_packets=size)
    assert [batch.packets for batch in batches] == [size] * (50 // size) + ([50 % size] if 50 % size else [])
    assert captures.captures == batches[0].captures == ("name",)
    for batch in batches:
        frames = len(PACKETS[0][1]) + 16 + 2
        assert len(batch.buf) <= batch.packets * frames
        for row in range(len(batch)):
            payload = batch.buf[int(batch.start[row]) :][: int(batch.captured[row])]
            assert payload == b"line %d\r\n" % int(batch.seq[row])


def test_secrets_come_with_the_batches() -> None:
    import struct

    def block(kind: int, body: bytes) -> bytes:
        size = struct.pack("<I", len(body) + 12)
        return struct.pack("<I", kind) + size + body + size

    section = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)) + block(1, struct.pack("<HHI", 1, 0, 0))
    secrets = block(10, struct.pack("<II", 0x544C534B, 8) + b"CLIENT_R")
    frame = PACKETS[0][1] + bytes(-len(PACKETS[0][1]) % 4)
    packet = block(6, struct.pack("<IIIII", 0, 0, 5, len(frame), len(frame)) + frame)
    batches, _ = batches_from_bytes(section + secrets + packet)
    assert [(batch.packets, batch.secrets) for batch in batches] == [(1, (b"CLIENT_R",))]
    late, _ = batches_from_bytes(section + packet + secrets)
    assert sum(batch.packets for batch in late) == 1
    assert [text for batch in late for text in batch.secrets] == [b"CLIENT_R"]


def test_skipped_packets_are_added_up() -> None:
    arp = bytes(12) + b"\x08\x06" + bytes(28)
    half_fragment = LINK.segment(1, 0, 24, bytes(40))
    half_fragment = half_fragment[:20] + b"\x20\x00" + half_fragment[22:]
    batches, captures = batches_from_bytes(capture([(T, arp), (T, half_fragment), (T, arp)]), batch_packets=1)
    assert captures.skipped == {"ARP": 2, "fragment without the rest of its packet": 1}
    total = sum(number for batch in batches for number in batch.skipped.values())
    assert total == captures.packets == 3


def test_unreachable_messages_name_the_file_and_the_frame() -> None:
    quoted = LINK.segment(77, 0, 2)[14:]
    icmp = b"\x03\x01" + bytes(6) + quoted
    header = (
        b"\x45\0" + (20 + len(icmp)).to_bytes(2) + bytes(4) + b"\x40\x01\0\0" + bytes([203, 0, 113, 1, 192, 0, 2, 1])
    )
    frame = bytes(12) + b"\x08\x00" + header + icmp
    batches, captures = batches_from_bytes(capture([PACKETS[0], (T + 5000, frame)]), "trace.pcap")
    (error,) = [error for batch in batches for error in batch.unreachable]
    assert (error.capture, error.frame, error.ts_ns, error.reporter) == ("trace.pcap", 2, T + 5000, "203.0.113.1")
    assert (error.dst, error.dport, error.seq) == ("192.0.2.2", 25, 77)
    assert captures.skipped == {}


@pytest.mark.parametrize("wrap", ["plain", "gzip"])
def test_a_packet_longer_than_a_batch(wrap: str, tmp_path: Path) -> None:
    """Segmentation offload on loopback makes packets of 64 KiB and more."""
    long = LINK.segment(1, 0, 24, bytes(250_000))
    path = tmp_path / "long.pcap"
    path.write_bytes(WRAPS[wrap](capture([(T, long), (T + 1, long), PACKETS[2]])))
    captures = open_captures([path], batch_bytes=1)
    lengths = [length for batch in captures for length in batch.length.tolist()]
    assert lengths == [250_000, 250_000, len(b"line 2\r\n")]
    assert captures.notes == []
