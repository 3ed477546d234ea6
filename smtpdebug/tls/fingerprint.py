"""Fingerprints of a ClientHello: JA3 (Salesforce, 2017) and JA4 (FoxIO, 2023)."""

from __future__ import annotations

import hashlib
from typing import Final

from smtpdebug.tls import names
from smtpdebug.tls.hello import ClientHello

_JA4_VERSIONS: Final = {0x0304: "13", 0x0303: "12", 0x0302: "11", 0x0301: "10", 0x0300: "s3", 0x0002: "s2"}


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
