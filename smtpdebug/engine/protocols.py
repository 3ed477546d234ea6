"""What the engine talks to, and what it gives out."""

from __future__ import annotations

from typing import Protocol, TypeAlias

import msgspec

from smtpdebug.model.smtp import Conversation, TimelineItem
from smtpdebug.model.streams import Side
from smtpdebug.model.tls import Decrypted, Record, TlsFacts, Verdict


class Item(msgspec.Struct, gc=False):
    """Live mode: something was just said (or happened) in a conversation that goes on."""

    conversation: Conversation
    item: TimelineItem


Event: TypeAlias = Item | Conversation
"""A ``Conversation`` is given out once, finished and judged."""


class Decryptor(Protocol):
    """Opens TLS records. Push in, plaintext out, at once or later, for this flow or another.

    A secret learnt late may open an earlier flow, so every call may return records of other flows; a flow's own
    records come in the order in which they were pushed.
    """

    def add_keylog(self, text: bytes, source: str) -> list[Decrypted]:
        """Take secrets in NSS key log format; ``source`` is ``keylog`` or ``dsb``."""

    def start(self, flow: int, facts: TlsFacts) -> None:
        """A TLS connection begins; ``facts`` fills up while its records are pushed."""

    def push(self, flow: int, record: Record) -> list[Decrypted]:
        """One record, in order within its direction."""

    def gap(self, flow: int, side: Side, length: int) -> None:
        """Bytes of one direction are missing before the next record pushed."""

    def end(self, flow: int) -> list[Decrypted]:
        """The connection closed."""

    def pending(self, flow: int) -> bool:
        """An ended flow may still give plaintext later."""

    def flush(self) -> list[Decrypted]:
        """The capture ended: give all that is left."""

    def verdict(self, flow: int) -> Verdict:
        """What became of the flow; it may be forgotten afterwards."""


class Judge(Protocol):
    """The reference validator, as the engine sees it."""

    def judge(self, conversation: Conversation) -> None:
        """Fill in ``findings`` and ``diagnoses``."""


class Sink(Protocol):
    """An output."""

    def conversation(self, conversation: Conversation) -> None:
        """Write one finished conversation."""

    def close(self) -> None:
        """Write what belongs at the end."""
