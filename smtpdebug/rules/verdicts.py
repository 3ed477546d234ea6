"""Findings and diagnoses together, as the engine wants them: the ``Judge`` of a run."""

from __future__ import annotations

from smtpdebug.model.smtp import Conversation
from smtpdebug.rules.diagnosis import Memory, diagnose
from smtpdebug.rules.judge import RuleSet


class Verdicts:
    """Fills in findings, then the diagnoses that they and the waits and TCP facts add up to.

    Args:
        rules: those of this run; all stable ones if not given.
    """

    def __init__(self, rules: RuleSet | None = None) -> None:
        self.rules = rules if rules is not None else RuleSet()
        self._memory = Memory()

    def judge(self, conversation: Conversation) -> None:
        """Judge a finished conversation."""
        conversation.findings = self.rules.judge(conversation)
        conversation.diagnoses = diagnose(conversation, self._memory)
        self._memory.observe(conversation)
