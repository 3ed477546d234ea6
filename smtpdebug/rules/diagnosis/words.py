"""Refusals found by their words: code, enhanced status code, text, and what is known of the provider.

A reply is claimed by the first diagnosis that explains it, so that general ones, which run last, leave it alone.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field

from smtpdebug.model.smtp import Command, Exchange, Reply
from smtpdebug.model.streams import Location
from smtpdebug.rules.diagnosis.facts import Facts, quote
from smtpdebug.rules.diagnosis.registry import Confidence

EVIDENCE = 10
"""Places listed for one diagnosis; a refused list of recipients has thousands."""


def words(*alternatives: str) -> re.Pattern[str]:
    """A pattern that finds any of the alternatives, in upper or lower case."""
    return re.compile("|".join(alternatives), re.IGNORECASE)


@dataclass(slots=True)
class Refusals:
    """Replies that one diagnosis explains."""

    replies: list[Reply] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    advice: str | None = None
    provider: str | None = None

    def __bool__(self) -> bool:
        return bool(self.replies)

    @property
    def first(self) -> Reply:
        """The first of them."""
        return self.replies[0]

    @property
    def quoted(self) -> str:
        """The first reply in quotation marks, and how many more there are."""
        more = f", and {len(self.replies) - 1} more" if len(self.replies) > 1 else ""
        return f"“{quote(self.first)}”{more}"

    @property
    def evidence(self) -> tuple[Location, ...]:
        """Where they are."""
        return tuple(reply.at for reply in self.replies[:EVIDENCE])

    def sure(self, otherwise: Confidence = Confidence.MEDIUM) -> Confidence:
        """High where the provider's own list explains the reply."""
        return Confidence.HIGH if self.provider else otherwise


def refusals(
    facts: Facts,
    id: str,
    pattern: re.Pattern[str] | None = None,
    *,
    verbs: Collection[str] = (),
    codes: Collection[int] = (),
    enhanced: Collection[str] = (),
) -> Refusals:
    """Claim the refused commands that a diagnosis explains.

    Args:
        facts: of the conversation.
        id: the diagnosis; a provider's entry that names it claims the reply, one that names another leaves it.
        pattern: words of the text that prove it.
        verbs: only these commands (empty: any, also replies nobody asked for).
        codes: only these reply codes (empty: any of 4yz and 5yz).
        enhanced: enhanced status codes that prove it without the pattern; ``X`` stands for 4 or 5.
    """
    found = Refusals()
    for exchange, command, reply, text in facts.failures():
        if id_of(exchange) in facts.claimed:
            continue
        entry = facts.provider.explains(command.verb, reply.code, text) if facts.provider is not None else None
        if entry is not None and entry.diagnosis is not None:
            if entry.diagnosis != id:
                continue
            found.advice = found.advice or entry.advice
            found.provider = facts.provider.name if facts.provider is not None else None
        elif (
            (verbs and command.verb not in verbs)
            or (codes and reply.code not in codes)
            or not _proved(reply, text, pattern, enhanced)
        ):
            continue
        facts.claimed.add(id_of(exchange))
        found.replies.append(reply)
        found.commands.append(command)
    return found


def id_of(exchange: Exchange) -> int:
    """A handle for an exchange while its conversation lives."""
    return id(exchange)


def _proved(reply: Reply, text: str, pattern: re.Pattern[str] | None, enhanced: Collection[str]) -> bool:
    if enhanced and reply.enhanced and (reply.enhanced in enhanced or "X" + reply.enhanced[1:] in enhanced):
        return True
    if pattern is None:
        return not enhanced
    return pattern.search(text) is not None
