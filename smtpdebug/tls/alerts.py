"""What an alert most likely means where the handshake shows more than the alert says (RFC 8446 section 6.2).

Libraries choose alerts loosely: OpenSSL says bad_certificate for a name that does not match, GnuTLS and Go for
anything about a certificate; handshake_failure stands for whatever the sender did not like, and an unexpected end of
the connection is a decode_error to some.
"""

from __future__ import annotations

from typing import Final

import msgspec

from smtpdebug.model.streams import CLIENT, SERVER, Stream
from smtpdebug.model.tls import Alert, TlsFacts
from smtpdebug.tls.names import covers

_AFTER_A_CLOSE: Final = frozenset((10, 50, 80))
"""unexpected_message, decode_error, internal_error: what libraries make of a connection that ends too soon."""
_ABOUT_CERTIFICATES: Final = frozenset((42, 43, 46, 48))
_HANDSHAKE_FAILURE: Final = 40
_SIDES: Final = ("the client", "the server")


class Cause(msgspec.Struct, frozen=True):
    """The likely cause of an alert, and what to do; both without a full stop."""

    text: str
    advice: str


class Closings(msgspec.Struct, frozen=True):
    """When each side closed the connection, by FIN or RST, in nanoseconds; ``None`` where it did not."""

    client: int | None = None
    server: int | None = None

    @classmethod
    def of(cls, stream: Stream) -> Closings:
        """Those of a connection."""
        first = [
            min((t for t in times if t is not None), default=None)
            for times in zip(stream.fin_ns, stream.rst_ns, strict=True)
        ]
        return cls(*first)

    def before(self, side: int, ts_ns: int) -> bool:
        """Whether a side had closed by then."""
        closed = self.client if side == CLIENT else self.server
        return closed is not None and closed <= ts_ns


def cause(alert: Alert, facts: TlsFacts, closings: Closings | None = None) -> Cause | None:
    """What the handshake shows of the cause; ``None`` where it shows no more than the alert."""
    sender, peer = _SIDES[alert.sender], _SIDES[1 - alert.sender]
    if alert.code in _AFTER_A_CLOSE and closings is not None and closings.before(1 - alert.sender, alert.at.ts_ns):
        return Cause(
            f"{peer} had closed the connection before: the alert says no more than that the rest is missing",
            f"look in the log of {peer}: it closed in the middle of the handshake",
        )
    if alert.code in _ABOUT_CERTIFICATES and alert.sender == CLIENT:
        faults = certificate_faults(facts)
        return None if not faults else Cause(f"the server's certificate {'; it '.join(faults)}", _CERTIFICATE_ADVICE)
    return _broken_off(alert, facts, sender, peer) if alert.code == _HANDSHAKE_FAILURE else None


_CERTIFICATE_ADVICE: Final = "put that right in the server's certificate, or in the name that the client is set to"


def certificate_faults(facts: TlsFacts) -> list[str]:
    """What a client that checks certificates minds in the server's, as far as it is visible, worst first."""
    chain = facts.certificates
    if not chain or not chain[0].not_after_ns:
        return []
    leaf, at_ns, faults = chain[0], (facts.server_hello or facts.started).ts_ns, []
    if at_ns > leaf.not_after_ns:
        faults.append("had expired")
    if at_ns < leaf.not_before_ns:
        faults.append("was not valid yet")
    if facts.server_name and leaf.names and not covers(leaf.names, facts.server_name):
        faults.append(f"is not for {facts.server_name}, the name that the client asked for")
    if leaf.self_signed:
        faults.append("is self-signed")
    elif len(chain) == 1 and leaf.issuer:
        faults.append("came without the certificate of its issuer")
    return faults


def _broken_off(alert: Alert, facts: TlsFacts, sender: str, peer: str) -> Cause | None:
    """A handshake_failure after the ServerHello: version and cipher suite were agreed."""
    if facts.server_hello is None or facts.server_hello.ts_ns > alert.at.ts_ns:
        return None
    if alert.phase != "handshake":
        return Cause(
            f"{sender} refused to negotiate again on the open connection",
            "switch renegotiation off in the other program: TLS 1.3 has none, and servers refuse it",
        )
    if alert.sender == SERVER and facts.client_certificate_requested and not facts.client_certificates:
        return Cause(
            "the server demands a certificate of the client and got none",
            "give the client a certificate that the server trusts, or make it optional on the server",
        )
    return Cause(
        f"version and cipher suite were agreed; {sender} did not accept what {peer} sent after that",
        f"look in the log of {sender}",
    )
