"""Diagnoses: what findings, waits and TCP facts add up to, and what to do about it.

One function a diagnosis, its docstring is its page. ``diagnose`` asks only those whose traits the conversation has,
so that a healthy conversation costs next to nothing.
"""

from __future__ import annotations

from smtpdebug.model.findings import Diagnosis
from smtpdebug.model.smtp import Conversation
from smtpdebug.rules.diagnosis import (  # noqa: F401 - importing registers
    amazon,
    authentication,
    certificates,
    cleartext,
    connection,
    content,
    credentials,
    encryption,
    greeting,
    limits,
    path,
    pauses,
    policy,
    recipients,
    refusals,
    stalls,
)
from smtpdebug.rules.diagnosis.facts import Facts
from smtpdebug.rules.diagnosis.memory import Memory
from smtpdebug.rules.diagnosis.registry import DIAGNOSES, RANK, DiagnosisSpec
from smtpdebug.rules.scope import concerns_mail

__all__ = ["DIAGNOSES", "DiagnosisSpec", "Memory", "diagnose"]

_BY_TRAITS: dict[int, tuple[DiagnosisSpec, ...]] = {}


def _asked(traits: int) -> tuple[DiagnosisSpec, ...]:
    specs = _BY_TRAITS.get(traits)
    if specs is None:
        specs = _BY_TRAITS[traits] = tuple(spec for spec in DIAGNOSES.values() if spec.on & traits)
    return specs


def diagnose(conversation: Conversation, memory: Memory | None = None) -> list[Diagnosis]:
    """Say what a finished conversation suffers from, most confident first, then in order of evidence.

    ``conversation.findings`` should be filled in before. ``memory`` is asked about earlier conversations; give the
    conversation to ``memory.observe`` afterwards.
    """
    if not concerns_mail(conversation):
        return []
    facts = Facts(conversation, memory)
    found = [pair for spec in _asked(facts.traits) for pair in spec(facts)]
    if len(found) > 1:
        found.sort(key=lambda pair: (RANK[pair[0]], pair[1].evidence[0].ts_ns if pair[1].evidence else 0, pair[1].id))
    return [diagnosis for _, diagnosis in found]
