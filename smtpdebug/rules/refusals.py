"""Refusals: no fault of the protocol, but what people look for first. All of these are notes."""

from __future__ import annotations

from collections.abc import Iterator

from smtpdebug.model.findings import Severity
from smtpdebug.model.smtp import AUTH_ANSWER, END_OF_DATA, GREETING, Exchange, Reply
from smtpdebug.rules.registry import UNASKED, Said, rule
from smtpdebug.rules.state import State
from smtpdebug.rules.syntax import path
from smtpdebug.rules.table import KNOWN_VERBS, shown_verb


def _quoted(reply: Reply) -> str:
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
    yield reply.at, f"recipient <{path(command.argument, 'TO').address or ''}> refused: {_quoted(reply)}"


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
        yield reply.at, f"recipient <{path(command.argument, 'TO').address or ''}> deferred: {_quoted(reply)}"


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
        yield reply.at, f"message refused: {_quoted(reply)}"


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
        yield reply.at, f"MAIL refused: {_quoted(reply)}"


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
        yield reply.at, f"refused at the greeting: {_quoted(reply)}"


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
        yield reply.at, f"{command.verb} refused, no recipient was accepted: {_quoted(reply)}"


@rule(
    id="SR166",
    on=Exchange,
    severity=Severity.NOTE,
    since="0.1",
    refs=("RFC 4954 §6",),
    verbs=("AUTH", AUTH_ANSWER),
    replies=(4, 5),
)
def authentication_failed(exchange: Exchange) -> Iterator[Said]:
    """Authentication failed.

    ## Why it matters
    The client goes no further, or goes on without the rights it wanted.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 AUTH PLAIN
    C: AUTH PLAIN AGFsaWNlAG5v
    S: 535 5.7.8 authentication failed            <- SR166
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 AUTH PLAIN
    C: AUTH PLAIN AGFsaWNlAHllcw==
    S: 235 2.7.0 OK
    ```

    ## Innocent look-alikes
    501 after the client itself cancelled with `*` (SR167). 503 is about the order of commands.
    """
    command, reply = exchange.command, exchange.reply
    if command is None or reply is None or reply.code in (421, 500, 502, 503) or command.argument.strip() == "*":
        return
    yield reply.at, f"authentication failed: {_quoted(reply)}"


@rule(
    id="SR167",
    on=Exchange,
    severity=Severity.NOTE,
    since="0.1",
    refs=("RFC 4954 §4",),
    verbs=(AUTH_ANSWER,),
)
def authentication_cancelled(exchange: Exchange) -> Iterator[Said]:
    """The client cancelled authentication with `*`.

    ## Why it matters
    The client did not like the challenge, or has no credentials for it.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 AUTH CRAM-MD5
    C: AUTH CRAM-MD5
    S: 334 PDE4OTZAbXg+
    C: *                                          <- SR167
    S: 501 5.7.0 cancelled
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 AUTH CRAM-MD5
    C: AUTH CRAM-MD5
    S: 334 PDE4OTZAbXg+
    C: YWxpY2UgMTIz
    S: 235 2.7.0 OK
    ```

    ## Innocent look-alikes
    None: `*` is no base64.
    """
    command = exchange.command
    if command is not None and command.argument.strip() == "*":
        yield command.at, "the client cancelled authentication"


@rule(
    id="SR168",
    on=Exchange,
    severity=Severity.NOTE,
    since="0.1",
    refs=("RFC 5321 §3.8",),
    replies=(4,),
)
def server_shuts_down(exchange: Exchange) -> Iterator[Said]:
    """421: the server ends the conversation.

    ## Why it matters
    What was under way is not done; the text says why (idle too long, too many connections, a local error, a limit).

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    -- 300s --
    S: 421 4.4.2 timeout                          <- SR168
    S closes
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: QUIT
    S: 221 bye
    ```

    ## Innocent look-alikes
    At the greeting it is SR164.
    """
    command, reply = exchange.command, exchange.reply
    if reply is not None and reply.code == 421 and (command is None or command.verb != GREETING):
        verb = UNASKED if command is None else command.verb
        yield reply.at, f"the server ends the conversation{'' if verb == UNASKED else ' at ' + verb}: {_quoted(reply)}"


@rule(
    id="SR169",
    on=Exchange,
    severity=Severity.NOTE,
    since="0.1",
    refs=("RFC 5321 §4.2.2", "RFC 5321 §4.1.4"),
    replies=(5,),
)
def command_rejected(exchange: Exchange) -> Iterator[Said]:
    """The server answered 500 to 504 or 555: it did not understand the command, or not here.

    ## Why it matters
    Syntax (501), order (503), a parameter (504, 555) or the command itself (500, 502): the client has to change what
    it says. Whether client or server is right, other rules say.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: FROB
    S: 500 5.5.2 unknown command                  <- SR169
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: NOOP
    S: 250 OK
    ```

    ## Innocent look-alikes
    502 to VRFY or EXPN (switched off) and 500 to EHLO from a server that knows HELO only are reported all the same:
    a note costs nothing.
    """
    command, reply = exchange.command, exchange.reply
    if command is None or reply is None or command.verb in (GREETING, AUTH_ANSWER, END_OF_DATA):
        return
    if 500 <= reply.code <= 504 or reply.code == 555:
        # A reply may repeat the line; a line that is no command may be an AUTH answer out of its place.
        words = _quoted(reply) if command.verb in KNOWN_VERBS else str(reply.code)
        yield reply.at, f"{shown_verb(command)} rejected: {words}"
