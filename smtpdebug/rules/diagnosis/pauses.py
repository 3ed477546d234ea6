"""Diagnoses of waits: who made whom wait, and what may come of it."""

from __future__ import annotations

from collections.abc import Iterator

from smtpdebug.model.smtp import END_OF_DATA, Exchange
from smtpdebug.model.streams import CLIENT, SERVER, Location
from smtpdebug.rules.diagnosis.facts import CLEAR_PORTS, IDLE_NS, SECOND, Facts, seconds
from smtpdebug.rules.diagnosis.path import STUCK_REPEATS, stuck
from smtpdebug.rules.diagnosis.registry import Confidence, Seen, Trigger, diagnosis
from smtpdebug.rules.scope import one_direction
from smtpdebug.rules.unserved import closed_unserved

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
    late = _taken_and_unheard(facts)
    if late is not None and late.data is not None and late.reply is not None:
        yield Seen(
            f"The client was gone when the server said {late.reply.code} to the end of the mail data: it has not heard "
            "that the message was taken, and it will come twice.",
            Confidence.HIGH,
            (late.data.at, late.reply.began),
        )
        return
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


def _taken_and_unheard(facts: Facts) -> Exchange | None:
    """The last message, where the server took it and the client left before it can have had the reply.

    It closed before, and reset what came then; or the reply was sent again and the client reset the connection.
    """
    stream, exchanges = facts.stream, facts.conversation.exchanges
    last = exchanges[-1] if exchanges else None
    if last is None or last.data is None or not last.data.ended or last.reply is None or last.reply.code >= 300:
        return None
    reset = stream.rst_ns[CLIENT]
    if reset is None or any(stream.missing):
        return None
    again = facts.arrived(SERVER, last.reply)
    gone = min(t for t in (stream.fin_ns[CLIENT], reset) if t is not None)
    return last if gone < last.reply.began.ts_ns or last.reply.at.ts_ns < again < reset else None


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
            closed = facts.stream.fin_ns[SERVER]  # from there on it does not wait
            until = command.began.ts_ns if closed is None else min(closed, command.began.ts_ns)
            idle = until - before.at.ts_ns
            if idle > IDLE_NS and (idle := until - facts.arrived(SERVER, before)) > IDLE_NS:
                longest = max(longest, idle)
                places.append(command.began)
        before = reply  # while a command has no reply it is the server's turn
    yield from _pauses_in_data(facts)
    if places:
        yield Seen(
            f"The client made the server wait {len(places)} times, at most {seconds(longest)}.",
            Confidence.MEDIUM,
            tuple(places[:5]),
        )


def _pauses_in_data(facts: Facts) -> Iterator[Seen]:
    """Silences amid mail data that neither the server's window nor the path explains."""
    stream = facts.stream
    if stream.zero_windows[SERVER] or stream.retransmissions[CLIENT] or stream.missing[CLIENT]:
        return
    for exchange in facts.conversation.exchanges:
        data = exchange.data
        if data is not None and data.pause_ns > IDLE_NS:
            yield Seen(
                f"The client paused for {seconds(data.pause_ns)} in the middle of the mail data.",
                Confidence.MEDIUM,
                (data.began, data.at),
            )
            return


def _left_before(facts: Facts, last: Exchange) -> bool:
    """Whether the client was gone before the last reply: then it was not done."""
    gone = facts.stream.fin_ns[CLIENT]
    return gone is not None and last.reply is not None and gone < last.reply.began.ts_ns


@diagnosis("D92", name="server-silent", on=Trigger.UNANSWERED | Trigger.UNOPENED)
def silent_server(facts: Facts) -> Iterator[Seen]:
    """The server is there and does not answer.

    ## Evidence
    The connection is open, nothing is missing or sent again, and ten seconds or more after the connection opened there
    is no greeting; or after a command no reply, until somebody leaves.

    ## What to do
    Look in the server's log, and at its processes: all of them busy, a look-up that hangs (DNS, a directory, a policy
    service, a scanner), or something between the two that takes connections for a server which is down.

    ## Otherwise
    The client gave up sooner than the server needs (RFC 5321 section 4.5.3.2 asks for five minutes).

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    -- 30s --
    C: QUIT
    C closes
    ```

    ## Silent
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    -- 8s --
    S: 250 2.1.0 Ok
    C: QUIT
    S: 221 2.0.0 Bye
    ```
    """
    stream, tls = facts.stream, facts.conversation.tls
    if any(stream.missing) or one_direction(stream) or stuck(facts, CLIENT) is not None or stream.zero_windows[SERVER]:
        return
    if stream.retransmissions[CLIENT] >= STUCK_REPEATS or stream.syn_ack_ns is None:
        return  # the path, rather
    if tls is not None and not tls.decrypted:
        return
    awaited = _awaited(facts)
    if awaited is None:
        return
    what, since, at = awaited
    ends = [t for t in (*stream.fin_ns, *stream.rst_ns) if t is not None and t >= since]
    later = [e.command.began.ts_ns for e in facts.conversation.exchanges if e.command and e.command.began.ts_ns > since]
    until = min([*ends, *later, stream.last.ts_ns])
    if until - since >= IDLE_NS:
        first = min(ends, default=None)
        who = "" if first is None else "client" if first in (stream.fin_ns[CLIENT], stream.rst_ns[CLIENT]) else "server"
        end = f"; then the {who} closed" if who else "; the capture ends so"
        yield Seen(f"The server {what} for {seconds(until - since)}{end}.", Confidence.MEDIUM, (at, stream.last))


def _awaited(facts: Facts) -> tuple[str, int, Location] | None:
    """What the server owes: its greeting, or the first reply that never came; since when, and where that was asked."""
    stream = facts.stream
    if not stream.bytes[SERVER]:
        if stream.server.port not in CLEAR_PORTS or closed_unserved(facts.conversation) is not None:
            return None
        return "did not greet", stream.established_ns or stream.syn_ack_ns or stream.opened.ts_ns, stream.opened
    for exchange in facts.unanswered[:1]:
        command = exchange.command
        if command is None or command.verb not in _TIMED - {"QUIT"} or command.oddities or exchange.data is not None:
            return None
        return f"did not answer {command.verb}", facts.arrived(CLIENT, command), command.at
    return None


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
    if _taken_and_unheard(facts) is not None or _left_before(facts, last):
        return
    if (
        last.command is not None
        and last.reply is not None
        and last.command.verb in (END_OF_DATA, "BDAT", "EHLO", "RSET")
    ):
        yield Seen(
            "The client closed without QUIT when it was done.", Confidence.MEDIUM, (last.reply.at, facts.stream.last)
        )
