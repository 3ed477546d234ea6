"""One stream of packets in time order out of many files, and out of files that are not quite in order themselves."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from smtpdebug.pcap.records import Records, join_records

WINDOW_PACKETS: Final = 16_384
WINDOW_BYTES: Final = 8 << 20
"""How far a packet may stand from its place in time and still be put there."""

CLOCK_STEP_NS: Final = 3_600_000_000_000
"""A step back in time larger than this is a clock that was set or a wrong time stamp, not a packet out of order: the
order of capture is the better evidence then."""

MOST_OPEN: Final = 200
"""Files of a set read side by side."""


class Reorder:
    """Puts the packets of one file into time order within a window.

    Packets of the same time stay in the order of the file. Whether a packet less than the window from its place gets
    there does not depend on how the file was cut into ``Records``.

    Args:
        packets: the window.
        size: the window in bytes; the smaller of both holds.
    """

    def __init__(self, packets: int = WINDOW_PACKETS, size: int = WINDOW_BYTES) -> None:
        self._packets, self._size = packets, size
        self._pending: deque[Records] = deque()
        self._last: int | None = None

    def push(self, records: Records) -> list[Records]:
        """Takes the next records of the file, gives those whose place is certain."""
        if not len(records):
            return []
        out: list[Records] = []
        ts_ns = records.ts_ns
        if self._last is not None and int(ts_ns[0]) < self._last - CLOCK_STEP_NS:
            out += self._step(int(ts_ns[0]))
        self._last = int(ts_ns[-1])
        steps = np.diff(ts_ns)
        if len(steps) == 0 or int(steps.min()) >= 0:
            self._add(records)
        else:
            cuts = (np.flatnonzero(steps < -CLOCK_STEP_NS) + 1).tolist()
            for start, stop in zip([0, *cuts], [*cuts, len(records)], strict=True):
                if start:
                    out += self._step(int(ts_ns[start]))
                part = records.take(slice(start, stop)) if cuts else records
                self._add(part.take(np.argsort(part.ts_ns, kind="stable")))
        return out + self._certain()

    def flush(self) -> list[Records]:
        """Gives all that is left."""
        out = list(self._pending)
        self._pending.clear()
        return out

    def _step(self, after: int) -> list[Records]:
        # What comes before a step back goes out before what follows, and is merged no later than that.
        out = self.flush()
        for part in out:
            if int(part.ts_ns[-1]) > after:
                part.key = np.minimum(part.ts_ns, after)
        return out

    def _add(self, records: Records) -> None:
        first = int(records.ts_ns[0])
        late = []
        while self._pending and int(self._pending[-1].ts_ns[-1]) > first:
            late.append(self._pending.pop())
        if late:
            joined = join_records([*reversed(late), records])
            records = joined.take(np.argsort(joined.ts_ns, kind="stable"))
            if len(records) > 2 * self._packets:
                cut = len(records) - self._packets
                self._pending.append(records.take(slice(0, cut)).compact())
                records = records.take(slice(cut, None)).compact()
        self._pending.append(records)

    def _certain(self) -> list[Records]:
        out = []
        packets = sum(map(len, self._pending))
        size = sum(part.held() for part in self._pending)
        while self._pending:
            packets -= len(self._pending[0])
            size -= self._pending[0].held()
            if packets < self._packets and size < self._size:
                break
            out.append(self._pending.popleft())
        return out


@dataclass(slots=True)
class Waiting:
    """A file of the set that may not be needed yet."""

    first_ns: int
    """Its earliest time, as far as its first packets tell."""
    open: Callable[[int], Iterator[Records | None]]
    """Starts reading, told how many files are open; ``None`` between records: nothing more for now."""


class _Open:
    """A file being merged: the rest of its current records."""

    def __init__(self, rank: int, records: Iterator[Records | None]) -> None:
        self.rank = rank
        self._records = records
        self.now: Records | None = None
        self.ended = False

    def fill(self) -> bool:
        """Gets more records if there are none; false for a pipe that has nothing more for now."""
        while self.now is None and not self.ended:
            try:
                got = next(self._records)
            except StopIteration:
                self.ended = True
                return True
            if got is None:
                return False
            if len(got):
                self.now = got
        return True

    def take(self, until: int, inclusive: bool) -> Records | None:
        assert self.now is not None
        cut = int(np.searchsorted(self.now.keys, until, "right" if inclusive else "left"))
        if cut == 0:
            return None
        if cut == len(self.now):
            taken, self.now = self.now, None
            return taken
        taken = self.now.take(slice(0, cut)).compact()
        self.now = self.now.take(slice(cut, None))
        return taken


def merge(files: list[Waiting]) -> Iterator[Records | None]:
    """The packets of all files by time; of the same time in order of the files, then of the file.

    Files that do not overlap in time are read one after the other, each opened when its time comes. ``None`` says that
    a pipe has nothing more for now.
    """
    waiting = deque(sorted(files, key=lambda file: file.first_ns))
    rank = 0
    active: list[_Open] = []
    while waiting or active:
        quiet = False
        for file in active:
            quiet = not file.fill() or quiet
        active = [file for file in active if not file.ended]
        if quiet:
            yield None
            continue
        until = min((int(file.now.keys[-1]) for file in active if file.now is not None), default=None)
        due = waiting and (until is None or waiting[0].first_ns <= until)
        if due and len(active) < MOST_OPEN:
            active.append(_Open(rank, waiting.popleft().open(len(active) + 1)))
            rank += 1
            continue
        if until is None:
            continue
        yield _up_to(active, until)


def _up_to(active: list[_Open], until: int) -> Records:
    # All before `until`; at `until` itself only from files up to the first whose records end there: more of that time
    # may follow in it, and it comes before the files behind it.
    ends = min(file.rank for file in active if file.now is not None and int(file.now.keys[-1]) == until)
    taken = [file.take(until, file.rank <= ends) for file in active if file.now is not None]
    parts = [part for part in taken if part is not None]
    if len(parts) == 1:
        return parts[0]
    joined = join_records(parts)
    return joined.take(np.argsort(joined.keys, kind="stable"))
