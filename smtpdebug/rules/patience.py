"""Timing: who gave up waiting, and who was silent (RFC 5321 section 4.5.3.2)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from smtpdebug.model.findings import Severity
from smtpdebug.model.smtp import END_OF_DATA, GREETING, Conversation, Exchange, Reply
from smtpdebug.model.streams import CLIENT, SERVER
from smtpdebug.rules.registry import SLOW, UNASKED, UNFINISHED, Said, rule
from smtpdebug.rules.state import State
from smtpdebug.rules.timing import CLIENT_PATIENCE, MINUTE, SECOND, shown

SERVER_PATIENCE: Final = 5 * MINUTE
"""How long a server should wait for the next command at least: 4.5.3.2.7."""


STALL: Final = MINUTE
"""A client with a command to send sends it; a minute of silence is a stall, a person, or a connection kept open."""


TIMED_OUT: Final = 5 * SECOND
"""A client that goes away sooner was ended, not impatient."""


TIME_WORDS: Final = re.compile(r"time[d -]*out|idle|too slow|\b4\.4\.2\b|inactiv", re.IGNORECASE)


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
            f"the client gave up after {shown(waited)} without a reply to {command.verb}; "
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
        yield reply.at, f"{reply.code} after {shown(quiet)} of silence; a server should wait 5 min"


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
        yield command.began, f"the client was silent for {shown(idle)} before {command.verb or 'an empty line'}"
