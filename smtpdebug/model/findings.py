"""Judgement: findings (what broke) and diagnoses (what it means and what to do)."""

from __future__ import annotations

import enum

import msgspec

from smtpdebug.model.streams import Location


class Severity(enum.StrEnum):
    """``error`` breaks a MUST, ``warning`` a SHOULD or is off-table, ``note`` is worth knowing."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class Finding(msgspec.Struct, gc=False):
    """One thing that one rule has to say about one place in a conversation."""

    rule: str
    """Id, e.g. ``SR103``."""
    severity: Severity
    message: str
    at: Location
    security: bool = False
    indeterminate: bool = False
    exchange: int | None = None
    """Which of ``Conversation.exchanges`` it is about; ``None`` for what is about the conversation as a whole."""


class Diagnosis(msgspec.Struct, gc=False):
    """What the findings, waits and TCP facts add up to."""

    id: str
    """E.g. ``D24``."""
    name: str
    """Kebab-case."""
    says: str
    """What it means, in a sentence."""
    advice: str
    confidence: str
    """``high``, ``medium`` or ``low``."""
    otherwise: str
    """The competing explanation."""
    evidence: list[Location]
