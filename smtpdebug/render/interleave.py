"""Lines of many conversations by time, without waiting for the end of the capture."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

LineT = TypeVar("LineT")


class Interleaver(Generic[LineT]):
    """Takes conversations in order of their first packet, gives their lines by time.

    A line is given as soon as no later conversation can have an earlier one: when one begins after it. So what is
    held is what overlaps in time.
    """

    def __init__(self, write: Callable[[LineT], None]) -> None:
        self._write = write
        self._heap: list[tuple[int, int, int, LineT]] = []
        self._serial = 0

    def conversation(self, start_ns: int, lines: Iterable[tuple[int, LineT]]) -> None:
        """One conversation's lines with their times; a line never comes before the one above it."""
        heap = self._heap
        while heap and heap[0][0] < start_ns:
            self._write(heapq.heappop(heap)[3])
        self._serial += 1
        latest = start_ns
        for number, (ts_ns, line) in enumerate(lines):
            latest = max(latest, ts_ns)
            heapq.heappush(heap, (latest, self._serial, number, line))

    def close(self) -> None:
        """No more conversations: give the rest."""
        heap = self._heap
        while heap:
            self._write(heapq.heappop(heap)[3])
