"""Diagnoses of recipients."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from smtpdebug.model.smtp import END_OF_DATA, GREETING
from smtpdebug.model.streams import Location
from smtpdebug.rules.diagnosis.facts import Facts, seconds
from smtpdebug.rules.diagnosis.registry import Confidence, Seen, Trigger, diagnosis
from smtpdebug.rules.diagnosis.words import refusals, words

REFUSING_ALL = frozenset({GREETING, "EHLO", "HELO", "RCPT"})
"""Where 521 and 556 have that meaning (RFC 7504); some servers send 521 for anything."""
GROWTH_LEAST = 8
"""Recipients needed before their waits say anything about growth."""


@diagnosis("D77", name="mailbox-full", on=Trigger.FAILED)
def mailbox_full(facts: Facts) -> Iterator[Seen]:
    """The recipient's mailbox is full.

    ## Evidence
    452 or 552 with 4.2.2 or 5.2.2, or a text that speaks of quota or a full mailbox.

    ## What to do
    The recipient has to make room. With 4yz the message is tried again.

    ## Otherwise
    The quota of the whole server or domain.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 2.1.0 Ok
    C: RCPT TO:<b@example.org>
    S: 452 4.2.2 Mailbox full
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Silent
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 452 4.3.1 Insufficient system storage
    C: QUIT
    S: 221 2.0.0 Bye
    ```
    """
    pattern = words(
        "mailbox (?:is )?full",
        "over ?quota",
        "(?:mailbox|user|recipient)[^.]*(?:quota|exceeded storage)",
        "out of storage",
        "quota exceeded for",
    )
    found = refusals(facts, "D77", pattern, codes={450, 451, 452, 552, 554, 550}, enhanced={"X.2.2"})
    if found:
        yield Seen(f"The recipient's mailbox is full: {found.quoted}.", Confidence.HIGH, found.evidence, found.advice)


@diagnosis("D79", name="too-many-recipients", on=Trigger.FAILED)
def too_many(facts: Facts) -> Iterator[Seen]:
    """More recipients in one transaction than the server takes.

    ## Evidence
    452 (or 552) with 4.5.3, or "too many recipients".

    ## What to do
    Send to those accepted and the rest in another transaction: a client has to (RFC 5321 section 4.5.3.1.10). Lower
    its limit of recipients for each message.

    ## Otherwise
    A limit of recipients in an hour, which another transaction does not help.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 2.1.0 Ok
    C: RCPT TO:<b@example.org>
    S: 452 4.5.3 Error: too many recipients
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
    S: 452 4.2.2 Mailbox full
    C: QUIT
    S: 221 2.0.0 Bye
    ```
    """
    found = refusals(
        facts, "D79", words(r"too many recipients(?! (?:from|today|per|this)\b)"), verbs={"RCPT"}, enhanced={"X.5.3"}
    )
    if found:
        accepted = sum(
            1
            for e in facts.conversation.exchanges
            if e.command is not None and e.command.verb == "RCPT" and e.reply is not None and e.reply.code < 300
        )
        who = "recipient" if accepted == 1 else "recipients"
        yield Seen(
            f"After {accepted} accepted {who} the server takes no more: {found.quoted}.",
            Confidence.HIGH,
            found.evidence,
            found.advice,
        )


@diagnosis("D76", name="recipient-unknown", on=Trigger.FAILED)
def unknown(facts: Facts) -> Iterator[Seen]:
    """The server knows no such recipient.

    ## Evidence
    550 with 5.1.1, or a text that says that user, mailbox or address does not exist.

    ## What to do
    Correct the address; for a list take it off. If the address should exist look in the server's tables.

    ## Otherwise
    Servers hide a policy refusal behind these words.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 2.1.0 Ok
    C: RCPT TO:<nobody@example.org>
    S: 550 5.1.1 <nobody@example.org>: Recipient address rejected: User unknown
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
    S: 550 5.7.1 Access denied
    C: QUIT
    S: 221 2.0.0 Bye
    ```
    """
    pattern = words(
        "(?:user|mailbox|recipient|address|account)\\b.{0,100}?(?:unknown|not ?found|do(?:es not|esn't) exist)",
        "(?:user|mailbox|recipient|address|account)\\b[^.]*(?:unavailable|disabled)",
        "recipientnotfound",
        "no mailbox here by that name",
        "(?:no such|unknown|invalid) (?:user|recipient|mailbox|address|local)",
        "unrouteable address",
    )
    found = refusals(
        facts, "D76", pattern, verbs={"RCPT", "VRFY", END_OF_DATA, "BDAT"}, enhanced={"5.1.1", "5.1.2", "5.1.6"}
    )
    if found:
        yield Seen(
            f"The server knows no such recipient: {found.quoted}.", Confidence.HIGH, found.evidence, found.advice
        )


@diagnosis("D80", name="domain-takes-no-mail", on=Trigger.FAILED)
def no_mail(facts: Facts) -> Iterator[Seen]:
    """The host or the domain does not take mail at all.

    ## Evidence
    521 as greeting, 556 to RCPT, or 5.1.10 (RFC 7504, RFC 7505: null MX).

    ## What to do
    Take the address off the list: the domain says on purpose that it has no mail.

    ## Otherwise
    521 is also used by blocklists (postscreen) for hosts that do take mail.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 2.1.0 Ok
    C: RCPT TO:<b@example.com>
    S: 556 5.1.10 Recipient address has null MX
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
    found = refusals(facts, "D80", words("."), verbs=REFUSING_ALL, codes={521, 556})
    found = found or refusals(facts, "D80", words("null MX", "does not accept mail"), enhanced={"X.1.10"})
    if found:
        yield Seen(f"No mail is taken here: {found.quoted}.", Confidence.HIGH, found.evidence, found.advice)


@diagnosis("D58", name="no-valid-recipients", on=Trigger.FAILED)
def no_valid(facts: Facts) -> Iterator[Seen]:
    """All recipients were refused, so that no message could be sent.

    ## Evidence
    No RCPT of the transaction was accepted; a DATA that was pipelined behind them got 554 or 503.

    ## What to do
    See why the recipients were refused. The refusal of DATA follows from it and is no fault of its own.

    ## Otherwise
    The client should have stopped before DATA, if it did not pipeline.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 PIPELINING
    C: MAIL FROM:<a@example.net>
    C+ RCPT TO:<nobody@example.org>
    C+ DATA
    S: 250 2.1.0 Ok
    S: 550 5.1.1 User unknown
    S: 554 5.5.1 Error: no valid recipients
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
    C: RCPT TO:<nobody@example.org>
    S: 550 5.1.1 User unknown
    C: RCPT TO:<b@example.org>
    S: 250 2.1.5 Ok
    C: QUIT
    S: 221 2.0.0 Bye
    ```
    """
    accepted = refused = 0
    places: list[Location] = []
    for exchange in facts.conversation.exchanges:
        command, reply = exchange.command, exchange.reply
        if command is None or reply is None:
            continue
        if command.verb == "MAIL":
            accepted = refused = 0
            places = []
        elif command.verb == "RCPT":
            accepted += reply.code < 300
            refused += reply.code >= 400
            if reply.code >= 400:
                places.append(reply.at)
        elif command.verb in ("DATA", "BDAT", END_OF_DATA) and reply.code >= 400 and refused and not accepted:
            # With pipelining DATA may have got 354 all the same, and the client ends the empty message (RFC 2920 3.1).
            facts.claimed.add(id(exchange))
            who = "The only recipient was" if refused == 1 else f"All {refused} recipients were"
            what = "the end of the mail data" if command.verb == END_OF_DATA else command.verb
            yield Seen(
                f"{who} refused, so {what} got {reply.code}.",
                Confidence.HIGH,
                (*places[:5], reply.at),
            )
            return


@diagnosis("D57", name="recipient-probe", on=Trigger.NOTHING_SENT)
def probe(facts: Facts) -> Iterator[Seen]:
    """The client only asks whether recipients exist, and sends nothing.

    ## Evidence
    MAIL and RCPT accepted, then RSET or QUIT without DATA: sender address verification (callout) by another server, a
    list cleaner, or a spammer who gathers addresses.

    ## What to do
    From a server you send to, with an empty sender: its callout, harmless. Otherwise limit the client.

    ## Otherwise
    The client ran into a fault of its own after RCPT.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<>
    S: 250 2.1.0 Ok
    C: RCPT TO:<b@example.org>
    S: 250 2.1.5 Ok
    C: RSET
    S: 250 2.0.0 Ok
    C: NOOP
    S: 250 2.0.0 Ok
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
    S: 250 2.1.5 Ok
    C: DATA
    S: 354 End data with <CR><LF>.<CR><LF>
    C: .
    S: 250 2.0.0 Ok
    C: QUIT
    S: 221 2.0.0 Bye
    ```
    """
    verbs = [(e.command.verb, e) for e in facts.conversation.exchanges if e.command is not None]
    if any(verb in ("DATA", "BDAT") for verb, _ in verbs) or facts.conversation.joined_late:
        return
    rcpt = [e for verb, e in verbs if verb == "RCPT"]
    accepted = [e for e in rcpt if e.reply is not None and e.reply.code < 300]
    if not accepted or not facts.quit or any(facts.stream.missing):
        return
    empty = any(verb == "MAIL" and "<>" in e.command.argument for verb, e in verbs if e.command is not None)
    yield Seen(
        f"{len(rcpt)} recipients were tried{' with an empty sender' if empty else ''} and nothing was sent: a probe.",
        Confidence.MEDIUM if empty else Confidence.LOW,
        tuple(e.command.at for e in rcpt[:5] if e.command is not None),
    )


@diagnosis("D73", name="recipients-ever-slower", on=Trigger.MANY)
def ever_slower(facts: Facts) -> Iterator[Seen]:
    """Each further recipient takes the server longer than the one before.

    ## Evidence
    The waits for replies to RCPT grow steadily over eight recipients or more.

    ## What to do
    Look at what the server does for each recipient: a directory or policy service that is asked again for all before,
    or a pause that grows with errors (Postfix: smtpd_error_sleep_time).

    ## Otherwise
    The server grew busy in that moment for another reason.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 2.1.0 Ok
    C: RCPT TO:<1@example.org>
    -- 100ms --
    S: 250 2.1.5 Ok
    C: RCPT TO:<2@example.org>
    -- 200ms --
    S: 250 2.1.5 Ok
    C: RCPT TO:<3@example.org>
    -- 300ms --
    S: 250 2.1.5 Ok
    C: RCPT TO:<4@example.org>
    -- 400ms --
    S: 250 2.1.5 Ok
    C: RCPT TO:<5@example.org>
    -- 500ms --
    S: 250 2.1.5 Ok
    C: RCPT TO:<6@example.org>
    -- 600ms --
    S: 250 2.1.5 Ok
    C: RCPT TO:<7@example.org>
    -- 700ms --
    S: 250 2.1.5 Ok
    C: RCPT TO:<8@example.org>
    -- 800ms --
    S: 250 2.1.5 Ok
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
    C: RCPT TO:<1@example.org>
    S: 250 2.1.5 Ok
    C: RCPT TO:<2@example.org>
    S: 250 2.1.5 Ok
    C: RCPT TO:<3@example.org>
    S: 250 2.1.5 Ok
    C: RCPT TO:<4@example.org>
    S: 250 2.1.5 Ok
    C: RCPT TO:<5@example.org>
    S: 250 2.1.5 Ok
    C: RCPT TO:<6@example.org>
    S: 250 2.1.5 Ok
    C: QUIT
    S: 221 2.0.0 Bye
    ```
    """
    found = [
        e
        for e in facts.conversation.exchanges
        if e.command is not None and e.command.verb == "RCPT" and e.wait_ns is not None and not e.command.outstanding
    ]
    if len(found) < GROWTH_LEAST:
        return
    waits = [e.wait_ns or 0 for e in found]
    half = len(waits) // 2
    early, late = sum(waits[:half]) / half, sum(waits[-half:]) / half
    rising = sum(1 for a, b in pairwise(waits) if b > a) / (len(waits) - 1)
    if late > 2 * early and late > 100_000_000 and rising >= 0.75:
        first, last = found[0].reply, found[-1].reply
        places = tuple(r.at for r in (first, last) if r is not None)
        yield Seen(
            f"The replies to RCPT grow slower with each recipient: on average from {seconds(int(early))} to "
            f"{seconds(int(late))}.",
            Confidence.MEDIUM,
            places,
        )
