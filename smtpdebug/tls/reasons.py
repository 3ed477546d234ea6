"""Why a TLS connection stays closed: an ordered decision table, as data.

The first row whose test holds is the reason. The order matters: a cause that hides the others comes first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from smtpdebug.model.streams import CLIENT, SERVER
from smtpdebug.model.tls import Alert, TlsFacts, Verdict
from smtpdebug.tls.alerts import Closings, cause
from smtpdebug.tls.certificates import rsa_modulus
from smtpdebug.tls.keys import KeyRing, RsaKey
from smtpdebug.tls.suite_parameters import key_exchange, suite_parameters

_KEYLOG_ADVICE: Final = (
    "record a key log on the client or server (SSLKEYLOGFILE) and give it with --keylog, "
    "or for a test let the server offer only TLS 1.2 with AES128-GCM-SHA256"
)
_SIDES: Final = ("client", "server")
_LEFT: Final = "nothing was said inside; look in the log of the side that closed, and at what it had just been sent"
_AGREED: Final = "the server had agreed to STARTTLS and did not begin TLS: read its reply, and its log"
_WRONG_LOG: Final = (
    "the key log has a secret for this connection and it is not the right one: is it of another run, or cut short?"
)
_SNAPLEN: Final = "capture with tcpdump -s 0"
_COMPARE: Final = "compare what the client offered with what the server accepts"


class Reason(msgspec.Struct, frozen=True):
    """Why it stays closed, in a form for machines, for people, and what to do."""

    id: str
    sentence: str
    advice: str


class Case(msgspec.Struct, frozen=True):
    """All that the table looks at."""

    facts: TlsFacts
    verdict: Verdict | None
    keys: KeyRing
    snaplen: bool
    not_tls: bool
    answered_in_clear: bool
    closings: Closings | None

    @property
    def said(self) -> str | None:
        """The decryptor's own reason."""
        return self.verdict.reason if self.verdict is not None else None

    @property
    def detail(self) -> str:
        """The decryptor's own words."""
        return self.verdict.detail if self.verdict is not None else ""

    @property
    def messages(self) -> set[tuple[int, str]]:
        """(side, name) of every handshake message seen."""
        return {(flight.side, name) for flight in self.facts.flights for name in flight.messages}

    @property
    def leaf_modulus(self) -> int | None:
        """Of the server's certificate, if it is RSA."""
        chain = self.facts.certificates
        return rsa_modulus(chain[0].der) if chain else None


class Row(msgspec.Struct, frozen=True):
    """One line of the table."""

    id: str
    test: Callable[[Case], str | None]
    """``None`` if the row does not apply, else what to put for ``{}`` into the sentence."""
    sentence: str
    advice: str


def explain(
    facts: TlsFacts,
    verdict: Verdict | None,
    keys: KeyRing | None = None,
    *,
    snaplen: bool = False,
    not_tls: bool = False,
    answered_in_clear: bool = False,
    closings: Closings | None = None,
) -> Reason | None:
    """The reason why a connection was not opened, or not wholly; ``None`` when there is none.

    Args:
        facts: what was visible.
        verdict: what the decryptor said, ``None`` when there was no decryptor.
        keys: the private keys given (and whether a key log was).
        snaplen: packets were captured short (``TlsTracker.snaplen``).
        not_tls: the bytes are no TLS (``TlsTracker.not_tls``).
        answered_in_clear: the server speaks SMTP in clear where the client began TLS.
        closings: when the sides closed the connection; ``None`` where that is not known.
    """
    if verdict is not None and verdict.decrypted and verdict.reason is None:
        return None
    case = Case(facts, verdict, keys if keys is not None else KeyRing(), snaplen, not_tls, answered_in_clear, closings)
    for row in TABLE:
        told = row.test(case)
        if told is not None:
            sentence = row.sentence.format(told)
            if row.id in _KEYLOG_WOULD_HELP and case.keys.keylog:
                sentence += "; the key log given has no secret for this connection"
            advice = _ADVICE[row.id](case) if row.id in _ADVICE else None
            return Reason(row.id, sentence, advice or row.advice)
    return None


def _not_tls(case: Case) -> str | None:
    return "" if case.not_tls else None


def _answered_in_clear(case: Case) -> str | None:
    return "" if case.answered_in_clear and case.facts.server_hello is None else None


def _partial(case: Case) -> str | None:
    verdict = case.verdict
    return verdict.detail if verdict is not None and verdict.decrypted else None


def _partial_advice(case: Case) -> str | None:
    """Only where bytes are missing is it the capture's fault."""
    if case.snaplen:
        return _SNAPLEN
    if any(case.facts.missing):
        return None
    return "the key log lacks some of this connection's secrets, or holds a wrong one: record it anew from the start"


def _failure(case: Case) -> Alert | None:
    for alert in case.facts.alerts:
        if alert.phase == "handshake" and (alert.level == "fatal" or alert.code == -1):
            return alert
    return None


def _alert_advice(case: Case) -> str:
    alert = _failure(case)
    if alert is None:
        return _COMPARE
    shown = cause(alert, case.facts, case.closings)
    return f"{shown.text}: {shown.advice}" if shown is not None else _FAILED.get(alert.code, _COMPARE)


def _failed(case: Case) -> str | None:
    alert = _failure(case)
    if alert is None:
        return None
    side = "client" if alert.sender == CLIENT else "server"
    if alert.code == -1:
        return f"the {side} sent an encrypted alert"
    return f"the {side} sent alert {alert.code} {alert.description}"


def _snaplen(case: Case) -> str | None:
    return "" if case.snaplen else None


def _joined_late(case: Case) -> str | None:
    return "" if case.facts.client_hello is None and case.facts.server_hello is None else None


def _abandoned(case: Case) -> str | None:
    """One side left, or the capture ends, in the middle of a handshake of which nothing is missing."""
    facts, closings = case.facts, case.closings
    if facts.finished is not None or any(facts.missing) or closings is None or not facts.flights:
        return None
    ends = [
        (ts_ns, side) for side, ts_ns in ((CLIENT, closings.client), (SERVER, closings.server)) if ts_ns is not None
    ]
    last = facts.flights[-1]
    after = f"the {_SIDES[last.side]}'s {last.messages[-1]}"
    return f"the {_SIDES[min(ends)[1]]} closed after {after}" if ends else f"the capture ends after {after}"


def _incomplete(case: Case) -> str | None:
    missed = _missed(case)
    return _abandoned(case) or (missed and f"no {missed}")


def _missed(case: Case) -> str | None:
    facts, messages = case.facts, case.messages
    if facts.client_hello is None:
        return "ClientHello"
    if facts.server_hello is None:
        return "ServerHello"
    if facts.version == "TLS 1.3" or facts.resumed or key_exchange(facts.cipher_suite) != "RSA":
        return None
    if not facts.certificates and (facts.missing[SERVER] or (SERVER, "ServerHelloDone") in messages):
        return "Certificate of the server"
    if (CLIENT, "ClientKeyExchange") not in messages and facts.resumed is False:
        return "ClientKeyExchange"
    return None


def _tls13(case: Case) -> str | None:
    return "" if case.facts.version == "TLS 1.3" else None


def _unsupported(case: Case) -> str | None:
    facts = case.facts
    if facts.version == "SSL 3.0":
        return f"{facts.cipher_suite} of SSL 3.0"
    suite = suite_parameters(facts.cipher_suite_code or 0)
    exchange = key_exchange(facts.cipher_suite)
    known = exchange == "RSA" or exchange.startswith(("DHE_", "ECDHE_", "DH_anon", "ECDH_anon"))
    if suite is not None and known and "PSK" not in exchange and "KRB5" not in exchange:
        return None
    return f"{facts.cipher_suite} (0x{facts.cipher_suite_code or 0:04X})"


def _resumed(case: Case) -> str | None:
    facts, messages = case.facts, case.messages
    if facts.resumed is not None:
        return "" if facts.resumed else None
    closed = (SERVER, "Certificate") not in messages and (CLIENT, "ClientKeyExchange") not in messages
    return "" if closed and (facts.session_id or facts.ticket_offered) else None


def _forward_secrecy(case: Case) -> str | None:
    suite = suite_parameters(case.facts.cipher_suite_code or 0)
    return suite.name if suite is not None and suite.forward_secret and suite.cipher != "null" else None


def _leaf_not_rsa(case: Case) -> str | None:
    chain = case.facts.certificates
    return chain[0].key if chain and not chain[0].key.startswith("RSA") else None


def _no_key(case: Case) -> str | None:
    suite = suite_parameters(case.facts.cipher_suite_code or 0)
    return None if len(case.keys) or (suite is not None and suite.cipher == "null") else ""


def _found_in(case: Case, der: list[bytes]) -> RsaKey | None:
    """A key given that belongs to one of these certificates, when none belongs to the server's."""
    if case.keys.find(case.leaf_modulus) is not None:
        return None
    return next((key for key in (case.keys.find(rsa_modulus(one)) for one in der) if key is not None), None)


def _client_key(case: Case) -> str | None:
    key = _found_in(case, [one.der for one in case.facts.client_certificates])
    return None if key is None else key.name


def _ca_key(case: Case) -> str | None:
    key = _found_in(case, [one.der for one in case.facts.certificates[1:]])
    return None if key is None else key.name


def _wrong_key(case: Case) -> str | None:
    modulus = case.leaf_modulus
    if modulus is None or case.keys.find(modulus) is not None:
        return None
    given = ", ".join(f"{key.name} SHA-256 {key.spki_sha256}" for key in case.keys)
    return f"the server's certificate has public key SHA-256 {case.facts.certificates[0].spki_sha256}, given: {given}"


def _said(word: str) -> Callable[[Case], str | None]:
    return lambda case: case.detail if case.said == word else None


def _spool_limit(case: Case) -> str | None:
    """Only a key log could have opened it later; without one there is a better reason."""
    return case.detail if case.said == "spool-limit" and case.keys.keylog else None


def _left_over(case: Case) -> str | None:
    if case.verdict is None:
        return "no decryptor was at work"
    return f"the {case.verdict.decryptor} decryptor left it closed" + (f": {case.detail}" if case.detail else "")


TABLE: Final = (
    Row(
        "not-tls",
        _not_tls,
        "not TLS: the first bytes are no TLS record",
        "plain text on a port meant for TLS: look at the client's configuration (TLS wrapper against STARTTLS)",
    ),
    Row(
        "answered-in-clear",
        _answered_in_clear,
        "the server does not speak TLS here: it answered in clear",
        "set the client to STARTTLS for this port, or let it use a port with TLS from the first byte (465)",
    ),
    Row(
        "partial",
        _partial,
        "opened in part: {}",
        "bytes are missing from the capture; capture again with a larger buffer (tcpdump -B)",
    ),
    Row(
        "handshake-failed",
        _failed,
        "the handshake failed: {}",
        _COMPARE,
    ),
    Row(
        "snaplen",
        _snaplen,
        "the packets were captured short, the ciphertext is not all there",
        _SNAPLEN,
    ),
    Row(
        "joined-late",
        _joined_late,
        "the handshake is not in the capture",
        "start the capture before the connection opens",
    ),
    Row(
        "incomplete",
        _incomplete,
        "the handshake is not whole in the capture: {}",
        "packets are missing, or the connection ended there; capture again with a larger buffer (tcpdump -B)",
    ),
    Row(
        "spool-limit",
        _spool_limit,
        "too many records came before their secret; {}",
        "give the key log with --keylog from the start, or raise the limit",
    ),
    Row(
        "not-authentic",
        _said("not-authentic"),
        "the secret at hand opens no record{}",
        "the capture is damaged, or this is a fault of this program: please report it with the capture",
    ),
    Row("tls13", _tls13, "TLS 1.3: the server's RSA key can never open it", _KEYLOG_ADVICE),
    Row(
        "unsupported-cipher",
        _unsupported,
        "no private key opens cipher suite {}",
        "let the server choose a suite with AES, ChaCha20 or Camellia and RSA or ECDHE key exchange",
    ),
    Row(
        "resumed",
        _resumed,
        "a resumed handshake, and the full one whose secret it uses was not opened",
        "give the earlier capture too, with the key that opens it, or a key log",
    ),
    Row(
        "forward-secrecy",
        _forward_secrecy,
        "forward secrecy ({}): the server's RSA key does not open it",
        _KEYLOG_ADVICE,
    ),
    Row(
        "leaf-not-rsa",
        _leaf_not_rsa,
        "the server's certificate has no RSA key ({})",
        _KEYLOG_ADVICE,
    ),
    Row(
        "no-key",
        _no_key,
        "no private key was given",
        "give the server's RSA private key with --rsa-key, or a key log with --keylog",
    ),
    Row(
        "client-key",
        _client_key,
        "{} is the client's key, which only signs",
        "give the private key of the server's certificate",
    ),
    Row(
        "ca-key",
        _ca_key,
        "{} is the key of a certificate authority in the chain",
        "give the private key of the server's own certificate (the first of the chain)",
    ),
    Row(
        "wrong-key",
        _wrong_key,
        "no key given belongs to the server's certificate: {}",
        "was the key renewed since? give the one that was in use at the time of the capture",
    ),
    Row(
        "bad-premaster",
        _said("bad-premaster"),
        "the key fits the certificate but the premaster secret does not decrypt",
        "the ClientKeyExchange is damaged or was made for another certificate",
    ),
    Row(
        "tool",
        _left_over,
        "nothing visible keeps it closed, but {}",
        "try --decrypt-with native; look for messages about tshark above",
    ),
)
"""In the order of the tests."""

_ADVICE: Final = {
    "not-authentic": lambda case: _WRONG_LOG if case.keys.keylog else None,
    "unsupported-cipher": lambda case: _KEYLOG_ADVICE if "PSK" in key_exchange(case.facts.cipher_suite) else None,
    "answered-in-clear": lambda case: _AGREED if case.facts.mode == "starttls" else None,
    "handshake-failed": _alert_advice,
    "incomplete": lambda case: _LEFT if _abandoned(case) is not None else None,
    "partial": _partial_advice,
}
"""Where the best advice hangs on the case; ``None`` gives the row's."""

_KEYLOG_WOULD_HELP: Final = frozenset(("tls13", "resumed", "forward-secrecy", "leaf-not-rsa", "no-key"))

_FAILED: Final = {
    40: "nothing in common: compare the cipher suites, groups and signature algorithms offered with the server's",
    42: "the certificate was refused: check name, chain and signature",
    45: "the certificate has expired by the peer's clock: renew it, check the clock",
    46: "the certificate was refused: check name, chain and usage",
    48: "the peer does not trust the certificate's issuer: send the whole chain, or install the authority",
    70: "no protocol version in common: compare the versions offered with those the server allows",
    71: "the peer demands stronger parameters: compare the cipher suites offered",
    80: "an internal error of the peer: read its log",
    112: "the server does not know the name asked for (SNI)",
    116: "the server demands a client certificate and got none",
    120: "no application protocol (ALPN) in common",
}
"""Advice by alert code (RFC 8446 section 6.2)."""
