"""What a run does not need it does not import: a transcript of a small capture is there at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"scapy", "pyshark", "rich", "jinja2", "textual", "dask", "asyncio", "lxml"}

CODE = """
import sys
from smtpdebug.cli import main
sys.argv = ["smtpdebug", "show", "-q", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print(*sorted(sys.modules), file=sys.stderr)
"""


def imported(*arguments: str | Path) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", CODE, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=True
    )
    return {name.split(".")[0] for name in done.stderr.split()} | set(done.stderr.split())


@pytest.mark.parametrize("form", ["jsonl", "text", "tcpflow"])
def test_show_imports_nothing_heavy(captures: Path, form: str) -> None:
    modules = imported("-f", form, captures / "plain" / "capture.pcap")
    assert "smtpdebug" in modules
    assert not modules & HEAVY


def test_records_without_findings_do_without_the_rules(captures: Path) -> None:
    modules = imported("-f", "jsonl", captures / "plain" / "capture.pcap")
    assert "smtpdebug.rules.judge" not in modules
    assert "smtpdebug.render.text" not in modules
