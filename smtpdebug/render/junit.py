"""``check -f junit``: JUnit XML, a conversation a test case, for CI systems that show test results."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from typing import Final, TextIO
from xml.sax.saxutils import escape, quoteattr

from smtpdebug.model.findings import Finding, Severity
from smtpdebug.model.smtp import Conversation
from smtpdebug.render.check_text import RuleLine
from smtpdebug.render.clock import rfc3339
from smtpdebug.render.escape import printable

_RANK: Final = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.NOTE: 2}
_IN_MEMORY: Final = 8 << 20
"""Bytes of test cases held in memory; the rest waits in a temporary file, since the counts come first."""


class JUnit:
    """Sink: a test suite. A conversation fails if it has a finding at or above ``fail_on``.

    Args:
        out: where to; a text stream.
        rules: id -> name and first reference.
        fail_on: the level, ``None`` for never.
    """

    def __init__(self, out: TextIO, rules: Mapping[str, RuleLine], *, fail_on: Severity | None) -> None:
        self._out, self._rules, self._fail_on = out, rules, fail_on
        self._cases = tempfile.SpooledTemporaryFile(  # noqa: SIM115  # open from the first conversation to close()
            max_size=_IN_MEMORY, mode="w+", encoding="utf-8"
        )
        self._tests = self._failures = 0
        self._seconds = 0.0

    def conversation(self, conversation: Conversation) -> None:
        """Take in a judged conversation."""
        stream = conversation.stream
        name = (
            f"{stream.client.ip}:{stream.client.port} > {stream.server.ip}:{stream.server.port} "
            f"{rfc3339(stream.opened.ts_ns)}"
        )
        seconds = max(0.0, (stream.last.ts_ns - stream.opened.ts_ns) / 1e9)
        failing = [f for f in conversation.findings if self._fails(f)]
        others = [f for f in conversation.findings if not self._fails(f)]
        self._tests += 1
        self._seconds += seconds
        write = self._cases.write
        group = stream.opened.capture
        write(f'<testcase name={_attribute(name)} classname={_attribute(group)} time="{seconds:.6f}">')
        if failing:
            self._failures += 1
            worst = min(failing, key=lambda f: _RANK[f.severity])
            title = f"{worst.rule} {worst.message}" + (f" (and {len(failing) - 1} more)" if len(failing) > 1 else "")
            write(f"<failure type={_attribute(str(worst.severity))} message={_attribute(title)}>")
            write(_text("\n".join(self._line(f) for f in failing)) + "</failure>")
        if others:
            write(f"<system-out>{_text(chr(10).join(self._line(f) for f in others))}</system-out>")
        write("</testcase>\n")

    def close(self) -> None:
        """Write the suite."""
        counts = f'tests="{self._tests}" failures="{self._failures}" errors="0" time="{self._seconds:.6f}"'
        self._out.write(f'<?xml version="1.0" encoding="UTF-8"?>\n<testsuites name="smtpdebug" {counts}>\n')
        self._out.write(f'<testsuite name="smtpdebug check" {counts} skipped="0">\n')
        self._cases.seek(0)
        while piece := self._cases.read(1 << 16):
            self._out.write(piece)
        self._cases.close()
        self._out.write("</testsuite>\n</testsuites>\n")

    def _fails(self, finding: Finding) -> bool:
        return self._fail_on is not None and _RANK[finding.severity] <= _RANK[self._fail_on]

    def _line(self, finding: Finding) -> str:
        known = self._rules.get(finding.rule, RuleLine("", ""))
        where = f"{finding.at.capture} frame {finding.at.frame} {rfc3339(finding.at.ts_ns)}"
        return f"{finding.severity} {finding.rule} {known.name}: {finding.message} [{known.reference}] at {where}"


def _text(text: str) -> str:
    return escape("\n".join(printable(line) for line in text.split("\n")))


def _attribute(text: str) -> str:
    return quoteattr(printable(text), {'"': "&quot;"})
