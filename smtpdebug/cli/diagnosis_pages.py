"""``python -m smtpdebug.cli.diagnosis_pages [FOLDER]``: write ``diagnoses/`` and ``providers/`` in ``docs/``."""

from __future__ import annotations

import sys
from pathlib import Path

from smtpdebug.rules.diagnosis.pages import all_pages, provider_pages


def trees() -> dict[str, dict[str, str]]:
    """Folder -> file name -> text."""
    return {"diagnoses": all_pages(), "providers": provider_pages()}


def write(docs: Path) -> list[str]:
    """Write the pages below ``docs`` and remove those of what is gone; gives the names that changed."""
    changed = []
    for folder, tree in trees().items():
        place = docs / folder
        place.mkdir(parents=True, exist_ok=True)
        for name, text in tree.items():
            path = place / name
            if not path.is_file() or path.read_text("utf-8") != text:
                path.write_text(text, "utf-8")
                changed.append(f"{folder}/{name}")
        for path in place.glob("*.md"):
            if path.name not in tree:
                path.unlink()
                changed.append(f"{folder}/{path.name}")
    return changed


if __name__ == "__main__":
    for name in write(Path(sys.argv[1] if len(sys.argv) > 1 else "docs")):
        sys.stderr.write(f"{name}\n")
