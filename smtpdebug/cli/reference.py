"""Writes the pages that are made from code: ``docs/cli.md`` and ``docs/record.schema.json``.

``python -m smtpdebug.cli.reference`` (``make fix`` does); a test fails where they are stale.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from smtpdebug.cli import main
from smtpdebug.render.record import json_schema

_HEAD = """# Command line

Made from the program's own help by `python -m smtpdebug.cli.reference`; do not edit.

Data goes to standard output, everything else to standard error. `NO_COLOR` and `SSLKEYLOGFILE` are heeded.

| exit code | means |
|---|---|
| 0 | clean |
| 1 | findings or differences |
| 2 | wrong usage |
| 3 | input that cannot be read, or a missing tool |
| 130 | interrupted; what was read until then was shown |
"""


def page() -> str:
    """``docs/cli.md``."""
    return "\n".join([_HEAD, *_command(main, None, "smtpdebug")])


def schema() -> str:
    """``docs/record.schema.json``."""
    return json.dumps(json_schema(), indent=2, sort_keys=True) + "\n"


def _command(command: click.Command, parent: click.Context | None, name: str) -> Iterator[str]:
    settings: dict[str, Any] = {**command.context_settings, "max_content_width": 100, "terminal_width": 100}
    context = click.Context(command, info_name=name, parent=parent, **settings)
    yield f"## {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for verb in command.list_commands(context):
            found = command.get_command(context, verb)
            if found is not None and not found.hidden:
                yield from _command(found, context, verb)


def write(docs: Path) -> None:
    """Write both below ``docs``."""
    docs.mkdir(exist_ok=True)
    (docs / "cli.md").write_text(page(), encoding="utf-8")
    (docs / "record.schema.json").write_text(schema(), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[2] / "docs")
