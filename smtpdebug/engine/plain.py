"""Places in what was said inside TLS, and which of them the other side had when it spoke.

TCP acknowledges ciphertext. Here each record's place in the TCP stream is kept beside its place in the plaintext, so
that replies inside TLS find their commands by what both sides had, as they do in clear.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

from smtpdebug.model.streams import Gap
from smtpdebug.model.tls import Decrypted

_KEPT: Final = 4096
"""Records whose places are kept of each direction; what is acknowledged was sent just before."""


class PlainOffsets:
    """Offsets in the plaintext of both directions.

    What was lost counts as one octet, however much it was: so what comes behind it has another place.
    """

    __slots__ = ("_lost", "_plain", "_sealed", "offset")

    def __init__(self) -> None:
        self.offset = [0, 0]
        self._sealed: tuple[list[int], list[int]] = ([], [])
        """Offsets in the TCP stream, ascending, and ..."""
        self._plain: tuple[list[int], list[int]] = ([], [])
        """... how much plaintext there is up to them."""
        self._lost = [False, False]
        """A gap was noted that no record has told of yet."""

    def gap(self, gap: Gap) -> None:
        """Octets of the TCP stream are missing."""
        if self._sealed[gap.side]:
            self._lost[gap.side] = True
            self._note(gap.side, gap.offset + gap.length, self.offset[gap.side] + 1)

    def missing(self, record: Decrypted) -> None:
        """Records before this one could not be opened."""
        side = record.side
        self.offset[side] += 1
        self._lost[side] = False
        self._note(side, record.offset, self.offset[side])

    def take(self, record: Decrypted, length: int) -> None:
        """A record was opened and holds so much of the plaintext."""
        side = record.side
        self.offset[side] += length
        self._note(side, record.end, self.offset[side])

    def acked(self, record: Decrypted) -> int:
        """How much of the other side's plaintext the sender of a record had; -1 where that is not known.

        One octet more than there is where it had a record that was not given yet, or that is lost.
        """
        sealed, plain = self._sealed[1 - record.side], self._plain[1 - record.side]
        place = bisect_right(sealed, record.acked)
        if record.acked < 0 or not place:
            return -1
        return plain[place - 1] + (record.acked > sealed[-1])

    def _note(self, side: int, sealed: int, plain: int) -> None:
        known, plains = self._sealed[side], self._plain[side]
        if sealed < 0:
            return
        while known and known[-1] >= sealed:
            known.pop()
            plains.pop()
        known.append(sealed)
        plains.append(plain)
        if len(known) > 2 * _KEPT:
            del known[:_KEPT], plains[:_KEPT]
