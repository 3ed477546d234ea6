"""The facts that diagnoses share, gathered in one pass over a conversation."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from functools import cached_property

from smtpdebug.model.findings import Severity
from smtpdebug.model.smtp import GREETING, Command, Conversation, Exchange, Reply
from smtpdebug.model.streams import CLIENT, SERVER, Location, Side
from smtpdebug.rules.providers import Provider, known
from smtpdebug.rules.repeats import SOONEST_NS, captured_twice

SECOND = 1_000_000_000
MILLISECOND = 1_000_000

LONG_WAIT_NS = 2 * SECOND
"""A reply that takes longer is worth a look: twice the time a busy server takes for a DNS lookup with one retry."""

"""TLS from the first byte (RFC 8314 section 3.3; 2465 as Amazon SES has it)."""
CLEAR_PORTS = frozenset({24, 25, 587, 2525, 2587})
"""The server speaks first, in clear."""


_NONE = [0, 0]
"""Of neither side."""


class Trigger(enum.IntFlag):
    """Traits found in one pass; a diagnosis is asked only where one of its traits is there."""

    UNOPENED = 1
    """The TCP connection was not seen to open, or carried not one byte from the server."""
    TCP = 2
    """Something was sent again, cut off, reset, stuck or missing."""
    FAILED = 4
    """Some reply is 4yz or 5yz."""
    WAIT = 8
    """Some reply took longer than ``LONG_WAIT_NS``, or trickled in."""
    UNANSWERED = 16
    """A command has no reply, or the conversation ended without QUIT."""
    TLS = 32
    FINDING = 64
    """Some rule has spoken."""
    MANY = 128
    """Enough exchanges for statistics."""
    IDLE = 256
    """Somebody was silent for long between two exchanges."""
    NOTHING_SENT = 512
    """Recipients were named and no mail data was sent."""


MANY_EXCHANGES = 8
IDLE_NS = 10 * SECOND
"""A client in good health sends its next command within milliseconds; ten seconds is a stall or a person typing."""


class Facts:
    """One conversation, seen once: failed, slow and unanswered exchanges, the greeting, traits."""

    __slots__ = (
        "__dict__",
        "_recipients",
        "_sent",
        "claimed",
        "conversation",
        "failed",
        "greeting",
        "helo",
        "quit",
        "slow",
        "stream",
        "traits",
        "unanswered",
    )

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        self.stream = conversation.stream
        self.claimed: set[int] = set()
        """Exchanges that some diagnosis has explained already."""
        self.failed: list[Exchange] = []
        self.slow: list[Exchange] = []
        self.unanswered: list[Exchange] = []
        self.greeting: Exchange | None = None
        self.helo: Exchange | None = None
        """The last EHLO, HELO or LHLO that was accepted."""
        self.quit = False
        self._recipients = self._sent = False
        self.traits = self._scan() | self._transport()

    def _scan(self) -> int:
        traits = 0
        before = 0
        for exchange in self.conversation.exchanges:
            command, reply = exchange.command, exchange.reply
            if command is not None:
                if before and command.began.ts_ns - before > IDLE_NS:
                    traits |= Trigger.IDLE.value
                self._take(exchange, command.verb)
            if exchange.data is not None and exchange.data.pause_ns > IDLE_NS:
                traits |= Trigger.IDLE.value
            if reply is not None:
                before = reply.at.ts_ns
                if reply.code >= 400:
                    self.failed.append(exchange)
                if (exchange.wait_ns or 0) > LONG_WAIT_NS or before - reply.began.ts_ns > LONG_WAIT_NS:
                    self.slow.append(exchange)
        return traits | self._summed()

    def _take(self, exchange: Exchange, verb: str) -> None:
        if verb == "RCPT":
            self._recipients = True
        elif exchange.data is not None or verb in ("DATA", "BDAT"):
            self._sent = True
        elif verb == "QUIT":
            self.quit = True
        elif verb == GREETING:
            self.greeting = exchange
        elif verb in ("EHLO", "HELO", "LHLO") and exchange.reply is not None and exchange.reply.code == 250:
            self.helo = exchange
        if exchange.reply is None:
            self.unanswered.append(exchange)

    def _summed(self) -> int:
        traits = 0
        if self.failed:
            traits |= Trigger.FAILED.value
        if self.slow:
            traits |= Trigger.WAIT.value
        if not self.stream.packets[SERVER] and self.stream.bytes[CLIENT]:
            self.unanswered = []  # a capture of one direction shows no replies
        elif self.unanswered or not self.quit:
            traits |= Trigger.UNANSWERED.value
        if len(self.conversation.exchanges) >= MANY_EXCHANGES:
            traits |= Trigger.MANY.value
        if self._recipients and not self._sent:
            traits |= Trigger.NOTHING_SENT.value
        return traits

    def _transport(self) -> int:
        stream, traits = self.stream, 0
        if (stream.syn_ns is not None and stream.syn_ack_ns is None) or not stream.bytes[SERVER]:
            traits |= Trigger.UNOPENED.value
        if (
            stream.syn_retransmissions
            or stream.syn_ack_retransmissions
            or stream.retransmissions != _NONE
            or stream.missing != _NONE
            or stream.zero_windows != _NONE
            or stream.keep_alives != _NONE
            or stream.refused_by
            or (stream.closed_by or "").endswith("rst")
            or self.round_trip_ns >= LONG_PATH_NS
            or any(event.kind != "fin" for event in stream.events)
        ):
            traits |= Trigger.TCP.value
        if self.conversation.tls is not None:
            traits |= Trigger.TLS.value
        findings = self.conversation.findings
        if findings and any(finding.severity is not Severity.NOTE for finding in findings):
            traits |= Trigger.FINDING.value
        return traits

    @property
    def round_trip_ns(self) -> int:
        """Round-trip time as the handshake shows it; 0 where it was not seen.

        Beside the client it is SYN to SYN-ACK, beside the server SYN-ACK to ACK; the sum is right in both places.
        """
        stream = self.stream
        if stream.last_syn_ns is None or stream.syn_ack_ns is None:
            return 0
        end = stream.established_ns if stream.established_ns is not None else stream.syn_ack_ns
        return max(0, end - stream.last_syn_ns)

    @cached_property
    def captured_twice(self) -> bool:
        """Packets came into the capture twice (two interfaces, a mirror port): repeated sooner than TCP repeats.

        RFC 6298 has a SYN repeated after a second at the earliest.
        """
        return self.stream.syn_ack_ns is not None and captured_twice(self.stream)

    def arrived(self, side: Side, said: Command | Reply) -> int:
        """When the other side can have had it, in nanoseconds: the time of its last repetition on the wire.

        What was decrypted has no place in the stream; there it is the time of its packet.
        """
        if said.encrypted or said.offset < 0:
            return said.at.ts_ns
        again = [
            event.at.ts_ns
            for event in self.stream.events
            if event.kind == "retransmission"
            and event.side == side
            and event.offset < said.end
            and event.offset + event.length > said.offset
        ]
        return max(said.at.ts_ns, *again) if again else said.at.ts_ns

    @property
    def clear_start(self) -> bool:
        """The capture has the conversation from its first packet and nothing is missing in it."""
        return self.stream.complete and not self.conversation.joined_late

    @property
    def ended(self) -> bool:
        """The connection was closed on the wire, as opposed to the capture having ended."""
        return self.stream.closed_by is not None

    @cached_property
    def provider(self) -> Provider | None:
        """Whose server it is, if its words tell."""
        return known(self.conversation)

    @cached_property
    def extensions(self) -> dict[str, str]:
        """Keyword to parameters of the last accepted EHLO (RFC 5321 section 4.1.1.1)."""
        return {} if self.helo is None or self.helo.reply is None else keywords(self.helo.reply)

    def silent(self, side: Side) -> bool:
        """That side sent no byte of data (bytes lost from the capture count as sent)."""
        return not self.stream.bytes[side] and not self.stream.missing[side]

    def failures(self, *verbs: str) -> Iterator[tuple[Exchange, Command, Reply, str]]:
        """Refused commands with these verbs (all without), and the reply's text in one line."""
        for exchange in self.failed:
            command, reply = exchange.command, exchange.reply
            if reply is None:
                continue
            if command is None:
                if not verbs:
                    yield exchange, _NOBODY, reply, text_of(reply)
            elif not verbs or command.verb in verbs:
                yield exchange, command, reply, text_of(reply)


TWICE_NS = SOONEST_NS
"""A fifth of the shortest time after which TCP repeats a SYN."""
LONG_PATH_NS = 250 * MILLISECOND
"""A round trip above this is more than the way around the earth by cable: satellite, queueing or overload."""

_NOWHERE = Location("", 0, 0)
_NOBODY = Command("", "", b"", _NOWHERE, _NOWHERE)
_KEYWORD = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:[ =](.*))?$")


def keywords(reply: Reply) -> dict[str, str]:
    """Extension keywords of an EHLO reply, upper case, with their parameters."""
    found: dict[str, str] = {}
    for text in reply.texts[1:]:
        match = _KEYWORD.match(text.strip())
        if match:
            found.setdefault(match[1].upper(), (match[2] or "").strip())
    return found


def text_of(reply: Reply) -> str:
    """The text of all lines in one, for matching and quoting."""
    return " ".join(text.strip() for text in reply.texts)


def quote(reply: Reply, limit: int = 160) -> str:
    """Code and text as an operator would quote them, cut at ``limit`` characters."""
    text = f"{reply.code} {text_of(reply)}".strip()
    text = "".join(c if c.isprintable() else "�" for c in text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def seconds(ns: int) -> str:
    """A duration for people: ``40 ms``, ``6.0 s``, ``12 min``."""
    if ns < SECOND:
        return f"{ns / MILLISECOND:.0f} ms"
    if ns < 120 * SECOND:
        return f"{ns / SECOND:.1f} s"
    return f"{ns / (60 * SECOND):.0f} min"


def side_name(side: Side) -> str:
    """``client`` or ``server``."""
    return "client" if side == CLIENT else "server"
