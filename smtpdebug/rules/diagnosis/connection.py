"""Diagnoses of the way to the open connection."""

from __future__ import annotations

import re
from collections.abc import Iterator

from smtpdebug.model.streams import CLIENT, SERVER
from smtpdebug.rules.diagnosis.facts import LONG_PATH_NS, MILLISECOND, SECOND, TWICE_NS, Facts, seconds
from smtpdebug.rules.diagnosis.registry import Confidence, Seen, Trigger, diagnosis
from smtpdebug.rules.memory import Earlier
from smtpdebug.rules.repeats import syn_repeats
from smtpdebug.rules.sighting import Sighting
from smtpdebug.rules.unserved import closed_unserved

FALLBACK_NS = 75 * SECOND
"""How long a client tries an IPv6 address before the next one: RFC 8305 says 250 ms, a plain connect() up to 75 s."""


@diagnosis("D01", name="connection-attempt-unanswered", on=Trigger.UNOPENED)
def unanswered(facts: Facts) -> Iterator[Seen]:
    """The server did not answer the connection attempt at all.

    ## Evidence
    The client's SYN is repeated after about 1, 2, 4, … seconds, and nothing comes back: no SYN-ACK, reset or ICMP.

    ## What to do
    Capture at the server, or at the next firewall, to see how far the SYN gets. For port 25 look first at the
    client's own network: many providers and clouds (Amazon EC2 by default) block outgoing port 25; use port 587 or 465
    for submission, or ask for the block to be lifted.

    ## Otherwise
    The server's host is down, or its answers take another way home that a filter closes.

    ## Example
    ```facts
    [stream]
    syn_ms = 0
    syn_retransmissions = 3
    last_ms = 7000
    packets = [4, 0]
    ```

    ## Silent
    ```facts
    [stream]
    syn_ms = 0
    last_ms = 0
    packets = [1, 0]
    ```
    """
    stream = facts.stream
    if stream.syn_ns is None or stream.syn_ack_ns is not None or stream.refused_by or stream.packets[SERVER]:
        return
    repeats = syn_repeats(stream)
    if repeats and not stream.bytes[CLIENT] and stream.last.ts_ns - stream.syn_ns >= TWICE_NS:
        sure = Confidence.HIGH if repeats > 1 else Confidence.MEDIUM
        took = seconds(stream.last.ts_ns - stream.syn_ns)
        yield Seen(
            f"{repeats + 1} connection attempts to {stream.server.ip} port {stream.server.port} in "
            f"{took} got no answer: the packets are dropped on the way, or nobody is there.",
            sure,
            (stream.opened, stream.last),
        )


@diagnosis("D02", name="connection-refused", on=Trigger.UNOPENED)
def refused(facts: Facts) -> Iterator[Seen]:
    """The server's host refused the connection.

    ## Evidence
    The SYN is answered with RST.

    ## What to do
    Check that the mail server runs and listens on this address and port (``ss -ltn``), and that host and port are the
    ones that were meant.

    ## Otherwise
    A firewall in front of the server answers with RST in its name; then the time to live differs from that of other
    packets of the server.

    ## Example
    ```facts
    [stream]
    syn_ms = 0
    refused_by = "rst"
    ```

    ## Silent
    ```facts
    [stream]
    syn_ms = 0
    last_syn_ms = 0
    syn_ack_ms = 1
    established_ms = 1
    bytes = [10, 10]
    ```
    """
    stream = facts.stream
    if stream.refused_by == "rst":
        yield Seen(
            f"{stream.server.ip} refuses connections to port {stream.server.port}: nothing listens there.",
            Confidence.HIGH,
            (stream.opened, stream.last),
        )


@diagnosis("D03", name="connection-rejected-by-firewall", on=Trigger.UNOPENED)
def rejected(facts: Facts) -> Iterator[Seen]:
    """A router or firewall rejects the connection with ICMP.

    ## Evidence
    The SYN is answered with an ICMP "unreachable" that quotes it.

    ## What to do
    The address that sent the ICMP error is the one to ask. "Administratively prohibited" and "port unreachable" are
    filter rules; "host unreachable" and "no route" are routing or a host that is down.

    ## Otherwise
    The route to the server is broken rather than closed; the ICMP code tells.

    ## Example
    ```facts
    [stream]
    syn_ms = 0
    refused_by = "icmp"
    events = [{ kind = "unreachable", side = "client", note = "ICMP type 3 code 13 from 192.0.2.1" }]
    ```

    ## Silent
    ```facts
    [stream]
    syn_ms = 0
    refused_by = "rst"
    ```
    """
    stream = facts.stream
    if stream.refused_by == "icmp":
        event = next((e for e in stream.events if e.kind == "unreachable"), None)
        note = f": {icmp_in_words(event.note)}" if event is not None and event.note else ""
        yield Seen(
            f"The connection attempt to {stream.server.ip} port {stream.server.port} was rejected{note}.",
            Confidence.HIGH,
            (stream.opened, event.at if event is not None else stream.last),
        )


ICMP_MEANINGS = {
    ("ICMP", "3", "0"): "network unreachable: routing",
    ("ICMP", "3", "1"): "host unreachable: the host is down, or a filter says so",
    ("ICMP", "3", "2"): "protocol unreachable",
    ("ICMP", "3", "3"): "port unreachable: a filter rule that rejects",
    ("ICMP", "3", "9"): "network prohibited by a filter",
    ("ICMP", "3", "10"): "host prohibited by a filter",
    ("ICMP", "3", "13"): "prohibited by a filter",
    ("ICMP", "11", "0"): "time to live ran out: a routing loop",
    ("ICMPv6", "1", "0"): "no route",
    ("ICMPv6", "1", "1"): "prohibited by a filter",
    ("ICMPv6", "1", "3"): "address unreachable: the host is down",
    ("ICMPv6", "1", "4"): "port unreachable: a filter rule that rejects",
    ("ICMPv6", "1", "5"): "source address refused by a filter",
    ("ICMPv6", "1", "6"): "route rejected",
}
"""Type and code (RFC 792, RFC 1812 section 5.2.7.1, RFC 4443 section 3.1) -> what they say of a SYN."""
_ICMP = re.compile(r"(ICMP(?:v6)?) type (\d+) code (\d+)(?: from (\S+?))?(?:,|$)")


def icmp_in_words(note: str) -> str:
    """The note of an ``unreachable`` event with the meaning of type and code."""
    match = _ICMP.match(note)
    if match is None:
        return note
    meaning = ICMP_MEANINGS.get((match[1], match[2], match[3]))
    return note if meaning is None else f"{meaning} ({note})"


@diagnosis("D04", name="syn-ack-repeated", on=Trigger.TCP)
def syn_ack_repeated(facts: Facts) -> Iterator[Seen]:
    """The server's answer to the connection attempt did not reach the client, or the client's did not reach it.

    ## Evidence
    The server repeats its SYN-ACK.

    ## What to do
    Look at the way back from the server to the client: asymmetric routes, and firewalls that see one direction only.

    ## Otherwise
    The client sent a forged or abandoned SYN (a port scan), or the packet was simply lost once.

    ## Example
    ```facts
    [stream]
    syn_ms = 0
    last_syn_ms = 0
    syn_ack_ms = 1
    syn_ack_retransmissions = 3
    ```

    ## Silent
    ```facts
    [stream]
    syn_ms = 0
    last_syn_ms = 0
    syn_ack_ms = 1
    established_ms = 2
    bytes = [10, 10]
    ```
    """
    stream = facts.stream
    if stream.syn_ack_retransmissions and not facts.captured_twice:
        opened = stream.established_ns is not None
        yield Seen(
            f"The server sent its SYN-ACK {stream.syn_ack_retransmissions + 1} times"
            + ("; the connection opened late." if opened else " and the connection never opened."),
            Confidence.MEDIUM if opened else Confidence.HIGH,
            (stream.opened,),
        )


@diagnosis("D05", name="connection-opened-late", on=Trigger.TCP)
def opened_late(facts: Facts) -> Iterator[Seen]:
    """The connection opened only after the connection attempt was repeated.

    ## Evidence
    SYN repeated one, three, seven, … seconds after the first, then a quick SYN-ACK.

    ## What to do
    If it happens often look at the server's queue of new connections (``nstat -az TcpExtListenOverflows``,
    somaxconn) and at rate limits of firewalls on new connections.

    ## Otherwise
    The first SYN was lost by chance.

    ## Example
    ```facts
    [stream]
    syn_ms = 0
    last_syn_ms = 1010
    syn_ack_ms = 1011
    established_ms = 1012
    syn_retransmissions = 1
    bytes = [10, 10]
    ```

    ## Silent
    ```facts
    [stream]
    syn_ms = 0
    last_syn_ms = 0
    syn_ack_ms = 1
    established_ms = 2
    bytes = [10, 10]
    ```
    """
    stream = facts.stream
    repeats = syn_repeats(stream)
    if repeats and stream.syn_ack_ns is not None and stream.syn_ns is not None:
        late = stream.syn_ack_ns - stream.syn_ns
        first = "first" if repeats == 1 else f"first {repeats}"
        yield Seen(
            f"The connection took {seconds(late)} to open: the {first} of {repeats + 1} attempts got no answer.",
            Confidence.HIGH,
            (stream.opened,),
        )


@diagnosis("D06", name="long-path", on=Trigger.TCP)
def long_path(facts: Facts) -> Iterator[Seen]:
    """The path between the peers is so long that round trips make up the time.

    ## Evidence
    A quarter of a second or more from SYN to the end of the handshake, without repetitions.

    ## What to do
    Use PIPELINING and send several messages on one connection: each command otherwise costs a round trip. Find the
    queue if the distance does not explain the time (ping, mtr).

    ## Otherwise
    One side's host was slow to answer the SYN.

    ## Example
    ```facts
    [stream]
    syn_ms = 0
    last_syn_ms = 0
    syn_ack_ms = 600
    established_ms = 600
    bytes = [10, 10]
    ```

    ## Silent
    ```facts
    [stream]
    syn_ms = 0
    last_syn_ms = 0
    syn_ack_ms = 40
    established_ms = 40
    bytes = [10, 10]
    ```
    """
    trip = facts.round_trip_ns
    if trip >= LONG_PATH_NS and not facts.stream.syn_ack_retransmissions:
        # A command sent while another waited for its reply costs no round trip of its own.
        asked = [one.command for one in facts.conversation.exchanges if one.command is not None]
        count = sum(1 for command in asked if not command.outstanding)
        cost = f"; {count} exchanges one after the other cost at least {seconds(trip * count)}" if count > 1 else ""
        yield Seen(
            f"A round trip takes {seconds(trip)}{cost}.",
            Confidence.MEDIUM,
            (facts.stream.opened,),
        )


@diagnosis("D07", name="ipv6-tried-in-vain", on=Sighting)
def fell_back_from_ipv6(sighting: Sighting, earlier: Earlier) -> Iterator[Seen]:
    """The client tried IPv6 first, got nowhere, and went on with IPv4.

    ## Evidence
    A connection attempt to an IPv6 address at the same port failed within 75 seconds before this IPv4 connection.

    ## What to do
    Repair IPv6 between the two hosts, take the server's AAAA record away, or let the client prefer IPv4 (Postfix:
    smtp_address_preference).

    ## Otherwise
    The two connections have nothing to do with each other: they belong to different messages.

    ## Example
    Needs an earlier conversation over IPv6 that failed.

    ## Silent
    ```facts
    [stream]
    syn_ms = 0
    last_syn_ms = 0
    syn_ack_ms = 1
    bytes = [10, 10]
    ```
    """
    if sighting.syn_ns is None or not sighting.connected or ":" in sighting.server:
        return
    began = earlier.failed_v6(sighting.port, sighting.syn_ns, FALLBACK_NS)
    if began is not None:
        yield Seen(
            f"An IPv6 connection to port {sighting.port} failed {seconds(sighting.syn_ns - began)} before this one "
            "over IPv4.",
            Confidence.LOW,
            (sighting.opened,),
        )


@diagnosis("D08", name="accepted-then-closed-unserved", on=Trigger.UNOPENED)
def unserved(facts: Facts) -> Iterator[Seen]:
    """The connection was accepted and closed again before the server said a word.

    ## Evidence
    The handshake is complete, and the first thing from the server's side is a FIN or RST.

    ## What to do
    Look behind the address: a load balancer or NAT answers and has no server to hand the connection to, or
    tcp_wrappers or a limit of the service (xinetd, systemd socket) closes at once.

    ## Otherwise
    On a TLS port the server closed because the client did not begin TLS.

    ## Example
    ```facts
    server_port = 25
    [stream]
    syn_ms = 0
    last_syn_ms = 0
    syn_ack_ms = 1
    established_ms = 2
    closed_by = "server-rst"
    last_ms = 5
    ```

    ## Silent
    ```facts
    server_port = 25
    [stream]
    syn_ms = 0
    last_syn_ms = 0
    syn_ack_ms = 1
    established_ms = 2
    closed_by = "client-fin"
    ```
    """
    stream = facts.stream
    closed = closed_unserved(facts.conversation)
    if closed is None:
        return
    after = closed - (stream.established_ns or stream.syn_ack_ns or stream.opened.ts_ns)
    how = "reset" if (stream.closed_by or "").endswith("rst") else "closed"
    yield Seen(
        f"The connection was accepted and {how} {after / MILLISECOND:.0f} ms later, before any greeting.",
        Confidence.HIGH,
        (stream.opened, stream.last),
    )


@diagnosis("D22", name="port-reused-too-soon", on=Trigger.UNOPENED)
def port_reused(facts: Facts) -> Iterator[Seen]:
    """The client used a port again whose former connection the server, or a NAT between, had not forgotten.

    ## Evidence
    The same four-tuple carried an earlier connection in this capture, and the new attempt was reset or unanswered.

    ## What to do
    Widen the client's range of ports (net.ipv4.ip_local_port_range), send more messages on one connection, or look
    at the NAT's table.

    ## Otherwise
    The server refuses new connections for another reason, and that the port is an old one is chance.

    ## Example
    ```facts
    [stream]
    syn_ms = 0
    reused = true
    refused_by = "rst"
    ```

    ## Silent
    ```facts
    [stream]
    syn_ms = 0
    last_syn_ms = 0
    syn_ack_ms = 1
    established_ms = 2
    reused = true
    ```
    """
    stream = facts.stream
    failed = stream.refused_by is not None or bool(stream.syn_retransmissions)
    if stream.reused and stream.syn_ack_ns is None and failed:
        yield Seen(
            f"The client's port {stream.client.port} carried an earlier connection to the same server; the new attempt "
            "clashes with what is remembered of it.",
            Confidence.MEDIUM,
            (stream.opened,),
        )
