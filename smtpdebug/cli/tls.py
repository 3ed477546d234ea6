"""``smtpdebug tls``: each TLS handshake in a few lines; key logs and pcapng for other programs."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

import click
import msgspec

from smtpdebug.cli.options import ReadOptions, reading_options

if TYPE_CHECKING:
    from smtpdebug.cli.run import Run
    from smtpdebug.sources.export import PrivateFile


@click.command(short_help="Handshakes: offered, agreed, certificates, why closed.")
@reading_options("text", "jsonl")
@click.option("--color", type=click.Choice(["auto", "always", "never"]), default="auto", show_default=True,
              help="What is wrong in red; 'always' for less -R.")  # fmt: skip
@click.option("--export-keylog", metavar="FILE",
              help="Write the secrets that opened something, as a key log for Wireshark. Mode 0600.")  # fmt: skip
@click.option("--export-pcapng", metavar="FILE",
              help="Write the captures with those secrets inside: Wireshark opens them. Mode 0600.")  # fmt: skip
def tls(options: ReadOptions, color: str, export_keylog: str | None, export_pcapng: str | None) -> None:
    """What each TLS handshake of the captures offered and agreed on, and whether it could be opened.

    Conversations that could have had TLS and had none are named; the others without TLS are only counted.
    """
    from smtpdebug.cli.run import Run, binary_output
    from smtpdebug.sources.export import read_twice

    options = _for_export(options, export_keylog, export_pcapng)
    if export_pcapng:
        read_twice(options.captures)
    # The outputs first: with nowhere to write there is nothing to read.
    with binary_output(options) as raw, contextlib.ExitStack() as files:
        run = Run(options)
        keylog, pcapng = (
            files.enter_context(_private(path, run)) if path else None for path in (export_keylog, export_pcapng)
        )
        if options.format == "jsonl":
            _jsonl(run, raw)
        else:
            _text(run, raw, color)
        code = run.finish()
        if keylog is not None:
            _write_keylog(run, keylog)
        if pcapng is not None:
            _write_pcapng(run, pcapng)
    raise click.exceptions.Exit(code)


def _for_export(options: ReadOptions, export_keylog: str | None, export_pcapng: str | None) -> ReadOptions:
    """With an export: secrets come from the native decryptor, of all conversations.

    Raises:
        click.UsageError: what is asked for cannot be had together.
    """
    if not (export_keylog or export_pcapng):
        return options
    if options.decrypt_with == "tshark":
        raise click.UsageError("tshark gives no secrets to export: leave out --decrypt-with tshark")
    chosen = msgspec.structs.replace(options.selection, ports=frozenset())
    if not chosen.everything:
        # A secret that leaves the house unasked is worse than a command to repeat.
        raise click.UsageError(
            "an export has the secrets of all conversations: leave out --host, --id, --with-code and --grep"
        )
    if export_keylog and export_pcapng and os.path.abspath(export_keylog) == os.path.abspath(export_pcapng):
        raise click.UsageError("--export-keylog and --export-pcapng name the same file")
    if options.decrypt_with == "auto" and not options.verify_decryption:
        return msgspec.structs.replace(options, decrypt_with="native")
    return options


def _private(path: str, run: Run) -> PrivateFile:
    from smtpdebug.sources.export import PrivateFile

    options = run.options
    written = [options.output] if options.output not in (None, "-") else []
    return PrivateFile(
        path, apart_from=[*run.reading.captures.captures, *options.keylogs, *options.rsa_keys, *filter(None, written)]
    )


def _jsonl(run: Run, out: BinaryIO) -> None:
    from smtpdebug.render.jsonl import JsonLines
    from smtpdebug.render.tls_text import remark

    lines = JsonLines(out, show_secrets=run.options.show_secrets)
    for conversation in run:
        if conversation.tls is None and remark(conversation) is None:
            continue
        lines.conversation(conversation)
        if run.piped:
            lines.flush()
    lines.close()


def _text(run: Run, raw: BinaryIO, color: str) -> None:
    from smtpdebug.cli.run import text_output
    from smtpdebug.cli.show import colored, columns
    from smtpdebug.render.tls_text import TlsText

    with text_output(raw) as out:
        text = TlsText(out, color=colored(color, run.options), columns=columns())
        for conversation in run:
            text.conversation(conversation)
            if run.piped:
                text.flush()
        text.close()


def _write_keylog(run: Run, file: PrivateFile) -> None:
    from smtpdebug.sources.export import keylog_text

    secrets = run.reading.keylog
    file.file.write(keylog_text(secrets))
    file.keep()
    _told(run, file, len(secrets), "")


def _write_pcapng(run: Run, file: PrivateFile) -> None:
    """The second reading; not after an interruption, since all the packets would be there and not all the secrets."""
    from smtpdebug.cli.errors import say
    from smtpdebug.sources.export import write_pcapng

    if run.interrupted:
        say(f"{file.path}: not written, since reading was interrupted")
        return
    secrets = run.reading.keylog
    with _ended_in_good_order():
        packets = write_pcapng(file.file, run.reading.captures.captures, secrets)
    file.keep()
    _told(run, file, len(secrets), f"{packets:,} packet{'s' * (packets != 1)} and ")


@contextlib.contextmanager
def _ended_in_good_order() -> Iterator[None]:
    """SIGTERM ends the program as Ctrl-C does, so that no half-written file with secrets is left behind."""
    before = None
    with contextlib.suppress(ValueError):  # not in the main thread: nothing to catch there
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def _told(run: Run, file: PrivateFile, secrets: int, more: str) -> None:
    from smtpdebug.cli.errors import say

    if not secrets:
        say(f"{file.path}: has no secrets, since nothing could be opened")
    elif not run.options.quiet:
        say(f"{file.path}: {more}{secrets:,} secret{'s' * (secrets != 1)}, mode 0600; whoever has it can read the mail")
