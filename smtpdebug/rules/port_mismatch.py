"""Transport: what is spoken on a port that expects something else (RFC 8314, RFC 3207, RFC 5321)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from smtpdebug.model.findings import Severity
from smtpdebug.model.smtp import GREETING, Conversation
from smtpdebug.model.streams import CLIENT, SERVER, TLS_PORTS
from smtpdebug.rules.registry import ODD_TRANSPORT, UNFINISHED, WITH_TLS, Said, rule
from smtpdebug.rules.scope import never_began_tls

CLEAR_PORTS: Final = frozenset({25, 587, 2587})
"""The server greets in clear (RFC 5321, RFC 6409; 2587 as Amazon SES has it)."""


@rule(id="ST511", on=Conversation, severity=Severity.ERROR, since="0.1", refs=("RFC 8314 §3.3",))
def plaintext_on_tls_port(conversation: Conversation) -> Iterator[Said]:
    """SMTP in clear on a port where TLS begins with the first byte.

    ## Why it matters
    One side is set up for the other port. A server that waits for a ClientHello sends no greeting, and a client that
    waits for the greeting sends nothing: both time out.

    ## Example
    ```facts
    server_port = 465
    ```
    ```smtp
    C: EHLO client.example.net        <- ST511
    S closes
    ```

    ## Instead
    ```facts
    server_port = 587
    ```
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Innocent look-alikes
    A conversation inside TLS is shown in clear after decryption; it is not counted.
    """
    stream = conversation.stream
    if stream.server.port not in TLS_PORTS or conversation.tls is not None:
        return
    if conversation.protocol not in ("smtp", "lmtp"):
        return
    for exchange in conversation.exchanges[:3]:
        if exchange.encrypted:
            return
        if exchange.command is not None and exchange.command.verb != GREETING:
            yield exchange.command.at, f"{exchange.command.verb} in clear on port {stream.server.port}"
            return
        if exchange.reply is not None:
            yield exchange.reply.at, f"{exchange.reply.code} in clear on port {stream.server.port}"
            return


@rule(
    id="ST512",
    on=Conversation,
    when=ODD_TRANSPORT,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 8314 §3.3", "RFC 5321 §4.3.1"),
)
def nobody_speaks(conversation: Conversation) -> Iterator[Said]:
    """The connection was opened and closed, and neither side said a word.

    ## Why it matters
    Each waited for the other. On port 465 or 2465 the server waits for TLS while the client waits for a greeting; on
    other ports the server did not greet.

    ## Example
    ```facts
    server_port = 465
    [stream]
    complete = true
    syn_ms = 0
    last_syn_ms = 0
    syn_ack_ms = 1
    established_ms = 2
    last_ms = 5002
    closed_by = "client-fin"
    ```

    ## Instead
    ```facts
    server_port = 465
    [stream]
    complete = true
    syn_ms = 0
    last_syn_ms = 0
    syn_ack_ms = 1
    established_ms = 2
    closed_by = "client-fin"
    bytes = [517, 2300]
    ```

    ## Innocent look-alikes
    Health checks of load balancers open and close within milliseconds; a second of waiting is needed to count. A
    client that says QUIT in clear as it gives up is counted too, and so is a TLS server that sends an alert after it.
    """
    stream = conversation.stream
    if stream.closed_by is None or stream.established_ns is None or not stream.complete or any(stream.missing):
        return
    if stream.bytes[CLIENT] > PARTING_WORDS or (stream.bytes[SERVER] and not never_began_tls(conversation)):
        return
    first = stream.first_data_ns[CLIENT]
    waited = (stream.last.ts_ns if first is None else first) - stream.established_ns
    if waited >= SILENCE_NS:
        why = "the server waits for TLS on this port" if stream.server.port in TLS_PORTS else "the server did not greet"
        yield stream.last, f"nobody spoke for {waited / 1e9:.1f} s: {why}"


SILENCE_NS: Final = 1_000_000_000


PARTING_WORDS: Final = 8
"""Bytes of ``QUIT`` and its line end, which some clients send as they give up."""


@rule(
    id="ST513",
    on=Conversation,
    when=WITH_TLS,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 3207 §4", "RFC 8314 §3.3"),
)
def tls_on_starttls_port(conversation: Conversation) -> Iterator[Said]:
    """The client begins with TLS on a port where the server greets in clear.

    ## Why it matters
    The client is set up for port 465. The server reads the ClientHello as a command; the client reads the greeting as
    a TLS record ("wrong version number").

    ## Example
    ```facts
    server_port = 587
    protocol = "tls"
    [tls]
    mode = "implicit"
    client_hello_ms = 5
    ```

    ## Instead
    ```facts
    server_port = 465
    protocol = "tls"
    [tls]
    mode = "implicit"
    client_hello_ms = 5
    ```

    ## Innocent look-alikes
    A server that answers with TLS is set up so on purpose, and is not counted.
    """
    facts = conversation.tls
    if facts is None or facts.mode != "implicit" or conversation.stream.server.port not in CLEAR_PORTS:
        return
    if facts.client_hello is None or facts.server_hello is not None or facts.decrypted:
        return
    if not conversation.stream.missing[SERVER]:
        yield facts.client_hello, f"ClientHello in place of SMTP on port {conversation.stream.server.port}"


@rule(
    id="ST514",
    on=Conversation,
    when=UNFINISHED,
    severity=Severity.NOTE,
    since="0.1",
    refs=("RFC 5321 §4.2", "RFC 3207 §4"),
)
def capture_not_smtp(conversation: Conversation) -> Iterator[Said]:
    """The stream on a mail port is neither SMTP nor TLS.

    ## Why it matters
    A web browser, a scanner or a wrongly set up client talks to the mail port; the text says what it looks like.

    ## Example
    ```facts
    server_port = 25
    protocol = "unknown"
    summary = "SSH"
    [stream]
    bytes = [40, 40]
    ```

    ## Instead
    ```facts
    server_port = 25
    protocol = "smtp"
    [stream]
    bytes = [40, 40]
    ```

    ## Innocent look-alikes
    Other protocols on other ports are none of ours and not counted.
    """
    stream = conversation.stream
    if conversation.protocol != "unknown" or stream.server.port not in CLEAR_PORTS | TLS_PORTS:
        return
    if any(stream.bytes) and not conversation.joined_late and stream.bytes[CLIENT] > PARTING_WORDS:
        yield stream.opened, f"not SMTP: {conversation.summary or 'not recognised'}"
