"""Diagnoses of STARTTLS: offered, refused, required, taken out or forged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from smtpdebug.model.smtp import Injected
from smtpdebug.rules.diagnosis.facts import Facts, keywords, quote, side_name
from smtpdebug.rules.diagnosis.registry import Confidence, Seen, Trigger, diagnosis
from smtpdebug.rules.diagnosis.words import refusals, words
from smtpdebug.rules.starttls import masked_greeting, masked_keyword, masked_verb

_NO_TLS: Final = words(r"^(?!.*(?:already|advertised|too many))")
"""Not the answer to a second STARTTLS inside TLS, nor a limit."""


@diagnosis("D29", name="starttls-not-offered", on=Trigger.UNANSWERED | Trigger.FAILED | Trigger.FINDING | Trigger.MANY)
def not_offered(facts: Facts) -> Iterator[Seen]:
    """The client wanted STARTTLS and the server did not offer it.

    ## Evidence
    The reply to EHLO has no STARTTLS, and the client leaves at once, or asks for it all the same.

    ## What to do
    Switch TLS on in the server for this port (certificate and key, Postfix: smtpd_tls_security_level = may); or, if
    it is on, look for a device on the way that takes the keyword out.

    ## Otherwise
    The client only looked at what the server can do (a monitoring check).

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 8BITMIME
    C: STARTTLS
    S: 502 5.5.1 Error: command not implemented
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Silent
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 8BITMIME
    C: MAIL FROM:<a@example.net>
    S: 250 2.1.0 Ok
    C: QUIT
    S: 221 2.0.0 Bye
    ```
    """
    if facts.helo is None or facts.helo.reply is None or facts.conversation.tls is not None or facts.helo.encrypted:
        return
    if "STARTTLS" in facts.extensions or (facts.helo.command is not None and facts.helo.command.verb != "EHLO"):
        return
    asked = next((e for e in facts.failed if e.command is not None and e.command.verb == "STARTTLS" and e.reply), None)
    verbs = [e.command.verb for e in facts.conversation.exchanges if e.command is not None]
    if asked is not None and asked.reply is not None:
        facts.claimed.add(id(asked))
        yield Seen(
            f"The client asks for STARTTLS, which the server does not offer: “{quote(asked.reply)}”.",
            Confidence.HIGH,
            (facts.helo.reply.at, asked.reply.at),
        )
    elif verbs[-2:] == ["EHLO", "QUIT"] and facts.stream.server.port in (587, 2587):
        yield Seen(
            "The client leaves after EHLO; STARTTLS is not offered on a port where clients expect it.",
            Confidence.LOW,
            (facts.helo.reply.at,),
        )


@diagnosis("D30", name="starttls-stripped", on=Trigger.FINDING | Trigger.FAILED)
def stripped(facts: Facts) -> Iterator[Seen]:
    """A device on the way takes STARTTLS out of the conversation.

    ## Evidence
    A keyword or verb replaced by letters X of the same length, or a greeting of stars: Cisco's SMTP inspection (PIX
    "fixup protocol smtp", ASA "inspect esmtp") and others like it.

    ## What to do
    Switch the inspection off on the firewall (``no inspect esmtp``), or allow TLS in it (``allow-tls``). Until then
    mail and passwords can be read on the way.

    ## Otherwise
    Somebody on the way does it on purpose: ask who owns the path.

    ## Example
    ```smtp
    S: 220 ********************
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250-XXXXXXXA
    S: 250 8BITMIME
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Silent
    ```smtp
    S: 220 mx.example.org ESMTP *** welcome ***
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 XCLIENT NAME
    C: QUIT
    S: 221 2.0.0 Bye
    ```
    """
    for exchange in facts.conversation.exchanges[:12]:
        command, reply = exchange.command, exchange.reply
        if command is None or exchange.encrypted:
            continue
        what = None
        if command.verb == "EHLO" and reply is not None and reply.code == 250:
            keyword = masked_keyword(reply)
            what = None if keyword is None else f"the keyword {keyword} stands where STARTTLS should"
        elif masked_verb(command):
            what = f"the command {command.verb} arrives in place of STARTTLS"
        elif exchange is facts.greeting and reply is not None and masked_greeting(reply):
            what = "the greeting is written over with stars"
        if what is not None:
            at = reply.at if reply is not None else command.at
            yield Seen(f"A device on the way rewrites SMTP: {what}.", Confidence.HIGH, (at,))
            return


@diagnosis("D31", name="tls-temporarily-unavailable", on=Trigger.FAILED)
def unavailable(facts: Facts) -> Iterator[Seen]:
    """The server offers STARTTLS and then cannot do it.

    ## Evidence
    454 (or 450, 451, 550, 554) to STARTTLS, outside TLS.

    ## What to do
    Read the server's log: the certificate or key file is missing, unreadable or does not fit, or the TLS service
    (Postfix: tlsmgr, tlsproxy) does not run.

    ## Otherwise
    The server limits TLS handshakes for each client and this one had too many.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 STARTTLS
    C: STARTTLS
    S: 454 4.7.0 TLS not available due to local problem
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Silent
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: AUTH PLAIN
    S: 454 4.7.0 Temporary authentication failure
    C: QUIT
    S: 221 2.0.0 Bye
    ```
    """
    found = refusals(facts, "D31", _NO_TLS, verbs={"STARTTLS"}, codes=(450, 451, 454, 550, 554))
    if found:
        yield Seen(f"The server cannot start TLS: {found.quoted}.", Confidence.HIGH, found.evidence, found.advice)


@diagnosis("D41", name="plaintext-injected-at-starttls", on=Trigger.TLS | Trigger.FAILED | Trigger.FINDING)
def injected(facts: Facts) -> Iterator[Seen]:
    """Plaintext was slipped in at the edge of TLS.

    ## Evidence
    Bytes after the client's STARTTLS line, or after the server's 220, that are not TLS.

    ## What to do
    Find who sent them: a client that pipelines STARTTLS is broken; if the client did not send them somebody on the way
    did. Make sure that the other side drops what it has buffered when TLS begins (CVE-2011-0411, CVE-2021-38371).

    ## Otherwise
    A careless client that writes STARTTLS and the next command in one go.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 STARTTLS
    C! STARTTLS\\r\\nRSET\\r\\n
    S: 220 2.0.0 Ready to start TLS
    -- tls --
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Silent
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
    """
    found = [item for item in facts.conversation.timeline if isinstance(item, Injected)]
    refused = refusals(facts, "D41", words("pipeline after STARTTLS"))
    if found:
        side = side_name(found[0].side)
        yield Seen(
            f"{sum(len(i.data) for i in found):,} bytes of plaintext came between STARTTLS and TLS from the {side}.",
            Confidence.HIGH,
            tuple(i.at for i in found[:5]),
        )
    elif refused:
        yield Seen(
            f"The server complains of commands behind STARTTLS: {refused.quoted}.", refused.sure(), refused.evidence
        )


@diagnosis("D46", name="starttls-required", on=Trigger.FAILED)
def required(facts: Facts) -> Iterator[Seen]:
    """The server takes this command only inside TLS.

    ## Evidence
    530 (or 538, 5.7.10, 5.7.11) with a text that asks for STARTTLS or encryption, outside TLS.

    ## What to do
    Switch STARTTLS on in the client, or use the TLS port (465).

    ## Otherwise
    The client wanted TLS and was kept from it: look whether STARTTLS was offered.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 STARTTLS
    C: MAIL FROM:<a@example.net>
    S: 530 5.7.0 Must issue a STARTTLS command first
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Silent
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 AUTH PLAIN
    C: MAIL FROM:<a@example.net>
    S: 530 5.7.0 Authentication required
    C: QUIT
    S: 221 2.0.0 Bye
    ```
    """
    pattern = words(
        "STARTTLS (?!command used)",
        "encryption (?:is )?(?:required|needed)",
        "TLS (?:is )?required",
        "secure connection",
    )
    found = refusals(
        facts, "D46", pattern, codes={421, 450, 451, 530, 538, 550, 554, 503}, enhanced={"5.7.10", "5.7.11"}
    )
    if found:
        offered = "STARTTLS" in keywords(facts.helo.reply) if facts.helo is not None and facts.helo.reply else False
        also = (
            "; it offers STARTTLS and the client did not use it" if offered and facts.conversation.tls is None else ""
        )
        yield Seen(f"The server insists on TLS: {found.quoted}{also}.", Confidence.HIGH, found.evidence, found.advice)
