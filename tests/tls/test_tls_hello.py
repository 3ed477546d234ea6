"""Hellos and fingerprints against published examples."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpdebug.tls import names
from smtpdebug.tls.fingerprint import describe_offer, ja3, ja4
from smtpdebug.tls.hello import ClientHello, parse_client_hello, parse_server_hello, parse_ssl2_hello


def _u16(codes: list[int]) -> bytes:
    return b"".join(code.to_bytes(2, "big") for code in codes)


def _vector(data: bytes, width: int = 2) -> bytes:
    return len(data).to_bytes(width, "big") + data


def hello_body(version: int, suites: list[int], extensions: list[tuple[int, bytes]], session: bytes = b"") -> bytes:
    told = b"".join(code.to_bytes(2, "big") + _vector(content) for code, content in extensions)
    return (
        version.to_bytes(2, "big")
        + bytes(range(32))
        + _vector(session, 1)
        + _vector(_u16(suites))
        + b"\x01\x00"
        + _vector(told)
    )


def test_ja3_of_the_published_example() -> None:
    """README of salesforce/ja3: 769,47-53-5-10-49161-49162-49171-49172-50-56-19-4,0-10-11,23-24-25,0."""
    body = hello_body(
        769,
        [47, 53, 5, 10, 49161, 49162, 49171, 49172, 50, 56, 19, 4],
        [(0, b""), (10, _vector(_u16([23, 24, 25]))), (11, b"\x01\x00")],
    )
    assert ja3(parse_client_hello(body)) == "ada70206e40642a3e4461f35503241d5"


def test_ja4_of_the_published_example() -> None:
    """Technical details of FoxIO's JA4: t13d1516h2_8daaf6152771_e5627efa2ab1 (a browser; GREASE is left out)."""
    suites = "1301 1302 1303 c02b c02f c02c c030 cca9 cca8 c013 c014 009c 009d 002f 0035"
    schemes = [0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601]
    kinds = "001b 0000 0033 0010 4469 0017 002d 000d 0005 0023 0012 002b ff01 000b 000a 0015"
    content = {
        0x0000: _vector(b"\x00" + _vector(b"example.com")),
        0x0010: _vector(_vector(b"h2", 1) + _vector(b"http/1.1", 1)),
        0x000D: _vector(_u16(schemes)),
        0x002B: _vector(_u16([0x5A5A, 0x0304, 0x0303]), 1),
    }
    extensions = [(0xDADA, b"")] + [(int(kind, 16), content.get(int(kind, 16), b"")) for kind in kinds.split()]
    body = hello_body(0x0303, [0x2A2A] + [int(code, 16) for code in suites.split()], extensions)
    assert ja4(parse_client_hello(body)) == "t13d1516h2_8daaf6152771_e5627efa2ab1"


def test_what_a_client_offers_has_names() -> None:
    body = hello_body(
        0x0303,
        [0x1301, 0x0A0A, 0x009C, 0xFFEE],
        [
            (0, _vector(b"\x00" + _vector(b"mx.example.org"))),
            (10, _vector(_u16([0x1A1A, 29, 23]))),
            (13, _vector(_u16([0x0804]))),
            (16, _vector(_vector(b"smtp", 1))),
            (43, _vector(_u16([0x3A3A, 0x0304, 0x0303]), 1)),
            (35, b"ticket"),
        ],
        session=b"\x07" * 32,
    )
    hello = parse_client_hello(body)
    offer = describe_offer(hello)
    assert offer.suites == ["TLS_AES_128_GCM_SHA256", "TLS_RSA_WITH_AES_128_GCM_SHA256", "0xFFEE"]
    assert offer.versions == ["TLS 1.3", "TLS 1.2"]
    assert offer.groups == ["x25519", "secp256r1"]
    assert offer.signature_algorithms == ["rsa_pss_rsae_sha256"]
    assert offer.alpn == ["smtp"]
    assert (hello.server_name, hello.session_id, hello.ticket) == ("mx.example.org", b"\x07" * 32, b"ticket")
    assert not hello.cut


def test_a_server_hello_without_extensions() -> None:
    body = b"\x03\x01" + bytes(32) + b"\x04abcd" + b"\x00\x2f\x00"
    hello = parse_server_hello(body)
    assert (hello.version, hello.session_id, hello.suite, hello.extensions) == (0x0301, b"abcd", 0x002F, [])


def test_supported_versions_overrules_the_header() -> None:
    """RFC 8446 section 4.2.1."""
    body = b"\x03\x03" + bytes(32) + b"\x00" + b"\x13\x01\x00" + _vector(b"\x00\x2b\x00\x02\x03\x04")
    assert parse_server_hello(body).version == 0x0304


@given(st.binary(max_size=200))
def test_nonsense_is_read_without_complaint(body: bytes) -> None:
    hello = parse_client_hello(body)
    assert isinstance(hello, ClientHello)
    assert describe_offer(hello).ja4.startswith("t")
    assert parse_server_hello(body).suite >= 0
    assert hello.server_name is None or isinstance(hello.server_name, str)


def test_a_cut_hello_says_so() -> None:
    body = hello_body(0x0303, [0x1301, 0x1302], [(0, b"")])
    assert parse_client_hello(body[:20]).cut
    assert parse_client_hello(body[:41]).cut


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (0x002F, "TLS_RSA_WITH_AES_128_CBC_SHA"),
        (0xC02F, "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
        (0xCCA8, "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"),
        (0x1302, "TLS_AES_256_GCM_SHA384"),
        (0xC09C, "TLS_RSA_WITH_AES_128_CCM"),
        (0x00FF, "TLS_EMPTY_RENEGOTIATION_INFO_SCSV"),
        (0xABCD, "0xABCD"),
    ],
)
def test_cipher_suite_names_are_ianas(code: int, name: str) -> None:
    assert names.suite_name(code) == name


def test_grease() -> None:
    """RFC 8701 section 2: both octets equal, low halves 0xA."""
    assert [code for code in range(1 << 16) if names.is_grease(code)] == [n * 0x1010 + 0x0A0A for n in range(16)]


def test_a_hello_in_the_format_of_ssl2_says_version_suites_session_and_challenge() -> None:
    """RFC 5246 appendix E.2: a challenge shorter than 32 octets stands at the end of the random, zeros before it."""
    raw = b"\x01\x03\x01" + b"\x00\x06\x00\x02\x00\x10" + b"\x00\x00\x2f\x01\x00\x80" + b"id" + bytes(range(16))
    hello = parse_ssl2_hello(raw)
    assert (hello.version, hello.suites, hello.session_id) == (0x0301, [0x002F, 0x010080], b"id")
    assert hello.random == bytes(16) + bytes(range(16))
    assert [names.suite_name(code) for code in hello.suites] == [
        "TLS_RSA_WITH_AES_128_CBC_SHA",
        "SSL_CK_RC4_128_WITH_MD5",
    ]
    assert not hello.cut
    assert parse_ssl2_hello(raw[:-1]).cut


@given(st.binary(max_size=80))
def test_any_octets_are_read_as_a_hello_in_the_format_of_ssl2(raw: bytes) -> None:
    assert len(parse_ssl2_hello(raw).random) == 32
