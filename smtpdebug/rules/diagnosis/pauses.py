"""Diagnoses of waits: who made whom wait, and what may come of it."""

from __future__ import annotations

from collections.abc import Iterator

from smtpdebug.model.smtp import END_OF_DATA, Exchange
from smtpdebug.model.streams import CLIENT, SERVER
from smtpdebug.rules.diagnosis.facts import IDLE_NS, SECOND, Facts, seconds
from smtpdebug.rules.diagnosis.registry import Confidence, Seen, Trigger, diagnosis

FINAL_REPLY_NS = 10 * SECOND
"""Content filters take seconds; from ten on clients with short time-outs are at risk."""
_TIMED = frozenset(
    {"EHLO", "HELO", "LHLO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "BDAT", "RSET", "VRFY", "EXPN", "NOOP", "QUIT"}
)
"""Other verbs may be mail data that a hole in the capture made look like commands."""
REPLY_NS = 5 * SECOND
"""One DNS query given up: the shortest wait that has a cause worth looking for."""


@diagnosis("D59", name="slow-after-mail-data", on=Trigger.WAIT | Trigger.UNANSWERED)
def slow_after_data(facts: Facts) -> Iterator[Seen]:
    """The server takes long to answer the end of the mail data: duplicates threaten.

    ## Evidence
    Ten seconds or more from the final dot to the reply; worse if the client closed before it.

    ## What to do
    On the server let filters run after the message is queued, or faster. On the client raise the time-out for this
    step to ten minutes (RFC 5321 section 4.5.3.2.6). If the client closed first look for the same Message-ID twice.

    ## Otherwise
    The last segments of the message were lost and came late. The reply is not in the capture: where bytes of the server
    are missing, or the capture ends when the client has just shut its side behind QUIT (Exim does), nothing is said.

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
    -- 25s --
    C closes
    ```

    ## Silent
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
    -- 1s --
    S: 250 2.0.0 Ok
    C: QUIT
    S: 221 2.0.0 Bye
    ```
    """
    for exchange in facts.slow:
        command, reply = exchange.command, exchange.reply
        if command is None or reply is None or exchange.data is None or (exchange.wait_ns or 0) < FINAL_REPLY_NS:
            continue
        if exchange.data.ended and reply.code != 421:
            yield Seen(
                f"The reply to the end of the mail data took {seconds(exchange.wait_ns or 0)}.",
                Confidence.HIGH,
                (exchange.data.at, reply.began),
            )
    if facts.stream.missing[SERVER] or _listens_still(facts):
        return
    for exchange in facts.unanswered[-2:]:
        data = exchange.data
        if data is None or not data.ended or not (facts.stream.closed_by or "").startswith("client"):
            continue
        gone = [t for t in (facts.stream.fin_ns[CLIENT], facts.stream.rst_ns[CLIENT]) if t is not None]
        left = (min(gone) if gone else facts.stream.last.ts_ns) - data.at.ts_ns
        yield Seen(
            f"The client closed {seconds(left)} after the end of the mail data without a reply: if the server took the "
            "message it will come twice.",
            Confidence.HIGH,
            (data.at, facts.stream.last),
        )


def _listens_still(facts: Facts) -> bool:
    """Whether the client shut its side behind QUIT and waits for replies, as Exim does, when the capture ends."""
    stream = facts.stream
    ended = [*stream.rst_ns, stream.fin_ns[SERVER]]
    return facts.quit and all(when is None for when in ended)


@diagnosis("D85", name="server-slow", on=Trigger.WAIT)
def server_slow(facts: Facts) -> Iterator[Seen]:
    """The server takes seconds to answer commands.

    ## Evidence
    Replies that took five seconds or more; the commands are named.

    ## What to do
    MAIL and RCPT that are slow: look-ups of the sender, blocklists, policy services, callouts, a directory. AUTH: the
    password check. EHLO: DNS of the client. Look in the server's log for what it waited for.

    ## Otherwise
    The server slows down a client it does not trust, or after errors.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    -- 6s --
    S: 250 2.1.0 Ok
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Silent
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    -- 1s --
    S: 250 2.1.0 Ok
    C: QUIT
    S: 221 2.0.0 Bye
    ```
    """
    slow = [e for e in facts.slow if e.command is not None and e.command.verb in _TIMED and _waited(facts, e)]
    if not slow:
        return
    verbs = ", ".join(f"{e.command.verb} {seconds(e.wait_ns or 0)}" for e in slow[:4] if e.command is not None)
    errors = sum(1 for e in slow if e.reply is not None and e.reply.code >= 400)
    yield Seen(
        f"The server is slow: {verbs}{'' if len(slow) <= 4 else f', and {len(slow) - 4} more'}.",
        Confidence.LOW if errors == len(slow) else Confidence.MEDIUM,
        tuple(e.reply.began for e in slow[:5] if e.reply is not None),
    )


def _waited(facts: Facts, exchange: Exchange) -> bool:
    """Whether the server took so long from when it can have had the command; the network may have lost it first."""
    command, reply = exchange.command, exchange.reply
    if command is None or reply is None or (exchange.wait_ns or 0) < REPLY_NS:
        return False
    return reply.began.ts_ns - facts.arrived(CLIENT, command) >= REPLY_NS


@diagnosis("D86", name="client-slow", on=Trigger.IDLE)
def client_slow(facts: Facts) -> Iterator[Seen]:
    """The client makes the server wait.

    ## Evidence
    Ten seconds or more between a reply and the next command.

    ## What to do
    Look at what the client does in that time: DNS, a lock, a person at the keyboard, a connection kept for the next
    message.

    ## Otherwise
    The reply reached the client late; a capture at the client tells.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    -- 20s --
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Silent
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: QUIT
    S: 221 2.0.0 Bye
    ```
    """
    longest, places = 0, []
    before = None
    for exchange in facts.conversation.exchanges:
        command, reply = exchange.command, exchange.reply
        if command is not None and before is not None and exchange.data is None:
            idle = command.began.ts_ns - facts.arrived(SERVER, before)
            if idle > IDLE_NS:
                longest = max(longest, idle)
                places.append(command.began)
        before = reply  # while a command has no reply it is the server's turn
    if places:
        yield Seen(
            f"The client made the server wait {len(places)} times, at most {seconds(longest)}.",
            Confidence.MEDIUM,
            tuple(places[:5]),
        )


@diagnosis("D74", name="left-without-quit", on=Trigger.UNANSWERED)
def without_quit(facts: Facts) -> Iterator[Seen]:
    """The client closes when it is done, without saying QUIT.

    ## Evidence
    FIN or RST of the client with no command unanswered, no transaction open, and no QUIT.

    ## What to do
    Harmless for the mail; mend the client if it is your own: the server logs "lost connection" for each.

    ## Otherwise
    The client was stopped.

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
    S: 250 2.0.0 Ok
    C closes
    ```

    ## Silent
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: QUIT
    S: 221 2.0.0 Bye
    C closes
    ```
    """
    if facts.quit or facts.unanswered or not (facts.stream.closed_by or "").startswith("client"):
        return
    exchanges = facts.conversation.exchanges
    tls = facts.conversation.tls
    if not exchanges or any(facts.stream.missing) or (tls is not None and not tls.decrypted):
        return
    last = exchanges[-1]
    if (
        last.command is not None
        and last.reply is not None
        and last.command.verb in (END_OF_DATA, "BDAT", "EHLO", "RSET")
    ):
        yield Seen(
            "The client closed without QUIT when it was done.", Confidence.MEDIUM, (last.reply.at, facts.stream.last)
        )
