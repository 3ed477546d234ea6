"""Transport, part two: what the TLS handshake shows (RFC 8446, RFC 5246, RFC 8996, RFC 8460 for the result types)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from smtpdebug.model.findings import Severity
from smtpdebug.model.smtp import Conversation
from smtpdebug.model.streams import CLIENT, Location
from smtpdebug.model.tls import TlsFacts
from smtpdebug.rules.registry import WITH_TLS, Indeterminate, Said, rule
from smtpdebug.rules.scope import never_began_tls, one_direction

OLD_VERSIONS: Final = frozenset({"SSL 2.0", "SSL 3.0", "SSLv2", "SSLv3", "TLS 1.0", "TLS 1.1"})
"""RFC 8996 for TLS 1.0 and 1.1, RFC 7568 for SSL 3.0, RFC 6176 for SSL 2.0."""
WEAK: Final = re.compile(r"_NULL_|_EXPORT|_RC4_|_RC2_|3DES_|_DES_|_DES40_|WITH_NULL")
ANONYMOUS: Final = re.compile(r"_anon_", re.IGNORECASE)


def _where(facts: TlsFacts) -> Location:
    return facts.server_hello or facts.client_hello or facts.started


@rule(
    id="ST201",
    on=Conversation,
    when=WITH_TLS,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 8996", "RFC 7568", "RFC 9325 §3.1.1"),
    security=True,
)
def tls_version_old(conversation: Conversation) -> Iterator[Said]:
    """The connection uses TLS 1.1 or older.

    ## Why it matters
    These versions MUST NOT be used any more. Current libraries refuse them, so that one day the handshake fails after
    an update of the other side.

    ## Example
    ```facts
    [tls]
    version = "TLS 1.0"
    ```

    ## Instead
    ```facts
    [tls]
    version = "TLS 1.2"
    ```

    ## Innocent look-alikes
    For mail between servers an old version protects better than the fall-back to clear; still it is to be replaced.
    """
    facts = conversation.tls
    if facts is not None and facts.version in OLD_VERSIONS:
        yield _where(facts), f"{facts.version} was agreed"


@rule(
    id="ST202",
    on=Conversation,
    when=WITH_TLS,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 9325 §4.1", "RFC 7465", "RFC 8429"),
    security=True,
)
def cipher_suite_weak(conversation: Conversation) -> Iterator[Said]:
    """The agreed cipher suite does not protect: no encryption, export strength, RC4, RC2, DES or 3DES.

    ## Why it matters
    What is sent can be read by whoever records it, now or with some effort.

    ## Example
    ```facts
    [tls]
    version = "TLS 1.2"
    cipher_suite = "TLS_RSA_WITH_RC4_128_SHA"
    ```

    ## Instead
    ```facts
    [tls]
    version = "TLS 1.2"
    cipher_suite = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
    ```

    ## Innocent look-alikes
    Suites without a certificate (anon) after STARTTLS on port 25 are opportunistic TLS of older Postfix and are not
    counted there; where a certificate is expected they are.
    """
    facts = conversation.tls
    if facts is None or facts.cipher_suite is None:
        return
    opportunistic = facts.mode == "starttls" and conversation.stream.server.port == 25
    if WEAK.search(facts.cipher_suite) or (ANONYMOUS.search(facts.cipher_suite) and not opportunistic):
        yield _where(facts), f"{facts.cipher_suite} was agreed"


@rule(
    id="ST203",
    on=Conversation,
    when=WITH_TLS,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 8446 §6.2", "RFC 5246 §7.2.2"),
)
def tls_fatal_alert(conversation: Conversation) -> Iterator[Said]:
    """One side ended TLS with a fatal alert.

    ## Why it matters
    The sender of the alert is the one who is not content; its description says with what. Mail that needs TLS does
    not flow, other mail goes in clear at the next try.

    ## Example
    ```facts
    [tls]
    version = "TLS 1.2"
    alerts = [{ sender = "client", level = "fatal", description = "unknown_ca", code = 48 }]
    ```

    ## Instead
    ```facts
    [tls]
    version = "TLS 1.2"
    alerts = [{ sender = "client", level = "warning", description = "close_notify", code = 0 }]
    ```

    ## Innocent look-alikes
    close_notify and user_canceled end a connection in good order. An alert to a client that never began TLS is what a
    server says of the silence, not of a handshake (ST512).
    """
    facts = conversation.tls
    if facts is None or never_began_tls(conversation):
        return
    for alert in facts.alerts:
        if alert.level == "fatal" and alert.code not in (0, 90):
            who = "client" if alert.sender == CLIENT else "server"
            yield alert.at, f"fatal alert {alert.description} from the {who} in the {alert.phase} phase"


@rule(
    id="ST204",
    on=Conversation,
    when=WITH_TLS,
    severity=Severity.NOTE,
    since="0.1",
    refs=("RFC 6066 §3", "RFC 7672 §8.1"),
)
def server_name_not_sent(conversation: Conversation) -> Iterator[Said]:
    """The ClientHello names no server (SNI).

    ## Why it matters
    A server with several certificates has to guess. DANE clients MUST send the name.

    ## Example
    ```facts
    [tls]
    version = "TLS 1.2"
    client_hello_ms = 5
    ```

    ## Instead
    ```facts
    [tls]
    version = "TLS 1.2"
    client_hello_ms = 5
    server_name = "mx.example.org"
    ```

    ## Innocent look-alikes
    Most servers that send mail do not use SNI towards port 25; a client of an address without a name cannot. An
    encrypted ClientHello hides the name.
    """
    facts = conversation.tls
    if facts is None or facts.client_hello is None or facts.server_name is not None:
        return
    if ENCRYPTED_CLIENT_HELLO not in facts.client_extensions:
        yield facts.client_hello, "the ClientHello has no server name"


ENCRYPTED_CLIENT_HELLO: Final = 0xFE0D


@rule(
    id="ST205",
    on=Conversation,
    when=WITH_TLS,
    severity=Severity.NOTE,
    since="0.1",
    refs=("RFC 8446 §6.1", "RFC 5246 §7.2.1"),
)
def close_notify_missing(conversation: Conversation) -> Iterator[Said]:
    """The connection was closed under TLS without close_notify from either side.

    ## Why it matters
    Without it a cut connection looks like a finished one. For SMTP that is harmless after QUIT, since each message is
    acknowledged; in the middle it hides who gave up.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 STARTTLS
    C: STARTTLS
    S: 220 2.0.0 Ready to start TLS
    -- tls --
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: QUIT
    S: 221 2.0.0 Bye
    ```
    ```facts
    [stream]
    closed_by = "client-fin"
    [tls]
    version = "TLS 1.2"
    decrypted = true
    server_name = "mx.example.org"
    ```

    ## Instead
    ```facts
    [stream]
    closed_by = "client-fin"
    [tls]
    version = "TLS 1.2"
    decrypted = true
    server_name = "mx.example.org"
    alerts = [{ sender = "client", level = "warning", description = "close_notify", code = 0 }]
    ```

    ## Innocent look-alikes
    Alerts inside TLS show only where it is decrypted; elsewhere the rule is silent. Many mail programs leave
    close_notify out.
    """
    facts = conversation.tls
    if facts is None or not facts.decrypted or conversation.stream.closed_by is None or any(facts.missing):
        return
    if not facts.alerts and not any(conversation.stream.missing):
        yield conversation.stream.last, "closed without close_notify"


@rule(
    id="ST206",
    on=Conversation,
    when=WITH_TLS,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 8446 §4", "RFC 3207 §4.1"),
)
def tls_handshake_cut_off(conversation: Conversation) -> Iterator[Said]:
    """The connection was closed in the TLS handshake, and no alert says why.

    ## Why it matters
    One side gave up in silence: it does not like a version, a name or a certificate and its program does not say so,
    or something on the way does not let large handshake messages pass.

    ## Example
    ```facts
    [stream]
    closed_by = "server-fin"
    bytes = [300, 0]
    [tls]
    client_hello_ms = 5
    server_name = "mx.example.org"
    ```

    ## Instead
    ```facts
    [stream]
    closed_by = "client-fin"
    [tls]
    client_hello_ms = 5
    server_hello_ms = 9
    finished_ms = 15
    version = "TLS 1.2"
    server_name = "mx.example.org"
    ```

    ## Innocent look-alikes
    Where bytes of the handshake, or all of one side, are missing from the capture the rule is silent.
    """
    facts = conversation.tls
    closed = conversation.stream.closed_by
    if facts is None or closed is None or not _cut_off(conversation, facts):
        return
    step = "after the ServerHello" if facts.server_hello is not None else "after the ClientHello"
    who = "the client" if closed.startswith("client") else "the server"
    how = "reset the connection" if closed.endswith("rst") else "closed"
    yield conversation.stream.last, f"{who} {how} {step}, without an alert"


@rule(id="ST207", on=Conversation, when=WITH_TLS, severity=Severity.NOTE, since="0.1", refs=("RFC 8446 §5",))
def tls_not_opened(conversation: Conversation) -> Iterator[Said]:
    """What was said inside TLS could not be read, so that it is not judged.

    ## Why it matters
    Silence about this conversation is no praise. The text says which reason of the closed list holds, and ``smtpdebug
    tls`` what to do: a key log always opens a conversation, the server's RSA key only in TLS 1.2 and older with RSA
    key exchange.

    ## Example
    ```facts
    [tls]
    version = "TLS 1.3"
    server_name = "mx.example.org"
    reason = "tls13"
    reason_text = "TLS 1.3 cannot be opened with an RSA key"
    ```

    ## Instead
    ```facts
    [tls]
    version = "TLS 1.3"
    server_name = "mx.example.org"
    decrypted = true
    secret = "keylog"
    ```

    ## Innocent look-alikes
    None: it is a statement about the capture and the keys given, not about the peers. Where the handshake failed there
    is nothing to judge inside: ST203 and ST206 tell of the failure.
    """
    facts = conversation.tls
    if facts is None or facts.decrypted or facts.reason is None or _told(conversation, facts):
        return
    yield _where(facts), Indeterminate(f"not judged inside TLS: {facts.reason_text or facts.reason}")


def _cut_off(conversation: Conversation, facts: TlsFacts) -> bool:
    """Closed between ClientHello and Finished without an alert, all of it seen."""
    stream = conversation.stream
    if stream.closed_by is None or facts.finished is not None or facts.client_hello is None:
        return False
    if facts.alerts or any(facts.missing) or any(stream.missing) or facts.decrypted:
        return False
    return not any(facts.application_bytes) and not one_direction(stream)


def _told(conversation: Conversation, facts: TlsFacts) -> bool:
    """ST203 or ST206 says that the handshake failed."""
    fatal = any(alert.level == "fatal" and alert.phase == "handshake" for alert in facts.alerts)
    return (fatal and facts.finished is None) or _cut_off(conversation, facts)
