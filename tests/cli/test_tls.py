"""``tls``: what is told of each handshake, and what other programs make of its exports."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

import pytest
from click.testing import Result

from smtpdebug.sources import export

Cli = Callable[..., Result]


@pytest.fixture
def rsa(captures: Path) -> Path:
    """STARTTLS, TLS 1.2, RSA key exchange (its expect.toml)."""
    return captures / "starttls-rsa"


@pytest.fixture
def tls13(captures: Path) -> Path:
    return captures / "tls13-keylog"


def told(result: Result) -> str:
    """Standard output without line breaks."""
    return re.sub(r"\s+", " ", result.stdout)


def tshark(path: Path, *options: str, show: str) -> list[str]:
    """A field of every packet that has it, as tshark decrypts it."""
    if shutil.which("tshark") is None:
        pytest.skip("tshark is not installed")
    done = subprocess.run(
        ["tshark", "-r", str(path), *options, "-Y", show, "-T", "fields", "-e", show],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LC_ALL": "C"},
    )
    return done.stdout.split()


# Verbs as the client's log has them (captures/*/expect.toml), of four letters as tshark has them (it knows RFC 821).
SAID = ["EHLO", "STAR", "EHLO", "MAIL", "RCPT", "DATA", "QUIT"]


def test_a_handshake_that_the_key_opens(cli: Cli, rsa: Path) -> None:
    result = cli("tls", "--decrypt-with", "native", "--rsa-key", rsa / "server.key", rsa / "capture.pcap")
    assert result.exit_code == 0, result.stderr
    text = told(result)
    assert "192.0.2.25:25 STARTTLS" in text
    assert "TLS_RSA_WITH_AES_256_GCM_SHA384 (RSA key exchange, no forward secrecy); a full handshake" in text
    assert "the name asked for is among them" in text
    assert "decrypted by native with the RSA key" in text
    assert text.endswith("1 conversation: 1 with TLS, 1 of them decrypted ")


def test_without_a_key_it_says_why_and_what_to_do(cli: Cli, rsa: Path, tls13: Path) -> None:
    text = told(cli("tls", rsa / "capture.pcap"))
    assert "closed no private key was given" in text
    assert "to open it give the server's RSA private key with --rsa-key" in text
    text = told(cli("tls", "--rsa-key", rsa / "server.key", "--decrypt-with", "native", tls13 / "capture.pcap"))
    assert "agreed TLS 1.3" in text
    assert "not visible: TLS 1.3 encrypts it" in text
    assert "the server's RSA key can never open it" in text


def test_tls13_shows_the_certificate_once_it_is_open(cli: Cli, tls13: Path) -> None:
    text = told(cli("tls", "--decrypt-with", "native", "--keylog", tls13 / "keylog.txt", tls13 / "capture.pcap"))
    assert "decrypted by native with the key log" in text
    assert "CN=mx.example.org; RSA 2048; self-signed" in text


def test_others_are_counted(cli: Cli, captures: Path, rsa: Path) -> None:
    result = cli("tls", captures / "plain" / "capture.pcap", rsa / "capture.pcap")
    assert "2 conversations: 1 with TLS, 0 of them decrypted; 1 without TLS" in result.stdout


def test_jsonl_has_the_records_of_conversations_with_tls(cli: Cli, captures: Path, rsa: Path) -> None:
    result = cli("tls", "-f", "jsonl", captures / "plain" / "capture.pcap", rsa / "capture.pcap")
    (line,) = result.stdout.splitlines()
    assert json.loads(line)["tls"]["reason"] == "no-key"


def test_what_is_no_capture_exits_3(cli: Cli, tmp_path: Path, rsa: Path) -> None:
    (tmp_path / "junk").write_bytes(b"no capture at all, really not")
    result = cli("tls", tmp_path / "junk", rsa / "capture.pcap")
    assert result.exit_code == 3
    assert "1 with TLS" in result.stdout


# -- exports


def test_tshark_opens_the_capture_with_the_exported_key_log(cli: Cli, rsa: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys.log"
    result = cli("tls", "--rsa-key", rsa / "server.key", "--export-keylog", keys, rsa / "capture.pcap")
    assert result.exit_code == 0, result.stderr
    assert stat.S_IMODE(keys.stat().st_mode) == 0o600
    assert f"{keys}: 1 secret, mode 0600" in result.stderr
    assert re.fullmatch(r"CLIENT_RANDOM [0-9a-f]{64} [0-9a-f]{96}\n", keys.read_text())
    opened = tshark(rsa / "capture.pcap", "-o", f"tls.keylog_file:{keys}", show="smtp.req.command")
    assert [verb.upper()[:4] for verb in opened] == SAID


@pytest.mark.parametrize("case", ["starttls-rsa", "tls13-keylog"])
def test_tshark_opens_the_exported_pcapng_without_a_key(case: str, cli: Cli, captures: Path, tmp_path: Path) -> None:
    folder, out = captures / case, tmp_path / "open.pcapng"
    secret = ("--keylog", folder / "keylog.txt") if case == "tls13-keylog" else ("--rsa-key", folder / "server.key")
    result = cli("tls", *secret, "--export-pcapng", out, folder / "capture.pcap")
    assert result.exit_code == 0, result.stderr
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert [verb.upper()[:4] for verb in tshark(out, show="smtp.req.command")] == SAID
    again = cli("tls", out)
    assert "with the capture's own secrets" in told(again)


def test_several_captures_in_one_pcapng(cli: Cli, captures: Path, rsa: Path, tls13: Path, tmp_path: Path) -> None:
    out = tmp_path / "all.pcapng"
    result = cli(
        "tls", "--rsa-key", rsa / "server.key", "--keylog", tls13 / "keylog.txt", "--export-pcapng", out,
        rsa / "capture.pcap", tls13 / "capture.pcap", captures / "any-interface" / "capture.pcap",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert sorted(verb.upper()[:4] for verb in tshark(out, show="smtp.req.command")) == sorted(
        SAID * 2 + ["EHLO", "MAIL", "RCPT", "DATA", "QUIT"]
    )


def test_only_secrets_of_these_conversations_are_exported(cli: Cli, rsa: Path, tls13: Path, tmp_path: Path) -> None:
    keys, out = tmp_path / "keys.log", tmp_path / "out.pcapng"
    stranger = f"CLIENT_RANDOM {'0f' * 32} {'1e' * 48}"
    (tmp_path / "given.log").write_text(f"{stranger}\n{(tls13 / 'keylog.txt').read_text()}")
    cli(
        "tls", "--keylog", tmp_path / "given.log", "--rsa-key", rsa / "server.key",
        "--export-keylog", keys, "--export-pcapng", out, rsa / "capture.pcap",
    )  # fmt: skip
    assert keys.read_text().count("\n") == 1
    assert stranger not in keys.read_text()
    assert b"0f" * 32 not in out.read_bytes()


def test_nothing_opened_is_said(cli: Cli, rsa: Path, tmp_path: Path) -> None:
    result = cli("tls", "-q", "--export-keylog", tmp_path / "keys.log", rsa / "capture.pcap")
    assert result.exit_code == 0
    assert "has no secrets, since nothing could be opened" in result.stderr
    assert (tmp_path / "keys.log").read_bytes() == b""


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--export-keylog", "k", "--decrypt-with", "tshark"], "tshark gives no secrets"),
        (["--export-keylog", "k", "--id", "ab"], "all conversations"),
        (["--export-pcapng", "p", "--host", "192.0.2.1"], "all conversations"),
        (["--export-keylog", "k", "--export-pcapng", "./k"], "the same file"),
    ],
)
def test_what_cannot_be_had_together(
    arguments: list[str], why: str, cli: Cli, rsa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = cli("tls", *arguments, rsa / "capture.pcap")
    assert result.exit_code == 2
    assert why in re.sub(r"\s+", " ", result.stderr)
    assert list(tmp_path.iterdir()) == []


def test_a_pcapng_of_standard_input_is_refused_before_reading(cli: Cli, rsa: Path, tmp_path: Path) -> None:
    capture = (rsa / "capture.pcap").read_bytes()
    result = cli("tls", "--export-pcapng", tmp_path / "p", "-", input=capture)
    assert result.exit_code == 3
    assert "standard input: can be read only once" in result.stderr
    assert cli("tls", "--export-keylog", tmp_path / "k", "-", input=capture).exit_code == 0


def test_the_capture_itself_is_never_replaced(cli: Cli, rsa: Path, tmp_path: Path) -> None:
    capture = tmp_path / "capture.pcap"
    shutil.copy(rsa / "capture.pcap", capture)
    before = capture.read_bytes()
    for where in (tmp_path, capture):
        result = cli("tls", "--export-pcapng", capture, where)
        assert result.exit_code == 3
        assert "in use" in result.stderr
    assert capture.read_bytes() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_while_it_writes_it_leaves_no_secrets_behind(
    number: signal.Signals, cli: Cli, rsa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(file: BinaryIO, captures: Sequence[str], lines: Sequence[str]) -> int:
        assert lines, "nothing was opened: nothing to leave behind"
        file.write("".join(lines).encode())
        file.flush()
        signal.raise_signal(number)
        raise AssertionError("it went on")

    monkeypatch.setattr(export, "write_pcapng", interrupted)
    before = signal.getsignal(signal.SIGTERM)
    result = cli(
        "tls", "--rsa-key", rsa / "server.key", "--export-pcapng", tmp_path / "out.pcapng", rsa / "capture.pcap"
    )
    assert result.exit_code == 130
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) == before


def test_the_output_is_not_replaced_by_an_export(cli: Cli, rsa: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = cli("tls", "-o", out, "--export-keylog", out, rsa / "capture.pcap")
    assert result.exit_code == 3
    assert "in use" in result.stderr


def test_verification_keeps_both_decryptors_and_still_exports(cli: Cli, rsa: Path, tmp_path: Path) -> None:
    if shutil.which("tshark") is None:
        pytest.skip("tshark is not installed")
    keys = tmp_path / "keys.log"
    result = cli(
        "tls", "--verify-decryption", "--rsa-key", rsa / "server.key", "--export-keylog", keys, rsa / "capture.pcap"
    )
    assert result.exit_code == 0, result.stderr
    assert keys.read_text().startswith("CLIENT_RANDOM ")
