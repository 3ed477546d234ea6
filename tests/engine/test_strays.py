"""TCP packets of which no conversation can be made are counted and told, in one process and in several."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from smtpdebug.api import STRAY, analyze
from smtpdebug.model.packets import ACK, RST
from smtpdebug.pcap.writer import Link, write_pcap

PROGRAM = Path(sys.executable).with_name("smtpdebug")


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    """A bare ACK and a reset of connections that were never seen, from five clients."""
    packets = []
    for number in range(5):
        link = Link("192.0.2.7", 1025 + number, "192.0.2.25", 25)
        packets.append((number * 1_000_000, link.segment(100, 200, ACK, b"")))
        packets.append((number * 1_000_000 + 1, link.segment(100, 200, RST | ACK, b"")))
    path = tmp_path / "strays.pcap"
    with path.open("wb") as file:
        write_pcap(file, packets)
    return path


def test_strays_are_in_the_report(capture: Path) -> None:
    report = analyze(capture)
    assert (report.packets, report.conversations, report.skipped) == (10, [], {STRAY: 10})


@pytest.mark.parametrize("jobs", ["1", "2", "3"])
def test_strays_are_in_the_summary_whatever_the_processes(capture: Path, jobs: str) -> None:
    done = subprocess.run(
        [PROGRAM, "show", "-f", "jsonl", "--jobs", jobs, capture], capture_output=True, text=True, timeout=60
    )
    assert done.stderr == "10 packets; 0 conversations; skipped 10 TCP of no connection\n"
