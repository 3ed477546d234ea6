"""Diagnoses of refusals in general: what the more particular ones have left over comes here last."""

from __future__ import annotations

from collections.abc import Iterator

from smtpdebug.model.smtp import END_OF_DATA, GREETING
from smtpdebug.rules.diagnosis.facts import Facts
from smtpdebug.rules.diagnosis.policy import URL
from smtpdebug.rules.diagnosis.registry import Confidence, Seen, Trigger, diagnosis
from smtpdebug.rules.diagnosis.words import refusals, words

VERDICTS = frozenset({450, 451, 452, 550, 551, 552, 553, 554})
"""Codes that speak of the message (RFC 5321 4.3.2); 50y and the like speak of the command."""
ERRORS_LEAST = 5
"""Refused commands before a 421 that make it a matter of errors; Postfix's limit is 20, Exim's is 3 to 10."""


@diagnosis("D54", name="message-too-large", on=Trigger.FAILED)
def too_large(facts: Facts) -> Iterator[Seen]:
    """The message is larger than the server takes.

    ## Evidence
    552, 5.3.4 or 5.2.3, or a text about size. The limit in the reply to EHLO and the bytes sent are compared.

    ## What to do
    Send a smaller message or a link; a client that declares SIZE with MAIL is refused before it has sent the bytes.

    ## Otherwise
    The recipient's own limit is smaller than the server's.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 SIZE 1000
    C: MAIL FROM:<a@example.net> SIZE=200000
    S: 552 5.3.4 Message size exceeds fixed limit
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Silent
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 SIZE 1000
    C: MAIL FROM:<a@example.net>
    S: 552 5.2.2 Mailbox full
    C: QUIT
    S: 221 2.0.0 Bye
    ```
    """
    pattern = words(
        "message (?:size|is)[^.]*(?:exceed|too (?:long|large|big))",
        "too (?:large|big)",
        "size limit",
        "exceeds[^.]*size",
    )
    found = refusals(facts, "D54", pattern, codes={452, 523, 550, 552, 554}, enhanced={"X.3.4", "X.2.3"})
    if not found:
        return
    limit = facts.extensions.get("SIZE", "")[:20]  # RFC 1870 section 3: at most 20 digits
    sent = next(
        (e.data.bytes for e in facts.conversation.exchanges if e.data is not None and e.reply is found.first), None
    )
    about = f"; the limit offered is {int(limit):,} bytes" if limit.isdecimal() and int(limit) else ""
    about += f", {sent:,} were sent" if sent else ""
    yield Seen(f"The message is too large: {found.quoted}{about}.", Confidence.HIGH, found.evidence, found.advice)


@diagnosis("D70", name="mail-loop", on=Trigger.FAILED)
def loop(facts: Facts) -> Iterator[Seen]:
    """The message goes round in circles.

    ## Evidence
    5.4.6 or 5.4.14, or "too many hops", "loop".

    ## What to do
    Read the Received fields of the message: two hosts each think that the other is responsible for the domain. Mend
    the MX record, the relay table or the forwarding.

    ## Otherwise
    A very long but straight way of more hops than the server allows.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 554 5.4.6 Error: too many hops
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Silent
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 554 5.7.1 Access denied
    C: QUIT
    S: 221 2.0.0 Bye
    ```
    """
    found = refusals(
        facts,
        "D70",
        words("too many hops", "mail loop", "loop detected", "loops back to"),
        enhanced={"X.4.6", "X.4.14"},
    )
    if found:
        yield Seen(f"The message is in a loop: {found.quoted}.", Confidence.HIGH, found.evidence, found.advice)


@diagnosis("D82", name="server-storage-short", on=Trigger.FAILED)
def storage(facts: Facts) -> Iterator[Seen]:
    """The server has no room for the message.

    ## Evidence
    452 with 4.3.1, or "insufficient system storage".

    ## What to do
    Make room on the file system of the server's queue; the client retries by itself.

    ## Otherwise
    The server keeps a reserve for the largest message it takes (Postfix: queue_minfree).

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 452 4.3.1 Insufficient system storage
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Silent
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 451 4.3.0 Temporary lookup failure
    C: QUIT
    S: 221 2.0.0 Bye
    ```
    """
    found = refusals(
        facts,
        "D82",
        words("insufficient (?:system )?(?:storage|disk|resources)", "disk full", "no space left"),
        enhanced={"X.3.1"},
    )
    if found:
        yield Seen(f"The server is short of storage: {found.quoted}.", Confidence.HIGH, found.evidence, found.advice)


@diagnosis("D67", name="too-many-errors", on=Trigger.FAILED)
def too_many_errors(facts: Facts) -> Iterator[Seen]:
    """The server ended the conversation because too many commands were refused.

    ## Evidence
    421 (or 5yz) after a row of refused or unknown commands, or "too many errors".

    ## What to do
    See what the refused commands were: recipients that do not exist, mail data sent as commands after a refused DATA,
    or a program that is no mail client.

    ## Otherwise
    The server shut down in that moment.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: FOO
    S: 502 5.5.2 Error: command not recognized
    C: BAR
    S: 421 4.7.0 mx.example.org Error: too many errors
    S closes
    ```

    ## Silent
    ```smtp
    S: 220 mx.example.org ESMTP
    C: FOO
    S: 502 5.5.2 Error: command not recognized
    C: QUIT
    S: 221 2.0.0 Bye
    ```
    """
    found = refusals(
        facts, "D67", words("too many (?:errors|(?:syntax|protocol)|bad|unknown|unrecognized|nonmail|invalid)")
    )
    count = len(facts.failed)
    if not found:
        last = facts.failed[-1].reply
        if count <= ERRORS_LEAST or last is None or last.code != 421:
            return
        found = refusals(facts, "D67", words("."), codes={421})
    if found:
        yield Seen(
            f"After {count} refused commands the server ended the conversation: {found.quoted}.",
            found.sure(Confidence.HIGH),
            found.evidence,
            found.advice,
        )


@diagnosis("D66", name="connection-used-up", on=Trigger.FAILED)
def used_up(facts: Facts) -> Iterator[Seen]:
    """The server ends a connection that has carried its share of messages.

    ## Evidence
    421 after one or more accepted messages, at a new MAIL or unasked.

    ## What to do
    Open a new connection and go on: the message is not refused. Limit the messages or minutes of a connection in the
    client to stay below (Postfix: smtp_connection_reuse_time_limit, smtp_connection_reuse_count_limit).

    ## Otherwise
    The server was restarted.

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
    C: Subject: x
    C: .
    S: 250 2.0.0 Ok
    C: MAIL FROM:<a@example.net>
    S: 421 4.7.0 Service closing, reconnect for more
    S closes
    ```

    ## Silent
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 421 4.3.2 Service not available
    S closes
    ```
    """
    accepted = 0
    for exchange in facts.conversation.exchanges:
        command, reply = exchange.command, exchange.reply
        if reply is None:
            continue
        if command is not None and command.verb in (END_OF_DATA, "BDAT") and reply.code == 250:
            accepted += 1
        elif (
            reply.code == 421
            and accepted
            and id(exchange) not in facts.claimed
            and (command is None or command.verb in ("MAIL", "RSET", "NOOP"))
        ):
            found = refusals(facts, "D66", words("."), codes={421})
            if found:
                yield Seen(
                    f"After {accepted} messages the server ends the connection: {found.quoted}.",
                    Confidence.MEDIUM,
                    found.evidence,
                )
            return


@diagnosis("D87", name="server-fault", on=Trigger.FAILED)
def server_fault(facts: Facts) -> Iterator[Seen]:
    """Something inside the server is broken.

    ## Evidence
    421, 451 or 554 with 4.3.0, 4.3.5 or 5.3.5, or a text about a local error, configuration, lookup or milter.

    ## What to do
    Read the server's log at this time; the client only has to retry.

    ## Otherwise
    A policy that is made to look like a fault.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 451 4.3.0 <a@example.net>: Temporary lookup failure
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Silent
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 450 4.7.1 Greylisted
    C: QUIT
    S: 221 2.0.0 Bye
    ```
    """
    pattern = words(
        "local (?:data )?(?:error|problem)",
        "configuration (?:error|problem)",
        "internal (?:server )?error",
        "lookup (?:failure|time-?out)",
        "time[d -]*out",
        "^service unavailable - try again later",
        "queue file write error",
        "temporary service failure",
        "milter",
    )
    found = refusals(facts, "D87", pattern, enhanced={"4.3.0", "4.3.5", "5.3.5", "5.3.0"})
    if found:
        yield Seen(f"The server has a fault of its own: {found.quoted}.", Confidence.HIGH, found.evidence, found.advice)


@diagnosis("D81", name="server-going-down", on=Trigger.FAILED)
def going_down(facts: Facts) -> Iterator[Seen]:
    """The server shuts down or takes no more connections for now.

    ## Evidence
    421, mostly with 4.3.2, and no other reason in its text.

    ## What to do
    Retry later: the client keeps the message.

    ## Otherwise
    Overload, or a limit that the text does not name.

    ## Example
    ```smtp
    S: 421 4.3.2 mx.example.org All server ports are busy
    S closes
    ```

    ## Silent
    ```smtp
    S: 220 mx.example.org ESMTP
    C: QUIT
    S: 221 2.0.0 Bye
    ```
    """
    found = refusals(facts, "D81", words("."), codes={421})
    if found:
        known = found.first.enhanced == "4.3.2"
        yield Seen(
            f"The server ended the conversation for now: {found.quoted}.",
            Confidence.MEDIUM if known else Confidence.LOW,
            found.evidence,
        )


@diagnosis("D27", name="refused-at-greeting", on=Trigger.FAILED)
def at_greeting(facts: Facts) -> Iterator[Seen]:
    """The server refuses the client at the greeting.

    ## Evidence
    The first reply is 4yz or 5yz. Its text, and a link in it, tell why.

    ## What to do
    Read the text: mostly the client's address is unwelcome (reputation, no reverse name), or the server does not serve
    this network.

    ## Otherwise
    The server is a stub that takes no mail at all (521, RFC 7504).

    ## Example
    ```smtp
    S: 554 mx.example.org No mail from you; see https://mx.example.org/why
    C: QUIT
    S: 221 Bye
    ```

    ## Silent
    ```smtp
    S: 220 mx.example.org ESMTP
    C: QUIT
    S: 221 2.0.0 Bye
    ```
    """
    found = refusals(facts, "D27", words("."), verbs={GREETING})
    if found:
        link = URL.search(" ".join(found.first.texts))
        see = f" See {link[0]}." if link else ""
        yield Seen(
            f"The server refuses the client at the greeting: {found.quoted}.{see}", Confidence.HIGH, found.evidence
        )


@diagnosis("D83", name="content-rejected", on=Trigger.FAILED)
def content_rejected(facts: Facts) -> Iterator[Seen]:
    """The server read the message and does not take it.

    ## Evidence
    4yz or 5yz to the end of the mail data, for no other reason that could be told.

    ## What to do
    Read the text, and the server's filter log for this time: spam score, virus, a forbidden attachment, a header field
    that is wrong.

    ## Otherwise
    A fault of the filter rather than its verdict, if the code is 4yz.

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
    C: Subject: x
    C: .
    S: 554 5.7.1 Message content rejected
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
    C: Subject: x
    C: .
    S: 250 2.0.0 Ok
    C: QUIT
    S: 221 2.0.0 Bye
    ```
    """
    found = refusals(facts, "D83", words("."), verbs={END_OF_DATA, "BDAT"}, codes=VERDICTS)
    if found:
        virus = any("virus" in t.lower() or "spam" in t.lower() for t in found.first.texts)
        yield Seen(
            f"The server read the message and refused it: {found.quoted}.",
            Confidence.HIGH if virus else Confidence.MEDIUM,
            found.evidence,
        )
