"""Enhanced status codes and what extensions' own texts ask of replies (RFC 2034, RFC 3463, RFC 3207, RFC 1870)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from smtpdebug.model.findings import Severity
from smtpdebug.model.smtp import AFTER_GAP, GREETING, MALFORMED, Exchange, Reply
from smtpdebug.rules.registry import MULTILINE, NO_STATUS_CODE, STATUS_DIFFERS, UNASKED, Said, rule
from smtpdebug.rules.state import State

_DOTTED: Final = re.compile(rb"(\d+\.\d+\.\d+)(?:[ \t]|\Z)")
_VALID: Final = re.compile(rb"[245]\.\d{1,3}\.\d{1,3}\Z")
_EXEMPT: Final = frozenset({GREETING, "EHLO", "HELO", "LHLO", "HELP", "XCLIENT", UNASKED})


def _whole(reply: Reply) -> bool:
    return not reply.oddities & (AFTER_GAP | MALFORMED)


def _dotted(line: bytes) -> bytes | None:
    found = _DOTTED.match(line, 4)
    return found[1] if found is not None else None


@rule(
    id="SR170",
    on=Exchange,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 2034 §4",),
    replies=(2, 4, 5),
    when=NO_STATUS_CODE,
)
def enhanced_code_missing(exchange: Exchange, state: State) -> Iterator[Said]:
    """A reply without an enhanced status code although EHLO offered ENHANCEDSTATUSCODES.

    ## Why it matters
    Clients that were promised the codes build their bounces from them (RFC 3464); without one they must guess.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 ENHANCEDSTATUSCODES
    C: MAIL FROM:<a@example.net>
    S: 250 OK                                     <- SR170
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 ENHANCEDSTATUSCODES
    C: MAIL FROM:<a@example.net>
    S: 250 2.1.0 OK
    ```

    ## Innocent look-alikes
    The greeting, replies to EHLO and HELO, and 3yz replies carry none by RFC 2034 itself; replies to HELP and bare
    codes are let pass.
    """
    command, reply = exchange.command, exchange.reply
    if reply is None or reply.enhanced is not None or "ENHANCEDSTATUSCODES" not in state.extensions:
        return
    if command is None or command.verb in _EXEMPT or state.uncertain or not _whole(reply) or not reply.lines:
        return
    if len(reply.lines[0]) > 4 and _dotted(reply.lines[0]) is None:
        yield reply.at, f"{reply.code} without an enhanced status code, which EHLO promised"


@rule(
    id="SR171",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 2034 §4", "RFC 3463 §2"),
    replies=(2, 4, 5),
    when=STATUS_DIFFERS,
)
def enhanced_code_contradicts_reply(exchange: Exchange) -> Iterator[Said]:
    """An enhanced status code of another class than the reply code: `550 4.7.1`.

    ## Why it matters
    One says permanent, the other temporary: whether the message is bounced or tried again depends on which of the
    two the client reads.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 ENHANCEDSTATUSCODES
    C: MAIL FROM:<a@example.net>
    S: 550 4.7.1 come back later                  <- SR171
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 ENHANCEDSTATUSCODES
    C: MAIL FROM:<a@example.net>
    S: 450 4.7.1 come back later
    ```

    ## Innocent look-alikes
    A text that begins with a version number or an IP address, as in a greeting or in a reply to HELP.
    """
    reply = exchange.reply
    if reply is None or reply.enhanced is None or not _whole(reply):
        return
    if exchange.command is not None and exchange.command.verb in _EXEMPT and reply.code < 300:
        return  # a text, and no promise of a status code
    if reply.enhanced[0] in "245" and reply.enhanced[0] != str(reply.code)[0]:
        yield reply.at, f"reply {reply.code} with enhanced code {reply.enhanced}: their classes differ"


@rule(
    id="SR172",
    on=Exchange,
    severity=Severity.WARNING,
    since="0.1",
    pure=True,
    refs=("RFC 2034 §4",),
    replies=(2, 4, 5),
    when=MULTILINE,
)
def enhanced_codes_differ_by_line(exchange: Exchange) -> Iterator[Said]:
    """Lines of one reply with different enhanced status codes.

    ## Why it matters
    One reply has one status; clients take the first line's or the last's.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 ENHANCEDSTATUSCODES
    C: MAIL FROM:<a@example.net>
    S: 550-5.7.1 refused by policy
    S: 550 5.1.8 and your domain is unknown       <- SR172
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 ENHANCEDSTATUSCODES
    C: MAIL FROM:<a@example.net>
    S: 550-5.7.1 refused by policy
    S: 550 5.7.1 and your domain is unknown
    ```

    ## Innocent look-alikes
    Lines without any code.
    """
    reply = exchange.reply
    if reply is None or len(reply.lines) < 2 or reply.enhanced is None or not _whole(reply):
        return
    if exchange.command is None or exchange.command.verb in _EXEMPT:
        return
    codes = {code for line in reply.lines if (code := _dotted(line)) is not None}
    if len(codes) > 1:
        yield reply.at, f"one reply with the enhanced codes {b', '.join(sorted(codes)).decode()}"


@rule(
    id="SR173",
    on=Exchange,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 3463 §2",),
    replies=(2, 4, 5),
    when=NO_STATUS_CODE,
)
def enhanced_code_malformed(exchange: Exchange, state: State) -> Iterator[Said]:
    """Something like an enhanced status code that is none: class 0, 1, 3 or 6 to 9, or more than three digits.

    ## Why it matters
    Clients that look for a code find none, or cut the text in the wrong place.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 ENHANCEDSTATUSCODES
    C: MAIL FROM:<a@example.net>
    S: 550 7.1.1 no                               <- SR173
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 ENHANCEDSTATUSCODES
    C: MAIL FROM:<a@example.net>
    S: 550 5.1.1 no
    ```

    ## Innocent look-alikes
    Servers that did not offer ENHANCEDSTATUSCODES may begin a text as they like; so may the greeting and EHLO.
    """
    command, reply = exchange.command, exchange.reply
    if reply is None or not reply.lines or "ENHANCEDSTATUSCODES" not in state.extensions or state.uncertain:
        return
    if command is None or command.verb in _EXEMPT or not _whole(reply):
        return
    code = _dotted(reply.lines[0])
    if code is not None and not _VALID.match(code):
        yield reply.at, f"{code.decode()} is no enhanced status code"
