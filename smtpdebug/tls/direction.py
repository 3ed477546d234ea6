"""One direction of a TLS connection under encryption: the next sequence number, also after a loss."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from smtpdebug.model.streams import Side
from smtpdebug.model.tls import Record
from smtpdebug.tls.ciphers import Aead13, Opener
from smtpdebug.tls.handshake import MessageReader
from smtpdebug.tls.schedule import next_secret, traffic_keys
from smtpdebug.tls.suite_parameters import Suite

_SMALLEST: Final = 22
"""Bytes of the smallest encrypted record: header, one byte, tag."""
_AHEAD: Final = 4096
"""Sequence numbers tried for one record after a gap."""
_TRIES: Final = 1 << 16
"""Tries in one direction altogether."""


class Epoch:
    """One traffic secret of TLS 1.3 in one direction."""

    __slots__ = ("label", "logged", "opener", "secret", "suite")

    def __init__(self, label: str, suite: Suite, secret: bytes) -> None:
        self.label, self.suite, self.secret = label, suite, secret
        self.logged = True
        """Key logs have this secret; one after a KeyUpdate is made of it."""
        self.opener: Opener = Aead13(suite, traffic_keys(suite, secret))

    def after(self) -> Epoch:
        """The one after a KeyUpdate."""
        later = Epoch(self.label, self.suite, next_secret(self.suite, self.secret))
        later.logged = False
        return later


class Direction:
    """Opens one direction's records in order and finds the place again after a loss."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.opener: Opener | None = None
        self.changing = False
        """A ChangeCipherSpec was seen; the next record is under the next keys."""
        self.lost = False
        """The next sequence number is not certain."""
        self.opened = 0
        self.proven = False
        """A record opened with the keys in force."""
        self.failed = 0
        self.unsaid = 0
        """Records missing that no plaintext has told of yet."""
        self.missing_bytes = 0
        self.messages = MessageReader()
        self._next = 0
        self._passed = 0
        self._gap_bytes = 0
        self._gap_at = -1
        self._tries = _TRIES
        self._epochs: list[Epoch] = []

    def start(self, opener: Opener) -> None:
        """New keys are in force; counting starts again (RFC 5246 section 6.1)."""
        self.opener, self.changing = opener, False
        self._next = self._passed = 0
        self.proven = False
        self.messages.reset()

    def start13(self, epochs: list[Epoch]) -> None:
        """The traffic secrets known, in the order of their use."""
        self._epochs = epochs
        self.start(epochs[0].opener)

    def lose(self, record: Record) -> None:
        """Bytes before this record are missing; a record that is tried again is counted once."""
        if record.offset == self._gap_at:
            return
        self._gap_at = record.offset
        length = record.after_gap
        self.lost = True
        self._gap_bytes += length
        if self.opener is not None:
            self.opener.lose()

    @property
    def epoch(self) -> Epoch | None:
        """The traffic secret of TLS 1.3 in force."""
        return self._epochs[0] if self._epochs else None

    def next_epoch(self) -> None:
        """TLS 1.3: the handshake (or the early data) ends here."""
        if len(self._epochs) > 1:
            self._epochs.pop(0)
            self.start(self._epochs[0].opener)

    def update(self) -> None:
        """TLS 1.3: a KeyUpdate was sent (RFC 8446 section 4.6.3)."""
        if self._epochs:
            self._epochs[0] = self._epochs[0].after()
            self.start(self._epochs[0].opener)

    def open(self, record: Record) -> tuple[int, bytes, int] | None:
        """(content type, plaintext, records missing before it), or ``None`` if it stays closed."""
        opener = self.opener
        assert opener is not None
        sequence = self._next + self._passed
        opened = opener.open(sequence, record)
        if opened is None and (self.lost or len(self._epochs) > 1):
            found = self._search(opener, record)
            if found is not None:
                sequence, opened, opener = found
        opener.advance(record)
        if opened is None:
            self.failed += 1
            self._passed += 1
            # One that fails may be one that was never of this connection: look for the next with care.
            self.lost = self.lost or self.opened > 0
            return None
        missing = sequence - self._next
        self._next, self._passed = sequence + 1, 0
        self._gap_bytes, self.lost = 0, False
        self.opened += 1
        return opened[0], opened[1], missing

    def _search(self, opener: Opener, record: Record) -> tuple[int, tuple[int, bytes], Opener] | None:
        for sequence in self._ahead(opener, record):
            self._tries -= 1
            opened = opener.open(sequence, record)
            if opened is not None:
                return sequence, opened, opener
        return self._search_epochs(record)

    def _ahead(self, opener: Opener, record: Record) -> Iterator[int]:
        """Sequence numbers worth trying: first what the record itself says, then those that the gap has room for."""
        if not self.lost:
            return
        hint = opener.hint(record)
        if hint is not None and 0 < hint < 1 << 32:
            yield self._next + hint
        room = min(self._gap_bytes // _SMALLEST + self._passed + 2, _AHEAD)
        yield from range(self._next, self._next + min(room, max(self._tries, 0)))

    def _search_epochs(self, record: Record) -> tuple[int, tuple[int, bytes], Opener] | None:
        """TLS 1.3: the change of keys itself may have been lost, or early data refused."""
        if not self._epochs:
            return None
        later = self._epochs[1:]
        if self.lost and len(self._epochs) == 1:
            later = [self._epochs[0].after()]
        room = min(self._gap_bytes // _SMALLEST + 2 if self.lost else 1, _AHEAD)
        for position, epoch in enumerate(later):
            for sequence in range(min(room, max(self._tries, 1))):
                self._tries -= 1
                opened = epoch.opener.open(sequence, record)
                if opened is not None:
                    missed = self._passed
                    self._epochs = later[position:]
                    self.start(epoch.opener)
                    self.unsaid += missed
                    return sequence, opened, epoch.opener
        return None
