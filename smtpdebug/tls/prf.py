"""Key derivation up to TLS 1.2 (RFC 2246 section 5, RFC 5246 section 5, RFC 7627)."""

from __future__ import annotations

import hashlib
import hmac
from itertools import pairwise
from typing import Final

import msgspec

from smtpdebug.tls.suite_parameters import Suite

TLS10: Final = 0x0301
TLS11: Final = 0x0302
TLS12: Final = 0x0303
MASTER_LENGTH: Final = 48


class KeyBlock(msgspec.Struct, frozen=True, gc=False):
    """Keys of one direction."""

    mac_key: bytes
    key: bytes
    iv: bytes


def _p_hash(name: str, secret: bytes, seed: bytes, length: int) -> bytes:
    out = b""
    link = seed
    while len(out) < length:
        link = hmac.digest(secret, link, name)
        out += hmac.digest(secret, link + seed, name)
    return out[:length]


def prf(version: int, name: str, secret: bytes, label: bytes, seed: bytes, length: int) -> bytes:
    """The pseudo-random function.

    Args:
        version: of the protocol; before TLS 1.2 it is MD5 and SHA-1 combined, whatever the suite.
        name: the suite's PRF hash, for TLS 1.2.
        secret: key.
        label: ASCII label.
        seed: the rest of the input.
        length: octets wanted.
    """
    seed = label + seed
    if version >= TLS12:
        return _p_hash(name, secret, seed, length)
    half = (len(secret) + 1) // 2
    left = _p_hash("md5", secret[:half], seed, length)
    right = _p_hash("sha1", secret[-half:] if half else b"", seed, length)
    return (int.from_bytes(left, "big") ^ int.from_bytes(right, "big")).to_bytes(length, "big")


def master_secret(version: int, suite: Suite, premaster: bytes, client_random: bytes, server_random: bytes) -> bytes:
    """RFC 5246 section 8.1."""
    return prf(version, suite.prf, premaster, b"master secret", client_random + server_random, MASTER_LENGTH)


def extended_master_secret(version: int, suite: Suite, premaster: bytes, transcript: bytes) -> bytes:
    """RFC 7627 section 4; ``transcript`` is every handshake message from ClientHello through ClientKeyExchange."""
    if version >= TLS12:
        digest = hashlib.new(suite.prf, transcript).digest()
    else:
        digest = (
            hashlib.md5(transcript, usedforsecurity=False).digest()
            + hashlib.sha1(transcript, usedforsecurity=False).digest()
        )
    return prf(version, suite.prf, premaster, b"extended master secret", digest, MASTER_LENGTH)


def key_blocks(
    version: int, suite: Suite, master: bytes, client_random: bytes, server_random: bytes
) -> tuple[KeyBlock, KeyBlock]:
    """Keys of (client, server), RFC 5246 section 6.3; the IV is the fixed part of an AEAD nonce, or TLS 1.0's first."""
    mac = {"": 0, "md5": 16, "sha1": 20, "sha256": 32, "sha384": 48}[suite.mac]
    if suite.mode == "cbc":
        iv = (8 if suite.cipher == "3des" else 16) if version <= TLS10 else 0
    else:
        iv = {"gcm": 4, "ccm": 4, "chacha20": 12}.get(suite.mode, 0)
    key = suite.key_length
    total = 2 * (mac + key + iv)
    block = prf(version, suite.prf, master, b"key expansion", server_random + client_random, total)
    cuts = [0]
    for length in (mac, mac, key, key, iv, iv):
        cuts.append(cuts[-1] + length)
    parts = [block[a:b] for a, b in pairwise(cuts)]
    return KeyBlock(parts[0], parts[2], parts[4]), KeyBlock(parts[1], parts[3], parts[5])
