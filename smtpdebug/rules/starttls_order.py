"""STARTTLS among the commands: offered, answered by TLS, once, and followed by EHLO (RFC 3207 section 4)."""

from __future__ import annotations

from collections.abc import Iterator

from smtpdebug.model.findings import Severity
from smtpdebug.model.smtp import Exchange
from smtpdebug.rules.registry import ENCRYPTED, STARTED_TLS, Said, rule
from smtpdebug.rules.state import HELLOS, State
from smtpdebug.rules.table import shown_verb


@rule(
    id="SC141",
    on=Exchange,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 3207 §4", "RFC 5321 §2.2.1"),
    verbs=("STARTTLS",),
)
def starttls_not_offered(exchange: Exchange, state: State) -> Iterator[Said]:
    """STARTTLS although the reply to EHLO did not offer it.

    ## Why it matters
    The server will refuse; or the offer was removed on the way, and the client was right to try.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: STARTTLS                                   <- SC141
    S: 502 not implemented
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 STARTTLS
    C: STARTTLS
    S: 220 go ahead
    ```

    ## Innocent look-alikes
    A capture that lost the reply to EHLO. STARTTLS again inside TLS is SC143.
    """
    command = exchange.command
    if command is not None and not state.uncertain and not state.encrypted and not state.offers("STARTTLS"):
        yield command.at, "STARTTLS was not offered" if state.helo_tried else "STARTTLS before EHLO"


@rule(
    id="SC142",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 3207 §4",),
    security=True,
    when=STARTED_TLS,
)
def clear_text_after_starttls(exchange: Exchange, state: State) -> Iterator[Said]:
    """A command in clear after the server agreed to STARTTLS, with no TLS handshake at all.

    ## Why it matters
    "After the client sends the STARTTLS command and receives 220, the client MUST start the TLS negotiation before
    giving any other SMTP commands." What follows is in clear though both sides may believe otherwise.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 STARTTLS
    C: STARTTLS
    S: 220 go ahead
    C: EHLO client.example.net                    <- SC142
    S: 250 mx.example.org
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 STARTTLS
    C: STARTTLS
    S: 220 go ahead
    -- tls --
    C: EHLO client.example.net
    S: 250 mx.example.org
    ```

    ## Innocent look-alikes
    A handshake that failed, after which the client goes on in clear: another rule's. A gap between 220 and the command.
    """
    command = exchange.command
    if command is None or exchange.encrypted or state.tls_agreed is None or state.previous is not state.tls_agreed:
        return
    if state.conversation.tls is None and not state.lossy and not command.outstanding:
        yield command.at, f"{shown_verb(command)} in clear after STARTTLS was agreed"


@rule(
    id="SC143",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 3207 §4.2",),
    verbs=("STARTTLS",),
)
def starttls_inside_tls(exchange: Exchange) -> Iterator[Said]:
    """STARTTLS while TLS is already on.

    ## Why it matters
    "A client MUST NOT attempt to start a TLS session if a TLS session is already active."

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 STARTTLS
    C: STARTTLS
    S: 220 go ahead
    -- tls --
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: STARTTLS                                   <- SC143
    S: 503 TLS is on
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 STARTTLS
    C: STARTTLS
    S: 220 go ahead
    -- tls --
    C: EHLO client.example.net
    S: 250 mx.example.org
    ```

    ## Innocent look-alikes
    None.
    """
    if exchange.command is not None and exchange.encrypted:
        yield exchange.command.at, "STARTTLS although TLS is on"


@rule(
    id="SC144",
    on=Exchange,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 3207 §4.2",),
    when=ENCRYPTED,
)
def no_hello_after_starttls(exchange: Exchange, state: State) -> Iterator[Said]:
    """A first command inside TLS that is not EHLO.

    ## Why it matters
    Both sides forget at STARTTLS what they learnt: extensions seen in clear may have been forged, and a client that
    does not ask again relies on them.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 STARTTLS
    C: STARTTLS
    S: 220 go ahead
    -- tls --
    C: MAIL FROM:<a@example.net>                  <- SC144
    S: 250 OK
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 STARTTLS
    C: STARTTLS
    S: 220 go ahead
    -- tls --
    C: EHLO client.example.net
    S: 250 mx.example.org
    ```

    ## Innocent look-alikes
    QUIT right after the handshake (a check of the certificate), NOOP and RSET. TLS that could not be opened from its
    first record on.
    """
    command, previous = exchange.command, state.previous
    if command is None or not exchange.encrypted or previous is None or previous.command is None or state.lossy:
        return
    if previous.command.verb != "STARTTLS" or previous.encrypted or state.uncertain:
        return
    if command.verb not in HELLOS and command.verb not in ("QUIT", "NOOP", "RSET"):
        yield command.at, f"the first command inside TLS is {shown_verb(command)}, not EHLO"
