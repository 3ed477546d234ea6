"""Diagnoses of the mail data and of lines that the other side reads differently."""

from __future__ import annotations

from collections.abc import Iterator

from smtpdebug.model.smtp import BARE_LF, END_OF_DATA, MALFORMED, MailData
from smtpdebug.model.streams import CLIENT, SERVER
from smtpdebug.rules.diagnosis.facts import SECOND, Facts, seconds
from smtpdebug.rules.diagnosis.path import stuck
from smtpdebug.rules.diagnosis.registry import Confidence, Seen, Trigger, diagnosis
from smtpdebug.rules.scope import http_request
from smtpdebug.rules.smuggling import COMMANDS, spelt, taken_as_end

STUCK_NS = 5 * SECOND
"""Silence at the end of the mail data after which it counts as stuck and not as still coming."""
FIRST_SEGMENTS = 1500


def _cut(facts: Facts) -> MailData | None:
    """Mail data that the connection ended before its end."""
    messages = facts.conversation.messages
    data = messages[-1].data if messages else None
    if data is None or data.ended or data.missing or facts.stream.missing[CLIENT]:
        return None
    return data


@diagnosis("D60", name="cut-off-in-mail-data", on=Trigger.UNANSWERED | Trigger.TCP)
def cut_off(facts: Facts) -> Iterator[Seen]:
    """The connection ended in the middle of the mail data.

    ## Evidence
    RST or FIN before the end of the data. The number of bytes is given: the same number each time is a filter (DLP,
    virus scanner, firewall); right at the first full packet it is an MTU problem.

    ## What to do
    Find who sent the FIN or RST (it is named) and read that side's log. Send the same message again: if it dies at the
    same byte try without the attachment.

    ## Otherwise
    The client's program was stopped.

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
    C:
    C: half a mess
    S resets
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
    data = _cut(facts)
    closed = facts.stream.closed_by
    if data is None or closed is None or stuck(facts, CLIENT) is not None:
        return  # D12 has the cause
    who, how = (
        ("client" if closed.startswith("client") else "server"),
        ("reset" if closed.endswith("rst") else "closed"),
    )
    early = (
        " It ended within the first full packet: think of the MTU."
        if data.wire_bytes <= FIRST_SEGMENTS and facts.stream.retransmissions[CLIENT]
        else ""
    )
    yield Seen(
        f"The {who} {how} the connection after {data.wire_bytes or data.bytes:,} bytes of mail data, before the end."
        f"{early}",
        Confidence.HIGH,
        (data.at, facts.stream.last),
    )


@diagnosis("D61", name="end-of-mail-data-not-sent", on=Trigger.UNANSWERED | Trigger.WAIT | Trigger.FAILED)
def end_not_sent(facts: Facts) -> Iterator[Seen]:
    """The client sent the message and not the dot that ends it; both sides wait.

    ## Evidence
    Mail data, then silence of five seconds or more, and no CR LF dot CR LF.

    ## What to do
    Look at the end of the data in the transcript: a message that does not end in CR LF before the dot, bare LF line
    ends, or a program that forgot the dot. A firewall's SMTP inspection that holds back a dot which came in a packet
    of its own is an old cause (Cisco PIX).

    ## Otherwise
    The client's source of the message stalled.

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
    C:
    C: a whole message
    -- 300s --
    S: 421 4.4.2 mx.example.org Error: timeout exceeded
    S closes
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
    -- 300s --
    S: 250 2.0.0 Ok
    C: QUIT
    S: 221 2.0.0 Bye
    ```
    """
    data = _cut(facts)
    if data is None or facts.stream.last.ts_ns - data.at.ts_ns < STUCK_NS or stuck(facts, CLIENT) is not None:
        return
    if facts.stream.zero_windows[SERVER]:
        return  # it was not let: the server did not read
    bare = " Its lines end in bare LF." if data.oddities & BARE_LF else ""
    yield Seen(
        f"After {data.bytes:,} bytes of mail data the client fell silent for "
        f"{seconds(facts.stream.last.ts_ns - data.at.ts_ns)} without the final dot.{bare}",
        Confidence.HIGH if bare else Confidence.MEDIUM,
        (data.at,),
    )


@diagnosis("D62", name="reply-never-complete", on=Trigger.UNANSWERED)
def reply_incomplete(facts: Facts) -> Iterator[Seen]:
    """The client waits for the end of a reply that the server thinks it has given.

    ## Evidence
    The last line that came has a hyphen after the code (or the codes of its lines differ), and then both are silent.

    ## What to do
    Mend the server: the last line of a reply has a space after the code.

    ## Otherwise
    The rest of the reply was lost on the way; then it would have been sent again.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250-PIPELINING
    -- 60s --
    C closes
    ```

    ## Silent
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 PIPELINING
    C: QUIT
    S: 221 2.0.0 Bye
    ```
    """
    replies = [e.reply for e in facts.conversation.exchanges[-2:] if e.reply is not None]
    last = replies[-1] if replies else None
    if last is None or not last.oddities & MALFORMED or not last.lines or last.lines[-1][3:4] != b"-":
        return
    if not any(facts.stream.missing) and facts.stream.last.ts_ns - last.at.ts_ns >= STUCK_NS:
        yield Seen(
            f"The reply {last.code} never ends: its last line has a hyphen, and the client waited "
            f"{seconds(facts.stream.last.ts_ns - last.at.ts_ns)} for more.",
            Confidence.HIGH,
            (last.at,),
        )


@diagnosis("D63", name="line-end-not-recognised", on=Trigger.UNANSWERED)
def line_end(facts: Facts) -> Iterator[Seen]:
    """The server waits for the end of a line that the client thinks it has sent.

    ## Evidence
    A command that ends in LF without CR (or not at all), no reply, and silence.

    ## What to do
    Mend the client: lines end in CR LF.

    ## Otherwise
    The server is slow with this command; then a reply would come in the end.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C! EHLO client.example.net\\n
    -- 60s --
    C closes
    ```

    ## Silent
    ```smtp
    S: 220 mx.example.org ESMTP
    C! EHLO client.example.net\\n
    S: 250 mx.example.org
    C: QUIT
    S: 221 2.0.0 Bye
    ```
    """
    for exchange in facts.unanswered[-2:]:
        command = exchange.command
        if command is None or not command.oddities & BARE_LF or any(facts.stream.missing):
            continue
        waited = facts.stream.last.ts_ns - command.at.ts_ns
        if waited >= STUCK_NS:
            yield Seen(
                f"{command.verb} ends in LF without CR, and the server did not answer for {seconds(waited)}: it waits "
                "for the end of the line.",
                Confidence.MEDIUM,
                (command.at,),
            )
            return


@diagnosis("D64", name="out-of-step", on=Trigger.FAILED)
def out_of_step(facts: Facts) -> Iterator[Seen]:
    """Client and server are out of step: the server takes lines for commands that were meant as something else.

    ## Evidence
    A row of 500, 502 or 503 replies to lines that look like header fields, base64 or text; or commands sent in groups
    to a server that does not offer PIPELINING.

    ## What to do
    Look at the first refused command before them: mail data sent after a refused DATA is read as commands, and so are
    the answers of a login that was refused. The client must wait for each reply and heed it.

    ## Otherwise
    A person or program tries commands at random.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: DATA
    S: 503 5.5.1 Error: need RCPT command
    C: Subject: hello
    S: 500 5.5.2 Error: bad syntax
    C: From: a@example.net
    S: 500 5.5.2 Error: bad syntax
    C: .
    S: 500 5.5.2 Error: bad syntax
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Silent
    ```smtp
    S: 220 mx.example.org ESMTP
    C: GET / HTTP/1.1
    S: 502 5.5.2 Error: command not recognized
    C: Host: mx.example.org
    S: 502 5.5.2 Error: command not recognized
    C: Accept: */*
    S: 502 5.5.2 Error: command not recognized
    ```
    """
    strange = [
        e
        for e in facts.failed
        if e.reply is not None and e.reply.code in (500, 502) and e.command is not None and _no_verb(e.command.verb)
    ]
    if len(strange) < 2 or http_request(facts.conversation) is not None:
        return
    first = strange[0]
    index = facts.conversation.exchanges.index(first)
    before = facts.conversation.exchanges[index - 1] if index else None
    cause = ""
    if before is not None and before.command is not None and before.reply is not None and before.reply.code >= 400:
        cause = f" after {before.command.verb} got {before.reply.code}"
    for exchange in strange:
        facts.claimed.add(id(exchange))
    yield Seen(
        f"{len(strange)} lines that are no commands were read as commands{cause}.",
        Confidence.HIGH if cause else Confidence.MEDIUM,
        tuple(e.command.at for e in strange[:5] if e.command is not None),
    )


def _no_verb(verb: str) -> bool:
    """A word that no one would send as a command: punctuation, or longer than any verb."""
    return not verb.isalnum() or len(verb) > len("XREQUIRETLS")


@diagnosis("D65", name="message-smuggling", on=Trigger.FINDING)
def smuggling(facts: Facts) -> Iterator[Seen]:
    """A second message is hidden inside the first behind a false end of data.

    ## Evidence
    A line of one dot whose line ends are not CR LF, and commands after it. If the server answered them it worked.

    ## What to do
    Switch strict line ends on in the server (Postfix: smtpd_forbid_bare_newline = normalize; Exim 4.97.1, Sendmail 8.18
    or later), and in the server that passed the message on. Treat the second message as forged.

    ## Otherwise
    A program with Unix line ends sent a mail that quotes an SMTP dialogue.

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
    C! hello\\n.\\nMAIL FROM:<admin@example.org>\\r\\nRCPT TO:<b@example.org>\\r\\nDATA\\r\\n
    C: .
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
    C: hello
    C: ..
    C: MAIL FROM:<admin@example.org>
    C: .
    S: 250 2.0.0 Ok
    C: QUIT
    S: 221 2.0.0 Bye
    ```
    """
    for exchange in facts.conversation.exchanges:
        data = exchange.data
        if data is None or not data.odd_ends or exchange.command is None or exchange.command.verb != END_OF_DATA:
            continue
        taken = taken_as_end(data)
        hidden = next((odd for odd in data.odd_ends if COMMANDS.search(odd.following)), None)
        if taken is not None and exchange.reply is not None and exchange.reply.code < 400:
            yield Seen(
                f"The server took {spelt(taken.sequence)} for the end of the message: a message can be smuggled in, "
                "and what followed was read as commands.",
                Confidence.HIGH,
                (taken.at, exchange.reply.at),
            )
            return
        if hidden is not None:
            yield Seen(
                f"Commands follow {spelt(hidden.sequence)} in the mail data; the server took none.",
                Confidence.HIGH if facts.stream.bytes[SERVER] else Confidence.MEDIUM,
                (hidden.at,),
            )
            return
