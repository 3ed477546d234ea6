"""The secrets known so far, from key logs and from handshakes that a private key opened; shared by all flows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Final, TypeVar

import msgspec

from smtpdebug.tls.keylog import parse_keylog

_MOST: Final = 1 << 17
"""Entries kept of each kind learnt from the wire; the oldest go first. Key log entries are kept whole."""
_T = TypeVar("_T")
_V = TypeVar("_V")

Clue = tuple[str, bytes]
"""What a flow waits for: ``random``, ``session``, ``ticket`` or ``premaster``, and its value."""


class Known(msgspec.Struct, frozen=True, gc=False):
    """A master or premaster secret and where it is from: ``keylog``, ``dsb`` or ``rsa-key``."""

    secret: bytes
    source: str


class Secrets:
    """Looks up secrets by client random, session id, ticket or encrypted premaster.

    ``fresh`` collects the clues of what was added, for the caller to wake the flows that wait for them.
    """

    def __init__(self) -> None:
        self.fresh: list[Clue] = []
        self.ignored = 0
        """Key log lines that were none."""
        self._known: dict[Clue, Known] = {}
        self._learnt: dict[Clue, Known] = {}
        self._traffic: dict[bytes, dict[str, bytes]] = {}
        self._traffic_source: dict[bytes, str] = {}
        self._export: dict[str, None] = {}

    def add_keylog(self, text: bytes, source: str) -> None:
        """Take the lines of a key log; ``source`` is ``keylog`` or ``dsb``."""
        log = parse_keylog(text)
        self.ignored += log.ignored
        kinds = {"CLIENT_RANDOM": "random", "RSA": "premaster", "SESSION_ID": "session"}
        for line in log.lines:
            kind = kinds.get(line.label)
            if kind is None:
                self._traffic.setdefault(line.index, {})[line.label] = line.secret
                self._traffic_source[line.index] = source
                kind = "random"
            else:
                self._known.setdefault((kind, line.index), Known(line.secret, source))
            self.fresh.append((kind, line.index))

    def find(self, kind: str, value: bytes) -> Known | None:
        """A master secret (or a premaster one, for ``premaster``)."""
        clue = (kind, value)
        return self._known.get(clue) or self._learnt.get(clue)

    def traffic(self, random: bytes) -> dict[str, bytes]:
        """The TLS 1.3 traffic secrets of a connection, by key log label."""
        return self._traffic.get(random, {})

    def traffic_source(self, random: bytes) -> str:
        """Where those came from."""
        return self._traffic_source.get(random, "keylog")

    def learn(self, kind: str, value: bytes, secret: bytes, source: str) -> None:
        """Remember the master secret of a session for those that resume it."""
        known = self._learnt.get((kind, value))
        if value and (known is None or known.secret != secret):
            self._learnt[kind, value] = Known(secret, source)
            self.fresh.append((kind, value))
            _trim(self._learnt)

    def used(self, label: str, random: bytes, secret: bytes) -> None:
        """A secret opened something: it is worth exporting."""
        self._export[f"{label} {random.hex()} {secret.hex()}"] = None
        _trim(self._export)

    def export(self) -> Iterator[str]:
        """NSS key log lines, without line ends, of every secret that opened something."""
        return iter(self._export)


def ticket_clue(ticket: bytes) -> bytes:
    """A ticket as a clue: its digest, since tickets are long."""
    return hashlib.sha256(ticket).digest() if ticket else b""


def _trim(entries: dict[_T, _V]) -> None:
    if len(entries) > _MOST:
        del entries[next(iter(entries))]
