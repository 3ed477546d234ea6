"""What a ClientHello offers, in names, and its fingerprints: JA3 (Salesforce, 2017) and JA4 (FoxIO, 2023)."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Final

import msgspec

from smtpdebug.tls import names
from smtpdebug.tls.hello import ClientHello

_JA4_VERSIONS: Final = {0x0304: "13", 0x0303: "12", 0x0302: "11", 0x0301: "10", 0x0300: "s3", 0x0002: "s2"}


class Offer(msgspec.Struct, frozen=True, gc=False):
    """The same for every connection that one client opens to one kind of server."""

    versions: list[str]
    suites: list[str]
    groups: list[str]
    signature_algorithms: list[str]
    alpn: list[str]
    ja3: str
    ja4: str


_TELLING: Final = frozenset(
    (
        names.SUPPORTED_GROUPS,
        names.EC_POINT_FORMATS,
        names.SIGNATURE_ALGORITHMS,
        names.ALPN,
        names.SUPPORTED_VERSIONS,
    )
)


def describe_offer(hello: ClientHello) -> Offer:
    """Names and fingerprints; remembered, since clients say the same each time but for randoms, names and tickets."""
    told = tuple((code, content if code in _TELLING else b"") for code, content in hello.extensions)
    return _describe(hello.version, tuple(hello.suites), told)


@lru_cache(maxsize=256)
def _describe(version: int, suites: tuple[int, ...], extensions: tuple[tuple[int, bytes], ...]) -> Offer:
    hello = ClientHello(version, b"", b"", list(suites), list(extensions), False)
    return Offer(
        [names.version_name(code) for code in hello.versions],
        [names.suite_name(code) for code in _plain(hello.suites)],
        [names.group_name(code) for code in _plain(hello.groups)],
        [names.signature_name(code) for code in _plain(hello.signature_algorithms)],
        hello.alpn,
        ja3(hello),
        ja4(hello),
    )


def _plain(codes: list[int]) -> list[int]:
    return [code for code in codes if not names.is_grease(code)]


def ja3(hello: ClientHello) -> str:
    """MD5 of version, suites, extensions, groups and point formats, in order, in decimal, GREASE left out."""
    lists = (
        _plain(hello.suites),
        _plain([code for code, _ in hello.extensions]),
        _plain(hello.groups),
        hello.point_formats,
    )
    told = ",".join([str(hello.version), *("-".join(map(str, codes)) for codes in lists)])
    return hashlib.md5(told.encode(), usedforsecurity=False).hexdigest()


def ja4(hello: ClientHello) -> str:
    """JA4 of a ClientHello over TCP: counts in the open, sorted suites and extensions as truncated SHA-256."""
    suites = _plain(hello.suites)
    extensions = _plain([code for code, _ in hello.extensions])
    version = _JA4_VERSIONS.get(max(hello.versions, default=0), "00")
    named = "d" if names.SERVER_NAME in extensions else "i"
    alpn = _alpn_mark(hello.alpn_raw[0] if hello.alpn_raw else b"")
    head = f"t{version}{named}{min(len(suites), 99):02d}{min(len(extensions), 99):02d}{alpn}"
    kept = sorted(code for code in extensions if code not in (names.SERVER_NAME, names.ALPN))
    told = ",".join(f"{code:04x}" for code in kept)
    schemes = _plain(hello.signature_algorithms)
    if told and schemes:
        told += "_" + ",".join(f"{code:04x}" for code in schemes)
    return f"{head}_{_short(','.join(f'{code:04x}' for code in sorted(suites)))}_{_short(told)}"


def _alpn_mark(name: bytes) -> str:
    """First and last character of the first protocol; of its hexadecimal form if they are not alphanumeric."""
    if not name:
        return "00"
    ends = bytes((name[0], name[-1]))
    if ends.isalnum():
        return ends.decode()
    return name.hex()[0] + name.hex()[-1]


def _short(told: str) -> str:
    return hashlib.sha256(told.encode()).hexdigest()[:12] if told else "000000000000"
