"""The client's bytes that cannot be read yet: a line without its end, and what waits for a reply."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import Final

import msgspec

from smtpdebug.model.smtp import OVERLONG
from smtpdebug.model.streams import Chunk, Location

HOLD_BYTES: Final = 256 << 10
"""Octets that wait for a reply; beyond, what they are is decided by their looks."""
_LOOKS: Final = 1024
"""Octets that are enough to tell a command line from mail data."""


def cut(chunk: Chunk, pos: int) -> Chunk:
    """The rest of a chunk from ``pos`` on."""
    if pos <= 0:
        return chunk
    return Chunk(
        chunk.stream,
        chunk.side,
        chunk.offset + pos,
        chunk.data[pos:],
        chunk.began,
        chunk.at,
        chunk.acked,
        chunk.encrypted,
    )


class Hole(msgspec.Struct, frozen=True, gc=False):
    """Server's bytes that we lack: replies may be among them."""

    end: int
    """Stream offset of what comes behind."""
    ts_ns: int
    clean: bool
    """It begins where a reply ended, so that at least one begins in it."""


class HeldLine:
    """The beginning of a line whose end is yet to come.

    Args:
        most: octets kept; the rest of a longer line is only counted.
    """

    __slots__ = ("_most", "acked", "began", "data", "length", "offset")

    def __init__(self, most: int) -> None:
        self._most = most
        self.data = bytearray()
        self.length = 0
        """Octets seen, kept or not."""
        self.offset = 0
        self.acked = -1
        self.began: Location | None = None

    def add(self, chunk: Chunk, pos: int) -> int:
        """Hold the chunk from ``pos`` to its end; gives where reading goes on: behind it."""
        if not self.length:
            self.began, self.offset, self.acked = chunk.began, chunk.offset + pos, chunk.acked
        part = chunk.data[pos:]
        room = self._most - len(self.data)
        if room > 0:
            self.data += part[:room]
        self.length += len(part)
        return len(chunk.data)

    def ended(self, data: bytes, pos: int, end: int) -> tuple[bytes, int]:
        """The line whose last octets are ``data[pos:end]``, and its oddities; nothing is held any more."""
        self.data += data[pos : min(end, pos + max(0, self._most - len(self.data)))]
        line = bytes(self.data)
        oddities = OVERLONG if self.length + end - pos > len(line) else 0
        self.drop()
        return line, oddities

    def drop(self) -> None:
        """Hold nothing any more."""
        self.data.clear()
        self.length = 0


class Waiting:
    """Chunks in order that a reply must tell the meaning of."""

    __slots__ = ("chunks", "size")

    def __init__(self) -> None:
        self.chunks: deque[Chunk] = deque()
        self.size = 0
        """Octets in ``chunks``."""

    def put(self, chunk: Chunk) -> None:
        """Behind all others."""
        self.chunks.append(chunk)
        self.size += len(chunk.data)

    def put_back(self, chunk: Chunk) -> None:
        """Before all others."""
        self.chunks.appendleft(chunk)
        self.size += len(chunk.data)

    def take(self) -> Chunk:
        """The first one."""
        chunk = self.chunks.popleft()
        self.size -= len(chunk.data)
        return chunk

    def replace(self, chunks: Iterable[Chunk]) -> None:
        """These instead, but for empty ones."""
        self.chunks = deque(chunk for chunk in chunks if chunk.data)
        self.size = sum(len(chunk.data) for chunk in self.chunks)

    def octets(self) -> bytes:
        """All of it."""
        return b"".join(chunk.data for chunk in self.chunks)

    def first_line(self) -> bytes:
        """The first line without its end, as far as it serves to tell what it is."""
        looks = b"".join(chunk.data for chunk in islice(self.chunks, 8))[:_LOOKS]
        return looks.partition(b"\n")[0].rstrip(b"\r")

    def passed(self, hole: Hole) -> bool:
        """Whether what waits was sent by a client that had the server's bytes which we lack."""
        if not self.chunks:
            return False
        last = self.chunks[-1]
        return last.acked >= hole.end if last.acked >= 0 else last.began.ts_ns > hole.ts_ns
