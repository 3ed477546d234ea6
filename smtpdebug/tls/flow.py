"""One TLS connection being decrypted: which keys are in force in each direction, and which record comes next."""

from __future__ import annotations

from collections import deque
from typing import Final

from smtpdebug.model.streams import CLIENT, SERVER, Side
from smtpdebug.model.tls import (
    ALERT,
    APPLICATION_DATA,
    CHANGE_CIPHER_SPEC,
    HANDSHAKE,
    UNSEALED,
    Decrypted,
    Record,
    Verdict,
    opened_by,
)
from smtpdebug.tls import names
from smtpdebug.tls.ciphers import Inflated, Opener, Stream, Unsealed, make_opener
from smtpdebug.tls.direction import Direction, Epoch
from smtpdebug.tls.handshake import Message
from smtpdebug.tls.keys import KeyRing
from smtpdebug.tls.negotiation import Negotiation
from smtpdebug.tls.secrets import Clue, Secrets

_TLS13: Final = 0x0304
_RENEGOTIATIONS: Final = 64
_OVERHEAD: Final = 300
"""Bytes that a waiting record costs beside its payload."""
_HOPELESS: Final = 16
"""Records that fail one after the other before any has opened: the keys are wrong."""


class Flow:
    """Takes the records of both directions in capture order and opens what it can.

    Records that cannot be opened yet wait, in order; a record of the same direction behind them waits too.
    """

    def __init__(self, number: int, secrets: Secrets, keys: KeyRing) -> None:
        self.number = number
        self.held = 0
        """Bytes that wait, bookkeeping included."""
        self.messages = 0
        """Handshake messages read so far: when it grows, ``clues`` may have changed."""
        self.dead: str | None = None
        """It will never open (further): why."""
        self._secrets, self._ring = secrets, keys
        self._negotiations = [Negotiation(secrets, keys)]
        self._at = [0, 0]
        self._in_force: list[Negotiation | None] = [None, None]
        """Whose keys each side uses: in a renegotiation still those of the handshake before."""
        self._sides = (Direction(CLIENT), Direction(SERVER))
        self._spools: tuple[deque[tuple[int, Record]], ...] = (deque(), deque())
        self._arrived = 0
        self._changed = False
        self._out: list[Decrypted] = []

    # What the decryptor calls.

    def push(self, record: Record) -> list[Decrypted]:
        """The next record; gives what it opened, and what waited for it."""
        if self.dead is not None:
            self._sides[record.side].failed += 1
            return []
        self._out = []
        if (self._spools[record.side] or not self._process(record)) and self.dead is None:
            self._hold(record)
        if self._changed and self.holds:
            self._drain()
        self._changed = False
        return self._out

    def retry(self) -> list[Decrypted]:
        """A secret turned up: open what waited."""
        self._out = []
        if self.dead is None:
            self._drain()
        return self._out

    def clues(self) -> list[Clue]:
        """What the secrets that would open this are filed under."""
        return [clue for negotiation in self._negotiations for clue in negotiation.clues()]

    @property
    def waits_for_session(self) -> bool:
        """Closed only because the session that it resumes was not opened (yet)."""
        return self.holds and any(one.resumes and one.master is None for one in self._negotiations)

    @property
    def holds(self) -> bool:
        """Records wait for a secret."""
        return bool(self._spools[CLIENT] or self._spools[SERVER])

    def give_up(self, reason: str) -> None:
        """Let the waiting records go."""
        self.dead = self.dead or reason
        for side, spool in zip(self._sides, self._spools, strict=True):
            side.failed += len(spool)
            spool.clear()
        self.held = 0

    def gap(self, side: Side, length: int) -> None:
        """Bytes of one direction are missing; where, the next record says itself."""
        self._sides[side].missing_bytes += length

    def verdict(self) -> Verdict:
        """What became of it."""
        opened = sum(side.opened for side in self._sides)
        source = next((one.source for one in reversed(self._negotiations) if one.source), None)
        if opened:
            detail = self._losses()
            return Verdict(True, source, "native", "partial" if detail else None, detail)
        fault = next((one.fault for one in self._negotiations if one.fault), None)
        reason = self.dead if self.dead in ("spool-limit", "not-authentic") else fault
        held = sum(side.failed for side in self._sides) + sum(map(len, self._spools))
        if reason is None and any(side.opener is not None and side.failed for side in self._sides):
            reason = "not-authentic"
        detail = f"{held} records let go" if reason == "spool-limit" else ""
        return Verdict(False, None, "native", reason, detail)

    def _losses(self) -> str:
        parts = []
        for side, name in zip(self._sides, ("client", "server"), strict=True):
            closed = side.failed + len(self._spools[side.side])
            if closed:
                parts.append(f"{closed} of {closed + side.opened} records of the {name} stay closed")
            if side.missing_bytes:
                parts.append(f"{side.missing_bytes} bytes of the {name} are missing")
        return ", ".join(parts)

    # The spool.

    def _hold(self, record: Record) -> None:
        self._arrived += 1
        self._spools[record.side].append((self._arrived, record))
        self.held += _cost(record)

    def _drain(self) -> None:
        """Open what can be opened, in order of arrival, until both directions are stuck or empty."""
        stuck = [False, False]
        while self.dead is None:
            heads = [(spool[0][0], side) for side, spool in enumerate(self._spools) if spool and not stuck[side]]
            if not heads:
                break
            side = min(heads)[1]
            record = self._spools[side][0][1]
            self._changed = False
            if not self._process(record):
                stuck[side] = True
            elif self._spools[side]:
                self._spools[side].popleft()
                self.held -= _cost(record)
            if self._changed:
                stuck[1 - side] = False  # what one side says may open the other
        self._changed = False

    # One record.

    def _process(self, record: Record) -> bool:
        """Whether the record is done with; ``False``: its keys are not known yet."""
        side = self._sides[record.side]
        if record.after_gap:
            side.lose(record)
        if (side.changing or (side.opener is None and self._must_change(side, record))) and not self._change(side):
            return False
        if side.opener is None:
            return self._plain(side, record)
        if record.content_type == APPLICATION_DATA or self._negotiation(side).version != _TLS13:
            self._open(side, record)
        return True

    def _negotiation(self, side: Direction) -> Negotiation:
        return self._negotiations[self._at[side.side]]

    def _must_change(self, side: Direction, record: Record) -> bool:
        """In plain text so far, and this record shows that the ChangeCipherSpec was lost in a gap."""
        version = self._negotiation(side).version
        if not side.lost or version is None or version == _TLS13:
            return False
        if record.content_type == HANDSHAKE:
            length = int.from_bytes(record.payload[1:4], "big") if len(record.payload) >= 4 else 1 << 24
            return record.payload[:1] not in _MESSAGE_BYTES or length > 1 << 18
        return record.content_type == APPLICATION_DATA or (record.content_type == ALERT and len(record.payload) != 2)

    def _change(self, side: Direction) -> bool:
        """Up to TLS 1.2: put the negotiated keys in force."""
        negotiation = self._negotiation(side)
        if side.side == SERVER:
            negotiation.server_changed = self._changed = True
        blocks, suite = negotiation.blocks(), negotiation.suite
        opener: Opener
        if suite is not None and suite.cipher == "null":
            negotiation.source = UNSEALED
            opener = Stream(suite, blocks[side.side]) if blocks is not None else Unsealed(suite)
        elif blocks is None:
            return False
        else:
            assert negotiation.version is not None
            assert suite is not None
            opener = make_opener(negotiation.version, suite, blocks[side.side], etm=negotiation.etm)
        self._in_force[side.side] = negotiation
        side.start(Inflated(opener) if negotiation.compressed else opener)
        return True

    def _plain(self, side: Direction, record: Record) -> bool:
        """A record before any keys are in force."""
        kind = record.content_type
        if kind == HANDSHAKE:
            if record.after_gap:
                side.messages.reset()
            for message in side.messages.read(record):
                self._message(side, message, inner=False)
            return True
        if kind == ALERT:
            return True
        version = self._negotiation(side).version
        if version is None:
            if side.side == SERVER:
                self.give_up("incomplete")  # the ServerHello was lost
            return side.side == SERVER
        if kind == CHANGE_CIPHER_SPEC:
            side.changing = version != _TLS13
            return True
        if version != _TLS13:
            return True
        return self._start13(side) and self._process(record)

    def _start13(self, side: Direction) -> bool:
        """TLS 1.3: the first encrypted record of a direction; whether any of its secrets is known."""
        negotiation = self._negotiation(side)
        suite, hello = negotiation.suite, negotiation.client_hello
        secrets = self._secrets.traffic(negotiation.random)
        if suite is None or hello is None or not secrets:
            return False
        early = side.side == CLIENT and hello.extension(names.EARLY_DATA) is not None
        labels = _CLIENT_LABELS if side.side == CLIENT else _SERVER_LABELS
        epochs = [Epoch(label, suite, secrets[label]) for label in labels if label in secrets]
        if not epochs:
            return False
        negotiation.source = self._secrets.traffic_source(negotiation.random)
        side.start13(epochs)
        # Early data, or a handshake, whose secret is not in the key log: what opens comes later.
        side.lost = side.lost or early or len(epochs) < len(labels) - (side.side == CLIENT)
        return True

    def _open(self, side: Direction, record: Record) -> None:
        opened = side.open(record)
        if opened is None:
            if not side.opened and side.failed >= _HOPELESS and not side.lost:
                self.give_up("not-authentic")
            return
        kind, data, missing = opened
        if not side.proven:
            side.proven = True
            self._first_opened(side)
        if data and kind != CHANGE_CIPHER_SPEC:
            self._out.append(opened_by(self.number, record, kind, data, missing + side.unsaid))
            side.unsaid = 0
        else:
            side.unsaid += missing
        if kind == HANDSHAKE:
            if missing:
                side.messages.reset()
            for message in side.messages.feed(data, record.began, record.at):
                self._message(side, message, inner=True)
        elif kind == CHANGE_CIPHER_SPEC and self._negotiation(side).version != _TLS13:
            side.changing = True

    def _first_opened(self, side: Direction) -> None:
        """The keys in force are the right ones: their secret is worth exporting."""
        negotiation, epoch = self._in_force[side.side], side.epoch
        if epoch is not None and epoch.logged:
            self._secrets.used(epoch.label, self._negotiation(side).random, epoch.secret)
        elif epoch is None and negotiation is not None and negotiation.master is not None:
            self._secrets.used("CLIENT_RANDOM", negotiation.random, negotiation.master)

    def _message(self, side: Direction, message: Message, *, inner: bool) -> None:
        kind = message.kind
        self._changed = True
        self.messages += 1
        if self._negotiation(side).version == _TLS13 and inner:
            if kind in (names.FINISHED, names.END_OF_EARLY_DATA):
                side.next_epoch()
            elif kind == names.KEY_UPDATE:
                side.update()
            return
        if kind == names.HELLO_REQUEST:
            return
        if inner and kind in (names.CLIENT_HELLO, names.SERVER_HELLO):
            # Renegotiation: this side speaks of the next handshake from here on.
            self._at[side.side] += 1
            if self._at[side.side] == len(self._negotiations):
                if len(self._negotiations) > _RENEGOTIATIONS:
                    self._at[side.side] -= 1
                    self.give_up("renegotiations")
                    return
                self._negotiations.append(Negotiation(self._secrets, self._ring))
        self._negotiation(side).message(side.side, message)


def _cost(record: Record) -> int:
    return len(record.payload) + _OVERHEAD


_CLIENT_LABELS: Final = (
    "CLIENT_EARLY_TRAFFIC_SECRET",
    "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
    "CLIENT_TRAFFIC_SECRET_0",
)
_SERVER_LABELS: Final = ("SERVER_HANDSHAKE_TRAFFIC_SECRET", "SERVER_TRAFFIC_SECRET_0")
_MESSAGE_BYTES: Final = frozenset(bytes((kind,)) for kind in names.MESSAGES)
