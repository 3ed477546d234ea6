"""Whatever goes wrong: one sentence, the right exit code, no traceback."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from smtpdebug import api
from smtpdebug.errors import KeyFileError

Cli = Callable[..., Result]
Program = Callable[..., "subprocess.CompletedProcess[bytes]"]


def one_sentence(result: Result) -> str:
    lines = result.stderr.strip().splitlines()
    told = [line for line in lines if line.startswith("smtpdebug: ")]
    assert len(told) == 1
    assert "Traceback" not in result.stderr
    return told[0]


def test_a_file_that_is_not_there(cli: Cli, tmp_path: Path) -> None:
    result = cli("show", tmp_path / "nothing.pcap")
    assert result.exit_code == 3
    assert "nothing.pcap" in one_sentence(result)
    assert result.stdout == ""


def test_a_file_that_is_no_capture_and_one_that_is(cli: Cli, tmp_path: Path, captures: Path) -> None:
    (tmp_path / "mail.txt").write_text("220 this is not a capture\n" * 20)
    result = cli("show", tmp_path / "mail.txt", captures / "plain" / "capture.pcap")
    assert result.exit_code == 3
    assert "mail.txt" in one_sentence(result)
    assert "221 2.0.0 Bye" in result.stdout


def test_a_capture_cut_short_is_a_note(cli: Cli, tmp_path: Path, captures: Path) -> None:
    whole = (captures / "plain" / "capture.pcap").read_bytes()
    (tmp_path / "cut.pcap").write_bytes(whole[:-3])
    result = cli("show", tmp_path / "cut.pcap")
    assert result.exit_code == 0
    assert "note: " in result.stderr
    assert "cut.pcap" in result.stderr
    assert "354 " in result.stdout


def test_a_file_name_does_not_drive_the_terminal(cli: Cli, tmp_path: Path, captures: Path) -> None:
    hostile = tmp_path / "\x1b[2J.pcap"
    assert "\x1b" not in cli("show", hostile).stderr
    hostile.write_bytes((captures / "plain" / "capture.pcap").read_bytes())
    result = cli("show", "--no-findings", hostile, captures / "rotated")
    assert "\\x1b[2J.pcap" in result.stdout
    assert "\x1b" not in result.stdout + result.stderr


def test_a_key_that_is_none(cli: Cli, tmp_path: Path, captures: Path) -> None:
    (tmp_path / "key").write_text("not a key")
    result = cli("show", "--rsa-key", tmp_path / "key", captures / "plain" / "capture.pcap")
    assert result.exit_code == 3
    assert one_sentence(result)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--with-code", "9xx", "x.pcap"),
        ("--host", "mx.example.org", "x.pcap"),
        ("--grep", "(", "x.pcap"),
        ("--port", "70000", "x.pcap"),
        ("--rsa-key", "/no/such/key", "x.pcap"),
        ("-f", "xml", "x.pcap"),
        ("--live", "--grep", "x", "-"),
        ("--live", "--decrypt-with", "tshark", "-"),
        ("--no-such-option", "x.pcap"),
    ],
)
def test_wrong_usage(cli: Cli, arguments: tuple[str, ...]) -> None:
    result = cli("show", *arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_an_output_file_that_cannot_be_written(cli: Cli, tmp_path: Path, captures: Path) -> None:
    result = cli("show", "-o", tmp_path / "no" / "where", captures / "plain" / "capture.pcap")
    assert result.exit_code == 3
    assert "where" in one_sentence(result)


def test_an_unexpected_fault_asks_for_a_report(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*paths: object, **options: object) -> None:
        raise RuntimeError("out of cheese\nand more")

    monkeypatch.setattr(api, "read", fail)
    result = cli("show", "x.pcap")
    assert result.exit_code == 3
    told = one_sentence(result)
    assert "RuntimeError: out of cheese" in told
    assert "report" in told
    monkeypatch.setenv("SMTPDEBUG_TRACEBACK", "1")
    assert "Traceback" in cli("show", "x.pcap").stderr


def test_typed_errors_are_told_as_they_are(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*paths: object, **options: object) -> None:
        raise KeyFileError("server.pem: a public key; give the private one")

    monkeypatch.setattr(api, "read", fail)
    result = cli("show", "x.pcap")
    assert (result.exit_code, one_sentence(result)) == (3, "smtpdebug: server.pem: a public key; give the private one")


def test_a_reader_that_has_seen_enough(captures: Path) -> None:
    """``| head``: no traceback, nothing on stderr, exit 0."""
    program = subprocess.Popen(
        [sys.executable, "-m", "smtpdebug", "show", "-q", "--no-findings", *map(str, [captures / "plain"] * 1)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert program.stdout is not None
    assert program.stderr is not None
    program.stdout.close()
    told = program.stderr.read()
    program.stderr.close()
    assert program.wait(timeout=60) == 0
    assert told == b""


def test_a_verdict_that_nobody_heard_out_is_none(captures: Path) -> None:
    """``check | head``: no traceback, but not exit 0 either; 128 + SIGPIPE as of a program that was ended by it."""
    program = subprocess.Popen(
        [sys.executable, "-m", "smtpdebug", "check", "-q", "-f", "jsonl", str(captures / "starttls-stripped")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert program.stdout is not None
    assert program.stderr is not None
    program.stdout.close()
    told = program.stderr.read()
    program.stderr.close()
    assert (program.wait(timeout=60), told) == (141, b"")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_ends_in_good_order(captures: Path, number: signal.Signals) -> None:
    """A pipe that stays open, as tcpdump's does: lines come at once, and what was begun is summed up at the end."""
    data = (captures / "plain" / "capture.pcap").read_bytes()
    program = subprocess.Popen(
        [sys.executable, "-m", "smtpdebug", "show", "--no-findings", "--live", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert program.stdin is not None
    assert program.stdout is not None
    watchdog = threading.Timer(30, program.kill)
    watchdog.start()
    try:
        program.stdin.write(data[: data.index(b"rcpt TO:") + 40])
        program.stdin.flush()
        out = b""
        while b"mail FROM:" not in out:
            line = program.stdout.readline()
            assert line
            out += line
        program.send_signal(number)
        # Not communicate(): that would close standard input first, which is another way to end.
        out += program.stdout.read()
        assert program.stderr is not None
        err = program.stderr.read()
        assert program.wait() == 130
    finally:
        watchdog.cancel()
        program.kill()
        for stream in (program.stdin, program.stdout, program.stderr):
            if stream is not None:
                stream.close()
        program.wait()
    assert out.split()[-1] == b"open"
    assert b"interrupted" in err
    assert b"Traceback" not in err


def test_a_closed_standard_output(captures: Path) -> None:
    """``smtpdebug show ... >&-``: there is no standard output at all then."""
    command = f'"{sys.executable}" -m smtpdebug show "{captures / "plain" / "capture.pcap"}" >&-'
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, timeout=60, check=False)
    assert done.returncode == 3
    assert done.stderr == b"smtpdebug: standard output is closed: nowhere to write\n"


def test_a_key_log_without_secrets_is_told(cli: Cli, tmp_path: Path, captures: Path) -> None:
    """Given the wrong file, or one whose program never wrote: TLS stays closed, and the user should know why."""
    wrong, fine = tmp_path / "wrong.txt", tmp_path / "keys.log"
    wrong.write_text("not a key log\n")
    fine.write_text(f"# made here\nCLIENT_RANDOM {'ab' * 32} {'cd' * 48}\n")
    result = cli("show", "--keylog", wrong, "--keylog", fine, captures / "plain" / "capture.pcap")
    assert result.exit_code == 0
    assert f"note: {wrong}: no line of it is a secret in NSS format\n" in result.stderr
    assert str(fine) not in result.stderr
    wrong.write_text("")
    assert "an empty key log" in cli("tls", "--keylog", wrong, captures / "plain" / "capture.pcap").stderr
