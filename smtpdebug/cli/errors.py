"""What a user sees when something fails: one sentence, and an exit code; never a traceback."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Iterator
from typing import Final

import click

from smtpdebug.errors import SmtpDebugError
from smtpdebug.render.escape import printable

CLEAN: Final = 0
FINDINGS: Final = 1
USAGE: Final = 2
UNREADABLE: Final = 3
"""Unreadable input or a missing tool."""
INTERRUPTED: Final = 130
"""128 + SIGINT, as shells have it."""

CUT_SHORT: Final = 141
"""128 + SIGPIPE, as shells have it."""

TRACEBACK_VARIABLE: Final = "SMTPDEBUG_TRACEBACK"


def say(message: str) -> None:
    """One line on stderr, under the program's name; what it quotes may be anything."""
    click.echo(f"smtpdebug: {printable(message)}", err=True)


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Turn whatever goes wrong inside into a sentence and an exit code.

    Raises:
        click.exceptions.Exit: with the code; click's own exceptions pass through.
    """
    try:
        yield
    except (click.exceptions.Exit, click.ClickException, click.Abort):
        raise
    except BrokenPipeError:
        # ``| head`` has seen enough.
        _forget_stdout()
        raise click.exceptions.Exit(CLEAN) from None
    except KeyboardInterrupt:
        raise click.exceptions.Exit(INTERRUPTED) from None
    except SmtpDebugError as error:
        say(str(error))
        raise click.exceptions.Exit(UNREADABLE) from None
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        say(f"{where}{error.strerror or error}")
        raise click.exceptions.Exit(UNREADABLE) from None
    except Exception as error:
        _unexpected(error)
        raise click.exceptions.Exit(UNREADABLE) from None


@contextlib.contextmanager
def verdict_wanted() -> Iterator[None]:
    """For a verb whose exit code is a verdict: a reader that went away leaves it without one.

    Raises:
        click.exceptions.Exit: with ``CUT_SHORT``.
    """
    try:
        yield
    except BrokenPipeError:
        _forget_stdout()
        raise click.exceptions.Exit(CUT_SHORT) from None


def _unexpected(error: Exception) -> None:
    if os.environ.get(TRACEBACK_VARIABLE):
        traceback.print_exception(error)
        return
    what = f"{type(error).__name__}: {error}".splitlines()[0][:200]
    say(
        f"a fault of this program ({what}); please report it with the output of the same command "
        f"under {TRACEBACK_VARIABLE}=1"
    )


def _forget_stdout() -> None:
    """Let Python's last flush of standard output go nowhere: the reader is gone."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
