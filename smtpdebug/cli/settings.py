"""``[tool.smtpdebug]`` of ``pyproject.toml``, or ``smtpdebug.toml``: which rules run, and how much they weigh."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import click
import msgspec


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """What a project has written down; the command line adds to it or overrides it."""

    select: list[str] = []
    ignore: list[str] = []
    preview: bool = False
    fail_on: str | None = None
    severity: dict[str, str] = {}
    """Selector -> ``error``, ``warning`` or ``note``."""
    path: str = ""


def load(folder: Path, explicit: str | None = None) -> Settings:
    """The settings of the nearest file in this folder or above it; empty ones if there is none.

    Raises:
        click.UsageError: the file is not TOML, or has keys or values that are not known.
    """
    if explicit is not None:
        path = Path(explicit)
        return _read(path, _table(path))
    for place in (folder, *folder.parents):
        for name in ("smtpdebug.toml", "pyproject.toml"):
            path = place / name
            if path.is_file():
                table = _table(path)
                if table is not None:
                    return _read(path, table)
    return Settings()


def _table(path: Path) -> dict[str, Any] | None:
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{path}: not TOML: {error}") from None
    except OSError as error:
        raise click.UsageError(f"{path}: cannot be read: {error.strerror}") from None
    if path.name == "pyproject.toml":
        table = data.get("tool", {}).get("smtpdebug")
        return table if isinstance(table, dict) else None
    return data


def _read(path: Path, table: dict[str, Any] | None) -> Settings:
    try:
        found = msgspec.convert({**(table or {}), "path": str(path)}, Settings)
    except msgspec.ValidationError as error:
        raise click.UsageError(f"{path}: {error}") from None
    for word in (found.fail_on, *found.severity.values()):
        if word not in (None, "error", "warning", "note", "never"):
            raise click.UsageError(f"{path}: {word!r} is none of error, warning, note, never")
    return found
