"""Mail data of DATA, byte by byte: counted, hashed, transparency undone, its end and the look-alikes of it found."""

from __future__ import annotations

import hashlib
import re
from copy import copy
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from smtpdebug.model.smtp import (
    BARE_CR,
    BARE_LF,
    LONG_LINE,
    ODD_END,
    UNDOTTED,
    UNTERMINATED,
    MailData,
    OddEnd,
)
from smtpdebug.smtp.grammar import ORDINARY, oddities_of

if TYPE_CHECKING:
    from smtpdebug.model.streams import Chunk, Limits, Location

_DOT: Final = b"\r\n."
_LOOK_ALIKE: Final = re.compile(rb"(?:\r\n|\n|\r)(\.)(?:\r\n|\n|\r)")
_EMPTY_LINE: Final = re.compile(rb"\n(\r?\n)")
_EMPTY_FIRST: Final = re.compile(rb"(\r?\n)")
PAUSE_NS: Final = 1_000_000_000
"""Silences shorter than this are not noted."""
_PARTIAL: Final = 4096
"""Octets of an unfinished line held back; of a longer line the beginning is let go."""
_FOLLOWING: Final = 200
_CANDIDATES: Final = 8
_TEXT: Final = bytes(sorted(set(ORDINARY) - set(b"\r\n")))
"""Octets of ordinary text that end no line."""
_TEXT_LINE: Final = 1000
"""RFC 5321 4.5.3.1.6."""


class Body:
    """Counts, hashes and keeps what of mail data is to be kept; given the octets with transparency undone."""

    __slots__ = (
        "_after_gap",
        "_header_limit",
        "_headers",
        "_keep",
        "_last",
        "_line",
        "_mid_line",
        "broken",
        "data",
        "hasher",
    )

    def __init__(self, limits: Limits, data: MailData) -> None:
        self._keep = limits.body_bytes
        self.data = data
        self.hasher = hashlib.sha256()
        self.broken = False
        """Octets are missing, perhaps of unknown number (TLS records that could not be opened)."""
        self._headers: bytearray | None = bytearray()
        self._header_limit = limits.header_bytes
        self._mid_line = False
        self._last = b""
        """The last octet of BDAT so far, and how long its line is by now."""
        self._line = 0
        self._after_gap = False

    def follows(self, whole: Body) -> None:
        """This is a further chunk of ``whole``: it begins where that stands, in the headers or after them."""
        if whole._headers is None:
            self._headers = None
        else:
            self._mid_line = bool(whole._headers) and whole._headers[-1] != 10
        self._last, self._line, self._after_gap = whole._last, whole._line, whole._after_gap

    def add(self, content: bytes) -> None:
        """The next octets of the message."""
        data = self.data
        data.bytes += len(content)
        self.hasher.update(content)
        if self._headers is not None:
            content = self._add_headers(self._headers, content)
        keep = self._keep
        if keep and self._headers is None:
            had = data.body or b""
            data.body = had + content[: keep - len(had)]

    def octets(self, part: bytes) -> None:
        """The next octets of a BDAT chunk, which stand for themselves (RFC 3030 section 2)."""
        data = self.data
        data.wire_bytes += len(part)
        data.lines += part.count(b"\n")
        odd = part.translate(None, ORDINARY)
        if odd:
            data.oddities |= oddities_of(odd)
        self._line_ends(part)
        self.add(part)

    def _line_ends(self, part: bytes) -> None:
        """What is odd about the lines that the octets of BDAT make, where they are text."""
        if self._after_gap:  # of the line that the gap cut nothing is known
            part = part[part.find(b"\n") + 1 or len(part) :]
            self._after_gap = not part
        if not part:
            return
        data = self.data
        seen = self._last + part if self._last == b"\r" else part
        ends = seen.count(b"\r\n")
        if seen.count(b"\n") != ends:
            data.oddities |= BARE_LF
        if seen.count(b"\r") - (seen[-1] == 13) != ends:  # a CR at the very end may get its LF yet
            data.oddities |= BARE_CR
        first = part.find(b"\n")
        length = self._line + (first + 1 if first >= 0 else len(part))
        longest = max(length, _long_line(part[first + 1 :]) if first >= 0 else 0)
        if longest > max(data.longest_line, _TEXT_LINE):
            data.longest_line = longest
            data.oddities |= LONG_LINE
        self._last, self._line = part[-1:], length if first < 0 else len(part) - part.rfind(b"\n") - 1

    def gap(self, length: int) -> None:
        """``length`` octets of a BDAT chunk are missing."""
        self.cut(length)
        self._after_gap = True
        self._last, self._line = b"", 0

    def cut(self, length: int) -> None:
        """``length`` octets are missing: the headers end before them, as nobody knows what is glued to what."""
        self.data.missing += length
        self.broken = True
        if self._headers is not None:
            self.data.headers, self._headers = bytes(self._headers[: self._header_limit]), None

    def last_octet(self) -> None:
        """No more octets of BDAT come: a CR at the end stays bare."""
        if self._last == b"\r":
            self.data.oddities |= BARE_CR

    def _add_headers(self, headers: bytearray, content: bytes) -> bytes:
        """Collect header lines up to the empty line; gives back what belongs to the body."""
        start = max(0, len(headers) - 3)
        headers += content
        match = None if self._mid_line else _EMPTY_FIRST.match(headers)
        match = match or _EMPTY_LINE.search(headers, start)
        if match is None and len(headers) <= self._header_limit:
            return b""
        if match is None:
            end = after = self._header_limit
        else:
            end, after = match.start(1), match.end()
        self.data.headers = bytes(headers[: min(end, self._header_limit)])
        self._headers = None
        return bytes(headers[after:]) if self._keep else b""

    def finish(self) -> None:
        """No more octets come, or none before a look at the sums: fill in hash and unfinished headers."""
        data = self.data
        if self._headers:
            data.headers = bytes(self._headers[: self._header_limit])
        data.sha256 = None if self.broken else self.hasher.hexdigest()

    def fork(self) -> Body:
        """A copy that stands still where this one is now."""
        twin = copy(self)
        twin.data = copy(self.data)
        twin.data.odd_ends = list(self.data.odd_ends)
        twin.hasher = self.hasher.copy()
        if self._headers is not None:
            twin._headers = bytearray(self._headers)
        return twin


class Candidate:
    """A place where the server may have seen the end of the mail data although it is none (smuggling)."""

    __slots__ = ("after", "at", "body", "odd")

    def __init__(self, odd: OddEnd, after: int, body: Body, at: Location) -> None:
        self.odd = odd
        self.after = after
        """Stream offset of the octet after the look-alike."""
        self.body = body
        self.at = at

    def chosen(self) -> MailData:
        """The mail data that end here after all."""
        data = self.body.data
        data.ended = True
        data.at = self.at
        data.end = self.after
        data.wire_bytes = self.after - data.offset
        self.body.finish()
        return data


class DataReader:
    """Mail data of one DATA command, from the first octet after it to the end-of-data line (RFC 5321 4.1.1.4).

    Only CRLF.CRLF ends it (the CRLF before the dot may be that of the DATA line); everything else that looks like
    an end becomes an ``OddEnd`` and a candidate. Whole lines are taken in; the last, unfinished one waits in ``held``.
    """

    __slots__ = (
        "_context",
        "_crlf",
        "_end",
        "_length",
        "_mid_line",
        "body",
        "candidates",
        "data",
        "done",
        "held",
        "window",
    )

    def __init__(self, limits: Limits, began: Location, offset: int, encrypted: bool) -> None:
        self.data = MailData(began=began, at=began, encrypted=encrypted, offset=offset, chunks=[], odd_ends=[])
        self.body = Body(limits, self.data)
        self.held = b""
        self.done = False
        self.candidates: list[Candidate] = []
        self.window: Chunk | None = None
        """The bytes in which the first candidate was found, held ones included."""
        self._crlf = True
        self._mid_line = False
        self._length = 0
        self._context = b"\r\n"
        self._end = offset

    def feed(self, chunk: Chunk, pos: int) -> int:
        """Take octets of ``chunk`` from ``pos`` on; gives the position after the last one that belongs to the data."""
        data = self.data
        pause = chunk.began.ts_ns - data.at.ts_ns
        if pause >= PAUSE_NS and pause > data.pause_ns:
            data.pause_ns = pause
        data.at = chunk.at
        held = self.held
        window = held + chunk.data[pos:] if pos or held else chunk.data
        base = chunk.offset + pos - len(held)
        known = len(self.candidates)
        pieces: list[bytes] | None = None
        if self._crlf and not self._mid_line and window[:3] == b".\r\n":
            found, length = 0, 3
        else:
            pieces = window.split(_DOT)
            found = _end_of_data(pieces)
            length = found + 3
        if found >= 0:
            self.held = b""
            if found:
                self._absorb(window[:found], base, chunk.at, pieces)
            data.ended = self.done = True
            data.wire_bytes = base + length - data.offset
            data.end = base + length
            self._finish()
            if self.candidates and not known:
                self.window = replace(chunk, offset=base, data=window)
            return base + length - chunk.offset
        cut = window.rfind(b"\n") + 1
        if len(window) - cut > _PARTIAL:
            # A line without end: let go of it but for what may be part of a line end or look-alike.
            long = window[: len(window) - 3].rstrip(b"\r")
            cut = max(cut, len(long), len(window) - _PARTIAL)
        if cut:
            self._absorb(window[:cut], base, chunk.at)
            self.held = window[cut:]
        else:
            self.held = window
        self._end = base + len(window)
        if self.candidates and not known:
            self.window = replace(chunk, offset=base, data=window)
        return len(chunk.data)

    def gap(self, length: int, end: int) -> None:
        """``length`` octets are missing; the stream goes on at offset ``end``."""
        if self.held[-1:] == b"\r":
            # Its LF is lost: it goes with it, or it would look bare.
            self.held, length = self.held[:-1], length + 1
            self._end -= 1
        self._flush()
        self.body.cut(length)
        self._crlf = False
        self._mid_line = True
        self._context = b""
        self.data.wire_bytes = end - self.data.offset

    def close(self, end: int, *, ended: bool = False) -> None:
        """The data ends without its end line at stream offset ``end``."""
        self._flush()
        data = self.data
        data.ended = ended
        data.wire_bytes = end - data.offset
        data.end = end
        if not ended:
            data.oddities |= UNTERMINATED
        self.done = True
        self._finish()

    def _flush(self) -> None:
        if self.held:
            held, self.held = self.held, b""
            self._absorb(held, self._end - len(held), self.data.at)

    def _finish(self) -> None:
        self.body.finish()
        if self.data.longest_line:
            self.data.oddities |= LONG_LINE

    def _absorb(self, region: bytes, base: int, at: Location, pieces: list[bytes] | None = None) -> None:
        """Take in octets that are surely data; they end with a line or leave it in the middle.

        ``pieces``: the region, cut at the dots that begin a line, where that is known already.
        """
        data = self.data
        if data.odd_ends:
            for known in data.odd_ends:
                if len(known.following) < _FOLLOWING:
                    known.following = (known.following + region)[:_FOLLOWING]
        ends = region.count(b"\r\n")
        # What is no text, in one look: of usual mail only the line ends.
        marks = region.translate(None, _TEXT)
        bare_lf = bare_cr = False
        if len(marks) != 2 * ends:
            bare_lf, bare_cr = marks.count(b"\n") != ends, marks.count(b"\r") != ends
        if bare_lf or bare_cr or not self._crlf:
            data.oddities |= (BARE_LF if bare_lf else 0) | (BARE_CR if bare_cr else 0)
            self._look_alikes(region, base, at)
        elif region[-1] == 10 and not self._mid_line:
            if len(marks) != 2 * ends:
                data.oddities |= oddities_of(marks.translate(None, b"\r\n"))
            self._take_lines(region, ends, pieces or region.split(_DOT))
        else:
            self._take(region)

    def _take_lines(self, region: bytes, ends: int, pieces: list[bytes]) -> None:
        """The usual case of :meth:`_take`: whole lines, all of them ended by CRLF."""
        data = self.data
        content = region
        if len(pieces) > 1 or region[0] == 46:
            content = self._undotted_pieces(pieces, region[0] == 46)
        data.lines += ends
        longest = _long_line(content)
        if longest > data.longest_line:
            data.longest_line = longest
        self._length = 0
        self.body.add(content)
        self._context = b"\r\n"

    def _undotted_pieces(self, pieces: list[bytes], starts: bool) -> bytes:
        """As :meth:`_undotted`, of a region that is cut at its dots already."""
        data = self.data
        doubled = sum([piece[:1] == b"." for piece in pieces]) - (starts and pieces[0][1:2] != b".")
        data.stuffed += doubled
        if doubled != len(pieces) - 1 + starts:
            data.oddities |= UNDOTTED
        content = b"\r\n".join(pieces)
        return content[1:] if starts else content

    def _undotted(self, region: bytes, starts: bool) -> bytes:
        """Transparency undone (RFC 5321 4.5.2); ``starts``: the region begins with a line that begins with a dot."""
        data = self.data
        content = region.replace(b"\r\n.", b"\r\n")
        dots = len(region) - len(content) + starts
        if not dots:
            return region
        doubled = region.count(b"\r\n..") + (starts and region[1:2] == b".")
        data.stuffed += doubled
        if dots != doubled:
            data.oddities |= UNDOTTED
        return content[1:] if starts else content

    def _look_alikes(self, region: bytes, base: int, at: Location) -> None:
        """As :meth:`_absorb` where line ends are not all CRLF: stop at each look-alike of the end."""
        context = self._context
        window = context + region
        done, scan = 0, 0
        while len(self.candidates) < _CANDIDATES and (match := _LOOK_ALIKE.search(window, scan)):
            scan = match.start(1)
            dot, after = scan - len(context), match.end() - len(context)
            if dot > done:
                self._take(region[done:dot])
                done = dot
            found = OddEnd(
                sequence=match.group(),
                offset=base + dot,
                at=at,
                following=region[after : after + _FOLLOWING],
            )
            self.data.oddities |= ODD_END
            self.data.odd_ends.append(found)
            self.candidates.append(Candidate(found, base + after, self.body.fork(), at))
        if done < len(region):
            self._take(region[done:])

    def _take(self, region: bytes) -> None:
        """Undo transparency and count. ``region`` begins at a line or, ``_mid_line``, within one."""
        data = self.data
        odd = region.translate(None, ORDINARY)
        if odd:
            data.oddities |= oddities_of(odd)
        content = self._undotted(region, self._crlf and not self._mid_line and region[0] == 46)
        lines = content.split(b"\n")
        data.lines += len(lines) - 1
        last = len(lines.pop())
        carried = self._length if self._mid_line else 0
        if lines:
            longest = max(len(max(lines, key=len)), carried + len(lines[0])) + 1
        else:
            longest = last = carried + last
        self._length = last
        if max(longest, last) > max(data.longest_line, _TEXT_LINE):
            data.longest_line = max(longest, last)
        self.body.add(content)
        self._mid_line = region[-1] != 10
        self._context = region[-2:]
        self._crlf = self._context == b"\r\n"


def _long_line(content: bytes) -> int:
    """Octets of the longest of whole lines, where that is longer than a text line may be; else 0."""
    begin, size = 0, len(content)
    while size - begin > _TEXT_LINE:
        begin = content.rfind(b"\n", begin, begin + _TEXT_LINE) + 1
        if not begin:
            return max(map(len, content.split(b"\n"))) + 1
    return 0


def _end_of_data(pieces: list[bytes]) -> int:
    """Where in octets cut at ``_DOT`` the dot of the end-of-data line is, -1 for nowhere.

    Leaves in ``pieces`` what comes before it, the CRLF included.
    """
    for number in range(1, len(pieces)):
        piece = pieces[number]
        # An empty one before another: the CRLF behind this dot stands before the next.
        if piece[:2] == b"\r\n" or (not piece and number + 1 < len(pieces)):
            del pieces[number:]
            pieces[-1] += b"\r\n"
            return sum(map(len, pieces)) + len(_DOT) * (number - 1)
    return -1
