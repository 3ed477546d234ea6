"""Transport: LMTP where it differs from SMTP (RFC 2033)."""

from __future__ import annotations

from collections.abc import Iterator

from smtpdebug.model.findings import Severity
from smtpdebug.model.smtp import END_OF_DATA, Conversation, Exchange
from smtpdebug.rules.registry import Said, rule
from smtpdebug.rules.state import State, extensions_of


@rule(id="ST504", on=Exchange, severity=Severity.ERROR, since="0.1", refs=("RFC 2033 §4.1",), verbs={"EHLO", "HELO"})
def hello_of_smtp_in_lmtp(exchange: Exchange, state: State) -> Iterator[Said]:
    """EHLO or HELO in an LMTP conversation.

    ## Why it matters
    LMTP has LHLO in their place, so that neither side can take the other for SMTP, where one reply at the end of data
    stands for all recipients.

    ## Example
    ```smtp port=24
    S: 220 store.example.org LMTP
    C: LHLO mx.example.org
    S: 250-store.example.org
    S: 250-PIPELINING
    S: 250 ENHANCEDSTATUSCODES
    C: EHLO mx.example.org        <- ST504
    S: 500 5.5.1 Unknown command
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Instead
    ```smtp port=24
    S: 220 store.example.org LMTP
    C: LHLO mx.example.org
    S: 250-store.example.org
    S: 250-PIPELINING
    S: 250 ENHANCEDSTATUSCODES
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Innocent look-alikes
    A conversation counts as LMTP only when LHLO was used or the greeting says LMTP.
    """
    if exchange.command is not None and state.lmtp:
        yield exchange.command.at, f"{exchange.command.verb} in LMTP; LHLO is the command"


@rule(id="ST505", on=Conversation, severity=Severity.ERROR, since="0.1", refs=("RFC 2033 §4.2",))
def lmtp_final_replies_missing(conversation: Conversation, state: State) -> Iterator[Said]:
    """An LMTP server gave fewer replies after the end of data than recipients it had accepted.

    ## Why it matters
    The client waits for one reply for each accepted recipient. With one missing it times out and sends again to
    recipients who have the message.

    ## Example
    ```smtp port=24
    S: 220 store.example.org LMTP
    C: LHLO mx.example.org
    S: 250-store.example.org
    S: 250-PIPELINING
    S: 250 ENHANCEDSTATUSCODES
    C: MAIL FROM:<a@example.net>
    S: 250 2.1.0 Ok
    C: RCPT TO:<b@example.org>
    S: 250 2.1.5 Ok
    C: RCPT TO:<c@example.org>
    S: 250 2.1.5 Ok
    C: DATA
    S: 354 OK
    C: Subject: x
    C: .        <- ST505
    S: 250 2.0.0 <b@example.org> Saved
    -- 300s --
    C closes
    ```

    ## Instead
    ```smtp port=24
    S: 220 store.example.org LMTP
    C: LHLO mx.example.org
    S: 250-store.example.org
    S: 250-PIPELINING
    S: 250 ENHANCEDSTATUSCODES
    C: MAIL FROM:<a@example.net>
    S: 250 2.1.0 Ok
    C: RCPT TO:<b@example.org>
    S: 250 2.1.5 Ok
    C: RCPT TO:<c@example.org>
    S: 250 2.1.5 Ok
    C: DATA
    S: 354 OK
    C: Subject: x
    C: .
    S: 250 2.0.0 <b@example.org> Saved
    S: 250 2.0.0 <c@example.org> Saved
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Innocent look-alikes
    A 421 ends everything at once. A capture that stops before the replies proves nothing.
    """
    stream = conversation.stream
    if not (state.lmtp or conversation.protocol == "lmtp") or state.lossy or any(stream.missing):
        return
    if stream.closed_by is None:
        return
    accepted, replies, data = 0, 0, None
    for exchange in conversation.exchanges:
        command, reply = exchange.command, exchange.reply
        if command is None:
            continue
        if reply is not None and reply.code == 421:
            return
        if command.verb in ("MAIL", "RSET", "LHLO"):
            if data is not None and replies < accepted:
                break
            accepted, replies, data = 0, 0, None
        elif command.verb == "RCPT" and reply is not None and 200 <= reply.code < 300:
            accepted += 1
        elif command.verb == END_OF_DATA or (exchange.data is not None and exchange.data.ended):
            data = exchange.data or data
            replies += reply is not None
    if data is not None and data.ended and replies < accepted:
        what = "reply" if replies == 1 else "replies"
        yield data.at, f"{replies} {what} after the end of mail data for {accepted} accepted recipients"


@rule(id="ST506", on=Exchange, severity=Severity.ERROR, since="0.1", refs=("RFC 2033 §5",), verbs={"LHLO"})
def lmtp_on_port_25(exchange: Exchange, state: State) -> Iterator[Said]:
    """LMTP is spoken on port 25.

    ## Why it matters
    "The LMTP protocol MUST NOT be used on the TCP port 25": an SMTP server there does not know LHLO, and an SMTP
    client does not expect several replies.

    ## Example
    ```smtp port=25
    S: 220 store.example.org LMTP
    C: LHLO mx.example.org        <- ST506
    S: 250-store.example.org
    S: 250-PIPELINING
    S: 250 ENHANCEDSTATUSCODES
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Instead
    ```smtp port=24
    S: 220 store.example.org LMTP
    C: LHLO mx.example.org
    S: 250-store.example.org
    S: 250-PIPELINING
    S: 250 ENHANCEDSTATUSCODES
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Innocent look-alikes
    A client that tries LHLO at an SMTP server and is refused has made a mistake, but no LMTP was spoken.
    """
    accepted = exchange.reply is not None and exchange.reply.code == 250
    if exchange.command is not None and accepted and state.conversation.stream.server.port == 25:
        yield exchange.command.at, "LMTP on port 25"


@rule(id="ST507", on=Exchange, severity=Severity.ERROR, since="0.1", refs=("RFC 2033 §5",), verbs={"LHLO"}, replies={2})
def lmtp_extensions_missing(exchange: Exchange) -> Iterator[Said]:
    """An LMTP server does not offer PIPELINING or ENHANCEDSTATUSCODES.

    ## Why it matters
    RFC 2033 requires both of every LMTP server.

    ## Example
    ```smtp port=24
    S: 220 store.example.org LMTP
    C: LHLO mx.example.org
    S: 250-store.example.org
    S: 250 8BITMIME        <- ST507
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Instead
    ```smtp port=24
    S: 220 store.example.org LMTP
    C: LHLO mx.example.org
    S: 250-store.example.org
    S: 250-PIPELINING
    S: 250 ENHANCEDSTATUSCODES
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Innocent look-alikes
    None.
    """
    if exchange.reply is None:
        return
    offered = extensions_of(exchange.reply)
    missing = [keyword for keyword in ("PIPELINING", "ENHANCEDSTATUSCODES") if keyword not in offered]
    if missing:
        yield exchange.reply.at, f"the reply to LHLO does not offer {' and '.join(missing)}"
