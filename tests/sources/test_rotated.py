"""A rotated set is one stream of packets in time order, whatever its files, batches and small disorders."""

from __future__ import annotations

import io
import random
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpdebug.pcap.writer import Link, write_pcap
from smtpdebug.sources.files import CaptureSet, batches_from_bytes, open_captures
from smtpdebug.sources.rotated import CLOCK_STEP_NS, WINDOW_PACKETS

T = 1_700_000_000_000_000_000
LINK = Link("192.0.2.1", 40000, "192.0.2.2", 25)
Row = tuple[int, str, int, int, bytes]


def packet(number: int) -> bytes:
    return LINK.segment(number, 0, 24, b"<%d>" % number)


def write(path: Path, times: list[tuple[int, int]]) -> None:
    """A capture of (time, number) packets."""
    with path.open("wb") as file:
        write_pcap(file, [(T + at, packet(number)) for at, number in times])


def rows(captures: CaptureSet) -> list[Row]:
    out = []
    for batch in captures:
        for row in range(len(batch)):
            start = int(batch.start[row])
            payload = batch.buf[start : start + int(batch.captured[row])]
            name = batch.captures[int(batch.capture[row])]
            out.append(
                (int(batch.ts_ns[row]) - T, Path(name).name, int(batch.frame[row]), int(batch.seq[row]), payload)
            )
    return out


@given(st.data())
def test_the_set_is_the_merge_by_time(data: st.DataObject) -> None:
    """Against the plain definition: sorted by time, then file (in order of their first times), then frame."""
    files = data.draw(st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=30), min_size=1, max_size=5))
    sizes = data.draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    number = 0
    numbered = []
    for times in files:
        numbered.append([(at, number + place) for place, at in enumerate(times)])
        number += len(times)
    order = sorted(range(len(files)), key=lambda file: min(files[file]))
    wanted = sorted(
        (at, order.index(file), frame, f"{9 - file}.pcap", seq)
        for file, times in enumerate(numbered)
        for frame, (at, seq) in enumerate(times, 1)
    )
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for file, packets in enumerate(numbered):
            paths.append(Path(folder) / f"{9 - file}.pcap")  # names that sort the other way round
            write(paths[-1], packets)
        for size in sizes:
            got = rows(open_captures(paths, batch_packets=size))
            assert [(at, name, frame, seq) for at, name, frame, seq, _ in got] == [
                (at, name, frame, seq) for at, _, frame, name, seq in wanted
            ]
            assert all(payload == b"<%d>" % seq for *_, seq, payload in got)


def test_files_one_after_the_other_whatever_their_names(tmp_path: Path) -> None:
    for file, name in enumerate(("c", "a", "b")):
        write(tmp_path / name, [(file * 100 + k, file * 100 + k) for k in range(10)])
    captures = open_captures([tmp_path])
    batches = list(captures)
    assert [seq for batch in batches for seq in batch.seq.tolist()] == [*range(10), *range(100, 110), *range(200, 210)]
    assert captures.packets == 30
    # Files that do not overlap are not mixed in one batch: each was opened when its time had come.
    assert [set(batch.capture.tolist()) for batch in batches if len(batch)] == [{2}, {0}, {1}]


@pytest.mark.parametrize("size", [1, 100, 5000, 65_536])
def test_disorder_within_the_window_is_mended_at_any_batch_size(size: int) -> None:
    shuffle = random.Random(5)
    times = list(range(3000))
    times = sorted(times, key=lambda at: at + shuffle.randrange(800))
    file = io.BytesIO()
    write_pcap(file, [(T + at, packet(at)) for at in times])
    batches, _ = batches_from_bytes(file.getvalue(), batch_packets=size)
    assert [seq for batch in batches for seq in batch.seq.tolist()] == list(range(3000))


def test_disorder_beyond_the_window_loses_nothing() -> None:
    n = 3 * WINDOW_PACKETS
    bare = LINK.segment(0, 0, 16)
    times = [*range(1, n), 0]
    file = io.BytesIO()
    write_pcap(file, [(T + at, bare) for at in times])
    batches, captures = batches_from_bytes(file.getvalue(), batch_packets=8000)
    got = np.concatenate([batch.ts_ns for batch in batches]) - T
    assert captures.packets == len(got) == n
    assert sorted(got.tolist()) == list(range(n))
    assert [got[0], got[n - WINDOW_PACKETS - 8001]] != [0, 0]


@pytest.mark.parametrize("size", [1, 4, 100])
def test_a_wrong_time_stamp_does_not_move_a_packet_to_the_end(size: int) -> None:
    """A SYN-ACK stamped 48 years ahead was seen in the wild: the order of capture is the better evidence."""
    times = list(range(20))
    times[7] += 48 * 365 * 24 * 3600 * 10**9
    file = io.BytesIO()
    write_pcap(file, [(T + at, packet(number)) for number, at in enumerate(times)])
    batches, _ = batches_from_bytes(file.getvalue(), batch_packets=size)
    assert [seq for batch in batches for seq in batch.seq.tolist()] == list(range(20))


def test_a_wrong_time_stamp_does_not_pull_later_files_forward(tmp_path: Path) -> None:
    write(tmp_path / "1", [(0, 0), (5 * CLOCK_STEP_NS, 1), (20, 2), (30, 3)])
    write(tmp_path / "2", [(25, 10), (100, 11)])
    write(tmp_path / "3", [(200, 20)])
    for size in (1, 2, 50):
        got = [seq for _, _, _, seq, _ in rows(open_captures([tmp_path], batch_packets=size))]
        assert got == [0, 1, 2, 10, 3, 11, 20]


def test_a_clock_set_back_keeps_the_order_of_capture() -> None:
    times = [10 * CLOCK_STEP_NS, 10 * CLOCK_STEP_NS + 1, 5, 6]
    file = io.BytesIO()
    write_pcap(file, [(T + at, packet(number)) for number, at in enumerate(times)])
    batches, _ = batches_from_bytes(file.getvalue())
    assert [seq for batch in batches for seq in batch.seq.tolist()] == [0, 1, 2, 3]


def test_a_file_that_goes_away_meanwhile_is_an_error_and_the_rest_is_read(tmp_path: Path) -> None:
    """tcpdump -W removes the oldest file of its ring."""
    write(tmp_path / "1", [(0, 0)])
    write(tmp_path / "2", [(10, 1)])
    captures = open_captures([tmp_path])
    (tmp_path / "1").unlink()
    assert [seq for _, _, _, seq, _ in rows(captures)] == [1]
    assert [error.path for error in captures.errors] == [str(tmp_path / "1")]
