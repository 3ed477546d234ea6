"""Diagnoses of the open connection: loss, stalls, time-outs on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from smtpdebug.model.smtp import END_OF_DATA, GREETING
from smtpdebug.model.streams import CLIENT, SERVER, Side, TcpEvent
from smtpdebug.rules.diagnosis.facts import MILLISECOND, SECOND, Facts, seconds, side_name
from smtpdebug.rules.diagnosis.registry import Confidence, Seen, Trigger, diagnosis

LOSS_SHARE = 0.02
"""Share of packets sent again above which loss slows a conversation down: TCP halves its window at each."""
LOSS_LEAST = 3
"""Fewer repetitions are chance."""
FULL_SEGMENT = 1000
"""Bytes of a segment that a path with too small an MTU may not carry; no path has an MTU below 1000 today."""
STUCK_REPEATS = 2
"""Repetitions of the same full segment before it counts as stuck."""
DELAYED_ACK = ((38 * MILLISECOND, 46 * MILLISECOND), (195 * MILLISECOND, 215 * MILLISECOND))
"""Delayed acknowledgements: 40 ms on Linux, 200 ms on Windows and BSD, with some milliseconds for the rest."""
STEPS_LEAST = 4
NAT_SILENCE = 60 * SECOND
"""The shortest idle time-out of a connection in middleboxes in use; RFC 5382 asks for two hours and four minutes."""
BALANCER = (340 * SECOND, 360 * SECOND)
"""AWS Network Load Balancer and connection tracking of current EC2 hosts forget after 350 s."""


def _repeated(facts: Facts, side: Side) -> list[TcpEvent]:
    return [e for e in facts.stream.events if e.kind == "retransmission" and e.side == side]


@diagnosis("D09", name="packet-loss", on=Trigger.TCP)
def loss(facts: Facts) -> Iterator[Seen]:
    """The network loses packets between the capture and one side.

    ## Evidence
    Three or more segments of one side came again, two of a hundred or more of its packets.

    ## What to do
    Look at the interface counters, the duplex setting and the load of the links on the way; measure with mtr.

    ## Otherwise
    The acknowledgements are lost rather than the data, or late so that they are taken for lost.

    ## Example
    ```facts
    [stream]
    retransmissions = [9, 0]
    packets = [100, 80]
    bytes = [100000, 500]
    ```

    ## Silent
    ```facts
    [stream]
    retransmissions = [1, 0]
    packets = [100, 80]
    bytes = [100000, 500]
    ```
    """
    stream = facts.stream
    if facts.captured_twice:
        return
    for side in (CLIENT, SERVER):
        count, packets = stream.retransmissions[side], max(stream.packets[side], 1)
        if count >= LOSS_LEAST and count / packets >= LOSS_SHARE and not _stuck(facts, side):
            places = tuple(e.at for e in _repeated(facts, side)[:5]) or (stream.opened,)
            yield Seen(
                f"{count} of {packets} packets of the {side_name(side)} were sent again: packets are lost on the way.",
                Confidence.MEDIUM,
                places,
            )


@diagnosis("D11", name="capture-lossy", on=Trigger.TCP)
def capture_lossy(facts: Facts) -> Iterator[Seen]:
    """The capture lacks packets that the network delivered.

    ## Evidence
    Bytes are missing that were never sent again, and the other side acknowledged them.

    ## What to do
    Capture again with a larger buffer (``tcpdump -B 16384``), the full length (``-s 0``), a tighter filter, or on the
    host itself; look at "packets dropped by kernel" that tcpdump prints at its end.

    ## Otherwise
    The packets took another interface or path than the captured one.

    ## Example
    ```facts
    [stream]
    missing = [0, 2896]
    bytes = [500, 3000]
    ```

    ## Silent
    ```facts
    [stream]
    missing = [0, 0]
    bytes = [500, 3000]
    ```
    """
    stream = facts.stream
    for side in (CLIENT, SERVER):
        if stream.missing[side]:
            yield Seen(
                f"{stream.missing[side]} bytes of the {side_name(side)} are not in the capture, though they were "
                "delivered: the capture lost them, not the network.",
                Confidence.HIGH,
                (stream.last,),
            )


@diagnosis("D91", name="packets-captured-twice", on=Trigger.TCP)
def captured_twice(facts: Facts) -> Iterator[Seen]:
    """Packets are in the capture twice; the network did not send them twice.

    ## Evidence
    SYN or SYN-ACK is repeated within a fifth of a second; TCP repeats them after a second at the earliest.

    ## What to do
    Capture on one interface rather than on "any" where packets pass several (bridges, VLANs, containers), or take the
    doubles out with ``editcap -d``. Counts of repeated packets mean nothing here.

    ## Otherwise
    A switch or tunnel in the path really doubles packets.

    ## Example
    ```facts
    [stream]
    syn_ms = 0
    last_syn_ms = 0.1
    syn_ack_ms = 1
    established_ms = 2
    syn_retransmissions = 1
    syn_ack_retransmissions = 1
    retransmissions = [9, 9]
    packets = [20, 20]
    bytes = [100, 100]
    ```

    ## Silent
    ```facts
    [stream]
    syn_ms = 0
    last_syn_ms = 1000
    syn_ack_ms = 1001
    established_ms = 1002
    syn_retransmissions = 1
    bytes = [100, 100]
    ```
    """
    if facts.captured_twice:
        yield Seen(
            "The capture holds packets twice: repeated SYN packets come sooner than TCP would repeat them.",
            Confidence.HIGH,
            (facts.stream.opened,),
        )


def _stuck(facts: Facts, side: Side) -> TcpEvent | None:
    """The last repetition of a full segment that was sent again and again and never got through."""
    large = [e for e in _repeated(facts, side) if e.length >= FULL_SEGMENT]
    if len(large) < STUCK_REPEATS:
        return None
    offset, count = Counter(e.offset for e in large).most_common(1)[0]
    if count < STUCK_REPEATS or any(e.offset > offset + e.length for e in large):
        return None
    last = [e for e in large if e.offset == offset][-1]
    ended_there = facts.stream.bytes[side] + facts.stream.missing[side] <= offset + 8 * max(last.length, FULL_SEGMENT)
    return last if ended_there and not (facts.quit and not facts.unanswered) else None


@diagnosis("D12", name="mtu-black-hole", on=Trigger.TCP)
def black_hole(facts: Facts) -> Iterator[Seen]:
    """Full-size packets do not get through, small ones do: the path's MTU is smaller than the sender believes.

    ## Evidence
    A segment of 1000 bytes or more is sent again and again and never acknowledged, typically the certificate of the
    server or the first block of mail data, while the small packets of the conversation before it passed.

    ## What to do
    Set the MTU of the sending host's interface to 1500 or less (jumbo frames and tunnels are the usual cause), clamp
    the MSS on the router (``--clamp-mss-to-pmtu``), and let ICMP "fragmentation needed" pass through firewalls.

    ## Otherwise
    The path broke in that moment for packets of any size, or a filter does not like the content of that packet.

    ## Example
    ```facts
    [stream]
    bytes = [6000, 400]
    packets = [20, 12]
    retransmissions = [3, 0]
    events = [
      { kind = "retransmission", side = "client", offset = 120, length = 1448, ms = 300 },
      { kind = "retransmission", side = "client", offset = 120, length = 1448, ms = 900 },
      { kind = "retransmission", side = "client", offset = 120, length = 1448, ms = 2100 },
    ]
    ```

    ## Silent
    ```facts
    [stream]
    bytes = [6000, 400]
    packets = [20, 12]
    retransmissions = [2, 0]
    events = [
      { kind = "retransmission", side = "client", offset = 120, length = 90, ms = 300 },
      { kind = "retransmission", side = "client", offset = 120, length = 90, ms = 900 },
    ]
    ```
    """
    for side in (CLIENT, SERVER):
        event = _stuck(facts, side)
        if event is None:
            continue
        told = next((e for e in facts.stream.events if e.kind == "unreachable" and e.side == side), None)
        icmp = (
            " ICMP asks for smaller packets, and the sender does not heed it."
            if told is not None
            else " No ICMP tells the sender to make them smaller."
        )
        times = sum(1 for e in _repeated(facts, side) if e.offset == event.offset)
        yield Seen(
            f"A packet of {event.length} bytes from the {side_name(side)} was sent {times + 1} times and never "
            f"acknowledged, while smaller ones passed.{icmp}",
            Confidence.HIGH if times > STUCK_REPEATS else Confidence.MEDIUM,
            (event.at,),
        )


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
        if not stream.zero_windows[side]:
            continue
        closed = next((e for e in stream.events if e.kind == "zero-window" and e.side == side), None)
        if closed is None:
            continue
        opened = next(
            (e for e in stream.events if e.kind == "window-open" and e.side == side and e.at.ts_ns >= closed.at.ts_ns),
            None,
        )
        until = opened.at.ts_ns if opened is not None else stream.last.ts_ns
        if until - closed.at.ts_ns >= SECOND:
            yield Seen(
                f"The {side_name(side)} did not read for {seconds(until - closed.at.ts_ns)} (TCP window 0)"
                + ("." if opened is not None else ", to the end of the capture or connection."),
                Confidence.HIGH,
                (closed.at,),
            )


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
