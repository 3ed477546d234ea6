"""Refusals of authentication, of service and of commands: notes, as in ``refusals``."""

from __future__ import annotations

from collections.abc import Iterator

from smtpdebug.model.findings import Severity
from smtpdebug.model.smtp import AUTH_ANSWER, END_OF_DATA, GREETING, Exchange
from smtpdebug.rules.refusals import quoted
from smtpdebug.rules.registry import UNASKED, Said, rule
from smtpdebug.rules.table import KNOWN_VERBS, shown_verb


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
    yield reply.at, f"authentication failed: {quoted(reply)}"


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
        yield reply.at, f"the server ends the conversation{'' if verb == UNASKED else ' at ' + verb}: {quoted(reply)}"


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
        words = quoted(reply) if command.verb in KNOWN_VERBS else str(reply.code)
        yield reply.at, f"{shown_verb(command)} rejected: {words}"
