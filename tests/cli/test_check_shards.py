"""``check`` with several processes: byte for byte what one process writes, with what compares conversations."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result

from smtpdebug.model.packets import ACK, FIN, PSH, SYN
from smtpdebug.pcap.writer import Link, write_pcap

from .conftest import Cli

FORMATS = ["text", "jsonl", "junit", "sarif", "github"]
START = 1_704_067_200_000_000_000
SECOND = 1_000_000_000
CLIENT, V6 = "192.0.2.7", "2001:db8::7"
PASSWORD = base64.b64encode(b"\0a\0offered").decode()
"""A word that a finding says too."""
SERVER, SERVER6 = "198.51.100.2", "2001:db8::25"


def spoken(number: int, second: float, *said: str, port: int = 25) -> Iterator[tuple[int, bytes]]:
    """The packets of a conversation: handshake, ``C: `` and ``S: `` packets ten milliseconds apart, FINs."""
    client, server = Link(CLIENT, 20_000 + number, SERVER, port), Link(SERVER, port, CLIENT, 20_000 + number)
    at, sent = START + int(second * SECOND), [1, 1]
    yield at, client.segment(0, 0, SYN)
    yield at + 1_000_000, server.segment(0, 1, SYN | ACK)
    yield at + 2_000_000, client.segment(1, 1, ACK)
    for turn in said:
        at += 10_000_000
        data = turn[3:].replace("\n", "\r\n").encode() + b"\r\n"
        side = turn[0] == "S"
        yield at, (client, server)[side].segment(sent[side], sent[not side], PSH | ACK, data)
        sent[side] += len(data)
    yield at + 1_000_000, server.segment(sent[1], sent[0], FIN | ACK)
    yield at + 2_000_000, client.segment(sent[0], sent[1] + 1, FIN | ACK)
    yield at + 3_000_000, server.segment(sent[1] + 1, sent[0] + 1, ACK)


def delivery(
    number: int, *, offer: str = "STARTTLS", recipient: str = "250 2.1.5 Ok", between: tuple[str, ...] = ()
) -> list[str]:
    greeted = [
        "S: 220 mx.example.org ESMTP",
        "C: EHLO client.example.net",
        f"S: 250-mx.example.org\n250-{offer}\n250 AUTH PLAIN",
    ]
    envelope = [*between, "C: MAIL FROM:<A@example.net>", "S: 250 2.1.0 Ok"]
    envelope += [f"C: RCPT TO:<b{number}@example.org>", f"S: {recipient}"]
    mail = ["C: DATA", "S: 354 go ahead", "C: From: a@example.net\n\nhello\n.", "S: 250 2.0.0 Ok"]
    return [*greeted, *envelope, *(mail if recipient[0] == "2" else []), "C: QUIT", "S: 221 2.0.0 Bye"]


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Conversations of one client on many ports, so that any split tears apart those that belong together.

    D07: an IPv6 attempt without an answer before all. D55: ``b0`` put off, accepted later. D52: a refusal for the rate
    after accepted messages. ST109: now and then no STARTTLS.
    """
    v6 = Link(V6, 19_999, SERVER6, 25)
    packets = [(START - 2 * SECOND + at * SECOND, v6.segment(0, 0, SYN)) for at in (0, 1)]
    for number in range(24):
        offer = "8BITMIME" if number % 8 == 5 else "STARTTLS"
        recipient = "250 2.1.5 Ok"
        between: tuple[str, ...] = ()
        if number % 6 == 4:
            recipient = "450 4.2.0 not now"
        elif number == 21:
            recipient = "450 4.7.1 Error: too much mail"
        elif number == 13:
            between = (f"C: AUTH PLAIN {PASSWORD}", "S: 535 5.7.8 no")
        packets += spoken(
            number, number * 0.3, *delivery(number // 8, offer=offer, recipient=recipient, between=between)
        )
    packets.sort(key=lambda packet: packet[0])
    path = tmp_path_factory.mktemp("compared") / "capture.pcap"
    with path.open("wb") as file:
        write_pcap(file, packets)
    return path


def same(cli: Cli, *arguments: str | Path) -> Result:
    """Run with one, two and three processes; all must agree."""
    alone, *others = [cli(*arguments, "-j", str(jobs)) for jobs in (1, 2, 3)]
    for other in others:
        assert other.stdout_bytes == alone.stdout_bytes
        assert (other.exit_code, other.stderr) == (alone.exit_code, alone.stderr)
    return alone


def test_the_made_case_compares(cli: Cli, compared: Path) -> None:
    records = [json.loads(line) for line in same(cli, "check", "-f", "jsonl", compared).stdout.splitlines()]
    assert len(records) == 25
    found = [
        {one["id"] for one in record["diagnoses"]} | {one["rule"] for one in record["findings"]} for record in records
    ]
    # The IPv6 attempt is the first record; numbers as in the capture are one less.
    told = {name: [number - 1 for number, ids in enumerate(found) if name in ids] for name in ("ST109", "D52", "D55")}
    assert told["ST109"] == [5, 13, 21]
    assert told["D52"] == [21]
    assert all("D07" in ids for ids in found[1:])
    # b0 was put off in 4, b1 in 10, b2 in 16; what the same recipient is accepted in later is told each time.
    assert told["D55"] == [5, 6, 7, 11, 12, 13, 14, 15, 17, 18, 19, 20, 23]
    throttled = next(one for one in records[22]["diagnoses"] if one["id"] == "D52")
    assert "On earlier connections of this capture" in throttled["says"]


def test_secrets_are_hidden_in_what_the_parent_adds(cli: Cli, compared: Path) -> None:
    shown = same(cli, "check", "-f", "jsonl", "--show-secrets", compared).stdout.splitlines()
    hidden = same(cli, "check", "-f", "jsonl", compared).stdout.splitlines()
    assert PASSWORD in shown[14]
    assert PASSWORD not in hidden[14]
    assert "STARTTLS is not offered here" in shown[14]
    assert "STARTTLS is not ******** here" in hidden[14]


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_is_that_of_one_process(cli: Cli, compared: Path, captures: Path, form: str) -> None:
    shipped = sorted(captures.glob("*/*.pcap"))
    assert len(shipped) > 15
    assert same(cli, "check", "-f", form, compared).exit_code == 1
    assert same(cli, "check", "-f", form, *shipped).exit_code == 1


@pytest.mark.parametrize(
    "options",
    [
        ("--full",),
        ("--select", "ST109"),
        ("--ignore", "ST109", "-f", "jsonl"),
        ("--select", "ST109", "--fail-on", "error", "-f", "sarif"),
        ("--select", "ST109", "--fail-on", "warning", "-f", "jsonl"),
        ("--with-code", "450", "-f", "jsonl"),
        ("--grep", "b2@", "-f", "jsonl"),
        ("--host", SERVER6),
    ],
    ids=" ".join,
)
def test_every_choice_is_that_of_one_process(cli: Cli, compared: Path, options: tuple[str, ...]) -> None:
    assert same(cli, "check", *options, compared).stdout


def test_what_is_not_chosen_is_compared_all_the_same(cli: Cli, compared: Path) -> None:
    result = same(cli, "check", "--grep", "b0@", "--select", "ST109", "-f", "jsonl", compared)
    records = [json.loads(line) for line in result.stdout.splitlines()]
    (diagnoses,) = ([one["id"] for one in record["diagnoses"]] for record in records[5:6])
    assert "D07" in diagnoses
    assert result.exit_code == 1


def test_show_with_findings_is_that_of_one_process(cli: Cli, compared: Path) -> None:
    assert "ST109" in same(cli, "show", "--findings", "-f", "jsonl", compared).stdout


def test_unreadable_input_is_told_as_by_one_process(cli: Cli, compared: Path, tmp_path: Path) -> None:
    junk = tmp_path / "junk.pcap"
    junk.write_bytes(b"no capture at all, really not")
    for form in FORMATS:
        assert same(cli, "check", "-f", form, compared, junk).exit_code == 3
