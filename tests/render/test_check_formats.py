"""The outputs of ``check``: SARIF, JUnit, GitHub annotations and text, on conversations whose faults are known."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import msgspec
import pytest

from smtpdebug.model.findings import Finding, Severity
from smtpdebug.model.smtp import Conversation
from smtpdebug.model.streams import Location
from smtpdebug.render.check_text import CheckText, RuleLine
from smtpdebug.render.github import GitHub
from smtpdebug.render.junit import JUnit
from smtpdebug.render.sarif import FINGERPRINT, Sarif, fingerprint
from smtpdebug.rules.judge import RuleSet
from smtpdebug.testing import dialogue

HERE = Path(__file__).parent
# The schema of the standard, as it comes with Microsoft's SARIF SDK (npm @microsoft/sarif-multitool-linux 5.7.0, MIT);
# and ours, stricter: what we mean to write of it, with nothing left out.
STANDARD = json.loads((HERE / "sarif-2.1.0.schema.json").read_text())
SCHEMA = json.loads((HERE / "sarif-subset.schema.json").read_text())
LINES = {"SR103": RuleLine("reply-code-not-listed", "RFC 5321 §4.3.2"), "SC120": RuleLine("command-unknown", "")}


def finding(rule: str = "SR103", severity: Severity = Severity.WARNING, text: str = "hm", frame: int = 3) -> Finding:
    return Finding(rule, severity, text, Location("a b/ü:1,2.pcap", frame, 1_704_067_200_000_000_000 + frame))


def judged(*findings: Finding) -> Conversation:
    conversation = dialogue("S: 220 mx.example.org")
    conversation.findings = list(findings)
    return conversation


def sarif(*conversations: Conversation, rules: RuleSet | None = None) -> dict[str, Any]:
    chosen = rules or RuleSet(["SR103", "SC120"])
    out = io.BytesIO()
    sink = Sarif(out, [(rule, chosen.severity(rule.id)) for rule in chosen.rules], version="0.1.0")
    for conversation in conversations:
        sink.conversation(conversation)
    sink.close()
    log: dict[str, Any] = json.loads(out.getvalue())
    jsonschema.Draft202012Validator(STANDARD).validate(log)
    jsonschema.Draft202012Validator(SCHEMA).validate(log)
    return log


def test_sarif_of_nothing_is_valid() -> None:
    assert sarif()["runs"][0]["results"] == []


def test_sarif_points_from_results_to_rules_and_back() -> None:
    log = sarif(judged(finding(), finding("SC120", Severity.NOTE)))
    run = log["runs"][0]
    rules = run["tool"]["driver"]["rules"]
    assert [rules[result["ruleIndex"]]["id"] for result in run["results"]] == ["SR103", "SC120"]
    assert [result["level"] for result in run["results"]] == ["warning", "note"]
    assert "frame 3" in run["results"][0]["message"]["text"]
    by_id = {rule["id"]: rule for rule in rules}
    assert by_id["SR103"]["help"]["markdown"].startswith("# SR103 reply-code-not-listed")
    assert by_id["SR103"]["helpUri"] == "https://www.rfc-editor.org/rfc/rfc5321.html#section-4.3.2"


def test_sarif_of_all_rules_is_valid_and_has_the_severities_of_the_run() -> None:
    log = sarif(rules=RuleSet(severities={"SR103": "error"}))
    levels = {r["id"]: r["defaultConfiguration"]["level"] for r in log["runs"][0]["tool"]["driver"]["rules"]}
    assert levels["SR103"] == "error"
    assert levels["SC120"] == "note"


def test_an_indeterminate_finding_is_for_review_and_has_no_level() -> None:
    unsure = finding()
    unsure.indeterminate = True
    (result,) = sarif(judged(unsure))["runs"][0]["results"]
    assert (result["kind"], result["level"]) == ("review", "none")


def test_fingerprints_do_not_depend_on_file_or_frame_and_tell_findings_apart() -> None:
    conversation = judged()
    one = finding()
    moved = msgspec.structs.replace(one, at=Location("other.pcap", 77, one.at.ts_ns))
    assert fingerprint(conversation, one) == fingerprint(conversation, moved)
    assert (
        len({fingerprint(conversation, f) for f in (one, finding(text="x"), finding(frame=4), finding("SC120"))}) == 4
    )
    (result,) = sarif(judged(one))["runs"][0]["results"]
    assert result["partialFingerprints"] == {FINGERPRINT: fingerprint(conversation, one)}


@pytest.mark.parametrize(("level", "failures"), [(Severity.WARNING, 1), (Severity.NOTE, 2), (None, 0)])
def test_junit_counts_and_survives_hostile_text(level: Severity | None, failures: int) -> None:
    out = io.StringIO()
    sink = JUnit(out, LINES, fail_on=level)
    sink.conversation(judged(finding(text='<&"\x1b]0;x\x07\ufffe'), finding("SC120", Severity.NOTE)))
    sink.conversation(judged(finding("SC120", Severity.NOTE)))
    sink.conversation(judged())
    sink.close()
    suites = ElementTree.fromstring(out.getvalue().encode())
    assert (suites.get("tests"), suites.get("failures")) == ("3", str(failures))
    (suite,) = suites
    assert len(suite.findall("testcase")) == 3
    assert len(suite.findall("testcase/failure")) == failures
    assert "\\x1b]0;x" in out.getvalue()


def test_github_annotations_escape_what_would_end_them() -> None:
    out = io.StringIO()
    GitHub(out, LINES).conversation(judged(finding(text="100% a\nb"), finding("SC120", Severity.NOTE)))
    first, second = out.getvalue().splitlines()
    assert first.startswith("::warning file=a b/ü%3A1%2C2.pcap,title=SR103 reply-code-not-listed::100%25 a\\x0ab (")
    assert second.startswith("::notice file=")


def test_text_groups_by_rule_worst_first_and_counts() -> None:
    out = io.StringIO()
    sink = CheckText(out, LINES, examples=2)
    for _ in range(3):
        sink.conversation(judged(finding("SC120", Severity.NOTE), finding(text="esc \x1b[2J")))
    sink.conversation(judged())
    sink.close()
    lines = out.getvalue().splitlines()
    assert lines[0] == "SR103 reply-code-not-listed  warning  3 in 1 conversation  RFC 5321 §4.3.2"
    assert lines[1] == "    192.0.2.1:40000 > 192.0.2.2:25  #3  esc \\x1b[2J"
    assert lines[3] == "    … and 1 more"
    assert lines[-1] == "3 warnings, 3 notes in 3 of 4 conversations"


def test_text_of_clean_traffic_is_one_line() -> None:
    out = io.StringIO()
    sink = CheckText(out, LINES)
    sink.conversation(judged())
    sink.close()
    assert out.getvalue() == "no findings in 1 conversation\n"


def test_the_standards_schema_can_refuse() -> None:
    log = sarif(judged(finding()))
    log["runs"][0]["results"][0]["level"] = "fatal"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(STANDARD).validate(log)
