"""Wait accounting: where the time of a conversation went, and who was waiting for whom.

The conversation's time, from its first packet to its last, is cut into turns. Until the connection is established it
is the network's turn; then the server's (greeting); a command hands the turn to the server, the last outstanding reply
hands it back to the client. Of each turn up to one round trip from the capture point is the network's: the TCP
handshake measures both sides of it (SYN to SYN-ACK towards the server, SYN-ACK to ACK towards the client). What
cannot be known (inside TLS that stays closed, over a gap) is unknown. The four shares sum to the total, to the
nanosecond.
"""

from __future__ import annotations

from smtpdebug.model.smtp import Conversation, Exchange, Latency
from smtpdebug.model.streams import Stream
from smtpdebug.model.tls import TlsFacts

_CLIENT, _SERVER, _NETWORK, _UNKNOWN = 0, 1, 2, 3
_Mark = tuple[int, int]
"""From this time on, it is this one's turn."""


def account(conversation: Conversation) -> Latency:
    """Latencies of one conversation, in nanoseconds (record fields ``latency``)."""
    stream = conversation.stream
    latency = Latency(total_ns=max(0, stream.last.ts_ns - stream.opened.ts_ns))
    latency.tcp_handshake_ns = handshake_ns(stream)
    latency.greeting_ns = _greeting_ns(conversation)
    if conversation.tls is not None:
        latency.tls_handshake_ns = conversation.tls.handshake_ns
    shares = _in_turn(conversation) or _shares(_turns(conversation), stream)
    latency.client_ns, latency.server_ns, latency.network_ns, latency.unknown_ns = shares
    return latency


def _opened_ns(stream: Stream) -> int | None:
    """When the connection was open, as far as was seen."""
    return stream.established_ns if stream.established_ns is not None else stream.syn_ack_ns


def handshake_ns(stream: Stream) -> int | None:
    """From the first SYN to the ACK that establishes the connection (or the SYN-ACK, where that ACK was not seen)."""
    done = _opened_ns(stream)
    if stream.syn_ns is None or done is None or done < stream.syn_ns:
        return None
    return done - stream.syn_ns


def rtt_ns(stream: Stream) -> int | None:
    """One round trip between client and server as the handshake shows it: answered SYN to final ACK."""
    if stream.last_syn_ns is None or stream.established_ns is None or stream.established_ns < stream.last_syn_ns:
        return None
    return stream.established_ns - stream.last_syn_ns


def _greeting_ns(conversation: Conversation) -> int | None:
    """Connection established to first byte of the greeting; with implicit TLS its handshake lies between."""
    exchanges = conversation.exchanges
    established = _opened_ns(conversation.stream)
    if not exchanges or established is None:
        return None
    first = exchanges[0]
    if first.command is None or first.command.verb != "(greeting)" or first.reply is None:
        return None
    return max(0, first.reply.began.ts_ns - established)


def _in_turn(conversation: Conversation) -> tuple[int, int, int, int] | None:
    """The shares of the usual conversation, in clear, each command answered before the next: no marks are needed.

    ``None`` for any other; what :func:`_shares` says of it is the same.
    """
    stream, exchanges = conversation.stream, conversation.exchanges
    opened, established, end = stream.opened.ts_ns, stream.established_ns, stream.last.ts_ns
    if conversation.tls is not None or not exchanges or stream.syn_ns is None:
        return None
    if established is None or established < opened:
        return None
    to_server = _leg(stream.last_syn_ns, stream.syn_ack_ns)
    to_client = _leg(stream.syn_ack_ns, established)
    client = server = 0
    network, answered = established - opened, established
    first = exchanges[0]
    for exchange in exchanges:
        command, reply, data = exchange.command, exchange.reply, exchange.data
        if command is None or reply is None:
            return None
        asked, before = command.at.ts_ns if data is None else data.at.ts_ns, answered
        answered = reply.at.ts_ns
        if not before <= asked <= answered <= end:
            return None
        if exchange is first:
            asked = before  # until the greeting it is the server's turn
        span = asked - before
        leg = span if span < to_client else to_client
        client += span - leg
        network += leg
        span = answered - asked
        leg = span if span < to_server else to_server
        server += span - leg
        network += leg
    span = end - answered
    leg = span if span < to_client else to_client
    return client + span - leg, server, network + leg, 0


def _turns(conversation: Conversation) -> list[_Mark]:
    """Marks in order of time: who has the turn from when on."""
    stream, tls = conversation.stream, conversation.tls
    if conversation.protocol == "unknown":
        return [(stream.opened.ts_ns, _UNKNOWN)]
    marks: list[_Mark] = [(stream.opened.ts_ns, _NETWORK if stream.syn_ns is not None else _UNKNOWN)]
    opened = _opened_ns(stream)
    if opened is not None:
        marks.append((opened, _SERVER))
    marks += _exchange_turns(conversation.exchanges)
    if tls is not None:
        marks += _tls_turns(tls)
    if tls is not None and not tls.decrypted:
        closed_from = tls.finished.ts_ns if tls.finished is not None else tls.started.ts_ns
        marks = [mark for mark in marks if mark[0] < closed_from or mark[1] != _SERVER]
        marks.append((closed_from, _UNKNOWN))
    marks.sort(key=_time)
    return marks


def _time(mark: _Mark) -> int:
    return mark[0]


def _exchange_turns(exchanges: list[Exchange]) -> list[_Mark]:
    """In the usual case each command is answered before the next is sent."""
    marks: list[_Mark] = []
    last = 0
    for exchange in exchanges:
        command, reply, data = exchange.command, exchange.reply, exchange.data
        if command is None or reply is None:
            return _overlapping_turns(exchanges)
        asked = command.at.ts_ns if data is None else data.at.ts_ns
        answered = reply.at.ts_ns
        if not last <= asked <= answered:
            return _overlapping_turns(exchanges)
        marks.append((asked, _SERVER))
        marks.append((answered, _CLIENT))
        last = answered
    return marks


def _overlapping_turns(exchanges: list[Exchange]) -> list[_Mark]:
    """Pipelining, replies lost or nobody asked for: it is the server's turn while any command waits."""
    said: list[tuple[int, int]] = []
    marks: list[_Mark] = []
    for exchange in exchanges:
        command, reply = exchange.command, exchange.reply
        if reply is None:
            if command is not None and exchange is exchanges[-1]:
                said.append((command.at.ts_ns, 1))
            elif command is not None:
                # The reply was lost: whose the time up to the next thing seen was cannot be known.
                marks.append((command.at.ts_ns, _UNKNOWN))
            continue
        if command is not None:
            said.append((exchange.data.at.ts_ns if exchange.data is not None else command.at.ts_ns, 1))
            said.append((reply.at.ts_ns, -1))
    said.sort()
    outstanding = 0
    for at, step in said:
        outstanding += step
        marks.append((at, _SERVER if outstanding > 0 else _CLIENT))
    return marks


def _tls_turns(tls: TlsFacts) -> list[_Mark]:
    """The end of a flight hands the turn to the other side, unless the same side goes on after a pause."""
    marks: list[_Mark] = []
    after: int | None = None
    for flight in reversed(tls.flights):
        if flight.side != after:
            marks.append((flight.ended_ns, _CLIENT if flight.side == 1 else _SERVER))
        after = flight.side
    return marks[::-1]


def _shares(marks: list[_Mark], stream: Stream) -> tuple[int, int, int, int]:
    to_server = _leg(stream.last_syn_ns, stream.syn_ack_ns)
    to_client = _leg(stream.syn_ack_ns, stream.established_ns)
    shares = [0, 0, 0, 0]
    start, end = stream.opened.ts_ns, max(stream.last.ts_ns, stream.opened.ts_ns)
    turn, since = marks[0][1], start
    marks.append((end, -1))
    for at, whose in marks:
        if whose == turn:
            continue
        if at > end:
            at = end
        if at <= since:
            turn = whose
            continue
        span = at - since
        if turn <= _SERVER:
            leg = to_server if turn else to_client
            network = span if span < leg else leg
            shares[_NETWORK] += network
            span -= network
        shares[turn] += span
        turn, since = whose, at
    return shares[0], shares[1], shares[2], shares[3]


def _leg(asked: int | None, answered: int | None) -> int:
    if asked is None or answered is None:
        return 0
    return max(0, answered - asked)
