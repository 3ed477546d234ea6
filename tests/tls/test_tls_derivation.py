"""Key derivation and key logs against published vectors; ciphers that this OpenSSL no longer speaks, sealed by hand."""

from __future__ import annotations

import hmac
import os
import zlib

import pytest
from cryptography.hazmat.decrepit.ciphers.algorithms import ARC4, TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from hypothesis import given
from hypothesis import strategies as st

from smtpdebug.model.streams import CLIENT, Location
from smtpdebug.model.tls import Record
from smtpdebug.tls.ciphers import Inflated, make_opener
from smtpdebug.tls.keylog import parse_keylog
from smtpdebug.tls.prf import KeyBlock, prf
from smtpdebug.tls.schedule import next_secret, traffic_keys
from smtpdebug.tls.suite_parameters import suite_parameters

HERE = Location("cap", 1, 0)


def test_prf_of_tls12() -> None:
    """The vector for P_SHA256 published on the TLS working group's list (2008), first 32 octets."""
    out = prf(
        0x0303,
        "sha256",
        bytes.fromhex("9bbe436ba940f017b17652849a71db35"),
        b"test label",
        bytes.fromhex("a0ba9f936cda311827a6f796ffd5198c"),
        100,
    )
    assert out.hex().startswith("e3f229ba727be17b8d122620557cd453c2aab21d07c3d495329b52d4e61edb5a")
    assert len(out) == 100


def test_traffic_keys_of_rfc8448() -> None:
    """RFC 8448 section 3: server handshake traffic keys."""
    suite = suite_parameters(0x1301)
    assert suite is not None
    secret = bytes.fromhex("b67b7d690cc16c4e75e54213cb2d37b4e9c912bcded9105d42befd59d391ad38")
    keys = traffic_keys(suite, secret)
    assert keys.key.hex() == "3fce516009c21727d0f2e4e86ee403bc"
    assert keys.iv.hex() == "5d313eb2671276ee13000b30"
    assert len(next_secret(suite, secret)) == 32


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (0x009C, ("RSA", "aes", "gcm", 16, "", "sha256", False)),
        (0x009D, ("RSA", "aes", "gcm", 32, "", "sha384", False)),
        (0x002F, ("RSA", "aes", "cbc", 16, "sha1", "sha256", False)),
        (0xC028, ("ECDHE_RSA", "aes", "cbc", 32, "sha384", "sha384", True)),
        (0x000A, ("RSA", "3des", "cbc", 24, "sha1", "sha256", False)),
        (0x0005, ("RSA", "rc4", "stream", 16, "sha1", "sha256", False)),
        (0x0004, ("RSA", "rc4", "stream", 16, "md5", "sha256", False)),
        (0xC0A0, ("RSA", "aes", "ccm", 16, "", "sha256", False)),
        (0x1303, ("", "chacha20", "chacha20", 32, "", "sha256", True)),
    ],
)
def test_what_a_suites_name_says(code: int, expected: tuple[object, ...]) -> None:
    suite = suite_parameters(code)
    assert suite is not None
    told = (suite.key_exchange, suite.cipher, suite.mode, suite.key_length, suite.mac, suite.prf, suite.forward_secret)
    assert told == expected


@pytest.mark.parametrize("code", [0xC03C, 0x0007, 0x00FF, 0xABCD, 0x0003])  # ARIA, IDEA, SCSV, unknown, export
def test_suites_that_cannot_be_decrypted(code: int) -> None:
    assert suite_parameters(code) is None


def _sealed(data: bytes, sequence: int, key: bytes, digest: str) -> bytes:
    head = sequence.to_bytes(8, "big") + b"\x17\x03\x01" + len(data).to_bytes(2, "big")
    return data + hmac.digest(key, head + data, digest)


def _record(payload: bytes) -> Record:
    return Record(CLIENT, 23, 0x0301, payload, 0, HERE, HERE)


@pytest.mark.parametrize(("code", "digest", "mac_length"), [(0x0005, "sha1", 20), (0x0004, "md5", 16)])
def test_rc4(code: int, digest: str, mac_length: int) -> None:
    """One key stream over all records (RFC 2246 section 6.2.3.1)."""
    suite = suite_parameters(code)
    assert suite is not None
    keys = KeyBlock(os.urandom(mac_length), os.urandom(16), b"")
    encryptor = Cipher(ARC4(keys.key), mode=None).encryptor()
    opener = make_opener(0x0301, suite, keys, etm=False)
    for sequence, line in enumerate((b"EHLO x\r\n", b"QUIT\r\n")):
        record = _record(encryptor.update(_sealed(line, sequence, keys.mac_key, digest)))
        assert opener.open(sequence + 1, record) is None
        assert opener.open(sequence, record) == (23, line)
        opener.advance(record)


@pytest.mark.parametrize("version", [0x0301, 0x0302])
def test_triple_des(version: int) -> None:
    """Chained IV in TLS 1.0, one in each record from TLS 1.1 on."""
    suite = suite_parameters(0x000A)
    assert suite is not None
    keys = KeyBlock(os.urandom(20), os.urandom(24), os.urandom(8) if version == 0x0301 else b"")
    opener, iv = make_opener(version, suite, keys, etm=False), keys.iv
    for sequence, line in enumerate((b"EHLO x\r\n", b"", b"QUIT\r\n")):
        head = sequence.to_bytes(8, "big") + b"\x17" + version.to_bytes(2, "big") + len(line).to_bytes(2, "big")
        plain = line + hmac.digest(keys.mac_key, head + line, "sha1")
        pad = 7 - len(plain) % 8
        if version != 0x0301:
            iv = os.urandom(8)
        sealed = Cipher(TripleDES(keys.key), modes.CBC(iv)).encryptor().update(plain + bytes((pad,)) * (pad + 1))
        record = Record(CLIENT, 23, version, sealed if version == 0x0301 else iv + sealed, 0, HERE, HERE)
        assert opener.open(sequence, record) == (23, line)
        opener.advance(record)
        iv = sealed[-8:]


@given(st.binary(max_size=80), st.sampled_from([0x009C, 0xC09C, 0xCCA8, 0x002F, 0x000A, 0x0005, 0x003B]), st.booleans())
def test_nonsense_never_opens(payload: bytes, code: int, etm: bool) -> None:
    suite = suite_parameters(code)
    assert suite is not None
    mac = {"": 0, "md5": 16, "sha1": 20, "sha256": 32}[suite.mac]
    keys = KeyBlock(
        b"m" * mac, bytes(range(suite.key_length)), b"i" * {"gcm": 4, "ccm": 4, "chacha20": 12}.get(suite.mode, 0)
    )
    opener = make_opener(0x0303, suite, keys, etm=etm)
    record = Record(CLIENT, 23, 0x0303, payload, 0, HERE, HERE)
    assert opener.open(0, record) is None
    opener.advance(record)
    opener.lose()


RANDOM, MASTER = "0a" * 32, "0b" * 48


def test_a_key_log_with_junk() -> None:
    text = f"""\ufeff# comment
CLIENT_RANDOM {RANDOM} {MASTER}
client_random {RANDOM} {MASTER}\r
RSA {"0c" * 8} {MASTER.upper()}
RSA Session-ID:{"0d" * 32} Master-Key:{MASTER}
CLIENT_TRAFFIC_SECRET_0 {RANDOM} {"0e" * 32}
SERVER_HANDSHAKE_TRAFFIC_SECRET {RANDOM} {"0f" * 48}
EXPORTER_SECRET {RANDOM} {"0f" * 48}
CLIENT_RANDOM {RANDOM} {MASTER[:-2]}
CLIENT_RANDOM {RANDOM} zz
hello

CLIENT_RANDOM {RANDOM}"""
    log = parse_keylog(text.encode() + b"\n\xff\xfe\x00 binary \x80\n")
    assert [(line.label, line.index.hex()[:2]) for line in log.lines] == [
        ("CLIENT_RANDOM", "0a"),
        ("RSA", "0c"),
        ("SESSION_ID", "0d"),
        ("CLIENT_TRAFFIC_SECRET_0", "0a"),
        ("SERVER_HANDSHAKE_TRAFFIC_SECRET", "0a"),
    ]
    assert log.ignored == 6


@given(st.binary(max_size=300))
def test_any_bytes_are_a_key_log(text: bytes) -> None:
    log = parse_keylog(text)
    assert log.ignored >= 0


def test_deflated_records_are_inflated_as_one_stream() -> None:
    """RFC 3749 section 2.2: the history goes on from record to record; after a loss it is gone."""
    suite = suite_parameters(0x0005)
    assert suite is not None
    keys = KeyBlock(os.urandom(20), os.urandom(16), b"")
    encryptor, deflater = Cipher(ARC4(keys.key), mode=None).encryptor(), zlib.compressobj()
    opener = Inflated(make_opener(0x0301, suite, keys, etm=False))
    for sequence, line in enumerate((b"RCPT TO:<a@example.org>\r\n", b"RCPT TO:<b@example.org>\r\n")):
        squeezed = deflater.compress(line) + deflater.flush(zlib.Z_SYNC_FLUSH)
        record = _record(encryptor.update(_sealed(squeezed, sequence, keys.mac_key, "sha1")))
        assert opener.open(sequence, record) == (23, line)
        opener.advance(record)
    opener.lose()
    assert opener.open(2, _record(b"x" * 40)) is None
