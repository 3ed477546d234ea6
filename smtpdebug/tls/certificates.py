"""Certificates as the peers sent them (X.509, RFC 5280), read with ``cryptography``."""

from __future__ import annotations

import hashlib
import warnings
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from smtpdebug.model.tls import Certificate
from smtpdebug.tls.extensions import Reader, vectors

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_CHAIN: Final = 32
"""Certificates of one chain read; real chains have two to five."""


def chain_tls12(body: bytes) -> list[bytes]:
    """The DER certificates of a Certificate message up to TLS 1.2 (RFC 5246 section 7.4.2), leaf first."""
    return vectors(Reader(body).vector(3), 3)[:_MAX_CHAIN]


def chain_tls13(body: bytes) -> list[bytes]:
    """The DER certificates of a TLS 1.3 Certificate message (RFC 8446 section 4.4.2), leaf first."""
    reader = Reader(body)
    reader.vector(1)  # certificate_request_context
    entries = Reader(reader.vector(3))
    out: list[bytes] = []
    while entries.left >= 5 and len(out) < _MAX_CHAIN:
        out.append(entries.vector(3))
        entries.vector(2)  # extensions
    return out


def read_certificate(der: bytes) -> Certificate:
    """What one certificate says; one that cannot be parsed has only its bytes and their SHA-256.

    Args:
        der: the certificate as sent.
    """
    facts = _read(der)
    return Certificate(*facts[:8], der, facts[8])


@lru_cache(maxsize=256)
def _read(der: bytes) -> tuple[str, str, list[str], int, int, str, str, str, bool]:
    digest = hashlib.sha256(der).hexdigest()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # cryptography warns of odd serial numbers; odd is what we look at
            certificate = x509.load_der_x509_certificate(der)
            subject, issuer = certificate.subject.rfc4514_string(), certificate.issuer.rfc4514_string()
            before, after = certificate.not_valid_before_utc, certificate.not_valid_after_utc
            spki, key = _public_key(certificate)
            return (
                subject,
                issuer,
                _names(certificate),
                _ns(before),
                _ns(after),
                digest,
                spki,
                key,
                _is_self_signed(certificate),
            )
    except Exception:  # cryptography has errors of its own that are no ValueError, and peers send anything
        return "", "", [], 0, 0, digest, "", "unreadable", False


def _is_self_signed(certificate: x509.Certificate) -> bool:
    """Signed with its own key (RFC 5280 section 3.2): an authority may give a server a name like its own."""
    if certificate.subject != certificate.issuer:
        return False
    try:
        certificate.verify_directly_issued_by(certificate)
    except InvalidSignature:
        return False
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return True  # an algorithm that cannot be checked here: the names must do
    return True


def _ns(moment: datetime) -> int:
    gone = moment - _EPOCH
    return (gone.days * 86400 + gone.seconds) * 1_000_000_000


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return []
    out: list[str] = []
    for name in extension.value:
        if isinstance(name, x509.DNSName):
            out.append(name.value)
        elif isinstance(name, x509.IPAddress):
            out.append(str(name.value))
    return out


def _public_key(certificate: x509.Certificate) -> tuple[str, str]:
    """(SHA-256 of the SubjectPublicKeyInfo, kind and size)."""
    try:
        key = certificate.public_key()
    except (ValueError, TypeError):
        return "", "unreadable"
    except Exception as error:  # cryptography.exceptions.UnsupportedAlgorithm is no ValueError
        return "", f"unsupported ({type(error).__name__})"
    spki = hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
    return spki, key_name(key)


def key_name(key: object) -> str:
    """Kind and size of a public key: ``RSA 2048``, ``EC secp256r1``, ``Ed25519``."""
    match key:
        case rsa.RSAPublicKey():
            return f"RSA {key.key_size}"
        case ec.EllipticCurvePublicKey():
            return f"EC {key.curve.name}"
        case dsa.DSAPublicKey():
            return f"DSA {key.key_size}"
        case ed25519.Ed25519PublicKey():
            return "Ed25519"
        case ed448.Ed448PublicKey():
            return "Ed448"
    return type(key).__name__.removesuffix("PublicKey")


def rsa_modulus(der: bytes) -> int | None:
    """The RSA modulus of a certificate's key; ``None`` if it has none or cannot be read."""
    return _modulus(der)


@lru_cache(maxsize=256)
def _modulus(der: bytes) -> int | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            key = x509.load_der_x509_certificate(der).public_key()
    except Exception:  # whatever is wrong with it, it has no modulus for us
        return None
    return key.public_numbers().n if isinstance(key, rsa.RSAPublicKey) else None
