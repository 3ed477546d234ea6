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
from smtpdebug.rules.diagnosis.registry import COMPARISONS, DIAGNOSES, RANK, DiagnosisSpec
from smtpdebug.rules.memory import Earlier
from smtpdebug.rules.scope import concerns_mail
from smtpdebug.rules.sighting import Sighting

__all__ = ["DIAGNOSES", "DiagnosisSpec", "compare", "diagnose", "weight"]

_BY_TRAITS: dict[int, tuple[DiagnosisSpec, ...]] = {}


def _asked(traits: int) -> tuple[DiagnosisSpec, ...]:
    specs = _BY_TRAITS.get(traits)
    if specs is None:
        specs = _BY_TRAITS[traits] = tuple(spec for spec in DIAGNOSES.values() if spec.on & traits)
    return specs


def diagnose(conversation: Conversation) -> list[Diagnosis]:
    """Say what a finished conversation suffers from, most confident first, then in order of evidence.

    ``conversation.findings`` should be filled in before.
    """
    if not concerns_mail(conversation):
        return []
    facts = Facts(conversation)
    found = [diagnosis for spec in _asked(facts.traits) for diagnosis in spec(facts)]
    if len(found) > 1:
        found.sort(key=weight)
    return found


def compare(seen: Sighting, earlier: Earlier) -> list[Diagnosis]:
    """What a conversation suffers from as earlier ones show it; ``earlier`` is asked and not changed."""
    return [DIAGNOSES[id].told(said) for id, comparison in COMPARISONS for said in comparison(seen, earlier)]


def weight(diagnosis: Diagnosis) -> tuple[int, int, str]:
    """The order of diagnoses: by confidence, place of the first evidence, and id."""
    evidence = diagnosis.evidence
    return RANK[diagnosis.confidence], evidence[0].ts_ns if evidence else 0, diagnosis.id
