"""Diagnoses of an open connection that stands still, and of how it ends."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from smtpdebug.model.smtp import END_OF_DATA, GREETING
from smtpdebug.model.streams import CLIENT, SERVER, Location, Side
from smtpdebug.rules.diagnosis.facts import MILLISECOND, SECOND, Facts, seconds, side_name
from smtpdebug.rules.diagnosis.path import STUCK_REPEATS
from smtpdebug.rules.diagnosis.registry import Confidence, Seen, Trigger, diagnosis

DELAYED_ACK = ((38 * MILLISECOND, 46 * MILLISECOND), (195 * MILLISECOND, 215 * MILLISECOND))
"""Delayed acknowledgements: 40 ms on Linux, 200 ms on Windows and BSD, with some milliseconds for the rest."""


STEPS_LEAST = 4


NAT_SILENCE = 60 * SECOND
"""The shortest idle time-out of a connection in middleboxes in use; RFC 5382 asks for two hours and four minutes."""


BALANCER = (340 * SECOND, 360 * SECOND)
"""AWS Network Load Balancer and connection tracking of current EC2 hosts forget after 350 s."""


@diagnosis("D13", name="receiver-stuck", on=Trigger.TCP)
def receiver_stuck(facts: Facts) -> Iterator[Seen]:
    """One side's program does not read what it is sent.

    ## Evidence
    Its TCP window falls to zero and stays there: the other side has to probe.

    ## What to do
    Look at that host: a program that hangs or waits for a disk, a filter or a scanner that takes its time.

    ## Otherwise
    The receive buffer is very small and closes for moments in any large message.

    ## Example
    ```facts
    [stream]
    zero_windows = [0, 2]
    bytes = [90000, 400]
    events = [
      { kind = "zero-window", side = "server", ms = 100 },
      { kind = "zero-window-probe", side = "client", ms = 400 },
      { kind = "window-open", side = "server", ms = 3100 },
    ]
    ```

    ## Silent
    ```facts
    [stream]
    zero_windows = [0, 1]
    bytes = [90000, 400]
    events = [
      { kind = "zero-window", side = "server", ms = 100 },
      { kind = "window-open", side = "server", ms = 130 },
    ]
    ```
    """
    stream = facts.stream
    for side in (CLIENT, SERVER):
        closings = list(_closings(facts, side)) if stream.zero_windows[side] else []
        took = sum(took for took, _, _ in closings)
        if took < SECOND:
            continue
        longest, closed, opened = max(closings, key=lambda closing: closing[0])
        often = f", {len(closings)} times, at most {seconds(longest)}" if len(closings) > 1 else ""
        yield Seen(
            f"The {side_name(side)} did not read for {seconds(took)} (TCP window 0{often})"
            + ("." if opened else ", to the end of the capture or connection."),
            Confidence.HIGH,
            (closed,),
        )


def _closings(facts: Facts, side: Side) -> Iterator[tuple[int, Location, bool]]:
    """Each time that a side closed its window: for how long, since when, and whether it opened again."""
    closed: Location | None = None
    for event in facts.stream.events:
        if event.side != side:
            continue
        if event.kind == "zero-window":
            closed = event.at
        elif event.kind == "window-open" and closed is not None:
            yield event.at.ts_ns - closed.ts_ns, closed, True
            closed = None
    if closed is not None:
        yield facts.stream.last.ts_ns - closed.ts_ns, closed, False


@diagnosis("D15", name="delayed-ack-stall", on=Trigger.MANY)
def delayed_ack(facts: Facts) -> Iterator[Seen]:
    """Each command waits for a delayed acknowledgement: Nagle's algorithm and small writes.

    ## Evidence
    Command lines or replies are written in two pieces, and the second is sent 40 ms (Linux) or 200 ms later, when the
    acknowledgement of the first arrives; or waits gather at these values on a short path.

    ## What to do
    Let the program write each command or reply at once, or set TCP_NODELAY.

    ## Otherwise
    The server itself needs that time for each command.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    -- 40ms --
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    -- 40ms --
    S: 250 2.1.0 Ok
    C: RCPT TO:<b@example.org>
    -- 40ms --
    S: 250 2.1.5 Ok
    C: RCPT TO:<c@example.org>
    -- 40ms --
    S: 250 2.1.5 Ok
    C: RCPT TO:<d@example.org>
    -- 40ms --
    S: 250 2.1.5 Ok
    C: RSET
    -- 40ms --
    S: 250 2.0.0 Ok
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Silent
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    -- 5ms --
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    -- 12ms --
    S: 250 2.1.0 Ok
    C: RCPT TO:<b@example.org>
    -- 19ms --
    S: 250 2.1.5 Ok
    C: RCPT TO:<c@example.org>
    -- 40ms --
    S: 250 2.1.5 Ok
    C: RCPT TO:<d@example.org>
    S: 250 2.1.5 Ok
    C: RSET
    S: 250 2.0.0 Ok
    C: QUIT
    S: 221 2.0.0 Bye
    ```
    """
    trip = facts.round_trip_ns
    if trip > 20 * MILLISECOND:
        return
    for low, high in DELAYED_ACK:
        split = [
            e
            for e in facts.conversation.exchanges
            if e.command is not None
            and e.command.verb not in (GREETING, END_OF_DATA)
            and low <= e.command.at.ts_ns - e.command.began.ts_ns <= high
        ]
        even = [
            e
            for e in facts.conversation.exchanges
            if e.command is not None
            and e.wait_ns is not None
            and low <= e.wait_ns <= high
            and e.command.verb not in (GREETING, END_OF_DATA)
        ]
        for found, sure, what in (
            (split, Confidence.HIGH, "commands arrive in two pieces"),
            (even, Confidence.LOW, "replies take"),
        ):
            if len(found) >= STEPS_LEAST and 2 * len(found) >= len(facts.conversation.exchanges) - 2:
                places = tuple(e.command.at for e in found[:5] if e.command is not None)
                yield Seen(
                    f"{len(found)} {what} about {seconds((low + high) // 2)} {'apart' if found is split else 'each'}: "
                    "the time of a delayed acknowledgement.",
                    sure,
                    places,
                )
                return


@diagnosis("D16", name="idle-connection-forgotten", on=Trigger.IDLE | Trigger.UNANSWERED)
def forgotten(facts: Facts) -> Iterator[Seen]:
    """A device on the way forgot the connection while it was silent.

    ## Evidence
    After a minute or more of silence the client speaks again, and gets a reset or no answer at all.

    ## What to do
    Keep idle connections shorter than the device's time-out, or turn TCP keep-alives on with a shorter interval. At
    about 350 seconds it is an AWS Network Load Balancer or connection tracking; NAT gateways reset, firewalls drop.

    ## Otherwise
    The server itself closed and its FIN was lost or dropped.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    -- 351s --
    C: MAIL FROM:<a@example.net>
    S resets
    ```

    ## Silent
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    -- 351s --
    C: QUIT
    S: 221 2.0.0 Bye
    ```
    """
    exchanges = facts.conversation.exchanges
    for before, exchange in pairwise(exchanges):
        command = exchange.command
        if command is None or exchange.reply is not None or before.reply is None:
            continue
        closed = facts.stream.fin_ns[SERVER]
        if before.reply.code == 421 or (closed is not None and closed < command.began.ts_ns):
            continue  # the server had closed it, and the capture shows it
        idle = command.began.ts_ns - before.reply.at.ts_ns
        reset = facts.stream.rst_ns[SERVER]
        lost = facts.stream.retransmissions[CLIENT] >= STUCK_REPEATS
        if idle < NAT_SILENCE or not (lost or (reset is not None and reset >= command.began.ts_ns)):
            continue
        balancer = BALANCER[0] <= idle <= BALANCER[1]
        how = "answered with a reset" if reset is not None else "sent again and again without an answer"
        yield Seen(
            f"After {seconds(idle)} of silence {command.verb} was {how}: a device on the way had forgotten the "
            f"connection{' (350 s is the time-out of AWS load balancers)' if balancer else ''}.",
            Confidence.HIGH if balancer else Confidence.MEDIUM,
            (before.reply.at, command.began),
        )
        return


@diagnosis("D18", name="reset-as-goodbye", on=Trigger.TCP)
def reset_as_goodbye(facts: Facts) -> Iterator[Seen]:
    """A reset at the very end of a finished conversation: harmless.

    ## Evidence
    RST after QUIT was answered, or after the other side's FIN, with nothing under way.

    ## What to do
    Nothing. A program that closes with unread data, or without waiting for the other side, causes it.

    ## Otherwise
    None: nothing was lost.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: QUIT
    S: 221 2.0.0 Bye
    C resets
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
    stream = facts.stream
    if not any(t is not None for t in stream.rst_ns) or not facts.quit or facts.conversation.tls is not None:
        return  # under TLS close_notify and FIN cross all the time
    last = next(
        (e for e in reversed(facts.conversation.exchanges) if e.command is not None and e.command.verb == "QUIT"), None
    )
    first = min(t for t in stream.rst_ns if t is not None)
    if last is not None and last.reply is not None and last.reply.code == 221 and first >= last.reply.at.ts_ns:
        who = "client" if stream.rst_ns[CLIENT] == first else "server"
        yield Seen(f"The {who} reset the connection after 221: rude, and harmless.", Confidence.HIGH, (last.reply.at,))


@diagnosis("D20", name="kept-alive-in-silence", on=Trigger.TCP)
def kept_alive(facts: Facts) -> Iterator[Seen]:
    """The connection was kept open in silence, by TCP keep-alives alone.

    ## Evidence
    Two or more keep-alive probes.

    ## What to do
    Find out which side's turn it was: that program is stuck, or keeps the connection for later.

    ## Otherwise
    The program uses short keep-alives by design and all is well.

    ## Example
    ```facts
    [stream]
    keep_alives = [3, 0]
    bytes = [50, 50]
    ```

    ## Silent
    ```facts
    [stream]
    keep_alives = [0, 0]
    bytes = [50, 50]
    ```
    """
    stream = facts.stream
    for side in (CLIENT, SERVER):
        if stream.keep_alives[side] >= 2:
            event = next((e for e in stream.events if e.kind == "keep-alive" and e.side == side), None)
            yield Seen(
                f"The {side_name(side)} kept a silent connection open with {stream.keep_alives[side]} keep-alives.",
                Confidence.LOW,
                (event.at if event is not None else stream.last,),
            )
