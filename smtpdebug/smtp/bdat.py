"""Mail data of BDAT: chunks of a declared size, whose octets stand for themselves (RFC 3030 section 2)."""

from __future__ import annotations

from smtpdebug.model.smtp import AFTER_GAP, MailData
from smtpdebug.model.streams import Chunk, Limits, Location
from smtpdebug.smtp.maildata import Body
from smtpdebug.smtp.pairing import Pending


class ChunkReader:
    """Reads one BDAT chunk after the other and sums up the message they make."""

    __slots__ = ("_body", "_entry", "_last", "_left", "_limits", "_whole")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._whole: Body | None = None
        self._body: Body | None = None
        self._entry: Pending | None = None
        self._left = 0
        self._last = False

    def restart(self) -> None:
        """A new transaction: the chunks to come are of another message."""
        self._whole = None

    def begin(self, entry: Pending, size: int, last: bool, at: Location, end: int, encrypted: bool) -> bool:
        """A BDAT command of ``size`` octets ended at stream offset ``end``. True while octets are to come."""
        data = MailData(began=at, at=at, encrypted=encrypted, offset=end, end=end + size, chunks=[size], odd_ends=[])
        self._body = Body(self._limits, data)
        if self._whole is None:
            whole = MailData(began=at, at=at, encrypted=encrypted, offset=end, chunks=[], odd_ends=[])
            self._whole = Body(self._limits, whole)
            if entry.exchange.command is not None and entry.exchange.command.oddities & AFTER_GAP:
                self._whole.cut(0)  # the chunk with the headers may be lost
        self._body.follows(self._whole)
        if len(self._whole.data.chunks) < self._limits.exchanges:
            self._whole.data.chunks.append(size)
        entry.exchange.data = data
        entry.whole = self._whole.data
        entry.done = not size
        self._entry, self._left, self._last = entry, size, last
        if not size:
            self.end()
        return bool(size)

    def feed(self, chunk: Chunk, pos: int) -> tuple[int, MailData | None]:
        """Take octets from ``pos`` on. Gives the position after them, and the chunk's data when it is whole."""
        body, whole = self._body, self._whole
        assert body is not None
        assert whole is not None
        part = chunk.data[pos : pos + self._left] if pos or self._left < len(chunk.data) else chunk.data
        for each in (body, whole):
            each.octets(part)
            each.data.at = chunk.at
        self._left -= len(part)
        return pos + len(part), None if self._left else self.end()

    def gap(self, length: int) -> tuple[int, MailData | None]:
        """``length`` octets are missing. Gives how many of them were behind the chunk, and its data when it is over."""
        assert self._body is not None
        assert self._whole is not None
        inside = min(length, self._left)
        for each in (self._body, self._whole):
            each.gap(inside)
        self._left -= inside
        return length - inside, None if self._left else self.end()

    def end(self, *, cut: bool = False) -> MailData:
        """The chunk is over; ``cut``: before its time."""
        entry, body, whole = self._entry, self._body, self._whole
        assert entry is not None
        assert body is not None
        assert whole is not None
        last = self._last and not cut
        entry.done = True
        for each in (body, whole):
            if last:
                each.last_octet()
            each.data.ended = last
            each.finish()
        whole.data.end = body.data.end
        if last:
            self._whole = None
        self._entry = self._body = None
        return body.data
