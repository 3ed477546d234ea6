"""Transport: what may stand before SMTP or turn it into another conversation: PROXY, XCLIENT, XFORWARD.

Sources: the PROXY protocol's specification (haproxy, proxy-protocol.txt), Postfix XCLIENT_README and XFORWARD_README.
"""

from __future__ import annotations

from collections.abc import Iterator

from smtpdebug.model.findings import Severity
from smtpdebug.model.smtp import GREETING, Conversation, Exchange
from smtpdebug.rules.registry import BEFORE_HELLO, WITH_PROXY, Said, rule
from smtpdebug.rules.state import State

PROXY = "PROXY protocol, proxy-protocol.txt of HAProxy"


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


@rule(
    id="ST508",
    on=Exchange,
    verbs={"MAIL", "RCPT", "DATA", "BDAT", "AUTH"},
    severity=Severity.ERROR,
    since="0.1",
    when=BEFORE_HELLO,
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
