"""Commands sent without waiting for replies (RFC 5321 section 4.3.1, RFC 2920)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from smtpdebug.model.findings import Severity
from smtpdebug.model.smtp import AFTER_GAP, END_OF_DATA, GREETING, Command, Exchange
from smtpdebug.rules.registry import NO_RECIPIENT, PIPELINED, Said, rule
from smtpdebug.rules.state import State
from smtpdebug.rules.table import shown_verb

_LAST_IN_GROUP: Final = frozenset({"EHLO", "DATA", "VRFY", "EXPN", "TURN", "QUIT", "NOOP", "AUTH"})
"""RFC 2920 3.1, and AUTH by RFC 4954 4. STARTTLS, where more than order is at stake, has rules of its own."""
_EARLY: Final = frozenset({"PIPECONNECT", "X_PIPE_CONNECT"})
"""Exim's offer to pipeline across EHLO."""
_GAVE_UP_NS: Final = 10_000_000_000
"""A command this long after the one before it is no pipelining: the client stopped waiting for the reply."""
_ORDER_NS: Final = 1_000_000
"""Packets captured in the wrong order are closer together than this."""


def _in_a_hurry(exchange: Exchange, state: State) -> list[Exchange]:
    """The unanswered exchanges that the command did not wait for, if it is beyond doubt; else nothing."""
    command = exchange.command
    if command is None or not command.outstanding or command.verb.startswith("("):
        return []
    if state.uncertain or state.lossy or command.oddities & AFTER_GAP or state.extensions.keys() & _EARLY:
        return []
    waiting = [e for e in state.in_flight(exchange) if e.command is not None]
    if not waiting or _sent_after(waiting[-1].command, command):
        return []
    answer = waiting[-1].reply
    if command.acked < 0 and answer is not None and answer.at.ts_ns - command.began.ts_ns < _ORDER_NS:
        return []  # inside TLS there is no acknowledgement to go by, and capture order is not wire order
    return waiting


def _sent_after(before: Command | None, command: Command) -> bool:
    return before is None or command.began.ts_ns - before.at.ts_ns > _GAVE_UP_NS


@rule(
    id="SC113",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 5321 §4.3.1", "RFC 2920 §3.1"),
    security=True,
    when=PIPELINED,
)
def pipelining_not_offered(exchange: Exchange, state: State) -> Iterator[Said]:
    """A command sent before the reply to the one before, though the server did not offer PIPELINING.

    ## Why it matters
    The client must wait for each reply. A server that does not expect more may throw the rest of the packet away, and
    servers take it for a spammer's habit (postscreen: "improper command pipelining").

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    C: RCPT TO:<b@example.org>                    <- SC113
    S: 250 OK
    S: 250 OK
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 PIPELINING
    C: MAIL FROM:<a@example.net>
    C: RCPT TO:<b@example.org>
    S: 250 OK
    S: 250 OK
    ```

    ## Innocent look-alikes
    Replies captured after the command that answers them: what counts is what the client had acknowledged. A client
    that gave up waiting, ten seconds later. Everything before the first EHLO is the early talker's rule. Exim's
    PIPECONNECT.
    """
    waiting = _in_a_hurry(exchange, state)
    if not waiting or not state.helo_tried or state.offers("PIPELINING"):
        return
    verbs = {e.command.verb for e in waiting if e.command is not None}
    assert exchange.command is not None
    if not verbs & (_LAST_IN_GROUP | {GREETING}):
        yield exchange.command.at, f"{shown_verb(exchange.command)} sent without waiting, PIPELINING was not offered"


@rule(
    id="SC114", on=Exchange, severity=Severity.ERROR, since="0.1", refs=("RFC 2920 §3.1", "RFC 4954 §4"), when=PIPELINED
)
def pipelined_after_synchronising_command(exchange: Exchange, state: State) -> Iterator[Said]:
    """A command pipelined behind one that must be the last of its group: EHLO, DATA, VRFY, EXPN, QUIT, NOOP or AUTH.

    ## Why it matters
    The replies to these change what may come next: after EHLO the list of extensions, after DATA the mail data.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    C+ MAIL FROM:<a@example.net>                  <- SC114
    S: 250 mx.example.org
    S: 250 OK
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
    QUIT or a new transaction in the packet with the end of mail data: allowed, Postfix does it. BDAT may be followed
    by anything. Exim's PIPECONNECT. A client that gave up waiting.
    """
    waiting = _in_a_hurry(exchange, state)
    if not waiting or exchange.command is None:
        return
    behind = waiting[-1].command
    if behind is not None and behind.verb in _LAST_IN_GROUP:
        yield exchange.command.at, f"{shown_verb(exchange.command)} sent without waiting for the reply to {behind.verb}"


@rule(
    id="SC111",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 5321 §3.3",),
    verbs=(END_OF_DATA,),
)
def message_sent_before_354(exchange: Exchange, state: State) -> Iterator[Said]:
    """Mail data sent before the server answered DATA with 354.

    ## Why it matters
    "Message data MUST NOT be sent unless a 354 reply is received." Had the server refused, it would have read the
    message as commands.

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
    C: Subject: hello
    C:
    C: hello
    -- 50ms --
    S: 354 go ahead
    C: .                                          <- SC111
    S: 250 OK
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
    Two packets captured in the wrong order are microseconds apart: five milliseconds are asked for, but where DATA and
    the beginning of the message are in one packet.
    """
    previous, data, command = state.previous, exchange.data, exchange.command
    if previous is None or data is None or command is None or state.lossy or state.uncertain or not data.wire_bytes:
        return
    if previous.command is None or previous.command.verb != "DATA" or previous.reply is None:
        return
    began, asked = data.began, previous.command.at
    together = (began.capture, began.frame) == (asked.capture, asked.frame)
    if previous.reply.code != 354 or not (together or began.ts_ns + 5_000_000 < previous.reply.began.ts_ns):
        return
    if any(e.data is not None and e.data.odd_ends for e in state.conversation.exchanges[: state.index]):
        return  # smuggled: the client sent one message, the server saw two
    yield command.at, "the mail data began before 354 came"


@rule(
    id="SC134",
    on=Exchange,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 2920 §3.1",),
    verbs=(END_OF_DATA,),
    when=NO_RECIPIENT,
)
def message_sent_to_nobody(exchange: Exchange, state: State) -> Iterator[Said]:
    """A whole message sent though every recipient of it was refused.

    ## Why it matters
    When the server says 354 all the same, the client is to send a lone dot: RFC 2920 §3.1. A server that delivers
    what it gets has nobody to deliver to.

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
    S: 354 go ahead
    C: Subject: hello
    C:
    C: hello
    C: .                                          <- SC134
    S: 554 no valid recipients
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
    S: 354 go ahead
    C: .
    S: 554 no valid recipients
    ```

    ## Innocent look-alikes
    A capture that lost replies to RCPT.
    """
    command, data = exchange.command, exchange.data
    if command is None or data is None or state.uncertain or state.lossy or state.lmtp or not state.data_open:
        return
    if state.rcpt_refused and not state.rcpt_accepted and data.bytes:
        yield command.at, "a message although every recipient was refused"
