"""Every rule's page is true: its example fires on the marked line and nowhere else, its counter-example is silent."""

from __future__ import annotations

import pytest

from smtpdebug.model.findings import Severity
from smtpdebug.model.smtp import Conversation
from smtpdebug.rules import examples, pages
from smtpdebug.rules.judge import RuleSet
from smtpdebug.rules.registry import Rule, all_rules
from smtpdebug.rules.verdicts import Verdicts
from smtpdebug.testing import dialogue_with_marks

RULES = [rule for rule in all_rules() if rule.status != "removed"]


def _id(rule: Rule) -> str:
    return rule.id


def _conversations(rule: Rule, heading: str) -> list[tuple[Conversation, list[int]]]:
    """What a section's blocks describe, each with the frames that are marked for the rule."""
    text = pages.section(rule, heading)
    facts = examples.blocks(text).get("facts")
    dialogues = pages.dialogues(rule, heading)
    if not dialogues and facts is not None:
        conversation = examples.bare()
        examples.apply_facts(conversation, facts)
        return [(conversation, [])]
    found = []
    for dialogue, options in dialogues:
        conversation, marks = dialogue_with_marks(dialogue, **options)
        if facts is not None:
            examples.apply_facts(conversation, facts)
        found.append((conversation, [at.frame for name, at in marks if name == rule.id]))
    return found


@pytest.mark.parametrize("rule", RULES, ids=_id)
def test_the_example_fires_on_the_marked_line_and_nowhere_else(rule: Rule) -> None:
    conversations = _conversations(rule, "Example")
    assert conversations, "a page needs an example"
    verdicts = Verdicts(RuleSet(preview=True))  # one for all: a rule may compare conversations
    for number, (conversation, wanted) in enumerate(conversations, 1):
        verdicts.judge(conversation)
        found = [f.at.frame for f in conversation.findings if f.rule == rule.id]
        if rule.on == "sighting" and number < len(conversations):
            assert found == wanted
        elif "```facts" in pages.section(rule, "Example") and not wanted:
            assert found
        else:
            assert wanted, "no line is marked"
            assert found == wanted


@pytest.mark.parametrize("rule", RULES, ids=_id)
def test_instead_is_silent(rule: Rule) -> None:
    instead = _conversations(rule, "Instead")
    assert instead, "a page needs an example of how it is done right"
    for conversation, _ in instead:
        findings = RuleSet(preview=True).judge(conversation)
        assert [f for f in findings if f.rule == rule.id or f.severity is Severity.ERROR] == []


@pytest.mark.parametrize("rule", RULES, ids=_id)
def test_the_page_has_all_its_parts(rule: Rule) -> None:
    assert rule.summary.endswith("."), "the first paragraph says what"
    for heading in ("Why it matters", "Example", "Instead", "Innocent look-alikes"):
        assert f"## {heading}\n" in rule.doc + "\n", f"no {heading}"
    assert rule.refs
