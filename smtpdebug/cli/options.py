"""Options that every reading verb takes, gathered into one object.

@click.command()
@reading_options("text", "jsonl")
def verb(options: ReadOptions) -> None: ...
"""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click
import msgspec

from smtpdebug.cli import select

P = ParamSpec("P")
R = TypeVar("R")


class ReadOptions(msgspec.Struct, frozen=True):
    """What the user asked for; ``cli.run.Run`` acts on it."""

    captures: tuple[str, ...]
    format: str
    output: str | None = None
    rsa_keys: tuple[str, ...] = ()
    key_password_file: str | None = None
    keylogs: tuple[str, ...] = ()
    decrypt_with: str = "auto"
    verify_decryption: bool = False
    ports: tuple[int, ...] = ()
    selection: select.Selection = select.Selection()
    show_secrets: bool = False
    quiet: bool = False
    jobs: int | None = None
    """Processes; ``None``: as many as there are cores, where it pays."""

    def password(self) -> bytes | None:
        """For an encrypted key: from the file, else asked for on the terminal; never from the command line."""
        if self.key_password_file is not None:
            return Path(self.key_password_file).read_bytes().split(b"\n", 1)[0].rstrip(b"\r")
        if not sys.stdin.isatty():
            return None
        asked: str = click.prompt("Password of the key", hide_input=True, err=True)
        return asked.encode()


def reading_options(*formats: str) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Add the captures argument and the shared options to a verb; it gets them as ``options: ReadOptions``.

    Args:
        formats: what ``-f`` takes; the first is the default.
    """

    def decorate(verb: Callable[..., R]) -> Callable[..., R]:
        @functools.wraps(verb)
        def with_options(**given: Any) -> R:
            taken = {name: given.pop(name) for name in _NAMES}
            return verb(options=_gather(taken), **given)

        decorated: Callable[..., R] = with_options
        for option in reversed(_options(formats)):
            decorated = option(decorated)
        return decorated

    return decorate


_NAMES = (
    "captures", "format", "output", "rsa_keys", "key_password_file", "keylogs", "decrypt_with", "verify_decryption",
    "ports", "hosts", "ids", "with_codes", "grep", "show_secrets", "quiet", "jobs",
)  # fmt: skip


def _options(formats: tuple[str, ...]) -> list[Callable[[Callable[..., R]], Callable[..., R]]]:
    existing = click.Path(exists=True, dir_okay=False)
    return [
        click.argument("captures", nargs=-1, required=True, metavar="CAPTURE..."),
        click.option(
            "-f", "--format", type=click.Choice(formats), default=formats[0], show_default=True, help="How to write."
        ),
        click.option("-o", "--output", metavar="FILE", help="Write here instead of standard output."),
        click.option("--host", "hosts", multiple=True, metavar="ADDR[/LEN]", callback=_each(select.host),
                     help="Only conversations with this address or network at either end."),
        click.option("--port", "ports", multiple=True, type=click.IntRange(1, 65535), metavar="PORT",
                     help="Only conversations with this port at either end; it is taken for a mail port."),
        click.option("--id", "ids", multiple=True, metavar="ID",
                     help="Only the conversation with this id, or whose id begins so."),
        click.option("--with-code", "with_codes", multiple=True, metavar="CODES", callback=_each(select.codes),
                     help="Only conversations with one of these reply codes: 421, 4xx, 4xx,5xx."),
        click.option("--grep", metavar="REGEX", callback=_grep,
                     help="Only conversations with a command or reply line that matches."),
        click.option("--rsa-key", "rsa_keys", multiple=True, type=existing, metavar="FILE",
                     help="Private key of a server, for TLS with RSA key exchange. May be given again."),
        click.option("--key-password-file", type=existing, metavar="FILE",
                     help="First line: the password of an encrypted key. Without it the terminal is asked."),
        click.option("--keylog", "keylogs", multiple=True, type=existing, metavar="FILE",
                     help="Key log in NSS format. May be given again.  [default: $SSLKEYLOGFILE if there]"),
        click.option("--decrypt-with", type=click.Choice(["auto", "tshark", "native"]), default="auto",
                     show_default=True, help="What opens TLS records."),
        click.option("--verify-decryption", is_flag=True,
                     help="Decrypt with tshark and natively, and report any difference."),
        click.option("--show-secrets", is_flag=True, help="Show AUTH arguments and answers instead of ********."),
        click.option("-j", "--jobs", type=click.IntRange(1, 64), metavar="N",
                     help="Processes for a large capture.  [default: one a core]"),
        click.option("-q", "--quiet", is_flag=True, help="No progress bar and no summary on standard error."),
    ]  # fmt: skip


def _each(convert: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, tuple[str, ...]], list[Any]]:
    def callback(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> list[Any]:
        return [convert(word) for word in value]

    return callback


def _grep(ctx: click.Context, param: click.Parameter, value: str | None) -> re.Pattern[str] | None:
    return None if value is None else select.expression(value)


def _gather(given: dict[str, Any]) -> ReadOptions:
    keylogs = given["keylogs"]
    if not keylogs:
        found = os.environ.get("SSLKEYLOGFILE", "")
        keylogs = (found,) if found and Path(found).is_file() else ()
    chosen = select.Selection(
        hosts=tuple(given["hosts"]),
        ports=frozenset(given["ports"]),
        ids=tuple(given["ids"]),
        codes=tuple(pattern for patterns in given["with_codes"] for pattern in patterns),
        grep=given["grep"],
        show_secrets=given["show_secrets"],
    )
    return ReadOptions(
        captures=tuple(given["captures"]),
        format=given["format"],
        output=given["output"],
        rsa_keys=tuple(given["rsa_keys"]),
        key_password_file=given["key_password_file"],
        keylogs=tuple(keylogs),
        decrypt_with=given["decrypt_with"],
        verify_decryption=given["verify_decryption"],
        ports=tuple(given["ports"]),
        selection=chosen,
        show_secrets=given["show_secrets"],
        quiet=given["quiet"],
        jobs=given["jobs"],
    )
