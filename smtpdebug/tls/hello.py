"""ClientHello and ServerHello (RFC 8446 section 4.1, RFC 5246 section 7.4.1) as structures."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import msgspec

from smtpdebug.tls import names
from smtpdebug.tls.extensions import numbers, parse_extensions, server_name, text, vectors
from smtpdebug.tls.handshake import Message

RETRY_RANDOM: Final = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
"""The ServerHello.random that makes it a HelloRetryRequest (RFC 8446 section 4.1.3)."""


class ClientHello(msgspec.Struct, gc=False):
    """What a client offers."""

    version: int
    """The legacy_version field."""
    random: bytes
    session_id: bytes
    suites: list[int]
    extensions: list[tuple[int, bytes]]
    cut: bool
    """Some of its fields do not fit into it."""

    def extension(self, kind: int) -> bytes | None:
        """Content of the first extension of a type."""
        return next((content for code, content in self.extensions if code == kind), None)

    @property
    def versions(self) -> list[int]:
        """supported_versions without GREASE, or the one version that the header names."""
        content = self.extension(names.SUPPORTED_VERSIONS)
        if not content:
            return [self.version]
        return [code for code in numbers(content[1:]) if not names.is_grease(code)]

    @property
    def server_name(self) -> str | None:
        """The host name asked for."""
        content = self.extension(names.SERVER_NAME)
        return None if content is None else server_name(content)

    @property
    def alpn(self) -> list[str]:
        """Application protocols offered (RFC 7301)."""
        return [text(name) for name in self.alpn_raw]

    @property
    def alpn_raw(self) -> list[bytes]:
        """Application protocols offered, as bytes."""
        return vectors((self.extension(names.ALPN) or b"")[2:], 1)

    @property
    def groups(self) -> list[int]:
        """supported_groups, GREASE included."""
        return numbers((self.extension(names.SUPPORTED_GROUPS) or b"")[2:])

    @property
    def signature_algorithms(self) -> list[int]:
        """signature_algorithms, GREASE included."""
        return numbers((self.extension(names.SIGNATURE_ALGORITHMS) or b"")[2:])

    @property
    def point_formats(self) -> list[int]:
        """ec_point_formats (RFC 8422 section 5.1.2)."""
        return list((self.extension(names.EC_POINT_FORMATS) or b"")[1:])

    @property
    def ticket(self) -> bytes:
        """The session ticket offered (RFC 5077), empty where none is."""
        return self.extension(names.SESSION_TICKET) or b""


class ServerHello(msgspec.Struct, gc=False):
    """What a server chose."""

    legacy_version: int
    random: bytes
    session_id: bytes
    suite: int
    compression: int
    """0 none, 1 DEFLATE (RFC 3749)."""
    extensions: list[tuple[int, bytes]]

    def extension(self, kind: int) -> bytes | None:
        """Content of the first extension of a type."""
        return next((content for code, content in self.extensions if code == kind), None)

    @property
    def version(self) -> int:
        """The version agreed: supported_versions where it is there (RFC 8446 section 4.2.1)."""
        content = self.extension(names.SUPPORTED_VERSIONS)
        return int.from_bytes(content, "big") if content and len(content) == 2 else self.legacy_version

    @property
    def retry(self) -> bool:
        """It is a HelloRetryRequest."""
        return self.random == RETRY_RANDOM

    @property
    def alpn(self) -> str | None:
        """The application protocol chosen, in TLS 1.2 and older."""
        return alpn_chosen(self.extension(names.ALPN))

    @property
    def group(self) -> int | None:
        """The group of the server's key share (TLS 1.3)."""
        content = self.extension(names.KEY_SHARE)
        return int.from_bytes(content[:2], "big") if content and len(content) >= 2 else None


def alpn_chosen(content: bytes | None) -> str | None:
    """The one protocol of a server's ALPN extension."""
    chosen = vectors((content or b"")[2:], 1)
    return text(chosen[0]) if chosen else None


def read_client_hello(message: Message) -> ClientHello:
    """The ClientHello that a message of that kind is, in either format."""
    return parse_ssl2_hello(message.raw) if message.ssl2 else parse_client_hello(message.body)


def parse_ssl2_hello(raw: bytes) -> ClientHello:
    """Read a ClientHello in the format of SSL 2.0 (RFC 5246 appendix E.2), from msg_type on.

    Suites that only SSL 2.0 has keep their codes of three octets. The challenge is the client random, with zeros
    before it where it is shorter (appendix E.2, "challenge").
    """
    version, suites_size, session_size, challenge_size = (
        int.from_bytes(raw[at : at + 2], "big") for at in (1, 3, 5, 7)
    )
    session_at = 9 + suites_size
    challenge_at = session_at + session_size
    end = challenge_at + challenge_size
    codes = raw[9:session_at]
    suites = [int.from_bytes(codes[at : at + 3], "big") for at in range(0, len(codes) - 2, 3)]
    challenge = raw[challenge_at:end][-32:].rjust(32, b"\0")
    return ClientHello(version, challenge, raw[session_at:challenge_at], suites, [], end > len(raw))


# The tracker and the decryptor read the same hello one after the other; neither changes what it gets.
@lru_cache(maxsize=16)
def parse_client_hello(body: bytes) -> ClientHello:
    """Read a ClientHello body; fields that are cut off are empty and ``cut`` is set."""
    at = 35 + (body[34] if len(body) > 34 else 0)
    session = body[35:at]
    end = at + 2 + int.from_bytes(body[at : at + 2], "big")
    suites = numbers(body[at + 2 : end])
    at = end + 1 + (body[end] if len(body) > end else 0)  # compression methods
    extensions = parse_extensions(body[at + 2 : at + 2 + int.from_bytes(body[at : at + 2], "big")])
    return ClientHello(int.from_bytes(body[:2], "big"), body[2:34], session, suites, extensions, at > len(body))


@lru_cache(maxsize=16)
def parse_server_hello(body: bytes) -> ServerHello:
    """Read a ServerHello (or HelloRetryRequest) body; fields that are cut off are empty."""
    at = 35 + (body[34] if len(body) > 34 else 0)
    suite = int.from_bytes(body[at : at + 2], "big")
    compression = body[at + 2] if len(body) > at + 2 else 0
    start = at + 5  # suite, compression method, length
    extensions = parse_extensions(body[start : start + int.from_bytes(body[at + 3 : start], "big")])
    return ServerHello(int.from_bytes(body[:2], "big"), body[2:34], body[35:at], suite, compression, extensions)
