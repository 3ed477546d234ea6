"""Transport, part four: TCP under the conversation (RFC 9293, RFC 5321 sections 3.8 and 4.5.4.1)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from smtpdebug.model.findings import Severity
from smtpdebug.model.smtp import Conversation
from smtpdebug.model.streams import CLIENT, SERVER
from smtpdebug.rules.registry import ODD_TRANSPORT, UNFINISHED, Indeterminate, Said, rule
from smtpdebug.rules.repeats import SOONEST_NS, syn_repeats
from smtpdebug.rules.state import State

SIDES: Final = ("client", "server")


@rule(
    id="ST401",
    on=Conversation,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 9293 §3.8.3", "RFC 5321 §4.5.4.1"),
    when=ODD_TRANSPORT,
)
def connection_unanswered(conversation: Conversation) -> Iterator[Said]:
    """The server did not answer the client's SYN at all.

    ## Why it matters
    Nothing was heard from the server's side: a filter drops the packets, the host is down, or the way back is broken.

    ## Example
    ```facts
    [stream]
    syn_ms = 0
    syn_retransmissions = 2
    last_ms = 3000
    complete = true
    packets = [3, 0]
    ```

    ## Instead
    ```facts
    [stream]
    syn_ms = 0
    last_syn_ms = 0
    syn_ack_ms = 20
    established_ms = 20
    complete = true
    packets = [3, 3]
    ```

    ## Innocent look-alikes
    A single SYN at the end of a capture may have been answered after it: the SYN has to be repeated to count. A capture
    that sees one direction only shows the same, but then the client goes on.
    """
    stream = conversation.stream
    if stream.syn_ns is None or stream.syn_ack_ns is not None or stream.refused_by is not None:
        return
    over = stream.last.ts_ns - stream.syn_ns
    if over < SOONEST_NS or stream.packets[SERVER] or stream.bytes[CLIENT]:
        return
    repeats = syn_repeats(stream)
    if repeats:
        yield stream.opened, f"{repeats + 1} SYN in {over / 1e9:.1f} s without an answer"


@rule(
    id="ST402",
    on=Conversation,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 9293 §3.10.7.1",),
    when=ODD_TRANSPORT,
)
def connection_refused(conversation: Conversation) -> Iterator[Said]:
    """The client's SYN was answered with a reset.

    ## Why it matters
    The host is there and nothing listens on the port, or a firewall answers in its place.

    ## Example
    ```facts
    [stream]
    syn_ms = 0
    refused_by = "rst"
    closed_by = "server-rst"
    complete = true
    ```

    ## Instead
    ```facts
    [stream]
    syn_ms = 0
    last_syn_ms = 0
    syn_ack_ms = 20
    established_ms = 20
    complete = true
    ```

    ## Innocent look-alikes
    A server that is being restarted refuses for a second or two.
    """
    if conversation.stream.refused_by == "rst":
        yield conversation.stream.last, "the SYN was answered with RST"


@rule(
    id="ST403",
    on=Conversation,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 792", "RFC 4443 §3.1"),
    when=ODD_TRANSPORT,
)
def connection_rejected_by_icmp(conversation: Conversation) -> Iterator[Said]:
    """The client's SYN was answered with an ICMP error.

    ## Why it matters
    A router or firewall says that the packet may not or cannot pass; the address that sent the error tells where.

    ## Example
    ```facts
    [stream]
    syn_ms = 0
    refused_by = "icmp"
    complete = true
    events = [{ kind = "unreachable", side = "client", note = "ICMP type 3 code 13 from 192.0.2.1" }]
    ```

    ## Instead
    ```facts
    [stream]
    syn_ms = 0
    last_syn_ms = 0
    syn_ack_ms = 20
    established_ms = 20
    complete = true
    ```

    ## Innocent look-alikes
    An ICMP error about a connection that was open (fragmentation needed) is not counted.
    """
    stream = conversation.stream
    if stream.refused_by != "icmp":
        return
    event = next((e for e in stream.events if e.kind == "unreachable"), None)
    if event is None:
        yield stream.last, "the SYN was answered with an ICMP error"
    else:
        yield event.at, f"the SYN was answered with an ICMP error: {event.note}"


@rule(
    id="ST404",
    on=Conversation,
    severity=Severity.NOTE,
    since="0.1",
    refs=("RFC 6298 §2", "RFC 9293 §3.8.3"),
    when=ODD_TRANSPORT,
)
def syn_repeated(conversation: Conversation) -> Iterator[Said]:
    """The client had to send its SYN more than once before the server answered.

    ## Why it matters
    Each repetition costs one, then two, four, … seconds before the conversation begins. The first SYN was lost, or the
    server's queue of new connections was full.

    ## Example
    ```facts
    [stream]
    syn_ms = 0
    last_syn_ms = 1000
    syn_ack_ms = 1020
    established_ms = 1021
    syn_retransmissions = 1
    complete = true
    ```

    ## Instead
    ```facts
    [stream]
    syn_ms = 0
    last_syn_ms = 0
    syn_ack_ms = 20
    established_ms = 21
    complete = true
    ```

    ## Innocent look-alikes
    One in thousands is lost on any network. A capture that holds each packet twice (bridge, mirror port) shows two SYN
    within milliseconds; TCP itself waits a second, and less than a fifth of one is not counted.
    """
    stream = conversation.stream
    repeats = syn_repeats(stream)
    if repeats and stream.syn_ack_ns is not None and stream.syn_ns is not None:
        took = stream.syn_ack_ns - stream.syn_ns
        yield stream.opened, f"{repeats + 1} SYN until the answer, {took / 1e9:.1f} s"


@rule(
    id="ST405",
    on=Conversation,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 5321 §4.1.1.10", "RFC 5321 §3.8"),
    when=ODD_TRANSPORT,
)
def reset_in_conversation(conversation: Conversation, state: State) -> Iterator[Said]:
    """The connection was reset while a reply or the rest of a message was due.

    ## Why it matters
    A reset throws away what is under way in both directions, replies included. It is a crash, a time-out, a firewall,
    or a program that closes without reading what the other side sent.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 2.1.0 Ok
    C: RCPT TO:<b@example.org>
    S resets        <- ST405
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
    C closes
    ```

    ## Innocent look-alikes
    A reset after QUIT, or after the other side has closed, ends nothing that was under way.
    """
    stream = conversation.stream
    if not (stream.closed_by or "").endswith("rst") or stream.refused_by or not conversation.exchanges:
        return
    if not stream.packets[SERVER] or not stream.packets[CLIENT]:
        return  # one direction only
    if state.quit_sent or state.lossy or any(stream.missing):
        return
    last = conversation.exchanges[-1]
    due = last.reply is None and last.command is not None
    if due or state.mail is not None or state.data_open:
        what = f"the reply to {last.command.verb} was due" if due and last.command else "in an open transaction"
        who = "client" if (stream.closed_by or "").startswith("client") else "server"
        yield stream.last, f"reset by the {who}; {what}"


@rule(
    id="ST406",
    on=Conversation,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 9293 §3.10.7.4",),
    security=True,
    when=ODD_TRANSPORT,
)
def conflicting_bytes(conversation: Conversation) -> Iterator[Said]:
    """The same bytes of a stream came twice with different content.

    ## Why it matters
    TCP repeats bytes as they were. Other content means that something on the way forges segments, or that two
    connections are mixed in the capture. Which of the two the receiver believed cannot be told.

    ## Example
    ```facts
    [stream]
    conflicts = [12, 0]
    complete = true
    ```

    ## Instead
    ```facts
    [stream]
    retransmissions = [1, 0]
    complete = true
    ```

    ## Innocent look-alikes
    A keep-alive carries one octet of no meaning; it is not counted.
    """
    stream = conversation.stream
    for side in (CLIENT, SERVER):
        if stream.conflicts[side]:
            event = next((e for e in stream.events if e.kind == "conflicting-overlap" and e.side == side), None)
            at = event.at if event is not None else stream.last
            yield at, f"{stream.conflicts[side]:,} bytes of the {SIDES[side]} came again with other content"


@rule(id="ST407", on=Conversation, severity=Severity.NOTE, since="0.1", refs=("RFC 9293 §3.8.6",), when=ODD_TRANSPORT)
def window_closed(conversation: Conversation) -> Iterator[Said]:
    """One side told the other to stop sending (TCP window of zero).

    ## Why it matters
    The program on that side does not read: it is busy, hangs, or writes to a disk that is slow.

    ## Example
    ```facts
    [stream]
    zero_windows = [0, 3]
    complete = true
    ```

    ## Instead
    ```facts
    [stream]
    zero_windows = [0, 0]
    complete = true
    ```

    ## Innocent look-alikes
    A window that closes for some milliseconds in a large message is ordinary flow control.
    """
    stream = conversation.stream
    for side in (CLIENT, SERVER):
        if stream.zero_windows[side]:
            event = next((e for e in stream.events if e.kind == "zero-window" and e.side == side), None)
            at = event.at if event is not None else stream.last
            yield at, f"the {SIDES[side]} closed its window {stream.zero_windows[side]} times"


@rule(id="ST408", on=Conversation, severity=Severity.NOTE, since="0.1", refs=("RFC 9293 §3.4",), when=ODD_TRANSPORT)
def capture_incomplete(conversation: Conversation) -> Iterator[Said]:
    """Bytes that were on the wire are not in the capture.

    ## Why it matters
    What they held was not judged. Capture with ``-s 0`` and a larger buffer (``-B``), or closer to the host.

    ## Example
    ```facts
    [stream]
    missing = [0, 1448]
    complete = true
    ```

    ## Instead
    ```facts
    [stream]
    missing = [0, 0]
    complete = true
    ```

    ## Innocent look-alikes
    None: it is a statement about the capture, not about the peers.
    """
    missing = conversation.stream.missing
    for side in (CLIENT, SERVER):
        if missing[side]:
            yield (
                conversation.stream.last,
                Indeterminate(f"{missing[side]:,} bytes of the {SIDES[side]} are not in the capture: not judged"),
            )


@rule(id="ST409", on=Conversation, when=ODD_TRANSPORT, severity=Severity.NOTE, since="0.1", refs=("RFC 9293 §3.5",))
def capture_starts_late(conversation: Conversation) -> Iterator[Said]:
    """The capture begins in the middle of this conversation.

    ## Why it matters
    Greeting, EHLO, TLS and login may have come before; rules that lean on them are silent.

    ## Example
    ```facts
    joined_late = true
    [stream]
    complete = false
    bytes = [200, 100]
    ```

    ## Instead
    ```facts
    [stream]
    complete = true
    bytes = [200, 100]
    ```

    ## Innocent look-alikes
    None: it is a statement about the capture, not about the peers.
    """
    if conversation.joined_late:
        yield conversation.stream.opened, Indeterminate("the capture begins in the middle of this conversation")


@rule(id="ST410", on=Conversation, when=UNFINISHED, severity=Severity.NOTE, since="0.1", refs=("RFC 9293 §3.5",))
def capture_ends_early(conversation: Conversation, state: State) -> Iterator[Said]:
    """The capture ends while a reply or the rest of a message was due.

    ## Why it matters
    How it ended is not known: that no reply is seen is no fault of the server.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>        <- ST410
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: QUIT
    S: 221 2.0.0 Bye
    C closes
    ```

    ## Innocent look-alikes
    A connection that is left open without a word looks the same; only a longer capture can tell.
    """
    if conversation.stream.closed_by is not None or not conversation.exchanges or state.quit_sent:
        return
    last = conversation.exchanges[-1]
    if last.command is None or (last.reply is not None and not state.data_open):
        return
    what = "the mail data" if state.data_open else f"the reply to {last.command.verb}"
    yield conversation.stream.last, Indeterminate(f"the capture ends before {what} is complete")
