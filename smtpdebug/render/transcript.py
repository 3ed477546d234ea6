"""A conversation as lines: who said what, when, in which packet. How they are laid out is the sink's business."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from smtpdebug.model.findings import Finding
from smtpdebug.model.smtp import (
    AUTH_ANSWER,
    Command,
    Conversation,
    Injected,
    Lost,
    MailData,
    ProxyPreface,
    Reply,
    TimelineItem,
    TlsStarted,
    Unread,
)
from smtpdebug.model.streams import Gap, Location, TcpEvent
from smtpdebug.render import facts
from smtpdebug.render.escape import from_wire, mail_line, printable
from smtpdebug.render.redact import Redactor

CLIENT_LINE: Final = "C"
SERVER_LINE: Final = "S"
FACT: Final = "*"
ALARM: Final = "!"
FINDING: Final = "^"
UNREAD_LINES: Final = 5
"""Lines shown of what nobody can tell the meaning of: commands behind a gap are few, mail data are many."""


class Line(msgspec.Struct, gc=False):
    """One line of the transcript, safe to print."""

    mark: str
    """``C``, ``S``, ``*`` (what TCP and TLS did), ``!`` (the same, alarming), ``^`` (a finding)."""
    text: str
    at: Location
    timed: bool = True
    """Shows its time and frame; the further lines of one reply do not."""
    encrypted: bool = False
    finding: Finding | None = None
    item: TimelineItem | None = None
    """What it is a line of."""


class Options(msgspec.Struct, frozen=True):
    """What of the mail data to show."""

    headers: bool = True
    bodies: bool = False
    show_secrets: bool = False


class Transcript:
    """Turns the items of one conversation into lines; keeps what it needs between them.

    Args:
        conversation: finished, or (live) still growing.
    """

    def __init__(self, conversation: Conversation, options: Options) -> None:
        self._conversation, self._options = conversation, options
        self.redactor = Redactor(conversation, show=options.show_secrets)
        self._last_ns = conversation.stream.opened.ts_ns
        self._stalled = False
        self._told_to = [0, 0]
        """Stream offsets up to which holes were told of."""

    def lines(self) -> Iterator[Line]:
        """The whole conversation, findings under the lines they are about."""
        conversation = self._conversation
        said: list[Line] = []
        first = facts.opening(conversation)
        if first is not None:
            said.append(Line(FACT, first, conversation.stream.opened))
        for item in conversation.timeline:
            new = self.item(item)
            if isinstance(item, MailData | Reply):
                _begun_earlier(said, new)
            said += new
        said = _merged(said, list(_alerts(conversation)))
        last = facts.ending(conversation)
        if last is not None:
            said.append(Line(FACT, last, conversation.stream.last))
        yield from self._with_findings(said)

    def _with_findings(self, lines: list[Line]) -> Iterator[Line]:
        """Each finding under the line that it is about, or, where its packet has none, by time."""
        findings, redactor = self._conversation.findings, self.redactor
        if not findings:
            yield from lines
            return
        places: dict[tuple[str, int], list[int]] = {}
        for number, line in enumerate(lines):
            places.setdefault((line.at.capture, line.at.frame), []).append(number)
        under: dict[int, list[Finding]] = {}
        homeless: list[Finding] = []
        for finding in findings:
            numbers = places.get((finding.at.capture, finding.at.frame))
            if numbers:
                numbers = self._of_exchange(lines, numbers, finding.exchange)
                under.setdefault(_about(lines, numbers, finding.message), []).append(finding)
            else:
                homeless.append(finding)
        homeless.sort(key=lambda finding: finding.at.ts_ns, reverse=True)
        for number, line in enumerate(lines):
            while homeless and line.timed and homeless[-1].at.ts_ns < line.at.ts_ns:
                yield _finding(homeless.pop(), redactor, timed=True)
            yield line
            for finding in under.get(number, ()):
                yield _finding(finding, redactor, timed=False)
        for finding in reversed(homeless):
            yield _finding(finding, redactor, timed=True)

    def _of_exchange(self, lines: list[Line], numbers: list[int], index: int | None) -> list[int]:
        """Of the lines of one packet those of one exchange; all of them where there is none such."""
        if index is None or len(numbers) == 1:
            return numbers
        exchange = self._conversation.exchanges[index]
        items = (exchange.command, exchange.data, exchange.reply)
        own = [n for n in numbers if lines[n].item is not None and any(lines[n].item is item for item in items)]
        return own or numbers

    def item(self, item: TimelineItem) -> list[Line]:
        """The lines of one item; none for what is of no interest."""
        if isinstance(item, Command):
            lines = self._command(item)
        elif isinstance(item, Reply):
            lines = self._reply(item)
        elif isinstance(item, MailData):
            lines = self._mail_data(item)
        elif isinstance(item, Unread):
            lines = self._unread(item)
        else:
            lines = [Line(mark, text, item.at, n == 0) for n, (mark, text) in enumerate(self._fact(item))]
        for line in lines:
            line.item = item
        if lines:
            self._last_ns = lines[-1].at.ts_ns
        return lines

    def _command(self, command: Command) -> list[Line]:
        if command.verb[:1] == "(" and command.verb != AUTH_ANSWER:
            return []
        text = from_wire(self.redactor.line(command))
        return [Line(CLIENT_LINE, text, command.at, encrypted=command.encrypted)]

    def _reply(self, reply: Reply) -> list[Line]:
        texts = self.redactor.reply_lines(reply)
        lines = [Line(SERVER_LINE, from_wire(text), reply.at, False, reply.encrypted) for text in texts]
        if lines:
            lines[0].timed = True
            if len(lines) > 1 and reply.began.ts_ns != reply.at.ts_ns:
                # A reply that took its time: when it began, and when its last line came.
                lines[0].at, lines[-1].timed = reply.began, True
        return lines

    def _mail_data(self, data: MailData) -> list[Line]:
        lines: list[Line] = []
        encrypted = data.encrypted
        shown = data.headers.replace(b"\r\n", b"\n").rstrip(b"\n").split(b"\n") if data.headers else []
        if self._options.headers:
            lines += [Line(CLIENT_LINE, mail_line(line), data.began, False, encrypted) for line in shown]
        if self._options.bodies and data.body is not None:
            body = data.body.replace(b"\r\n", b"\n")
            kept = body.removesuffix(b"\n").split(b"\n")
            if data.headers or not data.chunks:
                kept.insert(0, b"")
            lines += [Line(CLIENT_LINE, mail_line(line), data.began, False, encrypted) for line in kept]
        folded = _folded(data, len(shown) if self._options.headers else 0, self._options)
        if folded:
            lines.append(Line(CLIENT_LINE, folded, data.at, False, encrypted))
        if data.ended and not data.chunks:
            lines.append(Line(CLIENT_LINE, ".", data.at, True, encrypted))
        if lines:
            lines[0].timed = True
        return lines

    def _unread(self, item: Unread) -> list[Line]:
        kept = self.redactor.unread(item)
        shown = kept if self._options.bodies else [] if item.mail else kept[:UNREAD_LINES]
        texts = [mail_line(line) for line in shown]
        hidden = item.lines - len(shown)
        if hidden > 0:
            size = item.length - sum(len(line) + 2 for line in shown)
            more = " more" if shown else ""
            texts.append(f"[{hidden:,}{more} line{'s' * (hidden != 1)}, {facts.plural(max(size, 0), 'byte')}]")
        if item.mail:
            texts.append(".")
        return [Line(CLIENT_LINE, text, item.at, n == 0, item.encrypted) for n, text in enumerate(texts)]

    def _fact(self, item: TimelineItem) -> Iterator[tuple[str, str]]:
        if isinstance(item, TcpEvent):
            said = self._tcp(item)
            if said is not None:
                yield FACT, said
        elif isinstance(item, TlsStarted):
            yield from self._tls()
        elif isinstance(item, Injected):
            yield ALARM, facts.injected(item, self.redactor)
        elif isinstance(item, Gap | Lost):
            # The parser's word and the reassembler's for the same hole: once is enough.
            end = item.offset + (item.length or 0)
            if not item.length or item.offset < 0 or end > self._told_to[item.side]:
                if item.length:
                    self._told_to[item.side] = max(end, self._told_to[item.side])
                yield FACT, facts.gap(item) if isinstance(item, Gap) else facts.lost(item)
        elif isinstance(item, ProxyPreface):
            yield FACT, facts.proxy(item)

    def _tcp(self, item: TcpEvent) -> str | None:
        if item.kind == "window-open" and not self._stalled:
            return None
        self._stalled = item.kind == "zero-window" or (self._stalled and item.kind != "window-open")
        return facts.tcp(item, self._conversation, item.at.ts_ns - self._last_ns)

    def _tls(self) -> Iterator[tuple[str, str]]:
        tls = self._conversation.tls
        if tls is None:
            yield FACT, "TLS begins"
            return
        yield FACT, facts.tls_agreed(tls)
        if self._conversation.finished or tls.decrypted:
            for said in facts.tls_opened(tls):
                yield FACT, said


def _alerts(conversation: Conversation) -> Iterator[Line]:
    for alert in conversation.tls.alerts if conversation.tls is not None else ():
        said = facts.alert(alert)
        if said is not None:
            yield Line(FACT, said, alert.at)


def _begun_earlier(said: list[Line], lines: list[Line]) -> None:
    """What took its time is one item, known at its end: its beginning goes before all that came in between."""
    place = len(said)
    while place and lines and _after(said[place - 1], lines[0]):
        place -= 1
    if place == len(said):
        return
    began = lines[0].at
    head = [line for line in lines if line.at is began]
    del lines[: len(head)]
    said[place:place] = head
    if lines:
        lines[0].timed = True


def _after(line: Line, first: Line) -> bool:
    """Whether a line comes behind the first of another item: later, or cut off at the end of the same packet."""
    if line.at.ts_ns != first.at.ts_ns:
        return line.at.ts_ns > first.at.ts_ns
    item = line.item
    cut = (isinstance(item, Gap) and item.reason == "snaplen") or (isinstance(item, Lost) and item.why == "snaplen")
    return cut and line.at.frame == first.at.frame


def _folded(data: MailData, headers_shown: int, options: Options) -> str:
    """One line for what is not shown of the mail data; empty where all is."""
    missing = f", {facts.plural(data.missing, 'byte')} of it not in the capture" if data.missing else ""
    if options.bodies and data.body is not None and len(data.body) >= data.bytes - len(data.headers) - 4:
        return f"[the end is missing{missing}]" if missing else ""
    lines = max(data.lines - headers_shown, 0)
    size = data.bytes - (len(data.headers) if headers_shown else 0)
    if lines <= 1 and size <= 2 and not missing:
        return ""
    unfinished = "" if data.ended or data.chunks else ", unfinished"
    counted = f"{facts.plural(lines, 'line')}, " if lines else ""
    return f"[{counted}{facts.plural(max(size, 0), 'byte')}{missing}{unfinished}]"


def _merged(lines: list[Line], extra: list[Line]) -> list[Line]:
    """``extra`` put in by time; ``lines`` keep their order among themselves."""
    if not extra:
        return lines
    merged: list[Line] = []
    rest = sorted(extra, key=lambda line: line.at.ts_ns)
    for line in lines:
        while rest and line.timed and rest[0].at.ts_ns < line.at.ts_ns:
            merged.append(rest.pop(0))
        merged.append(line)
    return merged + rest


def _about(lines: list[Line], numbers: list[int], message: str) -> int:
    """Which of these lines of one packet: the one that the message quotes, else the first it names, else the last."""
    words = set(message.replace(",", " ").replace(":", " ").split())
    named = [number for number in numbers if lines[number].text.replace("-", " ").split(" ", 1)[0] in words]
    if not named:
        return numbers[-1]
    quoted = (number for number in named if " " in lines[number].text and lines[number].text in message)
    return _last_of_block(lines, numbers, next(quoted, named[0]))


def _last_of_block(lines: list[Line], numbers: list[int], number: int) -> int:
    """A finding about a reply of many lines goes under its last; so does one about TLS under what is said of it."""
    mark = lines[number].mark
    while number + 1 in numbers and lines[number + 1].mark == mark != CLIENT_LINE and not lines[number + 1].timed:
        number += 1
    return number


def _finding(finding: Finding, redactor: Redactor, *, timed: bool) -> Line:
    unsure = " (indeterminate)" if finding.indeterminate else ""
    text = f"{finding.rule} {printable(redactor.text(finding.message))}{unsure}"
    return Line(FINDING, text, finding.at, timed, finding=finding)
