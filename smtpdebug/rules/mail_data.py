"""Content, part four: mail data (RFC 5321 sections 2.3.8, 2.4, 4.1.1.4, 4.5.2, 4.5.3.1.6; RFC 6152)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from smtpdebug.model.findings import Severity
from smtpdebug.model.smtp import (
    END_OF_DATA,
    ODD_END,
    UNDOTTED,
    Conversation,
    Exchange,
)
from smtpdebug.model.streams import CLIENT, SERVER
from smtpdebug.rules import providers
from smtpdebug.rules.mail_octets import CARRIERS, binary, odd_data
from smtpdebug.rules.patience import TIME_WORDS
from smtpdebug.rules.registry import ODD_TRANSPORT, UNASKED, UNFINISHED, Said, rule
from smtpdebug.rules.scope import one_direction
from smtpdebug.rules.state import State

TEXT_LINE: Final = 1000
"""Octets of a text line with its line end, the doubled dot not counted (RFC 5321 4.5.3.1.6)."""


@rule(
    id="SD206",
    on=Exchange,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 5321 §4.5.3.1.6", "RFC 5322 §2.1.1"),
    verbs=CARRIERS,
)
def mail_data_line_too_long(exchange: Exchange, state: State) -> Iterator[Said]:
    r"""A line of the mail data is longer than 1000 octets.

    ## Why it matters
    998 octets and CR LF is the most a line may have. Servers cut longer lines or insert line ends, which spoils HTML,
    breaks DKIM signatures, and sometimes puts a dot at the start of a line.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 2.1.0 Ok
    C: RCPT TO:<b@example.org>
    S: 250 2.1.5 Ok
    C: DATA
    S: 354 End data with <CR><LF>.<CR><LF>
    C: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
    C! .\r\n        <- SD206
    S: 250 2.0.0 Ok
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 2.1.0 Ok
    C: RCPT TO:<b@example.org>
    S: 250 2.1.5 Ok
    C: DATA
    S: 354 End data with <CR><LF>.<CR><LF>
    C: short lines
    C: .
    S: 250 2.0.0 Ok
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Innocent look-alikes
    The doubled dot at the start of a line is not counted. After BODY=BINARYMIME there are no lines.
    """  # noqa: E501 - the line is the example
    data = exchange.data
    if data is not None and data.longest_line > TEXT_LINE and not binary(state) and not data.missing:
        yield data.at, f"a line of the mail data has {data.longest_line} octets; the limit is {TEXT_LINE}"


@rule(
    id="SD207",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 5321 §4.5.2",),
    verbs={END_OF_DATA},
    oddities=UNDOTTED,
)
def leading_dot_not_doubled(exchange: Exchange, state: State) -> Iterator[Said]:
    r"""A line of the mail data begins with a single dot.

    ## Why it matters
    The client doubles a dot at the start of a line so that no line of the message looks like the end. The server
    takes one dot away: a dot that was not doubled is lost, and a line of one dot alone would have ended the message.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 2.1.0 Ok
    C: RCPT TO:<b@example.org>
    S: 250 2.1.5 Ok
    C: DATA
    S: 354 End data with <CR><LF>.<CR><LF>
    C: .hidden
    C! .\r\n        <- SD207
    S: 250 2.0.0 Ok
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 2.1.0 Ok
    C: RCPT TO:<b@example.org>
    S: 250 2.1.5 Ok
    C: DATA
    S: 354 End data with <CR><LF>.<CR><LF>
    C: ..hidden
    C: .
    S: 250 2.0.0 Ok
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Innocent look-alikes
    BDAT has no transparency: dots are not doubled there. Where the server may have ended the message at a look-alike
    of the end (SD301) and its replies were not captured, what follows may be commands and another message.
    """
    data = odd_data(exchange, UNDOTTED)
    if data is not None and data.oddities & ODD_END and one_direction(state.conversation.stream):
        return
    if data is not None and not data.chunks:
        yield data.at, "a line of the mail data begins with a dot that is not doubled; the server removes it"


@rule(
    id="SD208",
    on=Exchange,
    severity=Severity.NOTE,
    since="0.1",
    refs=("RFC 5321 §4.1.1.4", "RFC 2920 §3.1"),
    verbs={END_OF_DATA},
    replies={2},
)
def mail_data_empty(exchange: Exchange, state: State) -> Iterator[Said]:
    """The server takes a message without a single octet.

    ## Why it matters
    A message needs a header section, at least a date and an originator. An empty one is what a broken script sends
    whose input was missing.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 2.1.0 Ok
    C: RCPT TO:<b@example.org>
    S: 250 2.1.5 Ok
    C: DATA
    S: 354 End data with <CR><LF>.<CR><LF>
    C: .        <- SD208
    S: 250 2.0.0 Ok
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 2.1.0 Ok
    C: RCPT TO:<b@example.org>
    S: 250 2.1.5 Ok
    C: DATA
    S: 354 End data with <CR><LF>.<CR><LF>
    C: Subject: hello
    C: .
    S: 250 2.0.0 Ok
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Innocent look-alikes
    After a pipelined DATA with no accepted recipient the client MUST send the dot alone (RFC 2920): silent there.
    """
    data = exchange.data
    if data is None or not data.ended or data.bytes or data.missing or data.chunks:
        return
    if state.rcpt_accepted and not state.uncertain:
        yield data.at, "the message is empty"


@rule(
    id="SD209",
    on=Conversation,
    when=UNFINISHED,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 5321 §4.1.1.4", "RFC 5321 §4.1.1.10"),
)
def end_of_mail_data_missing(conversation: Conversation, state: State) -> Iterator[Said]:
    """The connection was closed in the middle of the mail data.

    ## Why it matters
    Without its end the server must throw the message away; the client has to send it again in full. What cut it off
    is to be found: a crash or time-out of the client, a full disk, a middlebox.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 2.1.0 Ok
    C: RCPT TO:<b@example.org>
    S: 250 2.1.5 Ok
    C: DATA
    S: 354 End data with <CR><LF>.<CR><LF>
    C: Subject: x
    C:
    C: half a mes        <- SD209
    C resets
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 2.1.0 Ok
    C: RCPT TO:<b@example.org>
    S: 250 2.1.5 Ok
    C: DATA
    S: 354 End data with <CR><LF>.<CR><LF>
    C: Subject: x
    C:
    C: a whole message
    C: .
    S: 250 2.0.0 Ok
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Innocent look-alikes
    A capture that stops in the middle of a message, or lacks some of its bytes, says nothing about its end. A server
    that said 421 may close at any time, but if it speaks of a time-out it was the client who left the message without
    an end. Of a server that refused and closed SD210 and SR148 tell. RSET, or anything else after a BDAT chunk, gave
    the message up before.
    """
    closed = conversation.stream.closed_by
    if closed is None or not conversation.messages:
        return
    data = conversation.messages[-1].data
    if data is None or data.ended or data.missing or conversation.stream.missing[CLIENT]:
        return
    last = conversation.exchanges[-1]
    if data.chunks and (last.command is None or last.command.verb != "BDAT"):
        return
    if state.closing is not None:
        if TIME_WORDS.search(" ".join(state.closing.texts)) and state.closing.began.ts_ns > data.at.ts_ns:
            yield data.at, f"the client fell silent after {data.bytes:,} bytes of mail data, before its end"
        return
    if last.command is None and last.reply is not None and last.reply.code >= 400 and closed.startswith("server"):
        return
    who = {"client": "the client", "server": "the server"}[closed.split("-")[0]]
    how = "reset the connection" if closed.endswith("rst") else "closed"
    yield data.at, f"{who} {how} after {data.bytes:,} bytes of mail data, before its end"


@rule(
    id="SD210",
    on=Exchange,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 5321 §3.3", "RFC 5321 §4.1.1.4"),
    verbs={UNASKED, END_OF_DATA},
    replies={2, 4, 5},
)
def reply_before_end_of_mail_data(exchange: Exchange, state: State) -> Iterator[Said]:
    """The server replies between 354 and the end of the mail data.

    ## Why it matters
    A client that sends mail data does not read: the early reply is taken for the answer to the end of data, or never
    seen because the server closes and the client's unread data makes it a reset. The server has to swallow the data
    and refuse at its end.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 2.1.0 Ok
    C: RCPT TO:<b@example.org>
    S: 250 2.1.5 Ok
    C: DATA
    S: 354 End data with <CR><LF>.<CR><LF>
    C: Subject: a very large message
    S: 552 5.3.4 Message too big        <- SD210
    C resets
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 2.1.0 Ok
    C: RCPT TO:<b@example.org>
    S: 250 2.1.5 Ok
    C: DATA
    S: 354 End data with <CR><LF>.<CR><LF>
    C: Subject: a very large message
    C: .
    S: 552 5.3.4 Message too big
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Innocent look-alikes
    421 may come at any time, and so may the time-outs that a known provider words otherwise. Packets are not always
    captured in the order they were sent: the reply counts as early only if the server had not received the end of the
    data when it sent it.
    """
    reply, data = exchange.reply, exchange.data
    if reply is None or reply.code == 421 or state.uncertain or not state.data_open:
        return
    entry = providers.meant(state.conversation, exchange) if exchange.command is None else None
    if entry is not None and entry.off_table:
        return
    if exchange.command is None:
        yield reply.began, f"{reply.code} comes before the end of the mail data"
    elif data is not None and not data.missing:
        early = not data.ended or (0 <= reply.acked < data.end and not data.odd_ends)
        if early:
            yield reply.began, f"{reply.code} comes before the end of the mail data"


@rule(
    id="SD211",
    on=Conversation,
    when=UNFINISHED | ODD_TRANSPORT,
    severity=Severity.NOTE,
    since="0.1",
    refs=("RFC 1047", "RFC 5321 §4.5.3.2.6", "RFC 5321 §6.1"),
)
def client_gone_before_final_reply(conversation: Conversation) -> Iterator[Said]:
    """The client closed between the end of the mail data and its reply.

    ## Why it matters
    The server may have taken the message and the client does not know: it will send it again, and the recipient has
    it twice. This is the classic cause of duplicates (RFC 1047); a client waits ten minutes here.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 2.1.0 Ok
    C: RCPT TO:<b@example.org>
    S: 250 2.1.5 Ok
    C: DATA
    S: 354 End data with <CR><LF>.<CR><LF>
    C: Subject: x
    C: .        <- SD211
    -- 30s --
    C closes
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 2.1.0 Ok
    C: RCPT TO:<b@example.org>
    S: 250 2.1.5 Ok
    C: DATA
    S: 354 End data with <CR><LF>.<CR><LF>
    C: Subject: x
    C: .
    -- 30s --
    S: 250 2.0.0 Ok
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Innocent look-alikes
    If the capture lost the reply, its bytes are missing and the rule is silent; a capture of one direction proves
    nothing either. A client that closes its sending half only, and goes on reading (Exim with PIPELINING), has not
    left: a reply after its FIN counts only if it was reset.
    """
    stream = conversation.stream
    if stream.closed_by is None or any(stream.missing) or conversation.joined_late or not stream.bytes[SERVER]:
        return
    gone = [t for t in (stream.fin_ns[CLIENT], stream.rst_ns[CLIENT]) if t is not None]
    if not gone or not conversation.exchanges:
        return
    left = min(gone)
    for exchange in reversed(conversation.exchanges[-4:]):
        data, reply = exchange.data, exchange.reply
        if data is None or not data.ended or data.at.ts_ns > left:
            continue
        if reply is None:
            yield (
                data.at,
                f"the client left {(left - data.at.ts_ns) / 1e9:.1f} s after the end of the mail data, unanswered",
            )
        elif 200 <= reply.code < 300 and reply.began.ts_ns > left and stream.rst_ns[CLIENT] is not None:
            yield (
                data.at,
                f"the client left before the {reply.code}: the message is taken and the client may send it again",
            )


@rule(
    id="SD212",
    on=Exchange,
    severity=Severity.NOTE,
    since="0.1",
    refs=("RFC 5322 §3.6",),
    verbs=CARRIERS,
    status="preview",
)
def message_without_date_or_from(exchange: Exchange) -> Iterator[Said]:
    """The message has no Date or no From header field.

    ## Why it matters
    Both are required of every message (RFC 5322 section 3.6), and content filters count their absence as a sign of
    spam. Submission servers add them; relays must not.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 2.1.0 Ok
    C: RCPT TO:<b@example.org>
    S: 250 2.1.5 Ok
    C: DATA
    S: 354 End data with <CR><LF>.<CR><LF>
    C: Subject: x
    C:
    C: hello
    C: .        <- SD212
    S: 250 2.0.0 Ok
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 2.1.0 Ok
    C: RCPT TO:<b@example.org>
    S: 250 2.1.5 Ok
    C: DATA
    S: 354 End data with <CR><LF>.<CR><LF>
    C: Date: Mon, 1 Jan 2024 00:00:00 +0000
    C: From: a@example.net
    C: Subject: x
    C:
    C: hello
    C: .
    S: 250 2.0.0 Ok
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Innocent look-alikes
    A mail client that submits a message may leave the date to its server.
    """
    data = exchange.data
    if data is None or not data.headers or data.missing or not data.ended:
        return
    names = {line.split(b":", 1)[0].strip().lower() for line in data.headers.splitlines() if b":" in line}
    missing = [name for name in ("Date", "From") if name.lower().encode() not in names]
    if missing:
        yield data.at, f"the message has no {' and no '.join(missing)} header field"
