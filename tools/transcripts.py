"""Write what a command prints below it, in every ``console`` block of the README and of ``docs/``.

    python tools/transcripts.py           # write
    python tools/transcripts.py --check   # exit 1 if something would change

A block begins with ``$ smtpdebug ...``; the rest of it is the output of that command, run in the project's folder.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"```console\n\$ smtpdebug (?P<words>[^\n]*)\n(?P<output>.*?)```", re.DOTALL)


def output(words: str) -> str:
    """What the command prints, without colour and for 80 columns."""
    surroundings = {**os.environ, "NO_COLOR": "1", "COLUMNS": "80"}
    command = [str(Path(sys.executable).with_name("smtpdebug")), *shlex.split(words)]
    done = subprocess.run(command, cwd=ROOT, env=surroundings, capture_output=True, text=True, timeout=60)
    if done.returncode not in (0, 1):
        raise SystemExit(f"smtpdebug {words}: exit code {done.returncode}\n{done.stderr}")
    return "\n".join(line.rstrip() for line in done.stdout.splitlines()) + "\n"


def renewed(text: str) -> str:
    """The text of a page with all its blocks up to date."""
    return BLOCK.sub(lambda block: f"```console\n$ smtpdebug {block['words']}\n{output(block['words'])}```", text)


def main() -> int:
    """Write or check."""
    stale = []
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = page.read_text()
        if "```console\n$ smtpdebug " in text and (new := renewed(text)) != text:
            stale.append(str(page.relative_to(ROOT)))
            if "--check" not in sys.argv:
                page.write_text(new)
    for name in stale:
        print(f"{name}: {'out of date, run make fix' if '--check' in sys.argv else 'written'}")  # noqa: T201 - a tool
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
