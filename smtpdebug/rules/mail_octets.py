"""Content, part three: the octets of mail data (RFC 5321 sections 2.3.8, 2.4, 4.1.1.4; RFC 6152)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from smtpdebug.model.findings import Severity
from smtpdebug.model.smtp import (
    BARE_CR,
    BARE_LF,
    EIGHT_BIT,
    END_OF_DATA,
    NUL,
    Exchange,
    MailData,
)
from smtpdebug.rules.registry import Said, rule
from smtpdebug.rules.state import State

CARRIERS: Final = frozenset({END_OF_DATA, "BDAT"})
"""The exchanges that carry mail data."""


def binary(state: State) -> bool:
    """MAIL asked for BODY=BINARYMIME: then the data need not be lines (RFC 3030)."""
    return state.mail is not None and "BODY=BINARYMIME" in state.mail.argument.upper()


def odd_data(exchange: Exchange, mask: int) -> MailData | None:
    """The mail data of the exchange, if it has one of these oddities."""
    data = exchange.data
    return data if data is not None and data.oddities & mask else None


@rule(
    id="SD201",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 5321 §2.3.8", "RFC 5321 §4.1.1.4"),
    verbs=CARRIERS,
    oddities=BARE_LF,
    security=True,
)
def bare_lf_in_mail_data(exchange: Exchange, state: State) -> Iterator[Said]:
    r"""The mail data holds an LF that no CR stands before.

    ## Why it matters
    Lines of mail data end in CR LF; a bare LF MUST NOT be sent. Servers repair it in different ways, which breaks
    DKIM signatures, and a server that takes it for a line end can be fooled about the end of the message
    (CVE-2023-51764 and its siblings). Recent servers refuse it.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 2.1.0 Ok
    C: RCPT TO:<b@example.org>
    S: 250 2.1.5 Ok
    C: DATA
    S: 354 End data with <CR><LF>.<CR><LF>
    C! Subject: x\n\nhello\n
    C! \r\n.\r\n        <- SD201
    S: 250 2.0.0 Ok
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 2.1.0 Ok
    C: RCPT TO:<b@example.org>
    S: 250 2.1.5 Ok
    C: DATA
    S: 354 End data with <CR><LF>.<CR><LF>
    C: Subject: x
    C:
    C: hello
    C: .
    S: 250 2.0.0 Ok
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Innocent look-alikes
    After BODY=BINARYMIME the data is octets and this rule is silent.
    """
    data = odd_data(exchange, BARE_LF)
    if data is not None and not binary(state):
        yield data.at, "the mail data holds LF without CR"


@rule(
    id="SD202",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 5321 §2.3.8", "RFC 5321 §4.1.1.4"),
    verbs=CARRIERS,
    oddities=BARE_CR,
    security=True,
)
def bare_cr_in_mail_data(exchange: Exchange, state: State) -> Iterator[Said]:
    r"""The mail data holds a CR that no LF follows.

    ## Why it matters
    CR may only stand in CR LF. Some servers take a bare CR for a line end or drop it, others do not: signatures
    break, and the end of the message can be forged for one of them.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 2.1.0 Ok
    C: RCPT TO:<b@example.org>
    S: 250 2.1.5 Ok
    C: DATA
    S: 354 End data with <CR><LF>.<CR><LF>
    C! Subject: x\r\n\r\nhel\rlo
    C! \r\n.\r\n        <- SD202
    S: 250 2.0.0 Ok
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 2.1.0 Ok
    C: RCPT TO:<b@example.org>
    S: 250 2.1.5 Ok
    C: DATA
    S: 354 End data with <CR><LF>.<CR><LF>
    C: Subject: x
    C:
    C: hello
    C: .
    S: 250 2.0.0 Ok
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Innocent look-alikes
    After BODY=BINARYMIME the data is octets and this rule is silent.
    """
    data = odd_data(exchange, BARE_CR)
    if data is not None and not binary(state):
        yield data.at, "the mail data holds CR without LF"


@rule(
    id="SD203",
    on=Exchange,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 5321 §4.1.1.4", "RFC 5322 §2.2"),
    verbs=CARRIERS,
    oddities=NUL,
)
def nul_in_mail_data(exchange: Exchange, state: State) -> Iterator[Said]:
    r"""The mail data holds a NUL octet.

    ## Why it matters
    NUL is not text. Servers strip it, refuse the message or cut it there; scanners may stop reading at it.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 2.1.0 Ok
    C: RCPT TO:<b@example.org>
    S: 250 2.1.5 Ok
    C: DATA
    S: 354 End data with <CR><LF>.<CR><LF>
    C! Subject: x\r\n\r\nhel\x00lo
    C! \r\n.\r\n        <- SD203
    S: 250 2.0.0 Ok
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 2.1.0 Ok
    C: RCPT TO:<b@example.org>
    S: 250 2.1.5 Ok
    C: DATA
    S: 354 End data with <CR><LF>.<CR><LF>
    C: hello
    C: .
    S: 250 2.0.0 Ok
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Innocent look-alikes
    After BODY=BINARYMIME NUL is allowed.
    """
    data = odd_data(exchange, NUL)
    if data is not None and not binary(state):
        yield data.at, "the mail data holds NUL"


@rule(
    id="SD204",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 6152 §3", "RFC 5321 §2.4"),
    verbs=CARRIERS,
    oddities=EIGHT_BIT,
)
def eight_bit_mail_data_not_offered(exchange: Exchange, state: State) -> Iterator[Said]:
    r"""Mail data with octets above 127 goes to a server that does not offer 8BITMIME.

    ## Why it matters
    Without 8BITMIME mail data is ASCII, and the client "must not, under any circumstances" send more; the server
    may clear the top bit. The client has to encode the body (quoted-printable, base64) or return the message.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 2.1.0 Ok
    C: RCPT TO:<b@example.org>
    S: 250 2.1.5 Ok
    C: DATA
    S: 354 End data with <CR><LF>.<CR><LF>
    C! Subject: x\r\n\r\ncaf\xc3\xa9
    C! \r\n.\r\n        <- SD204
    S: 250 2.0.0 Ok
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 2.1.0 Ok
    C: RCPT TO:<b@example.org>
    S: 250 2.1.5 Ok
    C: DATA
    S: 354 End data with <CR><LF>.<CR><LF>
    C: Content-Transfer-Encoding: quoted-printable
    C:
    C: caf=C3=A9
    C: .
    S: 250 2.0.0 Ok
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Innocent look-alikes
    Nearly every server handles such data all the same; the rule is about what was agreed.
    """
    if odd_data(exchange, EIGHT_BIT) is None or _asked_for_eight_bit(state) or state.uncertain or state.helo is None:
        return
    if not state.offers("8BITMIME") and exchange.data is not None:
        yield exchange.data.at, "the mail data holds octets above 127; 8BITMIME is not offered"


@rule(
    id="SD205",
    on=Exchange,
    severity=Severity.NOTE,
    since="0.1",
    refs=("RFC 6152 §3", "RFC 5321 §4.1.1.4"),
    verbs=CARRIERS,
    oddities=EIGHT_BIT,
)
def eight_bit_mail_data_undeclared(exchange: Exchange, state: State) -> Iterator[Said]:
    r"""Mail data with octets above 127 was not declared with BODY=8BITMIME, which the server offers.

    ## Why it matters
    The server learns from BODY=8BITMIME that it may have to convert the message for the next hop. Undeclared it is
    passed on as ASCII, and a strict next hop refuses or mangles it.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 8BITMIME
    C: MAIL FROM:<a@example.net>
    S: 250 2.1.0 Ok
    C: RCPT TO:<b@example.org>
    S: 250 2.1.5 Ok
    C: DATA
    S: 354 End data with <CR><LF>.<CR><LF>
    C! Subject: x\r\n\r\ncaf\xc3\xa9
    C! \r\n.\r\n        <- SD205
    S: 250 2.0.0 Ok
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 8BITMIME
    C: MAIL FROM:<a@example.net> BODY=8BITMIME
    S: 250 2.1.0 Ok
    C: RCPT TO:<b@example.org>
    S: 250 2.1.5 Ok
    C: DATA
    S: 354 End data with <CR><LF>.<CR><LF>
    C! Subject: x\r\n\r\ncaf\xc3\xa9
    C! \r\n.\r\n
    S: 250 2.0.0 Ok
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Innocent look-alikes
    BODY=BINARYMIME and SMTPUTF8 declare it too. Many mail programs never declare it (smtplib, swaks), and nearly
    every server takes it; hence a note.
    """
    if odd_data(exchange, EIGHT_BIT) is None or _asked_for_eight_bit(state) or state.uncertain or state.helo is None:
        return
    if state.offers("8BITMIME") and exchange.data is not None:
        yield exchange.data.at, "the mail data holds octets above 127; MAIL has no BODY=8BITMIME"


def _asked_for_eight_bit(state: State) -> bool:
    if state.mail is None:
        return True  # the transaction is not known: no judgement
    argument = state.mail.argument.upper()
    return "BODY=8BITMIME" in argument or "BODY=BINARYMIME" in argument or " SMTPUTF8" in argument
