"""Diagnoses of the server's certificate."""

from __future__ import annotations

from collections.abc import Iterator

from smtpdebug.model.tls import Certificate
from smtpdebug.rules.certificates import leaf
from smtpdebug.rules.diagnosis.facts import Facts
from smtpdebug.rules.diagnosis.registry import Confidence, Seen, Trigger, diagnosis
from smtpdebug.tls.names import covers

DAY_NS = 86_400_000_000_000


@diagnosis("D35", name="certificate-not-valid", on=Trigger.TLS)
def not_valid(facts: Facts) -> Iterator[Seen]:
    """The server's certificate was out of its time.

    ## Evidence
    The time of the packets lies outside the certificate's validity.

    ## What to do
    Renew the certificate and let the server load it (a restart, or a reload; look whether it reads the file that was
    renewed).

    ## Otherwise
    The clock of the capturing host is wrong: compare with the clock of the peers.

    ## Example
    ```facts
    [tls]
    server_hello_ms = 5
    certificates = [{ names = ["mx.example.org"], not_before = "2023-01-01", not_after = "2023-12-01" }]
    ```

    ## Silent
    ```facts
    [tls]
    server_hello_ms = 5
    certificates = [{ names = ["mx.example.org"] }]
    ```
    """
    seen = leaf(facts.conversation)
    if seen is None:
        return
    _, certificate, at = seen
    if at.ts_ns > certificate.not_after_ns:
        days = (at.ts_ns - certificate.not_after_ns) / DAY_NS
        said = f"expired {days:.0f} days before"
    elif at.ts_ns < certificate.not_before_ns:
        days = (certificate.not_before_ns - at.ts_ns) / DAY_NS
        said = f"becomes valid only {days:.0f} days later"
    else:
        return
    yield Seen(f"The certificate of {_name(certificate)} {said}.", Confidence.HIGH, (at,))


@diagnosis("D36", name="certificate-for-another-name", on=Trigger.TLS)
def another_name(facts: Facts) -> Iterator[Seen]:
    """The server's certificate is for another name, and the client broke off.

    ## Evidence
    The name the client asked for (SNI) is not among the certificate's names, and the handshake ended in an alert of
    the client, or the server says it does not know the name.

    ## What to do
    Get a certificate with the name that clients use, or let them use a name in the certificate.

    ## Otherwise
    The client does not check names and broke off for another reason.

    ## Example
    ```facts
    [tls]
    server_name = "smtp.example.org"
    server_hello_ms = 5
    certificates = [{ names = ["mx.example.org"] }]
    alerts = [{ sender = "client", level = "fatal", description = "bad_certificate", code = 42 }]
    ```

    ## Silent
    ```facts
    [tls]
    server_name = "smtp.example.org"
    server_hello_ms = 5
    finished_ms = 9
    application_bytes = [100, 100]
    certificates = [{ names = ["mx.example.org"] }]
    ```
    """
    tls = facts.conversation.tls
    fatal = next((a for a in tls.alerts if a.level == "fatal"), None) if tls is not None else None
    if tls is None or fatal is None or not tls.server_name:
        return
    if fatal.description == "unrecognized_name":
        yield Seen(f"The server does not know the name {tls.server_name}.", Confidence.HIGH, (fatal.at,))
        return
    seen = leaf(facts.conversation)
    if seen is None or covers(seen[1].names, tls.server_name) or not seen[1].names:
        return
    yield Seen(
        f"The client asked for {tls.server_name}, the certificate is for {', '.join(seen[1].names[:3])}, and TLS ended "
        f"with {fatal.description}.",
        Confidence.HIGH if fatal.description in NAME_ALERTS else Confidence.MEDIUM,
        (seen[2], fatal.at),
    )


NAME_ALERTS = frozenset({"bad_certificate", "certificate_unknown"})


def _name(certificate: Certificate) -> str:
    return certificate.names[0] if certificate.names else certificate.subject or "the server"
