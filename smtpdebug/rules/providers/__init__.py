"""What is known about single providers and servers: data in the ``.toml`` files beside this one.

Each file says how the server is recognised by its own words, which reply codes it uses outside RFC 5321 section
4.3.2 and what it means by them, and which of its texts call for which advice; each entry with its source.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources

from smtpdebug.model.smtp import GREETING, Conversation, Exchange, Reply

_LOOKED_AT = 12
"""Exchanges at the start of a conversation in which greeting and EHLO replies are looked for."""


@dataclass(frozen=True, slots=True)
class Text:
    """One of a provider's replies, by pattern.

    ``verbs`` and ``codes`` are empty where any will do. ``off_table`` marks a code that RFC 5321 does not list for
    the command and that this provider sends on purpose. ``diagnosis`` is the id of the diagnosis that it supports.
    """

    pattern: re.Pattern[str]
    verbs: frozenset[str]
    codes: frozenset[int]
    means: str
    advice: str
    source: str
    diagnosis: str | None = None
    off_table: bool = False

    def fits(self, verb: str, code: int, text: str) -> bool:
        """Whether this entry speaks of such a reply."""
        return (
            (not self.verbs or verb in self.verbs)
            and (not self.codes or code in self.codes)
            and self.pattern.search(text) is not None
        )


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider or server program."""

    id: str
    name: str
    about: str
    sources: tuple[str, ...]
    greeting: re.Pattern[str] | None
    server_name: re.Pattern[str] | None
    texts: tuple[Text, ...]
    notes: tuple[str, ...]

    def explains(self, verb: str, code: int, text: str) -> Text | None:
        """The entry for this reply, or ``None``.

        Args:
            verb: of the command, or a pseudo-command such as ``(end of mail data)``.
            code: the reply code.
            text: the reply's text without codes, lines joined by a space.
        """
        return next((entry for entry in self.texts if entry.fits(verb, code, text)), None)


def _pattern(text: str | None) -> re.Pattern[str] | None:
    return None if text is None else re.compile(text, re.IGNORECASE)


def parse(text: str) -> Provider:
    """Read one provider's file.

    Raises:
        ValueError, KeyError, re.error: the data is wrong (an error of whoever wrote it; a test reads every file).
    """
    data = tomllib.loads(text)
    sources: dict[str, str] = data["sources"]
    return Provider(
        id=data["id"],
        name=data["name"],
        about=data["about"],
        sources=tuple(sources.values()),
        greeting=_pattern(data["recognise"].get("greeting")),
        server_name=_pattern(data["recognise"].get("server_name")),
        notes=tuple(data.get("notes", ())),
        texts=tuple(
            Text(
                pattern=re.compile(entry["pattern"], re.IGNORECASE),
                verbs=frozenset(entry.get("verbs", ())),
                codes=frozenset(entry.get("codes", ())),
                means=entry["means"],
                advice=entry["advice"],
                source=sources[entry["source"]],
                diagnosis=entry.get("diagnosis"),
                off_table=entry.get("off_table", False),
            )
            for entry in data["text"]
        ),
    )


@cache
def all_providers() -> tuple[Provider, ...]:
    """Every provider on file, those with a network of their own before the server programs."""
    files = (entry for entry in resources.files(__name__).iterdir() if entry.name.endswith(".toml"))
    providers = [parse(entry.read_text("utf-8")) for entry in files]
    return tuple(sorted(providers, key=lambda p: (p.server_name is None, p.id)))


def meant(conversation: Conversation, exchange: Exchange) -> Text | None:
    """What the provider, if it is a known one, means by a reply; ``None`` where nothing is known of it."""
    provider, reply = known(conversation), exchange.reply
    if provider is None or reply is None:
        return None
    verb = exchange.command.verb if exchange.command is not None else ""
    return provider.explains(verb, reply.code, " ".join(reply.texts))


def known(conversation: Conversation) -> Provider | None:
    """Whose server this is by its greeting, its EHLO reply, or the name the client asked for; ``None`` if untold.

    A server name in TLS is what the client asked for, or what the certificate says; the greeting may be encrypted.
    """
    lines: list[str] = []
    for exchange in conversation.exchanges[:_LOOKED_AT]:
        command, reply = exchange.command, exchange.reply
        if command is not None and reply is not None and command.verb in (GREETING, "EHLO", "HELO"):
            lines.append(_first_line(reply))
    names: list[str] = [line.split(" ", 1)[0] for line in lines]
    if conversation.tls is not None:
        if conversation.tls.server_name:
            names.append(conversation.tls.server_name)
        for certificate in conversation.tls.certificates[:1]:
            names.extend(certificate.names)
    for provider in all_providers():
        if provider.greeting is not None and any(provider.greeting.search(line) for line in lines):
            return provider
        if provider.server_name is not None and any(provider.server_name.search(name) for name in names):
            return provider
    return None


def _first_line(reply: Reply) -> str:
    return reply.texts[0].strip() if reply.lines else ""


def page(provider: Provider) -> str:
    """The provider's page as Markdown, for ``docs/providers/``."""
    lines = [f"# {provider.name}", "", provider.about, "", "## How it is recognised", ""]
    if provider.greeting is not None:
        lines.append(f"- greeting or EHLO reply matches `{provider.greeting.pattern}`")
    if provider.server_name is not None:
        lines.append(f"- server name (greeting, SNI or certificate) matches `{provider.server_name.pattern}`")
    lines += ["", "## What its replies mean", ""]
    for entry in provider.texts:
        codes = ", ".join(str(code) for code in sorted(entry.codes)) or "any code"
        verbs = ", ".join(f"`{verb}`" for verb in sorted(entry.verbs)) or "any command"
        lines += [f"### `{entry.pattern.pattern}`", "", f"{codes}, to {verbs}. {entry.means}", ""]
        if entry.off_table:
            lines += ["Not in the table of RFC 5321 §4.3.2; meant so here, and no finding.", ""]
        lines += [f"**What to do.** {entry.advice}", ""]
        if entry.diagnosis:
            lines += [f"Diagnosis: [{entry.diagnosis}](../diagnoses/{entry.diagnosis}.md)", ""]
        lines += [f"Source: {entry.source}", ""]
    if provider.notes:
        lines += ["## Also", "", *(f"- {note}" for note in provider.notes), ""]
    lines += ["## Sources", "", *(f"- {source}" for source in provider.sources), ""]
    return "\n".join(lines)
