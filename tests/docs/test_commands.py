"""Every command that the README and the how-tos show runs, in a folder that has the files they speak of."""

from __future__ import annotations

import gzip
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs/howto").glob("*.md"))]
FENCE = re.compile(r"```(?:sh|bash|shell|)\n(.*?)```", re.DOTALL)
PROGRAM = Path(sys.executable).with_name("smtpdebug")
LIVE = ("-i ", " - ", "capture ", "watch ", "replay ")
"""Commands that wait for traffic; tests/servers has them."""


def commands() -> list[str]:
    """The command lines, comments and pipes into other programs off, each once."""
    found: dict[str, None] = {}
    for page in PAGES:
        if page.name in ("cli.md", "architecture.md"):
            continue
        for block in FENCE.findall(page.read_text()):
            for line in block.replace("\\\n", " ").splitlines():
                words = line.strip().removeprefix("$ ").removeprefix(".venv/bin/")
                if words.startswith("smtpdebug ") and not any(live in f"{words} " for live in LIVE):
                    found[re.split(r"\s#|\s\||\s>|\s2>|\s{3,}", words)[0].strip()] = None
    return list(found)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the pages have it: captures, a server's key, a key log, a password."""
    folder = tmp_path_factory.mktemp("place")
    for name in ("traces", "captures"):
        (folder / name).mkdir()
        for case in ("plain", "starttls-rsa", "auth-in-clear"):
            shutil.copy(ROOT / "captures" / case / "capture.pcap", folder / name / f"{case}.pcap")
    with gzip.open(folder / "traces" / "smtp-1.pcap.gz", "wb") as file:
        file.write((ROOT / "captures/plain/capture.pcap").read_bytes())
    for name in ("server.pem", "server.key", "key.pem", "mx.key"):
        shutil.copy(ROOT / "captures/starttls-rsa/server.key", folder / name)
    for name in ("keys.log", "keylog.txt", "sslkeys.log"):
        shutil.copy(ROOT / "captures/tls13-keylog/keylog.txt", folder / name)
    for name in ("capture.pcap", "traces.pcap", "trace.pcap", "smtp.pcap", "mail.pcap", "a.pcap", "b.pcapng"):
        shutil.copy(ROOT / "captures/starttls-rsa/capture.pcap", folder / name)
    (folder / "password.txt").write_text("secret\n")
    return folder


def test_there_are_commands() -> None:
    assert len(commands()) > 10


@pytest.mark.parametrize("line", commands())
def test_command(line: str, place: Path) -> None:
    words = shlex.split(line)[1:]
    done = subprocess.run([PROGRAM, *words], cwd=place, capture_output=True, text=True, timeout=120)
    assert done.returncode in (0, 1), done.stderr
    assert "Traceback" not in done.stderr
