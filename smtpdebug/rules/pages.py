"""The rules' pages: Markdown out of the docstrings, for ``docs/rules/``, ``smtpdebug rule`` and SARIF help."""

from __future__ import annotations

import re
from typing import Any, Final

from smtpdebug.rules.registry import FAMILIES, Rule, all_rules

GENERATED: Final = "<!-- written by `make fix` from the docstring of the rule: edit that -->"
_OPTIONS: Final = re.compile(r"```smtp(?P<options>[^\n]*)\n(?P<text>.*?)```", re.DOTALL)
_ON: Final = {"sighting": "conversation, beside earlier ones"}
_BASE: Final = "https://www.rfc-editor.org/rfc/rfc"
_RFC: Final = re.compile(r"RFC (\d+)(?: §([\d.]+))?")


def section(rule: Rule, heading: str) -> str:
    """The text under ``## heading``, ``""`` if the page has none."""
    _, _, rest = (rule.doc + "\n").partition(f"\n## {heading}\n")
    return rest.split("\n## ", 1)[0].strip()


def dialogues(rule: Rule, heading: str) -> list[tuple[str, dict[str, Any]]]:
    """The ``smtp`` blocks under a heading, each with the options of ``testing.dialogue`` named after ``smtp``.

    ``smtp port=465 lmtp joined_late`` gives ``{"port": 465, "lmtp": True, "joined_late": True}``.
    """
    found = []
    for match in _OPTIONS.finditer(section(rule, heading)):
        options: dict[str, Any] = {}
        for word in match["options"].split():
            name, equals, value = word.partition("=")
            options[name] = int(value) if equals else True
        found.append((match["text"], options))
    return found


def uri(ref: str) -> str | None:
    """Where a reference can be read, if it is an RFC."""
    match = _RFC.match(ref)
    if match is None:
        return None
    return f"{_BASE}{match[1]}.html" + (f"#section-{match[2]}" if match[2] else "")


def link(ref: str) -> str:
    """A reference as a Markdown link, where it is an RFC."""
    found = uri(ref)
    return ref if found is None else f"[{ref}]({found})"


def page(rule: Rule) -> str:
    """The whole page of a rule as Markdown, ending in one newline."""
    marks = [
        f"**{rule.severity}**",
        f"family *{rule.family}*",
        f"on each {_ON.get(rule.on, rule.on)}",
        f"since {rule.since}",
    ]
    if rule.security:
        marks.append("security")
    if rule.status != "stable":
        marks.append(f"status *{rule.status}*")
    doc = rule.doc.replace("```smtp", "```text")
    doc = re.sub(r"```text[^\n]*\n", "```text\n", doc)
    lines = [f"# {rule.id} {rule.name}", "", " · ".join(marks), "", doc.strip(), "", "## References", ""]
    lines += [f"- {link(ref)}" for ref in rule.refs]
    return "\n".join(lines) + "\n"


def index(rules: list[Rule] | None = None) -> str:
    """The list of all rules as Markdown."""
    rules = all_rules() if rules is None else rules
    lines = [
        GENERATED,
        "",
        "# Rules",
        "",
        f"{len(rules)} rules in {len(FAMILIES)} families. An *error* breaks a MUST, a *warning* a SHOULD or the table",
        "of reply codes, a *note* is worth knowing. `smtpdebug rule ID` prints a page; `--select` and `--ignore` take",
        "ids, prefixes, names and families.",
    ]
    for prefix, family in FAMILIES.items():
        mine = [rule for rule in rules if rule.id.startswith(prefix)]
        if not mine:
            continue
        lines += ["", f"## {prefix}: {family}", "", "| id | name | severity | what |", "|---|---|---|---|"]
        for rule in mine:
            marks = str(rule.severity) + (", security" if rule.security else "")
            marks += f", {rule.status}" if rule.status != "stable" else ""
            what = rule.summary.replace("|", "\\|")
            lines.append(f"| [{rule.id}]({rule.id}.md) | {rule.name} | {marks} | {what} |")
    return "\n".join(lines) + "\n"


def tree() -> dict[str, str]:
    """File name -> content of everything in ``docs/rules/``."""
    rules = all_rules()
    files = {f"{rule.id}.md": f"{GENERATED}\n\n{page(rule)}" for rule in rules}
    files["index.md"] = index(rules)
    return files
