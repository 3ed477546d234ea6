"""``check`` and ``rule``: exit codes, formats, selections, settings."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import Result

Cli = Callable[..., Result]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of this project."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def faulty(captures: Path) -> Path:
    """AUTH in clear: a warning (ST107) by its recording."""
    return captures / "auth-in-clear" / "capture.pcap"


@pytest.fixture
def clean(captures: Path) -> Path:
    return captures / "plain" / "capture.pcap"


def test_clean_traffic_exits_0(cli: Cli, clean: Path) -> None:
    result = cli("check", clean)
    assert result.exit_code == 0, result.stdout
    assert "in 1 conversation" in result.stdout or "of 1 conversation" in result.stdout


def test_findings_exit_1_and_name_rule_frame_and_reference(cli: Cli, faulty: Path) -> None:
    result = cli("check", faulty)
    assert result.exit_code == 1
    assert "ST107" in result.stdout
    assert "#" in result.stdout


def test_fail_on(cli: Cli, faulty: Path) -> None:
    assert cli("check", "--fail-on", "never", faulty).exit_code == 0
    assert cli("check", "--select", "ST107", "--fail-on", "error", faulty).exit_code == 0
    assert cli("check", "--select", "ST107", "--fail-on", "warning", faulty).exit_code == 1
    assert cli("check", "--ignore", "all", faulty).exit_code == 0


def test_usage_and_unreadable(cli: Cli, faulty: Path, tmp_path: Path) -> None:
    assert cli("check").exit_code == 2
    result = cli("check", "--select", "SR1,XX9", faulty)
    assert result.exit_code == 2
    assert "XX9" in result.stderr
    junk = tmp_path / "junk.pcap"
    junk.write_bytes(b"no capture at all, really not")
    assert cli("check", junk).exit_code == 3


def test_every_format_holds_the_same_findings(cli: Cli, faulty: Path) -> None:
    records = [json.loads(line) for line in cli("check", "-f", "jsonl", faulty).stdout.splitlines()]
    wanted = sorted(finding["rule"] for record in records for finding in record["findings"])
    assert "ST107" in wanted
    log = json.loads(cli("check", "-f", "sarif", faulty).stdout)
    assert sorted(result["ruleId"] for result in log["runs"][0]["results"]) == wanted
    suites = ElementTree.fromstring(cli("check", "-f", "junit", faulty).stdout.encode())
    assert suites.get("tests") == str(len(records))
    annotations = cli("check", "-f", "github", faulty).stdout.splitlines()
    assert sorted(line.split("title=")[1].split(" ")[0] for line in annotations) == wanted


def test_fingerprints_are_the_same_in_every_run(cli: Cli, faulty: Path) -> None:
    assert cli("check", "-f", "sarif", faulty).stdout == cli("check", "-f", "sarif", faulty).stdout


def test_sarif_says_whether_all_input_was_read(cli: Cli, clean: Path, tmp_path: Path) -> None:
    junk = tmp_path / "junk.pcap"
    junk.write_bytes(b"no capture at all, really not")
    result = cli("check", "-f", "sarif", clean, junk)
    assert result.exit_code == 3
    log = json.loads(result.stdout)
    assert log["runs"][0]["invocations"] == [{"executionSuccessful": False}]


def test_full_shows_the_lines(cli: Cli, faulty: Path) -> None:
    result = cli("check", "--full", "--select", "ST107", faulty)
    assert "^  ST107" in result.stdout
    assert "AUTH PLAIN ********" in result.stdout


def test_settings_of_the_folder_or_above(
    cli: Cli, faulty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.smtpdebug]\nselect = ["ST107"]\nseverity = {ST107 = "error"}\n')
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert "ST107 password-in-clear  error" in cli("check", faulty).stdout
    (tmp_path / "a" / "smtpdebug.toml").write_text('fail-on = "never"\nignore = ["security"]\n')
    result = cli("check", faulty)
    assert result.exit_code == 0
    assert "ST107" not in result.stdout
    assert cli("check", "--fail-on", "note", faulty).exit_code == 1


@pytest.mark.parametrize("text", ['selct = ["SR1"]', "select = 3", "not toml", 'fail-on = "loud"', 'select = ["XX"]'])
def test_wrong_settings_are_told(cli: Cli, faulty: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "smtpdebug.toml").write_text(text)
    result = cli("check", faulty)
    assert result.exit_code == 2
    assert "smtpdebug.toml" in result.stderr or "XX" in result.stderr


def test_rule_prints_a_page_by_id_or_name(cli: Cli) -> None:
    page = cli("rule", "SR103")
    assert page.exit_code == 0
    assert page.stdout.startswith("# SR103 reply-code-not-listed\n")
    assert "## Innocent look-alikes" in page.stdout
    assert cli("rule", "reply-code-not-listed").stdout == page.stdout
    assert cli("rule", "sr103").stdout == page.stdout


def test_rule_prints_the_page_of_a_diagnosis_too(cli: Cli) -> None:
    """Transcripts show ``=> D24 greeting-delayed``, and whoever reads it asks what that is."""
    page = cli("rule", "D24")
    assert page.exit_code == 0
    assert page.stdout.startswith("# D24 greeting-delayed\n")
    assert cli("rule", "greeting-delayed").stdout == cli("rule", "d24").stdout == page.stdout
    assert cli("rule", "D24", "SR103").stdout.count("# SR103 ") == 1
    assert cli("rule", "D24", "--format", "json").exit_code == 2
    assert cli("rule", "D00").exit_code == 2


def test_rule_lists_all(cli: Cli) -> None:
    lines = cli("rule", "--list").stdout.splitlines()
    entries = json.loads(cli("rule", "--list", "--format", "json").stdout)
    assert [entry["id"] for entry in entries] == [line.split()[0] for line in lines]
    assert len(entries) >= 90


def test_rule_usage(cli: Cli) -> None:
    assert cli("rule").exit_code == 2
    assert cli("rule", "SR000").exit_code == 2
