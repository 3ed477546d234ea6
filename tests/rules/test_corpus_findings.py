"""The corpus beside the project: what its truth files expect is found, and clean traffic stays clean."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from smtpdebug import api
from smtpdebug.model.findings import Severity
from smtpdebug.model.smtp import Conversation
from smtpdebug.rules.verdicts import Verdicts

CORPUS = Path(__file__).parents[2] / "../shared/corpus/mta"
pytestmark = [pytest.mark.corpus, pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus is not here")]

# The free words of the truth files as rules: each of the ids must be among the findings.
EXPECTED = {
    "01b-plain25-multircpt-550": {"SR160"},
    "02a-pipelining-postfix-to-postfix": {"SR160"},
    "02b-pipelining-all-rejected-data": {"SR160", "SR165"},
    "03c-bdat-handwritten-multi-chunk": {"SC173", "SC177", "SR169"},
    "04d-auth-535-then-ok": {"SR166"},
    "12c-postscreen-early-talker": {"SC101", "SR106", "SR160"},
    "14a-greylist-451": {"SR161"},
    "16a-idle-timeout-421": {"SR168", "SD209"},
    "20-proxy-protocol": {"SR164", "ST502"},
    "21f-wrong-order-and-odd-commands": {
        "SC102", "SC104", "SC108", "SC109", "SC110", "SC118", "SC120", "SC122", "SC123", "SC126", "SC128", "SC160",
    },
    "21h-lmtp": {"SR160"},
    "21l-auth-in-clear": {"SR166", "SR167", "ST107"},
}  # fmt: skip

# Nothing but notes: deliveries between real servers and clients that break no rule.
CLEAN = [
    "01b-plain25-multircpt-550", "02a-pipelining-postfix-to-postfix", "02b-pipelining-all-rejected-data",
    "03b-bdat-exim-client-to-exim", "04a-starttls587-rsa-auth-login", "04c-starttls587-rsa-cipher-sweep",
    "04d-auth-535-then-ok", "05-smtps465-rsa", "07-tls13-keylog", "08a-tls12-rsa-resumption-same-file",
    "14a-greylist-451", "17b-real-delay-40ms-rtt", "17e-pcap-surgery", "18a-ipv6", "18c-any-sll2", "18g-pcapng",
    "18i-mid-connection", "19-rotated-G2", "21h-lmtp",
]  # fmt: skip


def judged(case: str) -> list[Conversation]:
    folder = CORPUS / case
    if not folder.is_dir():
        pytest.skip("not in this corpus")
    truth = json.loads((folder / "truth.json").read_text())
    names = [truth["reference_capture"]] if truth.get("reference_capture") else truth["captures"]
    keys = [path for path in folder.glob("*.key") if "wrong" not in path.name]
    reading = api.read(
        *[folder / name for name in names],
        rsa_key=keys,
        keylog=list(folder.glob("*keylog*.txt")),
        decrypt_with="native",
        judge=Verdicts(),
    )
    return list(reading)


@pytest.mark.parametrize("case", EXPECTED)
def test_expected_findings_are_there(case: str) -> None:
    found = {finding.rule for conversation in judged(case) for finding in conversation.findings}
    assert found >= EXPECTED[case]


@pytest.mark.parametrize("case", CLEAN)
def test_clean_traffic_gives_no_error_and_no_warning(case: str) -> None:
    loud = [
        f"{finding.rule} {finding.message}"
        for conversation in judged(case)
        for finding in conversation.findings
        if finding.severity is not Severity.NOTE
    ]
    assert loud == []
