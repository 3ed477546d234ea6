"""Ordinary deliveries between real programs are not complained of: a false alarm is the failure that matters.

Nor are they when the capture is worse than they were: begun late, cut short, or with a packet missing.
"""

from __future__ import annotations

import struct
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from smtpdebug.api import analyze
from smtpdebug.model.findings import Severity
from smtpdebug.model.smtp import Conversation

CAPTURES = Path(__file__).resolve().parents[2] / "captures"
EXPECTED = {path.parent.name: tomllib.loads(path.read_text()) for path in sorted(CAPTURES.glob("*/expect.toml"))}
CLEAN = [case for case, expected in EXPECTED.items() if expected["clean"]]
BROKEN = [case for case, expected in EXPECTED.items() if "findings" in expected]
REMARKS = {
    "D18": "a reset after 221 is called harmless",
    "D86": "OpenSMTPD keeps a connection for ten seconds: the diagnosis says who let whom wait, not that it is wrong",
}
"""Diagnoses that ordinary traffic may get: they explain a pause or a manner and blame nobody."""
CAPTURE_ITSELF = {"D11": "bytes that the capture lost, not the network"}
STEP = 11
"""One packet in so many is tried as the place of a cut; another one in each capture."""
KNOWN = [
    ("hole", "any-interface", 8),  # the first line of the reply to EHLO is missing, not the extension SIZE
    ("hole", "postfix-dovecot-lmtp", 19),  # both replies to the mail data are missing
    ("prefix", "exim-postfix", 8),  # Exim closes its side behind QUIT, and waits for the replies
    ("hole", "exim-postfix", 10),  # the replies are not in the capture
    ("suffix", "exim-exim-tls", 9),  # begins with the ClientHello after STARTTLS: no greeting inside
    ("suffix", "swaks-exim-auth", 10),
    ("suffix", "postfix-postfix-dsn", 11),
    ("hole", "aiosmtplib-aiosmtpd", 27),  # the last line of the reply to EHLO is missing
    ("hole", "opensmtpd-postfix-tls", 25),  # the mail data is missing, and ten idle seconds follow
]
"""Cuts that were complained of once."""


def judged(*files: Path, case: str) -> list[Conversation]:
    keys = {name: CAPTURES / case / EXPECTED[case][name] for name in ("rsa_key", "keylog") if name in EXPECTED[case]}
    return analyze(*files, decrypt_with="native", **keys).conversations


def complaints(conversations: list[Conversation]) -> list[str]:
    """Rules of errors and warnings."""
    return [
        f"{finding.rule} {finding.message}"
        for conversation in conversations
        for finding in conversation.findings
        if finding.severity in (Severity.ERROR, Severity.WARNING)
    ]


def diagnoses(conversations: list[Conversation], *innocent: str) -> list[str]:
    """Diagnoses of which smtpdebug is fairly sure."""
    return [
        f"{each.id} {each.says}"
        for conversation in conversations
        for each in conversation.diagnoses
        if each.confidence != "low" and each.id not in {*REMARKS, *innocent}
    ]


def records(data: bytes) -> list[tuple[int, int]]:
    """Start and end of each record of a little-endian pcap file."""
    ends = [24]
    while ends[-1] + 16 <= len(data):
        ends.append(ends[-1] + 16 + struct.unpack_from("<I", data, ends[-1] + 8)[0])
    return list(pairwise(ends))


def cut(kind: str, case: str, frame: int, to: Path) -> Path:
    """A capture that ends with a frame (``prefix``), begins with it (``suffix``), or lacks it (``hole``)."""
    data = (CAPTURES / case / "capture.pcap").read_bytes()
    start, end = records(data)[frame - 1]
    kept = {"prefix": data[:end], "suffix": data[:24] + data[start:], "hole": data[:start] + data[end:]}[kind]
    file = to / f"{kind}-{frame}.pcap"
    file.write_bytes(kept)
    return file


def programs(case: str) -> str:
    return str(EXPECTED[case]["recorded"].partition(",")[0])


def test_clean_captures_are_of_many_pairs_of_programs() -> None:
    assert len({programs(case) for case in CLEAN}) >= 20
    for program in ("Exim", "Postfix", "OpenSMTPD", "Sendmail", "aiosmtpd", "smtplib", "swaks", "curl", "msmtp"):
        assert any(program in programs(case) for case in CLEAN), program
    assert sum("tls" in EXPECTED[case] and not EXPECTED[case].get("stays_closed") for case in CLEAN) >= 10


@pytest.mark.parametrize("case", CLEAN)
def test_ordinary_traffic_has_neither_errors_nor_warnings(case: str) -> None:
    conversations = judged(*sorted((CAPTURES / case).glob("capture*.pcap")), case=case)
    wanted: list[dict[str, Any]] = EXPECTED[case]["conversation"]
    assert len(conversations) == len(wanted)
    for conversation, expected in zip(conversations, wanted, strict=True):
        if EXPECTED[case].get("stays_closed"):
            continue
        assert len(conversation.exchanges) == len(expected["exchanges"]), "it was read, all of it"
        assert ("tls" in EXPECTED[case]) == (conversation.tls is not None and conversation.tls.decrypted)
        assert conversation.outcome == "completed"
    assert complaints(conversations) == []
    assert diagnoses(conversations) == []


@pytest.mark.parametrize("case", BROKEN)
def test_what_does_break_a_must_is_complained_of_and_nothing_else(case: str) -> None:
    conversations = judged(CAPTURES / case / "capture.pcap", case=case)
    assert [complaint.split()[0] for complaint in complaints(conversations)] == EXPECTED[case]["findings"]


@pytest.mark.parametrize("case", [case for case in CLEAN if (CAPTURES / case / "capture.pcap").exists()])
@pytest.mark.parametrize("kind", ["prefix", "suffix", "hole"])
def test_a_poor_capture_of_ordinary_traffic_is_not_the_fault_of_the_programs(
    case: str, kind: str, tmp_path: Path
) -> None:
    frames = len(records((CAPTURES / case / "capture.pcap").read_bytes()))
    for frame in range(1 + len(case) % STEP, frames + 1, STEP):
        conversations = judged(cut(kind, case, frame, tmp_path), case=case)
        assert complaints(conversations) == [], f"{kind} at frame {frame}"
        assert diagnoses(conversations, *CAPTURE_ITSELF) == [], f"{kind} at frame {frame}"


@pytest.mark.parametrize(("kind", "case", "frame"), KNOWN)
def test_a_poor_capture_that_was_complained_of_once(kind: str, case: str, frame: int, tmp_path: Path) -> None:
    conversations = judged(cut(kind, case, frame, tmp_path), case=case)
    assert complaints(conversations) == []
    assert diagnoses(conversations, *CAPTURE_ITSELF) == []


def test_mail_data_is_not_taken_for_commands_where_a_command_is_missing_in_tls(tmp_path: Path) -> None:
    """Frame 21 has RCPT: its 250 must not be taken for the reply to DATA, sent right after it."""
    (conversation,) = judged(cut("hole", "opensmtpd-postfix-tls", 21, tmp_path), case="opensmtpd-postfix-tls")
    assert [message.data is not None for message in conversation.messages] == [True, True]
    verbs = {each.command.verb for each in conversation.exchanges if each.command}
    assert verbs == {*(verb for verb, _ in EXPECTED["opensmtpd-postfix-tls"]["conversation"][0]["exchanges"])}
