"""``docs/rules/`` is what the rules say of themselves."""

from __future__ import annotations

from pathlib import Path

from smtpdebug.cli import pages as writer
from smtpdebug.rules import pages
from smtpdebug.rules.registry import all_rules

FOLDER = Path(__file__).parents[2] / "docs" / "rules"


def test_docs_rules_is_current() -> None:
    found = {path.name: path.read_text("utf-8") for path in FOLDER.glob("*.md")}
    assert found == pages.tree(), "run `make fix`"


def test_writing_changes_only_what_differs_and_removes_what_is_gone(tmp_path: Path) -> None:
    (tmp_path / "SR000.md").write_text("a rule of old")
    written = writer.write(tmp_path)
    assert len(written) == len(all_rules()) + 2
    assert not (tmp_path / "SR000.md").exists()
    assert writer.write(tmp_path) == []


def test_references_are_links_to_the_section() -> None:
    assert (
        pages.link("RFC 5321 §4.3.2") == "[RFC 5321 §4.3.2](https://www.rfc-editor.org/rfc/rfc5321.html#section-4.3.2)"
    )
    assert pages.link("Postfix XCLIENT_README") == "Postfix XCLIENT_README"
