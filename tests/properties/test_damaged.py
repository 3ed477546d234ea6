"""A capture that is damaged tells less, and nothing wrong: no reply is given to a command that it does not answer.

Every packet is cut short, or packets are missing. The truth is the undamaged capture, whose own pairs are compared
with the senders' logs elsewhere.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

import smtpdebug
from smtpdebug.model.smtp import END_OF_DATA, GREETING
from smtpdebug.render.transcript import Options, Transcript

CAPTURES = Path(__file__).parents[2] / "captures"
SEALED = {"starttls-rsa": "server.key", "wrapper-465": "server.key", "tls13-keylog": "keylog.txt"}
CASES = ["plain", "pipelining", "recipient-refused", "postfix-sendmail", "exim-exim-chunks", "greylisted", "bdat"]
HEADER, RECORD = 24, struct.Struct("<IIII")

Said: TypeAlias = dict[tuple[int, bytes], list[tuple[str, int] | None]]
"""By time and last line of a reply: the commands that such replies answer, with their times."""


def records(capture: bytes) -> Iterator[tuple[tuple[int, int, int, int], bytes]]:
    place = HEADER
    while place < len(capture):
        record = RECORD.unpack_from(capture, place)
        place += RECORD.size + record[2]
        yield record, capture[place - record[2] : place]


def cut(capture: bytes, snaplen: int) -> bytes:
    """As ``tcpdump -s`` would have written it."""
    out = [capture[:HEADER]]
    for (seconds, fraction, kept, length), data in records(capture):
        out += [RECORD.pack(seconds, fraction, min(kept, snaplen), length), data[:snaplen]]
    return b"".join(out)


def without(capture: bytes, lost: set[int]) -> bytes:
    """All packets but these, counted from 0."""
    kept = [RECORD.pack(*record) + data for n, (record, data) in enumerate(records(capture)) if n not in lost]
    return capture[:HEADER] + b"".join(kept)


def said(file: Path, secret: Path | None = None, by: str = "native") -> Said:
    found: Said = {}
    rsa_key = [secret] if secret is not None and secret.suffix == ".key" else []
    keylog = [secret] if secret is not None and not rsa_key else []
    for conversation in smtpdebug.read(file, rsa_key=rsa_key, keylog=keylog, decrypt_with=by):
        for exchange in conversation.exchanges:
            command, reply = exchange.command, exchange.reply
            if reply is not None and reply.began.ts_ns == reply.at.ts_ns:
                time = 0 if command is None or command.verb in (GREETING, END_OF_DATA) else command.began.ts_ns
                what = None if command is None else (command.verb, time)
                found.setdefault((reply.at.ts_ns, reply.lines[-1]), []).append(what)
    return found


def wrong(
    capture: bytes, damaged: Iterator[tuple[str, bytes]], tmp_path: Path, secret: Path | None = None
) -> list[str]:
    file = tmp_path / "capture.pcap"
    file.write_bytes(capture)
    truth = said(file, secret)
    told, compared = [], 0
    for how, octets in damaged:
        file.write_bytes(octets)
        for place, commands in said(file, secret).items():
            true = truth.get(place, [])
            for command, meant in zip(commands, true, strict=False) if len(commands) == len(true) else ():
                compared += 1
                if command is not None and meant is not None and command != meant:
                    told.append(f"{how}: {place[1]!r} answers {command[0]}, in truth {meant[0]}")
    assert compared > 50
    return told


def damages(capture: bytes) -> Iterator[tuple[str, bytes]]:
    for snaplen in (*range(66, 100, 2), *range(100, 300, 23)):
        yield f"-s {snaplen}", cut(capture, snaplen)
    count = sum(1 for _ in records(capture))
    for number in range(count):
        yield f"without #{number + 1}", without(capture, {number})
    for first in range(1, count):
        yield f"from #{first + 1}", without(capture, set(range(first)))
    for seed in range(20):
        chance = random.Random(seed)
        yield f"one in ten lost, {seed}", without(capture, {n for n in range(count) if chance.random() < 0.1})


@pytest.mark.parametrize("case", CASES)
def test_no_reply_changes_its_command(case: str, tmp_path: Path) -> None:
    capture = (CAPTURES / case / "capture.pcap").read_bytes()
    assert wrong(capture, damages(capture), tmp_path) == []


@pytest.mark.parametrize("case", ["plain", "recipient-refused", "any-interface"])
@pytest.mark.parametrize("snaplen", [82, 96, 120, 200])
def test_where_each_command_waits_for_its_reply_short_packets_cost_none(
    case: str, snaplen: int, tmp_path: Path
) -> None:
    """A snap length leaves the beginning of each packet, and what both sides acknowledged."""
    file = tmp_path / "capture.pcap"
    capture = (CAPTURES / case / "capture.pcap").read_bytes()
    file.write_bytes(capture)
    truth = [what and what[0] for commands in said(file).values() for what in commands]
    file.write_bytes(cut(capture, snaplen))
    assert [what and what[0] for commands in said(file).values() for what in commands] == truth


@pytest.mark.parametrize("case", SEALED)
def test_no_reply_changes_its_command_inside_tls(case: str, tmp_path: Path) -> None:
    """There TCP tells what both sides had only of the ciphertext, and behind a gap records are found late."""
    capture = (CAPTURES / case / "capture.pcap").read_bytes()
    count = sum(1 for _ in records(capture))
    damaged = ((f"without #{number + 1}", without(capture, {number})) for number in range(count))
    assert wrong(capture, damaged, tmp_path, CAPTURES / case / SEALED[case]) == []


def test_both_decryptors_pair_alike(tmp_path: Path) -> None:
    """What tshark opens comes all at the end, and what the native one opens as it is said."""
    capture, secret = (CAPTURES / "starttls-rsa" / name for name in ("capture.pcap", "server.key"))
    file = tmp_path / "capture.pcap"
    for number in range(14, 24, 2):
        file.write_bytes(without(capture.read_bytes(), {number}))
        assert said(file, secret, "auto") == said(file, secret, "native")


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_blamed_on_anybody_that_the_whole_capture_does_not_blame(case: str, tmp_path: Path) -> None:
    capture, file = (CAPTURES / case / "capture.pcap").read_bytes(), tmp_path / "capture.pcap"

    def blamed() -> set[str]:
        """Rules, and diagnoses but those about the capture itself."""
        conversations = smtpdebug.analyze(file).conversations
        found = {f.rule for c in conversations for f in c.findings if not f.indeterminate}
        return found | {d.id for c in conversations for d in c.diagnoses} - {"D11"}

    file.write_bytes(capture)
    truth, more = blamed(), {}
    for how, octets in damages(capture):
        file.write_bytes(octets)
        if new := blamed() - truth:
            more[how] = new
    assert more == {}


@pytest.mark.parametrize("case", CASES)
def test_lines_stay_in_order_of_time(case: str, tmp_path: Path) -> None:
    capture, file = (CAPTURES / case / "capture.pcap").read_bytes(), tmp_path / "capture.pcap"
    for how, octets in damages(capture):
        file.write_bytes(octets)
        for conversation in smtpdebug.read(file):
            times = [line.at.ts_ns for line in Transcript(conversation, Options()).lines() if line.timed]
            assert times == sorted(times), how
