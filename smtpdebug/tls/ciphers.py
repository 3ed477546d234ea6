"""Opening one record: the record protection of TLS 1.0 to 1.3.

An opener is asked with a sequence number and says ``None`` when the record does not authenticate with it, so that the
caller can look for the right number after a loss. Only ``advance`` changes an opener.
"""

from __future__ import annotations

import hashlib
import hmac
import zlib
from typing import Any, Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.decrepit.ciphers import algorithms as decrepit
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305

from smtpdebug.model.tls import Record
from smtpdebug.tls.prf import TLS10, KeyBlock
from smtpdebug.tls.suite_parameters import Suite

_MAX_PLAIN: Final = 1 << 14
"""Largest plaintext of a record (RFC 5246 section 6.2.1)."""


class Opener(Protocol):
    """Opens the records of one direction under one set of keys."""

    def open(self, sequence: int, record: Record) -> tuple[int, bytes] | None:
        """(content type, plaintext), or ``None`` if it does not authenticate as this sequence number."""

    def hint(self, record: Record) -> int | None:
        """How many records after the last one this seems to be, where the record itself tells."""

    def advance(self, record: Record) -> None:
        """This record has passed, opened or not."""

    def lose(self) -> None:
        """Records before the next one are missing."""


def _aead(suite: Suite, key: bytes) -> AESGCM | AESCCM | ChaCha20Poly1305:
    if suite.mode == "gcm":
        return AESGCM(key)
    if suite.mode == "ccm":
        return AESCCM(key, tag_length=suite.tag_length)
    return ChaCha20Poly1305(key)


class Aead12:
    """AEAD suites of TLS 1.2: GCM (RFC 5288), CCM (RFC 6655), ChaCha20-Poly1305 (RFC 7905)."""

    __slots__ = ("_aead", "_explicit", "_iv", "_last", "_overhead")

    def __init__(self, suite: Suite, keys: KeyBlock) -> None:
        self._aead = _aead(suite, keys.key)
        self._iv = keys.iv
        self._explicit = 0 if suite.mode == "chacha20" else 8
        self._overhead = self._explicit + suite.tag_length
        self._last: int | None = None

    def open(self, sequence: int, record: Record) -> tuple[int, bytes] | None:
        """See ``Opener``."""
        payload = record.payload
        length = len(payload) - self._overhead
        if length < 0:
            return None
        if self._explicit:
            nonce, sealed = self._iv + payload[:8], payload[8:]
        else:
            nonce, sealed = _masked(self._iv, sequence), payload
        kind = record.content_type
        head = (sequence << 40 | kind << 32 | record.version << 16 | length).to_bytes(13, "big")
        try:
            return kind, self._aead.decrypt(nonce, sealed, head)
        except InvalidTag:
            return None

    def hint(self, record: Record) -> int | None:
        """Most implementations count the explicit nonce up by one a record."""
        if self._last is None or not self._explicit or len(record.payload) < 8:
            return None
        return int.from_bytes(record.payload[:8], "big") - self._last - 1

    def advance(self, record: Record) -> None:
        """See ``Opener``."""
        if self._explicit:
            self._last = int.from_bytes(record.payload[:8], "big")

    def lose(self) -> None:
        """See ``Opener``."""


class Aead13:
    """TLS 1.3 (RFC 8446 section 5.2): the content type is inside, after it come zeros."""

    __slots__ = ("_aead", "_iv")

    def __init__(self, suite: Suite, keys: KeyBlock) -> None:
        self._aead = _aead(suite, keys.key)
        self._iv = keys.iv

    def open(self, sequence: int, record: Record) -> tuple[int, bytes] | None:
        """See ``Opener``."""
        payload = record.payload
        head = (record.content_type << 32 | record.version << 16 | len(payload)).to_bytes(5, "big")
        try:
            inner = self._aead.decrypt(_masked(self._iv, sequence), payload, head)
        except (InvalidTag, ValueError):
            return None
        inner = inner.rstrip(b"\x00")
        return (inner[-1], inner[:-1]) if inner else None

    def hint(self, record: Record) -> int | None:
        """Nothing in the record tells."""
        return None

    def advance(self, record: Record) -> None:
        """See ``Opener``."""

    def lose(self) -> None:
        """See ``Opener``."""


def _masked(iv: bytes, sequence: int) -> bytes:
    return (int.from_bytes(iv, "big") ^ sequence).to_bytes(len(iv), "big")


class Cbc:
    """CBC suites: MAC inside (RFC 5246 section 6.2.3.2) or outside (encrypt-then-MAC, RFC 7366).

    In TLS 1.0 the IV is the last ciphertext block of the record before; after a loss the first record therefore
    cannot be opened, the next one can. A MAC inside proves the IV too; one outside does not: there the block before is
    only used if it was authentic itself, and for the sequence number after it.
    """

    __slots__ = (
        "_authenticated",
        "_block",
        "_cipher",
        "_etm",
        "_implicit",
        "_iv",
        "_iv_for",
        "_mac",
        "_mac_key",
        "_mac_length",
    )

    def __init__(self, version: int, suite: Suite, keys: KeyBlock, *, etm: bool) -> None:
        self._block = 8 if suite.cipher == "3des" else 16
        # One context for all records: a block given to it before a record is that record's IV.
        algorithm = _block_cipher(suite.cipher, keys.key)
        self._cipher = Cipher(algorithm, modes.CBC(bytes(self._block))).decryptor()
        self._mac, self._mac_key = suite.mac, keys.mac_key
        self._mac_length = hashlib.new(suite.mac, usedforsecurity=False).digest_size
        self._etm = etm
        self._implicit = version <= TLS10
        self._iv: bytes | None = keys.iv
        self._iv_for = 0
        self._authenticated: tuple[Record, int] | None = None

    def open(self, sequence: int, record: Record) -> tuple[int, bytes] | None:
        """See ``Opener``."""
        payload = record.payload
        if self._etm:
            payload, mac = payload[: -self._mac_length], payload[-self._mac_length :]
            if not self._authentic(sequence, record, payload, mac):
                return None
            self._authenticated = record, sequence
        iv = self._iv if not self._etm or sequence == self._iv_for else None
        if not self._implicit:
            iv, payload = payload[: self._block], payload[self._block :]
        if iv is None or len(iv) != self._block or not payload or len(payload) % self._block:
            return None
        plain = self._cipher.update(iv + payload)[self._block :]
        keep = len(plain) - plain[-1] - 1
        if self._etm:
            return (record.content_type, plain[:keep]) if keep >= 0 else None
        keep -= self._mac_length
        if keep < 0 or not self._authentic(sequence, record, plain[:keep], plain[keep : keep + self._mac_length]):
            return None
        return record.content_type, plain[:keep]

    def _authentic(self, sequence: int, record: Record, data: bytes, mac: bytes) -> bool:
        return mac == _mac(self._mac, self._mac_key, sequence, record, data)

    def hint(self, record: Record) -> int | None:
        """Nothing in the record tells."""
        return None

    def advance(self, record: Record) -> None:
        """The next IV of TLS 1.0 is the last block of ciphertext (under EtM: not of the MAC)."""
        if not self._implicit:
            return
        self._iv = record.payload[-self._block :]
        if self._etm:
            proven, sequence = self._authenticated or (None, 0)
            self._iv_for = sequence + 1
            self._iv = record.payload[: -self._mac_length][-self._block :] if proven is record else None

    def lose(self) -> None:
        """The block before the next record is not known."""
        if self._implicit:
            self._iv = None


class Stream:
    """RC4 and NULL suites: MAC inside, no padding. The key stream cannot be found again after a loss."""

    __slots__ = ("_context", "_lost", "_mac", "_mac_key", "_mac_length", "_plain", "_record")

    def __init__(self, suite: Suite, keys: KeyBlock) -> None:
        self._mac, self._mac_key = suite.mac, keys.mac_key
        self._mac_length = hashlib.new(suite.mac, usedforsecurity=False).digest_size
        self._context: Any = None
        if suite.cipher == "rc4":
            self._context = Cipher(decrepit.ARC4(keys.key), mode=None).decryptor()
        self._lost = False
        self._record: Record | None = None
        self._plain = b""

    def open(self, sequence: int, record: Record) -> tuple[int, bytes] | None:
        """See ``Opener``; the key stream moves once for each record, however often it is asked."""
        if self._lost:
            return None
        if record is not self._record:
            self._plain = record.payload if self._context is None else self._context.update(record.payload)
            self._record = record
        keep = len(self._plain) - self._mac_length
        data = self._plain[: max(0, keep)]
        if keep < 0 or self._plain[keep:] != _mac(self._mac, self._mac_key, sequence, record, data):
            return None
        return record.content_type, data

    def hint(self, record: Record) -> int | None:
        """Nothing in the record tells."""
        return None

    def advance(self, record: Record) -> None:
        """See ``Opener``."""
        self._record = None

    def lose(self) -> None:
        """A NULL cipher has no key stream to lose."""
        self._lost = self._context is not None


class Unsealed:
    """NULL suites where no key is at hand: what is said can be read all the same, but its MAC not be checked."""

    __slots__ = ("_mac_length",)

    def __init__(self, suite: Suite) -> None:
        self._mac_length = hashlib.new(suite.mac, usedforsecurity=False).digest_size

    def open(self, sequence: int, record: Record) -> tuple[int, bytes] | None:
        """See ``Opener``."""
        keep = len(record.payload) - self._mac_length
        return (record.content_type, record.payload[:keep]) if keep >= 0 else None

    def hint(self, record: Record) -> int | None:
        """Every sequence number does."""
        return None

    def advance(self, record: Record) -> None:
        """Nothing goes on from record to record."""

    def lose(self) -> None:
        """There is nothing to lose."""


class Inflated:
    """Records that were compressed before they were sealed: one zlib stream a direction (RFC 3749 section 2)."""

    __slots__ = ("_broken", "_opener", "_stream")

    def __init__(self, opener: Opener) -> None:
        self._opener, self._stream, self._broken = opener, zlib.decompressobj(), False

    def open(self, sequence: int, record: Record) -> tuple[int, bytes] | None:
        """See ``Opener``; what authenticates is inflated at once, so it must not be asked again."""
        opened = None if self._broken else self._opener.open(sequence, record)
        if opened is None:
            return None
        try:
            return opened[0], self._stream.decompress(opened[1], _MAX_PLAIN)
        except zlib.error:
            self._broken = True
            return None

    def hint(self, record: Record) -> int | None:
        """See ``Opener``."""
        return self._opener.hint(record)

    def advance(self, record: Record) -> None:
        """See ``Opener``."""
        self._opener.advance(record)

    def lose(self) -> None:
        """What comes next refers to what was lost."""
        self._broken = True
        self._opener.lose()


def _mac(name: str, key: bytes, sequence: int, record: Record, data: bytes) -> bytes:
    head = (sequence << 40 | record.content_type << 32 | record.version << 16 | len(data)).to_bytes(13, "big")
    return hmac.digest(key, head + data, name)


def _block_cipher(cipher: str, key: bytes) -> Any:
    if cipher == "aes":
        return algorithms.AES(key)
    if cipher == "3des":
        return decrepit.TripleDES(key)
    # Camellia moves from one module to the other between releases of cryptography.
    camellia = getattr(decrepit, "Camellia", None) or algorithms.Camellia
    return camellia(key)


def make_opener(version: int, suite: Suite, keys: KeyBlock, *, etm: bool) -> Opener:
    """The opener for a suite in TLS 1.2 or older."""
    if suite.aead:
        return Aead12(suite, keys)
    if suite.mode == "cbc":
        return Cbc(version, suite, keys, etm=etm)
    return Stream(suite, keys)
