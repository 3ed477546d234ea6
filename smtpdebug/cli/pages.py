"""``python -m smtpdebug.cli.pages [FOLDER]``: write ``docs/rules/`` from the rules (part of ``make fix``)."""

from __future__ import annotations

import sys
from pathlib import Path

from smtpdebug.rules import pages


def write(folder: Path) -> list[str]:
    """Write every page into the folder and remove pages of rules that are gone; gives the names that changed."""
    folder.mkdir(parents=True, exist_ok=True)
    tree = pages.tree()
    changed = []
    for name, text in tree.items():
        path = folder / name
        if not path.is_file() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
            changed.append(name)
    for path in folder.glob("*.md"):
        if path.name not in tree:
            path.unlink()
            changed.append(path.name)
    return changed


if __name__ == "__main__":
    for name in write(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/rules")):
        sys.stderr.write(f"{name}\n")
