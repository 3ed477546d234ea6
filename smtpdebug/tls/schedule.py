"""Traffic keys of TLS 1.3 from the traffic secrets of a key log (RFC 8446 section 7)."""

from __future__ import annotations

import hashlib
import hmac

from smtpdebug.tls.prf import KeyBlock
from smtpdebug.tls.suite_parameters import Suite


def expand_label(name: str, secret: bytes, label: bytes, length: int) -> bytes:
    """HKDF-Expand-Label with an empty context (RFC 8446 section 7.1)."""
    full = b"tls13 " + label
    info = length.to_bytes(2, "big") + bytes((len(full),)) + full + b"\x00"
    out, block, count = b"", b"", 1
    while len(out) < length:
        block = hmac.digest(secret, block + info + bytes((count,)), name)
        out += block
        count += 1
    return out[:length]


def traffic_keys(suite: Suite, secret: bytes) -> KeyBlock:
    """Write key and IV of a traffic secret (RFC 8446 section 7.3)."""
    return KeyBlock(
        b"", expand_label(suite.prf, secret, b"key", suite.key_length), expand_label(suite.prf, secret, b"iv", 12)
    )


def next_secret(suite: Suite, secret: bytes) -> bytes:
    """The traffic secret after a KeyUpdate (RFC 8446 section 7.2)."""
    return expand_label(suite.prf, secret, b"traffic upd", hashlib.new(suite.prf).digest_size)
