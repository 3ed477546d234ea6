"""Ordinary deliveries between real programs are not complained of: a false alarm is the failure that matters."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from smtpdebug.api import analyze
from smtpdebug.model.findings import Severity

CAPTURES = Path(__file__).resolve().parents[2] / "captures"
EXPECTED = {path.parent.name: tomllib.loads(path.read_text()) for path in sorted(CAPTURES.glob("*/expect.toml"))}
CLEAN = [case for case, expected in EXPECTED.items() if expected["clean"]]


def test_clean_captures_are_of_at_least_six_pairs_of_programs() -> None:
    assert len({EXPECTED[case]["recorded"].partition(",")[0] for case in CLEAN}) >= 6


@pytest.mark.parametrize("case", CLEAN)
def test_ordinary_traffic_has_neither_errors_nor_warnings(case: str) -> None:
    files = sorted((CAPTURES / case).glob("capture*.pcap"))
    keys = {name: CAPTURES / case / EXPECTED[case][name] for name in ("rsa_key", "keylog") if name in EXPECTED[case]}
    report = analyze(*files, decrypt_with="native", **keys)
    assert len(report.conversations) == len(EXPECTED[case]["conversation"])
    found = [
        f"{finding.rule} {finding.message}"
        for conversation in report.conversations
        for finding in conversation.findings
        if finding.severity in (Severity.ERROR, Severity.WARNING)
    ]
    assert found == []
