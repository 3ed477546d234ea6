"""Private keys in every form a user may have them, and what is said of those that open nothing."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    pkcs12,
)

from smtpdebug.errors import KeyFileError
from smtpdebug.tls.keys import KeyRing, load_private_keys

PLAIN = NoEncryption()
LOCKED = BestAvailableEncryption(b"secret")


@pytest.fixture(scope="module")
def key(maker: Any) -> rsa.RSAPrivateKey:
    loaded = load_pem_private_key(maker.server().key_pem, None)
    assert isinstance(loaded, rsa.RSAPrivateKey)
    return loaded


def _pem(key: rsa.RSAPrivateKey, form: PrivateFormat, lock: KeySerializationEncryption = PLAIN) -> bytes:
    return key.private_bytes(Encoding.PEM, form, lock)


def _modulus(key: rsa.RSAPrivateKey) -> int:
    return key.public_key().public_numbers().n


FORMS: dict[str, Callable[[rsa.RSAPrivateKey, Any], bytes]] = {
    "pkcs8 pem": lambda key, maker: _pem(key, PrivateFormat.PKCS8),
    "pkcs1 pem": lambda key, maker: _pem(key, PrivateFormat.TraditionalOpenSSL),
    "crlf": lambda key, maker: _pem(key, PrivateFormat.PKCS8).replace(b"\n", b"\r\n"),
    "byte order mark": lambda key, maker: b"\xef\xbb\xbf" + _pem(key, PrivateFormat.PKCS8),
    "bag attributes": lambda key, maker: b"Bag Attributes\n    friendlyName: mx\n" + _pem(key, PrivateFormat.PKCS8),
    "key and certificate": lambda key, maker: maker.server().path.read_bytes(),
    "certificate and key": lambda key, maker: maker.server().cert_pem + maker.server().key_pem,
    "pkcs8 der": lambda key, maker: key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, PLAIN),
    "pkcs1 der": lambda key, maker: key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, PLAIN),
    "pkcs12 without password": lambda key, maker: _pkcs12(key, maker, PLAIN),
}
LOCKED_FORMS: dict[str, Callable[[rsa.RSAPrivateKey, Any], bytes]] = {
    "pkcs8 pem": lambda key, maker: _pem(key, PrivateFormat.PKCS8, LOCKED),
    "pkcs1 pem": lambda key, maker: _pem(key, PrivateFormat.TraditionalOpenSSL, LOCKED),
    "pkcs8 der": lambda key, maker: key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, LOCKED),
    "pkcs12": lambda key, maker: _pkcs12(key, maker, LOCKED),
}


def _pkcs12(key: rsa.RSAPrivateKey, maker: Any, lock: KeySerializationEncryption) -> bytes:
    certificate = x509.load_pem_x509_certificate(maker.server().cert_pem)
    return pkcs12.serialize_key_and_certificates(b"mx", key, certificate, None, lock)


@pytest.mark.parametrize("form", FORMS)
def test_forms_that_work(maker: Any, key: rsa.RSAPrivateKey, form: str) -> None:
    loaded = load_private_keys(FORMS[form](key, maker), "server.pem")
    assert [one.modulus for one in loaded] == [_modulus(key)]
    assert loaded[0].name == "server.pem"


@pytest.mark.parametrize("form", LOCKED_FORMS)
def test_locked_forms(maker: Any, key: rsa.RSAPrivateKey, form: str) -> None:
    data = LOCKED_FORMS[form](key, maker)
    asked: list[int] = []

    def ask() -> bytes:
        asked.append(1)
        return b"secret"

    assert load_private_keys(data, "k", b"secret")[0].modulus == _modulus(key)
    assert load_private_keys(data, "k", ask)[0].modulus == _modulus(key)
    assert asked == [1]
    with pytest.raises(KeyFileError, match="wrong password"):
        load_private_keys(data, "k", b"guess")
    with pytest.raises(KeyFileError, match=r"no password was given|none was given"):
        load_private_keys(data, "k")


def test_a_password_is_not_asked_for_without_need(maker: Any) -> None:
    def ask() -> bytes:
        raise AssertionError("asked")

    assert load_private_keys(maker.server().key_pem, "k", ask)


def test_several_keys_in_one_file(maker: Any) -> None:
    data = maker.server().key_pem + maker.server().cert_pem + maker.other().key_pem
    assert len(load_private_keys(data, "k")) == 2


def test_an_ec_key_beside_an_rsa_key_is_passed_over(maker: Any) -> None:
    assert len(load_private_keys(maker.ecdsa().key_pem + maker.server().key_pem, "k")) == 1


REFUSED: dict[str, tuple[Callable[[Any], bytes], str]] = {
    "an EC key": (lambda maker: maker.ecdsa().key_pem, "EC secp256r1, not RSA"),
    "an EC key as OpenSSL writes it": (
        lambda maker: (
            b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
            + ec.generate_private_key(ec.SECP256R1()).private_bytes(
                Encoding.PEM, PrivateFormat.TraditionalOpenSSL, PLAIN
            )
        ),
        "EC secp256r1, not RSA",
    ),
    "an Ed25519 key": (
        lambda maker: ed25519.Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, PLAIN),
        "Ed25519, not RSA",
    ),
    "a certificate": (lambda maker: maker.server().cert_pem, "only a certificate"),
    "a certificate in DER": (
        lambda maker: x509.load_pem_x509_certificate(maker.server().cert_pem).public_bytes(Encoding.DER),
        "only a certificate",
    ),
    "a public key": (
        lambda maker: (
            x509.load_pem_x509_certificate(maker.server().cert_pem)
            .public_key()
            .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        ),
        "a public key",
    ),
    "nothing": (lambda maker: b"", "empty"),
    "a key log": (lambda maker: b"CLIENT_RANDOM 00 11\n", "neither PEM, DER nor PKCS#12"),
    "a cut key": (lambda maker: maker.server().key_pem[:300], "cut short"),
    "a damaged key": (lambda maker: maker.server().key_pem.replace(b"a", b"b"), "damaged|not a readable"),
    "DER of something else": (lambda maker: b"\x30\x03\x02\x01\x05", "neither a private key nor PKCS#12"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refusals_are_in_words(maker: Any, what: str) -> None:
    make, words = REFUSED[what]
    with pytest.raises(KeyFileError, match=words) as caught:
        load_private_keys(make(maker), "what.pem", b"secret")
    assert str(caught.value).startswith("what.pem: ")


def test_an_rsa_pss_key_is_refused(key: rsa.RSAPrivateKey) -> None:
    """The same key under the algorithm id-RSASSA-PSS (RFC 4055 section 1.2): PKCS#8 by hand."""
    inner = key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, PLAIN)
    octets = b"\x04\x82" + len(inner).to_bytes(2, "big") + inner
    body = b"\x02\x01\x00" + bytes.fromhex("300b06092a864886f70d01010a") + octets
    with pytest.raises(KeyFileError, match="RSA-PSS"):
        load_private_keys(b"\x30\x82" + len(body).to_bytes(2, "big") + body, "pss.der")


def test_the_ring_finds_by_modulus(maker: Any, key: rsa.RSAPrivateKey) -> None:
    ring = maker.ring(maker.other(), maker.server(), maker.server())
    assert len(ring) == 2
    found = ring.find(_modulus(key))
    assert found is not None
    assert load_private_keys(found.pem(), "again")[0].modulus == _modulus(key)
    assert ring.find(_modulus(key) + 2) is None
    assert ring.find(None) is None
    assert KeyRing().find(_modulus(key)) is None


def test_a_key_whose_numbers_do_not_fit_each_other_is_refused() -> None:
    """Such a file is well-formed DER; the private exponent is off by two."""
    numbers = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_numbers()
    damaged = rsa.RSAPrivateNumbers(
        numbers.p, numbers.q, numbers.d + 2, numbers.dmp1, numbers.dmq1, numbers.iqmp, numbers.public_numbers
    ).private_key(unsafe_skip_rsa_key_validation=True)
    pem = damaged.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, PLAIN)
    with pytest.raises(KeyFileError, match="damaged"):
        load_private_keys(pem, "bad.pem")


def test_text_and_blocks_in_any_encoding_around_the_key(maker: Any) -> None:
    other = b"-----BEGIN CAF\xc9-----\nAA==\n-----END CAF\xc9-----\n"
    assert len(load_private_keys(b"clef d'apr\xe8s-midi\n" + other + maker.server().key_pem, "key.pem")) == 1


def test_a_password_in_the_name_of_a_file_is_none(maker: Any) -> None:
    """A block that cannot be used does not hide the one that can, whatever the file is called."""
    text = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, PLAIN)
    assert len(load_private_keys(text + maker.server().key_pem, "mypassword.pem")) == 1


@pytest.mark.parametrize("form", [[], ["-traditional"]])
def test_a_key_of_three_primes_is_said_to_be_one(form: list[str]) -> None:
    pem = subprocess.run(["openssl", "genrsa", *form, "-primes", "3", "2048"], capture_output=True, check=True).stdout
    with pytest.raises(KeyFileError, match="more than two primes"):
        load_private_keys(pem, "three.pem")
