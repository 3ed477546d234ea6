"""``show`` on captures that ship; what was said is known from the clients' own logs beside them."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import Result

Cli = Callable[..., Result]
Program = Callable[..., "subprocess.CompletedProcess[bytes]"]

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "record.schema.json").read_text())


def records(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_plain_delivery_reads_as_its_log_says(cli: Cli, captures: Path) -> None:
    result = cli("show", captures / "plain" / "capture.pcap")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert re.fullmatch(r"192\.0\.2\.7:\d+ > 192\.0\.2\.25:25   mx\.example\.org   completed   7 exchanges.*", lines[0])
    said = [line.split(None, 4)[3:] for line in lines if re.match(r" +\+[\d.]+ ms  [CS] ", line)]
    codes = [words[0][:3] for words in said if words[0][:3].isdigit()]
    assert codes == ["220", "250", "250", "250", "354", "250", "221"]
    assert "1 conversation" in result.stderr
    assert "packets" not in result.stdout


def test_every_line_of_every_capture_is_a_valid_record(cli: Cli, captures: Path) -> None:
    validator = jsonschema.Draft202012Validator(SCHEMA)
    seen = 0
    for capture in sorted(captures.glob("*/capture.pcap")):
        for line in records(cli("show", "-f", "jsonl", "--findings", capture)):
            validator.validate(line)
            assert line["captures"] == [str(capture)]
            seen += 1
    assert seen > 20


def test_no_password_of_the_recording_is_shown(cli: Cli, captures: Path) -> None:
    capture = captures / "auth-in-clear" / "capture.pcap"
    shown = cli("show", "-f", "jsonl", "--show-secrets", capture).stdout
    answers = {
        exchange["command"]["argument"].split()[-1]
        for line in shown.splitlines()
        for exchange in json.loads(line)["exchanges"]
        if exchange["command"]["verb"] in ("AUTH", "(auth)")
        and exchange["command"]["argument"] not in ("LOGIN", "PLAIN")
    }
    assert len(answers) >= 3
    for form in ("text", "jsonl", "tcpflow"):
        written = cli("show", "-f", form, capture).stdout
        assert "********" in written
        assert not [answer for answer in answers if answer in written]


def test_a_key_opens_what_stays_closed_without_it(cli: Cli, captures: Path) -> None:
    folder = captures / "starttls-rsa"
    closed = records(cli("show", "-f", "jsonl", folder / "capture.pcap"))[0]
    assert closed["outcome"] == "opaque"
    assert closed["tls"]["reason"]
    key = ("--rsa-key", folder / "server.key", "--decrypt-with", "native")
    opened = records(cli("show", "-f", "jsonl", *key, folder / "capture.pcap"))[0]
    assert opened["tls"]["decrypted"] is True
    assert [e["command"]["verb"] for e in opened["exchanges"] if e["encrypted"]][-1] == "QUIT"
    text = cli("show", *key, folder / "capture.pcap").stdout
    assert "C~" in text


def test_the_key_log_of_the_environment_is_used(cli: Cli, captures: Path) -> None:
    folder = captures / "tls13-keylog"
    log = {"SSLKEYLOGFILE": str(folder / "keylog.txt")}
    line = records(cli("show", "-f", "jsonl", "--decrypt-with", "native", folder / "capture.pcap", env=log))[0]
    assert line["tls"]["secret"] == "keylog"
    missing = {"SSLKEYLOGFILE": str(folder / "no-such-file")}
    assert records(cli("show", "-f", "jsonl", folder / "capture.pcap", env=missing))[0]["tls"]["decrypted"] is False


@pytest.mark.parametrize(
    ("choice", "shown"),
    [
        ((), 2),
        (("--host", "192.0.2.7"), 2),
        (("--host", "192.0.2.0/24"), 2),
        (("--host", "198.51.100.1"), 0),
        (("--host", "198.51.100.1", "--host", "192.0.2.25"), 2),
        (("--port", "25"), 2),
        (("--port", "26"), 0),
        (("--with-code", "354"), 2),
        (("--with-code", "4xx,5yz"), 0),
        (("--grep", "(?i)^RCPT TO:<alice@"), 2),
        (("--grep", "(?i)^221 "), 2),
        (("--grep", "nowhere"), 0),
        (("--grep", "(?i)quit", "--port", "26"), 0),
    ],
)
def test_choosing_conversations(cli: Cli, captures: Path, choice: tuple[str, ...], shown: int) -> None:
    result = cli("show", "-f", "jsonl", *choice, captures / "rotated")
    assert len(records(result)) == shown
    assert ("0 shown" in result.stderr) == (shown == 0)


def test_choosing_by_id(cli: Cli, captures: Path) -> None:
    ids = [line["id"] for line in records(cli("show", "-f", "jsonl", captures / "rotated"))]
    chosen = records(cli("show", "-f", "jsonl", "--id", ids[1][:8], captures / "rotated"))
    assert [line["id"] for line in chosen] == [ids[1]]


def test_a_rotated_set_is_whole_in_whatever_order_it_is_named(cli: Cli, captures: Path) -> None:
    files = sorted((captures / "rotated").glob("*.pcap"))
    assert len(files) > 2
    whole = cli("show", "-f", "jsonl", *files).stdout
    assert cli("show", "-f", "jsonl", *reversed(files)).stdout == whole
    assert all(len(line["captures"]) > 1 for line in map(json.loads, whole.splitlines()))


def test_standard_input(cli: Cli, program: Program, captures: Path) -> None:
    capture = (captures / "plain" / "capture.pcap").read_bytes()
    from_file = records(cli("show", "-f", "jsonl", captures / "plain" / "capture.pcap"))
    for data in (capture, gzip.compress(capture)):
        piped = program("show", "-f", "jsonl", "-", input=data)
        assert piped.returncode == 0
        from_pipe = [json.loads(line) for line in piped.stdout.splitlines()]
        assert [line["exchanges"] for line in from_pipe] == [line["exchanges"] for line in from_file]


def test_an_old_capture_on_a_pipe_reads_like_a_file(cli: Cli, program: Program, captures: Path) -> None:
    """Set apart from a capture that goes on by its times: the lines of one conversation stay together."""
    capture = captures / "rotated" / "capture-095714.pcap"
    data = capture.read_bytes()
    piped = program("show", "--no-findings", "-", input=data).stdout.decode()
    assert piped == program("show", "--no-findings", "--no-live", "-", input=data).stdout.decode()
    assert piped == cli("show", "--no-findings", capture).stdout.replace(capture.name, "-")


def test_live_lines_are_those_of_the_transcript(cli: Cli, program: Program, captures: Path) -> None:
    capture = captures / "plain" / "capture.pcap"
    live = program("show", "--live", "--no-findings", "-", input=capture.read_bytes()).stdout.decode()
    whole = cli("show", "--no-findings", capture).stdout
    said = re.compile(r"  [CS]  (.*?)(?:  +#\d+)?$", re.MULTILINE)
    assert said.findall(live) == said.findall(whole)
    assert len(said.findall(live)) > 10


def test_choosing_by_what_was_said_waits_for_the_end(program: Program, captures: Path) -> None:
    data = (captures / "plain" / "capture.pcap").read_bytes()
    assert b"221 2.0.0 Bye" in program("show", "--grep", "queued as", "-", input=data).stdout
    assert program("show", "--with-code", "4xx", "-", input=data).stdout == b""


def test_output_goes_to_a_file(cli: Cli, captures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.txt"
    result = cli("show", "-q", "-o", out, captures / "plain" / "capture.pcap")
    assert result.stdout == result.stderr == ""
    assert out.read_text() == cli("show", "-q", captures / "plain" / "capture.pcap").stdout


def test_bodies_and_headers(cli: Cli, captures: Path) -> None:
    capture = captures / "plain" / "capture.pcap"
    folded = cli("show", capture).stdout
    assert "Subject: " in folded
    assert re.search(r"\[\d+ lines, [\d,]+ bytes\]", folded)
    assert "Subject: " not in cli("show", "--no-headers", capture).stdout
    whole = cli("show", "--bodies", capture).stdout
    assert not re.search(r"\[\d+ lines, ", whole)
    assert len(whole.splitlines()) > len(folded.splitlines())
    message = records(cli("show", "-f", "jsonl", "--bodies", capture))[0]["messages"][0]
    assert message["body"]


def test_colours(cli: Cli, captures: Path) -> None:
    capture = captures / "plain" / "capture.pcap"
    assert "\x1b[" in cli("show", "--color", "always", capture).stdout
    assert "\x1b[" not in cli("show", capture).stdout
    assert "\x1b[" in cli("show", "--color", "always", capture, env={"NO_COLOR": "1"}).stdout


def test_interleaved(cli: Cli, captures: Path) -> None:
    lines = cli("show", "--interleave", "--no-findings", captures / "rotated").stdout.splitlines()
    times = [line.split()[1] for line in lines if re.match(r"\S+ +20\d\d-", line)]
    assert len(times) > 20
    assert times == sorted(times)


def test_in_the_manner_of_tcpflow(cli: Cli, captures: Path) -> None:
    lines = cli("show", "-f", "tcpflow", captures / "plain" / "capture.pcap").stdout.splitlines()
    layout = re.compile(r"\S+Z 192\.000\.002\.\d{3}\.\d{5}-192\.000\.002\.\d{3}\.\d{5}: .*")
    assert all(layout.fullmatch(line) for line in lines)
    assert ".00025-192.000.002.007." in lines[0]
    assert ": 220 mx.example.org" in lines[0]


def test_an_output_never_replaces_a_capture(cli: Cli, captures: Path, tmp_path: Path) -> None:
    """``-o`` given the wrong name must not cost the evidence; any other file is replaced, as everywhere."""
    source = captures / "plain" / "capture.pcap"
    for name in ("one.pcap", "other.pcap"):
        (tmp_path / name).write_bytes(source.read_bytes())
    for name in ("one.pcap", "other.pcap"):
        refused = cli("show", "-o", str(tmp_path / name), str(tmp_path / "one.pcap"))
        assert refused.exit_code == 3
        assert "not overwritten" in refused.stderr
        assert (tmp_path / name).read_bytes() == source.read_bytes()
    for _ in range(2):
        assert cli("show", "-o", str(tmp_path / "out.txt"), str(tmp_path / "one.pcap")).exit_code == 0
    assert "221 2.0.0 Bye" in (tmp_path / "out.txt").read_text()
