"""A capture recorded now, Postfix to Postfix on two hosts of its own, against what the sending Postfix logged."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from smtpdebug.api import analyze

ROOT = Path(__file__).resolve().parents[2]
NEEDED = ("ip", "ss", "tcpdump", "postfix", "openssl")

pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces and tcpdump need root"),
    pytest.mark.skipif(any(shutil.which(name) is None for name in NEEDED), reason="postfix or iproute2 is missing"),
]


def left_over() -> list[str]:
    """Processes that still run in a scratch folder of the recorder."""
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            if "smtpdebug-lab-" in os.readlink(link):
                found.append(f"{link.parent.name} {(link.parent / 'comm').read_text().strip()}")
    return found


def test_a_new_recording_is_read_as_the_sender_logged_it(tmp_path: Path) -> None:
    cases = ["pipelining", "lmtp"]
    command = [sys.executable, str(ROOT / "captures" / "record.py"), "--into", str(tmp_path), *cases]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    for case in cases:
        expected = tomllib.loads((tmp_path / case / "expect.toml").read_text())
        (conversation,) = analyze(tmp_path / case / "capture.pcap", rules=False).conversations
        said = [[each.command and each.command.verb, each.reply and each.reply.code] for each in conversation.exchanges]
        assert said == expected["conversation"][0]["exchanges"]
    assert left_over() == []
