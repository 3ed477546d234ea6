from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest
from click.testing import Result

import smtpdebug
from smtpdebug.cli import versions

Cli = Callable[..., Result]


def test_versions_name_what_the_program_leans_on(cli: Cli) -> None:
    lines = cli("--version").stdout.splitlines()
    assert lines[0] == f"smtpdebug {smtpdebug.__version__}"
    assert "numpy " in lines[1]
    assert [line.split(":")[0] for line in lines[2:]] == ["tcpdump", "tshark"]


def test_a_missing_tool_is_said_to_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert versions.versions()[-1] == "tshark: not found"


def test_help_names_the_verbs_and_the_exit_codes(cli: Cli) -> None:
    text = cli("--help").stdout
    assert "show" in text
    assert "Exit codes" in text


def test_an_unknown_verb_is_wrong_usage(cli: Cli) -> None:
    result = cli("shew")
    assert result.exit_code == 2
    assert "shew" in result.stderr
