"""The short way for the conversation that most captures are full of: whole, in clear, one command at a time.

A conversation whose every packet is known before its first byte is looked at, in which each command is one line in one
packet, each reply is whole, and neither side runs ahead of the other, needs no queues and no second thoughts: one loop
reads it. Anything else (pipelining, AUTH, STARTTLS, BDAT, a gap, an odd octet in a line end) is left to
``ConversationParser``, which must and does read the short cases to the same result (``tests/smtp/test_lockstep.py``).
It pays: a third of the time of reading a large capture was spent on being ready for what did not happen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final, TypeAlias

from smtpdebug.model.smtp import (
    END_OF_DATA,
    GREETING,
    Command,
    Exchange,
    MailData,
    Message,
    Reply,
    TimelineItem,
)
from smtpdebug.model.streams import (
    CLIENT,
    Chunk,
    Endpoint,
    Gap,
    Limits,
    Location,
    Side,
    Stream,
    StreamWhole,
)
from smtpdebug.smtp.envelope import Envelopes
from smtpdebug.smtp.grammar import usual_command
from smtpdebug.smtp.maildata import PAUSE_NS, DataReader
from smtpdebug.smtp.replies import whole_replies

_PLAIN: Final = frozenset(("EHLO", "HELO", "MAIL", "RCPT", "DATA", "RSET", "NOOP", "QUIT", "VRFY", "HELP"))
"""Commands whose replies change nothing about how the client's next bytes are read, DATA aside."""
_LINE: Final = 512
_REPLY: Final = 1024
_NOWHERE: Final = Location("", 0, 0)
_NOBODY: Final = Stream(0, Endpoint("", 0), Endpoint("", 0), _NOWHERE, _NOWHERE)
"""For a chunk whose stream nobody asks for."""

_Segment: TypeAlias = tuple[Side, int, bytes, Location, Location, int]
"""``side, offset, data, began, at, acked`` of a ``Chunk``."""


class Lockstep:
    """A conversation read the short way; has what ``ConversationParser`` has to show.

    ``whole`` is false where it is not such a conversation: then the rest means nothing.
    """

    __slots__ = ("_data", "_envelopes", "_limits", "_parts", "exchanges", "messages", "timeline", "whole")

    proxy = None
    protocol = "smtp"
    truncated = False
    tls = None

    def __init__(self, segments: Iterable[_Segment], limits: Limits, greeting: Command) -> None:
        self.exchanges: list[Exchange] = []
        self.timeline: list[TimelineItem] = []
        self._envelopes = Envelopes(limits.exchanges, lmtp=False)
        self.messages: list[Message] = self._envelopes.messages
        self._limits = limits
        self._parts: list[_Segment] = []
        """Mail data so far."""
        self.whole = self._read(segments, greeting)
        self._envelopes.finish()

    def _read(self, segments: Iterable[_Segment], command: Command) -> bool:
        """One loop over all that was said; ``command`` is the one that waits for its reply."""
        exchanges, timeline, settle = self.exchanges, self.timeline, self._envelopes.settle
        pending: Exchange | None = Exchange(command, None)
        exchanges.append(pending)  # type: ignore[arg-type]  # just made
        asked_ns, client_end, server_end = command.at.ts_ns, 0, 0
        answered_ns = -1
        in_data = False
        for segment in segments:
            side, _, _, began, at, acked = segment
            if side:
                reply = _reply(segment)
                if reply is None or pending is None or acked != client_end:
                    return False
                pending.reply, server_end = reply, reply.end
                wait = began.ts_ns - (asked_ns if asked_ns > answered_ns else answered_ns)
                pending.wait_ns = wait if wait > 0 else 0
                timeline.append(reply)
                if answered_ns < 0:
                    if reply.code != 220:
                        return False  # anything else at the beginning is for the long way
                elif command.verb == "DATA":
                    in_data = reply.code == 354
                else:
                    settle(pending)
                answered_ns, pending = at.ts_ns, None
                continue
            if pending is not None or acked < server_end:
                return False
            if in_data:
                mail = self._mail(segment)
                if mail is None:
                    if not self._parts:
                        return False
                    continue
                in_data = False
                client_end = mail.end
                command = Command(END_OF_DATA, "", b"", at, at, client_end - 3, client_end, acked)
                pending = Exchange(command, None, data=mail)
                timeline.append(mail)
            else:
                asked = _command(segment)
                if asked is None:
                    return False
                command, client_end = asked, asked.end
                pending = Exchange(command, None)
                timeline.append(command)
            asked_ns = at.ts_ns
            exchanges.append(pending)
        return pending is None and not in_data

    def _mail(self, segment: _Segment) -> MailData | None:
        """The mail data that this segment ends; ``None`` where it goes on, or, with no parts kept, for the long way."""
        parts = self._parts
        parts.append(segment)
        if segment[2][-3:] != b".\r\n":
            return None
        _, offset, data, began, _, _ = parts[0]
        if len(parts) > 1:
            data = b"".join([part[2] for part in parts])
        if data[-5:] != b"\r\n.\r\n" and data != b".\r\n":
            return None  # the dot ends a line of text, or follows a line end that is none
        pause = _longest_pause(parts)
        parts.clear()
        if data == b".\r\n":
            return None
        reader = DataReader(self._limits, began, offset, False)
        whole = Chunk(_NOBODY, CLIENT, offset, data, segment[3], segment[4])
        if reader.feed(whole, 0) != len(data) or reader.candidates:
            return None
        reader.data.pause_ns = pause
        return reader.data


def _longest_pause(parts: list[_Segment]) -> int:
    """As the long way notes it; most mails are sent too quickly for one."""
    if parts[-1][4].ts_ns - parts[0][3].ts_ns < PAUSE_NS:
        return 0
    longest = max((after[3].ts_ns - before[4].ts_ns for before, after in pairwise(parts)), default=0)
    return longest if longest >= PAUSE_NS else 0


def _reply(segment: _Segment) -> Reply | None:
    """The one reply that is the whole segment."""
    _, offset, data, began, at, acked = segment
    if len(data) > _REPLY:
        return None
    whole = whole_replies(data)
    if whole is None or len(whole) != 1:
        return None
    code, lines, enhanced, oddities, _, size = whole[0]
    return Reply(code, list(lines), began, at, enhanced, offset, offset + size, acked, oddities)


def _command(segment: _Segment) -> Command | None:
    """The command that is the whole segment, if its reply changes nothing about how the client's bytes are read."""
    _, offset, data, began, at, acked = segment
    size = len(data)
    if size > _LINE or data[-2:] != b"\r\n" or data.find(b"\n") != size - 1:
        return None
    line = data[:-2]
    verb, argument, oddities = usual_command(line)
    if verb not in _PLAIN:
        return None
    return Command(verb, argument, line, began, at, offset, offset + size, acked, oddities)


def usual(said: StreamWhole | Sequence[Chunk | Gap], limits: Limits, established: Location | None) -> Lockstep | None:
    """The conversation, where the short way can read it; ``None`` where it takes the long one.

    Args:
        said: all that both sides sent, from the first byte on, in order of delivery.
        limits: budgets; a conversation that comes near any of them is for the long way.
        established: where the handshake was completed.
    """
    segments = _segments(said)
    if len(segments) < 2 or len(segments) > limits.exchanges or segments[0][0] == CLIENT:
        return None
    at = established if established is not None else segments[0][4]
    read = Lockstep(segments, limits, Command(GREETING, "", b"", at, at, 0, 0, -1))
    return read if read.whole else None


def _segments(said: StreamWhole | Sequence[Chunk | Gap]) -> list[_Segment]:
    """What was said segment by segment; nothing where there is a gap."""
    if isinstance(said, StreamWhole):
        return list(zip(said.sides, said.offsets, said.data, said.at, said.at, said.acked, strict=True))
    chunks = [chunk for chunk in said if isinstance(chunk, Chunk)]
    if len(chunks) != len(said):
        return []
    return [(one.side, one.offset, one.data, one.began, one.at, one.acked) for one in chunks]
