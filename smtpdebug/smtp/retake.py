"""Second thoughts about the end of mail data.

Only CRLF.CRLF ends mail data, but servers differ, and that is what SMTP smuggling lives on (CVE-2023-51764). Where the
data hold a look-alike of the end, what follows it is kept until the replies show how the server read it. More replies
than commands mean that the server took the look-alike for the end: everything since is then read again as it did.
"""

from __future__ import annotations

from copy import copy
from typing import Final

from smtpdebug.model.smtp import END_OF_DATA, Exchange, Message, Reply, TimelineItem
from smtpdebug.model.streams import Chunk
from smtpdebug.smtp.grammar import FOOT
from smtpdebug.smtp.maildata import Candidate, DataReader
from smtpdebug.smtp.pairing import Pairing, Pending

_KEPT: Final = 64 << 10
"""Octets kept to be read again."""
_REPLIES: Final = 1000
"""Replies kept to be paired again."""


class Retake:
    """State of the pairing when a look-alike was met, and all that came since.

    Args:
        reader: the mail data, with at least one candidate.
        pairing: to be set back.
        timeline: to be set back.
    """

    def __init__(self, reader: DataReader, pairing: Pairing, timeline: list[TimelineItem]) -> None:
        self.candidates = reader.candidates
        self._pairing = pairing
        self._timeline = timeline
        self._marks = len(pairing.exchanges), len(timeline), len(pairing.envelopes.messages)
        self._current = _copy(pairing.envelopes.current)
        self._memory = pairing.memory()
        self._pending: list[Pending] = list(pairing.pending)
        first = reader.window
        assert first is not None
        self._raw: list[Chunk] = [first]
        self._raw_end = first.offset + len(first.data)
        self._bytes = len(first.data)
        self._answered: list[Exchange] = []
        pairing.log = self._answered

    def keep(self, chunk: Chunk) -> bool:
        """Remember bytes of the client; false where they get too many."""
        end = chunk.offset + len(chunk.data)
        if end > self._raw_end:
            self._raw.append(chunk)
            self._raw_end = end
            self._bytes += len(chunk.data)
        return self._bytes <= _KEPT

    def choose(self, reply: Reply, fed: int, *, in_data: bool) -> Candidate | None:
        """The look-alike that explains a reply too many, if there is one.

        Args:
            reply: no command waits for it.
            fed: the client's bytes given so far.
            in_data: the true end has not been seen.
        """
        if reply.code == 421:
            return None
        acked = reply.acked if reply.acked >= 0 else fed
        if acked > fed:
            return None
        possible = [one for one in self.candidates if one.after <= acked]
        for one in possible:
            if one.after == acked or FOOT.match(one.odd.following.partition(b"\n")[0].rstrip(b"\r")):
                # What the server did not have yet did not follow the end: it is a command like any other.
                one.odd.following = one.odd.following[: acked - one.after]
                return one
        if in_data and reply.acked < 0 and possible:
            return possible[-1]
        return None

    def clear(self) -> bool:
        """Whether the replies since show that the server saw no end where we saw none (or they are too many to keep).

        A command sent after the reply to the end of data has its own reply, and no other came between.
        """
        if len(self._answered) > _REPLIES:
            return True
        ended: Reply | None = None
        for exchange in self._answered:
            command, reply = exchange.command, exchange.reply
            if command is None or reply is None:
                continue
            if ended is None:
                if command.verb == END_OF_DATA:
                    ended = reply
            elif command.acked >= ended.end if command.acked >= 0 else command.began.ts_ns > ended.at.ts_ns:
                return True
        return False

    def let_go(self) -> None:
        """No second thoughts any more."""
        self._pairing.log = None

    def set_back(self) -> None:
        """Forget everything since the look-alike was met; the replies since are to be paired again."""
        pairing = self._pairing
        exchanges, timeline, messages = self._marks
        del pairing.exchanges[exchanges:]
        del self._timeline[timeline:]
        del pairing.envelopes.messages[messages:]
        pairing.envelopes.current = self._current
        pairing.remember(self._memory)
        pairing.pending.clear()
        pairing.pending.extend(self._pending)
        pairing.replies.extendleft(one.reply for one in reversed(self._answered) if one.reply is not None)
        for entry in self._pending:
            _unanswer(entry.exchange)
        pairing.log = None

    def rest(self, after: int) -> list[Chunk]:
        """The client's bytes from stream offset ``after`` on, as far as they were read."""
        rest = []
        for chunk in self._raw:
            start = after - chunk.offset
            if start <= 0:
                rest.append(chunk)
            elif start < len(chunk.data):
                later = copy(chunk)
                later.offset, later.data = after, chunk.data[start:]
                rest.append(later)
        return rest

    @property
    def read_to(self) -> int:
        """Stream offset up to which bytes were kept."""
        return self._raw_end


def _copy(message: Message | None) -> Message | None:
    if message is None:
        return None
    twin = copy(message)
    twin.recipients = [copy(one) for one in message.recipients]
    return twin


def _unanswer(exchange: Exchange) -> None:
    exchange.reply = None
    exchange.wait_ns = None
