"""The one loop: packets in, conversations out. No I/O, no clock, no globals."""

from smtpdebug.engine.loop import Engine
from smtpdebug.engine.protocols import Decryptor, Event, Item, Judge, Sink

__all__ = ["Decryptor", "Engine", "Event", "Item", "Judge", "Sink"]
