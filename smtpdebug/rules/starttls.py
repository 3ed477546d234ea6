"""Transport, part one: the way into TLS, and what is done in clear instead (RFC 3207, RFC 4954, RFC 8314)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from smtpdebug.model.findings import Severity
from smtpdebug.model.smtp import GREETING, Command, Conversation, Exchange, Injected, Reply
from smtpdebug.model.streams import CLIENT, SERVER
from smtpdebug.rules.memory import Earlier
from smtpdebug.rules.registry import WITH_TLS, Said, rule
from smtpdebug.rules.sighting import Sighting

MASK: Final = re.compile(r"X{7,}[A-Z]?$|\*{4,}$")
"""What firewalls (Cisco PIX and ASA, ``inspect esmtp``) write over a keyword or verb, length kept."""
STARRED: Final = re.compile(r"[20 *\t]*\*[20 *\t]*$")
"""A greeting after a PIX: Postfix tells it by strspn(text, "20 *\\t\\n")."""
KEYWORD_LENGTH: Final = len("STARTTLS")


def masked_keyword(reply: Reply) -> str | None:
    """A keyword of an EHLO reply that something has written over, or ``None``."""
    return _masked_keyword(tuple(reply.lines[1:]))


@lru_cache(maxsize=512)
def _masked_keyword(lines: tuple[bytes, ...]) -> str | None:
    for line in lines:
        keyword = line[4:].decode("utf-8", "backslashreplace").strip().split(" ")[0].upper()
        if MASK.match(keyword):
            return keyword
        if len(keyword) == KEYWORD_LENGTH and keyword != "STARTTLS":
            # one or two letters of STARTTLS changed: "STARTTLX", "STARTXXX"
            same = sum(a == b for a, b in zip(keyword, "STARTTLS", strict=True))
            if same >= KEYWORD_LENGTH - 3 and keyword.startswith("START"):
                return keyword
    return None


def masked_verb(command: Command) -> bool:
    """A command whose verb something has written over."""
    return MASK.match(command.verb) is not None and not command.argument


def masked_greeting(reply: Reply) -> bool:
    """A greeting whose text is stars, twos and noughts."""
    text = reply.texts[0].strip() if reply.lines else ""
    return reply.code == 220 and text.count("*") >= 4 and STARRED.match(text) is not None


def _injected(conversation: Conversation, side: int) -> Iterator[Injected]:
    for item in conversation.timeline:
        if item.__class__ is Injected and item.side == side:
            yield item


@rule(
    id="ST101",
    on=Conversation,
    when=WITH_TLS,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 3207 §4", "RFC 3207 §6", "CVE-2011-0411"),
    security=True,
)
def plaintext_after_starttls_command(conversation: Conversation) -> Iterator[Said]:
    r"""The client, or somebody in its place, sent plaintext after STARTTLS and before TLS.

    ## Why it matters
    A server that keeps what it has read will carry out these commands as if they had come inside TLS: command
    injection. A client has to wait for the reply to STARTTLS, which is always the last of a group.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 STARTTLS
    C! STARTTLS\r\nRSET\r\n        <- ST101
    S: 220 2.0.0 Ready to start TLS
    -- tls --
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 STARTTLS
    C: STARTTLS
    S: 220 2.0.0 Ready to start TLS
    -- tls --
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Innocent look-alikes
    The ClientHello may be captured before the 220; TLS records are not plaintext and are not counted.
    """
    for item in _injected(conversation, CLIENT):
        yield item.at, f"{len(item.data):,} bytes of plaintext from the client between STARTTLS and TLS"


@rule(
    id="ST102",
    on=Conversation,
    when=WITH_TLS,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 3207 §4", "RFC 3207 §6", "CVE-2021-22947", "CVE-2021-38371"),
    security=True,
)
def plaintext_after_starttls_reply(conversation: Conversation) -> Iterator[Said]:
    r"""Plaintext came from the server's side after the 220 to STARTTLS and before TLS.

    ## Why it matters
    A client that keeps what it has read takes these lines for replies from inside TLS: response injection. Whoever
    holds the line can so forge a capability list or answer a login.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 STARTTLS
    C: STARTTLS
    S! 220 2.0.0 Ready to start TLS\r\n250-mx.example.org\r\n250 AUTH PLAIN\r\n        <- ST102
    -- tls --
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 STARTTLS
    C: STARTTLS
    S: 220 2.0.0 Ready to start TLS
    -- tls --
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Innocent look-alikes
    A server that was sent pipelined commands after STARTTLS answers them here; then ST101 speaks too.
    """
    for item in _injected(conversation, SERVER):
        yield item.at, f"{len(item.data):,} bytes of plaintext from the server between its 220 and TLS"
    if conversation.tls is None:
        return
    agreed, hello = False, conversation.tls.client_hello
    for exchange in conversation.exchanges:
        command, reply = exchange.command, exchange.reply
        if reply is None:
            continue
        if agreed and command is None and not reply.encrypted:
            if hello is not None and reply.began.ts_ns > hello.ts_ns:
                return  # its answer to the ClientHello: it does not begin TLS after all
            yield reply.at, f"the reply {reply.code} came in clear between the server's 220 and TLS"
        elif reply.encrypted:
            return
        elif command is not None:
            agreed = command.verb == "STARTTLS" and reply.code == 220


@rule(
    id="ST103",
    on=Exchange,
    severity=Severity.WARNING,
    since="0.1",
    pure=True,
    refs=("RFC 3207 §6",),
    verbs={"EHLO", "LHLO"},
    replies={2},
    security=True,
)
def starttls_keyword_masked(exchange: Exchange) -> Iterator[Said]:
    """A keyword of the EHLO reply is written over, as firewalls do to keep STARTTLS from being used.

    ## Why it matters
    Something between the peers changes the conversation so that it stays in clear. Cisco's SMTP inspection writes
    XXXXXXXA over STARTTLS; others change a letter. Mail and passwords can then be read on the way.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250-XXXXXXXA
    S: 250 8BITMIME        <- ST103
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250-STARTTLS
    S: 250 8BITMIME
    C: STARTTLS
    S: 220 2.0.0 Ready to start TLS
    -- tls --
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Innocent look-alikes
    Keywords that begin with one X are private extensions (RFC 5321 section 4.1.5), as XCLIENT.
    """
    reply = exchange.reply
    if reply is None:
        return
    for text in reply.lines[1:]:
        if text[4:5] in (b"X", b"S", b"*", b"x", b"s"):
            keyword = masked_keyword(reply)
            if keyword is not None:
                yield reply.at, f"the keyword {keyword} looks like STARTTLS written over on the way"
            return


@rule(
    id="ST104", on=Exchange, severity=Severity.WARNING, since="0.1", refs=("RFC 3207 §6",), replies={5}, security=True
)
def starttls_command_masked(exchange: Exchange) -> Iterator[Said]:
    """A command arrives as a row of X, as firewalls do with STARTTLS, and the server does not know it.

    ## Why it matters
    The client wanted TLS and something on the way would not let it. Many clients then go on in clear.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: XXXXXXXX        <- ST104
    S: 500 5.5.1 Command unrecognized
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 STARTTLS
    C: STARTTLS
    S: 220 2.0.0 Ready to start TLS
    -- tls --
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Innocent look-alikes
    A tester typing a row of X.
    """
    command = exchange.command
    if command is not None and command.verb[:1] in ("X", "*") and masked_verb(command):
        yield command.at, f"{command.verb} looks like STARTTLS written over on the way"


@rule(
    id="ST105",
    on=Exchange,
    severity=Severity.WARNING,
    since="0.1",
    pure=True,
    refs=("RFC 5321 §4.2", "RFC 3207 §6"),
    verbs={GREETING},
    replies={2},
    security=True,
)
def greeting_masked(exchange: Exchange) -> Iterator[Said]:
    """The greeting's text is stars, twos and noughts: a firewall has written over it.

    ## Why it matters
    Cisco's old SMTP inspection hides the banner so. The same box hides ESMTP keywords, breaks the end of mail data
    that comes in a packet of its own, and drops commands it does not know.

    ## Example
    ```smtp
    S: 220 ****************2*****0****        <- ST105
    C: HELO client.example.net
    S: 250 mx.example.org
    C: QUIT
    S: 221 Bye
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: QUIT
    S: 221 Bye
    ```

    ## Innocent look-alikes
    A banner with a few stars between words is not counted.
    """
    if exchange.reply is not None and masked_greeting(exchange.reply):
        yield exchange.reply.at, "the greeting is written over with stars"


@rule(id="ST109", on=Sighting, severity=Severity.WARNING, since="0.1", refs=("RFC 3207 §6",), security=True)
def starttls_offer_not_steady(sighting: Sighting, earlier: Earlier) -> Iterator[Said]:
    """The same server offers STARTTLS in some conversations of the capture and not in others.

    ## Why it matters
    A client that meets the reply without it sends in clear. Either something on the way takes the keyword out, or
    several machines answer at one address and are not set up alike, or the server's TLS fails now and then.

    ## Example
    In an earlier conversation with the same server:

    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 STARTTLS
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    and in this one:

    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 8BITMIME        <- ST109
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Instead
    Both replies are alike.

    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 STARTTLS
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Innocent look-alikes
    A server may keep STARTTLS from chosen clients (Postfix: smtpd_discard_ehlo_keyword_address_maps), and does not
    offer it again inside TLS, which is not counted.
    """
    if sighting.starttls is None or sighting.starttls_at is None:
        return
    before = earlier.offer(sighting)
    if sighting.starttls:
        if before.missing is not None and before.there is None:
            where = f"frame {before.missing.frame} of {before.missing.capture}"
            yield sighting.starttls_at, f"STARTTLS is offered here and was not in {where}"
    elif before.there is not None and not sighting.lossy:
        where = f"frame {before.there.frame} of {before.there.capture}"
        yield sighting.starttls_at, f"STARTTLS is not offered here and was in {where}"
