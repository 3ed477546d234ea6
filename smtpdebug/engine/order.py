"""Order of output: conversations in order of their first packet, in bounded memory."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Final, TypeAlias

from smtpdebug.model.smtp import Conversation
from smtpdebug.model.streams import Location

Key: TypeAlias = tuple[int, str, int, int]

_TIDY: Final = 1024


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

    @property
    def held(self) -> int:
        """Keys in memory: what one that never ends must not let grow."""
        return len(self._open) + len(self._done)

    def _forget_done(self) -> None:
        opened, done = self._open, self._done
        while opened and opened[0] in done:
            done.remove(heapq.heappop(opened))
        if len(done) > max(_TIDY, len(opened) // 2):
            # Behind one that never ends the others would stay for ever.
            self._open = [key for key in opened if key not in done]
            heapq.heapify(self._open)
            done.clear()

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
