"""A capture of one direction accuses nobody of what the other direction may have said.

The filter is that of ``tcpdump 'src port 25'`` and ``'dst port 25'``: the rows of one side are taken out, ICMP stays.
What the capture of both sides says is the truth that the halves may tell less of, and nothing beside.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smtpdebug.engine import Engine
from smtpdebug.model.findings import Severity
from smtpdebug.model.packets import PacketBatch
from smtpdebug.model.smtp import Conversation
from smtpdebug.model.streams import CLIENT, SERVER, Side
from smtpdebug.rules.judge import RuleSet
from smtpdebug.rules.verdicts import Verdicts
from smtpdebug.sources.files import open_captures
from smtpdebug.testing import dialogue

CAPTURES = Path(__file__).resolve().parents[2] / "captures"
CORPUS = Path(__file__).resolve().parents[3] / "shared" / "corpus"
CASES = sorted(path.name for path in CAPTURES.iterdir() if list(path.glob("capture*.pcap")))


def judged(batches: list[PacketBatch]) -> list[Conversation]:
    engine = Engine(judge=Verdicts())
    given = [event for batch in batches for event in engine.feed(batch)]
    given += engine.close()
    return [event for event in given if isinstance(event, Conversation)]


def half(batches: list[PacketBatch], ports: set[int], side: Side) -> Iterator[PacketBatch]:
    """The batches with only what that side sent; ``ports`` are the servers'."""
    for batch in batches:
        sender = batch.sport if side == SERVER else batch.dport
        kept = np.isin(sender, np.array(sorted(ports), dtype=np.uint16))
        columns: dict[str, Any] = {
            field.name: column[kept]
            for field in dataclasses.fields(batch)
            if isinstance(column := getattr(batch, field.name), np.ndarray)
        }
        yield dataclasses.replace(batch, **columns)


@cache
def read(*files: Path) -> tuple[list[PacketBatch], list[Conversation]]:
    batches = list(open_captures([str(file) for file in files]))
    return batches, judged(batches)


def accusations(conversations: list[Conversation]) -> set[str]:
    return {
        f"{finding.rule} at port {each.stream.server.port}: {finding.message}"
        for each in conversations
        for finding in each.findings
        if finding.severity is not Severity.NOTE
    }


def invented(files: list[Path], side: Side) -> set[str]:
    batches, whole = read(*files)
    ports = {each.stream.server.port for each in whole}
    rules = {finding.rule for each in whole for finding in each.findings}
    found = accusations(judged(list(half(batches, ports, side))))
    return {said for said in found if said.split()[0] not in rules}


@pytest.mark.parametrize("side", [CLIENT, SERVER], ids=["client only", "server only"])
@pytest.mark.parametrize("case", CASES)
def test_half_of_a_capture_has_no_fault_that_the_whole_has_not(case: str, side: Side) -> None:
    assert invented(sorted((CAPTURES / case).glob("capture*.pcap")), side) == set()


@pytest.mark.corpus
@pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus is not here")
@pytest.mark.parametrize("side", [CLIENT, SERVER], ids=["client only", "server only"])
@pytest.mark.parametrize(
    "folder",
    [
        "mta/11c-no-shared-cipher",
        "mta/21c1-smuggling-accepted",
        "mta/12c-postscreen-early-talker",
        "mta/20-proxy-protocol",
    ],
)
def test_half_of_a_capture_of_the_corpus(folder: str, side: Side) -> None:
    files = sorted((CORPUS / folder).glob("*.pcap"))
    assert files
    assert invented(files, side) == set()


def test_both_directions_are_judged() -> None:
    """The same words with both sides captured are faults: what silences the rules is the missing side alone."""
    hello = "S: 220 mx.example.org ESMTP\nC: EHLO client.example.net\nS: 250 mx.example.org\n"
    for ending, rule in [
        ("S closes", "SR147"),
        ("C: FROB\nS: 550 no\nS closes", "SR148"),
        ("S: 250 more", "SR110"),
        ("C: QUIT\nC closes", "SC117"),
    ]:
        conversation = dialogue(hello + ending)
        assert rule in {finding.rule for finding in RuleSet().judge(conversation)}
