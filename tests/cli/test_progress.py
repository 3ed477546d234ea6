"""The bar is for a person who looks on, and for nobody else."""

from __future__ import annotations

import io
import sys

import pytest

from smtpdebug.cli.progress import WORTH_A_BAR, progress


class Source:
    """Something to read, half of it read."""

    def __init__(self, total: int | None) -> None:
        self.bytes_total = total
        self.bytes_read = 0 if total is None else total // 2


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, source: Source, *, wanted: bool = True, terminal: bool = True) -> str:
    stderr = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setenv("TERM", "xterm")
    with progress(source, wanted=wanted):
        pass
    return stderr.getvalue()


def test_a_long_read_on_a_terminal_has_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, Source(100_000_000))
    assert "reading" in text
    assert "50.0/100.0 MB" in text


def test_no_bar_where_nobody_looks_or_nothing_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, Source(100_000_000), terminal=False) == ""
    assert shown(monkeypatch, Source(100_000_000), wanted=False) == ""
    assert shown(monkeypatch, Source(WORTH_A_BAR - 1)) == ""
    assert shown(monkeypatch, Source(None)) == ""
