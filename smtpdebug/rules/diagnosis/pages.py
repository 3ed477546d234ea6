"""The page of each diagnosis, and their index, as Markdown for ``docs/diagnoses/``; pure text, nothing is written."""

from __future__ import annotations

from smtpdebug.rules.diagnosis.registry import DIAGNOSES, DiagnosisSpec
from smtpdebug.rules.providers import all_providers
from smtpdebug.rules.providers import page as provider_page

HEADER = "<!-- written by `make fix` from {}: edit that -->\n\n"


def page(spec: DiagnosisSpec) -> str:
    """One diagnosis: its docstring under a heading with id and name."""
    first, _, rest = spec.page.partition("\n")
    return f"{HEADER.format('the docstring of the diagnosis')}# {spec.id} {spec.name}\n\n{first}\n{rest.rstrip()}\n"


def index() -> str:
    """A table of all diagnoses by number."""
    lines = [
        "# Diagnoses",
        "",
        "What findings, waits and TCP facts add up to, and what to do. Each has a confidence and names the competing",
        "explanation.",
        "",
        "| id | name | what it says |",
        "|---|---|---|",
    ]
    specs = sorted(DIAGNOSES.values(), key=lambda spec: int(spec.id[1:]))
    lines += [f"| [{spec.id}]({spec.id}.md) | {spec.name} | {spec.title} |" for spec in specs]
    return "\n".join(lines) + "\n"


def all_pages() -> dict[str, str]:
    """File name -> text, the index included."""
    pages = {f"{spec.id}.md": page(spec) for spec in DIAGNOSES.values()}
    return {"index.md": HEADER.format("the diagnoses") + index(), **pages}


def provider_pages() -> dict[str, str]:
    """File name -> text for ``docs/providers/``, the index included."""
    header = HEADER.format("the provider's data")
    lines = ["# Providers", "", "What is known of single providers and server programs: their own codes and texts.", ""]
    lines += [f"- [{one.name}]({one.id}.md): {one.about}" for one in all_providers()]
    pages = {f"{one.id}.md": header + provider_page(one).rstrip() + "\n" for one in all_providers()}
    return {"index.md": header + "\n".join(lines) + "\n", **pages}
