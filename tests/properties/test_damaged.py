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


@pytest.mark.parametrize("case", CASES)
def test_no_reply_changes_its_command_where_packets_are_cut(case: str, tmp_path: Path) -> None:
    capture = (CAPTURES / case / "capture.pcap").read_bytes()
    snaplens = [*range(66, 100, 2), *range(100, 300, 23)]
    assert wrong(capture, ((f"-s {n}", cut(capture, n)) for n in snaplens), tmp_path) == []


@pytest.mark.parametrize("case", [case for case in CASES if case != "bdat"])
def test_no_reply_changes_its_command_where_a_packet_is_missing(case: str, tmp_path: Path) -> None:
    capture = (CAPTURES / case / "capture.pcap").read_bytes()
    count = sum(1 for _ in records(capture))
    assert wrong(capture, ((f"without #{n + 1}", without(capture, n)) for n in range(count)), tmp_path) == []
