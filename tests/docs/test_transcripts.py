"""The transcripts in the README and the docs are what the program prints."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_transcripts_in_the_docs_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, "tools/transcripts.py", "--check"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_readme_has_a_transcript() -> None:
    text = (ROOT / "README.md").read_text()
    assert "S  220 mx.example.org" in text
