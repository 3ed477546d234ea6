"""Every page of the families content, transport and timing is true: its example fires where it says, its remedy not."""

from __future__ import annotations

import pytest

from smtpdebug.model.findings import Finding
from smtpdebug.model.streams import Location
from smtpdebug.rules.examples import apply_facts, bare, blocks, sections
from smtpdebug.rules.judge import Judge, RuleSet
from smtpdebug.rules.registry import Rule, all_rules
from smtpdebug.testing import dialogue_with_marks

RULES = [rule for rule in all_rules() if rule.id[:2] in ("SD", "ST", "SL") and rule.status != "removed"]
COMPARING = {"ST109"}
"""Rules that need two conversations have a test of their own."""


def judged(rule: Rule, section: str) -> tuple[list[Finding], list[tuple[str, Location]]]:
    found = blocks(section)
    assert found, "the section has an example"
    if "smtp" in found:
        conversation, marks = dialogue_with_marks(found["smtp"])
    else:
        conversation, marks = bare(), []
    if "facts" in found:
        apply_facts(conversation, found["facts"])
    findings = Judge(RuleSet(select=[rule.id]), conversation).close()
    return findings, marks


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_page_has_its_sections(rule: Rule) -> None:
    parts = sections(rule.doc)
    assert set(parts) >= {"", "Why it matters", "Example", "Instead", "Innocent look-alikes"}
    assert all(parts.values())
    assert rule.refs


@pytest.mark.parametrize("rule", [r for r in RULES if r.id not in COMPARING], ids=lambda rule: rule.id)
def test_example_fires_where_marked(rule: Rule) -> None:
    findings, marks = judged(rule, sections(rule.doc)["Example"])
    assert findings, "the example fires"
    assert all(finding.rule == rule.id for finding in findings)
    if marks:
        assert {(rule_id, at.frame) for rule_id, at in marks} == {(f.rule, f.at.frame) for f in findings}


@pytest.mark.parametrize("rule", [r for r in RULES if r.id not in COMPARING], ids=lambda rule: rule.id)
def test_instead_is_silent(rule: Rule) -> None:
    findings, marks = judged(rule, sections(rule.doc)["Instead"])
    assert not marks
    assert findings == []
