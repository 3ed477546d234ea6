"""Conversations judged in several processes: each alone where it was read, and beside earlier ones here.

What comes out is what one process gives. The processes send what the output needs of a conversation: a finished line of
JSON, the outline of a conversation, or (for transcripts) all of it.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import msgspec

from smtpdebug.cli.options import ReadOptions
from smtpdebug.cli.run import Summary
from smtpdebug.cli.shards import Render, Shards
from smtpdebug.model.findings import Diagnosis, Finding, Severity
from smtpdebug.model.smtp import Conversation
from smtpdebug.model.streams import Endpoint, Location, Stream
from smtpdebug.render.escape import safe_json
from smtpdebug.render.jsonl import completed, record
from smtpdebug.render.redact import Redactor
from smtpdebug.rules.judge import RuleSet
from smtpdebug.rules.verdicts import Comparisons, Verdicts, complete


class Line(msgspec.Struct, array_like=True, gc=False):
    """A conversation as a line of JSON, with what it takes to add to it."""

    line: bytes
    severities: list[Severity]
    """Of its findings, each once."""
    words: list[str] = []
    """What is secret in it; seldom anything."""


class Outline(msgspec.Struct, array_like=True, gc=False):
    """Who, when, and what there is to say: enough for every output but transcripts."""

    id: str
    client: Endpoint
    server: Endpoint
    opened: Location
    last: Location
    findings: list[Finding]
    diagnoses: list[Diagnosis]

    def conversation(self) -> Conversation:
        """A conversation of which no more is known."""
        stream = Stream(0, self.client, self.server, self.opened, self.last)
        return Conversation(stream, self.id, findings=self.findings, diagnoses=self.diagnoses)


class Judged:
    """The judged conversations of a run by several processes, in order of output.

    Iterate over one of :meth:`lines` and :meth:`conversations`, as was chosen when it was made.

    Args:
        options: of the verb.
        count: from ``shards.processes``.
        rules: of the run.
        whole: give the conversations with all they hold, and not their outlines.
    """

    def __init__(self, options: ReadOptions, count: int, rules: RuleSet, *, whole: bool = False) -> None:
        self._show_secrets = options.show_secrets
        self._whole = whole
        self._comparisons = Comparisons(rules)
        render = _lines(options.show_secrets) if options.format == "jsonl" else pickle.dumps if whole else _outline
        self._shards = Shards(options, count, render, Verdicts(rules).look)

    def lines(self) -> Iterator[tuple[bytes, list[Severity]]]:
        """Lines of JSON, and the severities of the findings in each."""
        decode = msgspec.msgpack.Decoder(Line).decode
        for piece, sighting in self._shards.judged():
            findings, diagnoses = self._comparisons.compare(sighting)
            if piece is None:
                continue
            one = decode(piece)
            if findings or diagnoses:
                redactor = Redactor(None, show=self._show_secrets, words=one.words)
                one.line = completed(one.line, findings, diagnoses, redactor)
                one.severities += [finding.severity for finding in findings]
            yield one.line, one.severities

    def conversations(self) -> Iterator[Conversation]:
        """Conversations, or their outlines."""
        decode = msgspec.msgpack.Decoder(Outline).decode
        for piece, sighting in self._shards.judged():
            findings, diagnoses = self._comparisons.compare(sighting)
            if piece is None:
                continue
            # What is unpickled was written by a process that this one forked.
            conversation = pickle.loads(piece) if self._whole else decode(piece).conversation()  # noqa: S301
            if findings or diagnoses:
                complete(conversation, findings, diagnoses)
            yield conversation

    def summary(self) -> Summary:
        """What was read; once all was given."""
        return self._shards.summary()


def _lines(show_secrets: bool) -> Render:
    to_json, pack = msgspec.json.Encoder().encode, msgspec.msgpack.Encoder().encode

    def render(conversation: Conversation) -> bytes:
        severities = list({finding.severity for finding in conversation.findings})
        written = Line(safe_json(to_json(record(conversation, show_secrets=show_secrets))) + b"\n", severities)
        written.words = Redactor(conversation, show=show_secrets).words
        return pack(written)

    return render


def _outline(conversation: Conversation) -> bytes:
    stream = conversation.stream
    outline = Outline(
        conversation.id,
        stream.client,
        stream.server,
        stream.opened,
        stream.last,
        conversation.findings,
        conversation.diagnoses,
    )
    return msgspec.msgpack.encode(outline)
