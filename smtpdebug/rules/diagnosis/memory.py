"""What diagnoses remember of earlier conversations of a capture: bounded, oldest forgotten first."""

from __future__ import annotations

from collections import OrderedDict, deque

from smtpdebug.model.smtp import END_OF_DATA, Conversation

SERVERS = 1024
"""Servers remembered."""
ACCEPTED = 512
"""Times of accepted messages remembered for one server: enough to tell a sending rate."""
TRIPLETS = 4096
"""Greylisted (client, sender, recipient) triplets remembered."""
FAILED_CONNECTS = 64
WINDOW_NS = 10_000_000_000
"""A sending rate is counted over the ten seconds before: shorter is noise, longer hides a burst."""


class Memory:
    """Fed with each finished conversation in order; tells what a single conversation cannot."""

    def __init__(self) -> None:
        self._accepted: OrderedDict[str, deque[int]] = OrderedDict()
        self._deferred: OrderedDict[tuple[str, str, str], int] = OrderedDict()
        self._failed_v6: deque[tuple[int, int]] = deque(maxlen=FAILED_CONNECTS)

    @property
    def troubled(self) -> bool:
        """Some earlier conversation failed to connect over IPv6 or had a recipient put off."""
        return bool(self._deferred or self._failed_v6)

    def observe(self, conversation: Conversation) -> None:
        """Take in a finished conversation: accepted messages, deferred recipients, failed IPv6 connects."""
        stream = conversation.stream
        if stream.syn_ack_ns is None and stream.syn_ns is not None and ":" in stream.server.ip:
            self._failed_v6.append((stream.server.port, stream.syn_ns))
        times = self._accepted.get(stream.server.ip)
        for exchange in conversation.exchanges:
            command, reply = exchange.command, exchange.reply
            if command is None or reply is None:
                continue
            if command.verb in (END_OF_DATA, "BDAT") and reply.code == 250:
                if times is None:
                    times = self._accepted[stream.server.ip] = deque(maxlen=ACCEPTED)
                    if len(self._accepted) > SERVERS:
                        self._accepted.popitem(last=False)
                times.append(reply.at.ts_ns)
        for message in conversation.messages:
            for recipient in message.recipients:
                if recipient.code is not None and 450 <= recipient.code <= 451:
                    key = (stream.client.ip, message.mail_from.lower(), recipient.address.lower())
                    self._deferred[key] = stream.opened.ts_ns
                    if len(self._deferred) > TRIPLETS:
                        self._deferred.popitem(last=False)

    def accepted_per_second(self, server: str, ts_ns: int) -> float | None:
        """Messages a second this server accepted in the ``WINDOW_NS`` before ``ts_ns``; ``None`` if fewer than two."""
        times = self._accepted.get(server)
        recent = [t for t in times or () if ts_ns - WINDOW_NS <= t <= ts_ns]
        if len(recent) < 2:
            return None
        return len(recent) / max((ts_ns - min(recent)) / 1e9, 1.0)

    def deferred_before(self, client: str, sender: str, recipient: str) -> int | None:
        """When this triplet was first put off, or ``None``."""
        return self._deferred.get((client, sender.lower(), recipient.lower()))

    def failed_v6_before(self, port: int, ts_ns: int, within_ns: int) -> int | None:
        """Time of an IPv6 connect to this port that failed within ``within_ns`` before ``ts_ns``, or ``None``."""
        for failed_port, began in reversed(self._failed_v6):
            if failed_port == port and 0 <= ts_ns - began <= within_ns:
                return began
        return None
