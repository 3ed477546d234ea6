"""The short way for the conversation that most captures are full of: whole, in clear, one command at a time.

A conversation whose every packet is known before its first byte is looked at, in which each command is one line in one
packet, each reply is whole, and neither side runs ahead of the other, needs no queues and no second thoughts: one loop
reads it. Anything else (pipelining, AUTH, STARTTLS, BDAT, a gap, an odd octet in a line end) is left to
``ConversationParser``, which must and does read the short cases to the same result (``tests/smtp/test_lockstep.py``).
It pays: a third of the time of reading a large capture was spent on being ready for what did not happen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

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
from smtpdebug.model.streams import CLIENT, Chunk, Gap, Limits, Location
from smtpdebug.smtp.envelope import Envelopes
from smtpdebug.smtp.grammar import usual_command
from smtpdebug.smtp.maildata import DataReader
from smtpdebug.smtp.replies import whole_replies

_PLAIN: Final = frozenset(("EHLO", "HELO", "MAIL", "RCPT", "DATA", "RSET", "NOOP", "QUIT", "VRFY", "HELP"))
"""Commands whose replies change nothing about how the client's next bytes are read, DATA aside."""
_LINE: Final = 512
_REPLY: Final = 1024


class Lockstep:
    """A conversation read the short way; has what ``ConversationParser`` has to show.

    ``whole`` is false where it is not such a conversation: then the rest means nothing.
    """

    __slots__ = (
        "_client_end", "_data", "_envelopes", "_limits", "_parts", "_pending", "_previous", "_server_end",
        "exchanges", "messages", "timeline", "whole",
    )  # fmt: skip

    proxy = None
    protocol = "smtp"
    truncated = False
    tls = None

    def __init__(self, chunks: Sequence[Chunk | Gap], limits: Limits, established: Location | None) -> None:
        self.exchanges: list[Exchange] = []
        self.timeline: list[TimelineItem] = []
        self._envelopes = Envelopes(limits.exchanges, lmtp=False)
        self.messages: list[Message] = self._envelopes.messages
        self._limits = limits
        self._parts: list[Chunk] | None = None
        """Mail data so far; ``None`` outside of it."""
        self._previous: Reply | None = None
        self._client_end = self._server_end = 0
        at = established if established is not None else chunks[0].at
        greeting = Command(GREETING, "", b"", at, at, 0, 0, -1)
        self._pending: Exchange | None = Exchange(greeting, None)
        self.exchanges.append(self._pending)
        self.whole = self._read(chunks) and self._pending is None and self._parts is None
        self._envelopes.finish()

    def _read(self, chunks: Sequence[Chunk | Gap]) -> bool:
        for chunk in chunks:
            if type(chunk) is not Chunk:
                return False
            if chunk.side:
                if not self._reply(chunk):
                    return False
            elif self._pending is not None or chunk.acked < self._server_end:
                return False
            elif self._parts is not None:
                if not self._mail(chunk, self._parts):
                    return False
            elif not self._command(chunk):
                return False
        return True

    def _command(self, chunk: Chunk) -> bool:
        data = chunk.data
        size = len(data)
        if size > _LINE or data[-2:] != b"\r\n" or data.find(b"\n") != size - 1:
            return False
        line = data[:-2]
        verb, argument, oddities = usual_command(line)
        if verb not in _PLAIN:
            return False
        at, offset = chunk.at, chunk.offset
        self._client_end = end = offset + size
        command = Command(verb, argument, line, chunk.began, at, offset, end, chunk.acked, oddities)
        self._pending = exchange = Exchange(command, None)
        self.exchanges.append(exchange)
        self.timeline.append(command)
        return True

    def _reply(self, chunk: Chunk) -> bool:
        exchange, data = self._pending, chunk.data
        if exchange is None or len(data) > _REPLY or chunk.acked != self._client_end:
            return False
        whole = whole_replies(data)
        if whole is None or len(whole) != 1:
            return False
        code, lines, enhanced, oddities, _, size = whole[0]
        offset = chunk.offset
        self._server_end = end = offset + size
        began = chunk.began
        reply = Reply(code, list(lines), began, chunk.at, enhanced, offset, end, chunk.acked, oddities)
        exchange.reply = reply
        command, previous = exchange.command, self._previous
        assert command is not None
        since = command.at.ts_ns
        if previous is not None and previous.at.ts_ns > since:
            since = previous.at.ts_ns
        wait = began.ts_ns - since
        exchange.wait_ns = wait if wait > 0 else 0
        self._previous, self._pending = reply, None
        self.timeline.append(reply)
        verb = command.verb
        if verb == "DATA":
            if code == 354:
                self._parts = []
        elif previous is None:
            # Anything but a 220 at the beginning is for the long way.
            return code == 220
        else:
            self._envelopes.settle(exchange)
        return True

    def _mail(self, chunk: Chunk, parts: list[Chunk]) -> bool:
        parts.append(chunk)
        if chunk.data[-3:] != b".\r\n":
            return True
        data = chunk.data if len(parts) == 1 else b"".join([part.data for part in parts])
        if data[-5:] != b"\r\n.\r\n":
            # The dot may end a line of text, or follow a line end that is none.
            return data != b".\r\n"
        first = parts[0]
        reader = DataReader(self._limits, first.began, first.offset, False)
        if reader.feed(replace(chunk, offset=first.offset, data=data), 0) != len(data) or reader.candidates:
            return False
        self._parts = None
        self._end_of_data(reader.data, chunk)
        return True

    def _end_of_data(self, mail: MailData, chunk: Chunk) -> None:
        at, end = chunk.at, mail.end
        self._client_end = end
        command = Command(END_OF_DATA, "", b"", at, at, end - 3, end, chunk.acked)
        self._pending = exchange = Exchange(command, None, data=mail)
        self.exchanges.append(exchange)
        self.timeline.append(mail)


def usual(chunks: Sequence[Chunk | Gap], limits: Limits, established: Location | None) -> Lockstep | None:
    """The conversation, where the short way can read it; ``None`` where it takes the long one.

    Args:
        chunks: all that both sides sent, from the first byte on, in order of delivery.
        limits: budgets; a conversation that comes near any of them is for the long way.
        established: where the handshake was completed.
    """
    if len(chunks) < 2 or len(chunks) > limits.exchanges or chunks[0].side == CLIENT:
        return None
    read = Lockstep(chunks, limits, established)
    return read if read.whole else None
