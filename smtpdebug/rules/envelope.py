"""MAIL and RCPT: their syntax and addresses (RFC 5321 sections 3.3, 4.1.1.2, 4.1.1.3 and 4.1.2)."""

from __future__ import annotations

from collections.abc import Iterator

from smtpdebug.model.findings import Severity
from smtpdebug.model.smtp import AFTER_GAP, CONTROL, EIGHT_BIT, NUL, OVERLONG, Exchange
from smtpdebug.rules.registry import ODD_PATH, Said, rule
from smtpdebug.rules.state import State
from smtpdebug.rules.syntax import Path, mailbox_fault, path

_ELSEWHERE = AFTER_GAP | OVERLONG
"""Lines whose text is not all there."""


def envelope(exchange: Exchange) -> Path | None:
    """The argument of MAIL or RCPT taken apart; ``None`` where the line is not whole."""
    command = exchange.command
    if command is None or command.oddities & _ELSEWHERE:
        return None
    return path(command.argument, "FROM" if command.verb == "MAIL" else "TO")


@rule(
    id="SC123",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 5321 §3.3", "RFC 5321 §4.1.1.2", "RFC 5321 §4.1.1.3"),
    verbs=("MAIL", "RCPT"),
    when=ODD_PATH,
)
def envelope_syntax_wrong(exchange: Exchange, state: State) -> Iterator[Said]:
    """MAIL or RCPT that is not `FROM:<path>` or `TO:<path>`: a space at the colon, brackets missing, another keyword.

    ## Why it matters
    "Spaces are not permitted on either side of the colon … The syntax is exactly as given above." Lenient servers let
    it pass, strict ones answer 501.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM: <a@example.net>                 <- SC123
    S: 250 OK
    C: RCPT TO:b@example.org                      <- SC123
    S: 250 OK
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 OK
    C: RCPT TO:<b@example.org>
    S: 250 OK
    ```

    ## Innocent look-alikes
    Lower case (`mail from:<a@b>`), parameters after the path, and `<>` as a sender are all right. Lines of a message
    that was sent although DATA was refused are SC112's.
    """
    found, command = envelope(exchange), exchange.command
    if found is None or command is None or state.uncertain or state.spilled:
        return
    keyword = "FROM" if command.verb == "MAIL" else "TO"
    if not found.keyword:
        yield command.at, f"{command.verb} without {keyword}:"
    elif found.spaced:
        yield command.at, f"a space at the colon of {command.verb} {keyword}:"
    elif not found.bracketed:
        yield command.at, f"{command.verb} {keyword}: without <> around the address"


@rule(
    id="SC125",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 5321 §4.1.1.3",),
    verbs=("RCPT",),
    when=ODD_PATH,
)
def recipient_empty(exchange: Exchange) -> Iterator[Said]:
    """`RCPT TO:<>`.

    ## Why it matters
    The null path is for senders of bounces only; nobody can receive mail under it.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 OK
    C: RCPT TO:<>                                 <- SC125
    S: 501 syntax
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<>
    S: 250 OK
    C: RCPT TO:<b@example.org>
    S: 250 OK
    ```

    ## Innocent look-alikes
    `MAIL FROM:<>` is how bounces are sent (§4.5.5).
    """
    found = envelope(exchange)
    if found is not None and exchange.command is not None and found.keyword and found.bracketed and not found.address:
        yield exchange.command.at, "RCPT to the null path"


@rule(
    id="SC126",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 5321 §4.1.2", "RFC 5321 §4.1.3"),
    verbs=("MAIL", "RCPT"),
    when=ODD_PATH,
)
def address_malformed(exchange: Exchange, state: State) -> Iterator[Said]:
    """An address in MAIL or RCPT that is no mailbox by the grammar.

    ## Why it matters
    One server takes it, the next answers 501, and the message is stuck between them. Two dots in a row, a space, a
    missing domain and an underscore in the domain are the common ones.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 OK
    C: RCPT TO:<al ice@example.org>               <- SC126
    S: 501 syntax
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 OK
    C: RCPT TO:<"al ice"@example.org>
    S: 250 OK
    ```

    ## Innocent look-alikes
    `<>` as a sender, `<postmaster>` as a recipient, quoted local parts, address literals, UTF-8 (rules of its own),
    source routes (SC127). Local addresses without a domain at LMTP.
    """
    found, command = envelope(exchange), exchange.command
    if found is None or command is None or not found.address or state.uncertain:
        return
    if command.oddities & (CONTROL | NUL) or (state.lmtp and "@" not in found.address):
        return
    fault = mailbox_fault(found.address, postmaster=command.verb == "RCPT")
    if fault is not None:
        yield command.at, f"<{found.address[:100]}> is no mailbox: {fault}"


@rule(
    id="SC127",
    on=Exchange,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 5321 §3.3", "RFC 5321 §4.1.2", "RFC 5321 Appendix C"),
    verbs=("MAIL", "RCPT"),
    when=ODD_PATH,
)
def source_route_used(exchange: Exchange) -> Iterator[Said]:
    """A source route (`<@relay:user@host>`) in a path.

    ## Why it matters
    Clients SHOULD NOT generate them; servers ignore them or take them for an attempt to relay.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 OK
    C: RCPT TO:<@relay.example.net:b@example.org> <- SC127
    S: 250 OK
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 OK
    C: RCPT TO:<b@example.org>
    S: 250 OK
    ```

    ## Innocent look-alikes
    A quoted local part that holds `@` and `:`.
    """
    found = envelope(exchange)
    if found is not None and exchange.command is not None and found.route:
        yield exchange.command.at, f"source route {found.route[:80]}"


@rule(
    id="SC132",
    on=Exchange,
    severity=Severity.NOTE,
    since="0.1",
    refs=("RFC 5321 §4.5.5",),
    verbs=("RCPT",),
    replies=(2,),
)
def bounce_to_several_recipients(exchange: Exchange, state: State) -> Iterator[Said]:
    """A message from the null sender to more than one recipient.

    ## Why it matters
    Bounces go to the one sender of the message that failed. Several recipients mean a list, a redirected bounce, or
    mail that hides its sender.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<>
    S: 250 OK
    C: RCPT TO:<b@example.org>
    S: 250 OK
    C: RCPT TO:<c@example.org>                    <- SC132
    S: 250 OK
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<>
    S: 250 OK
    C: RCPT TO:<b@example.org>
    S: 250 OK
    ```

    ## Innocent look-alikes
    An alias on the way may have made several recipients of one: a note.
    """
    mail, command = state.mail, exchange.command
    if mail is None or command is None or state.rcpt_accepted != 1 or state.lmtp:
        return
    if path(mail.argument, "FROM").address == "":
        yield command.at, "a second recipient for a message from <>"


@rule(
    id="SC180",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 6531 §3.2", "RFC 6531 §3.4"),
    verbs=("MAIL", "RCPT"),
    oddities=EIGHT_BIT,
)
def utf8_address_without_asking(exchange: Exchange, state: State) -> Iterator[Said]:
    """An address with non-ASCII octets though SMTPUTF8 was not offered, or MAIL did not ask for it.

    ## Why it matters
    Without the parameter the octets have no meaning; the server may answer 501 or 553, or mangle them.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250-8BITMIME
    S: 250 SMTPUTF8
    C: MAIL FROM:<a@example.net>
    S: 250 OK
    C: RCPT TO:<bö@example.org>                   <- SC180
    S: 553 SMTPUTF8 required
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250-8BITMIME
    S: 250 SMTPUTF8
    C: MAIL FROM:<a@example.net> SMTPUTF8
    S: 250 OK
    C: RCPT TO:<bö@example.org>
    S: 250 OK
    ```

    ## Innocent look-alikes
    A capture that begins after EHLO or MAIL.
    """
    command = exchange.command
    if command is None or state.uncertain or command.oddities & AFTER_GAP:
        return
    if not state.offers("SMTPUTF8"):
        yield command.at, "an address with octets above 127, SMTPUTF8 was not offered"
        return
    mail = command if command.verb == "MAIL" else state.mail
    if mail is not None and path(mail.argument, "FROM").value("SMTPUTF8") is None:
        yield command.at, "an address with octets above 127, but MAIL does not say SMTPUTF8"


@rule(
    id="SC182",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 6531 §3.3", "RFC 3629 §4"),
    verbs=("MAIL", "RCPT"),
    oddities=EIGHT_BIT,
)
def address_not_utf8(exchange: Exchange) -> Iterator[Said]:
    """An address with octets above 127 that are not UTF-8.

    ## Why it matters
    SMTPUTF8 allows UTF-8 and nothing else; Latin-1 in an address means another mailbox on each system.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250-8BITMIME
    S: 250 SMTPUTF8
    C: MAIL FROM:<a@example.net> SMTPUTF8
    S: 250 OK
    C! RCPT TO:<b\\xf6@example.org>\\r\\n           <- SC182
    S: 501 not UTF-8
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250-8BITMIME
    S: 250 SMTPUTF8
    C: MAIL FROM:<a@example.net> SMTPUTF8
    S: 250 OK
    C: RCPT TO:<bö@example.org>
    S: 250 OK
    ```

    ## Innocent look-alikes
    None.
    """
    command = exchange.command
    if command is None or command.oddities & _ELSEWHERE:
        return
    try:
        command.line.decode("utf-8")
    except UnicodeDecodeError:
        yield command.at, "the address is not UTF-8"
