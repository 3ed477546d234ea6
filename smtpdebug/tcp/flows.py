"""A batch by connection: rows that belong together, each connection's in the order of the batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from smtpdebug.model.packets import ACK, FIN, RST, SYN, PacketBatch
from smtpdebug.model.streams import Endpoint

Key: TypeAlias = tuple[int, int, int, int, int, int, int]
"""``(version, hi, lo, port, hi, lo, port)``, the numerically lower endpoint first."""

Row: TypeAlias = tuple[bool, bool, int, int, int, int, int, int, int, int, int, str]
"""``(from the lower endpoint, plain, flags, seq, ack, window, length, captured, start, frame, ts_ns, capture)``.

Plain: ACK without SYN, FIN or RST, an open window, no octet cut off by the capture."""

SPECIAL: Final = SYN | FIN | RST | ACK
_PRIME: Final = 0x9E3779B97F4A7C15
_MASK64: Final = (1 << 64) - 1

Rows64: TypeAlias = npt.NDArray[np.uint64]
Numbers: TypeAlias = npt.NDArray[np.int64]
Truths: TypeAlias = npt.NDArray[np.bool_]


@dataclass(slots=True)
class Grouped:
    """The rows of a batch, connection after connection, in order of each connection's first row."""

    batch: PacketBatch
    keys: list[Key]
    sizes: Numbers
    """Rows of each connection."""
    order: Numbers
    """For each place here, the row of the batch."""
    low: Truths
    """For each row of the batch: whether the lower endpoint sent it."""

    @property
    def counts(self) -> list[int]:
        """Rows of each connection."""
        counts: list[int] = self.sizes.tolist()
        return counts

    @property
    def rows(self) -> Iterator[Row]:
        """All rows."""
        return self.take(slice(None))

    def take(self, which: slice | Truths) -> Iterator[Row]:
        """Some rows, by their places here."""
        batch, order = self.batch, self.order[which]
        if len(batch.captures) == 1:
            captures = [batch.captures[0]] * len(order)
        else:
            captures = [batch.captures[index] for index in batch.capture[order].tolist()]
        flags, window = batch.flags[order], batch.window[order]
        captured, length = batch.captured[order], batch.length[order]
        return zip(
            self.low[order].tolist(),
            is_plain(flags, window, captured, length).tolist(),
            flags.tolist(),
            batch.seq[order].tolist(),
            batch.ack[order].tolist(),
            window.tolist(),
            length.tolist(),
            captured.tolist(),
            batch.start[order].tolist(),
            batch.frame[order].tolist(),
            batch.ts_ns[order].tolist(),
            captures,
            strict=True,
        )


def is_plain(
    flags: npt.NDArray[np.uint8],
    window: npt.NDArray[np.uint16],
    captured: npt.NDArray[np.int32],
    length: npt.NDArray[np.int32],
) -> Truths:
    """Which rows are plain, see :data:`Row`."""
    plain: Truths = (flags & SPECIAL == ACK) & (window != 0) & (captured == length)
    return plain


@lru_cache(maxsize=4096)
def _address(version: int, hi: int, lo: int) -> str:
    """In words; kept, since most connections go to few servers."""
    if version == 4:
        return f"{lo >> 24 & 255}.{lo >> 16 & 255}.{lo >> 8 & 255}.{lo & 255}"
    return IPv6Address(hi << 64 | lo).compressed


def endpoint(version: int, hi: int, lo: int, port: int) -> Endpoint:
    """The endpoint in words."""
    return Endpoint(_address(version, hi, lo), port)


def key_of(version: int, a: tuple[int, int, int], b: tuple[int, int, int]) -> tuple[Key, bool]:
    """The key of the connection between ``(hi, lo, port)`` a and b, and whether a is the lower endpoint."""
    low = a <= b
    first, second = (a, b) if low else (b, a)
    return (version, *first, *second), low


def shard_of(key: Key, shards: int) -> int:
    """Which of so many shards follows a connection: the same for both directions, in every batch and process."""
    mix = key[0]
    for field in key[1:]:
        mix = (mix ^ field) * _PRIME & _MASK64
        mix ^= mix >> 29
    return (mix >> 32) % shards


def group(batch: PacketBatch, shard: tuple[int, int] | None = None) -> Grouped:
    """Sort the rows by connection, vectorised; within a connection the order stays that of the batch.

    Args:
        batch: the rows.
        shard: ``(k, n)`` takes only the connections of shard ``k`` of ``n``, see :func:`shard_of`.
    """
    low = _from_lower(batch)
    columns = [
        batch.version.astype(np.uint64),
        np.where(low, batch.src_hi, batch.dst_hi),
        np.where(low, batch.src_lo, batch.dst_lo),
        np.where(low, batch.sport, batch.dport).astype(np.uint64),
        np.where(low, batch.dst_hi, batch.src_hi),
        np.where(low, batch.dst_lo, batch.src_lo),
        np.where(low, batch.dport, batch.sport).astype(np.uint64),
    ]
    mix = _mixed(columns)
    kept: Numbers | None = None
    if shard is not None and shard[1] > 1:
        # Others are dropped before anything is sorted. The upper half of the mix is the well-mixed one.
        kept = np.flatnonzero((mix >> np.uint64(32)) % np.uint64(shard[1]) == shard[0])
        mix, columns = mix[kept], [column[kept] for column in columns]
    labels, first = _label(mix, columns)
    by_time = np.argsort(first, kind="stable")
    rank = np.empty(len(first), dtype=np.int64)
    rank[by_time] = np.arange(len(first))
    labels = rank[labels]
    # NumPy sorts 16-bit keys by radix, in linear time.
    order = np.argsort(labels.astype(np.uint16) if len(first) <= 1 << 16 else labels, kind="stable")
    heads = first[by_time]
    keys: list[Key] = list(zip(*(column[heads].tolist() for column in columns), strict=True))
    sizes = np.bincount(labels, minlength=len(first))
    return Grouped(batch, keys, sizes, order if kept is None else kept[order], low)


def _from_lower(batch: PacketBatch) -> Truths:
    same_hi, same_lo = batch.src_hi == batch.dst_hi, batch.src_lo == batch.dst_lo
    lower_lo = np.where(same_lo, batch.sport <= batch.dport, batch.src_lo < batch.dst_lo)
    return np.where(same_hi, lower_lo, batch.src_hi < batch.dst_hi)


def _mixed(columns: list[Rows64]) -> Rows64:
    """A 64-bit mix of the seven columns of a key for each row; :func:`shard_of` is the same for one key."""
    mix = columns[0].copy()
    for column in columns[1:]:
        mix ^= column
        mix *= np.uint64(_PRIME)
        mix ^= mix >> np.uint64(29)
    return mix


def _label(mix: Rows64, columns: list[Rows64]) -> tuple[Numbers, Numbers]:
    """A number per connection for each row, and each connection's first row.

    The mix is sorted instead of the columns, and 48 bits of it, since 16-bit keys are sorted by radix, in linear
    time. The result is checked against the columns: a collision, chance or made on purpose, costs the exact sort
    and never joins two connections.
    """
    if not len(mix):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    order = np.argsort((mix >> np.uint64(16)).astype(np.uint16), kind="stable")
    for shift in (32, 48):
        part = (mix >> np.uint64(shift)).astype(np.uint16)
        order = order[np.argsort(part[order], kind="stable")]
    in_order = mix[order] >> np.uint64(16)
    begins = np.ones(len(mix), dtype=np.bool_)
    begins[1:] = in_order[1:] != in_order[:-1]
    labels = np.empty(len(mix), dtype=np.int64)
    labels[order] = np.cumsum(begins) - 1
    first = order[begins]
    heads = first[labels]
    for column in columns:
        if not np.array_equal(column[heads], column):
            table = np.stack(columns, axis=1)
            _, first, labels = np.unique(table, axis=0, return_index=True, return_inverse=True)
            return labels.reshape(-1).astype(np.int64), first.astype(np.int64)
    return labels, first
