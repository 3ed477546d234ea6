"""The corpus beside the project, against its independent truth: commands, codes, order, times, frames, messages."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from score import CORPUS, Score, derived_cases, lab_cases, mta_cases, public_cases, stream_cases

pytestmark = [pytest.mark.corpus, pytest.mark.skipif(not CORPUS.is_dir(), reason="no corpus beside the project")]

EXCUSED = {
    # DATA was never answered: we take what follows for mail data (RFC 5321 4.1.1.4), the truth for commands.
    "public/OISF+suricata-verify/tests/smtp-bdat-bad-tail-next-mail/input.pcap",
    # One of its 66 packets is a TCP header inside an sFlow sample, which is no traffic of this capture.
    "streams/seladb+PcapPlusPlus/Tests/ExamplesTest/pcap_examples/tcp-reassembly.pcap",
}


@pytest.mark.parametrize("cases", [mta_cases, public_cases, derived_cases, lab_cases, stream_cases])
def test_corpus(cases: Callable[[], Iterator[Score]]) -> None:
    scores = list(cases())
    assert sum(score.wanted for score in scores) > 10
    faults = {score.case: score.faults for score in scores if score.faults and score.case not in EXCUSED}
    assert faults == {}
