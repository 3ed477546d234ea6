"""What a TLS alert most likely means to somebody who runs mail (RFC 8446 section 6)."""

from __future__ import annotations

from typing import Final

from smtpdebug.model.streams import CLIENT
from smtpdebug.model.tls import Alert, TlsFacts
from smtpdebug.tls.alerts import Closings, cause

_CAUSES: Final = {
    10: "a message came that had no place there: a faulty TLS library, or something between the two that meddles",
    20: "a record was damaged or made with another key: a fault of a TLS library, or bytes changed on the way",
    22: "a record was longer than allowed; often plain text taken for TLS",
    40: "nothing in common: no cipher suite, group or signature algorithm that {peer} offers is accepted by {sender}",
    42: "{sender} refused {peer}'s certificate: its name, its signature, or anything else about it",
    43: "{sender} does not support the kind of {peer}'s certificate",
    44: "{peer}'s certificate was revoked",
    45: "{peer}'s certificate has expired, or is not valid yet, by {sender}'s clock",
    46: "{sender} did not accept {peer}'s certificate: name, chain or usage",
    47: "a field of {peer}'s message was out of range: a faulty TLS library",
    48: "{sender} does not trust the issuer of {peer}'s certificate: self-signed, of a private authority, or a "
    "certificate is missing in the chain",
    49: "{peer}'s certificate is valid, and {sender} does not let it in",
    50: "{peer}'s message could not be parsed: often plain text taken for TLS",
    51: "a signature or a Finished did not verify: a key that does not belong to the certificate, or bytes changed on "
    "the way",
    70: "no protocol version in common",
    71: "{sender} demands stronger cipher suites or parameters than {peer} offers",
    80: "an internal error of {sender}: its log knows more",
    86: "{peer} tried again with an older version than {sender} has: an earlier attempt failed",
    90: "{sender} gave up on somebody's wish",
    109: "an extension that {sender} needs is missing: a faulty TLS library",
    110: "{peer} sent an extension that was not asked for: a faulty TLS library",
    112: "{sender} does not know the name asked for (SNI)",
    115: "{sender} does not know the session or key that {peer} wants to resume",
    116: "{sender} demands a certificate of {peer} and got none",
    120: "no application protocol (ALPN) in common",
}
"""By alert code; ``{sender}`` sent the alert, ``{peer}`` caused it."""


def alert_text(alert: Alert, facts: TlsFacts, closings: Closings | None = None) -> str | None:
    """One alert in a sentence: who sent it, what it says, the likely cause; ``None`` where every orderly end has it.

    Args:
        facts: what else was seen of the handshake.
        closings: when the sides closed the connection.
    """
    sender, peer = ("the client", "the server") if alert.sender == CLIENT else ("the server", "the client")
    late = alert.phase != "handshake"
    if alert.code == 0 or (late and alert.code == -1):
        return None if late else f"{sender} broke the handshake off (close_notify)"
    when = "after the handshake" if late else "in the handshake"
    if alert.code == -1:
        return f"{sender} sent an encrypted alert {when}: it broke off, and only a key can tell why"
    said = f"{sender} sent {alert.level} {alert.description} ({alert.code}) {when}"
    shown = cause(alert, facts, closings)
    if shown is not None:
        return f"{said}; likely cause: {shown.text}"
    text = _CAUSES.get(alert.code)
    if text is None:
        return said
    text = text.format(sender=sender, peer=peer)
    if alert.code == 70 and facts.versions_offered:
        text += f": the client offered {', '.join(facts.versions_offered)}"
    return f"{said}; likely cause: {text}"
