"""``smtpdebug show``: the transcript of every conversation."""

from __future__ import annotations

import os
import shutil
import sys
import time
from typing import TYPE_CHECKING, BinaryIO, Literal, TextIO

import click

from smtpdebug.cli.options import ReadOptions, reading_options

if TYPE_CHECKING:
    from smtpdebug.cli.run import Run
    from smtpdebug.engine import Judge
    from smtpdebug.render.text import Text

_BODY_BYTES = 64 << 20
"""Of one mail body, with ``--bodies``: more than any server takes."""
_LIVE_NS = 120 * 1_000_000_000
"""Packets on a pipe that are younger than this are being captured now."""


@click.command(short_help="Transcripts: who said what, when.")
@reading_options("text", "jsonl", "tcpflow")
@click.option(
    "--time",
    "clock",
    type=click.Choice(["delta", "relative", "absolute"]),
    help="Time of each line: since the line before, since the first packet, or UTC.  "
    "[default: delta; absolute with --interleave]",
)
@click.option("--color", type=click.Choice(["auto", "always", "never"]), default="auto", show_default=True,
              help="Client blue, server red; 'always' for less -R.")  # fmt: skip
@click.option("--interleave", is_flag=True, help="All conversations by time, as tcpflow -c prints them.")
@click.option("--bodies", is_flag=True, help="Mail bodies too, not only a line that counts them.")
@click.option("--headers/--no-headers", default=True, help="Mail headers (shown unless told otherwise).")
@click.option("--findings/--no-findings", default=None,
              help="Judge each conversation by the rules.  [default: with -f text]")  # fmt: skip
@click.option("--live/--no-live", default=None,
              help="Lines as they are said, from a pipe.  [default: where the packets are fresh]")  # fmt: skip
def show(
    options: ReadOptions,
    clock: Literal["delta", "relative", "absolute"] | None,
    color: str,
    interleave: bool,
    bodies: bool,
    headers: bool,
    findings: bool | None,
    live: bool | None,
) -> None:
    """Who said what, when, in every SMTP conversation of the captures.

    Several files, a folder or a glob are one rotated set: read in order of time, conversations that cross files whole.
    '-' reads a pipe: tcpdump --immediate-mode -U -i any -w - 'port 25' | smtpdebug show -
    """
    from smtpdebug.cli.run import Run, binary_output, text_output
    from smtpdebug.cli.shards import processes

    if findings is None:
        findings = options.format == "text"
    # The output first: with nowhere to write there is nothing to read.
    with binary_output(options) as raw:
        if options.format == "jsonl" and (count := processes(options)) > 1:
            sharded = _show_judged if findings else _show_sharded
            raise click.exceptions.Exit(sharded(options, count, raw))
        items = live is not False and not interleave and _may_be_live(options, insist=live is True)
        run = Run(options, judge=_judge() if findings else None, live=items, body_bytes=_BODY_BYTES if bodies else 0)
        if options.format == "jsonl":
            _show_jsonl(run, raw)
        else:
            with text_output(raw) as out:
                if options.format == "tcpflow":
                    _show_tcpflow(run, out, bodies=bodies)
                else:
                    from smtpdebug.model.streams import MAIL_PORTS
                    from smtpdebug.render.text import Text
                    from smtpdebug.render.transcript import Options

                    text = Text(
                        out,
                        Options(headers=headers, bodies=bodies, show_secrets=options.show_secrets),
                        color=colored(color, options),
                        clock=clock or ("absolute" if interleave else "delta"),
                        columns=columns(),
                        interleave=interleave,
                        references=references() if findings else None,
                        ports=MAIL_PORTS | set(options.ports),
                    )
                    _show_text(run, text, live)
    raise click.exceptions.Exit(run.finish())


def _may_be_live(options: ReadOptions, *, insist: bool) -> bool:
    """Whether to ask the engine for each line as it is said; not where the choice needs the whole conversation.

    Raises:
        click.UsageError: the user insists where it cannot be.
    """
    whole = [
        name
        for name, given in (
            ("--with-code", bool(options.selection.codes)),
            ("--grep", options.selection.grep is not None),
            ("--decrypt-with tshark", options.decrypt_with == "tshark"),
            ("--verify-decryption", options.verify_decryption),
        )
        if given
    ]
    if insist and whole:
        raise click.UsageError(f"--live shows lines before {whole[0]} can be answered")
    return "-" in options.captures and options.format == "text" and not whole


def _show_sharded(options: ReadOptions, count: int, out: BinaryIO) -> int:
    from smtpdebug.cli.shards import Shards
    from smtpdebug.render.jsonl import JsonLines

    shards = Shards(options, count, JsonLines(out, show_secrets=options.show_secrets).line)
    out.writelines(shards.pieces())
    out.flush()
    return shards.summary().say(quiet=options.quiet)


def _show_judged(options: ReadOptions, count: int, out: BinaryIO) -> int:
    from smtpdebug.cli.judged import Judged
    from smtpdebug.rules.judge import RuleSet

    judged = Judged(options, count, RuleSet())
    out.writelines(line for line, _ in judged.lines())
    out.flush()
    return judged.summary().say(quiet=options.quiet)


def _show_jsonl(run: Run, out: BinaryIO) -> None:
    from smtpdebug.render.jsonl import JsonLines

    lines = JsonLines(out, show_secrets=run.options.show_secrets)
    for conversation in run:
        lines.conversation(conversation)
        if run.piped:
            lines.flush()
    lines.close()


def _show_tcpflow(run: Run, out: TextIO, *, bodies: bool) -> None:
    from smtpdebug.render.tcpflow import TcpFlow

    flows = TcpFlow(out, show_secrets=run.options.show_secrets, bodies=bodies)
    for conversation in run:
        flows.conversation(conversation)
    flows.close()


def _show_text(run: Run, text: Text, live: bool | None) -> None:
    from smtpdebug.engine import Item

    for event in run.events():
        if type(event) is Item:
            if live is None:
                live = _fresh(event.item.at.ts_ns)
            if live:
                text.item(event.conversation, event.item)
        else:
            text.conversation(event)  # type: ignore[arg-type]  # type() narrows one way only
            if run.piped:
                text.flush()
    text.close()


def _fresh(ts_ns: int) -> bool:
    # The one look at the clock: whether a pipe is a capture that goes on or an old one being replayed.
    return time.time_ns() - ts_ns < _LIVE_NS


def _judge() -> Judge:
    from smtpdebug.rules.verdicts import Verdicts

    return Verdicts()


def references() -> dict[str, str]:
    """What each rule leans on, by its id: ``RFC 5321 4.3.2``."""
    from smtpdebug.rules.registry import all_rules

    return {rule.id: rule.refs[0].replace("§", "") for rule in all_rules() if rule.refs}


def colored(color: str, options: ReadOptions) -> bool:
    """Whether to write colours: asked for, or a terminal that did not say no (https://no-color.org)."""
    if color != "auto":
        return color == "always"
    if options.output is not None or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return sys.stdout.isatty()


def columns() -> int:
    """Width to lay out for: the terminal's, up to 140; 80 where there is none, so that files look the same."""
    if not sys.stdout.isatty() and not os.environ.get("COLUMNS"):
        return 80
    return min(shutil.get_terminal_size((80, 24)).columns, 140)
