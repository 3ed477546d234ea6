"""``smtpdebug check``: every conversation against the reference model of SMTP."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol, TextIO

import click

from smtpdebug.cli.errors import CLEAN, FINDINGS, verdict_wanted
from smtpdebug.cli.options import ReadOptions, reading_options

if TYPE_CHECKING:
    from smtpdebug.cli.run import Run, Summary
    from smtpdebug.model.findings import Severity
    from smtpdebug.model.smtp import Conversation
    from smtpdebug.render.check_text import RuleLine
    from smtpdebug.rules.judge import RuleSet

_LEVELS = ("error", "warning", "note", "never")


class _Sink(Protocol):
    def conversation(self, conversation: Conversation) -> None: ...

    def close(self) -> None: ...


@click.command(short_help="Against RFC 5321 and its extensions.")
@reading_options("text", "jsonl", "junit", "sarif", "github")
@click.option("--select", "selected", multiple=True, metavar="RULES",
              help="Only these rules: ids (SR103), prefixes (SR1), names, families (replies, commands, content, "
              "transport, timing), 'security', 'all'; with commas or given again.")  # fmt: skip
@click.option("--ignore", "ignored", multiple=True, metavar="RULES", help="Without these rules.")
@click.option("--preview", is_flag=True, help="Also rules that are not settled yet.")
@click.option("--fail-on", type=click.Choice(_LEVELS), help="Findings that make the exit code 1.  [default: warning]")
@click.option("--config", type=click.Path(exists=True, dir_okay=False), metavar="FILE",
              help="Settings.  [default: smtpdebug.toml or [tool.smtpdebug] of pyproject.toml, here or above]"
              )  # fmt: skip
@click.option("--full", is_flag=True, help="With -f text: the transcripts, findings under their lines.")
@click.option("--examples", type=click.IntRange(0), default=10, show_default=True,
              help="With -f text: places listed for each rule.")  # fmt: skip
@click.option("--color", type=click.Choice(["auto", "always", "never"]), default="auto", show_default=True,
              help="Colours in text.")  # fmt: skip
def check(
    options: ReadOptions,
    selected: tuple[str, ...],
    ignored: tuple[str, ...],
    preview: bool,
    fail_on: str | None,
    config: str | None,
    full: bool,
    examples: int,
    color: str,
) -> None:
    """Check every conversation against the reference model: RFC 5321, the reply codes of its section 4.3.2, and the
    extensions in use.

    Errors break a MUST, warnings a SHOULD or the table of reply codes; notes are worth knowing. What a gap, a cut or
    TLS that was not opened hides is not judged. 'smtpdebug rule ID' explains a rule.

    Exit codes: 0 no finding at or above --fail-on, 1 findings, 2 usage, 3 unreadable input;
    141 where whoever read the output went away before all was judged.
    """
    from smtpdebug.cli import settings
    from smtpdebug.cli.run import Run, binary_output
    from smtpdebug.cli.shards import processes
    from smtpdebug.rules.judge import RuleSet
    from smtpdebug.rules.registry import UnknownRuleError
    from smtpdebug.rules.verdicts import Verdicts

    written = settings.load(Path.cwd(), config)
    try:
        ruleset = RuleSet(
            _words(selected) or written.select,
            [*_words(ignored), *written.ignore],
            preview=preview or written.preview,
            severities=written.severity,
        )
    except (UnknownRuleError, ValueError) as error:
        raise click.UsageError(str(error)) from None
    level = _level(fail_on or written.fail_on or "warning")
    layout = _Layout(full and options.format == "text", examples, color)
    count = processes(options)
    source: _Source | None = None
    if count == 1:  # what cannot be read is told before the output is touched
        source = _Alone(Run(options, judge=Verdicts(ruleset)))
    with verdict_wanted(), binary_output(options) as raw:
        if source is None:
            from smtpdebug.cli.judged import Judged

            source = Judged(options, count, ruleset, whole=layout.full)
        failed = _write(source, options, raw, ruleset, level, layout)
    code = source.summary().say(quiet=options.quiet)
    raise click.exceptions.Exit(code if code != CLEAN else FINDINGS if failed else CLEAN)


class _Layout:
    """What concerns text only."""

    def __init__(self, full: bool, examples: int, color: str) -> None:
        self.full, self.examples, self.color = full, examples, color


class _Source(Protocol):
    """Judged conversations, from one process or several (``cli.judged``)."""

    def lines(self) -> Iterator[tuple[bytes, list[Severity]]]: ...

    def conversations(self) -> Iterable[Conversation]: ...

    def summary(self) -> Summary: ...


class _Alone:
    """All in this process."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.summary = run.summary

    def lines(self) -> Iterator[tuple[bytes, list[Severity]]]:
        """The conversations as lines of JSON, and the severities of their findings."""
        from smtpdebug.render.jsonl import JsonLines

        line = JsonLines(io.BytesIO(), show_secrets=self._run.options.show_secrets).line
        for conversation in self._run:
            yield line(conversation), [finding.severity for finding in conversation.findings]

    def conversations(self) -> Iterable[Conversation]:
        """The conversations."""
        return self._run


def _write(
    source: _Source, options: ReadOptions, raw: BinaryIO, ruleset: RuleSet, level: Severity | None, layout: _Layout
) -> bool:
    """Write every conversation; whether any of them fails."""
    from smtpdebug.cli.run import text_output

    if options.format == "jsonl":
        return _write_lines(source, raw, level, at_once="-" in options.captures)
    if options.format == "sarif":
        from smtpdebug import __version__
        from smtpdebug.render.sarif import Sarif

        log = Sarif(raw, [(rule, ruleset.severity(rule.id)) for rule in ruleset.rules], version=__version__)
        failed = _fed(source, log, level)
        summary = source.summary()
        log.successful = not summary.errors and not summary.interrupted
        log.close()
        return failed
    with text_output(raw) as out:
        text_sink: _Sink
        known = rule_lines(ruleset)
        if options.format == "junit":
            from smtpdebug.render.junit import JUnit

            text_sink = JUnit(out, known, fail_on=level)
        elif options.format == "github":
            from smtpdebug.render.github import GitHub

            text_sink = GitHub(out, known)
        else:
            text_sink = _text_sink(options, out, known, layout)
        failed = _fed(source, text_sink, level)
        text_sink.close()
    return failed


def _write_lines(source: _Source, raw: BinaryIO, level: Severity | None, *, at_once: bool) -> bool:
    failed = False
    for line, severities in source.lines():
        raw.write(line)
        failed = failed or _fails(severities, level)
        if at_once:
            raw.flush()
    raw.flush()
    return failed


def _fed(source: _Source, sink: _Sink, level: Severity | None) -> bool:
    failed = False
    for conversation in source.conversations():
        sink.conversation(conversation)
        failed = failed or _fails([finding.severity for finding in conversation.findings], level)
    return failed


def _text_sink(options: ReadOptions, stream: TextIO, lines: dict[str, RuleLine], layout: _Layout) -> _Sink:
    from smtpdebug.cli.show import colored
    from smtpdebug.render.check_text import CheckText

    paint = colored(layout.color, options)
    summary = CheckText(stream, lines, examples=layout.examples, color=paint)
    return _Full(options, stream, lines, summary, paint) if layout.full else summary


class _Full:
    """The transcripts of conversations that have findings, then the summary."""

    def __init__(
        self, options: ReadOptions, out: TextIO, lines: dict[str, RuleLine], summary: _Sink, paint: bool
    ) -> None:
        from smtpdebug.cli.show import columns
        from smtpdebug.render.text import Text
        from smtpdebug.render.transcript import Options

        self._summary, self._out = summary, out
        self._text = Text(
            self._out,
            Options(show_secrets=options.show_secrets),
            color=paint,
            columns=columns(),
            references={name: line.reference.replace("§", "") for name, line in lines.items()},
        )

    def conversation(self, conversation: Conversation) -> None:
        """Write its transcript if something is to be said of it."""
        if conversation.findings:
            self._text.conversation(conversation)
        self._summary.conversation(conversation)

    def close(self) -> None:
        """The summary comes last."""
        self._text.close()
        self._out.write("\n")
        self._summary.close()


def _fails(severities: list[Severity], level: Severity | None) -> bool:
    if level is None or not severities:
        return False
    rank = _LEVELS.index(level)
    return any(_LEVELS.index(severity) <= rank for severity in severities)


def _level(word: str) -> Severity | None:
    from smtpdebug.model.findings import Severity

    return None if word == "never" else Severity(word)


def _words(given: tuple[str, ...]) -> list[str]:
    return [word.strip() for text in given for word in text.split(",") if word.strip()]


def rule_lines(ruleset: RuleSet) -> dict[str, RuleLine]:
    """What outputs say of each rule: its name and its first reference."""
    from smtpdebug.render.check_text import RuleLine

    return {rule.id: RuleLine(rule.name, rule.refs[0] if rule.refs else "") for rule in ruleset.rules}
