"""IP fragments put together (RFC 791 section 3.2, RFC 8200 section 4.5), bounded in number and time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, TypeAlias

HOLD_NS: Final = 60_000_000_000
"""How long the rest of a packet is waited for (RFC 8200 section 4.5: 60 seconds)."""
_LARGEST: Final = 65_535
_HELD_BYTES: Final = 16 << 20

Key: TypeAlias = tuple[int, bytes, int]
"""IP version, source and destination (and for IPv4 the protocol), identification."""


@dataclass(slots=True)
class _Partial:
    since_ns: int
    pieces: dict[int, bytes] = field(default_factory=dict)
    header: bytes = b""
    protocol: int = 0
    total: int = -1
    size: int = 0
    """Bytes in the pieces, overlaps counted twice."""


class Fragments:
    """Holds fragments until their packet is whole.

    Of pieces that begin at the same place the first one wins, of pieces that overlap in part the one that begins
    earlier (RFC 791 leaves it open; RFC 5722 forbids it in IPv6, where only an attacker would do it).

    Args:
        limit: fragments held at once; the oldest packet is given up for a new one.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._partial: dict[Key, _Partial] = {}
        self._held = 0
        self._bytes = 0

    def add(self, packet: bytes, header: int, ts_ns: int) -> tuple[bytes | None, int]:
        """One fragment, from its IP header to its end.

        Args:
            packet: the bytes of the fragment as captured.
            header: bytes before the fragment's payload; in IPv6 up to and with the fragment header.
            ts_ns: its time.

        Returns:
            the whole packet with a plain header if this was the last piece, and the number of fragments given up.
        """
        lost = self._expire(ts_ns)
        if packet[0] >> 4 == 4:
            word = int.from_bytes(packet[6:8])
            at, last, protocol = (word & 0x1FFF) * 8, not word & 0x2000, packet[9]
            key = (4, packet[12:20] + packet[9:10], int.from_bytes(packet[4:6]))
        else:
            word = int.from_bytes(packet[header - 6 : header - 4])
            at, last, protocol = word & 0xFFF8, not word & 1, packet[header - 8]
            key = (6, packet[8:40], int.from_bytes(packet[header - 4 : header]))
        data = packet[header:]
        if at + len(data) > _LARGEST or not data:
            return None, lost + 1
        partial = self._partial.get(key)
        if partial is None:
            partial = self._partial[key] = _Partial(ts_ns)
        if at in partial.pieces:
            # The same piece again: a longer one may carry more, else it says nothing new.
            data = data[len(partial.pieces[at]) :]
            partial.pieces[at] += data
        else:
            partial.pieces[at] = data
            self._held += 1
        partial.size += len(data)
        self._bytes += len(data)
        if last and partial.total < 0:
            partial.total = at + len(partial.pieces[at])
        if at == 0 and not partial.header:
            partial.header, partial.protocol = packet[: 20 if key[0] == 4 else 40], protocol
        whole = self._whole(partial)
        if whole is not None:
            self._forget(key)
            return _plain(partial, whole), lost
        while self._held > self._limit or self._bytes > _HELD_BYTES:
            lost += self._forget(next(iter(self._partial)))
        return None, lost

    def close(self) -> int:
        """How many fragments are left whose packet never became whole; they are forgotten."""
        held, self._held, self._bytes = self._held, 0, 0
        self._partial.clear()
        return held

    def _forget(self, key: Key) -> int:
        partial = self._partial.pop(key)
        self._held -= len(partial.pieces)
        self._bytes -= partial.size
        return len(partial.pieces)

    def _expire(self, ts_ns: int) -> int:
        lost = 0
        while self._partial:
            key, oldest = next(iter(self._partial.items()))  # in order of their first fragment
            if ts_ns - oldest.since_ns <= HOLD_NS:
                break
            lost += self._forget(key)
        return lost

    @staticmethod
    def _whole(partial: _Partial) -> bytes | None:
        if partial.total < 0 or not partial.header or partial.size < partial.total:
            return None
        data = bytearray()
        for at in sorted(partial.pieces):
            if at > len(data):
                return None
            piece = partial.pieces[at]
            data += piece[len(data) - at :] if at + len(piece) > len(data) else b""
        return bytes(data[: partial.total]) if len(data) >= partial.total else None


def _plain(partial: _Partial, data: bytes) -> bytes:
    # A header without options and without any trace of fragmentation before the whole payload.
    header = bytearray(partial.header)
    if header[0] >> 4 == 4:
        header[0] = 0x45
        header[2:4] = min(len(data) + 20, _LARGEST).to_bytes(2)
        header[6:8] = b"\0\0"
    else:
        header[4:6] = len(data).to_bytes(2)
        header[6] = partial.protocol
    return bytes(header) + data
