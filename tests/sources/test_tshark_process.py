"""A tshark that hangs or complains at length neither hangs nor breaks the run."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from smtpdebug.model.streams import CLIENT, Limits, Location
from smtpdebug.model.tls import APPLICATION_DATA, Record, TlsFacts
from smtpdebug.sources.tshark import Tshark, TsharkDecryptor
from smtpdebug.sources.tshark_process import run_worker

VERSION = '[ "$1" = -v ] && { echo "TShark (Wireshark) 4.0.17"; exit; }'
AT = Location("a.pcap", 1, 0)


def decryptor(program: Path, script: str, patience_s: float) -> TsharkDecryptor:
    """A decryptor with one flow held, whose tshark is a shell script."""
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    made = TsharkDecryptor(Tshark(str(program), (4, 0, 0)), [b"key"], Limits(), patience_s)
    made.start(1, TlsFacts("implicit", AT))
    made.push(1, Record(CLIENT, APPLICATION_DATA, 0x0303, bytes(50), 0, AT, AT))
    made.end(1)
    return made


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that others may read: the worker drops root's rights, and pytest's own folders are root's alone."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


def alive(pid: int) -> bool:
    """Whether the process runs; one that is dead and not yet waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize(
    "script",
    [f"{VERSION}; echo $$ >&9; exec sleep 60", "echo $$ >&9; exec sleep 60"],
    ids=["at-work", "at-start"],
)
def test_a_tshark_that_sleeps_is_ended_with_a_sentence(script: str, folder: Path) -> None:
    pids = folder / "pids"
    pids.touch()
    pids.chmod(0o666)
    made = decryptor(folder / "tshark", f"exec 9>>{pids}\n{script}", 4.0)
    began = time.monotonic()
    assert made.flush() == []
    assert time.monotonic() - began < 30
    assert len(made.problems) == 1
    assert "gave nothing for 4 seconds" in made.problems[0]
    # Nor is it left behind by the worker.
    started = [int(line) for line in pids.read_text().split()]
    assert started
    deadline = time.monotonic() + 5
    while any(map(alive, started)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, started))


def test_a_tshark_that_complains_at_length_is_read(folder: Path) -> None:
    script = VERSION + '\nyes "a complaint of some length" | head -c 1000000 >&2\nexit 1'
    made = decryptor(folder / "tshark", script, 60.0)
    began = time.monotonic()
    assert made.flush() == []
    assert time.monotonic() - began < 40
    assert not any("gave nothing" in problem for problem in made.problems)


def test_a_worker_that_complains_at_length_is_told_by_its_last_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than a pipe holds, before it reads its job or writes a frame."""
    program = folder / "python"
    code = "import sys; sys.stderr.write(('y' * 99 + chr(10)) * 10**4)"
    program.write_text(f"#!/bin/sh\n{sys.executable} -c \"{code}\"\necho 'the last word' >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    made = decryptor(folder / "tshark", "exit 0", 60.0)
    assert made.flush() == []
    assert made.problems == ["tshark could not be run for decryption: the last word"]


def test_a_reader_that_stops_early_leaves_no_process(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the run is interrupted between two frames."""
    program = folder / "python"
    frame = "b'\\0\\0\\0\\5\\x92\\1\\xc4\\1x'"
    code = f"import os,time; os.write(1, {frame}); time.sleep(60)"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{code}"\n')
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    problems: list[str] = []
    frames = run_worker({"pid": "{pid}"}, [], dict(os.environ), problems)
    assert next(frames) == (1, b"x")
    began = time.monotonic()
    frames.close()
    assert time.monotonic() - began < 5
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
