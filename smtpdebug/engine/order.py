"""Order of output: conversations in order of their first packet, in bounded memory."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import TypeAlias

from smtpdebug.model.smtp import Conversation
from smtpdebug.model.streams import Location

Key: TypeAlias = tuple[int, str, int, int]


class OutputOrder:
    """Holds finished conversations back for earlier ones that are unfinished.

    Args:
        budget: how many finished ones may wait; above it the oldest go out, whatever is still open before them.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._open: list[Key] = []
        self._done: set[Key] = set()
        self._finished: list[tuple[Key, Conversation]] = []
        self.let_go_early = 0

    def opened(self, at: Location, serial: int) -> Key:
        """Note a conversation; the key is for :meth:`finished`."""
        key = (at.ts_ns, at.capture, at.frame, serial)
        heapq.heappush(self._open, key)
        return key

    def finished(self, key: Key, conversation: Conversation) -> None:
        """The conversation is ready to go out in its turn."""
        self._done.add(key)
        heapq.heappush(self._finished, (key, conversation))

    def drop(self, key: Key) -> None:
        """The conversation will never go out."""
        self._done.add(key)
        self._forget_done()

    def _forget_done(self) -> None:
        opened, done = self._open, self._done
        while opened and opened[0] in done:
            done.remove(heapq.heappop(opened))

    def ready(self, *, everything: bool = False) -> Iterator[Conversation]:
        """Those whose turn has come; with ``everything``, all that are finished."""
        finished = self._finished
        while finished:
            self._forget_done()
            if self._open and self._open[0] < finished[0][0] and not everything:
                if len(finished) <= self._budget:
                    return
                self.let_go_early += 1
            yield heapq.heappop(finished)[1]
