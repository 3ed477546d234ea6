"""One TLS handshake in words: offered, agreed, certificates, times. Texts still hold what the wire said, unescaped."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from smtpdebug.model.streams import CLIENT
from smtpdebug.model.tls import Certificate, Flight, TlsFacts
from smtpdebug.render.clock import rfc3339
from smtpdebug.render.facts import plural
from smtpdebug.tls.names import covers
from smtpdebug.tls.suite_parameters import key_exchange

_DAY_NS: Final = 86_400 * 1_000_000_000
_WEAK: Final = ("NULL", "EXPORT", "EXPORT1024", "RC4", "RC2", "DES40", "DES", "3DES", "anon", "MD5", "IDEA", "SEED")
_SHOWN: Final = 5
"""Of a list: groups, names."""
_FLIGHTS_SHOWN: Final = 12


def offered(facts: TlsFacts) -> str:
    """What the client offered; ``""`` where no ClientHello was seen."""
    if facts.client_hello is None:
        return ""
    parts = [", ".join(facts.versions_offered) or "no known version", suites(facts.cipher_suites_offered)]
    if facts.groups_offered:
        parts.append(f"groups {_some(facts.groups_offered)}")
    parts.append(f"name {facts.server_name} (SNI)" if facts.server_name else "no name (SNI)")
    if facts.alpn_offered:
        parts.append(f"ALPN {_some(facts.alpn_offered)}")
    if facts.ticket_offered:
        parts.append("a ticket to resume a session")
    return "; ".join(parts)


def suites(names: list[str]) -> str:
    """How many cipher suites of which kind: what decides whether a server's key could open it, and what is weak."""
    real = [name for name in names if not name.endswith("_SCSV")]  # signals, no suites (RFC 5746 section 3.3)
    kinds = dict.fromkeys(("of TLS 1.3", "with forward secrecy", "with RSA key exchange", "other"), 0)
    for name in real:
        kinds[_kind(name)] += 1
    weak = [name for name in real if is_weak(name)]
    said = plural(len(real), "cipher suite")
    if real:
        said += " (" + ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count) + ")"
    return said + (f", weak: {_some(weak, 3)}" if weak else "")


def _kind(name: str) -> str:
    exchange = key_exchange(name)
    if exchange == "RSA":
        return "with RSA key exchange"
    if exchange.startswith(("ECDHE_", "DHE_")):
        return "with forward secrecy"
    return "of TLS 1.3" if name.startswith("TLS_") and not exchange else "other"


def is_weak(name: str) -> bool:
    """Whether a cipher suite has a part that RFC 9325 section 4 and the RFCs it cites forbid."""
    return any(part in _WEAK for part in name.split("_"))


def agreed(facts: TlsFacts) -> str:
    """What the two agreed on."""
    if facts.reason == "not-tls":
        return "nothing: what came is no TLS"
    if facts.version is None:
        if facts.client_hello is None:
            return "unknown: the handshake is not in the capture"
        return "nothing: no ServerHello"
    parts = [facts.version, _suite(facts)]
    if facts.group:
        parts.append(f"group {facts.group}")
    if facts.alpn:
        parts.append(f"ALPN {facts.alpn}")
    if facts.resumed is not None:
        parts.append("a resumed session" if facts.resumed else "a full handshake")
    if facts.hello_retry:
        parts.append("after a HelloRetryRequest (the client's key share did not suit: one round trip more)")
    if facts.server_hello is None and facts.hello_retry:
        parts.append("no ServerHello")
    client = client_certificate(facts)
    if client:
        parts.append(client)
    return "; ".join(part for part in parts if part)


def _suite(facts: TlsFacts) -> str:
    name = facts.cipher_suite or ""
    remarks = []
    if _kind(name) == "with RSA key exchange":
        remarks.append("RSA key exchange, no forward secrecy")
    if is_weak(name):
        remarks.append("weak")
    return f"{name} ({', '.join(remarks)})" if remarks else name


def client_certificate(facts: TlsFacts) -> str:
    """Whether the client was asked for a certificate, and which it sent; ``""`` where it was not, or none can see."""
    sent = facts.client_certificates
    if sent:
        return f"client certificate {sent[0].subject or 'without a subject'} ({sent[0].key})"
    return "client certificate asked for, none sent" if facts.client_certificate_requested else ""


def certificates(facts: TlsFacts) -> Iterator[str]:
    """The server's certificates, leaf first, each in a sentence, then what is odd about them together."""
    chain = facts.certificates
    if not chain:
        if facts.version == "TLS 1.3" and not facts.resumed and not facts.decrypted:
            yield "not visible: TLS 1.3 encrypts it"
        return
    at_ns = (facts.server_hello or facts.started).ts_ns
    for certificate in chain:
        yield _certificate(certificate, at_ns)
    if chain[0].subject or chain[0].names:
        yield name_match(chain[0], facts.server_name)
    odd = chain_order(chain)
    if odd:
        yield odd


def chain_order(chain: list[Certificate]) -> str:
    """What is odd about the order (RFC 5246 section 7.4.2: each one certifies the one before); ``""`` if nothing is."""
    if len(chain) == 1 and chain[0].issuer and not chain[0].self_signed:
        return "chain: sent alone, without the certificate of its issuer"
    for lower, upper in pairwise(chain):
        if lower.sha256 == upper.sha256:
            return f"chain: {lower.subject} is sent twice"
        if lower.issuer != upper.subject:
            return f"chain out of order: {lower.subject} is issued by {lower.issuer}, next comes {upper.subject}"
    return ""


def _certificate(certificate: Certificate, at_ns: int) -> str:
    if not certificate.not_after_ns:
        return f"cannot be read (SHA-256 {certificate.sha256})"
    issuer = "self-signed" if certificate.self_signed else f"issued by {certificate.issuer}"
    return f"{certificate.subject or 'no subject'}; {certificate.key}; {issuer}; {validity(certificate, at_ns)}"


def validity(certificate: Certificate, at_ns: int) -> str:
    """Days left at the time of the packets, not at the time of reading."""
    before, after = certificate.not_before_ns, certificate.not_after_ns
    if at_ns < before:
        return f"NOT YET VALID: from {rfc3339(before)[:10]}, {_days(before - at_ns)} after the capture"
    if at_ns > after:
        return f"EXPIRED {rfc3339(after)[:10]}, {_days(at_ns - after)} before the capture"
    return f"{_days(after - at_ns)} left (until {rfc3339(after)[:10]})"


def _days(duration_ns: int) -> str:
    days = duration_ns // _DAY_NS
    return plural(days, "day") if days else plural(duration_ns // (_DAY_NS // 24), "hour")


def name_match(certificate: Certificate, wanted: str | None) -> str:
    """The certificate's names against the name that the client asked for."""
    names = certificate.names
    if not names:
        # RFC 9525 section 6.3 ends the use of the CN; OpenSSL, and Postfix with it, still falls back to it.
        return (
            "names: no DNS name or address in a subjectAltName; clients that do not fall back to the subject refuse it"
        )
    held = f"names: {_some(names)}"
    if not wanted:
        return f"{held}; the client asked for no name"
    if covers(names, wanted):
        return f"{held}; the name asked for is among them"
    return f"{held}; MISMATCH: the client asked for {wanted}"


def flights(facts: TlsFacts) -> Iterator[tuple[int, str]]:
    """Each flight: nanoseconds since the one before ended (how long this side was waited for), and what it had."""
    last: Flight | None = None
    for number, flight in enumerate(facts.flights):
        if number == _FLIGHTS_SHOWN:
            return
        who = "client" if flight.side == CLIENT else "server"
        waited = 0 if last is None else max(0, flight.began_ns - last.ended_ns)
        yield waited, f"{who}: {', '.join(flight.messages)}"
        last = flight


def waits(facts: TlsFacts) -> list[int]:
    """Nanoseconds of the handshake in which the [client, server] was waited for, as seen where it was captured."""
    out = [0, 0]
    for last, flight in pairwise(facts.flights):
        out[flight.side] += max(0, flight.began_ns - last.ended_ns)
    return out


def _some(items: list[str], most: int = _SHOWN) -> str:
    rest = len(items) - most
    return ", ".join(items[:most]) + (f" and {rest} more" if rest > 0 else "")
