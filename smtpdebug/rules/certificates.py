"""Transport, part three: the server's certificates, where the capture shows them (RFC 5280, RFC 6125, RFC 7817).

Times are those of the packets. RFC 8460 section 4.3 names the same faults for reports between domains.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from smtpdebug.model.findings import Severity
from smtpdebug.model.smtp import Conversation
from smtpdebug.model.streams import Location
from smtpdebug.model.tls import Certificate, TlsFacts
from smtpdebug.rules.registry import WITH_TLS, Said, rule
from smtpdebug.tls.names import covers

DAY_NS: Final = 86_400_000_000_000
SOON_DAYS: Final = 14
"""Certificates that renew themselves (ACME) do so a month ahead: two weeks before the end something is stuck."""
RSA_BITS: Final = 2048
"""RFC 9325 section 4.5 and the CA/Browser Forum: shorter RSA keys are not to be used."""


def leaf(conversation: Conversation) -> tuple[TlsFacts, Certificate, Location] | None:
    """The server's own certificate and where it was seen, or ``None`` where none is visible."""
    facts = conversation.tls
    if facts is None or not facts.certificates:
        return None
    return facts, facts.certificates[0], facts.server_hello or facts.started


@rule(
    id="ST301",
    on=Conversation,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 5280 §4.1.2.5", "RFC 8460 §4.3.2.1"),
    when=WITH_TLS,
)
def certificate_expired(conversation: Conversation) -> Iterator[Said]:
    """The server's certificate had expired at the time of the packets.

    ## Why it matters
    Clients that check certificates (submission, MTA-STS) do not deliver. (RFC 8460: certificate-expired.)

    ## Example
    ```facts
    [tls]
    version = "TLS 1.2"
    server_name = "mx.example.org"
    certificates = [{ names = ["mx.example.org"], not_before = "2023-01-01", not_after = "2023-12-31" }]
    ```

    ## Instead
    ```facts
    [tls]
    version = "TLS 1.2"
    server_name = "mx.example.org"
    certificates = [{ names = ["mx.example.org"] }]
    ```

    ## Innocent look-alikes
    The clock of the capturing host may be wrong; then every certificate looks so.
    """
    seen = leaf(conversation)
    if seen is None:
        return
    _, certificate, at = seen
    over = at.ts_ns - certificate.not_after_ns
    if over > 0:
        yield at, f"the certificate of {_name(certificate)} expired {_days(over)} before"


@rule(id="ST302", on=Conversation, severity=Severity.WARNING, since="0.1", refs=("RFC 5280 §4.1.2.5",), when=WITH_TLS)
def certificate_not_yet_valid(conversation: Conversation) -> Iterator[Said]:
    """The server's certificate was not valid yet at the time of the packets.

    ## Why it matters
    Clients that check certificates do not deliver. Mostly a clock is wrong: the issuer's, the server's, or that of
    the host that captured.

    ## Example
    ```facts
    [tls]
    version = "TLS 1.2"
    server_name = "mx.example.org"
    certificates = [{ names = ["mx.example.org"], not_before = "2024-02-01", not_after = "2025-01-01" }]
    ```

    ## Instead
    ```facts
    [tls]
    version = "TLS 1.2"
    server_name = "mx.example.org"
    certificates = [{ names = ["mx.example.org"] }]
    ```

    ## Innocent look-alikes
    The clock of the capturing host may be wrong.
    """
    seen = leaf(conversation)
    if seen is None:
        return
    _, certificate, at = seen
    early = certificate.not_before_ns - at.ts_ns
    if early > 0:
        yield at, f"the certificate of {_name(certificate)} becomes valid {_days(early)} later"


@rule(
    id="ST303",
    on=Conversation,
    severity=Severity.NOTE,
    since="0.1",
    refs=("RFC 6125 §6", "RFC 7817 §3", "RFC 8460 §4.3.2.1"),
    when=WITH_TLS,
)
def certificate_name_differs(conversation: Conversation) -> Iterator[Said]:
    """The certificate is for other names than the one the client asked for.

    ## Why it matters
    Clients that check the name (submission, MTA-STS) do not deliver. (RFC 8460: certificate-host-mismatch.) Mail
    between servers without MTA-STS or DANE does not look at it; hence a note.

    ## Example
    ```facts
    [tls]
    version = "TLS 1.2"
    server_name = "mx.example.org"
    certificates = [{ names = ["www.example.com"] }]
    ```

    ## Instead
    ```facts
    [tls]
    version = "TLS 1.2"
    server_name = "mx.example.org"
    certificates = [{ names = ["*.example.org"] }]
    ```

    ## Innocent look-alikes
    With DANE the name in the certificate may be another one (RFC 7672 section 3.2.3).
    """
    seen = leaf(conversation)
    if seen is None:
        return
    facts, certificate, at = seen
    if facts.server_name and certificate.names and not covers(certificate.names, facts.server_name):
        names = ", ".join(certificate.names[:3]) + (", …" if len(certificate.names) > 3 else "")
        yield at, f"the certificate is for {names}; the client asked for {facts.server_name}"


@rule(
    id="ST304",
    on=Conversation,
    severity=Severity.NOTE,
    since="0.1",
    refs=("RFC 5280 §3.2", "RFC 8460 §4.3.2.1"),
    when=WITH_TLS,
)
def certificate_self_signed(conversation: Conversation) -> Iterator[Said]:
    """The server's certificate is signed by itself.

    ## Why it matters
    Clients that check certificates accept it only if they were told to. (RFC 8460: certificate-not-trusted.)

    ## Example
    ```facts
    [tls]
    version = "TLS 1.2"
    server_name = "mx.example.org"
    certificates = [{ names = ["mx.example.org"], self_signed = true }]
    ```

    ## Instead
    ```facts
    [tls]
    version = "TLS 1.2"
    server_name = "mx.example.org"
    certificates = [{ names = ["mx.example.org"] }]
    ```

    ## Innocent look-alikes
    Opportunistic TLS between servers, and DANE, work with it; hence a note.
    """
    seen = leaf(conversation)
    if seen is not None and seen[1].self_signed:
        yield seen[2], f"the certificate of {_name(seen[1])} is self-signed"


@rule(
    id="ST305",
    on=Conversation,
    severity=Severity.NOTE,
    since="0.1",
    refs=("RFC 5246 §7.4.2", "RFC 8446 §4.4.2"),
    when=WITH_TLS,
)
def certificate_chain_broken(conversation: Conversation) -> Iterator[Said]:
    """The certificates the server sends do not follow one another.

    ## Why it matters
    Each certificate should certify the one before it. A client that does not find the missing one elsewhere refuses
    the server, another one does not: "it works in my browser".

    ## Example
    ```facts
    [tls]
    version = "TLS 1.2"
    server_name = "mx.example.org"
    certificates = [
      { subject = "CN=mx.example.org", issuer = "CN=Intermediate 1", names = ["mx.example.org"] },
      { subject = "CN=Intermediate 2", issuer = "CN=Root" },
    ]
    ```

    ## Instead
    ```facts
    [tls]
    version = "TLS 1.2"
    server_name = "mx.example.org"
    certificates = [
      { subject = "CN=mx.example.org", issuer = "CN=Intermediate 1", names = ["mx.example.org"] },
      { subject = "CN=Intermediate 1", issuer = "CN=Root" },
    ]
    ```

    ## Innocent look-alikes
    A single certificate may be issued by a root that the client knows: not counted. TLS 1.3 allows any order.
    """
    seen = leaf(conversation)
    if seen is None or len(seen[0].certificates) < 2:
        return
    facts, _, at = seen
    for lower, upper in zip(facts.certificates, facts.certificates[1:], strict=False):
        if lower.issuer != upper.subject and facts.version != "TLS 1.3":
            yield at, f"{_name(lower)} is issued by {lower.issuer}, the next certificate is {upper.subject}"
            return


@rule(
    id="ST306",
    on=Conversation,
    severity=Severity.NOTE,
    since="0.1",
    refs=("RFC 9325 §4.5",),
    security=True,
    when=WITH_TLS,
)
def certificate_key_short(conversation: Conversation) -> Iterator[Said]:
    """The server's RSA key is shorter than 2048 bits.

    ## Why it matters
    Such keys can be broken with effort, and current libraries refuse them ("ee key too small").

    ## Example
    ```facts
    [tls]
    version = "TLS 1.2"
    server_name = "mx.example.org"
    certificates = [{ names = ["mx.example.org"], key = "RSA 1024" }]
    ```

    ## Instead
    ```facts
    [tls]
    version = "TLS 1.2"
    server_name = "mx.example.org"
    certificates = [{ names = ["mx.example.org"], key = "RSA 2048" }]
    ```

    ## Innocent look-alikes
    Elliptic curve keys are short by nature and not counted.
    """
    seen = leaf(conversation)
    if seen is None:
        return
    match = re.match(r"RSA (\d+)", seen[1].key)
    if match and int(match[1]) < RSA_BITS:
        yield seen[2], f"the certificate of {_name(seen[1])} has an RSA key of {match[1]} bits"


@rule(id="ST307", on=Conversation, severity=Severity.NOTE, since="0.1", refs=("RFC 5280 §4.1.2.5",), when=WITH_TLS)
def certificate_expires_soon(conversation: Conversation) -> Iterator[Said]:
    """The server's certificate ends within two weeks of the packets.

    ## Why it matters
    Renewal should have happened: the job that does it may be stuck, or the server still holds the old file.

    ## Example
    ```facts
    [tls]
    version = "TLS 1.2"
    server_name = "mx.example.org"
    certificates = [{ names = ["mx.example.org"], not_before = "2023-10-10", not_after = "2024-01-08" }]
    ```

    ## Instead
    ```facts
    [tls]
    version = "TLS 1.2"
    server_name = "mx.example.org"
    certificates = [{ names = ["mx.example.org"], not_before = "2023-12-10", not_after = "2024-03-08" }]
    ```

    ## Innocent look-alikes
    Certificates that live for less than a month are renewed late by nature and are not counted.
    """
    seen = leaf(conversation)
    if seen is None:
        return
    _, certificate, at = seen
    left = certificate.not_after_ns - at.ts_ns
    lives = certificate.not_after_ns - certificate.not_before_ns
    if 0 <= left < SOON_DAYS * DAY_NS and lives > 30 * DAY_NS:
        yield at, f"the certificate of {_name(certificate)} ends in {_days(left)}"


def _name(certificate: Certificate) -> str:
    return certificate.names[0] if certificate.names else certificate.subject or "the server"


def _days(ns: int) -> str:
    days = ns / DAY_NS
    return f"{days:.0f} days" if days >= 2 else f"{days * 24:.0f} hours"
