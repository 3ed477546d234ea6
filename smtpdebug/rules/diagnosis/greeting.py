"""Diagnoses of the greeting and of who speaks first."""

from __future__ import annotations

from collections.abc import Iterator

from smtpdebug.model.streams import CLIENT, SERVER, TLS_PORTS
from smtpdebug.rules.diagnosis.encryption import on_plaintext_port
from smtpdebug.rules.diagnosis.facts import CLEAR_PORTS, SECOND, Facts, quote, seconds
from smtpdebug.rules.diagnosis.registry import Confidence, Seen, Trigger, diagnosis
from smtpdebug.rules.diagnosis.words import refusals, words
from smtpdebug.rules.port_mismatch import SILENCE_NS
from smtpdebug.rules.scope import http_request, never_began_tls

PLATEAUS = (
    (4.8, 5.6, "the time-out of one DNS query (5 s): the server's resolver does not answer for the client's address"),
    (5.7, 6.6, "the pause of Postfix's postscreen (postscreen_greet_wait, 6 s)"),
    (9.6, 11.0, "two DNS time-outs of 5 s: the server's resolver does not answer for the client's address"),
    (14.5, 16.0, "three DNS time-outs of 5 s, or a DNS blocklist that does not answer"),
    (19.5, 21.0, "four DNS time-outs of 5 s: two look-ups that are not answered"),
    (29.0, 32.0, "an ident query (port 113) that a firewall drops, or DNS given up after 30 s"),
)
"""From and to in seconds, and what waits for that long."""
TRICKLE_NS = 3 * SECOND


@diagnosis("D24", name="greeting-delayed", on=Trigger.WAIT)
def delayed(facts: Facts) -> Iterator[Seen]:
    """The server holds its greeting back.

    ## Evidence
    The first line of the server comes two seconds or more after the connection opened, while the handshake was quick.
    The length tells the likely cause: multiples of five seconds are DNS time-outs, six seconds are postscreen, thirty
    seconds an ident query that is dropped.

    ## What to do
    On the server see to DNS (a PTR record for the client, a resolver that answers, no dead blocklist), reject ident
    (port 113) rather than drop it, and list trusted clients in what delays on purpose (postscreen_access_list,
    greet_pause). On the client wait up to five minutes.

    ## Otherwise
    The server is overloaded; then other replies are slow too.

    ## Example
    ```smtp
    -- 6s --
    S: 220 mx.example.org ESMTP
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Silent
    ```smtp
    -- 300ms --
    S: 220 mx.example.org ESMTP
    C: QUIT
    S: 221 2.0.0 Bye
    ```
    """
    if facts.greeting not in facts.slow or facts.greeting is None or facts.greeting.reply is None:
        return
    wait, reply = facts.greeting.wait_ns or 0, facts.greeting.reply
    if wait < 2 * SECOND:
        return
    cause = next((why for low, high, why in PLATEAUS if low * SECOND <= wait <= high * SECOND), None)
    others = [e for e in facts.slow if e is not facts.greeting]
    says = f"The greeting came {seconds(wait)} after the connection opened"
    if cause is not None and not others:
        yield Seen(f"{says}: {cause}.", Confidence.MEDIUM, (facts.stream.opened, reply.began))
    elif others:
        yield Seen(
            f"{says}; {len(others)} other replies were slow too.",
            Confidence.MEDIUM,
            (reply.began, others[0].reply.at if others[0].reply else reply.at),
        )
    else:
        yield Seen(f"{says}.", Confidence.HIGH, (facts.stream.opened, reply.began))


@diagnosis("D25", name="reply-trickles", on=Trigger.WAIT)
def trickles(facts: Facts) -> Iterator[Seen]:
    """The server lets a reply trickle out over seconds.

    ## Evidence
    Between the first and the last octet of one reply lie three seconds or more: a tarpit that sends an octet a second,
    or a first line ``220-`` with a pause behind it that catches clients which do not wait for the last line.

    ## What to do
    The client must wait for the line without a hyphen. Ask the server's operator to list the client as trusted, and
    see why it is thought to be a spammer.

    ## Otherwise
    Segments of the reply were lost and sent again.

    ## Example
    ```smtp
    S: 220-mx.example.org ESMTP
    -- 6s --
    S: 220 mx.example.org ESMTP
    C: QUIT
    S: 221 2.0.0 Bye
    ```

    ## Silent
    ```smtp
    S: 220-mx.example.org ESMTP
    S: 220 mx.example.org ESMTP
    C: QUIT
    S: 221 2.0.0 Bye
    ```
    """
    for exchange in facts.slow:
        reply = exchange.reply
        if reply is not None and reply.at.ts_ns - reply.began.ts_ns >= TRICKLE_NS and not any(facts.stream.missing):
            what = "greeting" if exchange is facts.greeting else f"reply {reply.code}"
            lost = facts.stream.retransmissions[SERVER] > 0
            # A first line and a pause behind it is for everybody (postscreen's teaser): it says nothing of this client.
            test = exchange is facts.greeting and len(reply.lines) > 1
            why = "a test for clients that do not wait" if test else "the server slows this client down on purpose"
            yield Seen(
                f"The {what} took {seconds(reply.at.ts_ns - reply.began.ts_ns)} from its first octet to its last: "
                f"{why}.",
                Confidence.LOW if lost else Confidence.MEDIUM,
                (reply.began, reply.at),
            )
            return


@diagnosis("D26", name="early-talker", on=Trigger.FAILED | Trigger.FINDING)
def early_talker(facts: Facts) -> Iterator[Seen]:
    """The client speaks before the server has greeted it.

    ## Evidence
    The first command was sent before the end of the greeting had reached the client (rule SC101). Servers take it for
    a spam robot: 554 "synchronization error", 550 "protocol error", or a close.

    ## What to do
    Repair the client: it must read the whole greeting, to the line without a hyphen, before it sends EHLO.

    ## Otherwise
    A load balancer's PROXY header or a ClientHello would come first too; both were looked for.

    ## Example
    ```smtp
    C: EHLO client.example.net
    S: 220 mx.example.org ESMTP
    S: 554 5.5.0 SMTP synchronization error
    ```

    ## Silent
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: QUIT
    S: 221 2.0.0 Bye
    ```
    """
    found = next((f for f in facts.conversation.findings if f.rule == "SC101"), None)
    told = refusals(facts, "D26", TOLD)
    if found is not None:
        then = f" The server answered {told.quoted}." if told else ""
        yield Seen(
            f"{found.message[:1].upper()}{found.message[1:]}.{then}", Confidence.HIGH, (found.at, *told.evidence)
        )
    elif told:
        yield Seen(
            f"The server says that the client does not wait for its turn: {told.quoted}.",
            told.sure(Confidence.LOW),
            told.evidence,
            told.advice,
        )


TOLD = words("synchroni[sz]ation", "protocol error", "early talker", "before (?:the |my )?(?:greeting|banner)")


@diagnosis("D28", name="tls-on-plaintext-port", on=Trigger.TLS | Trigger.UNANSWERED)
def tls_on_plaintext_port(facts: Facts) -> Iterator[Seen]:
    """The client begins with TLS where the server expects to greet in clear.

    ## Evidence
    A ClientHello is the first thing the client sends on a port where SMTP begins in clear, and the server does not
    answer with TLS. In the client's log this is OpenSSL's "wrong version number".

    ## What to do
    Set the client to STARTTLS (not "SSL/TLS") for ports 25, 587 and 2587, or let it use port 465 or 2465.

    ## Otherwise
    The server's port was meant to be a TLS port and is not set up as one.

    ## Example
    ```facts
    server_port = 587
    protocol = "tls"
    [stream]
    bytes = [300, 60]
    [tls]
    mode = "implicit"
    client_hello_ms = 3
    ```

    ## Silent
    ```facts
    server_port = 465
    protocol = "tls"
    [stream]
    bytes = [300, 3000]
    [tls]
    mode = "implicit"
    client_hello_ms = 3
    server_hello_ms = 5
    finished_ms = 9
    ```
    """
    tls = facts.conversation.tls
    if tls is not None and tls.client_hello is not None and on_plaintext_port(facts):
        yield Seen(
            f"The client began TLS at once on port {facts.stream.server.port}, where SMTP begins in clear.",
            Confidence.HIGH,
            (tls.client_hello,),
        )


@diagnosis("D90", name="plaintext-on-tls-port", on=Trigger.UNANSWERED | Trigger.UNOPENED | Trigger.FAILED)
def plaintext_on_tls_port(facts: Facts) -> Iterator[Seen]:
    """The client waits for SMTP in clear on a port where the server waits for TLS.

    ## Evidence
    On port 465 or 2465 there is no ClientHello: the client is silent until it gives up, or sends EHLO in clear; the
    server never greets, and may send an alert when the client has gone.

    ## What to do
    Set the client to "SSL/TLS" (TLS from the first byte) for this port, or let it use 587 with STARTTLS.

    ## Otherwise
    The server is slow to answer and the client's program would have begun TLS later; the times tell.

    ## Example
    ```facts
    server_port = 465
    [stream]
    syn_ms = 0
    last_syn_ms = 0
    syn_ack_ms = 1
    established_ms = 2
    last_ms = 5002
    closed_by = "client-fin"
    ```

    ## Silent
    ```facts
    server_port = 465
    protocol = "tls"
    [stream]
    bytes = [300, 3000]
    [tls]
    mode = "implicit"
    client_hello_ms = 3
    server_hello_ms = 5
    finished_ms = 9
    ```
    """
    stream = facts.stream
    silent_client = never_began_tls(facts.conversation)
    if stream.server.port not in TLS_PORTS or not facts.clear_start:
        return
    if facts.conversation.tls is not None and not silent_client:
        return
    if any(e.encrypted for e in facts.conversation.exchanges[:3]) or stream.syn_ack_ns is None:
        return
    if not facts.silent(SERVER) and not silent_client:
        yield Seen(
            f"SMTP in clear on port {stream.server.port}, which is for TLS from the first byte.",
            Confidence.MEDIUM,
            (stream.opened,),
        )
    elif stream.closed_by is not None:
        waited_ns = stream.last.ts_ns - (stream.established_ns or stream.syn_ack_ns)
        if not stream.bytes[CLIENT] and waited_ns < SILENCE_NS:
            return  # a health check, or a server that serves nobody
        spoke = "said nothing, or only QUIT," if stream.bytes[CLIENT] <= len(b"QUIT\r\n") else "sent SMTP in clear"
        waited = seconds(waited_ns)
        yield Seen(
            f"The server waits for TLS on port {stream.server.port} and the client {spoke} in {waited}: it is set up "
            "for plaintext or STARTTLS.",
            Confidence.HIGH,
            (stream.opened, stream.last),
        )


@diagnosis("D71", name="other-protocol-on-mail-port", on=Trigger.FAILED | Trigger.UNANSWERED)
def other_protocol(facts: Facts) -> Iterator[Seen]:
    """Something other than a mail client talks to the mail port.

    ## Evidence
    HTTP request lines (GET, POST, CONNECT), or a stream that is no SMTP at all.

    ## What to do
    Look who the client is: a monitoring check that expects HTTP, a web browser or proxy led here (an old attack makes
    a browser speak SMTP), a scanner. Servers close on such words (Postfix: smtpd_forbidden_commands).

    ## Otherwise
    The port number of the server is wrong in the client's settings.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: GET / HTTP/1.1
    S: 221 2.7.0 Error: I can break rules, too. Goodbye.
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
    request = http_request(facts.conversation)
    if request is not None:
        yield Seen(f"An HTTP client speaks to the mail server ({request.verb}).", Confidence.HIGH, (request.began,))
        return
    conversation = facts.conversation
    on_mail_port = facts.stream.server.port in CLEAR_PORTS | TLS_PORTS
    if conversation.protocol == "unknown" and on_mail_port and all(facts.stream.bytes) and facts.clear_start:
        what = conversation.summary or "a protocol that is not recognised"
        yield Seen(f"On the mail port there is {what}, not SMTP.", Confidence.MEDIUM, (facts.stream.opened,))


@diagnosis("D89", name="proxy-header-missing-or-unwanted", on=Trigger.FAILED)
def proxy(facts: Facts) -> Iterator[Seen]:
    """Load balancer and server do not agree on the PROXY protocol.

    ## Evidence
    A PROXY header is answered with an error; or a client without one is answered at once with 421 and a local error
    where others with a header are served.

    ## What to do
    Switch it on or off on both sides alike (HAProxy: send-proxy; Postfix: smtpd_upstream_proxy_protocol or
    postscreen_upstream_proxy_protocol; Exim: hosts_proxy).

    ## Otherwise
    The server refuses for another reason; its log tells.

    ## Example
    ```smtp
    C! PROXY UNKNOWN\\r\\n
    S: 421 4.3.0 mx.example.org Server local error
    S closes
    ```

    ## Silent
    ```smtp
    C! PROXY TCP4 192.0.2.30 198.51.100.2 56324 25\\r\\n
    S: 220 mx.example.org ESMTP
    C: QUIT
    S: 221 2.0.0 Bye
    ```
    """
    first = facts.conversation.exchanges[0] if facts.conversation.exchanges else None
    if first is None or first.reply is None or first.reply.code < 400:
        return
    header = facts.conversation.proxy
    local_error = "local error" in " ".join(first.reply.texts).lower() or "protocol error" in " ".join(
        first.reply.texts
    )
    if header is not None:
        source = (header.source or "").rpartition(":")[0].strip("[]")
        if source and source in " ".join(first.reply.texts):
            return  # it read the header, and has something against the client that it names
        yield Seen(
            f"The server answers a PROXY version {header.version} header with “{quote(first.reply)}”.",
            Confidence.MEDIUM,
            (header.at, first.reply.at),
        )
        facts.claimed.add(id(first))
    elif first.reply.code == 421 and local_error and facts.stream.bytes[CLIENT]:
        yield Seen(
            f"The server greets with “{quote(first.reply)}”: it may expect a PROXY header.",
            Confidence.LOW,
            (first.reply.at,),
        )
        facts.claimed.add(id(first))
