"""``check -f text``: findings grouped by rule with counts, then what they mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TextIO

import msgspec

from smtpdebug.model.findings import Diagnosis, Finding, Severity
from smtpdebug.model.smtp import Conversation
from smtpdebug.model.streams import Endpoint
from smtpdebug.render.escape import printable

_RANK: Final = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.NOTE: 2}
_STYLES: Final = {Severity.ERROR: "1;91", Severity.WARNING: "93", Severity.NOTE: "96"}


class RuleLine(msgspec.Struct, frozen=True):
    """What the output needs to know of a rule."""

    name: str
    reference: str


class _Group(msgspec.Struct):
    severity: Severity
    count: int = 0
    conversations: int = 0
    last: str = ""
    places: list[str] = []


class CheckText:
    """Sink: keeps counts and the first few places of each rule; writes at the end.

    Args:
        out: where to; a text stream.
        rules: id -> name and first reference.
        examples: places listed for each rule; the rest is counted.
        color: write colours (SGR sequences).
    """

    def __init__(self, out: TextIO, rules: Mapping[str, RuleLine], *, examples: int = 10, color: bool = False) -> None:
        self._out, self._rules, self._examples, self._color = out, rules, examples, color
        self._groups: dict[tuple[str, Severity], _Group] = {}
        self._diagnoses: dict[str, tuple[Diagnosis, int]] = {}
        self.conversations = self.affected = 0

    def conversation(self, conversation: Conversation) -> None:
        """Take in a judged conversation."""
        self.conversations += 1
        if conversation.findings:
            self.affected += 1
            route = f"{_address(conversation.stream.client)} > {_address(conversation.stream.server)}"
            for finding in conversation.findings:
                self._add(conversation.id or route, route, finding)
        for diagnosis in conversation.diagnoses:
            first, count = self._diagnoses.get(diagnosis.id, (diagnosis, 0))
            self._diagnoses[diagnosis.id] = first, count + 1

    def close(self) -> None:
        """Write all of it."""
        for (rule_id, severity), group in sorted(self._groups.items(), key=_weight):
            known = self._rules.get(rule_id, RuleLine("", ""))
            times = f"{group.count} in {_plural(group.conversations, 'conversation')}"
            title = f"{rule_id} {known.name}  {severity}"
            self._write(f"{self._paint(_STYLES[severity], title)}  {times}  {known.reference}".rstrip())
            for place in group.places:
                self._write(f"    {place}")
            if group.count > len(group.places):
                self._write(f"    … and {group.count - len(group.places)} more")
        if self._diagnoses:
            self._write("")
            self._write(self._paint("1", "What it means"))
        for diagnosis, count in self._diagnoses.values():
            times = f"  ({count} times)" if count > 1 else ""
            self._write(f"{diagnosis.id} {printable(diagnosis.says)}{times}  confidence: {diagnosis.confidence}")
            self._write(f"    {printable(diagnosis.advice)}")
            if diagnosis.otherwise:
                self._write(f"    Otherwise: {printable(diagnosis.otherwise)}")
        if self._groups or self._diagnoses:
            self._write("")
        self._write(self.summary())

    def summary(self) -> str:
        """One line: how many of what, in how many conversations."""
        counts = dict.fromkeys(Severity, 0)
        for (_, severity), group in self._groups.items():
            counts[severity] += group.count
        said = ", ".join(_plural(counts[s], str(s)) for s in Severity if counts[s]) or "no findings"
        where = f" in {self.affected} of" if self.affected else " in"
        return f"{said}{where} {_plural(self.conversations, 'conversation')}"

    def _add(self, conversation: str, route: str, finding: Finding) -> None:
        group = self._groups.setdefault((finding.rule, finding.severity), _Group(finding.severity))
        group.count += 1
        if group.last != conversation:
            group.last = conversation
            group.conversations += 1
        if len(group.places) < self._examples:
            unsure = " (indeterminate)" if finding.indeterminate else ""
            group.places.append(f"{route}  #{finding.at.frame}  {printable(finding.message)}{unsure}")

    def _paint(self, style: str, text: str) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if self._color else text

    def _write(self, line: str) -> None:
        self._out.write(line + "\n")


def _weight(item: tuple[tuple[str, Severity], _Group]) -> tuple[int, int, str]:
    (rule_id, severity), group = item
    return _RANK[severity], -group.count, rule_id


def _address(endpoint: Endpoint) -> str:
    return f"[{endpoint.ip}]:{endpoint.port}" if ":" in endpoint.ip else f"{endpoint.ip}:{endpoint.port}"


def _plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
