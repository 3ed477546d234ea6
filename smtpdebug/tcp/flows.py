"""A batch by connection: rows that belong together, each connection's in the order of the batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
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

_SPECIAL: Final = SYN | FIN | RST | ACK
_Rows64: TypeAlias = npt.NDArray[np.uint64]


@dataclass(slots=True)
class Grouped:
    """The rows of a batch, connection after connection, in order of each connection's first row."""

    keys: list[Key]
    counts: list[int]
    rows: Iterator[Row]


def endpoint(version: int, hi: int, lo: int, port: int) -> Endpoint:
    """The endpoint in words."""
    if version == 4:
        return Endpoint(f"{lo >> 24 & 255}.{lo >> 16 & 255}.{lo >> 8 & 255}.{lo & 255}", port)
    return Endpoint(IPv6Address(hi << 64 | lo).compressed, port)


def key_of(version: int, a: tuple[int, int, int], b: tuple[int, int, int]) -> tuple[Key, bool]:
    """The key of the connection between ``(hi, lo, port)`` a and b, and whether a is the lower endpoint."""
    low = a <= b
    first, second = (a, b) if low else (b, a)
    return (version, *first, *second), low


def group(batch: PacketBatch) -> Grouped:
    """Sort the rows by connection, vectorised; within a connection the order stays that of the batch."""
    low = _from_lower(batch)
    columns = [
        np.where(low, batch.src_hi, batch.dst_hi),
        np.where(low, batch.src_lo, batch.dst_lo),
        np.where(low, batch.sport, batch.dport).astype(np.uint64),
        np.where(low, batch.dst_hi, batch.src_hi),
        np.where(low, batch.dst_lo, batch.src_lo),
        np.where(low, batch.dport, batch.sport).astype(np.uint64),
    ]
    version = batch.version.astype(np.uint64)
    labels, first = _label(version, columns)
    rank = np.empty(len(first), dtype=np.int64)
    by_time = np.argsort(first, kind="stable")
    rank[by_time] = np.arange(len(first))
    labels = rank[labels]
    # NumPy sorts 16-bit keys by radix, in linear time.
    order = np.argsort(labels.astype(np.uint16) if len(first) <= 1 << 16 else labels, kind="stable")
    heads = first[by_time]
    fields = [version[heads].tolist(), *(column[heads].tolist() for column in columns)]
    keys: list[Key] = list(zip(*fields, strict=True))
    counts: list[int] = np.bincount(labels, minlength=len(first)).tolist()
    return Grouped(keys, counts, _rows(batch, order, low))


def _from_lower(batch: PacketBatch) -> npt.NDArray[np.bool_]:
    same_hi, same_lo = batch.src_hi == batch.dst_hi, batch.src_lo == batch.dst_lo
    lower_lo = np.where(same_lo, batch.sport <= batch.dport, batch.src_lo < batch.dst_lo)
    return np.where(same_hi, lower_lo, batch.src_hi < batch.dst_hi)


def _label(version: _Rows64, columns: list[_Rows64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """A number per connection for each row, and each connection's first row.

    A 64-bit mix of the six columns is sorted instead of the columns, then checked against them: a collision,
    chance or made on purpose, costs the exact sort and never joins two connections.
    """
    mix = version.copy()
    for column in columns:
        mix ^= column
        mix *= np.uint64(0x9E3779B97F4A7C15)
        mix ^= mix >> np.uint64(29)
    _, first, labels = np.unique(mix, return_index=True, return_inverse=True)
    labels = labels.reshape(-1)
    heads = first[labels]
    for column in (version, *columns):
        if not np.array_equal(column[heads], column):
            table = np.stack((version, *columns), axis=1)
            _, first, labels = np.unique(table, axis=0, return_index=True, return_inverse=True)
            return labels.reshape(-1).astype(np.int64), first.astype(np.int64)
    return labels.astype(np.int64), first.astype(np.int64)


def _rows(batch: PacketBatch, order: npt.NDArray[np.int64], low: npt.NDArray[np.bool_]) -> Iterator[Row]:
    names = batch.captures
    files = batch.capture[order]
    if len(files) and (files == files[0]).all():
        captures = [names[files[0]]] * len(files)
    else:
        captures = [names[index] for index in files.tolist()]
    flags = batch.flags[order]
    plain = (flags & _SPECIAL == ACK) & (batch.window != 0)[order] & (batch.captured == batch.length)[order]
    return zip(
        low[order].tolist(),
        plain.tolist(),
        flags.tolist(),
        batch.seq[order].tolist(),
        batch.ack[order].tolist(),
        batch.window[order].tolist(),
        batch.length[order].tolist(),
        batch.captured[order].tolist(),
        batch.start[order].tolist(),
        batch.frame[order].tolist(),
        batch.ts_ns[order].tolist(),
        captures,
        strict=True,
    )
