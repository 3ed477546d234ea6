"""One look at all rows of a batch at once: which need a look of their own, and what the others say together.

Array operations, one a question for all connections, so that Python touches only rows with payload and rows that are
not as they should be.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from itertools import islice
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from smtpdebug.model.packets import ACK, FIN, SYN
from smtpdebug.tcp.flows import SPECIAL, Grouped, Key, Numbers, Row, Truths, is_plain
from smtpdebug.tcp.parts import End, Part, Payloads, Run, Shake

FEW: Final = 24
"""Rows of a batch up to which the arrays cost more than they save."""
ROWS, SHAKE, RUN, END = range(4)
"""Kinds of parts; rows are those of the long way."""

_U32: TypeAlias = npt.NDArray[np.uint32]
_HALF_SPACE: Final = np.uint32(1 << 31)
_ONE: Final = np.uint32(1)
_NEVER: Final = -1 << 62
"""An ACK of nothing: smaller than any offset can be."""


class Parts:
    """What a batch consists of, connection after connection.

    Args:
        grouped: the batch.
        avoid: connections whose rows are all for the long way.
        few: see ``FEW``.
    """

    def __init__(self, grouped: Grouped, avoid: Container[Key] = (), few: int = FEW) -> None:
        self.grouped = grouped
        self.payloads: Payloads | None = None
        self._taken: tuple[Iterator[Part], ...] = ()
        if len(grouped.order) <= few:
            self.counts = [1] * len(grouped.keys)
            self._kinds, self._sizes, self._rows = [ROWS] * len(grouped.keys), grouped.counts, grouped.rows
            self.wholes = [False] * len(grouped.keys)
            return
        look = Look(grouped, [key in avoid for key in grouped.keys] if avoid else [])
        self.counts, self.wholes = look.counts()
        self.payloads = look.payloads()
        self._kinds, self._sizes = look.kinds.tolist(), look.sizes.tolist()
        self._rows = grouped.take(look.kind == ROWS)
        self._taken = (iter(()), look.shakes(), look.runs(), look.ends())

    def __iter__(self) -> Iterator[Part]:
        rows, taken = self._rows, self._taken
        for kind, size in zip(self._kinds, self._sizes, strict=True):
            yield next(taken[kind]) if kind else list(islice(rows, size))

    def rows(self, part: Part) -> Iterator[Row]:
        """The rows of a part, for the long way."""
        return iter(part) if isinstance(part, list) else self.grouped.take(slice(part.begin, part.end))


class Look:
    """Rows in the order of ``grouped``, cut into parts.

    Sequence numbers are compared within the connection alone: ``next_low[i]`` is where the lower endpoint's
    direction stands before row ``i`` if every row before it was as it should be. Before the first row of a direction
    that is what the other direction's first row acknowledged. Whether it is true is asked when the part is taken.
    """

    def __init__(self, grouped: Grouped, avoid: list[bool]) -> None:
        batch, order = grouped.batch, grouped.order
        self.grouped, self.count = grouped, len(order)
        self.low = grouped.low[order]
        flags = batch.flags[order]
        window, captured = batch.window[order], batch.captured[order]
        self.length = batch.length[order]
        self.seq, self.ack = batch.seq[order], batch.ack[order]
        self.flags = flags & SPECIAL
        self.plain = is_plain(flags, window, captured, self.length)
        self.empty = (self.length == 0) & (captured == 0) & (window != 0)
        self.file = batch.capture[order] if len(batch.captures) > 1 else None
        ends = np.cumsum(grouped.sizes)
        self.first_row = np.repeat(ends - grouped.sizes, grouped.sizes)
        self.usable = ~np.repeat(np.array(avoid, dtype=np.bool_), grouped.sizes) if any(avoid) else None
        self._follow()
        self._cut()

    def _follow(self) -> None:
        """Where both directions stand before each row; fills ``own``, ``peer`` and ``chained``."""
        low, seq, ack, first_row = self.low, self.seq, self.ack, self.first_row
        past = seq + self.length.astype(np.uint32)
        past += ((self.flags & SYN) != 0).astype(np.uint32) + ((self.flags & FIN) != 0).astype(np.uint32)
        places = np.arange(self.count)
        self.latest_low = np.maximum.accumulate(np.where(low, places, -1))
        self.latest_high = np.maximum.accumulate(np.where(low, -1, places))
        begin_seq, begin_ack, begin_low = seq[first_row], ack[first_row], low[first_row]
        before_low, before_high = _shifted(self.latest_low), _shifted(self.latest_high)
        self.next_low = np.where(before_low >= first_row, past[before_low], np.where(begin_low, begin_seq, begin_ack))
        self.next_high = np.where(
            before_high >= first_row, past[before_high], np.where(begin_low, begin_ack, begin_seq)
        )
        self.own = np.where(low, self.next_low, self.next_high)
        self.peer = np.where(low, self.next_high, self.next_low)
        self.behind = self.peer - ack
        before = np.where(low, before_low, before_high)
        onward = (before < first_row) | (ack - ack[before] < _HALF_SPACE)
        self.chained = self.plain & onward & (seq == self.own) & (self.behind < _HALF_SPACE)
        if self.usable is not None:
            self.chained &= self.usable

    # ---- parts

    def _cut(self) -> None:
        """Fill ``kind`` for rows, and for parts ``begins``, ``sizes`` and ``kinds``."""
        kind = np.where(self.chained, RUN, ROWS).astype(np.int8)
        shakes = self._shakes()
        ends, lasts = self._ends()
        for step in range(3):
            kind[shakes + step] = SHAKE
        for step in range(4):
            kind[np.minimum(ends + step, lasts)] = END
        cut = np.empty(self.count, dtype=np.bool_)
        cut[0] = True
        cut[1:] = (kind[1:] != kind[:-1]) | (self.first_row[1:] != self.first_row[:-1])
        if self.file is not None:
            cut[1:] |= self.file[1:] != self.file[:-1]
        cut[shakes] = cut[ends] = True
        self.kind, self.cut = kind, cut
        self.begins = np.flatnonzero(cut)
        self.sizes = np.diff(self.begins, append=self.count)
        self.kinds = kind[self.begins]
        self.of_shakes, self.of_ends, self.end_lasts = shakes, ends, lasts

    def counts(self) -> tuple[list[int], list[bool]]:
        """Parts of each connection, and whether they are a handshake, a run and an end in one file and no more."""
        sizes, kinds = self.grouped.sizes, self.kinds
        counts = np.add.reduceat(self.cut, np.cumsum(sizes) - sizes, dtype=np.int64)
        three = np.flatnonzero(counts == 3)
        first = (np.cumsum(counts) - counts)[three]
        whole = (kinds[first] == SHAKE) & (kinds[first + 1] == RUN) & (kinds[first + 2] == END)
        if self.file is not None:
            file = self.file[self.begins]
            whole &= (file[first] == file[first + 1]) & (file[first] == file[first + 2])
        wholes = np.zeros(len(counts), dtype=np.bool_)
        wholes[three] = whole
        return counts.tolist(), wholes.tolist()

    def _together(self, first: Numbers, last: Numbers) -> Truths:
        """Whether two rows are of one connection and one file, and may be taken at all."""
        same: Truths = self.first_row[first] == self.first_row[last]
        if self.file is not None:
            for step in range(1, 4):
                same &= self.file[first] == self.file[np.minimum(first + step, last)]
        if self.usable is not None:
            same &= self.usable[first]
        return same

    def _shakes(self) -> Numbers:
        """First rows of whole handshakes."""
        flags, seq, ack, low, empty = self.flags, self.seq, self.ack, self.low, self.empty
        a = np.flatnonzero(flags == SYN)
        a = a[a + 2 < self.count]
        b, c = a + 1, a + 2
        good = self._together(a, c) & (flags[b] == SYN | ACK) & (flags[c] == ACK)
        good &= (low[a] != low[b]) & (low[a] == low[c])
        good &= (self.length[a] == 0) & (self.length[b] == 0) & empty[c]
        good &= (ack[b] == seq[a] + _ONE) & (seq[c] == ack[b]) & (ack[c] == seq[b] + _ONE)
        found: Numbers = a[good]
        return found

    def _ends(self) -> tuple[Numbers, Numbers]:
        """First and last rows of whole ends: three or four rows."""
        flags, seq, ack, low, empty = self.flags, self.seq, self.ack, self.low, self.empty
        a = np.flatnonzero((flags == FIN | ACK) & empty & (seq == self.own) & (self.behind == 0))
        a = a[a + 2 < self.count]
        apart = flags[a + 1] == ACK
        b = a + 1 + apart
        c = b + 1
        inside = c < self.count
        a, apart, b, c = a[inside], apart[inside], b[inside], c[inside]
        # ``m`` acknowledges the first FIN: a segment of its own, or the second FIN.
        m = a + 1
        good = self._together(a, c) & empty[m] & empty[b] & empty[c]
        good &= (flags[b] == FIN | ACK) & (flags[c] == ACK)
        good &= (low[m] != low[a]) & (low[b] != low[a]) & (low[c] == low[a])
        past_first, past_second = seq[a] + _ONE, ack[a] + _ONE
        good &= (seq[m] == ack[a]) & (ack[m] == past_first) & (seq[b] == ack[a]) & (ack[b] == past_first)
        good &= (seq[c] == past_first) & (ack[c] == past_second)
        a, c = a[good], c[good]
        if len(a) > 1:
            # Nonsense could make two overlap.
            clear = np.ones(len(a), dtype=np.bool_)
            clear[1:] = a[1:] > c[:-1]
            a, c = a[clear], c[clear]
        return a, c

    # ---- what each part needs

    def shakes(self) -> Iterator[Shake]:
        """Of each handshake what there is to know."""
        a, order, batch = self.of_shakes, self.grouped.order, self.grouped.batch
        times, frames = batch.ts_ns, batch.frame
        return map(
            Shake,
            a.tolist(),
            self.low[a].tolist(),
            self.seq[a].tolist(),
            self.seq[a + 1].tolist(),
            times[order[a]].tolist(),
            times[order[a + 1]].tolist(),
            times[order[a + 2]].tolist(),
            frames[order[a]].tolist(),
            frames[order[a + 2]].tolist(),
            batch.capture[order[a]].tolist(),
        )

    def ends(self) -> Iterator[End]:
        """Of each end what there is to know."""
        a, c, order, batch = self.of_ends, self.end_lasts, self.grouped.order, self.grouped.batch
        second, before_last = order[a + 1], order[c - 1]
        return map(
            End,
            a.tolist(),
            (c + 1).tolist(),
            self.low[a].tolist(),
            self.seq[a].tolist(),
            self.ack[a].tolist(),
            batch.ts_ns[order[a]].tolist(),
            batch.ts_ns[second].tolist(),
            batch.ts_ns[before_last].tolist(),
            batch.ts_ns[order[c]].tolist(),
            batch.frame[order[a]].tolist(),
            batch.frame[before_last].tolist(),
            batch.frame[order[c]].tolist(),
            batch.capture[order[a]].tolist(),
        )

    def payloads(self) -> Payloads:
        """Of all rows with payload in runs what a Chunk needs; also makes the sums that :meth:`runs` reads."""
        low, length = self.low, self.length
        carries = length > 0
        of_low = np.where(low, length, 0)
        self.low_sum = _summed(of_low)
        self.high_sum = _summed(np.where(low, 0, length))
        self.low_count = _summed(low)
        taken = carries & (self.kind == RUN)
        self.taken_count = _summed(taken)
        self.largest_low = np.maximum.reduceat(of_low, self.begins)
        self.largest_high = np.maximum.reduceat(np.where(low, 0, length), self.begins)
        begin = np.repeat(self.begins, self.sizes)
        low_at, high_at = self.low_sum[:-1] - self.low_sum[begin], self.high_sum[:-1] - self.high_sum[begin]
        self.acked = np.where(low, high_at, low_at) - self.behind.astype(np.int64)
        where = np.flatnonzero(taken)
        rows = self.grouped.order[where]
        batch, from_low = self.grouped.batch, low[where]
        starts = batch.start[rows]
        offset, acked = np.where(low, low_at, high_at)[where], self.acked[where]
        return Payloads(
            low=from_low.view(np.uint8).tolist(),
            high=(~from_low).view(np.uint8).tolist(),
            begin=starts.tolist(),
            end=(starts + length[where]).tolist(),
            frame=batch.frame[rows].tolist(),
            ts_ns=batch.ts_ns[rows].tolist(),
            offset=offset,
            acked=acked,
            offsets=offset.tolist(),
            ackeds=np.maximum(acked, 0).tolist(),
        )

    def runs(self) -> Iterator[Run]:
        """Of each run what changes by it, all its rows together."""
        which = self.kinds == RUN
        begin = self.begins[which]
        end = begin + self.sizes[which]
        batch, last = self.grouped.batch, self.grouped.order[end - 1]
        low_packets = self.low_count[end] - self.low_count[begin]
        latest_low, latest_high = self.latest_low[end - 1], self.latest_high[end - 1]
        return map(
            Run,
            begin.tolist(),
            end.tolist(),
            self.taken_count[begin].tolist(),
            self.taken_count[end].tolist(),
            self.next_low[begin].tolist(),
            self.next_high[begin].tolist(),
            low_packets.tolist(),
            (end - begin - low_packets).tolist(),
            (self.low_sum[end] - self.low_sum[begin]).tolist(),
            (self.high_sum[end] - self.high_sum[begin]).tolist(),
            self.largest_low[which].tolist(),
            self.largest_high[which].tolist(),
            np.where(latest_low >= begin, self.acked[latest_low], _NEVER).tolist(),
            np.where(latest_high >= begin, self.acked[latest_high], _NEVER).tolist(),
            batch.frame[last].tolist(),
            batch.ts_ns[last].tolist(),
            batch.capture[last].tolist(),
        )


def _shifted(places: Numbers) -> Numbers:
    """Of the row before; -1 for the first."""
    moved = np.empty_like(places)
    moved[0] = -1
    moved[1:] = places[:-1]
    return moved


def _summed(values: npt.NDArray[np.generic]) -> Numbers:
    """``[i]`` is the sum of what comes before row ``i``."""
    sums = np.zeros(len(values) + 1, dtype=np.int64)
    np.cumsum(values, out=sums[1:])
    return sums
