"""Replies against the state of the conversation: what a server must not accept, refuse or do at this point."""

from __future__ import annotations

from collections.abc import Iterator

from smtpdebug.model.findings import Severity
from smtpdebug.model.smtp import AFTER_GAP, Exchange
from smtpdebug.rules.registry import BEFORE_HELLO, CLOSING, IN_TRANSACTION, NO_RECIPIENT, WITH_ARGUMENT, Said, rule
from smtpdebug.rules.state import State
from smtpdebug.rules.table import shown_verb


@rule(
    id="SR126",
    on=Exchange,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 5321 §3.8", "RFC 5321 §4.2.2"),
    replies=(2, 3, 4, 5),
    when=CLOSING,
)
def conversation_goes_on_after_421(exchange: Exchange, state: State) -> Iterator[Said]:
    """A server that says 421 ("closing transmission channel") and then serves another command.

    ## Why it matters
    Clients drop the connection at 421 and back off from the whole host. If one recipient or one message was meant,
    450 or 451 says so.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 421 try later
    C: RSET
    S: 250 OK                                     <- SR126
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 451 try later
    C: RSET
    S: 250 OK
    ```

    ## Innocent look-alikes
    221 to the QUIT with which a polite client answers 421. Replies to commands that were already under way (pipelined)
    when 421 came. 421 repeated, or 5yz.
    """
    command, reply = exchange.command, exchange.reply
    if state.closing is None or command is None or reply is None or command.verb == "QUIT":
        return
    previous = state.previous
    if previous is None or previous.reply is not state.closing or command.outstanding or state.uncertain:
        return
    if reply.code < 400 and not reply.oddities & AFTER_GAP:
        yield reply.at, f"{reply.code} to {shown_verb(command)} after 421 announced the close"


@rule(
    id="SR132",
    on=Exchange,
    severity=Severity.NOTE,
    since="0.1",
    refs=("RFC 5321 §3.3", "RFC 2920 §3.2"),
    verbs=("DATA",),
    replies=(3,),
    when=NO_RECIPIENT,
)
def data_accepted_without_recipient(exchange: Exchange, state: State) -> Iterator[Said]:
    """354 to DATA although no recipient was accepted.

    ## Why it matters
    The client has to send a whole message that cannot be delivered. It is allowed (§3.3 says MAY refuse), but 503 or
    554 saves the work.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 PIPELINING
    C: MAIL FROM:<a@example.net>
    C+ RCPT TO:<nobody@example.org>
    C+ DATA
    S: 250 OK
    S: 550 no such user
    S: 354 go ahead                               <- SR132
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 PIPELINING
    C: MAIL FROM:<a@example.net>
    C+ RCPT TO:<nobody@example.org>
    C+ DATA
    S: 250 OK
    S: 550 no such user
    S: 554 no valid recipients
    ```

    ## Innocent look-alikes
    A capture that begins after RCPT.
    """
    reply = exchange.reply
    if reply is None or reply.code != 354 or state.uncertain or state.lossy or state.rcpt_accepted:
        return
    yield reply.at, "354 although no recipient was accepted"


@rule(
    id="SR134",
    on=Exchange,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 5321 §4.1.4",),
    verbs=("MAIL",),
    replies=(2,),
    when=IN_TRANSACTION,
)
def nested_mail_accepted(exchange: Exchange, state: State) -> Iterator[Said]:
    """A second MAIL accepted while a transaction with recipients is open.

    ## Why it matters
    Whether the recipients given so far belong to the new sender or are dropped is now anybody's guess.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 OK
    C: MAIL FROM:<c@example.net>
    S: 250 OK                                     <- SR134
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 OK
    C: RSET
    S: 250 OK
    C: MAIL FROM:<c@example.net>
    S: 250 OK
    ```

    ## Innocent look-alikes
    MAIL after DATA was refused: some servers end the transaction there.
    """
    reply = exchange.reply
    if reply is None or state.mail is None or state.uncertain or state.data_refused or state.bdat_failed:
        return
    yield reply.at, f"{reply.code} to MAIL inside an open transaction: 503 is expected"


@rule(
    id="SR145",
    on=Exchange,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 5321 §4.1.4",),
    verbs=("NOOP", "HELP", "VRFY", "EXPN", "RSET"),
    replies=(5,),
    when=BEFORE_HELLO,
)
def hello_demanded_for_harmless_command(exchange: Exchange, state: State) -> Iterator[Said]:
    """503 to NOOP, HELP, VRFY, EXPN or RSET because no EHLO has come yet.

    ## Why it matters
    "SMTP servers SHOULD process these normally (that is, not return a 503 code) even if no EHLO command has yet been
    received": monitoring and clients that recover rely on it.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: NOOP
    S: 503 say EHLO first                         <- SR145
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: NOOP
    S: 250 OK
    ```

    ## Innocent look-alikes
    503 after a greeting that refused service (§3.1 wants it). Refusals with other codes.
    """
    command, reply = exchange.command, exchange.reply
    if command is None or reply is None or reply.code != 503 or state.lossy or state.helo_tried or state.encrypted:
        return
    if state.greeting is not None and state.greeting.code == 220 and not command.outstanding:
        yield reply.at, f"503 to {shown_verb(command)} before EHLO"


@rule(
    id="SR140",
    on=Exchange,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 5321 §3.5.2",),
    verbs=("EXPN",),
    replies=(2,),
)
def expn_served_but_not_offered(exchange: Exchange, state: State) -> Iterator[Said]:
    """EXPN works although the reply to EHLO does not list it.

    ## Why it matters
    "If EXPN is supported, it MUST be listed as a service extension": usually a list expansion left open by accident.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: EXPN staff
    S: 250 <a@example.org>                        <- SR140
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 EXPN
    C: EXPN staff
    S: 250 <a@example.org>
    ```

    ## Innocent look-alikes
    252, which confirms nothing. Servers greeted with HELO, which have no list.
    """
    reply = exchange.reply
    if reply is not None and reply.code == 250 and state.esmtp and not state.uncertain and not state.offers("EXPN"):
        yield reply.at, "EXPN was served although EHLO does not list it"


@rule(
    id="SR150",
    on=Exchange,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 5321 §4.1.1", "RFC 5321 §4.3.2"),
    verbs=("RSET", "DATA", "QUIT", "STARTTLS"),
    replies=(2, 3),
    when=WITH_ARGUMENT,
)
def argument_ignored(exchange: Exchange) -> Iterator[Said]:
    """A command that takes no argument was given one and the server accepted it.

    ## Why it matters
    501 SHOULD be returned (§4.3.2): a client that says `DATA something` meant something, and is told that it got it.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: RSET now
    S: 250 OK                                     <- SR150
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
    Trailing spaces, which servers SHOULD tolerate (§4.1.1). NOOP may have an argument.
    """
    command, reply = exchange.command, exchange.reply
    if command is not None and reply is not None and command.argument.strip() and not command.oddities & AFTER_GAP:
        yield reply.at, f"{reply.code} to {shown_verb(command)} with an argument: 501 is expected"


@rule(
    id="SR151",
    on=Exchange,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 5321 §3.5.1", "RFC 5321 §3.5.3"),
    verbs=("VRFY",),
    replies=(2,),
)
def vrfy_250_without_mailbox(exchange: Exchange) -> Iterator[Said]:
    """250 to VRFY whose text holds no mailbox.

    ## Why it matters
    250 means that the address was verified, and the reply MUST include the mailbox. A server that verifies nothing
    says 252.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: VRFY alice
    S: 250 OK                                     <- SR151
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: VRFY alice
    S: 252 cannot VRFY user, but will take mail for it
    ```

    ## Innocent look-alikes
    251 and 252.
    """
    reply = exchange.reply
    if reply is not None and reply.code == 250 and not any("@" in text for text in reply.texts):
        yield reply.at, "250 to VRFY without the mailbox it verified"
