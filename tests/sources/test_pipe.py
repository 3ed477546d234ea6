"""Pipes: packets are passed on as they come, not when a block is full."""

from __future__ import annotations

import io
import os
import threading
import time
import zlib
from pathlib import Path

import pytest

from smtpdebug.pcap.writer import Link, write_pcap
from smtpdebug.sources.files import open_captures

LINK = Link("192.0.2.1", 40000, "192.0.2.2", 25)
T = 1_700_000_000_000_000_000


def pieces() -> list[bytes]:
    """A capture in pieces that end within packets."""
    file = io.BytesIO()
    write_pcap(file, [(T + number, LINK.segment(number, 0, 24, b"x")) for number in range(4)])
    data = file.getvalue()
    return [data[:10], data[10:60], data[60 : 24 + 2 * 71 + 3], data[24 + 2 * 71 + 3 :]]


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


@pytest.mark.parametrize("compressed", [False, True])
def test_packets_come_before_the_pipe_ends(fifo: Path, compressed: bool) -> None:
    seen = threading.Event()

    def writer() -> None:
        deflate = zlib.compressobj(wbits=31)
        with fifo.open("wb", buffering=0) as file:
            for number, piece in enumerate(pieces()):
                if number == 3:
                    # Only once the reader has the packets written so far: it must not wait for a full block.
                    assert seen.wait(10)
                stored = deflate.compress(piece) + deflate.flush(zlib.Z_SYNC_FLUSH) if compressed else piece
                file.write(stored)
            if compressed:
                file.write(deflate.flush())

    thread = threading.Thread(target=writer)
    thread.start()
    got: list[int] = []
    ticks = 0
    captures = open_captures([fifo])
    assert captures.bytes_total is None
    for batch in captures:
        got += batch.seq.tolist()
        ticks += not batch.packets
        if got == [0, 1]:
            seen.set()
    thread.join(10)
    assert got == [0, 1, 2, 3]
    assert ticks >= 1
    assert captures.notes == []


def test_a_dripping_pipe_is_passed_on_too(fifo: Path) -> None:
    """Never quiet for 50 ms, and yet the first packets come long before the last."""

    def writer() -> None:
        file = io.BytesIO()
        write_pcap(file, [(T + number, LINK.segment(number, 0, 24, b"x")) for number in range(40)])
        data = file.getvalue()
        with fifo.open("wb", buffering=0) as pipe:
            pipe.write(data[:24])
            for number in range(40):
                pipe.write(data[24 + number * 71 : 24 + number * 71 + 71])
                time.sleep(0.01)

    thread = threading.Thread(target=writer)
    thread.start()
    batches = [batch.packets for batch in open_captures([fifo]) if batch.packets]
    thread.join(10)
    assert sum(batches) == 40
    assert len(batches) >= 2


def test_standard_input_as_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading) as stdin, os.fdopen(writing, "wb") as pipe:
        monkeypatch.setattr("sys.stdin", stdin)
        pipe.write(b"".join(pieces()))
        pipe.close()
        captures = open_captures(["-"])
        assert [seq for batch in captures for seq in batch.seq.tolist()] == [0, 1, 2, 3]
        assert captures.captures == ("-",)


def test_standard_input_that_is_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """As click's test runner gives it."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"".join(pieces()))))
    assert sum(len(batch) for batch in open_captures(["-"])) == 4
    monkeypatch.setattr("sys.stdin", None)
    assert [str(error) for error in open_captures(["-"]).errors] == ["-: there is no standard input"]


def test_a_pipe_among_files(fifo: Path, tmp_path: Path) -> None:
    """Its packets are merged by time with those of a file."""
    with (tmp_path / "file.pcap").open("wb") as file:
        write_pcap(file, [(T - 10, LINK.segment(100, 0, 24)), (T + 10, LINK.segment(101, 0, 24))])

    def writer() -> None:
        with fifo.open("wb", buffering=0) as pipe:
            for piece in pieces():
                pipe.write(piece)

    thread = threading.Thread(target=writer)
    thread.start()
    captures = open_captures([fifo, tmp_path / "file.pcap"])
    assert [seq for batch in captures for seq in batch.seq.tolist()] == [100, 0, 1, 2, 3, 101]
    thread.join(10)
