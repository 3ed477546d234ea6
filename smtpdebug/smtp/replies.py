"""The server's bytes as replies: lines put together to multi-line replies (RFC 5321 4.2 and 4.2.1)."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from smtpdebug.model.smtp import AFTER_GAP, BARE_LF, MALFORMED, OVERLONG, UNTERMINATED, Reply
from smtpdebug.model.streams import Chunk, Gap, Location
from smtpdebug.smtp.grammar import TLS_RECORD, enhanced_code, line_oddities

_LINES: Final = 1000
"""Lines kept of one reply."""
_USUAL: Final = 1024
"""Octets of a chunk for which it pays to remember what replies it holds."""


@lru_cache(maxsize=1024)
def whole_replies(data: bytes) -> tuple[tuple[int, tuple[bytes, ...], str | None, int, int, int], ...] | None:
    """Replies of which nothing is missing and nothing is odd: code, lines, enhanced code, oddities, start and end.

    ``None`` where ``data`` is anything else than such replies.
    """
    if data[-2:] != b"\r\n":
        return None
    lines = data[:-2].split(b"\r\n")
    if data.count(b"\n") != len(lines) or data.count(b"\r") != len(lines):
        return None
    replies, first, start, end, oddities = [], 0, 0, 0, 0
    for index, line in enumerate(lines):
        end += len(line) + 2
        mark = line[3:4]
        if not line[:3].isdigit() or line[:3] != lines[first][:3] or mark not in (b" ", b"-", b"") or len(line) < 3:
            return None
        oddities |= line_oddities(line)
        if mark != b"-":
            whole = tuple(lines[first : index + 1])
            replies.append((int(line[:3]), whole, enhanced_code(whole[0]), oddities, start, end))
            first, start, oddities = index + 1, end, 0
    return tuple(replies) if first == len(lines) and max(map(len, lines)) and len(lines) <= _LINES else None


class ReplyLexer:
    """Cuts the server's bytes into replies, appended to ``found``; stops where a TLS record begins.

    Args:
        line_bytes: how much of one line is kept.
        after_gap: the first line may lack its beginning.
    """

    __slots__ = (
        "_acked",
        "_after_gap",
        "_at",
        "_began",
        "_end",
        "_held",
        "_held_acked",
        "_held_began",
        "_held_length",
        "_limit",
        "_lines",
        "_oddities",
        "_offset",
        "_start",
        "found",
        "tls_head",
        "tls_offset",
    )  # fmt: skip

    def __init__(self, line_bytes: int, *, after_gap: bool = False) -> None:
        self._limit = line_bytes
        self.found: list[Reply] = []
        self.tls_offset = -1
        """Where the first TLS record begins, -1 while there is none."""
        self.tls_head = b""
        """The octets of that record that were fed before the chunk which told."""
        self._after_gap = after_gap
        self._held = bytearray()
        self._held_length = 0
        self._held_acked = -1
        self._held_began: Location | None = None
        self._start = 0
        self._lines: list[bytes] = []
        self._began: Location | None = None
        self._at: Location | None = None
        self._offset = self._end = self._acked = -1
        self._oddities = 0

    @property
    def between(self) -> bool:
        """No reply has begun that has not ended, as far as is known."""
        return not (self._held_length or self._lines or self._after_gap)

    def feed(self, chunk: Chunk) -> int:
        """Take the next bytes; gives how many were lines (fewer than all where TLS begins)."""
        data = chunk.data
        if not self._held_length and not self._lines and not self._after_gap and len(data) <= _USUAL:
            # The usual case: whole replies, whose wording is mostly the same again and again.
            whole = whole_replies(data)
            if whole is not None:
                offset = chunk.offset
                for code, lines, enhanced, oddities, start, end in whole:
                    reply = Reply(
                        code,
                        list(lines),
                        chunk.began,
                        chunk.at,
                        enhanced,
                        offset + start,
                        offset + end,
                        chunk.acked,
                        oddities,
                        chunk.encrypted,
                    )
                    self.found.append(reply)
                return len(data)
        return self._feed_lines(chunk)

    def _feed_lines(self, chunk: Chunk) -> int:
        data, pos, size = chunk.data, 0, len(chunk.data)
        while pos < size:
            held = self._held
            if not held or len(held) < 3:
                head = bytes(held) + data[pos : pos + 3]
                if 20 <= head[0] <= 23 and not chunk.encrypted:
                    if TLS_RECORD.match(head):
                        self.tls_offset = chunk.offset + pos - len(held)
                        self.tls_head = bytes(held)
                        held.clear()
                        self._held_length = 0
                        return pos
                    if len(head) < 3:
                        self._hold(chunk, data[pos:], pos)
                        return size
            end = data.find(b"\n", pos)
            if end < 0:
                self._hold(chunk, data[pos:], pos)
                return size
            self._whole_line(chunk, data[pos:end], pos, end + 1)
            pos = end + 1
        return size

    def _hold(self, chunk: Chunk, part: bytes, pos: int) -> None:
        if not self._held_length:
            self._held_began, self._start = chunk.began, chunk.offset + pos
        room = self._limit - len(self._held)
        if room > 0:
            self._held += part[:room]
        self._held_length += len(part)
        self._held_acked = chunk.acked

    def _whole_line(self, chunk: Chunk, part: bytes, pos: int, next_pos: int) -> None:
        oddities, began, start = 0, chunk.began, chunk.offset + pos
        if self._held_length:
            self._hold(chunk, part, pos)
            line = bytes(self._held)
            began, start = self._held_began or began, self._start
            if self._held_length > len(line):
                oddities |= OVERLONG
            self._held.clear()
            self._held_length = 0
        else:
            line = part
        if line[-1:] == b"\r":
            line = line[:-1]
        elif not oddities:
            oddities |= BARE_LF
        self._line(chunk, line, oddities, began, start, chunk.offset + next_pos)

    def _line(self, chunk: Chunk, line: bytes, oddities: int, began: Location, start: int, end: int) -> None:
        digits = line[:3]
        coded = len(digits) == 3 and digits.isdigit() and line[3:4] in (b" ", b"-", b"")
        if self._after_gap:
            self._after_gap = False
            if not coded:
                return  # the rest of a line whose beginning is lost
            oddities |= AFTER_GAP
        if self._lines and self._belongs_elsewhere(chunk.acked, digits if coded else b""):
            self._finish(UNTERMINATED | MALFORMED, chunk.encrypted)
        if not self._lines:
            self._began, self._offset, self._oddities = began, start, 0
        elif coded and digits != self._lines[0][:3]:
            oddities |= MALFORMED
        self._at, self._end, self._acked = chunk.at, end, chunk.acked
        self._oddities |= oddities | line_oddities(line)
        if not coded:
            self._oddities |= MALFORMED
        if len(self._lines) < _LINES:
            self._lines.append(line)
        else:
            self._lines[-1] = line
            self._oddities |= OVERLONG
        if coded and line[3:4] != b"-":
            self._finish(0, chunk.encrypted)

    def _belongs_elsewhere(self, acked: int, digits: bytes) -> bool:
        """Whether an unfinished reply is over although its last line never came.

        A line with another code, sent after more of the client's bytes had arrived, answers those. The same code
        goes on with the reply, as when a server delays the end of its greeting to catch those who do not wait; but
        not beyond a gap, which may hold the end of it.
        """
        return acked > self._acked >= 0 and (digits != self._lines[0][:3] or bool(self._oddities & AFTER_GAP))

    def _finish(self, oddities: int, encrypted: bool = False) -> None:
        lines = self._lines
        assert self._began is not None
        assert self._at is not None
        code = 0
        for line in reversed(lines):
            if line[:3].isdigit() and len(line) >= 3 and line[3:4] in (b" ", b"-", b""):
                code = int(line[:3])
                break
        self.found.append(
            Reply(
                code=code,
                lines=lines,
                began=self._began,
                at=self._at,
                enhanced=enhanced_code(lines[0]),
                offset=self._offset,
                end=self._end,
                acked=self._acked,
                oddities=self._oddities | oddities,
                encrypted=encrypted,
            )
        )
        self._lines = []

    def gap(self, gap: Gap) -> None:
        """Bytes are missing: the line in hand is cut; a multi-line reply may go on after it."""
        self._cut(gap.encrypted, AFTER_GAP)
        if self._lines:
            self._oddities |= AFTER_GAP
        self._after_gap = True

    def close(self, encrypted: bool) -> None:
        """No more bytes: what is unfinished becomes a reply."""
        self._cut(encrypted)
        if self._lines:
            self._finish(UNTERMINATED | MALFORMED, encrypted)

    def _cut(self, encrypted: bool, known: int = 0) -> None:
        """A line without end: kept where its code is there."""
        if not self._held_length:
            return
        line, began = bytes(self._held), self._held_began
        end = self._start + self._held_length
        self._held.clear()
        self._held_length = 0
        if began is None or not (line[:3].isdigit() and line[3:4] in (b" ", b"-")):
            return
        if self._lines and self._belongs_elsewhere(self._held_acked, line[:3]):
            self._finish(UNTERMINATED | MALFORMED, encrypted)
        if not self._lines:
            self._began, self._at, self._offset, self._oddities = began, began, self._start, 0
        if self._after_gap:
            self._after_gap = False
            self._oddities |= AFTER_GAP
        self._acked = self._held_acked
        self._lines.append(line.rstrip(b"\r"))
        self._end = end
        self._oddities |= line_oddities(line.rstrip(b"\r"))
        if line[3:4] == b"-":
            self._oddities |= AFTER_GAP
        else:
            self._finish(UNTERMINATED | known, encrypted)
