"""Refusals: no fault of the protocol, but what people look for first. All of these are notes."""

from __future__ import annotations

from collections.abc import Iterator

from smtpdebug.model.findings import Severity
from smtpdebug.model.smtp import END_OF_DATA, GREETING, Exchange, Reply
from smtpdebug.rules.registry import Said, rule
from smtpdebug.rules.state import State
from smtpdebug.rules.syntax import path


def quoted(reply: Reply) -> str:
    """The server's own words, always shown: tools that swallow them are of no use."""
    text = " ".join(part.strip() for part in reply.texts)
    return f"{reply.code} {text}"[:200].rstrip()


@rule(
    id="SR160",
    on=Exchange,
    severity=Severity.NOTE,
    since="0.1",
    refs=("RFC 5321 §3.3",),
    verbs=("RCPT",),
    replies=(5,),
)
def recipient_refused(exchange: Exchange, state: State) -> Iterator[Said]:
    """A recipient was refused for good (5yz to RCPT).

    ## Why it matters
    The sender gets a bounce for this recipient; the others of the message are not touched by it.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 OK
    C: RCPT TO:<nobody@example.org>
    S: 550 5.1.1 no such user                     <- SR160
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
    503 to RCPT outside a transaction is about the order of commands, not about the recipient.
    """
    command, reply = exchange.command, exchange.reply
    if (
        command is None
        or reply is None
        or reply.code in (500, 501, 503)
        or (state.mail is None and not state.uncertain)
    ):
        return
    yield reply.at, f"recipient <{path(command.argument, 'TO').address or ''}> refused: {quoted(reply)}"


@rule(
    id="SR161",
    on=Exchange,
    severity=Severity.NOTE,
    since="0.1",
    refs=("RFC 5321 §4.2.1", "RFC 5321 §4.5.4.1"),
    verbs=("RCPT",),
    replies=(4,),
)
def recipient_deferred(exchange: Exchange) -> Iterator[Said]:
    """A recipient was refused for now (4yz to RCPT): greylisting, a full mailbox, a limit.

    ## Why it matters
    The client keeps the message and tries again: this is where delayed mail comes from.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 OK
    C: RCPT TO:<b@example.org>
    S: 451 4.7.1 greylisted                       <- SR161
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
    421 is about the connection (SR168).
    """
    command, reply = exchange.command, exchange.reply
    if command is not None and reply is not None and reply.code != 421:
        yield reply.at, f"recipient <{path(command.argument, 'TO').address or ''}> deferred: {quoted(reply)}"


@rule(
    id="SR162",
    on=Exchange,
    severity=Severity.NOTE,
    since="0.1",
    refs=("RFC 5321 §4.2.5",),
    verbs=(END_OF_DATA, "BDAT"),
    replies=(4, 5),
)
def message_refused(exchange: Exchange) -> Iterator[Said]:
    """A message was refused after it was sent.

    ## Why it matters
    The server has read it and does not take it: content filter, size, quota. With 5yz it bounces, with 4yz the client
    tries again.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 OK
    C: RCPT TO:<b@example.org>
    S: 250 OK
    C: DATA
    S: 354 go ahead
    C: Subject: hello
    C:
    C: hello
    C: .
    S: 550 5.7.1 looks like spam                  <- SR162
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
    C: DATA
    S: 354 go ahead
    C: Subject: hello
    C:
    C: hello
    C: .
    S: 250 OK
    ```

    ## Innocent look-alikes
    421 is about the connection (SR168); 503 to BDAT is about the order of commands.
    """
    reply = exchange.reply
    if reply is not None and reply.code not in (421, 500, 501, 502, 503):
        yield reply.at, f"message refused: {quoted(reply)}"


@rule(
    id="SR163",
    on=Exchange,
    severity=Severity.NOTE,
    since="0.1",
    refs=("RFC 5321 §3.3",),
    verbs=("MAIL",),
    replies=(4, 5),
)
def sender_refused(exchange: Exchange, state: State) -> Iterator[Said]:
    """A transaction was refused at MAIL.

    ## Why it matters
    No recipient was even tried: the sender, its size, or the client itself is not welcome.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 550 5.7.1 sender blocked                   <- SR163
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 OK
    ```

    ## Innocent look-alikes
    503 to a nested MAIL is about the order of commands.
    """
    reply = exchange.reply
    if reply is not None and reply.code not in (421, 500, 501, 502, 503):
        yield reply.at, f"MAIL refused: {quoted(reply)}"


@rule(
    id="SR164",
    on=Exchange,
    severity=Severity.NOTE,
    since="0.1",
    refs=("RFC 5321 §3.1",),
    verbs=(GREETING,),
    replies=(4, 5),
)
def service_refused_at_greeting(exchange: Exchange) -> Iterator[Said]:
    """The server refused the whole conversation in its greeting.

    ## Why it matters
    Nothing the client says can help: blocked address, too many connections, or a server that takes no mail.

    ## Example
    ```smtp
    S: 554 5.7.1 blocked, see https://example.org <- SR164
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    ```

    ## Innocent look-alikes
    None.
    """
    reply = exchange.reply
    if reply is not None:
        yield reply.at, f"refused at the greeting: {quoted(reply)}"


@rule(
    id="SR165",
    on=Exchange,
    severity=Severity.NOTE,
    since="0.1",
    refs=("RFC 5321 §3.3", "RFC 2920 §3.1"),
    verbs=("DATA", "BDAT"),
    replies=(4, 5),
)
def no_valid_recipients(exchange: Exchange, state: State) -> Iterator[Said]:
    """DATA or BDAT was refused since no recipient had been accepted.

    ## Why it matters
    The message went nowhere. In a pipelined group this is the normal course: the client could not know yet.

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
    S: 554 no valid recipients                    <- SR165
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 PIPELINING
    C: MAIL FROM:<a@example.net>
    C+ RCPT TO:<b@example.org>
    C+ DATA
    S: 250 OK
    S: 250 OK
    S: 354 go ahead
    ```

    ## Innocent look-alikes
    A refusal of DATA although a recipient was accepted is a refusal for policy.
    """
    command, reply = exchange.command, exchange.reply
    if command is None or reply is None or reply.code == 421 or state.uncertain:
        return
    if state.mail is not None and state.rcpt_sent and not state.rcpt_accepted:
        yield reply.at, f"{command.verb} refused, no recipient was accepted: {quoted(reply)}"
