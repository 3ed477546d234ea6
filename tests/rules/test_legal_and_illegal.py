"""Several hundred short conversations, written from the RFCs by somebody who had not seen the rules.

``legal.smtp``: nothing is broken, however unusual it looks. ``illegal.smtp``: what is broken stands in the heading.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from smtpdebug.model.findings import Severity
from smtpdebug.rules.judge import RuleSet
from smtpdebug.testing import dialogue

HEADING = re.compile(r"### (?P<name>.*?)(?: \[(?P<how>.*?)\])?(?: -> (?P<rules>.*))?$")
RULES = RuleSet()


class Case(NamedTuple):
    name: str
    text: str
    rules: set[str]
    port: int
    tls: bool


def cases(file: str) -> Iterator[Case]:
    """The conversations of a file."""
    text = (Path(__file__).parent / file).read_text("utf-8")
    for part in re.split(r"^(?=### )", text, flags=re.MULTILINE)[1:]:
        heading, body = part.split("\n", 1)
        found = HEADING.match(heading)
        assert found is not None, heading
        how = found["how"] or ""
        port = re.search(r"port=(\d+)", how)
        rules = set((found["rules"] or "").split())
        yield Case(found["name"], body, rules, int(port[1]) if port else 25, "tls" in how.split())


def loud(case: Case) -> set[str]:
    """The rules that had an error or a warning to say."""
    conversation = dialogue(case.text, port=case.port, implicit_tls=case.tls)
    return {finding.rule for finding in RULES.judge(conversation) if finding.severity is not Severity.NOTE}


@pytest.mark.parametrize("case", list(cases("legal.smtp")), ids=lambda case: case.name)
def test_legal(case: Case) -> None:
    assert not case.rules
    assert loud(case) == set()


@pytest.mark.parametrize("case", list(cases("illegal.smtp")), ids=lambda case: case.name)
def test_illegal(case: Case) -> None:
    assert case.rules
    assert loud(case) == case.rules
