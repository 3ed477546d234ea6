"""``-f tcpflow``: the lines of ``tcpflow -c``, for the greps that people have, each with its own time in front.

``tcpflow -c`` writes ``SRC.PORT-DST.PORT: `` before each packet's text. Here it stands before each line, and before it
the time of the line, which tcpflow does not have. Lines are in order of time, all conversations together.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO

from smtpdebug.model.smtp import AUTH_ANSWER, Command, Conversation, Injected, MailData, Reply, Unread
from smtpdebug.model.streams import CLIENT, Endpoint, Location
from smtpdebug.render.clock import rfc3339
from smtpdebug.render.escape import from_wire, mail_line
from smtpdebug.render.interleave import Interleaver
from smtpdebug.render.redact import Redactor


class TcpFlow:
    """Sink: everything said, a line each, as ``tcpflow -c`` lays it out.

    Args:
        out: where to; a text stream.
        show_secrets: write AUTH arguments and answers as sent.
        bodies: write what was kept of the mail bodies; headers are always written.
    """

    def __init__(self, out: TextIO, *, show_secrets: bool = False, bodies: bool = False) -> None:
        self._out, self._show_secrets, self._bodies = out, show_secrets, bodies
        self._interleaver: Interleaver[str] = Interleaver(self._write)

    def conversation(self, conversation: Conversation) -> None:
        """Take a finished conversation; its lines are written once no earlier ones can come."""
        self._interleaver.conversation(conversation.stream.opened.ts_ns, self._lines(conversation))

    def close(self) -> None:
        """Write what is held."""
        self._interleaver.close()
        self._out.flush()

    def _lines(self, conversation: Conversation) -> Iterator[tuple[int, str]]:
        redactor = Redactor(conversation, show=self._show_secrets)
        client, server = _endpoint(conversation.stream.client), _endpoint(conversation.stream.server)
        prefixes = (f"{client}-{server}: ", f"{server}-{client}: ")
        for item in conversation.timeline:
            side, lines = CLIENT, list[tuple[Location, str]]()
            if isinstance(item, Command):
                if item.verb[:1] != "(" or item.verb == AUTH_ANSWER:
                    lines = [(item.at, from_wire(redactor.line(item)))]
            elif isinstance(item, Reply):
                side = 1
                lines = [(item.at, from_wire(line)) for line in redactor.reply_lines(item)]
            elif isinstance(item, MailData):
                lines = list(self._mail_data(item))
            elif isinstance(item, Unread):
                lines = [(item.at, mail_line(line)) for line in redactor.unread(item)]
            elif isinstance(item, Injected):
                side = item.side
                lines = [(item.at, from_wire(line)) for line in redactor.octets(item.data).splitlines()]
            for at, text in lines:
                yield at.ts_ns, f"{rfc3339(at.ts_ns)} {prefixes[side]}{text}"

    def _mail_data(self, data: MailData) -> Iterator[tuple[Location, str]]:
        for line in data.headers.replace(b"\r\n", b"\n").rstrip(b"\n").split(b"\n") if data.headers else ():
            yield data.began, mail_line(line)
        if self._bodies and data.body is not None:
            yield data.at, ""
            for line in data.body.replace(b"\r\n", b"\n").removesuffix(b"\n").split(b"\n"):
                yield data.at, mail_line(line)
        if data.ended and not data.chunks:
            yield data.at, "."

    def _write(self, line: str) -> None:
        self._out.write(line + "\n")


def _endpoint(endpoint: Endpoint) -> str:
    """``198.051.100.025.00025``; IPv6 addresses as they are, like tcpflow 1.6."""
    ip = endpoint.ip
    if ":" not in ip:
        ip = ".".join(f"{int(part):03d}" for part in ip.split("."))
    return f"{ip}.{endpoint.port:05d}"
