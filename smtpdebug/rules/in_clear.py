"""Transport, part two: what is sent or offered in clear (RFC 3207, RFC 4954, RFC 8314)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from smtpdebug.model.findings import Severity
from smtpdebug.model.smtp import Exchange
from smtpdebug.rules.registry import REFUSED_TLS, Said, rule
from smtpdebug.rules.state import State, extensions_of

PLAINTEXT_MECHANISMS: Final = frozenset({"PLAIN", "LOGIN"})
"""SASL mechanisms that give the password to whoever listens (RFC 4616; LOGIN has no RFC)."""


@rule(
    id="ST106",
    on=Exchange,
    severity=Severity.NOTE,
    since="0.1",
    refs=("RFC 3207 §4", "RFC 8314 §3"),
    verbs={"MAIL"},
    security=True,
)
def starttls_offered_not_used(exchange: Exchange, state: State) -> Iterator[Said]:
    """The client sends mail in clear though the server offers STARTTLS.

    ## Why it matters
    Envelope and message can be read and changed on the way, at no need: the server would have encrypted.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 STARTTLS
    C: MAIL FROM:<a@example.net>        <- ST106
    S: 250 2.1.0 Ok
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 STARTTLS
    C: STARTTLS
    S: 220 2.0.0 Ready to start TLS
    -- tls --
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 2.1.0 Ok
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Innocent look-alikes
    On one host, in a trusted network, or in a test this is common and lawful; hence a note.
    """
    command = exchange.command
    if command is None or state.encrypted or state.uncertain or state.transactions:
        return
    if state.offers("STARTTLS") and not command.encrypted:
        yield command.at, "MAIL in clear; STARTTLS was offered"


@rule(
    id="ST107",
    on=Exchange,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 4954 §4", "RFC 4954 §9", "RFC 8314 §3"),
    verbs={"AUTH"},
    security=True,
)
def password_in_clear(exchange: Exchange, state: State) -> Iterator[Said]:
    """AUTH PLAIN or LOGIN outside TLS: name and password can be read in the capture, and by anyone on the way.

    ## Why it matters
    Base64 is no encryption. Change the password, and let the client use STARTTLS or port 465 before it logs in.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 AUTH PLAIN CRAM-MD5
    C: AUTH PLAIN AGEAYg==        <- ST107
    S: 235 2.7.0 Authentication successful
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 STARTTLS
    C: STARTTLS
    S: 220 2.0.0 Ready to start TLS
    -- tls --
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 AUTH PLAIN
    C: AUTH PLAIN AGEAYg==
    S: 235 2.7.0 Authentication successful
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Innocent look-alikes
    CRAM-MD5, SCRAM, GSSAPI and the like do not show the password. A server that refuses PLAIN before it was told the
    password (538, 530, 504) has kept it safe, if the password did not come on the AUTH line.
    """
    command = exchange.command
    if command is None or command.encrypted or exchange.encrypted or state.encrypted:
        return
    mechanism, _, initial = command.argument.partition(" ")
    if mechanism.upper() not in PLAINTEXT_MECHANISMS:
        return
    refused = exchange.reply is not None and exchange.reply.code >= 400
    if initial.strip() in ("", "=") and (refused or exchange.reply is None):
        return
    if mechanism.upper() == "LOGIN" and refused:
        return  # the initial response of LOGIN is the name alone
    yield command.at, f"AUTH {mechanism.upper()} outside TLS"


@rule(
    id="ST108",
    on=Exchange,
    severity=Severity.NOTE,
    since="0.1",
    pure=True,
    refs=("RFC 4954 §4", "RFC 8314 §3"),
    verbs={"EHLO"},
    replies={2},
    security=True,
)
def password_login_offered_in_clear(exchange: Exchange) -> Iterator[Said]:
    """The server offers AUTH PLAIN or LOGIN outside TLS.

    ## Why it matters
    A client that is set up without TLS, or kept from it, sends the password in clear because it is asked to. A server
    should offer these mechanisms only inside TLS (Postfix: smtpd_tls_auth_only).

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 AUTH PLAIN LOGIN        <- ST108
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 STARTTLS
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Innocent look-alikes
    A server that speaks only on its own host loses nothing by it.
    """
    reply = exchange.reply
    if reply is None or exchange.encrypted or reply.encrypted:
        return
    if not any(line[4:8].upper() == b"AUTH" for line in reply.lines[1:]):
        return
    offered = PLAINTEXT_MECHANISMS.intersection(extensions_of(reply).get("AUTH", "").upper().split())
    if offered:
        yield reply.at, f"AUTH {' and '.join(sorted(offered))} offered outside TLS"


@rule(
    id="ST110",
    on=Exchange,
    severity=Severity.NOTE,
    since="0.1",
    when=REFUSED_TLS,
    refs=("RFC 3207 §4", "RFC 3207 §6"),
    verbs={"MAIL", "AUTH"},
    security=True,
)
def clear_after_failed_starttls(exchange: Exchange, state: State) -> Iterator[Said]:
    """The client goes on in clear after STARTTLS was refused.

    ## Why it matters
    For mail between servers that is the usual fall-back, and what an attacker on the line needs: a forged 454 is
    enough. Clients that must have TLS close instead.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 STARTTLS
    C: STARTTLS
    S: 454 4.7.0 TLS not available due to temporary reason
    C: MAIL FROM:<a@example.net>        <- ST110
    S: 250 2.1.0 Ok
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 STARTTLS
    C: STARTTLS
    S: 454 4.7.0 TLS not available due to temporary reason
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Innocent look-alikes
    Opportunistic TLS works like this by design (RFC 7435); hence a note.
    """
    if exchange.command is None or state.encrypted or state.uncertain or state.transactions:
        return
    if not state.offers("STARTTLS"):
        return
    for earlier in reversed(state.conversation.exchanges[: state.index]):
        command, reply = earlier.command, earlier.reply
        if command is not None and command.verb == "STARTTLS" and reply is not None and reply.code >= 400:
            yield exchange.command.at, f"{exchange.command.verb} in clear after STARTTLS got {reply.code}"
            return
