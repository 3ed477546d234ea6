"""One run of a reading verb: open, read, choose, show progress, stop in good order, sum up."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import signal
import sys
import types
from collections.abc import Iterator
from typing import BinaryIO, TextIO, cast

import click
import msgspec

from smtpdebug import api
from smtpdebug.cli.errors import CLEAN, FINDINGS, INTERRUPTED, UNREADABLE, say
from smtpdebug.cli.options import ReadOptions
from smtpdebug.cli.progress import progress
from smtpdebug.engine import Event, Item, Judge
from smtpdebug.errors import SmtpDebugError
from smtpdebug.model.smtp import Conversation
from smtpdebug.model.streams import Limits
from smtpdebug.render.escape import printable
from smtpdebug.sources.files import open_captures
from smtpdebug.tls.keylog import parse_keylog

_KEYLOG_LOOK = 1 << 20
"""Octets of a key log to look for a secret in."""


class Run:
    """Conversations that the user chose, and at the end the exit code.

    Interrupted (Ctrl-C, SIGTERM) it stops reading and gives what was read so far; a second Ctrl-C ends at once.

    Args:
        judge: rules to apply.
        live: also give each item as it is said (:meth:`events`).
        body_bytes: how much of each mail body to keep.
        shard: follow only this share of the connections (``cli.shards``).
    """

    def __init__(
        self,
        options: ReadOptions,
        *,
        judge: Judge | None = None,
        live: bool = False,
        body_bytes: int = 0,
        shard: tuple[int, int] | None = None,
    ) -> None:
        self.options = options
        self.shown = self.conversations = 0
        self.interrupted = False
        self.reading = api.read(
            *options.captures,
            rsa_key=options.rsa_keys,
            key_password=options.password,
            keylog=options.keylogs,
            decrypt_with=options.decrypt_with,
            verify_decryption=options.verify_decryption,
            ports=options.ports,
            limits=msgspec.structs.replace(Limits(), body_bytes=body_bytes),
            judge=judge,
            live=live,
            shard=shard,
        )

    @property
    def piped(self) -> bool:
        """Standard input is read: someone may be waiting for each conversation."""
        return "-" in self.options.captures

    def __iter__(self) -> Iterator[Conversation]:
        for event in self.events():
            if not isinstance(event, Item):
                yield event

    def events(self) -> Iterator[Event]:
        """Items (live) and conversations that the user chose."""
        selection = self.options.selection
        all_of_them = selection.everything
        for event in self._read():
            if type(event) is Item:
                if all_of_them or selection.begins(event.conversation):
                    yield event
                continue
            conversation = cast(Conversation, event)
            self.conversations += 1
            if all_of_them or selection.wants(conversation):
                self.shown += 1
                yield conversation

    def _read(self) -> Iterator[Event]:
        reading = self.reading
        # Little of what reading makes is in cycles, and modules stay: looking for cycles as often as Python does, and
        # everywhere, costs a tenth of the run.
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        visible = not self.options.quiet and (self.options.output is not None or not sys.stdout.isatty())
        with self._stoppable(), progress(reading.captures, wanted=visible):
            for batch in reading.captures:
                yield from reading.engine.feed(batch)
                if self.interrupted:
                    break
            yield from reading.engine.close()

    @contextlib.contextmanager
    def _stoppable(self) -> Iterator[None]:
        def stop(number: int, frame: types.FrameType | None) -> None:
            if self.interrupted:
                raise KeyboardInterrupt
            self.interrupted = True

        before = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(ValueError):  # not in the main thread: nothing to stop there
                before[number] = signal.signal(number, stop)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def summary(self) -> Summary:
        """What was read so far."""
        reading = self.reading
        return Summary(
            packets=reading.packets,
            conversations=self.conversations,
            shown=self.shown,
            skipped=reading.skipped,
            notes=[*reading.notes, *self._barren()],
            errors=[str(error) for error in reading.errors],
            interrupted=self.interrupted,
            differs=reading.differs,
        )

    def _barren(self) -> Iterator[str]:
        """A key log of which no line is a secret is likely the wrong file, and nothing else would tell."""
        for path in self.options.keylogs:
            with contextlib.suppress(OSError), open(path, "rb") as file:
                text = file.read(_KEYLOG_LOOK)
                if not parse_keylog(text).lines:
                    yield f"{path}: " + (
                        "no line of it is a secret in NSS format" if text.strip() else "an empty key log"
                    )

    def finish(self) -> int:
        """Say on standard error what was read and what was not; the exit code."""
        return self.summary().say(quiet=self.options.quiet)


class Summary(msgspec.Struct):
    """What a run has to say at its end."""

    packets: int
    conversations: int
    shown: int
    skipped: dict[str, int]
    notes: list[str]
    errors: list[str]
    interrupted: bool
    differs: bool = False
    """The two decryptors do not agree (``--verify-decryption``)."""

    def say(self, *, quiet: bool) -> int:
        """On standard error; gives the exit code."""
        for error in self.errors:
            say(error)
        for note in self.notes:
            click.echo(f"note: {printable(note)}", err=True)
        if not quiet:
            click.echo(self._line(), err=True)
        if self.interrupted:
            return INTERRUPTED
        return UNREADABLE if self.errors else FINDINGS if self.differs else CLEAN

    def _line(self) -> str:
        said = [_count(self.packets, "packet"), _count(self.conversations, "conversation")]
        if self.shown != self.conversations:
            said.append(f"{self.shown:,} shown")
        skipped = sorted(self.skipped.items(), key=lambda pair: (-pair[1], pair[0]))
        if skipped:
            said.append("skipped " + ", ".join(f"{count:,} {reason}" for reason, count in skipped if count))
        if self.interrupted:
            said.append("interrupted")
        return "; ".join(said)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


@contextlib.contextmanager
def binary_output(options: ReadOptions) -> Iterator[BinaryIO]:
    """Where data goes: standard output, or the file of ``-o``."""
    if options.output is None or options.output == "-":
        # Python has none where the shell closed it (``>&-``), whatever its types say.
        closed: bool = sys.stdout is None
        if closed:
            raise SmtpDebugError("standard output is closed: nowhere to write")
        out = sys.stdout.buffer
        if not isinstance(out, io.RawIOBase):
            yield out
            return
        # PYTHONUNBUFFERED: a raw write may take less than it is given.
        buffered = io.BufferedWriter(out, 1 << 16)
        try:
            yield buffered
            buffered.flush()
        finally:
            with contextlib.suppress(OSError, ValueError):
                buffered.detach()
        return
    _spare(options.output, [*options.captures, *options.rsa_keys, *options.keylogs])
    with open(options.output, "wb") as file:
        yield file


def _spare(output: str, inputs: list[str]) -> None:
    """A slip of the hand must not cost the evidence.

    Raises:
        SmtpDebugError: the output is one of the inputs, or any capture (of a folder or glob that is read, or another).
    """
    if not os.path.isfile(output) or not os.path.getsize(output):
        return
    if any(os.path.exists(given) and os.path.samefile(given, output) for given in inputs):
        raise SmtpDebugError(f"{output}: not overwritten, it is one of the inputs")
    if not open_captures([output]).errors:
        raise SmtpDebugError(f"{output}: not overwritten, it is a packet capture")


@contextlib.contextmanager
def text_output(raw: BinaryIO) -> Iterator[TextIO]:
    """Text onto a binary output: UTF-8, whatever the locale says."""
    text = io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace")
    try:
        yield text
        text.flush()
    finally:
        # It must not close what it did not open.
        with contextlib.suppress(OSError, ValueError):
            text.detach()
