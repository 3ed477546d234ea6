"""``-f text``: the transcript on a terminal or in a pager, client blue and server red."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Collection, Mapping
from typing import Final, Literal, TextIO, TypeAlias

from smtpdebug.model.smtp import GREETING, Conversation, TimelineItem
from smtpdebug.model.streams import MAIL_PORTS, Endpoint, Location
from smtpdebug.render import facts
from smtpdebug.render.clock import delta, rfc3339
from smtpdebug.render.escape import printable, width
from smtpdebug.render.interleave import Interleaver
from smtpdebug.render.redact import Redactor
from smtpdebug.render.transcript import ALARM, FACT, FINDING, Line, Options, Transcript

Clock: TypeAlias = Literal["delta", "relative", "absolute"]

_STYLES: Final = {"C": "94", "S": "91", "*": "2", "!": "1;7;91", "title": "1", "quiet": "2"}
_SEVERITY_STYLES: Final = {"error": "1;91", "warning": "93", "note": "96"}
_NAME: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+\.?|\[[0-9A-Fa-f.:]+\]")


class Text:
    """Sink: transcripts.

    Args:
        out: where to; a text stream.
        color: write colours (SGR sequences, which ``less -R`` understands).
        clock: ``delta`` since the line before, ``relative`` to the conversation's first packet, ``absolute`` UTC.
        columns: width to lay out for; longer lines are not cut or wrapped.
        interleave: all conversations' lines by time, each with its client's address in front.
        references: what a rule leans on, by its id, shown at the right of its findings.
        ports: where TLS that stays closed is likely mail, and worth more than one line.
    """

    def __init__(
        self,
        out: TextIO,
        options: Options = Options(),  # noqa: B008  # frozen
        *,
        color: bool = False,
        clock: Clock = "delta",
        columns: int = 80,
        interleave: bool = False,
        references: Mapping[str, str] | None = None,
        ports: Collection[int] = MAIL_PORTS,
    ) -> None:
        self._out, self._options, self._color, self._clock = out, options, color, clock
        self._columns = max(columns, 40)
        self._references = references or {}
        self._ports = ports
        self._interleaver: Interleaver[str] | None = Interleaver(self._write) if interleave else None
        self._live: dict[str, tuple[Transcript, int]] = {}
        self._last = ""
        """What the conversation before took: ``one`` line or the ``whole`` form."""

    # -- the sink's part

    def conversation(self, conversation: Conversation) -> None:
        """Write a finished conversation; in live mode, only how it ended."""
        if conversation.id in self._live:
            self._finish_live(conversation)
        elif self._interleaver is not None:
            self._interleaver.conversation(conversation.stream.opened.ts_ns, self._tagged(conversation))
        else:
            self._whole(conversation)

    def item(self, conversation: Conversation, item: TimelineItem) -> None:
        """Live mode: write what was just said in a conversation that goes on."""
        known = self._live.get(conversation.id)
        if known is None:
            transcript = Transcript(conversation, self._options)
            last_ns = conversation.stream.opened.ts_ns
            self._write(self._paint("title", f"{_tag(conversation)} > {_address(conversation.stream.server)}"))
        else:
            transcript, last_ns = known
        transcript.redactor.follow(item)
        start = conversation.stream.opened.ts_ns
        for line in transcript.item(item):
            self._write(self._tag_line(conversation, self._laid_out(line, start, last_ns, frames="")))
            last_ns = line.at.ts_ns if line.timed else last_ns
        self._live[conversation.id] = transcript, last_ns
        self._out.flush()

    def flush(self) -> None:
        """Hand over what is written so far."""
        self._out.flush()

    def close(self) -> None:
        """Write what interleaving still holds."""
        if self._interleaver is not None:
            self._interleaver.close()
        self._out.flush()

    # -- layout

    def _whole(self, conversation: Conversation) -> None:
        one = _one_line(conversation, self._ports)
        if self._last and not (one and self._last == "one"):
            self._write("")
        self._last = "one" if one else "whole"
        if one:
            self._write(f"{self._paint('title', _route(conversation))}   {one}")
            return
        self._write(self._header(conversation))
        self._write(self._paint("quiet", "   " + _whereabouts(conversation)))
        for text, _ in self._body(conversation):
            self._write(text)

    def _body(self, conversation: Conversation) -> list[tuple[str, int]]:
        """The laid out lines, each with its time in ns."""
        transcript = Transcript(conversation, self._options)
        start = last_ns = conversation.stream.opened.ts_ns
        capture = conversation.stream.opened.capture
        written: list[tuple[str, int]] = []
        for line in transcript.lines():
            frames = "" if line.at.capture == capture else f"{_short(line.at.capture)} "
            written.append((self._laid_out(line, start, last_ns, frames), max(line.at.ts_ns, last_ns)))
            if line.timed and line.mark != FINDING:
                last_ns, capture = line.at.ts_ns, line.at.capture
        written += [(text, last_ns) for text in self._diagnoses(conversation, transcript.redactor)]
        return written

    def _laid_out(self, line: Line, start: int, last_ns: int, frames: str) -> str:
        if line.mark == FINDING:
            return self._finding(line, frames)
        when = self._when(line.at, start, last_ns) if line.timed else ""
        left = f"{when:>{self._clock_width}}  {line.mark}{'~' if line.encrypted else ' '} "
        frame = f"{frames}#{line.at.frame}" if line.timed else ""
        # What was said is one line, however long; what is said about it may be broken.
        wrap = line.mark in (FACT, ALARM)
        return self._row(left, line.text, frame, line.mark, wrap=wrap)

    def _finding(self, line: Line, frames: str) -> str:
        finding = line.finding
        assert finding is not None
        right = self._references.get(finding.rule, "")
        if line.timed:
            right = f"{right} {frames}#{line.at.frame}".strip()
        style = _SEVERITY_STYLES[finding.severity.value]
        return self._row(f"{'':{self._clock_width}}  ^  ", line.text, right, style, wrap=True)

    def _row(self, left: str, text: str, right: str, style: str, *, wrap: bool) -> str:
        """``left`` and ``text`` at the left, ``right`` at the right edge of the first line."""
        room = self._columns - len(left) - (len(right) + 2 if right else 0)
        parts = textwrap.wrap(text, max(room, 30), break_long_words=False, break_on_hyphens=False) if wrap else [text]
        first, rest = (parts[0], parts[1:]) if parts else ("", [])
        row = left + self._paint(style, first)
        if right:
            row += " " * max(room - width(first), 0) + "  " + self._paint("quiet", right)
        return "\n".join([row, *(" " * len(left) + self._paint(style, part) for part in rest)])

    def _diagnoses(self, conversation: Conversation, redactor: Redactor) -> list[str]:
        lines = []
        for diagnosis in conversation.diagnoses:
            what = printable(f"{diagnosis.id} {diagnosis.name}: {redactor.text(diagnosis.says)}")
            lines.append(self._row("   => ", what, "", "title", wrap=True))
            if diagnosis.advice:
                lines.append(self._row("      ", printable(redactor.text(diagnosis.advice)), "", "", wrap=True))
        return lines

    def _header(self, conversation: Conversation) -> str:
        parts = [_route(conversation)]
        name = server_name(conversation)
        if name:
            parts.append(printable(name))
        parts.append(conversation.outcome)
        if conversation.joined_late:
            parts.append("joined late")
        if conversation.truncated:
            parts.append("cut by a limit")
        counts = []
        if conversation.exchanges:
            counts.append(facts.plural(len(conversation.exchanges), "exchange"))
        if conversation.findings:
            counts.append(facts.plural(len(conversation.findings), "finding"))
        if counts:
            parts.append(", ".join(counts))
        return self._paint("title", "   ".join(parts))

    # -- by time, and live

    def _tagged(self, conversation: Conversation) -> list[tuple[int, str]]:
        start = conversation.stream.opened.ts_ns
        head = "   ".join(part for part in (server_name(conversation), conversation.outcome) if part)
        first = self._paint(
            "title", f"{_tag(conversation)} > {_address(conversation.stream.server)}   {printable(head)}"
        )
        one = _one_line(conversation, self._ports)
        if one:
            return [(start, f"{_tag(conversation)} > {_address(conversation.stream.server)}   {one}")]
        body = [(ts_ns, self._tag_line(conversation, text)) for text, ts_ns in self._body(conversation)]
        return [(start, first), *body]

    def _tag_line(self, conversation: Conversation, text: str) -> str:
        tag = self._paint("quiet", _tag(conversation))
        return "\n".join(f"{tag} {line}" for line in text.split("\n"))

    def _finish_live(self, conversation: Conversation) -> None:
        transcript, _ = self._live.pop(conversation.id)
        for finding in conversation.findings:
            said = printable(transcript.redactor.text(finding.message))
            line = Line(FINDING, f"{finding.rule} {said}", finding.at, finding=finding)
            self._write(self._tag_line(conversation, self._finding(line, "")))
        for text in self._diagnoses(conversation, transcript.redactor):
            self._write(self._tag_line(conversation, text))
        if conversation.tls is not None:
            for said in facts.tls_opened(conversation.tls):
                self._write(self._tag_line(conversation, self._paint("*", said)))
        self._write(self._paint("title", f"{_tag(conversation)} {conversation.outcome}"))
        self._out.flush()

    # -- small things

    @property
    def _clock_width(self) -> int:
        return {"delta": 11, "relative": 16, "absolute": 30}[self._clock]

    def _when(self, at: Location, start: int, last_ns: int) -> str:
        if self._clock == "absolute":
            return rfc3339(at.ts_ns)
        if self._clock == "relative":
            return f"{(at.ts_ns - start) // 1_000_000_000}.{(at.ts_ns - start) % 1_000_000_000:09d}"
        return delta(at.ts_ns - last_ns)

    def _paint(self, style: str, text: str) -> str:
        if not self._color or not text or not style:
            return text
        return f"\x1b[{_STYLES.get(style, style)}m{text}\x1b[0m"

    def _write(self, line: str) -> None:
        self._out.write(line + "\n")


def server_name(conversation: Conversation) -> str:
    """What the server calls itself in its greeting or answer to EHLO; else the name asked for in TLS; else ``""``."""
    for exchange in conversation.exchanges[:3]:
        command, reply = exchange.command, exchange.reply
        if command is None or reply is None or command.verb not in (GREETING, "EHLO", "HELO", "LHLO"):
            continue
        words = reply.texts[0].split(None, 1) if reply.code // 100 == 2 and reply.lines else []
        if words and _NAME.fullmatch(words[0]):
            return words[0]
    return (conversation.tls.server_name if conversation.tls else None) or ""


def _one_line(conversation: Conversation, ports: Collection[int]) -> str:
    """For a stream that is not SMTP, or TLS that is likely none: what it is and how much; ``""`` for every other."""
    tls = conversation.tls
    if (
        conversation.outcome == "opaque"
        and tls is not None
        and tls.mode == "implicit"
        and conversation.stream.server.port not in ports
        and not (conversation.findings or conversation.diagnoses)
    ):
        return f"{facts.tls_agreed(tls)}; {facts.tls_opened(tls)[0]}"
    if conversation.outcome != "not-smtp":
        return ""
    what = printable(Redactor(None).text(conversation.summary)) or "no data"
    client, server = conversation.stream.bytes
    return f"not SMTP: {what}; {facts.plural(client, 'byte')} from the client, {server:,} from the server"


def _route(conversation: Conversation) -> str:
    return f"{_address(conversation.stream.client)} > {_address(conversation.stream.server)}"


def _address(endpoint: Endpoint) -> str:
    return f"[{endpoint.ip}]:{endpoint.port}" if ":" in endpoint.ip else f"{endpoint.ip}:{endpoint.port}"


def _tag(conversation: Conversation) -> str:
    return f"{_address(conversation.stream.client):<21}"


def _whereabouts(conversation: Conversation) -> str:
    """When it began, its id for ``--id``, and the files it is in."""
    captures = conversation.stream.captures or [conversation.stream.opened.capture]
    names = _short(captures[0])
    if len(captures) > 1:
        names += f" to {_short(captures[-1])}"
    return f"{rfc3339(conversation.stream.opened.ts_ns)}   {conversation.id}   {names}"


def _short(capture: str) -> str:
    return printable(capture.rsplit("/", 1)[-1])
