"""Content, part one: how command and reply lines are made (RFC 5321 sections 2.3.8, 2.4, 4.1.2, 4.2, 4.5.3.1)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from smtpdebug.model.findings import Severity
from smtpdebug.model.smtp import (
    AFTER_GAP,
    AUTH_ANSWER,
    BARE_CR,
    BARE_LF,
    CONTROL,
    EIGHT_BIT,
    LEADING_SPACE,
    NUL,
    TRAILING_SPACE,
    UNTERMINATED,
    Command,
    Conversation,
    Exchange,
)
from smtpdebug.rules.registry import UNFINISHED, Said, rule
from smtpdebug.rules.state import State

SMTP_VERBS: Final = frozenset(
    {
        *("EHLO", "HELO", "LHLO", "MAIL", "RCPT", "DATA", "BDAT", "BURL", "RSET", "NOOP", "QUIT"),
        *("VRFY", "EXPN", "HELP", "STARTTLS", "AUTH", "ETRN", "XCLIENT", "XFORWARD"),
    }
)
"""Verbs that show that the client speaks SMTP; other protocols and binary noise are not judged octet by octet."""


def own(exchange: Exchange, mask: int) -> Command | None:
    """The command, where it has the oddity itself and is SMTP."""
    command = exchange.command
    if command is None or not command.oddities & mask:
        return None
    return command if command.verb in SMTP_VERBS or command.verb == AUTH_ANSWER else None


@rule(
    id="SD101",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 5321 §2.3.8", "RFC 5321 §4.1.1.4"),
    oddities=BARE_LF,
)
def line_ended_by_bare_lf(exchange: Exchange) -> Iterator[Said]:
    r"""A command or reply line ends in LF without CR.

    ## Why it matters
    Lines end in CR LF and in nothing else. Many peers are lenient, some wait for ever for the CR, and two that
    disagree on where a line ends can be made to disagree on where a message ends.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C! EHLO client.example.net\n        <- SD101
    S: 250 mx.example.org
    C: QUIT
    S: 221 mx.example.org
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: QUIT
    S: 221 mx.example.org
    ```

    ## Innocent look-alikes
    A person typing with netcat sends bare LF. It is the same fault, without a program behind it.
    """
    command, reply = exchange.command, exchange.reply
    if command is not None and command.oddities & BARE_LF and not command.oddities & UNTERMINATED:
        yield command.at, f"the {command.verb or 'empty'} line ends in LF without CR"
    if reply is not None and reply.oddities & BARE_LF:
        yield reply.at, f"a line of the reply {reply.code} ends in LF without CR"


@rule(
    id="SD102",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 5321 §2.3.8",),
    oddities=BARE_CR,
    security=True,
)
def bare_cr_in_line(exchange: Exchange) -> Iterator[Said]:
    r"""A CR that is not followed by LF stands in a command or reply line.

    ## Why it matters
    RFC 5321 allows CR only as part of CR LF. Where one peer reads the CR as a line end and the other does not, a
    command can be hidden in another one's argument.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C! EHLO client.example\r.net\r\n        <- SD102
    S: 250 mx.example.org
    C: QUIT
    S: 221 mx.example.org
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: QUIT
    S: 221 mx.example.org
    ```

    ## Innocent look-alikes
    None: no program sends this on purpose in a healthy conversation.
    """
    command, reply = own(exchange, BARE_CR), exchange.reply
    if command is not None and not command.oddities & UNTERMINATED:
        yield command.at, f"the {command.verb} line holds a CR without LF"
    if reply is not None and reply.oddities & BARE_CR:
        yield reply.at, f"the reply {reply.code} holds a CR without LF"


@rule(
    id="SD103",
    on=Exchange,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 5321 §4.1.2", "RFC 5321 §4.2"),
    oddities=NUL,
)
def nul_in_line(exchange: Exchange) -> Iterator[Said]:
    r"""A NUL octet stands in a command or reply line.

    ## Why it matters
    Programs written in C end their strings there: what follows the NUL is seen by one and not by another.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C! MAIL FROM:<a@example.net\x00.example.org>\r\n        <- SD103
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
    TLS or another binary protocol on an SMTP port is full of NULs; it is named by other rules and not here.
    """
    command, reply = own(exchange, NUL), exchange.reply
    if command is not None:
        yield command.at, f"the {command.verb} line holds a NUL"
    if reply is not None and reply.oddities & NUL:
        yield reply.at, f"the reply {reply.code} holds a NUL"


@rule(id="SD104", on=Exchange, severity=Severity.ERROR, since="0.1", refs=("RFC 5321 §4.1.2",), oddities=CONTROL)
def control_character_in_command(exchange: Exchange) -> Iterator[Said]:
    r"""A control character stands in a command line.

    ## Why it matters
    The grammar of host names and mailboxes has no place for control characters, not even quoted ones: "systems MUST
    NOT define mailboxes in such a way as to require the use in SMTP of ... control characters". They come from
    broken input handling, backspaces typed into telnet, or an attempt to forge log lines.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C! EHLO clienx\x08t.example.net\r\n        <- SD104
    S: 501 5.5.4 Syntax
    C: QUIT
    S: 221 mx.example.org
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: QUIT
    S: 221 mx.example.org
    ```

    ## Innocent look-alikes
    A tab between a command's words is not counted; binary protocols on an SMTP port are not either.
    """
    command = own(exchange, CONTROL)
    if command is not None and command.verb in SMTP_VERBS:
        yield command.at, f"the {command.verb} line holds a control character"


@rule(
    id="SD105",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 5321 §2.4", "RFC 6531 §3.1"),
    oddities=EIGHT_BIT,
)
def eight_bit_command(exchange: Exchange, state: State) -> Iterator[Said]:
    r"""A command holds octets above 127 though the server does not offer SMTPUTF8.

    ## Why it matters
    Commands are ASCII. Only SMTPUTF8 allows more, as UTF-8; without it the server reads octets of an unknown
    character set, and may deliver to somebody else or nobody.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 8BITMIME
    C! MAIL FROM:<andr\xc3\xa9@example.net>\r\n        <- SD105
    S: 501 5.1.7 Bad sender address syntax
    C: QUIT
    S: 221 mx.example.org
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250-8BITMIME
    S: 250 SMTPUTF8
    C! MAIL FROM:<andr\xc3\xa9@example.net> SMTPUTF8\r\n
    S: 250 2.1.0 Ok
    C: QUIT
    S: 221 mx.example.org
    ```

    ## Innocent look-alikes
    Where SMTPUTF8 is offered but the sender did not ask for it, the rules on SMTPUTF8 speak and this one does not.
    """
    command = own(exchange, EIGHT_BIT)
    if command is not None and not state.uncertain and not state.offers("SMTPUTF8"):
        yield command.at, f"the {command.verb} line holds octets above 127; SMTPUTF8 is not offered"


@rule(
    id="SD106",
    on=Exchange,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 5321 §4.2", "RFC 6531 §3.7.4"),
    oddities=EIGHT_BIT,
)
def eight_bit_reply(exchange: Exchange, state: State) -> Iterator[Said]:
    r"""A reply holds octets above 127 in a transaction that did not ask for SMTPUTF8.

    ## Why it matters
    Reply text is ASCII. Clients copy it into logs and bounces, where raw octets of an unknown character set break
    the delivery status notification. UTF-8 is allowed only after MAIL with SMTPUTF8 (RFC 6531 section 3.7.4).

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S! 550 5.7.1 Zugriff verweigert f\xfcr Sie\r\n        <- SD106
    C: QUIT
    S: 221 mx.example.org
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 550 5.7.1 Access denied
    C: QUIT
    S: 221 mx.example.org
    ```

    ## Innocent look-alikes
    VRFY and EXPN with the SMTPUTF8 parameter may be answered in UTF-8 too.
    """
    reply = exchange.reply
    if reply is None or not reply.oddities & EIGHT_BIT or state.uncertain:
        return
    asked = (state.mail, exchange.command)
    if not any(command is not None and "SMTPUTF8" in command.argument.upper() for command in asked):
        yield reply.at, f"the reply {reply.code} holds octets above 127; the client did not ask for SMTPUTF8"


@rule(id="SD107", on=Exchange, severity=Severity.NOTE, since="0.1", refs=("RFC 5321 §4.1.1",), oddities=TRAILING_SPACE)
def trailing_space_in_command(exchange: Exchange) -> Iterator[Said]:
    """A command line ends in spaces.

    ## Why it matters
    Receivers should tolerate it, and most do; some take the space as part of the argument and answer 501.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C! RSET \\r\\n        <- SD107
    S: 250 2.0.0 Ok
    C: QUIT
    S: 221 mx.example.org
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: RSET
    S: 250 2.0.0 Ok
    C: QUIT
    S: 221 mx.example.org
    ```

    ## Innocent look-alikes
    An answer in an AUTH exchange is not judged here.
    """
    command = own(exchange, TRAILING_SPACE)
    if command is not None and command.verb in SMTP_VERBS and not command.oddities & UNTERMINATED:
        yield command.at, f"the {command.verb} line ends in white space"


@rule(
    id="SD108",
    on=Exchange,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 5321 §2.4", "RFC 5321 §4.1.1"),
    oddities=LEADING_SPACE,
)
def leading_space_in_command(exchange: Exchange) -> Iterator[Said]:
    r"""A command line begins with white space.

    ## Why it matters
    The verb is the first thing on the line. Servers differ: some skip the space, some answer 500.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C! \x20EHLO client.example.net\r\n        <- SD108
    S: 500 5.5.2 Error: bad syntax
    C: QUIT
    S: 221 mx.example.org
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: QUIT
    S: 221 mx.example.org
    ```

    ## Innocent look-alikes
    Mail data that the server refused with DATA is read as commands; indented lines of it are the fault of that.
    """
    command = own(exchange, LEADING_SPACE)
    if command is not None and command.verb in SMTP_VERBS and not command.oddities & AFTER_GAP:
        yield command.at, f"white space stands before {command.verb}"


@rule(id="SD114", on=Exchange, severity=Severity.WARNING, since="0.1", refs=("RFC 5321 §4.2",), oddities=CONTROL)
def control_character_in_reply(exchange: Exchange) -> Iterator[Said]:
    r"""A reply holds a control character.

    ## Why it matters
    Reply text is tabs and printable ASCII. Control characters end up in logs and terminals of whoever reads them.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: NOOP
    S! 250 \x1b[31mOk\r\n        <- SD114
    C: QUIT
    S: 221 mx.example.org
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: NOOP
    S: 250 Ok
    C: QUIT
    S: 221 mx.example.org
    ```

    ## Innocent look-alikes
    Tabs are allowed.
    """
    reply = exchange.reply
    if reply is not None and reply.oddities & CONTROL and reply.code:
        yield reply.at, f"the reply {reply.code} holds a control character"


@rule(
    id="SD115",
    on=Conversation,
    when=UNFINISHED,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 5321 §2.3.8", "RFC 5321 §2.4"),
)
def line_cut_off_by_close(conversation: Conversation) -> Iterator[Said]:
    r"""The client closed in the middle of a command line.

    ## Why it matters
    A line without its CR LF is no command: the server must not act on it. Something ended the client in the middle.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C! QUIT        <- SD115
    C closes
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: QUIT
    S: 221 mx.example.org
    C closes
    ```

    ## Innocent look-alikes
    A line at the end of a capture that was stopped, or before bytes that are missing, is not counted.
    """
    if not conversation.exchanges or not (conversation.stream.closed_by or "").startswith("client"):
        return
    command = conversation.exchanges[-1].command
    if command is None or not command.oddities & UNTERMINATED or any(conversation.stream.missing):
        return
    if not command.oddities & AFTER_GAP and command.verb in SMTP_VERBS:
        yield command.at, f"the client closed in the middle of a {command.verb} line"
