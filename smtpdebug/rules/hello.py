"""The client's EHLO, HELO or LHLO: what it calls itself (RFC 5321 sections 2.3.5, 4.1.1.1, 4.1.3 and 4.1.4)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from smtpdebug.model.findings import Severity
from smtpdebug.model.smtp import AFTER_GAP, Exchange
from smtpdebug.rules.registry import ODD_NAME, Said, rule
from smtpdebug.rules.state import HELLOS
from smtpdebug.rules.syntax import is_bare_ipv4, is_domain, is_ipv6, is_literal

_UNTAGGED: Final = re.compile(r"\[(?P<inside>[0-9A-Fa-f:.]+)\]\Z")


def _argument(exchange: Exchange) -> str | None:
    command = exchange.command
    if command is None or command.oddities & AFTER_GAP:
        return None
    return command.argument.strip()


@rule(
    id="SC104",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 5321 §4.1.1.1",),
    verbs=HELLOS,
    when=ODD_NAME,
)
def hello_without_name(exchange: Exchange) -> Iterator[Said]:
    """EHLO or HELO without an argument.

    ## Why it matters
    The name is required; servers answer 501, and some refuse the client's mail.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO                                       <- SC104
    S: 501 syntax: EHLO hostname
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    ```

    ## Innocent look-alikes
    None.
    """
    if _argument(exchange) == "" and exchange.command is not None:
        yield exchange.command.at, f"{exchange.command.verb} without a name"


@rule(
    id="SC105",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 5321 §4.1.1.1", "RFC 5321 §4.1.2", "RFC 5321 §4.1.3"),
    verbs=HELLOS,
    when=ODD_NAME,
)
def hello_name_malformed(exchange: Exchange) -> Iterator[Said]:
    """A name in EHLO or HELO that is neither a domain nor an address literal.

    ## Why it matters
    Servers with a strict parser refuse it with 501; an underscore alone is enough ("the underscore character is not
    permitted", §4.1.2).

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO my_host.example.net                   <- SC105
    S: 250 mx.example.org
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO my-host.example.net
    S: 250 mx.example.org
    ```

    ## Innocent look-alikes
    A single label, `localhost`, or an IP address without brackets are domains by the grammar: see SC106. A trailing
    dot and text behind the name are let pass. An IPv6 literal without its tag is SC107.
    """
    argument = _argument(exchange)
    if not argument or exchange.command is None:
        return
    name = argument.split(None, 1)[0]
    if name.startswith("[") and "]" in argument:
        name = argument[: argument.index("]") + 1]
    if is_domain(name.removesuffix(".")) or is_literal(name) or _untagged(name):
        return
    why = " (an underscore)" if is_domain(name.replace("_", "x")) else ""
    yield exchange.command.at, f"{name[:80]!r} is neither a domain nor an address literal{why}"


def _untagged(name: str) -> bool:
    match = _UNTAGGED.match(name)
    return match is not None and is_ipv6(match["inside"])


@rule(
    id="SC106",
    on=Exchange,
    severity=Severity.NOTE,
    since="0.1",
    refs=("RFC 5321 §2.3.5", "RFC 5321 §4.1.4"),
    verbs=HELLOS,
    when=ODD_NAME,
)
def hello_name_not_qualified(exchange: Exchange) -> Iterator[Said]:
    """A name in EHLO or HELO that is not fully qualified: one label, `localhost`, a bare IP address.

    ## Why it matters
    It must be the client's primary host name or an address literal. Many servers refuse others from strangers
    (Postfix: `reject_non_fqdn_helo_hostname`).

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO localhost                             <- SC106
    S: 250 mx.example.org
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO [192.0.2.7]
    S: 250 mx.example.org
    ```

    ## Innocent look-alikes
    Mail clients and test tools on their way to their own server (submission): widespread and harmless, hence a note.
    """
    argument = _argument(exchange)
    if not argument or exchange.command is None or exchange.command.verb == "LHLO":
        return
    name = argument.split(None, 1)[0].removesuffix(".")
    if is_bare_ipv4(name):
        yield exchange.command.at, f"{name} without brackets is no address literal"
    elif is_domain(name) and ("." not in name or name.lower() in ("localhost.localdomain", "localhost.local")):
        yield exchange.command.at, f"{name[:80]!r} is not a fully qualified name"


@rule(
    id="SC107",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 5321 §4.1.3",),
    verbs=HELLOS,
    when=ODD_NAME,
)
def ipv6_literal_without_tag(exchange: Exchange) -> Iterator[Said]:
    """An IPv6 address literal without `IPv6:`.

    ## Why it matters
    The tag is what tells the parser what follows; without it the argument is malformed and gets 501.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO [2001:db8::7]                         <- SC107
    S: 501 syntax
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO [IPv6:2001:db8::7]
    S: 250 mx.example.org
    ```

    ## Innocent look-alikes
    IPv4 literals have no tag.
    """
    argument = _argument(exchange)
    if argument and exchange.command is not None and _untagged(argument.split(None, 1)[0]):
        yield exchange.command.at, f"{argument[:60]} lacks the tag IPv6:"
