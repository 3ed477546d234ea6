"""Packet records of a capture file as columns: what the walkers give and the decoder takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

I32: TypeAlias = npt.NDArray[np.int32]
I64: TypeAlias = npt.NDArray[np.int64]
U8: TypeAlias = npt.NDArray[np.uint8]


@dataclass(slots=True)
class Records:
    """Packet records as arrays of shape ``(n,)``; row ``i`` is ``buf[offset[i] : offset[i] + captured[i]]``."""

    buf: bytes
    frame: I64
    """Number in its file, from 1."""
    ts_ns: I64
    """Nanoseconds since the Unix epoch."""
    offset: I64
    captured: I64
    wire: I64
    """Bytes on the wire, never less than ``captured``."""
    link: I32
    """LINKTYPE number of the interface."""
    capture: I32
    """Index of the file in its set."""
    key: I64 | None = None
    """What to merge by, where that is not ``ts_ns`` (see ``sources.rotated``)."""

    def __len__(self) -> int:
        return len(self.ts_ns)

    @property
    def keys(self) -> I64:
        """What to merge by."""
        return self.ts_ns if self.key is None else self.key

    def take(self, rows: I64 | slice) -> Records:
        """Some rows, or all in another order; the bytes stay where they are."""
        return Records(
            self.buf,
            self.frame[rows],
            self.ts_ns[rows],
            self.offset[rows],
            self.captured[rows],
            self.wire[rows],
            self.link[rows],
            self.capture[rows],
            None if self.key is None else self.key[rows],
        )

    def held(self) -> int:
        """Bytes these records keep in memory."""
        return len(self.buf)

    def compact(self) -> Records:
        """The same rows with no more than their own bytes, when much of ``buf`` belongs to others."""
        if not len(self):
            return empty_records()
        low = int(self.offset.min())
        high = int((self.offset + self.captured).max())
        wanted = int(self.captured.sum()) + 32 * len(self)
        if high - low <= 2 * wanted:
            if high - low == len(self.buf):
                return self
            small = self.take(slice(None))
            small.buf, small.offset = self.buf[low:high], self.offset - low
            return small
        buf = self.buf
        small = self.take(slice(None))
        ends = np.cumsum(self.captured)
        small.buf = b"".join(
            [buf[at : at + size] for at, size in zip(self.offset.tolist(), self.captured.tolist(), strict=True)]
        )
        small.offset = ends - self.captured
        return small


def empty_records() -> Records:
    """No rows."""
    none = np.zeros(0, np.int64)
    small = np.zeros(0, np.int32)
    return Records(b"", none, none, none, none, none, small, small)


def join_records(parts: Sequence[Records]) -> Records:
    """The rows of all parts, one after the other, over one buffer."""
    if len(parts) == 1:
        return parts[0]
    parts = [part.compact() for part in parts]
    starts = np.cumsum([0, *(len(part.buf) for part in parts)])
    offset = np.concatenate([part.offset + start for part, start in zip(parts, starts.tolist(), strict=False)])
    return Records(
        b"".join([part.buf for part in parts]),
        np.concatenate([part.frame for part in parts]),
        np.concatenate([part.ts_ns for part in parts]),
        offset,
        np.concatenate([part.captured for part in parts]),
        np.concatenate([part.wire for part in parts]),
        np.concatenate([part.link for part in parts]),
        np.concatenate([part.capture for part in parts]),
        np.concatenate([part.keys for part in parts]) if any(part.key is not None for part in parts) else None,
    )


class Fault(NamedTuple):
    """Why a file cannot be walked further."""

    what: str
    frame: int | None
    offset: int
    """In the decompressed file."""


class Walker(Protocol):
    """Splits the bytes of one capture file into packet records; keeps nothing but counters and interface tables."""

    fault: Fault | None
    """Set once the file cannot be walked further; ``walk`` then gives nothing more."""
    frames: int
    """Packet records given so far."""
    position: int
    """Offset in the file of the next byte to walk."""

    def walk(self, buf: bytes, start: int, most: int) -> tuple[Records, int]:
        """Up to ``most`` complete records from ``buf[start:]`` and where the walk stopped in ``buf``."""

    def rest(self, buf: bytes, start: int) -> Fault | None:
        """What to say of the bytes left at the end of the file, ``None`` if there are none."""

    def take_secrets(self) -> tuple[bytes, ...]:
        """Key log text seen since the last call."""
