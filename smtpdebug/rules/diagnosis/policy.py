"""Diagnoses of refusals for who sends, how fast, and what policy says of it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from smtpdebug.model.smtp import END_OF_DATA
from smtpdebug.rules.diagnosis.facts import Facts, seconds
from smtpdebug.rules.diagnosis.registry import Confidence, Seen, Trigger, compared, diagnosis
from smtpdebug.rules.diagnosis.words import refusals, words
from smtpdebug.rules.memory import Earlier
from smtpdebug.rules.sighting import Sighting

URL = re.compile(r"https?://[^\s<>\"']+[^\s<>\"'.,;:)]")
LIST_NAME = re.compile(
    r"\b(?:[a-z0-9-]+\.)+(?:spamhaus\.org|spamcop\.net|barracudacentral\.org|sorbs\.net|uceprotect\.net|surbl\.org|mailspike\.net)\b",
    re.IGNORECASE,
)


_FAULT = "shutting down|unavailable|disk|storage|resources|internal|local|lookup|busy|load|connections|system|error"
"""What servers that are asked to be tried again later suffer from."""


@diagnosis("D55", name="greylisted", on=Trigger.FAILED)
def greylisted(facts: Facts) -> Iterator[Seen]:
    """The server puts off a sender it does not know yet.

    ## Evidence
    450 or 451 to RCPT (or at the end of data) with "greylist" or "try again later" and the like; the same sender and
    recipient are accepted some minutes later.

    ## What to do
    Nothing: retry after five minutes or more, from the same address. Clients that do not retry lose the mail.

    ## Otherwise
    A temporary fault of the server that is worded in the same way.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 2.1.0 Ok
    C: RCPT TO:<b@example.org>
    S: 451 4.7.1 Greylisting in action, please come back later
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Silent
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 2.1.0 Ok
    C: RCPT TO:<b@example.org>
    S: 450 4.2.2 Mailbox full
    C: QUIT
    S: 221 2.0.0 Bye
    ```
    """
    pattern = words(
        "gr[ae]y-?list", f"^(?!.*(?:{_FAULT})).*(?:try|come back) (?:again )?later", "deferred for \\d", "postgrey"
    )
    found = refusals(facts, "D55", pattern, verbs={"RCPT", "DATA", END_OF_DATA, "MAIL"}, codes={421, 450, 451, 452})
    if found:
        named = any("list" in text.lower() for text in found.first.texts)
        sure = Confidence.HIGH if named else found.sure(Confidence.LOW)
        yield Seen(f"The server greylists this sender: {found.quoted}.", sure, found.evidence, found.advice)


@compared("D55")
def came_back(sighting: Sighting, earlier: Earlier) -> Iterator[Seen]:
    """A recipient that was put off in an earlier conversation is accepted in this one."""
    if not earlier.any_deferred:
        return
    opened = sighting.opened
    for sender, recipient in sighting.welcomed:
        then = earlier.deferred(sighting.client, sender, recipient)
        if then is not None and then < opened.ts_ns:
            yield Seen(
                f"The recipient put off {seconds(opened.ts_ns - then)} earlier is accepted now: "
                "greylisting, or a temporary fault that is over.",
                Confidence.MEDIUM,
                (opened,),
            )
            return


@diagnosis("D56", name="blocklisted", on=Trigger.FAILED)
def blocklisted(facts: Facts) -> Iterator[Seen]:
    """The sending address or domain is on a blocklist, or has a bad reputation.

    ## Evidence
    A refusal that names a blocklist, "blocked", "reputation" or a link to a lookup page. Link and list are quoted.

    ## What to do
    Open the link. Find why the address was listed (a hacked account, an open relay, a bad neighbour) and mend it, then
    ask for removal.

    ## Otherwise
    The server's own list, whatever the text says; only its operator can tell.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 554 5.7.1 Service unavailable; Client host [192.0.2.7] blocked using zen.spamhaus.org; https://www.spamhaus.org/query/ip/192.0.2.7
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Silent
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 550 5.1.8 Sender unknown, see https://example.org/help
    C: QUIT
    S: 221 2.0.0 Bye
    ```
    """
    pattern = words(
        "block(?:ed|ing)? (?:using|by|list)",
        "black-?list",
        "\\bdnsbl\\b",
        "\\brbl\\b",
        "reputation",
        "spamhaus",
        "spamcop",
        "barracudacentral",
        "listed (?:at|in|by|on)",
        "banned(?!:)",
        "S3140",
        "on our block list",
    )
    found = refusals(facts, "D56", pattern)
    if found:
        text = " ".join(found.first.texts)
        link, name = URL.search(text), LIST_NAME.search(text)
        where = f" ({name[0].lower()})" if name else ""
        see = f" See {link[0]}." if link else ""
        yield Seen(
            f"The sender is on a blocklist{where}: {found.quoted}.{see}", Confidence.HIGH, found.evidence, found.advice
        )


@diagnosis("D68", name="helo-name-rejected", on=Trigger.FAILED)
def helo_rejected(facts: Facts) -> Iterator[Seen]:
    """The server does not like the name the client announced in EHLO or HELO.

    ## Evidence
    A refusal, often delayed to RCPT, whose text names HELO or EHLO.

    ## What to do
    Let the client announce its full host name, one that resolves to its address: not "localhost", a bare word, the
    receiver's own name or an address without brackets.

    ## Otherwise
    The name resolves, and the server's DNS failed in that moment.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO localhost
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 2.1.0 Ok
    C: RCPT TO:<b@example.org>
    S: 504 5.5.2 <localhost>: Helo command rejected: need fully-qualified hostname
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Silent
    ```smtp
    S: 220 mx.example.org ESMTP
    C: MAIL FROM:<a@example.net>
    S: 503 5.5.1 Error: send HELO/EHLO first
    C: QUIT
    S: 221 2.0.0 Bye
    ```
    """
    pattern = words(
        "(?:helo|ehlo)[^.]*(?:reject|invalid|denied|mismatch|not resolve|bogus|forged)",
        "(?:invalid|bad|bogus|fake|rejected|forged)[^.]*(?:helo|ehlo)",
    )
    found = refusals(facts, "D68", pattern)
    if found and facts.helo is not None and facts.helo.command is not None:
        name = facts.helo.command.argument[:80]
        yield Seen(
            f"The server does not accept the name “{name}”: {found.quoted}.",
            Confidence.HIGH,
            found.evidence,
            found.advice,
        )
    elif found:
        yield Seen(f"The server does not accept the client's name: {found.quoted}.", Confidence.HIGH, found.evidence)


@diagnosis("D78", name="relaying-denied", on=Trigger.FAILED)
def relaying_denied(facts: Facts) -> Iterator[Seen]:
    """The server does not take mail for this recipient's domain from this client.

    ## Evidence
    454, 550, 551 or 554 with "relay" in its text.

    ## What to do
    If the client should be allowed: log in first, or list its address. If the server should host the domain: add it
    there. If neither: the MX record or the client's smart host leads to the wrong server.

    ## Otherwise
    The address is mistyped and the domain does not exist.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 2.1.0 Ok
    C: RCPT TO:<b@example.com>
    S: 554 5.7.1 <b@example.com>: Relay access denied
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Silent
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 2.1.0 Ok
    C: RCPT TO:<b@example.com>
    S: 550 5.1.1 User unknown
    C: QUIT
    S: 221 2.0.0 Bye
    ```
    """
    pattern = words(
        "relay(?:ing)? (?:access )?(?:denied|not (?:permitted|allowed))",
        "not (?:permitted|allowed) to relay",
        "unable to relay",
        "we do not relay",
        "relaying prohibited",
        "relay not permitted",
        "(?:not|n't) in my list of allowed rcpthosts",
    )
    found = refusals(facts, "D78", pattern, codes={450, 451, 454, 530, 550, 551, 553, 554})
    if found:
        yield Seen(
            f"The server does not relay for this client: {found.quoted}.", Confidence.HIGH, found.evidence, found.advice
        )


@diagnosis("D84", name="sender-rejected", on=Trigger.FAILED)
def sender_rejected(facts: Facts) -> Iterator[Seen]:
    """The server does not accept the envelope sender.

    ## Evidence
    A refusal with 5.1.7, 5.1.8 or 4.1.8, or a text about the sender's address or domain.

    ## What to do
    Correct the envelope sender (MAIL FROM): its domain must exist with an MX or address record. For submission use an
    address that belongs to the account that logged in.

    ## Otherwise
    The server's resolver failed in that moment (4.1.8).

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@nosuch.example>
    S: 450 4.1.8 <a@nosuch.example>: Sender address rejected: Domain not found
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Silent
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 2.1.0 Ok
    C: RCPT TO:<b@example.org>
    S: 550 5.1.1 <b@example.org>: Recipient address rejected: User unknown
    C: QUIT
    S: 221 2.0.0 Bye
    ```
    """
    pattern = words(
        "sender (?:address )?(?:rejected|unknown|denied|not (?:found|allowed|verified))",
        "sender verify",
        "verification failed for",
        "not owned by user",
        "domain of sender",
        "bad sender",
    )
    found = refusals(facts, "D84", pattern, enhanced={"X.1.7", "X.1.8"})
    if found:
        yield Seen(
            f"The server does not accept the sender: {found.quoted}.", Confidence.HIGH, found.evidence, found.advice
        )


@diagnosis("D69", name="sender-policy-failed", on=Trigger.FAILED)
def policy_failed(facts: Facts) -> Iterator[Seen]:
    """SPF, DKIM, DMARC or the reverse name of the client do not vouch for the sender.

    ## Evidence
    Enhanced codes 5.7.20 to 5.7.27 (RFC 7372, RFC 7505), or a text that names SPF, DKIM, DMARC, PTR or "reverse DNS".

    ## What to do
    5.7.23 or SPF: list the client's address in the domain's SPF record. 5.7.20 to 5.7.22 or DKIM: sign, and see what
    changes the message on the way. 5.7.25 or PTR: give the address a reverse name that leads back. 5.7.26 or DMARC:
    one of SPF and DKIM has to pass for the From domain.

    ## Otherwise
    The mail was forwarded: SPF then fails for honest senders.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 550 5.7.23 SPF validation failed
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Silent
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 550 5.7.1 Access denied
    C: QUIT
    S: 221 2.0.0 Bye
    ```
    """
    pattern = words(
        "\\bspf\\b",
        "\\bdkim\\b",
        "\\bdmarc\\b",
        "\\bptr\\b",
        "reverse (?:dns|host ?name)",
        "cannot find your (?:reverse )?hostname",
        "unauthenticated",
    )
    found = refusals(facts, "D69", pattern, enhanced={f"X.7.{n}" for n in range(20, 28)})
    if found:
        yield Seen(f"The sender is not vouched for: {found.quoted}.", Confidence.HIGH, found.evidence, found.advice)
