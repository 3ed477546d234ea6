"""Private keys as users have them, and the ring that finds the one a conversation needs."""

from __future__ import annotations

import binascii
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_der_public_key,
    load_pem_private_key,
    pkcs12,
)

from smtpdebug.errors import KeyFileError
from smtpdebug.tls.certificates import key_name

Password = Callable[[], bytes | None] | bytes | None
"""A password, or what asks for it (only called when a key needs one), or none."""

_SERVER_KEY: Final = "give the server's RSA private key"
_PSS_OID: Final = bytes.fromhex("06092a864886f70d01010a")
"""id-RSASSA-PSS, 1.2.840.113549.1.1.10 (RFC 8017 appendix C), DER."""
_BLOCK: Final = re.compile(rb"-----BEGIN ([^-\r\n]+)-----.*?-----END \1-----", re.DOTALL)


class RsaKey(msgspec.Struct, frozen=True, eq=False):
    """One RSA private key that can open an RSA key exchange."""

    name: str
    """Where it came from, as the user wrote it."""
    key: rsa.RSAPrivateKey
    modulus: int
    spki_sha256: str
    """SHA-256 of its SubjectPublicKeyInfo, as printed for certificates."""

    def pem(self) -> bytes:
        """Plain PKCS#8 PEM, for a tool that reads nothing else."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


class KeyRing:
    """The private keys given, found by the modulus of a certificate's public key.

    Args:
        keys: what ``load_private_keys`` gave for each file.
        keylog: whether a key log was given too (only said, the secrets are elsewhere).
    """

    def __init__(self, keys: Iterable[RsaKey] = (), *, keylog: bool = False) -> None:
        self.keylog = keylog
        self._keys: dict[int, RsaKey] = {}
        for key in keys:
            self._keys.setdefault(key.modulus, key)

    def __iter__(self) -> Iterator[RsaKey]:
        return iter(self._keys.values())

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, modulus: int | None) -> RsaKey | None:
        """The key with this modulus."""
        return None if modulus is None else self._keys.get(modulus)


def load_private_keys(data: bytes, name: str, password: Password = None) -> list[RsaKey]:
    """Every RSA private key in a file's bytes: PEM (any number of blocks), DER or PKCS#12.

    Args:
        data: the file.
        name: its name, for messages.
        password: for encrypted keys.

    Raises:
        KeyFileError: there is no usable key in it; says in words what there is instead.
    """
    secret = _Secret(password)
    blocks = list(_BLOCK.finditer(data))
    if blocks:
        return _from_pem(blocks, name, secret)
    if b"-----BEGIN " in data:
        raise KeyFileError(f"{name}: a PEM block without its END line; the file is cut short")
    return _from_binary(data, name, secret)


_MULTI_PRIME: Final = re.compile(rb"\x30\x82..\x02\x01\x01\x02\x82", re.DOTALL)
"""RSAPrivateKey of version 1 (RFC 8017 appendix A.1.2), and its modulus."""


class _PasswordError(KeyFileError):
    """The password is missing or wrong: other blocks of the file do not make up for it."""


class _Secret:
    """Asks for the password once, when it is needed."""

    def __init__(self, password: Password) -> None:
        self._password = password

    def __call__(self) -> bytes | None:
        if callable(self._password):
            self._password = self._password()
        return self._password


def _from_pem(blocks: list[re.Match[bytes]], name: str, secret: _Secret) -> list[RsaKey]:
    keys: list[RsaKey] = []
    refusals: list[str] = []
    for block in blocks:
        label = block.group(1).decode("ascii", "replace")
        if not label.endswith("PRIVATE KEY"):
            refusals.append(_not_private(label))
            continue
        try:
            keys.append(_usable(_load_pem(block.group(0), name, secret), name))
        except _PasswordError:
            raise
        except KeyFileError as refusal:
            refusals.insert(0, str(refusal).removeprefix(f"{name}: "))
    if not keys:
        raise KeyFileError(f"{name}: {refusals[0]}")
    return keys


def _not_private(label: str) -> str:
    if label.endswith("CERTIFICATE"):
        return f"only a certificate, no private key; {_SERVER_KEY} that belongs to it"
    if label.endswith("PUBLIC KEY"):
        return f"a public key, which opens nothing; {_SERVER_KEY}"
    return f"no private key in it ({label.lower()}); {_SERVER_KEY}"


def _load_pem(block: bytes, name: str, secret: _Secret) -> PrivateKeyTypes:
    encrypted = b"ENCRYPTED" in block
    if not encrypted:
        _refuse_unusable(_base64(block), name)
    if b"OPENSSH PRIVATE KEY" in block:
        raise KeyFileError(f"{name}: an OpenSSH key, not a TLS server's; {_SERVER_KEY}")
    # Without the library's own test of the primes, which takes a tenth of a second a key; see _usable.
    return _load(
        lambda word: load_pem_private_key(block, word, unsafe_skip_rsa_key_validation=True), encrypted, name, secret
    )


def _load(
    load: Callable[[bytes | None], PrivateKeyTypes], encrypted: bool, name: str, secret: _Secret
) -> PrivateKeyTypes:
    word = secret() if encrypted else None
    if encrypted and word is None:
        raise _PasswordError(
            f"{name}: the key is encrypted and no password was given; give it with --key-password-file"
        )
    try:
        return load(word)
    except (ValueError, TypeError) as error:
        if encrypted:
            raise _PasswordError(f"{name}: wrong password for the encrypted key (or the file is damaged)") from error
        raise KeyFileError(f"{name}: not a readable private key; the file is damaged or cut short") from error
    except UnsupportedAlgorithm as error:
        raise KeyFileError(f"{name}: a kind of key that cannot be read ({error}); {_SERVER_KEY}") from error


def _from_binary(data: bytes, name: str, secret: _Secret) -> list[RsaKey]:
    if not data:
        raise KeyFileError(f"{name}: the file is empty")
    if data[:1] != b"\x30":
        raise KeyFileError(f"{name}: neither PEM, DER nor PKCS#12; {_SERVER_KEY}")
    _refuse_unusable(data, name)
    try:
        return [_usable(load_der_private_key(data, None, unsafe_skip_rsa_key_validation=True), name)]
    except TypeError:  # encrypted PKCS#8
        return [_usable(_load(lambda word: load_der_private_key(data, word), True, name, secret), name)]
    except (ValueError, UnsupportedAlgorithm):
        pass
    _refuse_public(data, name)
    return [_usable(_from_pkcs12(data, name, secret), name)]


def _refuse_unusable(der: bytes, name: str) -> None:
    """``cryptography`` loads an RSA-PSS key as any RSA key, and calls one of three primes damaged: by its bytes."""
    if _MULTI_PRIME.search(der[:64]):
        raise KeyFileError(
            f"{name}: an RSA key of more than two primes, which cannot be used here; give a key log (--keylog)"
        )
    if _PSS_OID in der[:40]:
        raise KeyFileError(
            f"{name}: an RSA-PSS key, which can only sign and never takes part in RSA key exchange; "
            "give a key log (--keylog)"
        )


def _base64(block: bytes) -> bytes:
    """The first bytes of a PEM block's content; empty where it is not plain base64."""
    body = b"".join(line.strip() for line in block.splitlines()[1:-1] if b":" not in line)
    try:
        return binascii.a2b_base64(body[:80])
    except binascii.Error:
        return b""


def _refuse_public(data: bytes, name: str) -> None:
    for read, said in (
        (x509.load_der_x509_certificate, _not_private("CERTIFICATE")),
        (load_der_public_key, _not_private("PUBLIC KEY")),
    ):
        try:
            read(data)
        except (ValueError, UnsupportedAlgorithm):
            continue
        raise KeyFileError(f"{name}: {said}")


def _from_pkcs12(data: bytes, name: str, secret: _Secret) -> PrivateKeyTypes:
    """PKCS#12 (RFC 7292): without a password, with an empty one, then with the one given."""
    for guess in (None, b""):
        try:
            return _key_of(pkcs12.load_key_and_certificates(data, guess)[0], name)
        except ValueError:
            continue
    if not _looks_like_pkcs12(data):
        raise KeyFileError(f"{name}: neither a private key nor PKCS#12; {_SERVER_KEY}")
    word = secret()
    if word is None:
        raise KeyFileError(f"{name}: PKCS#12 with a password, and none was given; give it with --key-password-file")
    try:
        return _key_of(pkcs12.load_key_and_certificates(data, word)[0], name)
    except ValueError as error:
        raise KeyFileError(f"{name}: wrong password for the PKCS#12 file (or it is damaged)") from error


def _looks_like_pkcs12(data: bytes) -> bool:
    """A SEQUENCE that begins with INTEGER 3 and holds PKCS#7 data (RFC 7292 section 4)."""
    return b"\x02\x01\x03" in data[:12] and bytes.fromhex("06092a864886f70d0107") in data[:64]


def _key_of(key: PrivateKeyTypes | None, name: str) -> PrivateKeyTypes:
    if key is None:
        raise KeyFileError(f"{name}: PKCS#12 with certificates only, no private key; {_SERVER_KEY}")
    return key


def _usable(key: PrivateKeyTypes, name: str) -> RsaKey:
    if not isinstance(key, rsa.RSAPrivateKey):
        public = getattr(key, "public_key", None)
        kind = key_name(public()) if public is not None else type(key).__name__
        raise KeyFileError(
            f"{name}: a private key of kind {kind}, not RSA; only RSA key exchange can be opened with a key, "
            "for a server with such a key give a key log (--keylog)"
        )
    numbers = key.private_numbers()
    p, q, n, e = numbers.p, numbers.q, numbers.public_numbers.n, numbers.public_numbers.e
    if p * q != n or numbers.d * e % (p - 1) != 1 or numbers.d * e % (q - 1) != 1:
        # What a damaged file amounts to; whether p and q are prime is the server's affair.
        raise KeyFileError(f"{name}: not a readable private key; the file is damaged or cut short")
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return RsaKey(name, key, key.public_key().public_numbers().n, hashlib.sha256(spki).hexdigest())
