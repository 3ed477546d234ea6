"""A bar on standard error for long reads, where a person looks on."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Protocol

WORTH_A_BAR = 16 << 20
"""Bytes; less than this is read before a bar could be looked at."""


class Reads(Protocol):
    """What has a size and is read through."""

    @property
    def bytes_total(self) -> int | None:
        """Of the files as they lie on the disk; ``None`` for a pipe."""

    @property
    def bytes_read(self) -> int:
        """So far."""


@contextlib.contextmanager
def progress(source: Reads, *, wanted: bool) -> Iterator[None]:
    """Show how far ``source`` is read while the block runs.

    No bar without a terminal on standard error, for pipes, for small files, or where it is not ``wanted``.
    """
    total = source.bytes_total
    if not wanted or total is None or total < WORTH_A_BAR or not sys.stderr.isatty():
        yield
        return
    with _bar(source, total):
        yield


def _bar(source: Reads, total: int) -> contextlib.AbstractContextManager[object]:
    from collections.abc import Iterable

    from rich.console import Console, RenderableType
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    class Bar(Progress):
        """Asks the source at each refresh, so that reading need not report."""

        def get_renderables(self) -> Iterable[RenderableType]:
            for task in self.tasks:
                task.completed = min(source.bytes_read, total)
            return super().get_renderables()

    bar = Bar(
        TextColumn("reading"), BarColumn(), DownloadColumn(), TimeRemainingColumn(),
        console=Console(stderr=True), transient=True,
    )  # fmt: skip
    bar.add_task("reading", total=total)
    return bar
