"""The program run as a user runs it, in this process or (``program``) in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from click.testing import CliRunner, Result

from smtpdebug.cli import main

CAPTURES = Path(__file__).parents[2] / "captures"

Cli: TypeAlias = Callable[..., Result]
Program: TypeAlias = "Callable[..., subprocess.CompletedProcess[bytes]]"


@pytest.fixture
def captures() -> Path:
    """The captures that ship."""
    return CAPTURES


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> Cli:
    for name in ("SSLKEYLOGFILE", "NO_COLOR", "COLUMNS", "SMTPDEBUG_TRACEBACK"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str | Path, **how: Any) -> Result:
        return CliRunner().invoke(main, [str(argument) for argument in arguments], **how)

    return run


@pytest.fixture
def program() -> Program:
    def run(*arguments: str | Path, **how: Any) -> subprocess.CompletedProcess[bytes]:
        environment = {name: value for name, value in os.environ.items() if name != "SSLKEYLOGFILE"}
        return subprocess.run(
            [sys.executable, "-m", "smtpdebug", *map(str, arguments)],
            capture_output=True,
            timeout=60,
            check=False,
            env=environment | how.pop("env", {}),
            **how,
        )

    return run
