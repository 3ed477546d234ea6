"""What the extensions' own texts ask of replies (RFC 1870, RFC 3030, RFC 3207, RFC 6531, RFC 8689)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from smtpdebug.model.findings import Severity
from smtpdebug.model.smtp import AFTER_GAP, MALFORMED, Exchange, Reply
from smtpdebug.rules.registry import Said, rule
from smtpdebug.rules.state import State
from smtpdebug.rules.syntax import number, path

_STARTTLS_FIRST: Final = re.compile(r"(?:must|need to|required to)\s+(?:issue|use|do)\s+(?:a\s+)?STARTTLS", re.I)


def _whole(reply: Reply) -> bool:
    return not reply.oddities & (AFTER_GAP | MALFORMED)


@rule(
    id="SR181",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 3207 §4.2",),
    verbs=("EHLO",),
    replies=(2,),
    pure=True,
)
def starttls_offered_inside_tls(exchange: Exchange) -> Iterator[Said]:
    """STARTTLS offered again inside TLS.

    ## Why it matters
    "A server MUST NOT return the STARTTLS extension in response to an EHLO command received after a TLS handshake has
    completed." A client that trusts the list starts TLS inside TLS.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 STARTTLS
    C: STARTTLS
    S: 220 go ahead
    -- tls --
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 STARTTLS                               <- SR181
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 STARTTLS
    C: STARTTLS
    S: 220 go ahead
    -- tls --
    C: EHLO client.example.net
    S: 250 mx.example.org
    ```

    ## Innocent look-alikes
    A TLS proxy in front of a server that sees clear text: still wrong towards the client, which sees one server.
    """
    reply = exchange.reply
    if reply is not None and exchange.encrypted and any(line[4:].upper() == b"STARTTLS" for line in reply.lines[1:]):
        yield reply.at, "STARTTLS is offered although TLS is on"


@rule(
    id="SR183",
    on=Exchange,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 3207 §4",),
    verbs=("MAIL", "RCPT", "DATA", "VRFY", "EXPN"),
    replies=(4, 5),
)
def wrong_code_for_tls_required(exchange: Exchange) -> Iterator[Said]:
    """ "Use STARTTLS first" with another code than 530.

    ## Why it matters
    530 is what RFC 3207 asks for and what clients recognise; with 550 they bounce, with 451 they try for days.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 STARTTLS
    C: MAIL FROM:<a@example.net>
    S: 550 Must issue a STARTTLS command first    <- SR183
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 STARTTLS
    C: MAIL FROM:<a@example.net>
    S: 530 Must issue a STARTTLS command first
    ```

    ## Innocent look-alikes
    451 where policy, not the server as a whole, wants TLS for this sender or recipient is close; the text decides.
    """
    reply = exchange.reply
    if reply is None or reply.code in (530, 421) or exchange.encrypted:
        return
    if _STARTTLS_FIRST.search(" ".join(reply.texts)):
        yield reply.at, f"{reply.code} where RFC 3207 wants 530"


@rule(
    id="SR200",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 3030 §3", "RFC 6531 §3.1"),
    verbs=("EHLO", "LHLO"),
    replies=(2,),
    pure=True,
)
def extension_offered_without_its_base(exchange: Exchange) -> Iterator[Said]:
    """BINARYMIME offered without CHUNKING, or SMTPUTF8 without 8BITMIME.

    ## Why it matters
    The first is of no use without the second: binary data needs BDAT, UTF-8 headers need 8-bit data. Both are MUSTs.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 SMTPUTF8                               <- SR200
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250-8BITMIME
    S: 250 SMTPUTF8
    ```

    ## Innocent look-alikes
    A middlebox may have masked the missing keyword: the server's own list cannot be seen then.
    """
    reply = exchange.reply
    if reply is None or len(reply.lines) < 2 or not _whole(reply):
        return
    offered = {line[4:].split(b" ", 1)[0].upper() for line in reply.lines[1:]}
    for name, base in ((b"BINARYMIME", b"CHUNKING"), (b"SMTPUTF8", b"8BITMIME")):
        if name in offered and base not in offered:
            yield reply.at, f"{name.decode()} is offered without {base.decode()}"


@rule(
    id="SR202",
    on=Exchange,
    severity=Severity.NOTE,
    since="0.1",
    refs=("RFC 8689 §2",),
    verbs=("EHLO",),
    replies=(2,),
    pure=True,
)
def requiretls_offered_in_clear(exchange: Exchange) -> Iterator[Said]:
    """REQUIRETLS offered before TLS has started.

    ## Why it matters
    The option means something inside TLS only; a client must ignore this offer.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 REQUIRETLS                             <- SR202
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 STARTTLS
    ```

    ## Innocent look-alikes
    None.
    """
    reply = exchange.reply
    if reply is not None and not exchange.encrypted and any(ln[4:].upper() == b"REQUIRETLS" for ln in reply.lines[1:]):
        yield reply.at, "REQUIRETLS is offered outside TLS"


@rule(
    id="SR203",
    on=Exchange,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 1870 §6.1",),
    verbs=("MAIL",),
    replies=(4, 5),
)
def size_refused_with_another_code(exchange: Exchange, state: State) -> Iterator[Said]:
    """MAIL refused for its SIZE with a code other than 552 or 452.

    ## Why it matters
    552 says the message will never fit, 452 that it may fit later; another code loses that.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 SIZE 1000
    C: MAIL FROM:<a@example.net> SIZE=2000
    S: 550 message too big                        <- SR203
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
    Refusals that have nothing to do with the size: the text must speak of it.
    """
    command, reply = exchange.command, exchange.reply
    if command is None or reply is None or reply.code in (552, 452, 421) or state.uncertain:
        return
    limit, declared = (
        number(state.extensions.get("SIZE", "")),
        number(path(command.argument, "FROM").value("SIZE") or ""),
    )
    if limit and declared and limit < declared and re.search(r"size|big|large|exceed", " ".join(reply.texts), re.I):
        yield reply.at, f"{reply.code} for a message above the SIZE limit: 552 is expected"
