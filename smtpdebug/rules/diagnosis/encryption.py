"""Diagnoses of STARTTLS and of the TLS handshake."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from smtpdebug.model.streams import CLIENT, SERVER
from smtpdebug.model.tls import Alert, TlsFacts
from smtpdebug.rules.diagnosis.facts import CLEAR_PORTS, SECOND, Facts, seconds, side_name
from smtpdebug.rules.diagnosis.registry import Confidence, Seen, Trigger, diagnosis
from smtpdebug.rules.scope import never_began_tls
from smtpdebug.tls.alerts import Closings, cause

ALERTS: Final = {
    "handshake_failure": (
        "no version, suite, curve or signature both support",
        "compare what was offered with what the server has; a certificate of another kind (RSA, EC) may be missing",
    ),
    "protocol_version": ("no TLS version both support", "bring the older side up to TLS 1.2"),
    "insufficient_security": ("what was offered is too weak for the server", "bring the client up to date"),
    "unknown_ca": (
        "the client does not trust the issuer of the certificate",
        "send the intermediate certificates with the server's, or give the client the issuer's certificate",
    ),
    "bad_certificate": (
        "the certificate was refused, mostly because its name is not the one asked for",
        "compare the certificate's names with the host name the client is set to",
    ),
    "certificate_expired": (
        "the certificate has expired, or the clock of the side that says so is wrong",
        "renew the certificate and restart the server; check the clock",
    ),
    "certificate_unknown": (
        "the certificate was refused for a reason of the client's own",
        "look in the client's log; name and trust are the usual reasons",
    ),
    "certificate_revoked": ("the certificate has been revoked", "get a new certificate"),
    "unsupported_certificate": (
        "the kind of certificate is not supported",
        "use an RSA or P-256 certificate with the right key usage",
    ),
    "certificate_required": ("the server wants a certificate from the client", "give the client a certificate"),
    "unrecognized_name": (
        "the server has no certificate for the name asked for",
        "check the host name in the client, or add the name to the server",
    ),
    "decrypt_error": (
        "a signature or Finished did not check: the traffic was changed, or certificate and key do not fit",
        "check that the server's certificate and key belong together",
    ),
    "decode_error": ("a handshake message could not be read", "look for a middlebox that changes TLS"),
    "illegal_parameter": ("a handshake message contradicts another", "bring both sides up to date"),
    "internal_error": (
        "a fault in the program that sent it",
        "read that side's log: often the key or certificate file cannot be read",
    ),
    "inappropriate_fallback": (
        "the client tried again with an older version than the server has",
        "find why the first handshake failed",
    ),
    "access_denied": ("the side does not want to talk to this peer", "look at its access rules"),
    "no_application_protocol": ("no ALPN protocol both know", "mail needs none: switch ALPN off"),
    "bad_record_mac": ("a record was damaged or the keys differ", "look for a device that changes packets"),
    "unexpected_message": ("a message came that does not belong there", "look for plaintext mixed into TLS"),
}
"""Description of a fatal alert (RFC 8446 section 6.2) -> what its sender says by it, what to do."""
SLOW_SERVER_NS = SECOND
ONE_PACKET = 1400
"""A ClientHello above this does not fit one packet on the usual path: that is so with post-quantum key shares."""


def on_plaintext_port(facts: Facts) -> bool:
    """A client that began TLS where the server speaks in clear: whatever came of it, that is why (D28)."""
    tls = facts.conversation.tls
    if tls is None or tls.mode != "implicit" or facts.stream.server.port not in CLEAR_PORTS:
        return False
    return tls.client_hello is not None and tls.server_hello is None and not facts.stream.missing[SERVER]


@diagnosis("D32", name="tls-alert", on=Trigger.TLS)
def tls_alert(facts: Facts) -> Iterator[Seen]:
    """One side ended TLS and says why.

    ## Evidence
    A fatal alert. Its sender is the side that is not content.

    ## What to do
    Follow the description of the alert; look in the log of the side that sent it.

    ## Otherwise
    Libraries differ in the alert they choose; bad_certificate and certificate_unknown may mean any fault of the
    certificate.

    ## Example
    ```facts
    [tls]
    client_hello_ms = 3
    server_hello_ms = 5
    alerts = [{ sender = "client", level = "fatal", description = "unknown_ca", code = 48 }]
    ```

    ## Silent
    ```facts
    [tls]
    client_hello_ms = 3
    server_hello_ms = 5
    finished_ms = 9
    application_bytes = [200, 300]
    alerts = [{ sender = "client", level = "warning", description = "close_notify", code = 0 }]
    ```
    """
    tls = facts.conversation.tls
    if tls is None or never_began_tls(facts.conversation) or on_plaintext_port(facts):
        return
    for alert in tls.alerts:
        if alert.level == "fatal" and alert.code != 0:
            yield _explain(alert, tls, Closings.of(facts.stream))
            return


def _explain(alert: Alert, tls: TlsFacts, closings: Closings) -> Seen:
    shown = cause(alert, tls, closings)
    meaning, advice = ALERTS.get(alert.description, ("", "")) if shown is None else (shown.text, shown.advice)
    says = f"The {side_name(alert.sender)} ended TLS with {alert.description}"
    return Seen(
        f"{says}: {meaning}." if meaning else f"{says}.",
        Confidence.HIGH,
        (alert.at,),
        f"{advice[0].upper()}{advice[1:]}." if advice else None,
    )


@diagnosis("D33", name="closed-on-client-hello", on=Trigger.TLS)
def closed_on_hello(facts: Facts) -> Iterator[Seen]:
    """The server closed the connection when it saw the ClientHello, without an alert.

    ## Evidence
    FIN or RST from the server after the ClientHello, no ServerHello.

    ## What to do
    Look in the server's log. Try an older TLS version and a smaller ClientHello (``openssl s_client -tls1_2``, without
    post-quantum groups): if that works the server or a middlebox does not bear the newer one.

    ## Otherwise
    The port is not a TLS port at all.

    ## Example
    ```facts
    server_port = 465
    [stream]
    closed_by = "server-rst"
    bytes = [300, 0]
    [tls]
    mode = "implicit"
    client_hello_ms = 3
    client_hello_size = 300
    ```

    ## Silent
    ```facts
    server_port = 465
    [stream]
    closed_by = "client-fin"
    bytes = [300, 3000]
    [tls]
    mode = "implicit"
    client_hello_ms = 3
    server_hello_ms = 5
    finished_ms = 9
    application_bytes = [200, 300]
    ```
    """
    tls = facts.conversation.tls
    if tls is None or tls.client_hello is None or tls.server_hello is not None or tls.alerts:
        return
    if on_plaintext_port(facts):
        return
    if not (facts.stream.closed_by or "").startswith("server") or any(facts.stream.missing):
        return
    if tls.client_hello_size <= ONE_PACKET:
        yield Seen(
            "The server closed the connection on the ClientHello, without a word.",
            Confidence.MEDIUM,
            (tls.client_hello, facts.stream.last),
        )


@diagnosis("D34", name="large-client-hello-not-borne", on=Trigger.TLS)
def large_hello(facts: Facts) -> Iterator[Seen]:
    """The ClientHello needs two packets, and that is where it ends.

    ## Evidence
    A ClientHello of more than 1400 bytes (post-quantum key shares make it so), no ServerHello, then silence or a close.

    ## What to do
    Switch the post-quantum group off in the client to confirm (OpenSSL: Groups = X25519:P-256), then update the server
    or the middlebox that reads only the first packet of the ClientHello.

    ## Otherwise
    The second packet is lost to an MTU problem.

    ## Example
    ```facts
    [stream]
    closed_by = "server-rst"
    bytes = [1800, 0]
    [tls]
    client_hello_ms = 3
    client_hello_size = 1750
    ```

    ## Silent
    ```facts
    [stream]
    bytes = [1800, 3000]
    [tls]
    client_hello_ms = 3
    client_hello_size = 1750
    server_hello_ms = 5
    finished_ms = 9
    application_bytes = [200, 300]
    ```
    """
    tls = facts.conversation.tls
    if tls is None or tls.client_hello is None or tls.server_hello is not None or tls.alerts:
        return
    if on_plaintext_port(facts):
        return
    if tls.client_hello_size > ONE_PACKET and facts.stream.closed_by is not None and not any(facts.stream.missing):
        yield Seen(
            f"The ClientHello has {tls.client_hello_size:,} bytes and needs two packets; no answer followed.",
            Confidence.MEDIUM,
            (tls.client_hello,),
        )


@diagnosis("D37", name="tls-handshake-slow-at-server", on=Trigger.TLS)
def slow_handshake(facts: Facts) -> Iterator[Seen]:
    """The server is slow to answer the ClientHello.

    ## Evidence
    A second or more between ClientHello and ServerHello, beyond the round trip.

    ## What to do
    Look at the server's load, at the key's home (hardware module), at entropy on small virtual hosts, and at calls to
    a certificate status service.

    ## Otherwise
    The ServerHello was lost once and sent again.

    ## Example
    ```facts
    [tls]
    client_hello_ms = 3
    server_hello_ms = 3003
    finished_ms = 3010
    application_bytes = [200, 300]
    ```

    ## Silent
    ```facts
    [tls]
    client_hello_ms = 3
    server_hello_ms = 33
    finished_ms = 40
    application_bytes = [200, 300]
    ```
    """
    tls = facts.conversation.tls
    if tls is None or tls.client_hello is None or tls.server_hello is None:
        return
    wait = tls.server_hello.ts_ns - tls.client_hello.ts_ns - facts.round_trip_ns
    if wait >= SLOW_SERVER_NS:
        lost = facts.stream.retransmissions[SERVER] > 0
        yield Seen(
            f"The server took {seconds(wait)} to answer the ClientHello.",
            Confidence.LOW if lost else Confidence.HIGH,
            (tls.client_hello, tls.server_hello),
        )


@diagnosis("D38", name="client-certificate-missing", on=Trigger.TLS)
def client_certificate(facts: Facts) -> Iterator[Seen]:
    """The server asks for a certificate of the client, gets none, and ends the handshake.

    ## Evidence
    CertificateRequest, an empty Certificate of the client, then a fatal alert or close of the server.

    ## What to do
    Give the client a certificate that the server trusts, or make it optional on the server (Postfix:
    smtpd_tls_ask_ccert in place of smtpd_tls_req_ccert).

    ## Otherwise
    The handshake failed for another reason; many servers ask and do not insist.

    ## Example
    ```facts
    [stream]
    closed_by = "server-fin"
    [tls]
    client_hello_ms = 3
    server_hello_ms = 5
    client_certificate_requested = true
    alerts = [{ sender = "server", level = "fatal", description = "handshake_failure", code = 40 }]
    ```

    ## Silent
    ```facts
    [tls]
    client_hello_ms = 3
    server_hello_ms = 5
    finished_ms = 9
    client_certificate_requested = true
    application_bytes = [200, 300]
    ```
    """
    tls = facts.conversation.tls
    if tls is None or not tls.client_certificate_requested or tls.client_certificates:
        return
    fatal = next((a for a in tls.alerts if a.level == "fatal" and a.sender == SERVER), None)
    if fatal is not None:
        sure = Confidence.HIGH if fatal.description == "certificate_required" else Confidence.MEDIUM
        yield Seen("The server asked for a client certificate, got none and refused.", sure, (fatal.at,))


@diagnosis("D40", name="tls-stays-closed", on=Trigger.TLS)
def stays_closed(facts: Facts) -> Iterator[Seen]:
    """A key was given and what is inside TLS could not be read all the same.

    ## Evidence
    The reason is one of a closed list; it is found by comparing key, certificate, version, suite and what is missing.

    ## What to do
    Give a key log (SSLKEYLOGFILE) of one of the two sides: it opens every version and suite.

    ## Otherwise
    None: the reason is read from the handshake.

    ## Example
    ```facts
    [tls]
    client_hello_ms = 3
    server_hello_ms = 5
    finished_ms = 9
    application_bytes = [200, 300]
    reason = "wrong-key"
    reason_text = "the key does not belong to the server's certificate"
    ```

    ## Silent
    ```facts
    [tls]
    client_hello_ms = 3
    server_hello_ms = 5
    finished_ms = 9
    application_bytes = [200, 300]
    decrypted = true
    ```
    """
    tls = facts.conversation.tls
    if tls is None or tls.decrypted or tls.reason is None or tls.reason not in KEY_TROUBLE:
        return
    yield Seen(
        f"TLS stays closed: {tls.reason_text or tls.reason}.",
        Confidence.HIGH,
        (tls.server_hello or tls.started,),
        tls.advice,
    )


KEY_TROUBLE = frozenset(
    {"partial", "spool-limit", "client-key", "ca-key", "wrong-key", "leaf-not-rsa", "bad-premaster", "not-authentic"}
)
"""Reasons that only arise where a key was given; without one every conversation would be named."""


@diagnosis("D42", name="client-leaves-after-handshake", on=Trigger.TLS)
def leaves(facts: Facts) -> Iterator[Seen]:
    """The client ends the connection as soon as the handshake is done.

    ## Evidence
    The handshake is complete, no alert is visible, and the client closes without having sent a command inside.

    ## What to do
    Look in the client's log for a complaint about the certificate: name, issuer, DANE or MTA-STS policy. In TLS 1.3
    its alert is encrypted; a key log shows it.

    ## Otherwise
    A monitoring check that only looks at the certificate.

    ## Example
    ```facts
    [stream]
    closed_by = "client-fin"
    [tls]
    client_hello_ms = 3
    server_hello_ms = 5
    finished_ms = 9
    application_bytes = [0, 0]
    records = [3, 5]
    ```

    ## Silent
    ```facts
    [stream]
    closed_by = "client-fin"
    [tls]
    client_hello_ms = 3
    server_hello_ms = 5
    finished_ms = 9
    application_bytes = [200, 300]
    records = [9, 9]
    ```
    """
    tls = facts.conversation.tls
    if tls is None or tls.finished is None or tls.decrypted or any(facts.stream.missing):
        return
    if any(a.level == "fatal" for a in tls.alerts) or not (facts.stream.closed_by or "").startswith("client"):
        return
    if tls.application_bytes[CLIENT] <= PARTING_BYTES and tls.version != "TLS 1.3":
        yield Seen(
            "The client closed right after the TLS handshake: it did not like what it saw there.",
            Confidence.MEDIUM,
            (tls.finished, facts.stream.last),
        )


PARTING_BYTES = 0
