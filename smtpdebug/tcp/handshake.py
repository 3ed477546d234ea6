"""The handshake, in whatever order it was captured, and whether a SYN begins another connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from smtpdebug.model.packets import ACK, SYN
from smtpdebug.model.streams import CLIENT, Location
from smtpdebug.tcp.segment import Segment
from smtpdebug.tcp.sequence import MASK, ahead

if TYPE_CHECKING:
    from smtpdebug.tcp.connection import Connection
    from smtpdebug.tcp.half import Half

NEAR: Final = 1 << 20
"""A SYN or RST this near to the expected number belongs to the connection that is there."""
KNOCKS: Final = 8
"""SYNs kept of one attempt that the server has not answered yet."""


def take_syn(connection: Connection, half: Half, segment: Segment, at: Location) -> None:
    """A SYN or SYN-ACK (RFC 9293 section 3.5) of this connection, first or repeated."""
    stream, ts_ns = connection.stream, segment.ts_ns
    answer = bool(segment.flags & ACK)
    if half.isn == segment.seq:
        if answer:
            stream.syn_ack_retransmissions += 1
            connection.note("syn-ack-repeated", half.side, at)
        else:
            stream.syn_retransmissions += 1
            if stream.syn_ack_ns is None:
                stream.last_syn_ns = ts_ns
            connection.note("syn-repeated", half.side, at)
        return
    if half.isn >= 0 and not answer:
        _knock(connection, segment)
    first = (segment.seq + 1) & MASK
    if half.isn >= 0 or (half.touched and first != half.base):
        return
    # Once something was given out its readers have taken the stream for what it was then.
    untouched = not (connection.low.touched or connection.high.touched)
    if not stream.complete and untouched and (half.side == CLIENT) == answer:
        connection.flip()
        stream.decided_by = "syn"
    _begin_at_syn(half, first)
    half.isn, half.on_syn = segment.seq, segment.length
    stream.complete = stream.complete or untouched
    if not answer:
        stream.syn_ns = ts_ns
        stream.last_syn_ns = ts_ns
        return
    if stream.syn_ack_ns is None:
        stream.syn_ack_ns = ts_ns
    if stream.refused_by is not None:
        stream.refused_by = stream.closed_by = connection.closing_ns = None
    if untouched and connection.early_ack is not None and connection.early_ack[0] == first:
        _, stream.established_ns, stream.established_frame = connection.early_ack
        connection.shaken = True


def _begin_at_syn(half: Half, first: int) -> None:
    """The SYN says where offset 0 is, though an ACK or data may have been captured before it."""
    if half.base < 0:
        half.begin(first, certain=True)
    elif not half.touched:
        half.rebase(first)


def _knock(connection: Connection, segment: Segment) -> None:
    """A SYN inside the window of a connection that is there: remember it until the server answers."""
    knocks = connection.knocks
    if knocks and knocks[0].seq != segment.seq:
        knocks.clear()
    if len(knocks) < KNOCKS:
        knocks.append(segment)


def let_in(connection: Connection, segment: Segment) -> bool:
    """Whether a SYN-ACK takes the SYN that knocked: the server has no connection there any more.

    A server that still has it answers such a SYN with an ACK of what it expects (RFC 9293 section 3.10.7.4).
    """
    knocks = connection.knocks
    if not knocks or segment.flags & (SYN | ACK) != SYN | ACK or segment.low == knocks[0].low:
        return False
    half = connection.low if segment.low else connection.high
    return segment.seq != half.isn and ahead(segment.ack, knocks[0].seq) == 1


def hand_over(connection: Connection) -> list[Segment]:
    """The SYNs that knocked, which this connection does not count any more."""
    knocks = connection.knocks
    if knocks:
        (connection.low if knocks[0].low else connection.high).packets -= len(knocks)
    return knocks


def same_attempt(connection: Connection, segment: Segment) -> bool:
    """Whether a SYN belongs to this connection; otherwise the four-tuple is used again."""
    half, peer = (connection.low, connection.high) if segment.low else (connection.high, connection.low)
    if half.isn == segment.seq:
        return True
    if segment.flags & ACK and half.isn < 0 and peer.isn >= 0 and ahead(segment.ack, peer.isn) == 1:
        return True  # answers the SYN that is here, though a reset may have come before
    if connection.closing_ns is not None:
        return False
    if half.isn < 0:
        return _fits(half, peer, segment)
    # A SYN without an answer, then another: a new attempt, unless the SYN is a stray inside the window.
    answered = peer.isn >= 0 or peer.touched
    return answered and abs(ahead(segment.seq, half.next_seq)) < NEAR


def _fits(half: Half, peer: Half, segment: Segment) -> bool:
    """The first SYN of this direction, in a connection that is there already."""
    if segment.flags & ACK and peer.isn >= 0 and ahead(segment.ack, peer.isn) < 1:
        return False
    return half.base < 0 or abs(ahead(segment.seq, half.next_seq)) < NEAR
