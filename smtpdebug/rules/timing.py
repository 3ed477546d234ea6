"""Timing: who made whom wait, against RFC 5321 section 4.5.3.2."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from smtpdebug.model.findings import Severity
from smtpdebug.model.smtp import END_OF_DATA, GREETING, Conversation, Exchange, Reply
from smtpdebug.model.streams import CLIENT, SERVER
from smtpdebug.rules.registry import SLOW, UNASKED, UNFINISHED, WITH_TLS, Said, rule
from smtpdebug.rules.state import State

SECOND: Final = 1_000_000_000
MINUTE: Final = 60 * SECOND
CLIENT_PATIENCE: Final = {
    GREETING: 5 * MINUTE,
    "MAIL": 5 * MINUTE,
    "RCPT": 5 * MINUTE,
    "DATA": 2 * MINUTE,
    "BDAT": 10 * MINUTE,
    END_OF_DATA: 10 * MINUTE,
}
"""How long a client should wait at least: RFC 5321 4.5.3.2.1 to .6. BDAT LAST is the end of data."""
SERVER_PATIENCE: Final = 5 * MINUTE
"""How long a server should wait for the next command at least: 4.5.3.2.7."""
SLOW_GREETING: Final = 2 * SECOND
"""Above any round trip and one DNS look-up: the server holds the greeting back or waits for something."""
VERY_SLOW_GREETING: Final = 30 * SECOND
"""Many clients in use do not wait longer than this, whatever RFC 5321 asks of them."""
SLOW_REPLY: Final = 10 * SECOND
"""Twice the usual DNS time-out of five seconds: something the server asked did not answer."""
SLOW_FINAL_REPLY: Final = 30 * SECOND
"""Content filters take some seconds; clients with a time-out of their own give up from here on."""
SLOW_HANDSHAKE: Final = 5 * SECOND
STALL: Final = MINUTE
"""A client with a command to send sends it; a minute of silence is a stall, a person, or a connection kept open."""
TIMED_OUT: Final = 5 * SECOND
"""A client that goes away sooner was ended, not impatient."""
TIME_WORDS: Final = re.compile(r"time[d -]*out|idle|too slow|\b4\.4\.2\b|inactiv", re.IGNORECASE)


def _waits(wait_ns: int) -> str:
    return f"{wait_ns / SECOND:.1f} s"


@rule(
    id="SL101",
    on=Exchange,
    severity=Severity.NOTE,
    since="0.1",
    refs=("RFC 5321 §4.3.1", "RFC 5321 §4.5.3.2.1"),
    verbs={GREETING},
)
def greeting_slow(exchange: Exchange) -> Iterator[Said]:
    """The greeting takes more than two seconds.

    ## Why it matters
    The server waits for DNS, ident or a blocklist, holds the greeting back to catch programs that do not wait
    (postscreen: six seconds), or is overloaded. Every conversation pays for it.

    ## Example
    ```smtp
    -- 6s --
    S: 220 mx.example.org ESMTP        <- SL101
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Innocent look-alikes
    A pause on purpose is common and works against spam; hence a note. From thirty seconds on SL102 speaks.
    """
    if exchange.reply is None or exchange.wait_ns is None:
        return
    wait = exchange.wait_ns + exchange.reply.at.ts_ns - exchange.reply.began.ts_ns
    if SLOW_GREETING <= wait < VERY_SLOW_GREETING:
        yield exchange.reply.at, f"the greeting took {_waits(wait)}"


@rule(id="SL102", on=Exchange, severity=Severity.WARNING, since="0.1", refs=("RFC 5321 §4.5.3.2.1",), verbs={GREETING})
def greeting_very_slow(exchange: Exchange) -> Iterator[Said]:
    """The greeting takes more than thirty seconds.

    ## Why it matters
    RFC 5321 lets clients wait five minutes; many wait less and never deliver.

    ## Example
    ```smtp
    -- 36s --
    S: 220 mx.example.org ESMTP        <- SL102
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Innocent look-alikes
    A tarpit for clients of ill repute does this on purpose.
    """
    if exchange.reply is None or exchange.wait_ns is None:
        return
    wait = exchange.wait_ns + exchange.reply.at.ts_ns - exchange.reply.began.ts_ns
    if wait >= VERY_SLOW_GREETING:
        over = "; longer than the five minutes a client has to wait" if wait > CLIENT_PATIENCE[GREETING] else ""
        yield exchange.reply.at, f"the greeting took {_waits(wait)}{over}"


@rule(id="SL103", on=Conversation, when=UNFINISHED, severity=Severity.WARNING, since="0.1", refs=("RFC 5321 §4.5.3.2",))
def client_impatient(conversation: Conversation) -> Iterator[Said]:
    """The client gives up waiting for a reply earlier than RFC 5321 asks it to.

    ## Why it matters
    A busy server gets the same message again and again and is never quick enough; after the end of data it may have
    taken it, and the recipient has it several times.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>        <- SL103
    -- 20s --
    C closes
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    -- 20s --
    S: 250 2.1.0 Ok
    C: QUIT
    S: 221 2.0.0 Bye
    C closes
    ```

    ## Innocent look-alikes
    A client that is stopped or crashes goes away too; less than five seconds of waiting is not counted.
    """
    stream = conversation.stream
    if not (stream.closed_by or "").startswith("client") or any(stream.missing) or not stream.packets[SERVER]:
        return  # a capture of one direction shows no replies
    gone = [t for t in (stream.fin_ns[CLIENT], stream.rst_ns[CLIENT]) if t is not None]
    left = min(gone) if gone else stream.last.ts_ns
    # QUIT sent while another reply is due is a way of giving up.
    unanswered = [e for e in conversation.exchanges[-3:] if e.reply is None and e.command is not None]
    waiting = next((e for e in unanswered if e.command is not None and e.command.verb in CLIENT_PATIENCE), None)
    if waiting is None or waiting.command is None:
        return
    command = waiting.command
    if command.verb in (END_OF_DATA, "BDAT") and waiting.data is not None and not waiting.data.ended:
        return
    if command.verb == "BDAT" and not command.argument.upper().endswith("LAST"):
        return
    at = waiting.data.at if waiting.data is not None else command.at
    waited, least = left - at.ts_ns, CLIENT_PATIENCE[command.verb]
    if TIMED_OUT <= waited < least:
        yield (
            at,
            f"the client gave up after {_waits(waited)} without a reply to {command.verb}; "
            f"the least is {least // MINUTE} min",
        )


def _quiet_before(state: State, reply: Reply) -> int | None:
    """Nanoseconds of silence before a reply: since the last thing anybody said."""
    exchanges = state.conversation.exchanges
    heard: list[int] = []
    if state.index:
        before = exchanges[state.index - 1]
        if before.reply is not None:
            heard.append(before.reply.at.ts_ns)
        if before.command is not None:
            heard.append(before.command.at.ts_ns)
    data = exchanges[state.index].data if state.index < len(exchanges) else None
    if data is not None:
        heard.append(data.at.ts_ns)
    return reply.began.ts_ns - max(heard) if heard else None


@rule(
    id="SL104",
    on=Exchange,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 5321 §4.5.3.2.7",),
    verbs={UNASKED, END_OF_DATA, "BDAT"},
    replies={4},
)
def server_impatient(exchange: Exchange, state: State) -> Iterator[Said]:
    """The server ends the conversation for the client's silence after less than five minutes.

    ## Why it matters
    Servers should wait five minutes for the next command. A client that looks something up, or sends over a slow
    line, is cut off and has to begin again.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    -- 10s --
    S: 421 4.4.2 mx.example.org Error: timeout exceeded        <- SL104
    S closes
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    -- 300s --
    S: 421 4.4.2 mx.example.org Error: timeout exceeded
    S closes
    ```

    ## Innocent look-alikes
    421 has other reasons: load, shutdown, too many errors. Only a text or a 4.4.2 that speaks of time is counted.
    Servers under stress shorten their time-outs on purpose (Postfix: smtpd_timeout, ten seconds under stress).
    """
    reply = exchange.reply
    if reply is None or reply.code not in (421, 451) or state.uncertain:
        return
    if reply.enhanced != "4.4.2" and not TIME_WORDS.search(" ".join(reply.texts)):
        return
    if exchange.command is not None and (exchange.data is None or exchange.data.ended):
        return
    quiet = _quiet_before(state, reply)
    if quiet is not None and 0 < quiet < SERVER_PATIENCE - SECOND:
        yield reply.at, f"{reply.code} after {_waits(quiet)} of silence; a server should wait 5 min"


@rule(id="SL105", on=Exchange, severity=Severity.NOTE, since="0.1", refs=("RFC 5321 §4.5.3.2",), when=SLOW)
def reply_slow(exchange: Exchange) -> Iterator[Said]:
    """A reply takes more than ten seconds.

    ## Why it matters
    Something the server has to ask (DNS, a policy service, a directory, another server for a recipient) is slow or
    does not answer.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    -- 15s --
    S: 250 2.1.0 Ok        <- SL105
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
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Innocent look-alikes
    Servers slow refusals down on purpose. Greeting and end of data have rules of their own.
    """
    wait = exchange.wait_ns
    if wait is None or wait < SLOW_REPLY or exchange.reply is None or exchange.command is None:
        return
    verb = exchange.command.verb
    if verb in (GREETING, END_OF_DATA) or wait > CLIENT_PATIENCE.get(verb, 5 * MINUTE):
        return
    yield exchange.reply.at, f"the reply to {verb} took {_waits(wait)}"


@rule(id="SL106", on=Exchange, severity=Severity.WARNING, since="0.1", refs=("RFC 5321 §4.5.3.2",), when=SLOW)
def reply_beyond_client_patience(exchange: Exchange) -> Iterator[Said]:
    """A reply takes longer than a client has to wait.

    ## Why it matters
    After the time of RFC 5321 section 4.5.3.2 a client may go away; most have gone long before.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    -- 330s --
    S: 250 2.1.0 Ok        <- SL106
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
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Innocent look-alikes
    A suspended host, or a clock that was set, makes such a pause too.
    """
    wait = exchange.wait_ns
    if wait is None or wait < 2 * MINUTE or exchange.reply is None or exchange.command is None:
        return
    verb = exchange.command.verb
    least = CLIENT_PATIENCE.get(verb, 5 * MINUTE)
    if verb != GREETING and wait > least:
        yield exchange.reply.at, f"the reply to {verb} took {_waits(wait)}; a client has to wait {least // MINUTE} min"


@rule(
    id="SL107",
    on=Exchange,
    severity=Severity.NOTE,
    since="0.1",
    refs=("RFC 5321 §4.5.3.2.6", "RFC 1047"),
    verbs={END_OF_DATA},
)
def final_reply_slow(exchange: Exchange) -> Iterator[Said]:
    """The reply to the end of mail data takes more than thirty seconds.

    ## Why it matters
    This is the dangerous wait: a client that gives up now sends the message again although the server may have taken
    it. Servers "should seek to minimize" it (RFC 1047): queue first, filter later.

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
    C: .
    -- 45s --
    S: 250 2.0.0 Ok        <- SL107
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
    C: Subject: x
    C: .
    -- 5s --
    S: 250 2.0.0 Ok
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Innocent look-alikes
    A content filter before the queue needs some seconds for a large message.
    """
    wait = exchange.wait_ns
    if wait is not None and SLOW_FINAL_REPLY <= wait <= CLIENT_PATIENCE[END_OF_DATA] and exchange.reply is not None:
        yield exchange.reply.at, f"the reply to the end of mail data took {_waits(wait)}"


@rule(id="SL108", on=Exchange, severity=Severity.NOTE, since="0.1", refs=("RFC 5321 §4.5.3.2.7",), when=SLOW)
def client_stalled(exchange: Exchange, state: State) -> Iterator[Said]:
    """The client leaves the server waiting for more than a minute.

    ## Why it matters
    A server may end the conversation after five minutes, middleboxes forget it sooner. The client was busy with
    something else, or kept the connection for the next message.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    -- 90s --
    C: QUIT        <- SL108
    S: 221 2.0.0 Bye
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Innocent look-alikes
    A person typing, and connections kept open on purpose between messages.
    """
    command, before = exchange.command, state.previous
    if command is None or before is None or before.reply is None or state.uncertain or exchange.data is not None:
        return
    if command.verb in (GREETING, END_OF_DATA):
        return
    idle = command.began.ts_ns - before.reply.at.ts_ns
    if idle >= STALL:
        yield command.began, f"the client was silent for {_waits(idle)} before {command.verb or 'an empty line'}"


@rule(id="SL109", on=Conversation, when=WITH_TLS, severity=Severity.NOTE, since="0.1", refs=("RFC 8446 §4",))
def tls_handshake_slow(conversation: Conversation) -> Iterator[Said]:
    """The TLS handshake takes more than five seconds.

    ## Why it matters
    Two or three round trips and some milliseconds of arithmetic are all it needs. A side that takes longer waits for
    something: a certificate status service, a key in hardware, random numbers, or a free processor.

    ## Example
    ```facts
    [tls]
    version = "TLS 1.2"
    server_name = "mx.example.org"
    client_hello_ms = 10
    server_hello_ms = 8010
    finished_ms = 8020
    handshake_ms = 8010
    ```

    ## Instead
    ```facts
    [tls]
    version = "TLS 1.2"
    server_name = "mx.example.org"
    client_hello_ms = 10
    server_hello_ms = 20
    finished_ms = 30
    handshake_ms = 20
    ```

    ## Innocent look-alikes
    Lost segments of the certificate cost seconds too; then TCP's repetitions show.
    """
    facts = conversation.tls
    if facts is not None and facts.handshake_ns is not None and facts.handshake_ns >= SLOW_HANDSHAKE:
        at = facts.finished or facts.started
        yield at, f"the TLS handshake took {_waits(facts.handshake_ns)}"
