r"""Conversations from text: test SMTP logic, and write down what SMTP does, without a capture.

>>> from smtpdebug.testing import dialogue
>>> conversation = dialogue('''
...     S: 220 mx.example.org
...     C: QUIT
...     S: 221 bye
... ''')
>>> [exchange.command.verb for exchange in conversation.exchanges]
['(greeting)', 'QUIT']

The lines of a dialogue, leading white space off, empty ones skipped:

``C: text``, ``S: text``
    A line of the client or of the server, ended by CRLF, in a packet of its own. Mail data are ``C:`` lines.
``C+ text``, ``S+ text``
    The same, in one packet with the line before (pipelining).
``C! bytes``, ``S! bytes``
    Bytes without line end; ``\r \n \t \0 \\ \xNN`` stand for octets.
``-- 5s --``, ``-- 200ms --``
    Time goes by.
``-- tls --``
    TLS starts: what follows is seen decrypted.
``-- gap 100 --``, ``-- gap S 100 --``
    That many bytes of the client (of the server) are not in the capture.
``C closes``, ``S closes``, ``C resets``, ``S resets``
    FIN or RST.
``... text``
    A comment.
``<- SR103`` at the end of a line
    A mark, see :func:`dialogue_with_marks`.

Packets are numbered from 1, one a line; each carries as its acknowledgement all that the other side sent before it.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from smtpdebug.model.smtp import Conversation, TlsStarted
from smtpdebug.model.streams import (
    CLIENT,
    SERVER,
    Chunk,
    Endpoint,
    Gap,
    Limits,
    Location,
    Side,
    Stream,
    TcpEvent,
)
from smtpdebug.model.tls import TlsFacts
from smtpdebug.smtp.parser import ConversationParser

__all__ = ["dialogue", "dialogue_with_marks"]

_LINE: Final = re.compile(r"(?P<side>[CS])(?P<how>[:+!])(?: (?P<text>.*))?$", re.DOTALL)
_PAUSE: Final = re.compile(r"--\s*(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>ms|s|min)\s*--$")
_GAP: Final = re.compile(r"--\s*gap\s+(?:(?P<side>[CS])\s+)?(?P<length>\d+)\s*--$")
_TLS: Final = re.compile(r"--\s*tls\s*--$")
_END: Final = re.compile(r"(?P<side>[CS]) (?P<how>closes|resets)$")
_MARK: Final = re.compile(r"\s*<- ?(?P<ids>[A-Z]+\d+(?:[, ]+[A-Z]+\d+)*)\s*$")
_ESCAPE: Final = re.compile(r"\\(?:x(?P<hex>[0-9a-fA-F]{2})|(?P<plain>[rnt0\\]))")
_PLAIN: Final = {"r": "\r", "n": "\n", "t": "\t", "0": "\0", "\\": "\\"}
_UNITS: Final = {"ms": 1_000_000, "s": 1_000_000_000, "min": 60_000_000_000}


def dialogue(
    text: str,
    *,
    start: str = "2024-01-01T00:00:00Z",
    gap_ms: float = 1.0,
    port: int = 25,
    lmtp: bool = False,
    implicit_tls: bool = False,
    joined_late: bool = False,
    limits: Limits | None = None,
) -> Conversation:
    """Make a conversation of a dialogue (see the module for its lines).

    Args:
        text: the dialogue.
        start: time of the SYN, RFC 3339.
        gap_ms: milliseconds from one line to the next.
        port: the server's.
        lmtp: LMTP from the first byte (else found out from LHLO).
        implicit_tls: all of it was inside TLS.
        joined_late: the capture begins in mid-conversation: no SYN, no greeting expected.
        limits: budgets of the parser.

    Raises:
        ValueError: a line is none of those.
    """
    return dialogue_with_marks(
        text,
        start=start,
        gap_ms=gap_ms,
        port=port,
        lmtp=lmtp,
        implicit_tls=implicit_tls,
        joined_late=joined_late,
        limits=limits,
    )[0]


def dialogue_with_marks(
    text: str,
    *,
    start: str = "2024-01-01T00:00:00Z",
    gap_ms: float = 1.0,
    port: int = 25,
    lmtp: bool = False,
    implicit_tls: bool = False,
    joined_late: bool = False,
    limits: Limits | None = None,
) -> tuple[Conversation, list[tuple[str, Location]]]:
    """As :func:`dialogue`; also gives the marks: rule id and place of the line that bears it."""
    began = datetime.fromisoformat(start)
    if began.tzinfo is None:
        began = began.replace(tzinfo=UTC)
    since = began - datetime(1970, 1, 1, tzinfo=UTC)
    start_ns = (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000
    wire = _Wire(start_ns, round(gap_ms * 1_000_000), port, joined_late=joined_late)
    wire.encrypted = implicit_tls
    for raw in text.splitlines():
        line = raw.strip()
        if line and not line.startswith("..."):
            wire.line(line)
    wire.flush()
    stream = wire.stream
    parser = ConversationParser(
        limits, lmtp=lmtp, implicit_tls=implicit_tls, joined_late=joined_late, established=wire.established
    )
    started: TlsStarted | None = None
    for event in wire.events:
        if type(event) is Chunk:
            parser.feed(event)
        elif type(event) is Gap:
            parser.gap(event)
        else:
            assert isinstance(event, TlsStarted)
            started = event
            parser.timeline.append(event)
    parser.close(stream.last)
    parser.close(stream.last)
    conversation = Conversation(
        stream=stream,
        id="dialogue",
        protocol=parser.protocol,
        exchanges=parser.exchanges,
        messages=parser.messages,
        timeline=[*parser.timeline, *stream.events],
        proxy=parser.proxy,
        joined_late=joined_late,
        truncated=parser.truncated,
        outcome="completed" if stream.closed_by else "open",
        finished=True,
    )
    conversation.timeline.sort(key=lambda item: item.at.ts_ns)
    if started is not None or implicit_tls:
        at = started.at if started is not None else stream.opened
        conversation.tls = TlsFacts(mode="starttls" if started is not None else "implicit", started=at, decrypted=True)
    return conversation, wire.marks


class _Wire:
    """Puts lines into packets, with numbers, times, offsets and acknowledgements."""

    def __init__(self, start_ns: int, step_ns: int, port: int, *, joined_late: bool) -> None:
        self.step_ns = step_ns
        self.now = start_ns
        self.frame = 0
        self.offset = [0, 0]
        self.plain = [0, 0]
        self.encrypted = False
        self.events: list[Chunk | Gap | TlsStarted] = []
        self.marks: list[tuple[str, Location]] = []
        self._open: Chunk | None = None
        opened = Location("dialogue", 0, start_ns)
        self.stream = Stream(
            serial=0,
            client=Endpoint("192.0.2.1", 40000),
            server=Endpoint("192.0.2.2", port),
            opened=opened,
            last=opened,
            complete=not joined_late,
            decided_by="port" if joined_late else "syn",
            captures=["dialogue"],
            events=[],
        )
        self.established: Location | None = None
        if not joined_late:
            stream = self.stream
            stream.syn_ns = stream.last_syn_ns = start_ns
            stream.syn_ack_ns = start_ns + step_ns // 2
            stream.established_ns = start_ns + step_ns // 2
            stream.mss = [1460, 1460]
            self.established = Location("dialogue", 0, start_ns + step_ns // 2)

    def line(self, line: str) -> None:
        """Take one line of the dialogue."""
        mark = _MARK.search(line)
        if mark:
            line = line[: mark.start()]
        before = self.frame
        self._take(line)
        if mark:
            at = self._here() if self.frame > before or self._open is None else self._open.at
            self.marks += [(rule, at) for rule in re.split(r"[, ]+", mark["ids"])]

    def _take(self, line: str) -> None:
        if match := _LINE.match(line):
            self._say(CLIENT if match["side"] == "C" else SERVER, match["how"], match["text"] or "")
        elif match := _PAUSE.match(line):
            self.flush()
            self.now += round(float(match["number"]) * _UNITS[match["unit"]])
        elif match := _GAP.match(line):
            self._lose(SERVER if match["side"] == "S" else CLIENT, int(match["length"]))
        elif _TLS.match(line):
            self.flush()
            self.events.append(
                TlsStarted(mode="starttls", at=self._next(), client_offset=self.offset[0], server_offset=self.offset[1])
            )
            self.encrypted = True
        elif match := _END.match(line):
            self._end(CLIENT if match["side"] == "C" else SERVER, match["how"])
        else:
            raise ValueError(f"not a line of a dialogue: {line!r}")

    def _next(self) -> Location:
        self.frame += 1
        self.now += self.step_ns
        self.stream.last = self._here()
        return self.stream.last

    def _here(self) -> Location:
        return Location("dialogue", self.frame, self.now)

    def _say(self, side: Side, how: str, text: str) -> None:
        data = _unescape(text) if how == "!" else text.encode() + b"\r\n"
        opened = self._open
        if how == "+" and opened is not None and opened.side == side:
            opened.data += data
            return
        self.flush()
        at = self._next()
        offsets = self.plain if self.encrypted else self.offset
        self._open = Chunk(
            stream=self.stream,
            side=side,
            offset=offsets[side],
            data=data,
            began=at,
            at=at,
            acked=-1 if self.encrypted else self.offset[1 - side],
            encrypted=self.encrypted,
        )

    def flush(self) -> None:
        """The packet in hand is whole."""
        chunk, self._open = self._open, None
        if chunk is None or not chunk.data:
            return
        offsets = self.plain if chunk.encrypted else self.offset
        offsets[chunk.side] += len(chunk.data)
        stream, side, length = self.stream, chunk.side, len(chunk.data)
        stream.bytes[side] += length
        stream.packets[side] += 1
        stream.max_segment[side] = max(stream.max_segment[side], length)
        if stream.first_data_ns[side] is None:
            stream.first_data_ns[side] = chunk.at.ts_ns
        self.events.append(chunk)

    def _lose(self, side: Side, length: int) -> None:
        self.flush()
        offsets = self.plain if self.encrypted else self.offset
        self.events.append(Gap(self.stream, side, offsets[side], length, self._next(), "lost", self.encrypted))
        offsets[side] += length
        self.stream.missing[side] += length

    def _end(self, side: Side, how: str) -> None:
        self.flush()
        at, stream = self._next(), self.stream
        who = "client" if side == CLIENT else "server"
        kind = "fin" if how == "closes" else "rst"
        (stream.fin_ns if kind == "fin" else stream.rst_ns)[side] = at.ts_ns
        if stream.closed_by is None:
            stream.closed_by = f"{who}-{kind}"
        stream.events.append(TcpEvent(kind, side, at))


def _unescape(text: str) -> bytes:
    out, done = bytearray(), 0
    for match in _ESCAPE.finditer(text):
        out += text[done : match.start()].encode()
        out += bytes([int(match["hex"], 16)]) if match["hex"] else _PLAIN[match["plain"]].encode()
        done = match.end()
    return bytes(out + text[done:].encode())
