"""Content, part five: the end of mail data forged (RFC 5321 section 4.1.1.4; CVE-2023-51764, -51765, -51766)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from smtpdebug.model.findings import Severity
from smtpdebug.model.smtp import END_OF_DATA, ODD_END, Conversation, Exchange, MailData, OddEnd
from smtpdebug.rules.registry import Said, rule

COMMANDS: Final = re.compile(
    rb"(?:\A|[\r\n])[ \t]*(?:MAIL[ \t]+FROM:|RCPT[ \t]+TO:|(?:EHLO|HELO|LHLO)[ \t]+\S|(?:DATA|RSET|QUIT)[ \t]*[\r\n])",
    re.IGNORECASE,
)
"""A command at the start of a line."""
LISTED: Final = 5
"""Look-alikes named one by one for a message; a message may be made of nothing else."""


def spelt(sequence: bytes) -> str:
    """``<CR>`` and ``<LF>`` for people."""
    return sequence.replace(b"\r", b"<CR>").replace(b"\n", b"<LF>").decode("ascii", "backslashreplace")


def taken_as_end(data: MailData) -> OddEnd | None:
    """The look-alike at which the server ended the message, or ``None`` if it ended as it should or not at all.

    The true end is the five octets CR LF dot CR LF; a look-alike was taken if the data ends where it stands.
    """
    if not data.ended or data.end < 0:
        return None
    return next((odd for odd in data.odd_ends if 0 <= data.end - odd.offset <= 3), None)


@rule(
    id="SD301",
    on=Exchange,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 5321 §4.1.1.4", "RFC 5321 §2.3.8", "CVE-2023-51764"),
    verbs={END_OF_DATA},
    oddities=ODD_END,
    security=True,
)
def end_of_mail_data_look_alike(exchange: Exchange) -> Iterator[Said]:
    r"""The mail data holds a line of one dot whose line ends are not CR LF.

    ## Why it matters
    Only CR LF dot CR LF ends the data. A server that also takes LF dot LF, LF dot CR LF, CR LF dot LF or forms with CR
    can be made to see a second message inside the first, with any sender, behind the first server's SPF and DKIM: SMTP
    smuggling. This rule reports the attempt; whether it worked is SD303.

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
    C! Subject: x\r\n\r\nhello\n.\nthe rest\r\n        <- SD301
    C: .
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
    C: ..
    C: the rest
    C: .
    S: 250 2.0.0 Ok
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Innocent look-alikes
    A program that sends a text file with Unix line ends makes LF dot LF by accident where the text has a line of one
    dot. Without commands after it (SD302) that is the likelier reading.
    """
    data = exchange.data
    if data is None:
        return
    for odd in data.odd_ends[:LISTED]:
        yield odd.at, f"{spelt(odd.sequence)} looks like the end of the mail data and is not"
    if len(data.odd_ends) > LISTED:
        yield data.at, f"{len(data.odd_ends) - LISTED} more look-alikes of the end of the mail data"


@rule(
    id="SD302",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 5321 §4.1.1.4", "CVE-2023-51764", "CVE-2023-51765", "CVE-2023-51766"),
    verbs={END_OF_DATA},
    oddities=ODD_END,
    security=True,
)
def commands_after_end_look_alike(exchange: Exchange) -> Iterator[Said]:
    r"""SMTP commands stand in the mail data right after a false end of data.

    ## Why it matters
    A line of one dot can happen; MAIL FROM, RCPT TO and DATA behind it do not. Somebody tries to smuggle a second
    message past the first server.

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
    C! hello\n.\nMAIL FROM:<admin@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n        <- SD302
    C: .
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
    A mail about SMTP may quote a dialogue; with CR LF line ends its dots are doubled and it is not counted.
    """
    data = exchange.data
    if data is None:
        return
    for odd in data.odd_ends[:LISTED]:
        found = COMMANDS.search(odd.following)
        if found:
            verb = found[0].split()[0].split(b":")[0].decode("ascii", "replace").upper()
            yield odd.at, f"{verb} follows {spelt(odd.sequence)} inside the mail data: a smuggled message"


@rule(
    id="SD303",
    on=Conversation,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 5321 §4.1.1.4", "CVE-2023-51764", "CVE-2023-51765", "CVE-2023-51766"),
    security=True,
)
def end_look_alike_accepted(conversation: Conversation) -> Iterator[Said]:
    r"""The server took something other than CR LF dot CR LF for the end of the mail data.

    ## Why it matters
    "SMTP server systems MUST NOT do this." Such a server lets one client's message become two: what follows is taken
    as commands, with any envelope. Update it, or switch the strict mode on (Postfix: smtpd_forbid_bare_newline).

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
    C! hello\r\n.\n        <- SD303
    S: 250 2.0.0 Ok: queued as 1
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
    S: 250 2.0.0 Ok: queued as 1
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Innocent look-alikes
    A reply before the end of the data (SD210) that refuses the message, such as 554 for a bare LF, is the right
    defence and no acceptance.
    """
    if not any(message.data is not None and message.data.odd_ends for message in conversation.messages):
        return
    exchanges = conversation.exchanges
    for index, exchange in enumerate(exchanges):
        data = exchange.data
        if data is None or not data.odd_ends or exchange.reply is None:
            continue
        odd = taken_as_end(data)
        if odd is None:
            continue
        answered = [e for e in exchanges[index + 1 :] if e.reply is not None and e.command is not None]
        if 200 <= exchange.reply.code < 300 or answered:
            also = f"; {answered[0].command.verb} after it was answered" if answered and answered[0].command else ""
            yield odd.at, f"the server took {spelt(odd.sequence)} for the end and replied {exchange.reply.code}{also}"
