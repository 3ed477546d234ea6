"""How a conversation ends: QUIT, 221 and who closes (RFC 5321 sections 3.8 and 4.1.1.10)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from smtpdebug.model.findings import Severity
from smtpdebug.model.smtp import GREETING, Conversation, Exchange
from smtpdebug.model.streams import Location
from smtpdebug.rules import providers
from smtpdebug.rules.registry import UNFINISHED, WITH_ARGUMENT, Said, rule
from smtpdebug.rules.scope import http_request, one_direction
from smtpdebug.rules.state import State
from smtpdebug.rules.table import KNOWN_VERBS, shown_verb

_CLIENT: Final = 0
_SERVER: Final = 1
_PATIENCE_NS: Final = 30_000_000_000
"""How long a server may take to close after 221 before that is worth a word: well above a slow FIN, well below the
five minutes after which RFC 5321 4.5.3.2.7 lets servers close anyway."""
SERVER_TIMEOUT_NS: Final = 280_000_000_000
"""Silence after which a server may close on its own (RFC 5321 4.5.3.2.7: five minutes), less some slack."""


def _evident(conversation: Conversation, state: State) -> bool:
    """Everything to the end was seen, in clear, and the connection closed on the wire."""
    if state.lossy or conversation.truncated or state.tls_agreed is not None or not conversation.exchanges:
        return False
    tls = conversation.tls
    if tls is not None and (not tls.decrypted or tls.missing[0] or tls.missing[1]):
        return False
    stream = conversation.stream
    return stream.closed_by is not None and not any(stream.missing) and conversation.protocol in ("smtp", "lmtp")


def _closer(conversation: Conversation) -> str | None:
    """Who ended it first: by close_notify where TLS shows it (the FIN that answers it proves nothing), else by TCP."""
    if conversation.tls is not None:
        for alert in conversation.tls.alerts:
            if alert.description == "close_notify":
                return "client-fin" if alert.sender == _CLIENT else "server-fin"
    return conversation.stream.closed_by


def _last(conversation: Conversation) -> Exchange:
    return conversation.exchanges[-1]


def _place(exchange: Exchange, conversation: Conversation) -> Location:
    if exchange.reply is not None:
        return exchange.reply.at
    return exchange.command.at if exchange.command is not None else conversation.stream.last


def idle_ns(conversation: Conversation) -> int:
    """How long nothing was said before the server closed, or before the capture ends."""
    stream = conversation.stream
    closed = [t for t in (stream.fin_ns[_SERVER], stream.rst_ns[_SERVER]) if t is not None]
    return (min(closed) if closed else stream.last.ts_ns) - _place(_last(conversation), conversation).ts_ns


def _server_left(conversation: Conversation, state: State) -> bool:
    """The server closed first, without 421 or QUIT, before its own time-out, after a normal greeting."""
    if one_direction(conversation.stream):
        return False  # QUIT may have been said
    if _closer(conversation) not in ("server-fin", "server-rst") or not _evident(conversation, state):
        return False
    if state.quit_sent or state.closing is not None or state.greeting is None or state.greeting.code != 220:
        return False
    return idle_ns(conversation) < SERVER_TIMEOUT_NS


def _unknown_to_server(exchange: Exchange) -> bool:
    reply, command = exchange.reply, exchange.command
    if command is None or command.verb.startswith("("):
        return False
    return reply.code in (500, 502) if reply is not None else command.verb not in KNOWN_VERBS


@rule(id="SR144", on=Conversation, severity=Severity.ERROR, since="0.1", refs=("RFC 5321 §4.1.1.5",), when=UNFINISHED)
def closed_because_of_rset(conversation: Conversation, state: State) -> Iterator[Said]:
    """A server that closes when it receives RSET.

    ## Why it matters
    "An SMTP server MUST NOT close the connection as the result of receiving a RSET": clients use RSET to go on with
    the next message on the same connection.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: RSET                                       <- SR144
    S closes
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: RSET
    S: 250 OK
    ```

    ## Innocent look-alikes
    421 before the close. A reset by the network, which comes from neither side.
    """
    if not _server_left(conversation, state):
        return
    last = _last(conversation)
    if last.command is not None and last.command.verb == "RSET" and last.reply is None:
        yield last.command.at, "the server closed the connection at RSET"


@rule(id="SR146", on=Conversation, severity=Severity.WARNING, since="0.1", refs=("RFC 5321 §4.1.1.10", "RFC 5321 §3.8"))
def server_keeps_connection_after_221(conversation: Conversation, state: State) -> Iterator[Said]:
    """A server that answers QUIT with 221 and leaves the connection open.

    ## Why it matters
    The server closes first after 221; clients wait for it, and both sides hold a connection for nothing.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: QUIT
    S: 221 bye                                    <- SR146
    -- 60s --
    C closes
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: QUIT
    S: 221 bye
    S closes
    C closes
    ```

    ## Innocent look-alikes
    A client that closes first, at once. A capture that stops soon after 221.
    """
    reply, stream = state.quit_reply, conversation.stream
    if reply is None or reply.code != 221 or state.lossy:
        return
    ends = [t for t in (*stream.fin_ns, *stream.rst_ns) if t is not None]
    first_end = min(ends) if ends else stream.last.ts_ns
    if first_end - reply.at.ts_ns > _PATIENCE_NS:
        yield reply.at, f"the connection stayed open for {(first_end - reply.at.ts_ns) / 1e9:.0f} s after 221"


@rule(
    id="SR147",
    on=Conversation,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 5321 §3.8", "RFC 5321 §4.1.1.10"),
    when=UNFINISHED,
)
def server_closed_without_421(conversation: Conversation, state: State) -> Iterator[Said]:
    """A server that closes an intact conversation without QUIT, 421 or time-out.

    ## Why it matters
    "An SMTP server MUST NOT intentionally close the connection" but in those three cases. The client must treat what
    was under way as a temporary failure and send it again.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 OK                                     <- SR147
    S closes
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 OK
    S: 421 shutting down
    S closes
    ```

    ## Innocent look-alikes
    A reset (not judged: a crash, a firewall and a full socket all look alike). A close after a refusal is SR148. A
    close after five idle minutes is a time-out. Inside TLS that was not opened, the last words are unknown; so they
    are where only the server's packets were captured. An HTTP client: closing is self-defence there.
    """
    if not _server_left(conversation, state) or _closer(conversation) != "server-fin":
        return
    if http_request(conversation) is not None:
        return
    last = _last(conversation)
    if last.command is not None and last.command.verb == "RSET" and last.reply is None:
        return
    if _unknown_to_server(last) or (last.reply is not None and not 200 <= last.reply.code < 400):
        return
    if last.reply is None and conversation.stream.fin_ns[0] is not None:
        return  # the client had half-closed too: which came first is a matter of milliseconds
    yield _place(last, conversation), "the server closed the connection without 421, and the client had not said QUIT"


@rule(id="SR148", on=Conversation, severity=Severity.WARNING, since="0.1", refs=("RFC 5321 §3.8",), when=UNFINISHED)
def server_closed_after_refusal(conversation: Conversation, state: State) -> Iterator[Said]:
    """A server that refuses with a code other than 421 and closes at once.

    ## Why it matters
    "MUST NOT close … until it receives and replies to a QUIT command (even if there was an error)". The client may
    see a reset instead of the reason. A warning, since servers that defend themselves do it knowingly.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 550 go away                                <- SR148
    S closes
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 550 go away
    C: QUIT
    S: 221 bye
    S closes
    ```

    ## Innocent look-alikes
    421 announces the close. A refusal at the greeting has rules of its own. 500 and 502: SR149. What a known provider
    does on purpose (`docs/providers/`).
    """
    if not _server_left(conversation, state) or _closer(conversation) != "server-fin":
        return
    last = _last(conversation)
    if last.reply is None or last.reply.code < 400 or _unknown_to_server(last):
        return
    entry = providers.meant(conversation, last)
    if entry is None or not entry.off_table:
        yield last.reply.at, f"the server closed after {last.reply.code}, without 421 or the client's QUIT"


@rule(id="SR149", on=Conversation, severity=Severity.ERROR, since="0.1", refs=("RFC 5321 §3.8",), when=UNFINISHED)
def closed_because_command_unknown(conversation: Conversation, state: State) -> Iterator[Said]:
    """A server that closes since it does not know a command.

    ## Why it matters
    "A server that closes connections in response to commands that are not understood is in violation of this
    specification": a client that tries an extension loses the conversation.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: XFROB
    S: 500 what?                                  <- SR149
    S closes
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: XFROB
    S: 500 what?
    C: QUIT
    S: 221 bye
    S closes
    ```

    ## Innocent look-alikes
    HTTP verbs (GET, POST, CONNECT): closing is self-defence there. Several errors in a row: servers have a limit.
    """
    if not _server_left(conversation, state):
        return
    last = _last(conversation)
    if last.command is None or not _unknown_to_server(last) or last.command.verb in ("GET", "POST", "CONNECT", "HEAD"):
        return
    errors = sum(1 for e in conversation.exchanges if e.reply is not None and e.reply.code >= 500)
    if errors <= 2 and last.command.verb.isascii() and last.command.verb.replace("-", "").isalnum():
        yield _place(last, conversation), f"the server closed because of {shown_verb(last.command)}"


@rule(
    id="SC115",
    on=Conversation,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 5321 §4.1.1.10", "RFC 5321 §4.1.4"),
    when=UNFINISHED,
)
def closed_without_quit(conversation: Conversation, state: State) -> Iterator[Said]:
    """A client that closes the connection without QUIT.

    ## Why it matters
    "The sender MUST NOT intentionally close the transmission channel until it sends a QUIT command." Servers cannot
    tell it from a crash; some count it against the client.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org                         <- SC115
    C closes
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: QUIT
    S: 221 bye
    C closes
    ```

    ## Innocent look-alikes
    A close after 421, or after a refusal at the greeting. Connections that never said a word (port checks): noted
    elsewhere. A client that gave up on a reply that did not come (timing rules). A reset: nobody's intention is
    visible. A failed TLS handshake. Commands inside TLS that was not opened. An HTTP client, which knows no QUIT.
    """
    if _closer(conversation) != "client-fin" or not _evident(conversation, state):
        return
    if state.quit_sent or state.closing is not None or state.greeting is None or state.greeting.code != 220:
        return
    last = _last(conversation)
    if last.command is None or last.reply is None or last.command.verb == GREETING:
        return  # gave up waiting, or only looked
    if http_request(conversation) is not None:
        return  # no client of ours: told elsewhere
    yield last.reply.at, "the client closed the connection without QUIT"


@rule(id="SC117", on=Conversation, severity=Severity.NOTE, since="0.1", refs=("RFC 5321 §4.1.1.10",))
def quit_without_waiting(conversation: Conversation, state: State) -> Iterator[Said]:
    """A client that sends QUIT and closes before the reply.

    ## Why it matters
    It SHOULD wait for 221. Nothing is lost by it, and a server may log a lost connection.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: QUIT                                       <- SC117
    C closes
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: QUIT
    S: 221 bye
    C closes
    ```

    ## Innocent look-alikes
    Postfix does so on purpose (`smtp_skip_quit_response`), which is why this is a note. Exim closes its half and reads
    on: no reset answers the reply. A capture of the client's packets alone does not show whether a reply came.
    """
    if not state.quit_sent or state.lossy or not conversation.exchanges:
        return
    last, stream = _last(conversation), conversation.stream
    if one_direction(stream) or stream.missing[_SERVER]:
        return  # the reply may have come
    if last.command is None or last.command.verb != "QUIT" or stream.closed_by not in ("client-fin", "client-rst"):
        return
    if last.reply is not None and stream.rst_ns[_CLIENT] is None:
        return
    closed = min(t for t in (stream.fin_ns[0], stream.rst_ns[0], stream.last.ts_ns) if t is not None)
    if last.reply is None or last.reply.began.ts_ns > closed:
        yield last.command.at, "the client closed before the reply to its QUIT"


@rule(
    id="SC118",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 5321 §4.1.1", "RFC 5321 §4.1.1.10", "RFC 3207 §4"),
    verbs=("RSET", "DATA", "QUIT", "STARTTLS"),
    when=WITH_ARGUMENT,
)
def argument_where_none_belongs(exchange: Exchange, state: State) -> Iterator[Said]:
    """RSET, DATA, QUIT or STARTTLS with an argument.

    ## Why it matters
    Their syntax has none; servers SHOULD answer 501, so that the client's transaction stops there.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: RSET now                                   <- SC118
    S: 501 no arguments
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: RSET
    S: 250 OK
    ```

    ## Innocent look-alikes
    Trailing spaces. Lines that a gap or a refused DATA turned into commands.
    """
    command = exchange.command
    if command is not None and command.argument.strip() and not state.uncertain and not state.spilled:
        yield command.at, f"{command.verb} takes no argument"
