"""Captures of other projects, against the packet counts of capinfos and every TCP field of tshark."""

from __future__ import annotations

import csv
import shutil
import subprocess
from pathlib import Path

import pytest

from smtpdebug.sources.files import open_captures

CORPUS = Path(__file__).parents[2] / "../shared/corpus/public"
FIELDS = ["frame.number", "tcp.srcport", "tcp.dstport", "tcp.seq_raw", "tcp.flags", "tcp.window_size_value", "tcp.len"]

pytestmark = [
    pytest.mark.corpus,
    pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus is not beside the project"),
]

OTHERWISE = {
    # sFlow carries a sample of a packet, which is no packet of this capture; tshark dissects it.
    "tcp-reassembly.pcap",
    # The IP length is right and the frames are cut; tshark believes the frame's length.
    "reassembly.pcap",
}


def catalogue() -> list[dict[str, str]]:
    if not CORPUS.is_dir():
        return []
    with (CORPUS / "CATALOG.tsv").open() as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_packet_counts() -> None:
    """capinfos counts pcapng's custom blocks, which have a frame number but are no packets."""
    for row in catalogue():
        captures = open_captures([CORPUS / row["path"]])
        rows = sum(len(batch) for batch in captures)
        custom = {"two-interfaces": 1, "test102": 3, "test202": 3}
        minus = next((number for name, number in custom.items() if name in row["path"]), 0)
        assert captures.packets == int(row["packets"]) - minus, row["path"]
        assert rows <= captures.packets
        assert bool(captures.errors) == (row["path"] == "derived/not-a-capture.pcap"), row["path"]


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
@pytest.mark.parametrize("kind", ["encap", "format"])
def test_every_tcp_field_is_what_tshark_reads(kind: str) -> None:
    for row in catalogue():
        path = CORPUS / row["path"]
        if row["cls"] != kind or row["tcp_convs"] in ("", "0") or path.name in OTHERWISE:
            continue
        options = [part for field in FIELDS for part in ("-e", field)]
        done = subprocess.run(
            ["tshark", "-n", "-r", path, "-Y", "tcp", "-T", "fields", "-E", "occurrence=l", *options],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        wanted = []
        for line in done.stdout.splitlines():
            number, sport, dport, seq, flags, window, size = line.split("\t")
            wanted.append((int(number), int(sport), int(dport), int(seq), int(flags, 16) & 255, int(window), int(size)))
        got = [
            fields
            for batch in open_captures([path])
            for fields in zip(
                *(
                    column.tolist()
                    for column in (
                        batch.frame, batch.sport, batch.dport, batch.seq, batch.flags, batch.window, batch.length,
                    )
                ),
                strict=True,
            )
        ]  # fmt: skip
        assert sorted(got) == sorted(wanted), row["path"]
