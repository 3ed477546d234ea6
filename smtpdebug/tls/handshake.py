"""Handshake messages out of records (RFC 8446 section 4): whole, fragmented, several in one record."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from smtpdebug.model.streams import Location
from smtpdebug.model.tls import Record
from smtpdebug.tls.names import CLIENT_HELLO, MESSAGES
from smtpdebug.tls.records import SSL2

MAX_MESSAGE: Final = 1 << 18
"""Longest handshake message followed; certificate chains stay far below it."""


class Message(msgspec.Struct, gc=False):
    """One handshake message with its four header octets, and where it was seen."""

    kind: int
    raw: bytes
    """Header and body, as hashed into the transcript."""
    began: Location
    at: Location
    ssl2: bool = False
    """A ClientHello in the format of SSL 2.0: ``raw`` is what RFC 5246 appendix E.2 lays down, from msg_type on."""

    @property
    def body(self) -> bytes:
        """Without the header."""
        return self.raw[4:]


class MessageReader:
    """Joins the handshake fragments of one direction into messages; holds at most one unfinished message."""

    __slots__ = ("_began", "_held", "lost")

    def __init__(self) -> None:
        self._held = bytearray()
        self._began: Location | None = None
        self.lost = False
        """Something was not a message (ciphertext, or the rest of a message whose start was lost)."""

    def read(self, record: Record) -> Iterator[Message]:
        """The messages that end in this record, which is a handshake record in plain text."""
        if record.version == SSL2:
            return iter((Message(CLIENT_HELLO, record.payload, record.began, record.at, ssl2=True),))
        return self.feed(record.payload, record.began, record.at)

    def feed(self, data: bytes, began: Location, at: Location) -> Iterator[Message]:
        """The messages that end in this fragment."""
        held = self._held
        if held:
            held += data
            data = bytes(held)
            held.clear()
            began = self._began or began
        position, size = 0, len(data)
        while size - position >= 4:
            kind = data[position]
            length = int.from_bytes(data[position + 1 : position + 4], "big")
            if length > MAX_MESSAGE or kind not in MESSAGES:
                self.lost = True
                return
            end = position + 4 + length
            if end > size:
                break
            yield Message(kind, data[position:end], began, at)
            position = end
        if position < size:
            held += data[position:]
            self._began = began

    def reset(self) -> None:
        """A gap, or a change of keys: what is held will not be completed."""
        self._held.clear()
