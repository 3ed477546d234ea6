"""Diagnoses of the open connection: loss, stalls, time-outs on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from smtpdebug.model.streams import CLIENT, SERVER, Gap, Side, TcpEvent
from smtpdebug.rules.diagnosis.facts import Facts, side_name
from smtpdebug.rules.diagnosis.registry import Confidence, Seen, Trigger, diagnosis

LOSS_SHARE = 0.02
"""Share of packets sent again above which loss slows a conversation down: TCP halves its window at each."""
LOSS_LEAST = 3
"""Fewer repetitions are chance."""
FULL_SEGMENT = 1000
"""Bytes of a segment that a path with too small an MTU may not carry; no path has an MTU below 1000 today."""
IN_FLIGHT = 16
"""Full segments that may be under way when the first of them is stuck: ten at the start (RFC 6928), and some growth."""
STUCK_REPEATS = 2
"""Repetitions of the same full segment before it counts as stuck."""


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
        if count >= LOSS_LEAST and count / packets >= LOSS_SHARE and not stuck(facts, side):
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
    gaps = [item for item in facts.conversation.timeline if isinstance(item, Gap)]
    for side in (CLIENT, SERVER):
        mine = [gap for gap in gaps if gap.side == side]
        if not stream.missing[side] or (mine and all(gap.reason == "closed" for gap in mine)):
            continue  # what nobody acknowledged may have been lost before it came to the capture
        cut = any(gap.reason == "snaplen" for gap in mine)
        why = "and the other side has them: the capture lost them, not the network."
        if cut:
            why = "the packets were captured short (capture with -s 0)."
        elif not stream.packets[side]:
            why = "and no packet of it is: they take another path, or a filter left them out."
        at = mine[0].at if mine else stream.last
        yield Seen(
            f"{stream.missing[side]:,} bytes of the {side_name(side)} are not in the capture"
            f"{': ' if cut else ', '}{why}",
            Confidence.HIGH,
            (at,),
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


def _asks_for_less(event: TcpEvent) -> bool:
    """ICMP "fragmentation needed" (RFC 792, RFC 1191) or "packet too big" (RFC 4443 section 3.2)."""
    return event.kind == "unreachable" and event.note.startswith(("ICMP type 3 code 4 ", "ICMPv6 type 2 "))


def stuck(facts: Facts, side: Side) -> TcpEvent | None:
    """The last repetition of a full segment that was sent again and again and never got through."""
    large = [e for e in _repeated(facts, side) if e.length >= FULL_SEGMENT]
    if len(large) < STUCK_REPEATS:
        return None
    offset, count = Counter(e.offset for e in large).most_common(1)[0]
    if count < STUCK_REPEATS or any(e.offset > offset + e.length for e in large):
        return None
    if offset > IN_FLIGHT * max(e.length for e in large):
        return None  # so much came through before: its size is not what is wrong with it
    last = [e for e in large if e.offset == offset][-1]
    ended_there = facts.stream.bytes[side] + facts.stream.missing[side] <= offset + IN_FLIGHT * max(
        last.length, FULL_SEGMENT
    )
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
        event = stuck(facts, side)
        if event is None:
            continue
        told = next((e for e in facts.stream.events if _asks_for_less(e) and e.side == side), None)
        icmp = (
            " ICMP asks for smaller packets, and the sender does not heed it."
            if told is not None
            else " No ICMP tells the sender to make them smaller."
        )
        times = sum(1 for e in _repeated(facts, side) if e.offset == event.offset)
        yield Seen(
            f"A packet of {event.length:,} bytes from the {side_name(side)} was sent {times + 1} times and never "
            f"acknowledged, while smaller ones passed.{icmp}",
            Confidence.HIGH if times > STUCK_REPEATS else Confidence.MEDIUM,
            (event.at,),
        )
