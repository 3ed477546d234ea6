"""The client's lines where nobody knows what they are: behind a gap, or where the capture begins.

They may be mail data, answers to AUTH, commands nobody knows, or the rest of a line. They are kept to be shown. A reply
that the server sent on having all of the last one, and no more, tells that it was a command.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from smtpdebug.model.smtp import AUTH_ANSWER, END_OF_DATA, Command, Reply, TimelineItem, Unread
from smtpdebug.model.streams import CLIENT, Location
from smtpdebug.smtp.waiting import HeldLine

_VERB: Final = re.compile(rb"[A-Za-z][A-Za-z0-9-]{2,19}(?:[ \t]|$)")
_ANSWER: Final = re.compile(
    rb"(?:[A-Za-z0-9+/]{4})+(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$|[A-Za-z0-9+/]{2,3}={1,2}$"
)
_NOT_KNOWN: Final = frozenset((500, 501, 502, 503, 504))
"""What a server says to a line that is no command it takes (RFC 5321 section 4.2.4)."""
_ANSWERED: Final = frozenset((235, 334, 432, 454, 534, 535, 538))
"""Replies to AUTH and its answers alone (RFC 4954 sections 4 and 6)."""
_LONG_ANSWER: Final = 8
"""Octets from which a word of base64 is hardly a verb."""


class Unsure:
    """Collects lines; the latest one is held back until it is known not to be a command.

    Args:
        note: puts an item down in the timeline.
        most: octets kept of what stands together; the rest is counted.
    """

    __slots__ = ("_item", "_most", "_note", "acked", "last", "offset")

    def __init__(self, note: Callable[[TimelineItem], None], most: int) -> None:
        self._note, self._most = note, most
        self._item: Unread | None = None
        self.last: Command | None = None
        self.offset = self.acked = -1
        """Of the latest line: where it begins, and what of the server's bytes the client had."""

    def add(self, command: Command) -> None:
        """One more line, as the command that it may be."""
        self._put_down()
        self.last, self.offset, self.acked = command, command.offset, command.acked

    def fragment(self, held: HeldLine, *, encrypted: bool) -> None:
        """A line that a gap cut."""
        assert held.began is not None
        self._put_down()
        self.offset, self.acked = held.offset, held.acked
        self._keep(bytes(held.data), held.began, encrypted=encrypted)

    def end(self) -> Command | None:
        """What comes next is known. Gives the end of mail data, where the last line may be that."""
        dot, self.last = (self.last, None) if self.last is not None and self.last.line == b"." else (None, self.last)
        self._put_down()
        if self._item is not None:
            # Not before it is whole: live output shows each item once.
            self._item.mail = dot is not None
            self._note(self._item)
            self._item = None
        return None if dot is None else _end_of_data(dot)

    def told_by(self, reply: Reply, fed: int) -> Command | None:
        """The last line as the command that this reply answers; ``None`` where it tells nothing of the kind."""
        last = self.last
        if last is None or not _follows(reply, last, fed):
            return None
        if last.line == b"." and not 300 <= reply.code < 400:
            return self.end()
        verb = _verb(last, reply)
        if verb is None:
            return None
        self.last = None
        self.end()
        last.verb = verb or last.verb
        if verb:
            last.argument = last.line.decode("ascii", "backslashreplace")
        return last

    def _put_down(self) -> None:
        last, self.last = self.last, None
        if last is not None:
            self._keep(last.line + b"\r\n", last.began, encrypted=last.encrypted)

    def _keep(self, data: bytes, at: Location, *, encrypted: bool) -> None:
        item = self._item
        if item is None:
            item = self._item = Unread(CLIENT, b"", at, encrypted=encrypted)
        item.length += len(data)
        item.lines += 1
        item.data += data[: max(0, self._most - len(item.data))]


def _end_of_data(dot: Command) -> Command:
    """The pseudo-command of a line of a lone dot."""
    dot.verb, dot.argument, dot.line = END_OF_DATA, "", b""
    return dot


def _follows(reply: Reply, last: Command, fed: int) -> bool:
    """Whether the server had just this line when it replied; in TLS only time tells."""
    if reply.acked >= 0 and last.end >= 0:
        return reply.acked == last.end
    return last.end == fed and reply.began.ts_ns >= last.at.ts_ns


def _verb(last: Command, reply: Reply) -> str | None:
    """``(auth)`` for an answer to a challenge, ``""`` for a command as it was read, ``None`` for neither."""
    line = last.line
    if _ANSWER.match(line) and (len(line) >= _LONG_ANSWER or reply.code in _ANSWERED):
        return AUTH_ANSWER
    if line == b"*" and reply.code == 501:  # RFC 4954 section 4: cancelled
        return AUTH_ANSWER
    return "" if reply.code in _NOT_KNOWN and _VERB.match(line) else None
