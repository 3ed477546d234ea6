"""``smtpdebug rule``: explain a rule, or list them all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from smtpdebug.rules.registry import Rule


@click.command(short_help="Explain a rule.")
@click.argument("ids", nargs=-1, metavar="[RULE]...")
@click.option("--list", "listing", is_flag=True, help="All rules, one a line.")
@click.option("-f", "--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def rule(ids: tuple[str, ...], listing: bool, form: str) -> None:
    """Print the page of a rule (SR103, reply-code-not-listed): what it finds, why it matters, an example, what to do
    instead, and what innocent traffic looks like it. Or that of a diagnosis (D24, greeting-delayed).
    """
    from smtpdebug.rules import registry

    if not ids and not listing:
        raise click.UsageError("name a rule, or give --list")
    diagnoses = {word: page for word in ids if (page := _diagnosis(word))}
    words = [word for word in ids if word not in diagnoses]
    try:
        rules = [one for word in words for one in _wanted(word)] if ids else registry.all_rules()
    except registry.UnknownRuleError as error:
        raise click.UsageError(str(error)) from None
    if diagnoses and (form == "json" or listing):
        raise click.UsageError(f"{next(iter(diagnoses))} is a diagnosis: --list and --format json are for rules")
    if form == "json":
        click.echo(_as_json(rules))
    elif listing:
        width = max(len(one.name) for one in rules)
        for one in rules:
            marks = " security" if one.security else ""
            marks += f" {one.status}" if one.status != "stable" else ""
            click.echo(f"{one.id}  {one.name:<{width}}  {one.severity:<7}  {one.refs[0] if one.refs else ''}{marks}")
    else:
        from smtpdebug.rules import pages

        click.echo("\n\n".join([*diagnoses.values(), *(pages.page(one).rstrip() for one in rules)]))


def _diagnosis(word: str) -> str:
    """The page of the diagnosis with this id or name; empty where it is none."""
    from smtpdebug.rules.diagnosis import DIAGNOSES, pages

    for one in DIAGNOSES.values():
        if word.upper() == one.id or word.lower() == one.name:
            return pages.page(one).removeprefix(pages.HEADER.format("the docstring of the diagnosis")).rstrip()
    return ""


def _wanted(word: str) -> list[Rule]:
    from smtpdebug.rules import registry

    return registry.matching(word)


def _as_json(rules: list[Rule]) -> str:
    import msgspec

    found = [
        {
            "id": one.id,
            "name": one.name,
            "family": one.family,
            "severity": str(one.severity),
            "security": one.security,
            "status": one.status,
            "on": one.on,
            "since": one.since,
            "references": list(one.refs),
            "summary": one.summary,
            "page": one.doc,
        }
        for one in rules
    ]
    return msgspec.json.format(msgspec.json.encode(found), indent=2).decode()
