"""Bytes of a file or a pipe in blocks, decompressed by content."""

from __future__ import annotations

import os
import select
import stat
import sys
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

import lz4.frame
import zstandard

_RAW_BLOCK: Final = 1 << 18
QUIET_S: Final = 0.05
"""How long a pipe may say nothing before what it gave is passed on."""

_GZIP, _ZSTD, _LZ4 = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18"
_MAGIC_BYTES: Final = 4
_ZSTD_STEP: Final = 4096
"""Octets decompressed at a time: a block of four may stand for 128 KiB."""


class _Inflater(Protocol):
    def feed(self, data: bytes, most: int) -> bytes: ...
    def idle(self) -> bool:
        """Whether more input is needed before more can come out."""

    def done(self) -> bool:
        """Whether the input so far is complete in itself."""


class _Gzip:
    def __init__(self) -> None:
        self._new()
        self._left = b""

    def _new(self) -> None:
        self._inflate = zlib.decompressobj(31)
        self._fresh = True

    def feed(self, data: bytes, most: int) -> bytes:
        data = self._left + data
        if self._inflate.eof:  # members may follow each other (RFC 1952 section 2.2); zero padding may too
            data = data.lstrip(b"\0")
            if data:
                self._new()
        if not data:
            self._left = b""
            return b""
        self._fresh = False
        out = self._inflate.decompress(data, most)
        self._left = self._inflate.unused_data if self._inflate.eof else self._inflate.unconsumed_tail
        return out

    def idle(self) -> bool:
        return not self._left

    def done(self) -> bool:
        return self._inflate.eof or self._fresh


class _Lz4:
    def __init__(self) -> None:
        self._inflate: Any = lz4.frame.LZ4FrameDecompressor()
        self._left = b""
        self._fresh = True

    def feed(self, data: bytes, most: int) -> bytes:
        if self._inflate.eof:
            data = self._left + data
            if not data:
                return b""
            self._inflate, self._left = lz4.frame.LZ4FrameDecompressor(), b""
        self._fresh = False
        out: bytes = self._inflate.decompress(data, most)
        self._left = (self._inflate.unused_data or b"") if self._inflate.eof else b""
        return out

    def idle(self) -> bool:
        return not self._left if self._inflate.eof else bool(self._inflate.needs_input)

    def done(self) -> bool:
        return bool(self._inflate.eof) or self._fresh


class _Zstd:
    def __init__(self) -> None:
        self._inflate: Any = zstandard.ZstdDecompressor().decompressobj()
        self._in, self._place, self._out = b"", 0, b""
        self._fresh = True

    def feed(self, data: bytes, most: int) -> bytes:
        if data:
            self._in, self._place = self._in[self._place :] + data, 0
        if not self._out and self._place < len(self._in):
            if self._inflate.eof:  # frames may follow each other (RFC 8878 section 3.1)
                self._inflate = zstandard.ZstdDecompressor().decompressobj()
            part = self._in[self._place : self._place + _ZSTD_STEP]
            self._fresh = False
            self._out = self._inflate.decompress(part)
            self._place += len(part) - len(self._inflate.unused_data)
        out, self._out = self._out[:most], self._out[most:]
        return out

    def idle(self) -> bool:
        return not self._out and self._place >= len(self._in)

    def done(self) -> bool:
        return bool(self._inflate.eof) or self._fresh


def _standard_input() -> tuple[int, bytes | None]:
    """Its file descriptor, or what is in it where it has none (put there by a test or another program)."""
    if sys.stdin is None:
        raise OSError(0, "there is no standard input")
    try:
        fd = sys.stdin.fileno()
    except (OSError, ValueError):
        return -1, sys.stdin.buffer.read()
    if os.isatty(fd):
        raise OSError(0, "standard input is a terminal; pipe into it what tcpdump -w - writes")
    return fd, None


class DamagedCompression(Exception):
    """The compressed data cannot be decompressed further; the message says why."""


class ByteStream:
    """One file or pipe, read forward.

    Args:
        path: the file's name; ``"-"`` is standard input.
        data: the content, where it is in memory already and ``path`` is but a name.

    Raises:
        OSError: it cannot be opened.
    """

    pipe: bool
    """Not a regular file: read it as things come, and only once."""
    size: int | None
    """Bytes as stored; ``None`` for a pipe."""

    def __init__(self, path: str | Path, data: bytes | None = None) -> None:
        self._file: BinaryIO | None = None
        self._memory: BytesIO | None = None
        if data is None and str(path) == "-":
            self._fd, data = _standard_input()
        elif data is None:
            self._file = open(path, "rb", buffering=0)  # noqa: SIM115
            self._fd = self._file.fileno()
        if data is not None:
            self._fd, self._memory = -1, BytesIO(data)
            self.pipe, self.size = False, len(data)
        else:
            status = os.fstat(self._fd)
            self.pipe = not stat.S_ISREG(status.st_mode)
            self.size = None if self.pipe else status.st_size
        self.raw_read = 0
        """Bytes read so far, as stored: what a progress bar counts."""
        self.compressed = False
        self._inflater: _Inflater | None = None
        self._head = b""
        self._sniffed = False
        self._ended = False

    def _raw(self, most: int) -> bytes:
        data = os.read(self._fd, most) if self._memory is None else self._memory.read(most)
        self.raw_read += len(data)
        if not data:
            self._ended = True
        return data

    def _sniff(self) -> None:
        self._sniffed = True
        while len(self._head) < _MAGIC_BYTES:
            more = self._raw(_RAW_BLOCK if self.pipe else _MAGIC_BYTES)
            if not more:
                break
            self._head += more
        if self._head.startswith(_GZIP):
            self._inflater = _Gzip()
        elif self._head.startswith(_LZ4):
            self._inflater = _Lz4()
        elif self._head.startswith(_ZSTD):
            self._inflater = _Zstd()
        self.compressed = self._inflater is not None

    def take_raw(self, most: int) -> bytes:
        """Stored bytes: first those looked at already."""
        if self._head:
            data, self._head = self._head[:most], self._head[most:]
            return data
        return b"" if self._ended else self._raw(most)

    def read(self, most: int) -> bytes:
        """From one to ``most`` bytes, as soon as there are some; ``b""`` at the end.

        Raises:
            DamagedCompression: see there.
            OSError: reading failed.
        """
        if not self._sniffed:
            self._sniff()
        try:
            if self._inflater is None:
                return self.take_raw(most)
            return self._inflate(self._inflater, most)
        except (zlib.error, RuntimeError, zstandard.ZstdError, EOFError) as error:
            raise DamagedCompression(f"the compressed data is damaged ({error})") from error

    def _inflate(self, inflater: _Inflater, most: int) -> bytes:
        while True:
            data = b""
            if inflater.idle():
                data = self.take_raw(_RAW_BLOCK)
                if not data:
                    if not inflater.done():
                        raise DamagedCompression("the compressed data ends early")
                    return b""
            out = inflater.feed(data, most)
            if out:
                return out

    def quiet(self) -> bool:
        """Whether a pipe has had nothing to read for ``QUIET_S`` (this waits so long); a file never is."""
        if not self.pipe or self._head or self._ended or (self._inflater is not None and not self._inflater.idle()):
            return False
        return not select.select([self._fd], [], [], QUIET_S)[0]

    def close(self) -> None:
        """Lets the file go; standard input stays open."""
        if self._file is not None:
            self._file.close()
