"""Replies to RCPT against the state of the conversation (RFC 5321 sections 3.3, 4.5.1 and 4.5.3.1)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from smtpdebug.model.findings import Severity
from smtpdebug.model.smtp import Exchange
from smtpdebug.rules.registry import NO_TRANSACTION, Said, rule
from smtpdebug.rules.state import State
from smtpdebug.rules.syntax import path

_TOO_MANY: Final = re.compile(r"too many (?:recipients|rcpt)|recipients? limit|maximum (?:number of )?recipients", re.I)
_OVER_TIME: Final = re.compile(r"today|daily|per (?:hour|day)|quota|(?:recipients|rcpt) from ", re.I)
"""A limit over many messages; "too many recipients from ADDRESS" is Postfix's smtpd_client_recipient_rate_limit."""
_UNKNOWN_USER: Final = re.compile(r"unknown|no such|does not exist|not found|no mailbox|invalid user", re.I)


@rule(
    id="SR130",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 5321 §3.3", "RFC 5321 §4.1.4"),
    verbs=("RCPT",),
    replies=(2, 3),
    when=NO_TRANSACTION,
)
def recipient_accepted_without_mail(exchange: Exchange, state: State) -> Iterator[Said]:
    """RCPT accepted although no MAIL began a transaction, or EHLO or RSET had ended it.

    ## Why it matters
    "The server MUST return a 503." A server that accepts keeps state it had to drop, so that recipients of one message
    can slip into the next.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 OK
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: RCPT TO:<b@example.org>
    S: 250 OK                                     <- SR130
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 OK
    C: RCPT TO:<b@example.org>
    S: 250 OK
    ```

    ## Innocent look-alikes
    A capture that begins after MAIL, or lost it.
    """
    reply = exchange.reply
    if reply is None or state.uncertain or state.lossy or state.mail is not None:
        return
    yield reply.at, f"{reply.code} to RCPT outside a mail transaction: the server must answer 503"


@rule(
    id="SR131",
    on=Exchange,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 5321 §3.3",),
    verbs=("RCPT",),
    replies=(4, 5),
    when=NO_TRANSACTION,
)
def wrong_code_for_recipient_without_mail(exchange: Exchange, state: State) -> Iterator[Said]:
    """RCPT outside a transaction refused with another code than 503.

    ## Why it matters
    503 tells the client that the order was wrong; a 550 makes it bounce the recipient.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: RCPT TO:<b@example.org>
    S: 550 no                                     <- SR131
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 OK
    C: RCPT TO:<b@example.org>
    S: 250 OK
    ```

    ## Innocent look-alikes
    501 and 500 for syntax, 530 for a server that wants TLS or authentication first, 421, 555 and any refusal after
    MAIL itself was refused (the server repeats its reason).
    """
    reply = exchange.reply
    if reply is None or state.uncertain or state.lossy or state.mail is not None or state.mail_refused:
        return
    refused = state.greeting is not None and state.greeting.code != 220
    if reply.code not in (503, 421, 500, 501, 502, 530, 554, 555) and not refused:
        yield reply.at, f"{reply.code} to RCPT outside a mail transaction: the server must answer 503"


@rule(
    id="SR152",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 5321 §4.5.1",),
    verbs=("RCPT",),
    replies=(5,),
)
def postmaster_unknown(exchange: Exchange, state: State) -> Iterator[Said]:
    """A server that does not know its own postmaster.

    ## Why it matters
    `RCPT TO:<postmaster>` "MUST be supported": it is how other sites report trouble with this one.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 OK
    C: RCPT TO:<postmaster>
    S: 550 no such user here                      <- SR152
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 OK
    C: RCPT TO:<postmaster>
    S: 250 OK
    ```

    ## Innocent look-alikes
    Refusals for other reasons: the client is blocked, must authenticate, or relays. `postmaster@` some domain that the
    server may not serve.
    """
    command, reply = exchange.command, exchange.reply
    if command is None or reply is None or reply.code not in (550, 551, 553) or state.mail is None or state.uncertain:
        return
    if (path(command.argument, "TO").address or "").lower() != "postmaster":
        return
    if (reply.enhanced or "5.1.1") in ("5.1.0", "5.1.1") and _UNKNOWN_USER.search(" ".join(reply.texts)):
        yield reply.at, f"{reply.code} to <postmaster>, which every server must accept"


@rule(
    id="SR153",
    on=Exchange,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 5321 §4.5.3.1.10",),
    verbs=("RCPT",),
    replies=(5,),
)
def too_many_recipients_permanent(exchange: Exchange, state: State) -> Iterator[Said]:
    """ "Too many recipients" as a permanent failure.

    ## Why it matters
    452 is the code for an implementation's limit: the client sends the message again to the rest. With a 5yz it
    bounces them.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 OK
    C: RCPT TO:<b@example.org>
    S: 552 too many recipients                    <- SR153
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 OK
    C: RCPT TO:<b@example.org>
    S: 250 OK
    ```

    ## Innocent look-alikes
    A limit of the site's policy MAY be a 5yz; the text seldom tells which it is, so this is a warning.
    """
    reply = exchange.reply
    if reply is not None and state.mail is not None and _TOO_MANY.search(" ".join(reply.texts)):
        yield reply.at, f"{reply.code} for too many recipients: 452 lets the client send to the rest"


@rule(
    id="SR154",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 5321 §4.5.3.1.8", "RFC 9422 §4"),
    verbs=("RCPT",),
    replies=(4, 5),
)
def fewer_than_100_recipients(exchange: Exchange, state: State) -> Iterator[Said]:
    """ "Too many recipients" before the hundredth of one message.

    ## Why it matters
    "Rejection of messages (for excessive recipients) with fewer than 100 RCPT commands is a violation of this
    specification." Clients split at 100, so that a lower limit costs a delay for each split.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 OK
    C: RCPT TO:<b@example.org>
    S: 452 too many recipients                    <- SR154
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 OK
    C: RCPT TO:<b@example.org>
    S: 250 OK
    ```

    ## Innocent look-alikes
    A limit announced with LIMITS RCPTMAX (RFC 9422). Limits over many messages ("too many recipients today", and
    Postfix's "too many recipients from" an address).
    """
    reply = exchange.reply
    if reply is None or state.mail is None or state.uncertain or state.rcpt_sent >= 100:
        return
    text = " ".join(reply.texts)
    if "RCPTMAX" in state.extensions.get("LIMITS", "").upper() or _OVER_TIME.search(text):
        return
    if _TOO_MANY.search(text):
        yield reply.at, f"too many recipients at number {state.rcpt_sent + 1}: 100 must be possible"
