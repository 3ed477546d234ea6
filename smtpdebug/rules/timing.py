"""Timing: who made whom wait, against RFC 5321 section 4.5.3.2."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from smtpdebug.model.findings import Severity
from smtpdebug.model.smtp import END_OF_DATA, GREETING, Conversation, Exchange
from smtpdebug.rules.registry import SLOW, WITH_TLS, Said, rule

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
SLOW_GREETING: Final = 2 * SECOND
"""Above any round trip and one DNS look-up: the server holds the greeting back or waits for something."""
VERY_SLOW_GREETING: Final = 30 * SECOND
"""Many clients in use do not wait longer than this, whatever RFC 5321 asks of them."""
SLOW_REPLY: Final = 10 * SECOND
"""Twice the usual DNS time-out of five seconds: something the server asked did not answer."""
SLOW_FINAL_REPLY: Final = 30 * SECOND
"""Content filters take some seconds; clients with a time-out of their own give up from here on."""
SLOW_HANDSHAKE: Final = 5 * SECOND


def shown(wait_ns: int) -> str:
    """A wait in seconds, for people."""
    return f"{wait_ns / SECOND:.1f} s"


@rule(
    id="SL101",
    on=Exchange,
    severity=Severity.NOTE,
    since="0.1",
    when=SLOW,
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
        yield exchange.reply.at, f"the greeting took {shown(wait)}"


@rule(
    id="SL102",
    on=Exchange,
    severity=Severity.WARNING,
    since="0.1",
    when=SLOW,
    refs=("RFC 5321 §4.5.3.2.1",),
    verbs={GREETING},
)
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
        yield exchange.reply.at, f"the greeting took {shown(wait)}{over}"


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
    yield exchange.reply.at, f"the reply to {verb} took {shown(wait)}"


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
        yield exchange.reply.at, f"the reply to {verb} took {shown(wait)}; a client has to wait {least // MINUTE} min"


@rule(
    id="SL107",
    on=Exchange,
    severity=Severity.NOTE,
    since="0.1",
    when=SLOW,
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
        yield exchange.reply.at, f"the reply to the end of mail data took {shown(wait)}"


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
        yield at, f"the TLS handshake took {shown(facts.handshake_ns)}"
