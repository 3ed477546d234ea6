"""Limits that the server announced: SIZE (RFC 1870) and LIMITS (RFC 9422)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from smtpdebug.model.findings import Severity
from smtpdebug.model.smtp import END_OF_DATA, Exchange
from smtpdebug.rules.registry import LIMITED, Said, rule
from smtpdebug.rules.state import State
from smtpdebug.rules.syntax import declared_size, number

_TOLERANCE: Final = 1024
"""Octets by which a declared SIZE may be too low: RFC 1870 5 calls it an estimate, and a Received field is added."""
_LIMIT: Final = re.compile(r"(RCPTMAX|MAILMAX)=(\d{1,9})(?!\d)", re.IGNORECASE)


def _limit(state: State, name: str) -> int | None:
    for found, value in _LIMIT.findall(state.extensions.get("LIMITS", "")):
        if found.upper() == name:
            return int(value)
    return None


def _size_limit(state: State) -> int:
    return number(state.extensions.get("SIZE", "")) or 0


@rule(
    id="SC160",
    on=Exchange,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 1870 §5", "RFC 1870 §6.1"),
    verbs=("MAIL", "BDAT", END_OF_DATA),
)
def size_limit_exceeded(exchange: Exchange, state: State) -> Iterator[Said]:
    """A message declared, or sent, larger than the SIZE that the server offered.

    ## Why it matters
    The server said that it will not take it: a client that compares first saves the transfer.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 SIZE 1000
    C: MAIL FROM:<a@example.net> SIZE=2000        <- SC160
    S: 552 too big
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 SIZE 4000
    C: MAIL FROM:<a@example.net> SIZE=2000
    S: 250 OK
    ```

    ## Innocent look-alikes
    `SIZE 0` and a bare `SIZE` mean no fixed limit.
    """
    limit, command = _size_limit(state), exchange.command
    if not limit or command is None or state.uncertain:
        return
    if command.verb == "MAIL":
        declared = number(declared_size(command.argument))
        if declared is not None and declared > limit:
            yield command.at, f"SIZE={declared} is above the server's limit of {limit:,}"
    elif exchange.data is not None and not state.repeats(exchange):
        before = state.bdat_bytes
        size = before + exchange.data.bytes
        if before <= limit < size:
            yield command.at, f"{size:,} octets of mail data are above the server's limit of {limit:,}"


@rule(
    id="SC161",
    on=Exchange,
    severity=Severity.NOTE,
    since="0.1",
    refs=("RFC 1870 §5", "RFC 1870 §6.3"),
    verbs=(END_OF_DATA,),
)
def size_declared_too_low(exchange: Exchange, state: State) -> Iterator[Said]:
    """Mail data larger than the SIZE that MAIL declared, by more than an estimate's error.

    ## Why it matters
    The server reserved room for what was declared and MAY refuse the rest.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 SIZE 1000000
    C: MAIL FROM:<a@example.net> SIZE=10
    S: 250 OK
    C: RCPT TO:<b@example.org>
    S: 250 OK
    C: DATA
    S: 354 go ahead
    C! Subject: long\\r\\n\\r\\n
    C! xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\\r\\n
    C! xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\\r\\n
    C! xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\\r\\n
    C! xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\\r\\n
    C! xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\\r\\n
    C! xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\\r\\n
    C! xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\\r\\n
    C! xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\\r\\n
    C! xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\\r\\n
    C! xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\\r\\n
    C! xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\\r\\n
    C: .                                          <- SC161
    S: 250 OK
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 SIZE 1000000
    C: MAIL FROM:<a@example.net> SIZE=30
    S: 250 OK
    C: RCPT TO:<b@example.org>
    S: 250 OK
    C: DATA
    S: 354 go ahead
    C: Subject: hello
    C:
    C: hello
    C: .
    S: 250 OK
    ```

    ## Innocent look-alikes
    A few octets more: clients count line ends in different ways. Less than declared is no fault.
    """
    data, mail, command = exchange.data, state.mail, exchange.command
    if data is None or mail is None or command is None or state.uncertain:
        return
    declared = number(declared_size(mail.argument))
    if declared is not None and data.bytes > declared + max(_TOLERANCE, declared // 10):
        yield command.at, f"{data.bytes:,} octets of mail data, SIZE={declared} was declared"


@rule(
    id="SC196",
    on=Exchange,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 9422 §4",),
    verbs=("MAIL", "RCPT"),
    when=LIMITED,
)
def announced_limit_exceeded(exchange: Exchange, state: State) -> Iterator[Said]:
    """More recipients or messages than the server's LIMITS allow.

    ## Why it matters
    The server said beforehand where it stops; a client that reads it saves a refusal.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 LIMITS RCPTMAX=1
    C: MAIL FROM:<a@example.net>
    S: 250 OK
    C: RCPT TO:<b@example.org>
    S: 250 OK
    C: RCPT TO:<c@example.org>                    <- SC196
    S: 452 too many
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 LIMITS RCPTMAX=1
    C: MAIL FROM:<a@example.net>
    S: 250 OK
    C: RCPT TO:<b@example.org>
    S: 250 OK
    ```

    ## Innocent look-alikes
    Recipients that were refused count for RCPTMAX as well; none is innocent.
    """
    command = exchange.command
    if command is None or "LIMITS" not in state.extensions or state.uncertain:
        return
    if command.verb == "RCPT":
        most = _limit(state, "RCPTMAX")
        if most and state.rcpt_sent >= most:
            yield command.at, f"recipient {state.rcpt_sent + 1}, RCPTMAX is {most}"
    else:
        most = _limit(state, "MAILMAX")
        if most and state.transactions >= most:
            yield command.at, f"transaction {state.transactions + 1}, MAILMAX is {most}"
