"""Native plaintext is held for tshark's pass only as long as there will be one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from smtpdebug.cli.run import Summary
from smtpdebug.model.streams import CLIENT, Limits, Location, Side
from smtpdebug.model.tls import APPLICATION_DATA, Decrypted, Record, TlsFacts, Verdict
from smtpdebug.sources.decryptors import BothDecryptor
from smtpdebug.sources.tshark import Tshark, TsharkDecryptor

AT = Location("a.pcap", 1, 0)


class Open:
    """A decryptor to which everything is open."""

    def add_keylog(self, text: bytes, source: str) -> list[Decrypted]:
        return []

    def start(self, flow: int, facts: TlsFacts) -> None: ...

    def push(self, flow: int, record: Record) -> list[Decrypted]:
        return [Decrypted(flow, record.side, record.content_type, record.payload, record.began, record.at)]

    def gap(self, flow: int, side: Side, length: int) -> None: ...

    def end(self, flow: int) -> list[Decrypted]:
        return []

    def pending(self, flow: int) -> bool:
        return False

    def flush(self) -> list[Decrypted]:
        return []

    def verdict(self, flow: int) -> Verdict:
        return Verdict(True, "keylog", "native")


def record(number: int, size: int) -> Record:
    return Record(CLIENT, APPLICATION_DATA, 0x0303, number.to_bytes(4) + bytes(size), 0, AT, AT)


def test_a_flow_too_long_for_tshark_streams_from_then_on() -> None:
    """It may never end: what tshark gave up on is given out at once, in order, and not held for the end."""
    tshark = TsharkDecryptor(Tshark("/nonexistent/tshark", (4, 0, 0)), [], Limits(tls_spool_bytes=20_000))
    both = BothDecryptor(tshark, Open())
    both.start(1, TlsFacts("implicit", AT))
    given = []
    for number in range(100):
        given += both.push(1, record(number, 1000))
        if number > 20:
            assert len(given) == number + 1
    assert [one.data[:4] for one in given] == [number.to_bytes(4) for number in range(100)]
    assert not both.pending(1)
    assert both.end(1) == []
    assert both.verdict(1).decryptor == "native"


def test_tiny_records_count_with_what_they_cost() -> None:
    tshark = TsharkDecryptor(Tshark("/nonexistent/tshark", (4, 0, 0)), [], Limits(tls_spool_bytes=20_000))
    tshark.start(1, TlsFacts("implicit", AT))
    for number in range(200):
        tshark.push(1, record(number, 0))
    assert not tshark.pending(1)


@pytest.mark.parametrize(
    "worker",
    ["import os; os._exit(1)", "import os,sys; sys.stdin.read(); os.write(1, b'\\0\\0\\1\\0half'); os._exit(9)"],
)
def test_a_worker_that_is_ended_is_a_problem_and_no_exception(
    worker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by the kernel when memory runs out, at the start or within a frame."""
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{worker}"\n')
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    tshark = TsharkDecryptor(Tshark("/nonexistent/tshark", (4, 0, 0)), [b"key"], Limits())
    tshark.start(1, TlsFacts("implicit", AT))
    tshark.push(1, record(0, 10))
    tshark.end(1)
    assert tshark.flush() == []
    assert len(tshark.problems) == 1
    assert "could not be run" in tshark.problems[0]


@pytest.mark.parametrize("both", [False, True])
def test_a_flow_that_is_let_go_before_its_pass_is_forgotten(
    both: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its verdict was asked for while it waited: the pass opens the others and leaves nothing behind of it."""
    frames = b"\0\0\0\5\x92\4\xc4\1x" + bytes(4)
    program = tmp_path / "python"
    code = f"import os,sys; sys.stdin.read(); os.write(1, bytes.fromhex('{frames.hex()}'))"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{code}"\n')
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    tshark = TsharkDecryptor(Tshark("/nonexistent/tshark", (4, 0, 0)), [b"key"], Limits())
    made = BothDecryptor(tshark, Open()) if both else tshark
    for flow in (1, 2):
        made.start(flow, TlsFacts("implicit", AT))
        made.push(flow, record(0, 0))
        made.end(flow)
    made.verdict(1)
    assert not tshark.pending(1)
    # Three packets open the one connection of the scratch capture, the fourth has flow 2's record.
    assert [(one.flow, one.data) for one in made.flush()] == [(2, bytes(4) if both else b"x")]
    assert tshark.problems == []
    made.verdict(2)
    for holder in (made, tshark):
        for name, kept in vars(holder).items():
            assert not isinstance(kept, dict | set | list) or not (1 in kept or 2 in kept), name
    assert tshark._held_bytes == 0


def test_a_difference_names_the_record_where_it_begins_and_costs_the_exit_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tshark = TsharkDecryptor(Tshark("/nonexistent/tshark", (4, 0, 0)), [], Limits())
    both = BothDecryptor(tshark, Open(), verify=True)
    both.start(1, TlsFacts("implicit", AT))
    for frame in (3, 5, 7):
        at = Location("a.pcap", frame, 0)
        theirs = both.push(1, Record(CLIENT, APPLICATION_DATA, 0x0303, b"NOOP\r\n", 0, at, at))
        assert theirs == []
    both.end(1)
    both._theirs[1] = [Decrypted(1, CLIENT, APPLICATION_DATA, data, AT, AT) for data in (b"NOOP\r\nNO", b"-P\r\n")]
    both._settle(1)
    (told,) = both.differences
    assert "a.pcap, frame 5" in told
    assert "the same up to byte 8" in told
    summary = Summary(9, 1, 1, {}, both.differences, [], interrupted=False, differs=True)
    assert summary.say(quiet=True) == 1
    assert told in capsys.readouterr().err
