"""Findings and diagnoses together, as the engine wants them: the ``Judge`` of a run.

Each conversation is first judged alone, then compared with earlier ones. The first may happen in any process; the
second takes the sightings of all conversations in order of output.
"""

from __future__ import annotations

from smtpdebug.model.findings import Diagnosis, Finding
from smtpdebug.model.smtp import Conversation
from smtpdebug.rules.diagnosis import compare, diagnose, weight
from smtpdebug.rules.judge import Judge, RuleSet, place
from smtpdebug.rules.memory import Earlier
from smtpdebug.rules.scope import concerns_mail
from smtpdebug.rules.sighting import Sighting, sight


class Comparisons:
    """What conversations say beside earlier ones: the rules and diagnoses on ``Sighting``."""

    def __init__(self, rules: RuleSet) -> None:
        self._rules = rules
        self._earlier = Earlier()

    def compare(self, seen: Sighting) -> tuple[list[Finding], list[Diagnosis]]:
        """What follows from the next conversation in order of output; it is remembered.

        A diagnosis replaces the one with the same id that the conversation had alone.
        """
        earlier = self._earlier
        findings: list[Finding] = []
        diagnoses: list[Diagnosis] = []
        if seen.mail:
            findings = self._rules.compare(seen, earlier)
            diagnoses = compare(seen, earlier)
        earlier.remember(seen)
        return findings, diagnoses


class Verdicts:
    """Fills in findings, then the diagnoses that they and the waits and TCP facts add up to.

    Args:
        rules: those of this run; all stable ones if not given.
    """

    def __init__(self, rules: RuleSet | None = None) -> None:
        self.rules = rules if rules is not None else RuleSet()
        self._comparisons = Comparisons(self.rules)

    def judge(self, conversation: Conversation) -> None:
        """Judge a finished conversation; they have to come in order of output."""
        findings, diagnoses = self._comparisons.compare(self.look(conversation))
        if findings or diagnoses:
            complete(conversation, findings, diagnoses)

    def look(self, conversation: Conversation) -> Sighting:
        """Judge a conversation alone, in any order; gives what it takes to compare it."""
        judge = Judge(self.rules, conversation)
        conversation.findings = findings = judge.close()
        if len(findings) > 1:
            findings.sort(key=place)
        mail = concerns_mail(conversation)
        conversation.diagnoses = diagnose(conversation) if mail else []
        return sight(conversation, judge.state, mail=mail)


def complete(conversation: Conversation, findings: list[Finding], diagnoses: list[Diagnosis]) -> None:
    """Add to a conversation what comparing it gave."""
    if findings:
        conversation.findings = sorted([*conversation.findings, *findings], key=place)
    if diagnoses:
        replaced = {diagnosis.id for diagnosis in diagnoses}
        kept = [diagnosis for diagnosis in conversation.diagnoses if diagnosis.id not in replaced]
        conversation.diagnoses = sorted([*kept, *diagnoses], key=weight)
