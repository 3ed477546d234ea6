"""What a cipher suite's name says of its key exchange, cipher, MAC and PRF (RFC 5246 appendix C and the AEAD RFCs)."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import msgspec

from smtpdebug.tls.suites import CIPHER_SUITES


class Suite(msgspec.Struct, frozen=True, gc=False):
    """The parameters that decryption needs."""

    name: str
    key_exchange: str
    """``RSA``, ``ECDHE_RSA``, ``DHE_RSA``, … and empty in TLS 1.3."""
    cipher: str
    """``aes``, ``camellia``, ``3des``, ``chacha20``, ``rc4`` or ``null``."""
    mode: str
    """``cbc``, ``gcm``, ``ccm``, ``chacha20`` or ``stream``."""
    key_length: int
    mac: str
    """Hash of the HMAC, empty for AEAD."""
    prf: str
    """Hash of the PRF in TLS 1.2 and of the key schedule in TLS 1.3."""
    tag_length: int = 16

    @property
    def aead(self) -> bool:
        """The cipher authenticates by itself."""
        return not self.mac

    @property
    def forward_secret(self) -> bool:
        """Ephemeral key exchange: no long-term key opens it later."""
        return not self.key_exchange or "DHE" in self.key_exchange or "anon" in self.key_exchange


_CIPHERS: Final[dict[str, tuple[str, str, int, int]]] = {
    "AES_128_GCM": ("aes", "gcm", 16, 16),
    "AES_256_GCM": ("aes", "gcm", 32, 16),
    "AES_128_CCM": ("aes", "ccm", 16, 16),
    "AES_256_CCM": ("aes", "ccm", 32, 16),
    "AES_128_CCM_8": ("aes", "ccm", 16, 8),
    "AES_256_CCM_8": ("aes", "ccm", 32, 8),
    "CHACHA20_POLY1305": ("chacha20", "chacha20", 32, 16),
    "AES_128_CBC": ("aes", "cbc", 16, 0),
    "AES_256_CBC": ("aes", "cbc", 32, 0),
    "CAMELLIA_128_CBC": ("camellia", "cbc", 16, 0),
    "CAMELLIA_256_CBC": ("camellia", "cbc", 32, 0),
    "3DES_EDE_CBC": ("3des", "cbc", 24, 0),
    "RC4_128": ("rc4", "stream", 16, 0),
    "NULL": ("null", "stream", 0, 0),
}
_HASHES: Final = {"MD5": "md5", "SHA": "sha1", "SHA256": "sha256", "SHA384": "sha384"}


@lru_cache(maxsize=512)
def suite_parameters(code: int) -> Suite | None:
    """Parameters of a cipher suite; ``None`` where the code or its cipher is not one we can decrypt."""
    name = CIPHER_SUITES.get(code)
    if name is None:
        return None
    exchange, found, rest = name.removeprefix("TLS_").partition("_WITH_")
    if not found:
        exchange, rest = "", exchange
    cipher, _, digest = rest.rpartition("_")
    if digest not in _HASHES:  # the CCM suites of RFC 6655 name no hash: SHA-256
        cipher, digest = rest, "SHA256"
    known = _CIPHERS.get(cipher)
    if known is None:
        return None
    kind, mode, key_length, tag = known
    mac = "" if tag else _HASHES[digest]
    # TLS 1.2: the hash of an AEAD suite is its PRF's; CBC suites use SHA-256 unless they name SHA-384.
    prf = "sha384" if digest == "SHA384" else "sha256"
    return Suite(name, exchange, kind, mode, key_length, mac, prf, tag)


def key_exchange(name: str | None) -> str:
    """The key exchange part of an IANA suite name; empty in TLS 1.3 or where unknown."""
    exchange, found, _ = (name or "").removeprefix("TLS_").partition("_WITH_")
    return exchange if found else ""
