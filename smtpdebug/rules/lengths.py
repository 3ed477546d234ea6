"""Content, part two: how long lines, paths and names may be (RFC 5321 section 4.5.3.1)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from smtpdebug.model.findings import Severity
from smtpdebug.model.smtp import (
    AFTER_GAP,
    AUTH_ANSWER,
    EIGHT_BIT,
    LONG_LINE,
    Command,
    Exchange,
)
from smtpdebug.rules.content import SMTP_VERBS, own
from smtpdebug.rules.registry import LONG_ARGUMENT, Said, rule
from smtpdebug.rules.state import State

COMMAND_LINE: Final = 512
"""Octets of a command line with its line end (RFC 5321 4.5.3.1.4)."""


AUTH_LINE: Final = 12288
"""Octets of a line in an AUTH exchange (RFC 4954 section 4)."""


GROWTH: Final = {
    "SIZE": 26,
    "8BITMIME": 17,
    "BINARYMIME": 16,
    "SMTPUTF8": 10,
    "AUTH": 500,
    "REQUIRETLS": 11,
    "DSN": 500,
    "DELIVERBY": 17,
    "MT-PRIORITY": 15,
    "FUTURERELEASE": 34,
    "RRVS": 33,
}
"""By how much each extension lets MAIL and RCPT lines grow: RFC 1870, 6152, 3030, 6531, 4954, 8689, 3461, 2852, 6710,
4865, 7293."""


@rule(
    id="SD109",
    on=Exchange,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 5321 §4.5.3.1.4", "RFC 4954 §4"),
    oddities=LONG_LINE,
)
def command_line_too_long(exchange: Exchange, state: State) -> Iterator[Said]:
    r"""A command line is longer than 512 octets and than the extensions in force allow.

    ## Why it matters
    Servers need not take longer lines, and answer 500 or close. Each extension says by how much it lets MAIL and
    RCPT grow; AUTH exchanges may use lines of up to 12288 octets.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C! NOOP xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n        <- SD109
    S: 500 5.5.2 line too long
    C: QUIT
    S: 221 mx.example.org
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: NOOP
    S: 250 2.0.0 Ok
    C: QUIT
    S: 221 mx.example.org
    ```

    ## Innocent look-alikes
    Long tokens in AUTH (OAuth, Kerberos) are well within their own limit.
    """  # noqa: E501 - the line is the example
    command = own(exchange, LONG_LINE)
    if command is None or state.uncertain:
        return
    size = command.end - command.offset if command.end >= 0 else len(command.line) + 2
    if command.verb in ("AUTH", AUTH_ANSWER):
        limit = AUTH_LINE
    else:
        limit = COMMAND_LINE
        if command.verb in ("MAIL", "RCPT"):
            limit += sum(GROWTH.get(keyword, 0) for keyword in state.extensions)
    if size > limit:
        yield command.at, f"the {command.verb} line has {size} octets; the limit is {limit}"


@rule(
    id="SD110",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 5321 §4.5.3.1.4", "RFC 5321 §4.3.2"),
    replies={5},
)
def lawful_line_called_too_long(exchange: Exchange) -> Iterator[Said]:
    """The server refuses a command of at most 512 octets as too long.

    ## Why it matters
    Every server must take command lines of 512 octets. A shorter limit refuses lawful addresses.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a.rather.long.but.lawful.local.part.of.an.address@example.net>
    S: 500 5.5.2 Line too long        <- SD110
    C: QUIT
    S: 221 mx.example.org
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a.rather.long.but.lawful.local.part.of.an.address@example.net>
    S: 250 2.1.0 Ok
    C: QUIT
    S: 221 mx.example.org
    ```

    ## Innocent look-alikes
    The complaint may be about a local-part above 64 octets, a domain above 255 or a path above 256: not counted here.
    """
    command, reply = exchange.command, exchange.reply
    if command is None or reply is None or reply.code != 500 or command.verb not in SMTP_VERBS:
        return
    if command.oddities & (LONG_LINE | AFTER_GAP) or "too long" not in " ".join(reply.texts).lower():
        return
    size = command.end - command.offset if command.end >= 0 else len(command.line) + 2
    path = path_of(command)
    if size <= COMMAND_LINE and (path is None or (len(path) <= 256 and len(path.rpartition("@")[0]) <= 64)):
        yield reply.at, f"500 'too long' to a {command.verb} line of {size} octets; 512 must be taken"


@rule(
    id="SD111", on=Exchange, severity=Severity.WARNING, since="0.1", refs=("RFC 5321 §4.5.3.1.5",), oddities=LONG_LINE
)
def reply_line_too_long(exchange: Exchange) -> Iterator[Said]:
    r"""A reply line is longer than 512 octets.

    ## Why it matters
    Clients need not read more of a line; what is cut off is often the link that explains a refusal. Long text goes
    on several lines.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: NOOP
    S! 250 xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n        <- SD111
    C: QUIT
    S: 221 mx.example.org
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: NOOP
    S: 250 2.0.0 Ok
    C: QUIT
    S: 221 mx.example.org
    ```

    ## Innocent look-alikes
    A reply of many lines of ordinary length is in order. A 334 challenge of AUTH may be longer and is not counted.
    """  # noqa: E501 - the line is the example
    reply = exchange.reply
    if reply is None or not reply.oddities & LONG_LINE or reply.code == 334:
        return
    longest = max((len(line) + 2 for line in reply.lines), default=0)
    if longest > 512:
        yield reply.at, f"a line of the reply {reply.code} has {longest} octets; the limit is 512"


def path_of(command: Command) -> str | None:
    """What stands between ``<`` and ``>`` in MAIL or RCPT, a source route taken off; ``None`` if nothing does."""
    if command.verb not in ("MAIL", "RCPT"):
        return None
    start, end = command.argument.find("<"), command.argument.rfind(">")
    if start < 0 or end <= start:
        return None
    path = command.argument[start + 1 : end]
    return path.split(":", 1)[1] if path.startswith("@") and ":" in path else path


@rule(
    id="SD112",
    on=Exchange,
    severity=Severity.NOTE,
    since="0.1",
    when=LONG_ARGUMENT,
    refs=("RFC 5321 §4.5.3.1.1",),
    verbs={"MAIL", "RCPT"},
)
def local_part_too_long(exchange: Exchange) -> Iterator[Said]:
    """The local-part of an address is longer than 64 octets.

    ## Why it matters
    Receivers need not take longer ones, and some answer 501 or cut them. "Objects larger than these sizes SHOULD be
    avoided when possible."

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<bounces+1234567890-abcdef-somebody.with.a.rather.long.name=example.org@example.net> <- SD112
    S: 250 2.1.0 Ok
    C: QUIT
    S: 221 mx.example.org
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<bounces+1234567890@em1234.example.net>
    S: 250 2.1.0 Ok
    C: QUIT
    S: 221 mx.example.org
    ```

    ## Innocent look-alikes
    Rewritten senders (SRS, VERP, BATV) of large senders pass 64 octets daily and are mostly accepted; hence a note.
    """
    command = exchange.command
    if command is None or len(command.argument) < 65 or command.oddities & (EIGHT_BIT | AFTER_GAP):
        return
    path = path_of(command)
    local = path.rpartition("@")[0] if path else ""
    if len(local) > 64:
        yield command.at, f"the local-part has {len(local)} octets; the limit is 64"


@rule(
    id="SD113",
    on=Exchange,
    severity=Severity.WARNING,
    since="0.1",
    when=LONG_ARGUMENT,
    refs=("RFC 5321 §4.5.3.1.2", "RFC 5321 §4.5.3.1.3"),
    verbs={"MAIL", "RCPT"},
)
def domain_or_path_too_long(exchange: Exchange) -> Iterator[Said]:
    """A domain is longer than 255 octets, or a path longer than 256.

    ## Why it matters
    No such domain can exist in DNS, and receivers need not take such a path.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb.ccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc.ddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd.eeeeeeeeeeeeeee.example.net>        <- SD113
    S: 501 5.1.7 Bad sender address syntax
    C: QUIT
    S: 221 mx.example.org
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 2.1.0 Ok
    C: QUIT
    S: 221 mx.example.org
    ```

    ## Innocent look-alikes
    A long source route before the mailbox is not counted.
    """  # noqa: E501 - the line is the example
    command = exchange.command
    if command is None or len(command.argument) < 250 or command.oddities & AFTER_GAP:
        return
    path = path_of(command) or ""
    domain = path.rpartition("@")[2] if "@" in path else ""
    if len(domain) > 255:
        yield command.at, f"the domain has {len(domain)} octets; the limit is 255"
    elif len(path) + 2 > 256:
        yield command.at, f"the path has {len(path) + 2} octets with its brackets; the limit is 256"
