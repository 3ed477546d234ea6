"""Commands in the wrong place (RFC 5321 sections 3.3, 4.1.1.1, 4.1.4 and 4.3.1)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from smtpdebug.model.findings import Severity
from smtpdebug.model.smtp import AFTER_GAP, GREETING, Conversation, Exchange
from smtpdebug.model.streams import TLS_PORTS
from smtpdebug.rules.registry import (
    BEFORE_HELLO,
    IN_TRANSACTION,
    NO_RECIPIENT,
    NO_TRANSACTION,
    REFUSED_DATA,
    UNKNOWN_VERB,
    Said,
    rule,
)
from smtpdebug.rules.state import State, is_spilled
from smtpdebug.rules.table import KNOWN_VERBS, OBSOLETE_VERBS, is_word, shown_verb

_GAVE_UP_NS: Final = 2_000_000_000
_FOREIGN_VERBS: Final = frozenset({"GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "DELETE", "PATCH", "TRACE"})


@rule(
    id="SC101",
    on=Conversation,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 5321 §4.3.1", "RFC 5321 §3.1"),
    security=True,
)
def early_talker(conversation: Conversation, state: State) -> Iterator[Said]:
    """A client that speaks before the server's greeting is complete.

    ## Why it matters
    "The sender MUST wait for this response before sending further commands." Programs that send spam do not wait,
    so that servers take early talk for spam and refuse.

    ## Example
    ```smtp
    C: EHLO client.example.net                    <- SC101
    -- 2s --
    S: 220 mx.example.org ESMTP
    S: 250 mx.example.org
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    ```

    ## Innocent look-alikes
    A PROXY header, and a TLS ClientHello on a port with implicit TLS, come first by right. Exim's PIPECONNECT, where
    the server offered it before. A capture that lost the greeting or begins after it. Packets captured out of order:
    what counts is what the client had acknowledged when it spoke. A client that gave up waiting, seconds later.
    """
    if state.lossy or conversation.joined_late or not conversation.stream.complete or len(conversation.exchanges) < 2:
        return
    greeting, first = conversation.exchanges[0], conversation.exchanges[1].command
    if greeting.command is None or greeting.command.verb != GREETING or first is None or first.encrypted:
        return
    reply = greeting.reply
    if reply is None:
        # A client that waited and then gave up, or TLS was expected: not in a hurry.
        waited = first.began.ts_ns - (conversation.stream.established_ns or conversation.stream.opened.ts_ns)
        if first.acked != 0 or not conversation.stream.packets[1]:
            return  # the capture may have the client's side only
        if waited < _GAVE_UP_NS and first.verb != "QUIT" and conversation.stream.server.port not in TLS_PORTS:
            yield first.at, f"the client sent {shown_verb(first)} and never got a greeting"
        return
    unfinished = bool(reply.lines) and reply.lines[-1][3:4] == b"-"
    # The acknowledgement tells what the client had seen; inside TLS or without it, time has to do.
    late_ns = reply.at.ts_ns - first.began.ts_ns
    early = first.acked < reply.end if first.acked >= 0 else late_ns >= 1_000_000
    if (early or unfinished) and not any(_offers_pipeconnect(e) for e in conversation.exchanges[1:3]):
        yield first.at, f"the client sent {shown_verb(first)} before the greeting was complete"


def _offers_pipeconnect(exchange: Exchange) -> bool:
    reply = exchange.reply
    return reply is not None and any(line[4:].upper() in (b"PIPECONNECT", b"X_PIPE_CONNECT") for line in reply.lines)


@rule(
    id="SC102",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 5321 §4.1.1.1", "RFC 5321 §4.1.4"),
    verbs=("MAIL",),
    when=BEFORE_HELLO,
)
def mail_before_hello(exchange: Exchange, state: State) -> Iterator[Said]:
    """MAIL before EHLO or HELO.

    ## Why it matters
    "A client MUST issue HELO or EHLO before starting a mail transaction." Some servers let it pass, others answer 503.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: MAIL FROM:<a@example.net>                  <- SC102
    S: 503 say EHLO first
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
    A capture that begins after EHLO. An EHLO that was refused, after which the client tries all the same.
    """
    command = exchange.command
    if command is not None and not state.helo_tried and not state.uncertain and not state.lossy:
        yield command.at, "MAIL before EHLO or HELO"


@rule(
    id="SC103",
    on=Exchange,
    severity=Severity.NOTE,
    since="0.1",
    refs=("RFC 5321 §4.1.1.1", "RFC 5321 §3.2"),
    verbs=("HELO",),
)
def helo_without_trying_ehlo(exchange: Exchange, state: State) -> Iterator[Said]:
    """HELO without having tried EHLO.

    ## Why it matters
    Without EHLO there is no STARTTLS, no AUTH, no SIZE, no 8BITMIME.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: HELO client.example.net                    <- SC103
    S: 250 mx.example.org
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    ```

    ## Innocent look-alikes
    HELO after the server refused EHLO. Old and simple clients MAY use HELO (§3.2), hence a note.
    """
    command = exchange.command
    if command is not None and not state.helo_tried and not state.lossy:
        yield command.at, "HELO was used without trying EHLO"


@rule(
    id="SC108",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 5321 §4.1.4",),
    verbs=("MAIL",),
    when=IN_TRANSACTION,
)
def nested_mail(exchange: Exchange, state: State) -> Iterator[Said]:
    """MAIL while a mail transaction is open.

    ## Why it matters
    "MAIL MUST NOT be sent if a mail transaction is already open." Servers answer 503, and the second message is lost
    or its recipients are mixed up with the first's.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 OK
    C: MAIL FROM:<c@example.net>                  <- SC108
    S: 503 nested MAIL
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
    MAIL after the end of mail data was refused: the transaction is over then. MAIL after DATA was refused: clients
    disagree, so it is let pass. A lost end of mail data.
    """
    command = exchange.command
    if command is None or state.mail is None or state.uncertain or state.data_refused or state.data_open:
        return
    if not state.bdat_open and not state.bdat_failed and state.rcpt_sent == state.rcpt_refused and state.rcpt_refused:
        return  # every recipient refused: whether that ends the transaction, servers disagree
    if not state.bdat_open and not state.bdat_failed:
        yield command.at, "MAIL while a mail transaction is open"


@rule(
    id="SC109",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 5321 §3.3", "RFC 5321 §4.1.4"),
    verbs=("RCPT",),
    when=NO_TRANSACTION,
)
def recipient_without_mail(exchange: Exchange, state: State) -> Iterator[Said]:
    """RCPT without a mail transaction: no MAIL yet, or it was refused, or RSET or EHLO ended it.

    ## Why it matters
    The server must answer 503; nothing will be delivered.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: RCPT TO:<b@example.org>                    <- SC109
    S: 503 need MAIL first
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
    RCPT in the same pipelined group as a MAIL that was refused: the client could not know yet.
    """
    command = exchange.command
    if command is None or state.mail is not None or state.uncertain or state.lossy:
        return
    if not state.pipelined_with(exchange, "MAIL", "EHLO", "RSET"):
        yield command.at, "RCPT after MAIL was refused" if state.mail_refused else "RCPT outside a mail transaction"


@rule(
    id="SC110",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 5321 §3.3",),
    verbs=("DATA",),
    when=NO_RECIPIENT,
)
def data_without_recipient(exchange: Exchange, state: State) -> Iterator[Said]:
    """DATA although the client knew that no recipient was accepted.

    ## Why it matters
    There is nobody to deliver to; servers answer 503 or 554.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 OK
    C: DATA                                       <- SC110
    S: 503 need RCPT first
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
    ```

    ## Innocent look-alikes
    DATA in the same pipelined group as RCPT commands that were all refused (RFC 2920): the client could not know.
    """
    command = exchange.command
    if command is None or state.rcpt_accepted or state.uncertain or state.lossy or state.bdat_open:
        return
    if not state.pipelined_with(exchange, "RCPT", "MAIL"):
        yield command.at, "DATA without an accepted recipient"


@rule(
    id="SC112",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 5321 §3.3",),
    security=True,
    when=REFUSED_DATA,
)
def message_sent_after_refused_data(exchange: Exchange, state: State) -> Iterator[Said]:
    """The message sent although DATA was refused, so that its lines are read as commands.

    ## Why it matters
    "Message data MUST NOT be sent unless a 354 reply is received." Whoever wrote the message can have the server
    obey it.

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
    S: 451 4.3.0 try later
    C: Subject: hello                             <- SC112
    S: 500 unknown command
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
    S: 451 4.3.0 try later
    C: RSET
    S: 250 OK
    ```

    ## Innocent look-alikes
    Commands that the client goes on with: RSET, QUIT, MAIL. The lone dot of RFC 2920 §3.1.
    """
    command, previous = exchange.command, state.previous
    if command is None or previous is None or previous.command is None or previous.command.verb != "DATA":
        return
    if previous.reply is None or previous.reply.code < 400 or state.uncertain or command.oddities & AFTER_GAP:
        return
    if is_spilled(command):
        yield command.at, f"mail data follows although DATA was refused with {previous.reply.code}"


@rule(
    id="SC120",
    on=Exchange,
    severity=Severity.NOTE,
    since="0.1",
    refs=("RFC 5321 §4.1.1", "RFC 5321 §4.1.5"),
    when=UNKNOWN_VERB,
)
def command_unknown(exchange: Exchange, state: State) -> Iterator[Said]:
    """A command that no specification known here defines, a line that is no command at all, or an empty one.

    ## Why it matters
    A typing error, a private extension, or another protocol. Of several lines in a row that begin with no word (binary
    data, a message sent without DATA) the first is told.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: FROB                                       <- SC120
    S: 500 unknown command
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
    Commands whose keyword the server offered (X-commands among them). Answers during AUTH. Lines after a gap.
    """
    command = exchange.command
    if command is None or command.verb in KNOWN_VERBS or command.verb.startswith("(") or command.encrypted is None:
        return
    if state.uncertain or command.oddities & AFTER_GAP or command.verb in state.extensions:
        return
    if command.verb in _FOREIGN_VERBS or (state.data_refused and state.previous is not None):
        return
    if state.conversation.protocol not in ("smtp", "lmtp"):
        return
    if is_word(command.verb):
        yield command.at, f"unknown command {command.verb}"
    elif not _wordless(state.previous):
        yield command.at, "a line that begins with no command" if command.verb else "an empty line as a command"


def _wordless(exchange: Exchange | None) -> bool:
    """A line of junk, or an empty one: what follows it goes on with the same."""
    if exchange is None or exchange.command is None:
        return False
    verb = exchange.command.verb
    return verb not in KNOWN_VERBS and not verb.startswith("(") and not is_word(verb)


@rule(
    id="SC121",
    on=Exchange,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 5321 §4.1.1", "CWE-918"),
    verbs=_FOREIGN_VERBS,
    security=True,
)
def http_spoken_to_mail_server(exchange: Exchange, state: State) -> Iterator[Said]:
    """An HTTP request on an SMTP connection.

    ## Why it matters
    A browser or a web server made to talk to the mail server (cross-protocol request forgery): the lines of the
    request's body are read as SMTP commands. Or a scanner, or a health check of the wrong kind.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: GET / HTTP/1.1                             <- SC121
    S: 500 unknown command
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    ```

    ## Innocent look-alikes
    None: SMTP has no such verbs.
    """
    command = exchange.command
    if command is not None and not state.uncertain and not state.data_refused:
        yield command.at, f"{command.verb} is HTTP, not SMTP"


@rule(
    id="SC122",
    on=Exchange,
    severity=Severity.NOTE,
    since="0.1",
    refs=("RFC 5321 Appendix F.1", "RFC 5321 Appendix F.6"),
    verbs=OBSOLETE_VERBS,
)
def command_obsolete(exchange: Exchange) -> Iterator[Said]:
    """SEND, SOML, SAML or TURN.

    ## Why it matters
    RFC 5321 deprecates them; servers may refuse, and TURN without authentication hands mail to whoever asks.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: TURN                                       <- SC122
    S: 502 not implemented
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 ETRN
    C: ETRN example.net
    S: 250 queueing started
    ```

    ## Innocent look-alikes
    None.
    """
    command = exchange.command
    if command is not None:
        yield command.at, f"{command.verb} is obsolete"
