"""Diagnoses of the login. Credentials are judged by their shape only, and never printed."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator

from smtpdebug.model.smtp import AFTER_GAP, AUTH_ANSWER, Exchange
from smtpdebug.rules.diagnosis.facts import Facts, quote
from smtpdebug.rules.diagnosis.registry import Confidence, Seen, Trigger, diagnosis
from smtpdebug.rules.diagnosis.words import refusals, words

AUTH = frozenset({"AUTH", AUTH_ANSWER})


def attempts(facts: Facts) -> Iterator[tuple[Exchange, str, list[bytes]]]:
    """Each AUTH with its mechanism and the client's decoded answers, to be judged by shape and forgotten."""
    current: tuple[Exchange, str, list[bytes]] | None = None
    for exchange in facts.conversation.exchanges:
        command = exchange.command
        if command is None:
            continue
        if command.verb == "AUTH":
            if current is not None:
                yield current
            mechanism, _, initial = command.argument.strip().partition(" ")
            current = (exchange, mechanism.upper(), [])
            if initial:
                current[2].append(decoded(initial.encode("ascii", "replace")))
        elif command.verb == AUTH_ANSWER and current is not None:
            current[2].append(decoded(command.line))
    if current is not None:
        yield current


def decoded(text: bytes) -> bytes:
    """Base64 undone; nothing where it is none."""
    try:
        return base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        return b""


@diagnosis("D49", name="password-login-switched-off", on=Trigger.FAILED)
def switched_off(facts: Facts) -> Iterator[Seen]:
    """The provider does not take the account's password over SMTP.

    ## Evidence
    535 5.7.139, 534 5.7.9, or a text that asks for an app password or a web login.

    ## What to do
    Use OAuth (XOAUTH2) or an app password; a new password does not help. Microsoft 365: SMTP AUTH is switched on per
    mailbox and tenant; Gmail: 2-Step Verification and an app password.

    ## Otherwise
    The password is wrong as well; that shows only afterwards.

    ## Example
    ```smtp
    S: 220 smtp.example.org ESMTP
    C: EHLO client.example.net
    S: 250-smtp.example.org
    S: 250 AUTH LOGIN XOAUTH2
    C: AUTH XOAUTH2 dXNlcj1h
    S: 535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant.
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Silent
    ```smtp
    S: 220 smtp.example.org ESMTP
    C: EHLO client.example.net
    S: 250-smtp.example.org
    S: 250 AUTH LOGIN PLAIN
    C: AUTH PLAIN AGEAYg==
    S: 535 5.7.8 Error: authentication failed
    C: QUIT
    S: 221 2.0.0 Bye
    ```
    """
    pattern = words(
        "did not meet the criteria",
        "security defaults",
        "ClientAuthentication is disabled",
        "app(?:lication)?[- ]specific password",
        "app password",
        "log in (?:via|with) your web browser",
        "basic authentication is disabled",
    )
    found = refusals(facts, "D49", pattern, verbs=AUTH, enhanced={"5.7.9", "5.7.14"})
    if found:
        yield Seen(
            f"The server does not take this account's password over SMTP: {found.quoted}.",
            Confidence.HIGH,
            found.evidence,
            found.advice,
        )


@diagnosis("D75", name="authentication-back-end-down", on=Trigger.FAILED)
def back_end_down(facts: Facts) -> Iterator[Seen]:
    """The server could not check the credentials just now.

    ## Evidence
    454 or another 4yz to AUTH.

    ## What to do
    Retry later with the same credentials; on the server look after what checks passwords (Dovecot's auth socket,
    saslauthd, LDAP, a database).

    ## Otherwise
    The server slows down a client with many failures.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 AUTH PLAIN
    C: AUTH PLAIN AGEAYg==
    S: 454 4.7.0 Temporary authentication failure: Connection lost to authentication server
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
    S: 454 4.7.0 TLS not available
    C: QUIT
    S: 221 2.0.0 Bye
    ```
    """
    # A limit on logins is worded with the same codes.
    found = refusals(facts, "D75", words("^(?!.*too many)"), verbs=AUTH, codes={432, 435, 450, 451, 454})
    if found:
        yield Seen(
            f"The password check is out of order: {found.quoted}.", Confidence.HIGH, found.evidence, found.advice
        )


@diagnosis("D88", name="account-not-allowed-to-send", on=Trigger.FAILED)
def account_not_allowed(facts: Facts) -> Iterator[Seen]:
    """The credentials are known, and the account behind them may not send.

    ## Evidence
    The text speaks of an account that is disabled, suspended, locked or not subscribed.

    ## What to do
    Have the account opened at the provider; new credentials of the same account do not help.

    ## Otherwise
    The account is locked for a while after too many wrong passwords.

    ## Example
    ```smtp
    S: 220 email-smtp.amazonaws.com ESMTP SimpleEmailService-1
    C: EHLO client.example.net
    S: 250-email-smtp.amazonaws.com
    S: 250 AUTH PLAIN LOGIN
    C: AUTH PLAIN AGEAYg==
    S: 535 Account not subscribed to SES
    C: QUIT
    S: 221 Bye
    ```

    ## Silent
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 AUTH PLAIN
    C: AUTH PLAIN AGEAYg==
    S: 535 5.7.8 Error: authentication failed
    C: QUIT
    S: 221 2.0.0 Bye
    ```
    """
    pattern = words(
        "account (?:is |has been )?(?:not subscribed|disabled|suspended|locked|blocked)",
        "user (?:is )?(?:disabled|suspended)",
    )
    found = refusals(facts, "D88", pattern, verbs=AUTH | {"MAIL"})
    if found:
        yield Seen(f"The account may not send: {found.quoted}.", Confidence.HIGH, found.evidence, found.advice)


@diagnosis("D47", name="mechanism-not-understood", on=Trigger.FAILED)
def mechanism(facts: Facts) -> Iterator[Seen]:
    """Client and server do not agree on how to log in.

    ## Evidence
    504 (or 5.5.4, 5.7.4), or a mechanism that the reply to EHLO does not list; for XOAUTH2 an error in JSON after 334.

    ## What to do
    Let the client choose a mechanism from the list in the reply to the last EHLO: after STARTTLS it may differ from
    the one before. For XOAUTH2 look at the token: expired, or made for another scope.

    ## Otherwise
    The server offers the mechanism only inside TLS, or not to this client.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 AUTH PLAIN
    C: AUTH CRAM-MD5
    S: 504 5.5.4 Unrecognized authentication type
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Silent
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 AUTH PLAIN
    C: AUTH PLAIN AGEAYg==
    S: 535 5.7.8 Error: authentication failed
    C: QUIT
    S: 221 2.0.0 Bye
    ```
    """
    pattern = words("mechanism", "authentication type", "unsupported auth")
    found = refusals(
        facts, "D47", pattern, verbs={"AUTH"}, codes={500, 502, 503, 504, 534, 535, 550}, enhanced={"5.7.4"}
    )
    if not found:
        token = next((a for a in attempts(facts) if a[1] in ("XOAUTH2", "OAUTHBEARER")), None)
        found = refusals(facts, "D47", words("."), verbs=AUTH, codes={535}) if token is not None else found
        if found:
            yield Seen(
                f"The server refuses the OAuth token: {found.quoted}.",
                Confidence.MEDIUM,
                found.evidence,
                "Get a fresh token with the scope for SMTP, and check that it belongs to the same user.",
            )
        return
    used = found.commands[0].argument.partition(" ")[0].upper()[:20]
    offered = facts.extensions.get("AUTH", "")
    yield Seen(
        f"The client logs in with {used or 'a mechanism'}, the server offers {offered or 'none'}: {found.quoted}.",
        Confidence.HIGH,
        found.evidence,
    )


@diagnosis("D48", name="credentials-badly-encoded", on=Trigger.FAILED)
def badly_encoded(facts: Facts) -> Iterator[Seen]:
    """The client's answers in the login are not made as the mechanism asks.

    ## Evidence
    501 5.5.2 to AUTH, or an answer to AUTH PLAIN that is not base64 of three parts with NUL between.

    ## What to do
    Make the answer anew: ``printf '\\0name\\0password' | base64 -w0`` for PLAIN (base64 breaks long lines without -w0).

    ## Otherwise
    The client cancelled the login with ``*``, which is answered with 501 too.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 AUTH PLAIN
    C: AUTH PLAIN bmFtZTpwYXNzd29yZA==
    S: 535 5.7.8 Error: authentication failed: bad protocol
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Silent
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 AUTH PLAIN
    C: AUTH PLAIN AGEAYg==
    S: 535 5.7.8 Error: authentication failed
    C: QUIT
    S: 221 2.0.0 Bye
    ```
    """
    for exchange, used, answers in attempts(facts):
        wrong = used == "PLAIN" and bool(answers) and answers[-1].count(b"\0") != 2
        if not wrong or exchange.command is None or exchange.command.oddities & AFTER_GAP:
            continue
        failed = next((e for e in facts.failed if e.command is not None and e.command.verb in AUTH), None)
        if failed is None or failed.reply is None or failed.command is None or failed.command.line.strip() == b"*":
            continue
        facts.claimed.add(id(failed))
        yield Seen(
            f"The answer to AUTH PLAIN is not base64 of NUL, name, NUL, password: “{quote(failed.reply)}”.",
            Confidence.HIGH,
            (failed.command.at, failed.reply.at),
        )
        return
    found = refusals(facts, "D48", words("base64", "encod", "malformed"), verbs=AUTH, codes={501}, enhanced={"5.5.2"})
    if found:
        yield Seen(f"The server cannot read the client's answer: {found.quoted}.", Confidence.HIGH, found.evidence)


@diagnosis("D45", name="authentication-required", on=Trigger.FAILED)
def login_needed(facts: Facts) -> Iterator[Seen]:
    """The server wants a login first, and the client did not log in.

    ## Evidence
    530, or a text that asks for authentication, and no successful AUTH before it.

    ## What to do
    Switch authentication on in the client. If it is on look at the reply to the last EHLO: servers that offer AUTH
    only inside TLS leave it out before STARTTLS, and clients then send without a login.

    ## Otherwise
    The client should be known by its address (a relay), and the server does not know it.

    ## Example
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

    ## Silent
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
    """
    # sendmail words its refusal to relay so too.
    pattern = words(
        "^(?!.*relaying denied).*(?:authentication (?:is )?required|(?:log ?in|authenticate) first|not authenticated"
        "|must authenticate|auth required|requires? authentication)",
    )
    found = refusals(
        facts,
        "D45",
        pattern,
        verbs={"MAIL", "RCPT", "DATA", "BDAT", "EHLO", "VRFY"},
        codes={530, 503, 505, 550, 553, 554},
    )
    if not found:
        return
    tried = next(attempts(facts), None)
    offered = "AUTH" in facts.extensions
    if tried is not None:
        why = "the login before it did not succeed"
    else:
        why = "the client did not try to" if offered else "AUTH was not offered in the last EHLO reply"
    yield Seen(f"The server wants a login and {why}: {found.quoted}.", Confidence.HIGH, found.evidence, found.advice)
