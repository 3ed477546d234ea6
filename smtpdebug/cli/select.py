"""Which conversations to show: ``--host``, ``--port``, ``--id``, ``--with-code``, ``--grep``."""

from __future__ import annotations

import ipaddress
import re
from typing import TypeAlias

import click
import msgspec

from smtpdebug.model.smtp import Conversation, Unread
from smtpdebug.render.escape import from_wire
from smtpdebug.render.redact import Redactor

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


class Selection(msgspec.Struct, frozen=True):
    """All of the kinds that are given must match; within one kind, any."""

    hosts: tuple[Network, ...] = ()
    ports: frozenset[int] = frozenset()
    ids: tuple[str, ...] = ()
    codes: tuple[re.Pattern[str], ...] = ()
    grep: re.Pattern[str] | None = None
    show_secrets: bool = False

    @property
    def everything(self) -> bool:
        """No choice was made."""
        return not (self.hosts or self.ports or self.ids or self.codes or self.grep)

    def begins(self, conversation: Conversation) -> bool:
        """What can be told before anything is said: addresses, ports, id."""
        client, server = conversation.stream.client, conversation.stream.server
        if self.ports and not self.ports & {client.port, server.port}:
            return False
        if self.ids and not conversation.id.startswith(self.ids):
            return False
        return not self.hosts or self._at_host(client.ip) or self._at_host(server.ip)

    def wants(self, conversation: Conversation) -> bool:
        """Whether to show a finished conversation."""
        if not self.begins(conversation):
            return False
        if self.codes and not self._has_code(conversation):
            return False
        return self.grep is None or self._has_text(conversation, self.grep)

    def _at_host(self, ip: str) -> bool:
        address = ipaddress.ip_address(ip)
        return any(address in network for network in self.hosts)

    def _has_code(self, conversation: Conversation) -> bool:
        codes = {f"{exchange.reply.code:03d}" for exchange in conversation.exchanges if exchange.reply is not None}
        return any(pattern.fullmatch(code) for pattern in self.codes for code in codes)

    def _has_text(self, conversation: Conversation, grep: re.Pattern[str]) -> bool:
        # Searched as it is shown: a search must not find out what is hidden.
        redactor = Redactor(conversation, show=self.show_secrets)
        for exchange in conversation.exchanges:
            if exchange.command is not None and grep.search(" ".join(redactor.command(exchange.command))):
                return True
            if exchange.reply is not None:
                for line in redactor.reply_lines(exchange.reply):
                    if grep.search(line.decode("utf-8", "backslashreplace")):
                        return True
        unread = (item for item in conversation.timeline if isinstance(item, Unread))
        return any(grep.search(from_wire(line)) for item in unread for line in redactor.unread(item))


def host(value: str) -> Network:
    """``--host``: an address or a network in CIDR notation."""
    try:
        return ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise click.BadParameter(f"{value!r} is neither an address nor a network such as 192.0.2.0/24") from None


def codes(value: str) -> list[re.Pattern[str]]:
    """``--with-code``: ``421``, ``4xx`` or ``55x``, with commas between."""
    patterns = []
    for word in value.replace(" ", "").split(","):
        if not re.fullmatch(r"[2-5][0-9xyzXYZ]{2}", word):
            raise click.BadParameter(f"{word!r} is no reply code: write 421, 4xx or 55x")
        patterns.append(re.compile(re.sub("[xyzXYZ]", "[0-9]", word)))
    return patterns


def expression(value: str) -> re.Pattern[str]:
    """``--grep``: a regular expression of Python's."""
    try:
        return re.compile(value)
    except re.error as error:
        raise click.BadParameter(f"{value!r} is no regular expression: {error}") from None
