"""TLS record framing of one direction (RFC 8446 section 5.1), through gaps and one-byte segments."""

from __future__ import annotations

from typing import Final

from smtpdebug.model.streams import CLIENT, Chunk, Location, Side
from smtpdebug.model.tls import HANDSHAKE, Record

HEADER: Final = 5
MAX_FRAGMENT: Final = (1 << 14) + 2048
"""Largest ciphertext fragment of any version (RFC 5246 section 6.2.3)."""
SSL2: Final = 0x0002
"""Version given to a ClientHello in the format of SSL 2.0."""
_SSL2_HEADER: Final = 2
_GIVE_UP: Final = 1 << 17
"""Bytes searched for a first record before a direction is said to be no TLS."""


def plausible_header(data: bytes | bytearray, at: int = 0) -> bool:
    """Whether the five bytes at ``at`` can be a record header; ``False`` too where fewer than five are there."""
    return (
        len(data) >= at + HEADER
        and 20 <= data[at] <= 23
        and data[at + 1] == 3
        and data[at + 2] <= 4
        and (data[at + 3] << 8 | data[at + 4]) <= MAX_FRAGMENT
    )


def ssl2_hello(data: bytes | bytearray) -> int:
    """Octets of the ClientHello in the format of SSL 2.0 (RFC 5246 appendix E.2) that begins here, or 0 for none.

    Only one that offers SSL 3.0 or TLS: the high bit of the length, the length, msg_type 1, the version.
    """
    if len(data) >= HEADER and data[0] == 0x80 and data[2] == 1 and data[3] == 3 and data[4] <= 4:
        return _SSL2_HEADER + data[1]
    return 0


class RecordReader:
    """Cuts one direction's bytes into records.

    Between records it stands on a boundary. After a gap (or when joined in the middle) it searches: a place is a
    record header if it looks like one and the place it leads to does so too, or is where the bytes end for good. That
    needs no knowledge of how the bytes were cut into segments, so the result does not depend on it.

    Memory: at most one record and a header, plus where each held segment came from.
    """

    __slots__ = (
        "_buffer",
        "_marks",
        "_missing",
        "_offset",
        "_searching",
        "_skip",
        "broken",
        "found",
        "partial",
        "side",
    )

    def __init__(self, side: Side, *, searching: bool = False) -> None:
        self.side = side
        self.found = 0
        """Records given so far."""
        self.broken = False
        """The first bytes are no record header: this direction is not TLS."""
        self.partial = 0
        """Records whose header was seen and whose content was lost in part."""
        self._buffer = bytearray()
        self._offset = 0
        self._marks: list[tuple[int, Location, Location, int]] = []
        """(stream offset, began, at, acked) of the segments in the buffer, the first being where it starts."""
        self._searching = searching
        self._skip = 0
        self._missing = 0

    @property
    def unsure_since(self) -> int | None:
        """Time of the first of those bytes that are held until it is clear where the next record begins."""
        return self._marks[0][2].ts_ns if self._searching and self._buffer else None

    def feed(self, chunk: Chunk) -> list[Record]:
        """The records that this chunk completes."""
        data, offset = chunk.data, chunk.offset
        if self.broken:
            return []
        if self._skip:
            # Inside a record whose header was seen and whose middle was lost.
            taken = min(self._skip, len(data))
            self._skip -= taken
            self._missing += taken
            if taken == len(data):
                return []
            data, offset = data[taken:], offset + taken
        buffer = self._buffer
        if not buffer:
            if self._searching:
                self._offset = offset
                self._marks = [(offset, chunk.began, chunk.at, chunk.acked)]
                return self._cut(data)
            return self._cut_aligned(data, offset, chunk)
        buffer += data
        self._marks.append((offset, chunk.began, chunk.at, chunk.acked))
        if not self._searching and (
            len(buffer) < HEADER or (plausible_header(buffer) and len(buffer) < HEADER + (buffer[3] << 8 | buffer[4]))
        ):
            return []
        data = bytes(buffer)
        buffer.clear()
        return self._cut(data)

    def _cut_aligned(self, data: bytes, offset: int, chunk: Chunk) -> list[Record]:
        """The common case: nothing held, on a boundary. What is unusual is left to ``_cut``."""
        out: list[Record] = []
        position, size = 0, len(data)
        began, at, side = chunk.began, chunk.at, self.side
        while size - position >= HEADER:
            kind, major, minor = data[position], data[position + 1], data[position + 2]
            end = position + HEADER + (data[position + 3] << 8 | data[position + 4])
            if end > size or not 20 <= kind <= 23 or major != 3 or minor > 4 or end - position > MAX_FRAGMENT + HEADER:
                break
            payload = data[position + HEADER : end]
            out.append(
                Record(side, kind, 0x300 | minor, payload, offset + position, began, at, self._missing, chunk.acked)
            )
            self._missing = 0
            position = end
        self.found += len(out)
        if position < size:
            self._offset = offset + position
            self._marks = [(self._offset, began, at, chunk.acked)]
            out += self._cut(data[position:])
        return out

    def gap(self, length: int) -> list[Record]:
        """Bytes are missing here; gives a record that only the gap could prove to be one."""
        out: list[Record] = []
        if self.broken:
            return out
        buffer = self._buffer
        if self._skip:
            inside = min(self._skip, length)
            self._skip -= inside
            self._missing += length
            self._searching = length > inside
            return out
        if buffer and self._searching:
            out = self._last_cut()
        if not self._searching and plausible_header(buffer):
            self.partial += 1
            need = HEADER + (buffer[3] << 8 | buffer[4]) - len(buffer)
            self._missing += len(buffer) + length
            buffer.clear()
            self._searching = length > need
            self._skip = max(0, need - length)
            return out
        self._missing += len(buffer) + length
        buffer.clear()
        self._searching = True
        return out

    def close(self) -> list[Record]:
        """No more bytes will come; gives a record that only the end could prove to be one."""
        out = self._last_cut() if self._searching and self._buffer else []
        if self._buffer and not self._searching:
            if plausible_header(self._buffer) or (self.side == CLIENT and not self.found and ssl2_hello(self._buffer)):
                self.partial += 1
            elif not self.found and not 20 <= self._buffer[0] <= 23:
                self.broken = True
        return out

    def _last_cut(self) -> list[Record]:
        data = bytes(self._buffer)
        self._buffer.clear()
        return self._cut(data, final=True)

    def _cut(self, data: bytes, *, final: bool = False) -> list[Record]:
        """The whole records in ``data``, which starts at ``_offset``; the rest goes into the buffer."""
        out: list[Record] = []
        position, size, base = 0, len(data), self._offset
        marks = self._marks
        first, last = marks[0], marks[-1]
        while size - position >= HEADER:
            if self._searching:
                position = self._search(data, position, final=final)
                if self._searching:
                    break
            header, version = HEADER, data[position + 1] << 8 | data[position + 2]
            if plausible_header(data, position):
                kind, end = data[position], position + HEADER + (data[position + 3] << 8 | data[position + 4])
            elif position or self.found or self._missing:
                self._searching = True
                continue
            elif self.side == CLIENT and ssl2_hello(data):
                header, version, kind, end = _SSL2_HEADER, SSL2, HANDSHAKE, ssl2_hello(data)
            else:
                self.broken = True
                return out
            if end > size:
                break
            if len(marks) == 1:
                _, began, at, acked = first
            else:
                began = self._mark(base + position)[1]
                _, _, at, acked = self._mark(base + end - 1)
            payload = data[position + header : end]
            out.append(Record(self.side, kind, version, payload, base + position, began, at, self._missing, acked))
            self._missing = 0
            self.found += 1
            position = end
        if position < size:
            self._buffer += data[position:]
            self._offset = base + position
            if len(marks) > 1:
                keep = marks.index(self._mark(base + position))
                self._marks = marks[keep:]
            else:
                self._marks = [last]
        return out

    def _mark(self, offset: int) -> tuple[int, Location, Location, int]:
        """The held segment with the byte at a stream offset."""
        for mark in reversed(self._marks):
            if mark[0] <= offset:
                return mark
        return self._marks[0]

    def _search(self, data: bytes, position: int, *, final: bool) -> int:
        """The next place that is a record header, or as far as can be said; counts what it passes as missing."""
        size, start = len(data), position
        while size - position >= HEADER:
            if plausible_header(data, position):
                end = position + HEADER + (data[position + 3] << 8 | data[position + 4])
                if (size >= end + HEADER and plausible_header(data, end)) or (final and end == size):
                    self._searching = False
                    break
                if size < end + HEADER and not final:
                    break  # too early to say
            position += 1
        self._missing += position - start
        if self._searching and not self.found and self._missing > _GIVE_UP:
            self.broken = True
        return position
