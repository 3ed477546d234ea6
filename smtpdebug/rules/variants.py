"""Transport, part five: what may stand before or in place of plain SMTP: PROXY, LMTP, XCLIENT, TLS ports.

Sources: the PROXY protocol's specification (haproxy, proxy-protocol.txt), RFC 2033, Postfix XCLIENT_README and
XFORWARD_README, RFC 8314, RFC 3207.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from smtpdebug.model.findings import Severity
from smtpdebug.model.smtp import END_OF_DATA, GREETING, Conversation, Exchange
from smtpdebug.model.streams import CLIENT, SERVER
from smtpdebug.rules.registry import ODD_TRANSPORT, UNFINISHED, WITH_PROXY, WITH_TLS, Said, rule
from smtpdebug.rules.state import State, extensions_of

PROXY = "PROXY protocol, proxy-protocol.txt of HAProxy"
TLS_PORTS: Final = frozenset({465, 2465})
"""TLS from the first byte (RFC 8314 3.3; 2465 as Amazon SES has it)."""
CLEAR_PORTS: Final = frozenset({25, 587, 2587})
"""The server greets in clear (RFC 5321, RFC 6409; 2587 as Amazon SES has it)."""


@rule(id="ST501", on=Conversation, severity=Severity.ERROR, since="0.1", refs=(f"{PROXY} §2",), when=WITH_PROXY)
def proxy_header_malformed(conversation: Conversation) -> Iterator[Said]:
    r"""The PROXY header before the conversation is not well-formed.

    ## Why it matters
    A receiver must not guess: it closes the connection, or takes the load balancer's address for the client's.

    ## Example
    ```smtp
    C! PROXY TCP4 192.0.2.300 198.51.100.2 56324\r\n        <- ST501
    S: 220 mx.example.org ESMTP
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Instead
    ```smtp
    C! PROXY TCP4 192.0.2.30 198.51.100.2 56324 25\r\n
    S: 220 mx.example.org ESMTP
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Innocent look-alikes
    ``PROXY UNKNOWN`` with anything after it is well-formed.
    """
    if conversation.proxy is not None and not conversation.proxy.valid:
        yield conversation.proxy.at, f"the PROXY version {conversation.proxy.version} header is malformed"


@rule(id="ST502", on=Conversation, severity=Severity.NOTE, since="0.1", refs=(f"{PROXY} §2",), when=WITH_PROXY)
def proxy_header(conversation: Conversation) -> Iterator[Said]:
    r"""A PROXY header stands before the conversation: the TCP client is a load balancer.

    ## Why it matters
    The addresses of the connection are not those of the mail client; the header has them.

    ## Example
    ```smtp
    C! PROXY TCP4 192.0.2.30 198.51.100.2 56324 25\r\n        <- ST502
    S: 220 mx.example.org ESMTP
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Innocent look-alikes
    Nothing is wrong with it: a note.
    """
    proxy = conversation.proxy
    if proxy is not None and proxy.valid:
        yield proxy.at, f"PROXY version {proxy.version}; the client is {proxy.source or 'not told'}"


@rule(id="ST503", on=Conversation, severity=Severity.WARNING, since="0.1", refs=(f"{PROXY} §4",), when=WITH_PROXY)
def proxy_header_refused(conversation: Conversation) -> Iterator[Said]:
    r"""The server refuses the conversation right after a PROXY header.

    ## Why it matters
    The server is not set up for PROXY and took the header for a command, or does not like what it says.

    ## Example
    ```smtp
    C! PROXY UNKNOWN\r\n
    S: 421 4.3.0 Server local error        <- ST503
    S closes
    ```

    ## Instead
    ```smtp
    C! PROXY TCP4 192.0.2.30 198.51.100.2 56324 25\r\n
    S: 220 mx.example.org ESMTP
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Innocent look-alikes
    A refused greeting has other causes too (blocklist, load); its text tells.
    """
    if conversation.proxy is None:
        return
    for exchange in conversation.exchanges[:2]:
        reply = exchange.reply
        if reply is not None and reply.code >= 400 and (exchange.command is None or exchange.command.verb == GREETING):
            yield reply.at, f"{reply.code} to the connection with a PROXY header"
            return


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
    if not (state.lmtp or conversation.protocol == "lmtp") or state.lossy or conversation.stream.closed_by is None:
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
        elif command.verb == END_OF_DATA:
            data = exchange.data or data
            replies += reply is not None
    if data is not None and data.ended and replies < accepted:
        yield data.at, f"{replies} replies after the end of mail data for {accepted} accepted recipients"


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


@rule(
    id="ST508",
    on=Exchange,
    verbs={"MAIL", "RCPT", "DATA", "BDAT", "AUTH"},
    severity=Severity.ERROR,
    since="0.1",
    refs=("Postfix XCLIENT_README",),
)
def xclient_without_restart(exchange: Exchange, state: State) -> Iterator[Said]:
    """After XCLIENT was accepted the client does not begin again with EHLO or HELO.

    ## Why it matters
    A 220 to XCLIENT puts the server back to the start of the conversation, as another client: what EHLO, login and
    transaction had set is gone.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO proxy.example.org
    S: 250-mx.example.org
    S: 250 XCLIENT NAME ADDR
    C: XCLIENT ADDR=192.0.2.9
    S: 220 mx.example.org ESMTP
    C: MAIL FROM:<a@example.net>        <- ST508
    S: 503 5.5.1 Error: send HELO/EHLO first
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO proxy.example.org
    S: 250-mx.example.org
    S: 250 XCLIENT NAME ADDR
    C: XCLIENT ADDR=192.0.2.9
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Innocent look-alikes
    Another XCLIENT, NOOP or QUIT may follow.
    """
    command, before = exchange.command, state.previous
    if command is None or before is None or before.command is None or before.reply is None or state.uncertain:
        return
    if before.command.verb == "XCLIENT" and before.reply.code == 220:
        yield command.at, f"{command.verb} right after XCLIENT; EHLO or HELO comes first"


@rule(
    id="ST509", on=Exchange, severity=Severity.ERROR, since="0.1", refs=("Postfix XCLIENT_README",), verbs={"XCLIENT"}
)
def xclient_in_transaction(exchange: Exchange, state: State) -> Iterator[Said]:
    """XCLIENT is sent in the middle of a mail transaction.

    ## Why it matters
    It may not be: the server answers 503.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO proxy.example.org
    S: 250-mx.example.org
    S: 250 XCLIENT NAME ADDR
    C: MAIL FROM:<a@example.net>
    S: 250 2.1.0 Ok
    C: XCLIENT ADDR=192.0.2.9        <- ST509
    S: 503 5.5.1 Error: MAIL transaction in progress
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO proxy.example.org
    S: 250-mx.example.org
    S: 250 XCLIENT NAME ADDR
    C: XCLIENT ADDR=192.0.2.9
    S: 220 mx.example.org ESMTP
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Innocent look-alikes
    XFORWARD may be sent there by some clients; it is another command.
    """
    if exchange.command is not None and state.mail is not None and not state.uncertain:
        yield exchange.command.at, "XCLIENT in a mail transaction"


@rule(
    id="ST510",
    on=Exchange,
    severity=Severity.WARNING,
    since="0.1",
    refs=("Postfix XFORWARD_README",),
    verbs={"XFORWARD"},
)
def xforward_reply_not_listed(exchange: Exchange) -> Iterator[Said]:
    """A reply to XFORWARD that its description does not list.

    ## Why it matters
    XFORWARD only passes on log data: 250, 421, 501, 502 and 503 are all a client has to expect.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO proxy.example.org
    S: 250-mx.example.org
    S: 250 XFORWARD NAME ADDR
    C: XFORWARD ADDR=192.0.2.9
    S: 220 mx.example.org ESMTP        <- ST510
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO proxy.example.org
    S: 250-mx.example.org
    S: 250 XFORWARD NAME ADDR
    C: XFORWARD ADDR=192.0.2.9
    S: 250 2.0.0 Ok
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Innocent look-alikes
    500 and 550 say that the server does not know or allow the command.
    """
    reply = exchange.reply
    if reply is not None and reply.code not in (250, 421, 500, 501, 502, 503, 504, 550, 554) and reply.code:
        yield reply.at, f"{reply.code} to XFORWARD"


@rule(id="ST511", on=Conversation, severity=Severity.ERROR, since="0.1", refs=("RFC 8314 §3.3",))
def plaintext_on_tls_port(conversation: Conversation) -> Iterator[Said]:
    """SMTP in clear on a port where TLS begins with the first byte.

    ## Why it matters
    One side is set up for the other port. A server that waits for a ClientHello sends no greeting, and a client that
    waits for the greeting sends nothing: both time out.

    ## Example
    ```facts
    server_port = 465
    ```
    ```smtp
    C: EHLO client.example.net        <- ST511
    S closes
    ```

    ## Instead
    ```facts
    server_port = 587
    ```
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Innocent look-alikes
    A conversation inside TLS is shown in clear after decryption; it is not counted.
    """
    stream = conversation.stream
    if stream.server.port not in TLS_PORTS or conversation.tls is not None:
        return
    if conversation.protocol not in ("smtp", "lmtp"):
        return
    for exchange in conversation.exchanges[:3]:
        if exchange.encrypted:
            return
        if exchange.command is not None and exchange.command.verb != GREETING:
            yield exchange.command.at, f"{exchange.command.verb} in clear on port {stream.server.port}"
            return
        if exchange.reply is not None:
            yield exchange.reply.at, f"{exchange.reply.code} in clear on port {stream.server.port}"
            return


@rule(
    id="ST512",
    on=Conversation,
    when=ODD_TRANSPORT,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 8314 §3.3", "RFC 5321 §4.3.1"),
)
def nobody_speaks(conversation: Conversation) -> Iterator[Said]:
    """The connection was opened and closed, and neither side sent a byte.

    ## Why it matters
    Each waited for the other. On port 465 or 2465 the server waits for TLS while the client waits for a greeting; on
    other ports the server did not greet.

    ## Example
    ```facts
    server_port = 465
    [stream]
    complete = true
    syn_ms = 0
    last_syn_ms = 0
    syn_ack_ms = 1
    established_ms = 2
    last_ms = 5002
    closed_by = "client-fin"
    ```

    ## Instead
    ```facts
    server_port = 465
    [stream]
    complete = true
    syn_ms = 0
    last_syn_ms = 0
    syn_ack_ms = 1
    established_ms = 2
    closed_by = "client-fin"
    bytes = [517, 2300]
    ```

    ## Innocent look-alikes
    Health checks of load balancers open and close within milliseconds; a second of waiting is needed to count. A
    client that says QUIT in clear as it gives up is counted too.
    """
    stream = conversation.stream
    if stream.closed_by is None or stream.established_ns is None or not stream.complete or any(stream.missing):
        return
    if stream.bytes[SERVER] or stream.bytes[CLIENT] > PARTING_WORDS:
        return
    first = stream.first_data_ns[CLIENT]
    waited = (stream.last.ts_ns if first is None else first) - stream.established_ns
    if waited >= SILENCE_NS:
        why = "the server waits for TLS on this port" if stream.server.port in TLS_PORTS else "the server did not greet"
        yield stream.last, f"nobody spoke for {waited / 1e9:.1f} s: {why}"


SILENCE_NS: Final = 1_000_000_000
PARTING_WORDS: Final = 8
"""Bytes of ``QUIT`` and its line end, which some clients send as they give up."""


@rule(
    id="ST513",
    on=Conversation,
    when=WITH_TLS,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 3207 §4", "RFC 8314 §3.3"),
)
def tls_on_starttls_port(conversation: Conversation) -> Iterator[Said]:
    """The client begins with TLS on a port where the server greets in clear.

    ## Why it matters
    The client is set up for port 465. The server reads the ClientHello as a command; the client reads the greeting as
    a TLS record ("wrong version number").

    ## Example
    ```facts
    server_port = 587
    protocol = "tls"
    [tls]
    mode = "implicit"
    client_hello_ms = 5
    ```

    ## Instead
    ```facts
    server_port = 465
    protocol = "tls"
    [tls]
    mode = "implicit"
    client_hello_ms = 5
    ```

    ## Innocent look-alikes
    A server that answers with TLS is set up so on purpose, and is not counted.
    """
    facts = conversation.tls
    if facts is None or facts.mode != "implicit" or conversation.stream.server.port not in CLEAR_PORTS:
        return
    if facts.client_hello is None or facts.server_hello is not None or facts.decrypted:
        return
    if not conversation.stream.missing[SERVER]:
        yield facts.client_hello, f"ClientHello in place of SMTP on port {conversation.stream.server.port}"


@rule(
    id="ST514",
    on=Conversation,
    when=UNFINISHED,
    severity=Severity.NOTE,
    since="0.1",
    refs=("RFC 5321 §4.2", "RFC 3207 §4"),
)
def capture_not_smtp(conversation: Conversation) -> Iterator[Said]:
    """The stream on a mail port is neither SMTP nor TLS.

    ## Why it matters
    A web browser, a scanner or a wrongly set up client talks to the mail port; the text says what it looks like.

    ## Example
    ```facts
    server_port = 25
    protocol = "unknown"
    summary = "SSH"
    [stream]
    bytes = [40, 40]
    ```

    ## Instead
    ```facts
    server_port = 25
    protocol = "smtp"
    [stream]
    bytes = [40, 40]
    ```

    ## Innocent look-alikes
    Other protocols on other ports are none of ours and not counted.
    """
    stream = conversation.stream
    if conversation.protocol != "unknown" or stream.server.port not in CLEAR_PORTS | TLS_PORTS:
        return
    if any(stream.bytes) and not conversation.joined_late and stream.bytes[CLIENT] > PARTING_WORDS:
        yield stream.opened, f"not SMTP: {conversation.summary or 'not recognised'}"
