"""The pages made from code are current."""

from __future__ import annotations

from pathlib import Path

from smtpdebug.cli.reference import page, schema, write

DOCS = Path(__file__).parents[2] / "docs"
STALE = "run: python -m smtpdebug.cli.reference"


def test_the_command_lines_page_is_current() -> None:
    assert (DOCS / "cli.md").read_text() == page(), STALE


def test_the_schema_is_current() -> None:
    assert (DOCS / "record.schema.json").read_text() == schema(), STALE


def test_writing_them(tmp_path: Path) -> None:
    write(tmp_path / "docs")
    assert {path.name for path in (tmp_path / "docs").iterdir()} == {"cli.md", "record.schema.json"}


def test_every_field_of_the_record_is_on_its_page() -> None:
    text = (DOCS / "record.md").read_text()
    import json

    for definition in json.loads(schema())["$defs"].values():
        for name in definition.get("properties", {}):
            assert f"`{name}`" in text or f'"{name}"' in text, name
