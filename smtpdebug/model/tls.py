"""TLS: what is visible without a key, and what a decryptor is given and gives back."""

from __future__ import annotations

from typing import Final

import msgspec

from smtpdebug.model.streams import Location, Side

CHANGE_CIPHER_SPEC: Final = 20
ALERT: Final = 21
HANDSHAKE: Final = 22
APPLICATION_DATA: Final = 23

UNSEALED: Final = "none"
"""For ``TlsFacts.secret``: the cipher suite has no cipher, no secret was needed."""


class Record(msgspec.Struct, gc=False):
    """One TLS record of one direction (RFC 8446 section 5.1), as sent."""

    side: Side
    content_type: int
    version: int
    """Of the record header, e.g. 0x0303; 0x0002: a ClientHello in the format of SSL 2.0 (RFC 5246 appendix E.2), which
    has a header of two octets."""
    payload: bytes
    """The fragment, without the five header octets."""
    offset: int
    """Stream offset of the header."""
    began: Location
    at: Location
    """Packet with the first byte; packet that made the last byte available."""
    after_gap: int = 0
    """Bytes of this direction missing before this record since the one before."""
    acked: int = -1
    """How many of the other side's bytes in the TCP stream the sender had (see ``Chunk.acked``)."""

    @property
    def end(self) -> int:
        """Stream offset of the byte after it."""
        return self.offset + len(self.payload) + (2 if self.version == 2 else 5)


class Decrypted(msgspec.Struct, gc=False):
    """What one record held."""

    flow: int
    side: Side
    content_type: int
    data: bytes
    began: Location
    at: Location
    missing_before: int = 0
    """Records of this direction between the one before and this one that could not be opened."""
    offset: int = -1
    end: int = -1
    acked: int = -1
    """Of the record, see there; -1 where they are not known."""


def opened_by(flow: int, record: Record, content_type: int, data: bytes, missing: int = 0) -> Decrypted:
    """What a record held, at the record's places."""
    return Decrypted(
        flow, record.side, content_type, data, record.began, record.at, missing, record.offset, record.end, record.acked
    )


class Alert(msgspec.Struct, gc=False):
    """An alert of either side (RFC 8446 section 6)."""

    sender: Side
    level: str
    """``warning`` or ``fatal``."""
    description: str
    """E.g. ``unknown_ca`` (RFC 8446 section 6)."""
    code: int
    at: Location
    encrypted: bool = False
    phase: str = "handshake"
    """``handshake`` or ``application``."""


class Certificate(msgspec.Struct, gc=False):
    """One certificate of the server's chain, leaf first as sent."""

    subject: str
    issuer: str
    names: list[str]
    not_before_ns: int
    not_after_ns: int
    sha256: str
    spki_sha256: str
    key: str
    """E.g. ``RSA 2048``, ``EC secp256r1``."""
    der: bytes = b""
    self_signed: bool = False


class Flight(msgspec.Struct, gc=False):
    """Handshake messages that one side sent without waiting for the other, and without a pause of its own."""

    side: Side
    messages: list[str]
    began_ns: int
    ended_ns: int


class TlsFacts(msgspec.Struct, gc=False):
    """One TLS connection: what was offered, what was agreed, and whether it could be opened."""

    mode: str
    """``implicit`` or ``starttls``."""
    started: Location
    versions_offered: list[str] = []
    version: str | None = None
    """``TLS 1.2`` …"""
    cipher_suites_offered: list[str] = []
    cipher_suite: str | None = None
    """IANA name."""
    cipher_suite_code: int | None = None
    server_name: str | None = None
    alpn_offered: list[str] = []
    alpn: str | None = None
    groups_offered: list[str] = []
    group: str | None = None
    signature_algorithms: list[str] = []
    client_extensions: list[int] = []
    server_extensions: list[int] = []
    session_id: str | None = None
    resumed: bool | None = None
    ticket_offered: bool = False
    hello_retry: bool = False
    client_certificate_requested: bool = False
    client_certificates: list[Certificate] = []
    certificates: list[Certificate] = []
    alerts: list[Alert] = []
    flights: list[Flight] = []
    client_hello_size: int = 0
    client_hello: Location | None = None
    server_hello: Location | None = None
    finished: Location | None = None
    """Packet of the last Finished (or, encrypted, the last handshake record): the handshake is done."""
    handshake_ns: int | None = None
    """From the first byte of ClientHello to the last byte of the last Finished."""
    ja3: str | None = None
    ja4: str | None = None
    records: list[int] = msgspec.field(default_factory=lambda: [0, 0])
    application_bytes: list[int] = msgspec.field(default_factory=lambda: [0, 0])
    """Ciphertext bytes of application data, by side."""
    missing: list[int] = msgspec.field(default_factory=lambda: [0, 0])
    decrypted: bool = False
    secret: str | None = None
    """``rsa-key``, ``keylog``, ``dsb`` (or ``resumed`` from one of them); ``UNSEALED``."""
    decryptor: str | None = None
    """``native`` or ``tshark``."""
    reason: str | None = None
    """Why it stays closed: an id of ``tls.reasons``; ``None`` when decrypted."""
    reason_text: str | None = None
    advice: str | None = None


class Verdict(msgspec.Struct, gc=False):
    """What a decryptor says of one flow when it is done with it."""

    decrypted: bool
    secret: str | None
    decryptor: str
    reason: str | None = None
    detail: str = ""
