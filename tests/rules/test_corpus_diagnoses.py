"""Diagnoses of recorded conversations whose troubles are known from both sides' logs; extra to the suite."""

from __future__ import annotations

from pathlib import Path

import pytest

import smtpdebug

CORPUS = Path(__file__).parents[2] / "../shared/corpus/mta"
pytestmark = [
    pytest.mark.corpus,
    pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus is not beside the project"),
]

# What the logs and notes of each case say went wrong -> the diagnosis that says so.
EXPECTED = {
    "01b-plain25-multircpt-550": "D76",
    "02b-pipelining-all-rejected-data": "D58",
    "10a-plaintext-client-on-465": "D90",
    "11b-unknown-ca-alert": "D32",
    "11c-no-shared-cipher": "D32",
    "12a-greeting-delay-sleep6": "D24",
    "12c-postscreen-early-talker": "D26",
    "14a-greylist-451": "D55",
    "15a-refused": "D02",
    "15c-slow-connect-syn-retransmit": "D05",
    "16a-idle-timeout-421": "D53",
    "16c-rst-mid-data": "D60",
    "20-proxy-protocol": "D89",
    "21c1-smuggling-accepted": "D65",
    "21g-starttls-injection": "D41",
    "21l-auth-in-clear": "D43",
}
HEALTHY = ("03b-bdat-exim-client-to-exim", "17b-real-delay-40ms-rtt", "18a-ipv6", "18c-any-sll2", "21b-dot-stuffing")


def diagnosed(case: str) -> set[str]:
    captures = sorted((CORPUS / case).glob("capture.pcap*"))
    if not captures:
        captures = sorted((CORPUS / case).glob("*.pcap*"))[:1]
    report = smtpdebug.analyze(*captures)
    return {diagnosis.id for conversation in report.conversations for diagnosis in conversation.diagnoses}


@pytest.mark.parametrize(("case", "expected"), EXPECTED.items())
def test_the_trouble_is_named(case: str, expected: str) -> None:
    assert expected in diagnosed(case)


@pytest.mark.parametrize("case", HEALTHY)
def test_healthy_conversations_have_no_diagnosis(case: str) -> None:
    assert diagnosed(case) == set()
