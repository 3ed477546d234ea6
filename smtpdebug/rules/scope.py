"""Which conversations are ours to judge: a capture without a filter holds much that is no mail."""

from __future__ import annotations

from typing import Final

from smtpdebug.model.smtp import Command, Conversation
from smtpdebug.model.streams import CLIENT, MAIL_PORTS, SERVER, TLS_PORTS, Stream

LOCAL_PORTS: Final = frozenset({1025, 8025, 10024, 10025, 10026, 10027})
"""Where test servers and content filters (amavis) listen for SMTP."""


def concerns_mail(conversation: Conversation) -> bool:
    """Whether it is SMTP or LMTP, or what happened at a port of mail before anything could be told.

    TLS that was never opened, refused connections and the like count at mail ports only: elsewhere they are the
    business of other programs.
    """
    if conversation.protocol in ("smtp", "lmtp"):
        return True
    port = conversation.stream.server.port
    return port in MAIL_PORTS or (port in LOCAL_PORTS and not any(conversation.stream.bytes))


HTTP_METHODS: Final = frozenset({"GET", "POST", "HEAD", "PUT", "CONNECT", "OPTIONS", "DELETE"})
_FIRST: Final = 4


def http_request(conversation: Conversation) -> Command | None:
    """The request line of an HTTP client that speaks to a mail server: the rules of SMTP are not meant for it."""
    for exchange in conversation.exchanges[:_FIRST]:
        command = exchange.command
        if command is not None and command.verb in HTTP_METHODS and "HTTP/" in command.argument.upper():
            return command
    return None


def never_began_tls(conversation: Conversation) -> bool:
    """A client that was silent on a TLS port until it left, and a server that answered that with an alert."""
    tls, stream = conversation.tls, conversation.stream
    if tls is None or stream.server.port not in TLS_PORTS or not stream.complete or any(stream.missing):
        return False
    return not stream.bytes[CLIENT] and tls.server_hello is None and bool(tls.alerts)


def one_direction(stream: Stream) -> bool:
    """Whether the capture holds packets of one side alone: what the other side said, and left unsaid, is not known."""
    client = bool(stream.packets[CLIENT]) or stream.syn_ns is not None
    server = bool(stream.packets[SERVER]) or stream.syn_ack_ns is not None
    return client != server
