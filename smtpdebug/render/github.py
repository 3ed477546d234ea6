"""``check -f github``: workflow commands that GitHub Actions turns into annotations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TextIO

from smtpdebug.model.smtp import Conversation
from smtpdebug.render.check_text import RuleLine
from smtpdebug.render.clock import rfc3339
from smtpdebug.render.escape import printable

_COMMANDS: Final = {"error": "error", "warning": "warning", "note": "notice"}


class GitHub:
    """Sink: one ``::error file=…,title=…::message`` a finding.

    A capture has no lines, so the frame number stands in the text and not in ``line``.
    """

    def __init__(self, out: TextIO, rules: Mapping[str, RuleLine]) -> None:
        self._out, self._rules = out, rules

    def conversation(self, conversation: Conversation) -> None:
        """Write the findings of a conversation."""
        stream = conversation.stream
        route = f"{stream.client.ip} port {stream.client.port} > {stream.server.ip} port {stream.server.port}"
        for finding in conversation.findings:
            known = self._rules.get(finding.rule)
            title = f"{finding.rule} {known.name}" if known is not None else finding.rule
            text = f"{finding.message} ({route}, frame {finding.at.frame}, {rfc3339(finding.at.ts_ns)})"
            self._out.write(
                f"::{_COMMANDS[finding.severity]} file={_property(finding.at.capture)},title={_property(title)}"
                f"::{_data(text)}\n"
            )

    def close(self) -> None:
        """Nothing is left to write."""


def _data(text: str) -> str:
    return printable(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
