"""What a diagnosis is: a function over the facts of one conversation, with its page as docstring.

What takes earlier conversations to say is a function over the sighting of this one and ``memory.Earlier``: a
diagnosis of its own (``on=Sighting``), or one more way to come to a diagnosis (``compared``).
"""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from smtpdebug.model.findings import Diagnosis
from smtpdebug.model.streams import Location
from smtpdebug.rules.diagnosis.facts import Facts, Trigger
from smtpdebug.rules.examples import sections
from smtpdebug.rules.memory import Earlier
from smtpdebug.rules.sighting import Sighting

__all__ = ["COMPARISONS", "DIAGNOSES", "Confidence", "DiagnosisSpec", "Seen", "Trigger", "compared", "diagnosis"]


class Confidence(enum.StrEnum):
    """How far the evidence alone carries: ``high`` leaves no ordinary other reading."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


RANK: dict[str, int] = {Confidence.HIGH: 0, Confidence.MEDIUM: 1, Confidence.LOW: 2}


@dataclass(frozen=True, slots=True)
class Seen:
    """One sighting: what to say of it, how sure, where; ``advice`` replaces the page's general advice."""

    says: str
    confidence: Confidence
    evidence: tuple[Location, ...]
    advice: str | None = None


Function = Callable[..., Iterator[Seen]]
"""Over :class:`Facts`."""
Comparison = Callable[[Sighting, Earlier], Iterator[Seen]]


@dataclass(frozen=True)
class DiagnosisSpec:
    """A registered diagnosis. Its page is taken apart when it is asked for: most runs show few of them."""

    id: str
    name: str
    on: Trigger
    function: Function

    @cached_property
    def page(self) -> str:
        """The docstring as Markdown; its sections hold advice and alternative."""
        return inspect.cleandoc(self.function.__doc__ or "")

    @property
    def title(self) -> str:
        """The page's first line."""
        return self.page.split("\n", 1)[0]

    @cached_property
    def advice(self) -> str:
        """What to do, on one line."""
        return self._section("What to do")

    @cached_property
    def otherwise(self) -> str:
        """The competing explanation, on one line."""
        return self._section("Otherwise")

    def _section(self, heading: str) -> str:
        return " ".join(sections(self.page).get(heading, "").split())

    def __call__(self, facts: Facts) -> Iterator[Diagnosis]:
        """Give each sighting as the model's Diagnosis."""
        return map(self.told, self.function(facts))

    def told(self, seen: Seen) -> Diagnosis:
        """A sighting as the model's Diagnosis."""
        return Diagnosis(
            id=self.id,
            name=self.name,
            says=seen.says,
            advice=seen.advice or self.advice,
            confidence=str(seen.confidence),
            otherwise=self.otherwise,
            evidence=list(seen.evidence),
        )


DIAGNOSES: dict[str, DiagnosisSpec] = {}
COMPARISONS: list[tuple[str, Comparison]] = []
"""Id of the diagnosis, and what comes to it from earlier conversations."""


def compared(id: str) -> Callable[[Comparison], Comparison]:
    """Register another way to a diagnosis: beside earlier conversations. It replaces what one alone gave."""

    def register(comparison: Comparison) -> Comparison:
        COMPARISONS.append((id, comparison))
        return comparison

    return register


def diagnosis(id: str, *, name: str, on: Trigger | type[Sighting]) -> Callable[[Function], Function]:
    """Register a function as a diagnosis.

    Args:
        id: ``D`` and two or three digits, never reused.
        name: kebab-case, what is wrong and not the remedy.
        on: the function is called only for conversations with at least one of these traits; ``Sighting`` for one
            that is about a conversation and earlier ones.

    Raises:
        ValueError: the id is taken (an error of the programmer).
    """

    def register(function: Function) -> Function:
        if id in DIAGNOSES:
            raise ValueError(f"{id} is taken")
        DIAGNOSES[id] = DiagnosisSpec(id, name, on if isinstance(on, Trigger) else Trigger(0), function)
        if on is Sighting:
            COMPARISONS.append((id, function))
        return function

    return register
