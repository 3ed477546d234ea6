"""A capture that is damaged tells less, and nothing wrong: no reply is given to a command that it does not answer.

Every packet is cut short, or one packet is missing. The truth is the undamaged capture, whose own pairs are compared
with the senders' logs elsewhere.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

import smtpdebug
from smtpdebug.model.smtp import END_OF_DATA, GREETING, Conversation
from smtpdebug.render.transcript import Options, Transcript

CAPTURES = Path(__file__).parents[2] / "captures"
CASES = ["plain", "pipelining", "recipient-refused", "postfix-sendmail", "exim-exim-chunks", "greylisted", "bdat"]
HEADER, RECORD = 24, struct.Struct("<IIII")

Said: TypeAlias = dict[tuple[str, int, int], tuple[str, int] | None]
"""By conversation, offset of the reply and code: the command that it answers, with its time."""


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


def without(capture: bytes, number: int) -> bytes:
    """All packets but one, counted from 0."""
    kept = [RECORD.pack(*record) + data for n, (record, data) in enumerate(records(capture)) if n != number]
    return capture[:HEADER] + b"".join(kept)


def said(conversations: list[Conversation]) -> Said:
    found: Said = {}
    for conversation in conversations:
        for exchange in conversation.exchanges:
            if exchange.reply is not None:
                command = exchange.command
                what = None if command is None else (command.verb, command.began.ts_ns)
                if command is not None and command.verb in (GREETING, END_OF_DATA):
                    what = (command.verb, 0)  # its place hangs on packets that may be lost
                place = (conversation.id, exchange.reply.offset, exchange.reply.code)
                found[place] = what
    return found


def wrong(capture: bytes, damaged: Iterator[tuple[str, bytes]], tmp_path: Path) -> list[str]:
    file = tmp_path / "capture.pcap"
    file.write_bytes(capture)
    truth = said(list(smtpdebug.read(file)))
    assert truth
    told, answered = [], 0
    for how, octets in damaged:
        file.write_bytes(octets)
        for place, command in said(list(smtpdebug.read(file))).items():
            true = truth.get(place)
            answered += command is not None
            if command is not None and true is not None and command != true:
                told.append(f"{how}: {place[2]} at {place[1]} answers {command[0]}, in truth {true[0]}")
    assert answered > 50
    return told


def damages(capture: bytes) -> Iterator[tuple[str, bytes]]:
    for snaplen in (*range(66, 100, 2), *range(100, 300, 23)):
        yield f"-s {snaplen}", cut(capture, snaplen)
    for number, _ in enumerate(records(capture)):
        yield f"without #{number + 1}", without(capture, number)


@pytest.mark.parametrize("case", CASES)
def test_no_reply_changes_its_command(case: str, tmp_path: Path) -> None:
    capture = (CAPTURES / case / "capture.pcap").read_bytes()
    # A chunk of "bdat" holds a line of a lone dot: without its BDAT nothing tells that from the end of mail data.
    damaged = damages(capture) if case != "bdat" else ((how, octets) for how, octets in damages(capture) if "-s" in how)
    assert wrong(capture, damaged, tmp_path) == []


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
