"""Connections that a server accepts and closes without a word (RFC 5321 section 3.1)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from smtpdebug.model.findings import Severity
from smtpdebug.model.smtp import Conversation
from smtpdebug.model.streams import CLIENT, SERVER, TLS_PORTS, Stream
from smtpdebug.rules.registry import ENDED_BY_SERVER, Said, rule
from smtpdebug.rules.scope import one_direction

PATIENCE_NS: Final = 1_000_000_000
"""No server gives a client less time than this to begin TLS."""


def closed_unserved(conversation: Conversation) -> int | None:
    """When the server closed a connection on which nobody had spoken yet, in nanoseconds; ``None`` if it did not.

    What the client says after the close (QUIT, out of politeness) changes nothing.
    """
    stream = conversation.stream
    if not (stream.closed_by or "").startswith("server") or stream.refused_by is not None:
        return None
    if stream.syn_ack_ns is None or not stream.complete or conversation.joined_late or one_direction(stream):
        return None
    if stream.bytes[SERVER] or any(stream.missing) or conversation.tls is not None:
        return None
    closed = _closed_ns(stream)
    if stream.server.port in TLS_PORTS and closed - stream.syn_ack_ns >= PATIENCE_NS:
        return None  # there the client speaks first, and the server waited for it
    spoke = stream.first_data_ns[CLIENT]
    if stream.bytes[CLIENT] and (spoke is None or spoke < closed):
        return None
    return closed


def _closed_ns(stream: Stream) -> int:
    ends = [t for t in (stream.fin_ns[SERVER], stream.rst_ns[SERVER]) if t is not None]
    return min(ends, default=stream.last.ts_ns)


@rule(
    id="ST411",
    on=Conversation,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 5321 §3.1", "RFC 5321 §3.8"),
    when=ENDED_BY_SERVER,
)
def closed_before_greeting(conversation: Conversation) -> Iterator[Said]:
    """The server accepted the connection and closed it without a greeting.

    ## Why it matters
    A server that does not want to serve says so: 554 instead of 220, or 421 before it closes. Without a word the
    client can only try again, and nobody learns the reason. A warning, since the packets do not show who closed: a
    load balancer without a server behind it and tcp_wrappers look the same.

    ## Example
    ```facts
    server_port = 25
    [stream]
    syn_ms = 0
    last_syn_ms = 0
    syn_ack_ms = 20
    established_ms = 20
    closed_by = "server-fin"
    last_ms = 120
    complete = true
    packets = [3, 2]
    ```

    ## Instead
    ```smtp
    S: 554 no service for you here
    C: QUIT
    S: 221 2.0.0 Bye
    S closes
    ```

    ## Innocent look-alikes
    A client that closes first (a port check). Ports where TLS comes first, and clients that speak first. A capture of
    the client's packets alone, or one that lost the greeting.
    """
    closed = closed_unserved(conversation)
    if closed is not None:
        stream = conversation.stream
        how = "reset" if (stream.closed_by or "").endswith("rst") else "closed"
        event = next((e for e in stream.events if e.side == SERVER and e.kind in ("fin", "rst")), None)
        yield event.at if event is not None else stream.last, f"the server {how} the connection before any greeting"
