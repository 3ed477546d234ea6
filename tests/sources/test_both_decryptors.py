"""Native plaintext is held for tshark's pass only as long as there will be one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

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
