"""Real captures: octets, SHA-256 and holes of each direction, found by independent programs."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from smtpdebug.model.streams import Chunk, Endpoint, Gap, Stream, StreamOpened, TcpStreamEvent
from smtpdebug.sources.files import open_captures
from smtpdebug.tcp.reassembly import Reassembler

CORPUS = Path(__file__).parents[2] / "../shared/corpus/public"
TRUTH = CORPUS / "truth/_tcp_streams_GIVE.jsonl"

pytestmark = [pytest.mark.corpus, pytest.mark.skipif(not TRUTH.exists(), reason="no corpus beside the project")]

OTHERWISE = {
    # The truth looks at captured data only; the client acknowledged 2902 octets of which none is there.
    "zeek+zeek/testing/btest/Traces/tcp/miss_end_data.pcap": "acknowledged, not captured",
    # Not TCP over IP: a heuristic of another tool.
    "seladb+PcapPlusPlus/Tests/ExamplesTest/pcap_examples/tcp-reassembly.pcap#6": "TCP in an ICMP or UDP payload",
}


def in_words(end: Endpoint) -> str:
    return f"[{end.ip}]:{end.port}" if ":" in end.ip else f"{end.ip}:{end.port}"


def joined(gaps: list[list[int]]) -> list[list[int]]:
    runs: list[list[int]] = []
    for begin, end in gaps:
        if runs and runs[-1][1] == begin:
            runs[-1][1] = end
        else:
            runs.append([begin, end])
    return runs


def found(events: list[TcpStreamEvent], stream: Stream) -> dict[str, tuple[int, str | None, list[list[int]]]]:
    """Per sender: octets, SHA-256 in hex (``None`` for none), first four holes."""
    result = {}
    for side, end in enumerate((stream.client, stream.server)):
        mine = [e for e in events if isinstance(e, Chunk | Gap) and e.stream is stream and e.side == side]
        data = b"".join(e.data for e in mine if isinstance(e, Chunk))
        gaps = joined([[e.offset, e.offset + e.length] for e in mine if isinstance(e, Gap)])
        result[in_words(end)] = (len(data), hashlib.sha256(data).hexdigest() if data else None, gaps[:4])
    return result


def cases() -> dict[str, list[dict[str, Any]]]:
    by_capture: dict[str, list[dict[str, Any]]] = defaultdict(list)
    if TRUTH.exists():
        for line in TRUTH.read_text().splitlines():
            case = json.loads(line)
            name = case["capture"]
            if {name, f"{name}#{case['tcp_stream']}"} & OTHERWISE.keys() or not (CORPUS / name).exists():
                continue
            by_capture[name].append(case)
    return by_capture


@pytest.mark.parametrize("capture", cases())
def test_streams_are_what_others_found(capture: str) -> None:
    reassembler = Reassembler()
    events: list[TcpStreamEvent] = []
    for batch in open_captures([CORPUS / capture]):
        events.extend(reassembler.feed(batch))
    events.extend(reassembler.close())
    streams = [found(events, e.stream) for e in events if isinstance(e, StreamOpened)]
    for case in cases()[capture]:
        assert {d["from"]: (d["bytes"], d["sha256"], d["gaps"][:4]) for d in case["dirs"]} in streams
