"""The command line: ``smtpdebug VERB``. Each verb is a module here, imported when it is called."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any, Final

import click

from smtpdebug.cli.errors import reported

VERBS: Final = ("capture", "watch", "show", "latency", "check", "tls", "compare", "replay", "rule")
"""In the order of use; each is the function of that name in the module of that name."""


class Program(click.Group):
    """The verbs, found by name so that one verb does not pay for another's imports; errors as sentences."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Verbs that are there, in the order of use."""
        return [verb for verb in VERBS if importlib.util.find_spec(f"smtpdebug.cli.{verb}") is not None]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one verb."""
        if cmd_name not in self.list_commands(ctx):
            return None
        command = getattr(importlib.import_module(f"smtpdebug.cli.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb; what goes wrong is told in one sentence (``cli.errors``)."""
        with reported():
            return super().invoke(ctx)


def _show_versions(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    from smtpdebug.cli.versions import versions

    click.echo("\n".join(versions()))
    ctx.exit()


@click.group(
    cls=Program,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Exit codes: 0 clean, 1 findings or differences, 2 usage, 3 unreadable input or a missing tool.",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_versions,
    help="Versions of smtpdebug and of what it leans on.",
)
def main() -> None:
    """SMTP and TLS conversations out of packet captures.

    Who said what, when; who was waiting for whom; what broke the protocol; what is inside the TLS. Captures are files,
    folders or '-' for standard input, in any format that tcpdump and Wireshark write.
    """
