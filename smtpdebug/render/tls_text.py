"""``tls -f text``: each TLS handshake in a few lines, and the conversations that could have had one."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Final, TextIO

from smtpdebug.model.smtp import Conversation, Exchange
from smtpdebug.model.streams import TLS_PORTS, Endpoint, Location
from smtpdebug.model.tls import TlsFacts
from smtpdebug.render import facts as words
from smtpdebug.render import tls_words
from smtpdebug.render.clock import delta, rfc3339
from smtpdebug.render.escape import printable
from smtpdebug.render.tls_alerts import alert_text
from smtpdebug.tls.alerts import Closings

_INDENT: Final = " " * 15
_STYLES: Final = {"title": "1", "quiet": "2", "bad": "1;91", "good": "92"}


class TlsText:
    """Sink: what of TLS there was in each conversation.

    Args:
        out: where to; a text stream.
        color: write colours.
        columns: width to lay out for.
    """

    def __init__(self, out: TextIO, *, color: bool = False, columns: int = 80) -> None:
        self._out, self._color, self._columns = out, color, max(columns, 50)
        self._handshakes = self._opened = self._remarked = self._without = 0
        self._last = ""

    def conversation(self, conversation: Conversation) -> None:
        """Write one conversation; one that has nothing to do with TLS is only counted."""
        if conversation.tls is not None:
            self._handshakes += 1
            self._opened += conversation.tls.decrypted
            self._separate("block")
            self._block(conversation, conversation.tls)
            return
        said = remark(conversation)
        if said is None:
            self._without += 1
            return
        self._remarked += 1
        self._separate("line")
        self._write(self._paint("title", _route(conversation)) + f"   {printable(said)}")

    def flush(self) -> None:
        """Hand over what is written so far."""
        self._out.flush()

    def close(self) -> None:
        """Write how many conversations there were of each kind."""
        self._separate("summary")
        total = self._handshakes + self._remarked + self._without
        parts = [f"{self._handshakes:,} with TLS, {self._opened:,} of them decrypted"] if self._handshakes else []
        if self._remarked:
            parts.append(f"{self._remarked:,} that could have had TLS")
        if self._without:
            parts.append(f"{self._without:,} without TLS")
        self._write(words.plural(total, "conversation") + (": " + "; ".join(parts) if parts else ""))
        self._out.flush()

    # -- one handshake

    def _block(self, conversation: Conversation, facts: TlsFacts) -> None:
        at = facts.client_hello or facts.started
        mode = "TLS from the first byte" if facts.mode == "implicit" else "STARTTLS"
        self._write(self._paint("title", f"{_route(conversation)}   {mode}"))
        place = f"{rfc3339(at.ts_ns)}   {conversation.id}   {_place(at)}"
        self._write(self._paint("quiet", f"   {place}"))
        for label, text, style in _rows(facts, Closings.of(conversation.stream)):
            self._row(label, printable(text), style)

    def _row(self, label: str, text: str, style: str) -> None:
        room = self._columns - len(_INDENT)
        # What goes with a time stays to the right of it.
        hang = " " * 12 if text[:1] in "+-" or text.startswith("  ") else ""
        lines = textwrap.wrap(
            text, room, subsequent_indent=hang, break_long_words=False, break_on_hyphens=False, drop_whitespace=True
        ) or [""]
        first = f"   {label:<12}"
        for number, line in enumerate(lines):
            self._write((_INDENT if number else self._paint("quiet", first)) + self._paint(style, line))

    # -- small things

    def _separate(self, kind: str) -> None:
        """A blank line between blocks, and between what is not of one kind."""
        if self._last and (kind != self._last or kind == "block"):
            self._write("")
        self._last = kind

    def _paint(self, style: str, text: str) -> str:
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if self._color and style and text else text

    def _write(self, line: str) -> None:
        self._out.write(line.rstrip() + "\n")


def _rows(facts: TlsFacts, closings: Closings) -> Iterator[tuple[str, str, str]]:
    """(label, text, style) of each row of a handshake."""
    offer = tls_words.offered(facts)
    if offer:
        yield "offered", offer, ""
    yield "agreed", tls_words.agreed(facts), ""
    label = "certificate"
    for text in tls_words.certificates(facts):
        odd = any(mark in text for mark in ("MISMATCH", "EXPIRED ", "NOT YET VALID", "chain out of order"))
        yield label, text, "bad" if odd else ""
        label = ""
    yield from _times(facts)
    for alert in facts.alerts:
        said = alert_text(alert, facts, closings)
        if said is not None:
            yield "alert", f"{said}  #{alert.at.frame}", "bad"
    yield from _opened(facts)
    for label, value in (("JA3", facts.ja3), ("JA4", facts.ja4)):
        if value:
            yield label, value, "quiet"


def _times(facts: TlsFacts) -> Iterator[tuple[str, str, str]]:
    label = "flights"
    for waited_ns, text in tls_words.flights(facts):
        yield label, f"{delta(waited_ns):>10}  {text}", ""
        label = ""
    if facts.handshake_ns is not None:
        client, server = (f"{wait / 1e6:.1f} ms" for wait in tls_words.waits(facts))
        total = f"{facts.handshake_ns / 1e6:.1f} ms"
        yield "took", f"{total}: the client waited {server} for the server, the server {client} for the client", ""


def _opened(facts: TlsFacts) -> Iterator[tuple[str, str, str]]:
    if facts.reason == "handshake-failed" and facts.advice:
        yield "advice", facts.advice, ""  # what failed is said by the alert
        return
    first, *rest = words.tls_opened(facts)
    label, style = ("decrypted", "good") if facts.decrypted else ("closed", "")
    yield label, first.removeprefix("decrypted ").removeprefix("stays closed: "), style
    if facts.decrypted and facts.reason_text:
        yield "", facts.reason_text, ""
        if facts.advice:
            yield "advice", facts.advice, ""
    label = "advice" if facts.reason in words.NO_KEY_HELPS else "to open it"
    for text in rest:
        yield label, text.partition(": ")[2], ""


# -- conversations without a handshake


def remark(conversation: Conversation) -> str | None:
    """What there is to say of TLS where no handshake came: plain text where TLS belongs, STARTTLS left unused."""
    if conversation.protocol not in ("smtp", "lmtp") or not conversation.exchanges:
        return None
    port = conversation.stream.server.port
    if port in TLS_PORTS:
        return f"plain text on port {port}, where TLS starts with the first byte: {_who_spoke(conversation)}"
    asked = [one for one in conversation.exchanges if one.command is not None and one.command.verb == "STARTTLS"]
    if asked:
        return _starttls(asked[-1])
    offer = next((one for one in conversation.exchanges if _offers(one)), None)
    if offer is not None and offer.reply is not None:
        return f"STARTTLS offered (#{offer.reply.at.frame}) and not used; everything was said in clear"
    return None


def _who_spoke(conversation: Conversation) -> str:
    client = any(one.command is not None and one.command.verb[:1] != "(" for one in conversation.exchanges)
    server = any(one.reply is not None for one in conversation.exchanges)
    if client and server:
        return "both speak it"
    return "only the client speaks it" if client else "only the server speaks it"


def _starttls(exchange: Exchange) -> str:
    reply, command = exchange.reply, exchange.command
    if reply is None:
        return f"STARTTLS asked for (#{command.at.frame if command else 0}) and not answered"
    if reply.code == 220:
        return f"STARTTLS agreed (#{reply.at.frame}), and no TLS handshake came"
    return f"STARTTLS refused: {reply.code} {' '.join(reply.texts[-1:])}  #{reply.at.frame}"


def _offers(exchange: Exchange) -> bool:
    command, reply = exchange.command, exchange.reply
    if command is None or reply is None or command.verb not in ("EHLO", "LHLO") or reply.code != 250:
        return False
    return any(text.split(None, 1)[:1] == ["STARTTLS"] for text in map(str.upper, reply.texts[1:]))


def _route(conversation: Conversation) -> str:
    return f"{_address(conversation.stream.client)} > {_address(conversation.stream.server)}"


def _address(endpoint: Endpoint) -> str:
    return f"[{endpoint.ip}]:{endpoint.port}" if ":" in endpoint.ip else f"{endpoint.ip}:{endpoint.port}"


def _place(at: Location) -> str:
    return f"{printable(at.capture.rsplit('/', 1)[-1])} #{at.frame}"
