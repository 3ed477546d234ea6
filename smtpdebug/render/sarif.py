"""``check -f sarif``: SARIF 2.1.0 (OASIS), for code scanning and viewers; written as it goes."""

from __future__ import annotations

import hashlib
from typing import Any, BinaryIO, Final
from urllib.parse import quote

import msgspec

from smtpdebug.model.findings import Finding, Severity
from smtpdebug.model.smtp import Conversation
from smtpdebug.render.clock import rfc3339
from smtpdebug.render.escape import safe_json
from smtpdebug.rules import pages
from smtpdebug.rules.registry import Rule

SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
FINGERPRINT: Final = "smtpdebugFinding/v1"
_SECURITY_SEVERITY: Final = {Severity.ERROR: "7.5", Severity.WARNING: "5.0", Severity.NOTE: "2.0"}
"""GitHub's scale for rules with the tag ``security``."""


class Sarif:
    """Sink: one run, a result a finding; memory does not grow with the findings.

    Args:
        out: a binary stream.
        rules: those of the run, with the severity each has in it (a run may override the rule's own).
        version: of this program.
    """

    def __init__(self, out: BinaryIO, rules: list[tuple[Rule, Severity]], *, version: str) -> None:
        self._out = out
        self._index = {rule.id: number for number, (rule, _) in enumerate(rules)}
        self._first = True
        self.successful = True
        """Whether all input could be read; written at the end."""
        driver = {
            "name": "smtpdebug",
            "semanticVersion": version,
            "rules": [_descriptor(rule, severity) for rule, severity in rules],
        }
        out.write(b'{"$schema":' + _encode(SCHEMA) + b',"version":"2.1.0","runs":[{"tool":{"driver":')
        out.write(_encode(driver) + b'},"columnKind":"unicodeCodePoints","results":[')

    def conversation(self, conversation: Conversation) -> None:
        """Write the findings of a conversation."""
        for finding in conversation.findings:
            self._out.write((b"\n" if self._first else b",\n") + _encode(self._result(conversation, finding)))
            self._first = False

    def close(self) -> None:
        """Write what belongs at the end."""
        invocations = [{"executionSuccessful": self.successful}]
        self._out.write(b'],"invocations":' + _encode(invocations) + b"}]}\n")

    def _result(self, conversation: Conversation, finding: Finding) -> dict[str, Any]:
        stream = conversation.stream
        route = f"{stream.client.ip}:{stream.client.port} > {stream.server.ip}:{stream.server.port}"
        result: dict[str, Any] = {
            "ruleId": finding.rule,
            "level": str(finding.severity),
            "kind": "review" if finding.indeterminate else "fail",
            "message": {"text": f"{finding.message} ({route}, frame {finding.at.frame})"},
            "locations": [
                {
                    "physicalLocation": {"artifactLocation": {"uri": _uri(finding.at.capture)}},
                    "logicalLocations": [
                        {
                            "name": f"frame {finding.at.frame}",
                            "fullyQualifiedName": f"{route} frame {finding.at.frame}",
                            "kind": "packet",
                        }
                    ],
                }
            ],
            "partialFingerprints": {FINGERPRINT: fingerprint(conversation, finding)},
            "properties": {
                "conversation": conversation.id,
                "frame": finding.at.frame,
                "time": rfc3339(finding.at.ts_ns),
            },
        }
        if finding.indeterminate:
            result["level"] = "none"  # SARIF 3.27.10: level is "none" unless kind is "fail"
        number = self._index.get(finding.rule)
        if number is not None:
            result["ruleIndex"] = number
        return result


def fingerprint(conversation: Conversation, finding: Finding) -> str:
    """Identity of a finding over runs, file names and rotation: rule, conversation, time into it, and text."""
    into = finding.at.ts_ns - conversation.stream.opened.ts_ns
    text = f"{finding.rule}\0{conversation.id}\0{into}\0{finding.message}"
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:32]


def _descriptor(rule: Rule, severity: Severity) -> dict[str, Any]:
    properties: dict[str, Any] = {"tags": [rule.family, *(["security"] if rule.security else [])]}
    if rule.security:
        properties["security-severity"] = _SECURITY_SEVERITY[severity]
    descriptor: dict[str, Any] = {
        "id": rule.id,
        "name": rule.name,
        "shortDescription": {"text": rule.summary},
        "fullDescription": {"text": rule.summary},
        "help": {"text": rule.doc, "markdown": pages.page(rule)},
        "defaultConfiguration": {"level": str(severity)},
        "properties": properties,
    }
    uri = pages.uri(rule.refs[0]) if rule.refs else None
    if uri is not None:
        descriptor["helpUri"] = uri
    return descriptor


def _uri(path: str) -> str:
    """A file name as a URI reference (RFC 3986)."""
    return "stdin" if path == "-" else quote(path.encode("utf-8", "surrogateescape"), safe="/._-~")


def _encode(value: object) -> bytes:
    return safe_json(msgspec.json.encode(value))
