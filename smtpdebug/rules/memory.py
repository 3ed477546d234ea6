"""What a run remembers of earlier conversations, for what compares them: bounded, the oldest forgotten first."""

from __future__ import annotations

from collections import deque
from typing import Final, TypeVar

import msgspec

from smtpdebug.model.streams import Location
from smtpdebug.rules.sighting import ACCEPTED, Sighting

K = TypeVar("K")
V = TypeVar("V")

OFFERS: Final = 10_000
"""Servers (address and port) whose offers are remembered."""
SENDING: Final = 1024
"""Servers whose accepted messages are remembered."""
TRIPLETS: Final = 4096
"""Deferred (client, sender, recipient) triplets remembered."""
FAILED_CONNECTS: Final = 64
WINDOW_NS: Final = 10_000_000_000
"""A sending rate is counted over the ten seconds before: shorter is noise, longer hides a burst."""


class Offer(msgspec.Struct, gc=False):
    """Where one server was first seen to offer STARTTLS in clear, and where not to."""

    there: Location | None = None
    missing: Location | None = None


_NO_OFFER: Final = Offer()


class Earlier:
    """Fed with each conversation's sighting in order of output; tells what a single conversation cannot."""

    def __init__(self) -> None:
        self._offers: dict[tuple[str, int], Offer] = {}
        self._accepted: dict[str, deque[int]] = {}
        self._deferred: dict[tuple[str, str, str], int] = {}
        self._failed_v6: deque[tuple[int, int, str]] = deque(maxlen=FAILED_CONNECTS)

    def remember(self, seen: Sighting) -> None:
        """Take in a conversation: its offer, accepted messages, deferred recipients, failed IPv6 connect."""
        if seen.starttls is not None:
            offer = _kept(self._offers, (seen.server, seen.port), OFFERS) or Offer()
            if seen.starttls:
                offer.there = offer.there or seen.starttls_at
            else:
                offer.missing = offer.missing or seen.starttls_at
            self._offers[seen.server, seen.port] = offer
        if not seen.connected and seen.syn_ns is not None and ":" in seen.server:
            self._failed_v6.append((seen.port, seen.syn_ns, seen.client))
        if seen.accepted:
            times = _kept(self._accepted, seen.server, SENDING)
            if times is None:
                times = self._accepted[seen.server] = deque(maxlen=ACCEPTED)
            times.extend(seen.accepted)
        for sender, recipient in seen.deferred:
            triplet = (seen.client, sender, recipient)
            _kept(self._deferred, triplet, TRIPLETS)
            self._deferred[triplet] = seen.opened.ts_ns

    def offer(self, seen: Sighting) -> Offer:
        """What the same server offered before; nothing known if it was not seen."""
        return self._offers.get((seen.server, seen.port), _NO_OFFER)

    def accepted_per_second(self, server: str, ts_ns: int) -> float | None:
        """Messages a second this server accepted in the ``WINDOW_NS`` before ``ts_ns``; ``None`` if fewer than two."""
        times = self._accepted.get(server)
        recent = [t for t in times or () if ts_ns - WINDOW_NS <= t <= ts_ns]
        if len(recent) < 2:
            return None
        return len(recent) / max((ts_ns - min(recent)) / 1e9, 1.0)

    @property
    def any_deferred(self) -> bool:
        """Some recipient was put off."""
        return bool(self._deferred)

    def deferred(self, client: str, sender: str, recipient: str) -> int | None:
        """When the conversation began in which this triplet was last put off, or ``None``."""
        return self._deferred.get((client, sender, recipient))

    def failed_v6(self, port: int, ts_ns: int, within_ns: int) -> int | None:
        """Time of an IPv6 connect to this port that failed within ``within_ns`` before ``ts_ns``, or ``None``.

        Which host it was cannot be told from an address of the other family: where several failed, nothing is said.
        """
        recent = [
            (began, client)
            for failed, began, client in self._failed_v6
            if failed == port and 0 <= ts_ns - began <= within_ns
        ]
        return recent[-1][0] if len({client for _, client in recent}) == 1 else None


def _kept(records: dict[K, V], key: K, limit: int) -> V | None:
    """The record; where there is none, room for it."""
    found = records.get(key)
    if found is None and len(records) >= limit:
        del records[next(iter(records))]
    return found
