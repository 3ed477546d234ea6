"""Capture files, folders, globs and standard input: one rotated set, read as one stream of packet batches."""

from __future__ import annotations

import glob
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from smtpdebug.errors import CaptureError
from smtpdebug.model.packets import PacketBatch
from smtpdebug.model.streams import Limits
from smtpdebug.pcap.columns import Decoder
from smtpdebug.pcap.formats import HEAD_BYTES, looks_like, walker_for
from smtpdebug.pcap.records import Fault, Records, Walker, empty_records
from smtpdebug.sources.blocks import QUIET_S, ByteStream, DamagedCompression
from smtpdebug.sources.rotated import WINDOW_BYTES, WINDOW_PACKETS, Reorder, Waiting, merge

BATCH_PACKETS: Final = 65_536
BATCH_BYTES: Final = 8 << 20
"""A batch ends at whichever comes first: bounded memory, and columns that fit a processor's cache."""
_LEAST_BLOCK: Final = 1 << 16
_PEEK_BYTES: Final = 1 << 16


class CaptureFile:
    """One capture, read as ``Records`` in the order of the file.

    Args:
        path: its name as the user gave it; ``"-"`` for standard input.
        index: its place among the set's names.
        stream: the bytes, where they do not come from ``path``.

    Raises:
        CaptureError: it cannot be opened or is no capture.
    """

    def __init__(self, path: str, index: int, stream: ByteStream | None = None) -> None:
        self.path, self.index = path, index
        self.note: str = ""
        """Why reading ended before the end of the file, in a sentence; empty if it did not."""
        self.secrets: list[bytes] = []
        try:
            self._stream = stream or ByteStream(path)
        except OSError as error:
            raise CaptureError(error.strerror or "cannot be opened", path=path) from error
        self.pipe, self.size = self._stream.pipe, self._stream.size
        self._buf, self._at = b"", 0
        self._ended = False
        try:
            self._walker = self._start()
        except CaptureError:
            self._stream.close()
            raise

    @property
    def raw_read(self) -> int:
        """Bytes read so far, as stored."""
        return self._stream.raw_read

    def _start(self) -> Walker:
        try:
            while len(self._buf) < HEAD_BYTES:
                more = self._stream.read(_PEEK_BYTES)
                if not more:
                    break
                self._buf += more
        except OSError as error:
            raise CaptureError(error.strerror or "cannot be read", path=self.path) from error
        except DamagedCompression as error:
            raise CaptureError(str(error), path=self.path) from error
        if not self._buf:
            raise CaptureError("empty file", path=self.path, advice="nothing was captured, or not yet written")
        found = walker_for(self._buf)
        if found is None:
            raise CaptureError("not a packet capture", path=self.path, advice=looks_like(self._buf))
        walker, self._at = found
        return walker

    def _more(self, size: int) -> bool:
        """Reads until ``size`` bytes are there, the pipe falls quiet or the file ends; false if nothing came."""
        parts = [self._buf[self._at :]]
        have = len(parts[0])
        before = have
        until = 0.0
        try:
            while have < size and not self._ended:
                if self.pipe and (self._stream.quiet() or (until and time.monotonic() > until)):
                    break
                data = self._stream.read(size - have)
                if not data:
                    self._ended = True
                parts.append(data)
                have += len(data)
                until = until or time.monotonic() + QUIET_S
        except (OSError, DamagedCompression) as error:
            self._ended = True
            self._tell(Fault(str(error), self._walker.frames + 1, self._walker.position))
        self._buf, self._at = b"".join(parts), 0
        return have > before

    def _tell(self, fault: Fault) -> None:
        if not self.note:
            advice = "what comes before it was read"
            self.note = str(
                CaptureError(fault.what, path=self.path, frame=fault.frame, offset=fault.offset, advice=advice)
            )

    def first_ns(self) -> int | None:
        """The earliest time among the first packets; ``None`` if there are none. Nothing is lost by asking."""
        head = bytes(self._buf)
        walker, start = walker_for(head) or (self._walker, 0)
        records, _ = walker.walk(head, start, BATCH_PACKETS)
        if not len(records) and not self._ended and len(head) - self._at < 4 * _PEEK_BYTES:
            kept, self._at = self._at, 0
            came = self._more(len(head) + _PEEK_BYTES)
            self._at = kept
            return self.first_ns() if came else None
        return int(records.ts_ns.min()) if len(records) else None

    def records(self, batch_packets: int, batch_bytes: int) -> Iterator[Records | None]:
        """All packets; ``None`` whenever a pipe has nothing more for now."""
        walker = self._walker
        wanted = batch_bytes
        try:
            while True:
                records, self._at = walker.walk(self._buf, self._at, batch_packets)
                self.secrets += walker.take_secrets()
                if len(records):
                    records.capture = np.full(len(records), self.index, np.int32)
                    yield records
                    wanted = batch_bytes
                    if len(records) == batch_packets:
                        continue
                if walker.fault is not None:
                    self._tell(walker.fault)
                    return
                if self._ended:
                    break
                left = len(self._buf) - self._at
                wanted = max(wanted, 2 * left)  # one record may be longer than a batch
                if not self._more(wanted) and not self._ended:
                    yield None
            rest = walker.rest(self._buf, self._at)
            if rest is not None:
                self._tell(rest)
        finally:
            self.close()

    def close(self) -> None:
        """Lets the file go."""
        self._stream.close()


class CaptureSet:
    """A rotated set: iterate it for packet batches in time order. It can be iterated once.

    From a pipe, a batch without packets comes each time that the pipe has nothing new for some 50 ms.

    Args:
        limits: bounds the fragments held.
        batch_packets: a batch ends at this many packets.
        batch_bytes: or at this many bytes.
    """

    def __init__(
        self, *, limits: Limits | None = None, batch_packets: int = BATCH_PACKETS, batch_bytes: int = BATCH_BYTES
    ) -> None:
        self._decoder = Decoder(limits)
        self._batch_packets, self._batch_bytes = batch_packets, batch_bytes
        self._names: list[str] = []
        self._files: list[Waiting] = []
        self._open: dict[int, CaptureFile] = {}
        self._secrets: list[bytes] = []
        self._read_before = 0
        self.notes: list[str] = []
        """One sentence each: what was cut short or damaged and where (file, frame, offset)."""
        self.errors: list[CaptureError] = []
        """Files that are no captures or cannot be opened."""
        self.skipped: dict[str, int] = {}
        """Packets without a row so far, by reason."""
        self.packets = 0
        """Packet records so far."""
        self.bytes_total: int | None = 0
        """Size of all files as stored; ``None`` with a pipe among them."""

    @property
    def bytes_read(self) -> int:
        """Bytes read so far, as stored."""
        return self._read_before + sum(file.raw_read for file in self._open.values())

    @property
    def captures(self) -> tuple[str, ...]:
        """The names of the files that are captures."""
        return tuple(self._names)

    def add(self, path: str, *, alone: bool = False, stream: ByteStream | None = None) -> None:
        """Takes a file into the set.

        Args:
            path: its name.
            alone: no other file is in the set, so that nothing needs to be known before it is read.
            stream: its bytes, where they do not come from ``path``.

        Raises:
            CaptureError: it is no capture.
        """
        index = len(self._names)
        file = CaptureFile(path, index, stream)
        self._names.append(path)
        self.bytes_total = None if file.size is None or self.bytes_total is None else self.bytes_total + file.size
        first = None if alone else file.first_ns()
        if file.pipe or path == "-" or stream is not None:
            self._files.append(Waiting(first or 0, lambda active: self._read(file, active)))
            return
        file.close()  # there may be thousands, or nobody may ask: each is opened again when its time comes
        self._files.append(Waiting(first or 0, lambda active: self._read_again(path, index, active)))

    def _read_again(self, path: str, index: int, active: int) -> Iterator[Records | None]:
        try:
            file = CaptureFile(path, index)
        except CaptureError as error:  # gone or changed meanwhile: a ring buffer goes on while it is read
            self.errors.append(error)
            return
        yield from self._read(file, active)

    def _read(self, file: CaptureFile, active: int) -> Iterator[Records | None]:
        self._open[file.index] = file
        share = max(1, active)
        size = max(_LEAST_BLOCK, self._batch_bytes // share)
        reorder = Reorder(max(1024, WINDOW_PACKETS // share), max(_LEAST_BLOCK, WINDOW_BYTES // share))
        for records in file.records(self._batch_packets, size):
            self._secrets += file.secrets
            file.secrets.clear()
            if records is None:
                yield from reorder.flush()
                yield None
            else:
                yield from reorder.push(records)
        self._secrets += file.secrets
        yield from reorder.flush()
        if file.note:
            self.notes.append(file.note)
        self._read_before += file.raw_read
        del self._open[file.index]

    def __iter__(self) -> Iterator[PacketBatch]:
        captures = self.captures
        files = self._files
        stream = files[0].open(1) if len(files) == 1 else merge(files)
        for records in stream:
            yield self._batch(empty_records() if records is None else records, captures)
        left = self._decoder.close()
        if left or self._secrets:
            last = self._batch(empty_records(), captures)
            last.skipped = left
            self._count(left)
            yield last

    def _batch(self, records: Records, captures: tuple[str, ...]) -> PacketBatch:
        secrets, self._secrets = tuple(self._secrets), []
        batch = self._decoder.decode(records, captures, secrets)
        self.packets += batch.packets
        self._count(batch.skipped)
        return batch

    def _count(self, skipped: dict[str, int]) -> None:
        for reason, number in skipped.items():
            self.skipped[reason] = self.skipped.get(reason, 0) + number


def open_captures(
    paths: Sequence[str | Path],
    *,
    limits: Limits | None = None,
    batch_packets: int = BATCH_PACKETS,
    batch_bytes: int = BATCH_BYTES,
) -> CaptureSet:
    """The packets of all these captures as one set.

    Args:
        paths: files, folders (the captures in them), globs, and ``-`` for standard input.
        limits: budgets.
        batch_packets: a batch ends at this many packets.
        batch_bytes: or at this many bytes.

    Returns:
        the set; its ``errors`` already hold what cannot be opened or is no capture.
    """
    captures = CaptureSet(limits=limits, batch_packets=batch_packets, batch_bytes=batch_bytes)
    files: list[tuple[str, str]] = []
    for path in map(str, paths):
        try:
            files += _expand(path)
        except CaptureError as error:
            captures.errors.append(error)
    files = _once(files)
    left_out: dict[str, list[int]] = {}
    for name, folder in files:
        tally = left_out.setdefault(folder, [0, 0])
        try:
            captures.add(name, alone=len(files) == 1)
            tally[0] += 1
        except CaptureError as error:
            tally[1] += 1
            if not folder:
                captures.errors.append(error)
    left_out.pop("", None)
    for folder, (good, other) in left_out.items():
        if not good:
            captures.errors.append(_barren(folder))
        elif other:
            captures.notes.append(
                f"{folder}: {other} file{'s' * (other > 1)} left out that are not captures or are empty"
            )
    return captures


def _barren(folder: str) -> CaptureError:
    within = [entry.name for entry in os.scandir(folder) if entry.is_dir()]
    advice = f"folders within it are not read; name one, or a glob such as {folder.rstrip('/')}/*/*.pcap"
    return CaptureError("no capture in this folder", path=folder, advice=advice if within else "")


def _expand(path: str) -> list[tuple[str, str]]:
    """The files a name stands for, each with the folder it was found in, empty for a file that the user named."""
    if path == "-":
        return [(path, "")]
    if os.path.isdir(path):
        try:
            names = sorted(name for name in os.listdir(path) if not name.startswith("."))
        except OSError as error:
            raise CaptureError(error.strerror or "cannot be read", path=path) from error
        found = [os.path.join(path, name) for name in names]
        found = [name for name in found if os.path.isfile(name)]
        if not found:
            raise _barren(path)
        return [(name, path) for name in found]
    if not os.path.exists(path) and glob.has_magic(path):
        matches = sorted(name for name in glob.glob(path, recursive=True) if os.path.isfile(name))
        if not matches:
            raise CaptureError("no file matches", path=path)
        return [(name, "") for name in matches]
    return [(path, "")]


def _once(files: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Each file once, however often and by whatever name it is given."""
    seen: dict[str, tuple[str, str]] = {}
    for name, folder in files:
        key = name if name == "-" else os.path.realpath(name)
        before = seen.get(key)
        seen[key] = (before[0], before[1] and folder) if before else (name, folder)
    return list(seen.values())


def batches_from_bytes(
    data: bytes, name: str = "bytes", *, batch_packets: int = BATCH_PACKETS, limits: Limits | None = None
) -> tuple[list[PacketBatch], CaptureSet]:
    """The batches of one capture held in memory, and the set with its notes and counters; for tests and generators.

    Raises:
        CaptureError: it is no capture.
    """
    captures = CaptureSet(limits=limits, batch_packets=batch_packets)
    captures.add(name, alone=True, stream=ByteStream(name, data))
    return list(captures), captures
