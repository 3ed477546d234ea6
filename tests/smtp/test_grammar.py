from __future__ import annotations

import pytest

from smtpdebug.model.smtp import CONTROL, EIGHT_BIT, LEADING_SPACE, LONG_LINE, NUL, TRAILING_SPACE
from smtpdebug.smtp.grammar import (
    FOOT,
    TLS_HELLO,
    TLS_RECORD,
    chunk_size,
    command_parts,
    enhanced_code,
    line_oddities,
    path_of,
)


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        (b"MAIL FROM:<a@x> SIZE=5", ("MAIL", "FROM:<a@x> SIZE=5")),
        (b"mail from:<a@x>", ("MAIL", "from:<a@x>")),
        (b"QUIT", ("QUIT", "")),
        (b"", ("", "")),
        (b"RCPT\tTO:<b@y>", ("RCPT", "TO:<b@y>")),
        (b"  NOOP x", ("NOOP", "x")),
        (b"QUIT\r", ("QUIT", "")),
        (b"VRFY \xff", ("VRFY", "\\xff")),
        (b"MAIL FROM:<\xc3\xa9@x>", ("MAIL", "FROM:<é@x>")),
    ],
)
def test_command_parts(line: bytes, parts: tuple[str, str]) -> None:
    assert command_parts(line) == parts


@pytest.mark.parametrize(
    ("argument", "size"),
    [
        ("129", (129, False)),
        ("129 LAST", (129, True)),
        ("0 last", (0, True)),
        ("-1 LAST", None),
        ("5 X", None),  # RFC 3030: the only thing that may follow is LAST
        ("", None),
        ("9" * 40, None),
        ("٣", None),
    ],
)
def test_chunk_size(argument: str, size: tuple[int, bool] | None) -> None:
    assert chunk_size(argument) == size


@pytest.mark.parametrize(
    ("argument", "path"),
    [
        ("FROM:<>", ""),
        ("FROM:<a@x> SIZE=10", "a@x"),
        ("TO: <b@y>", "b@y"),
        ('TO:<"a>b"@y>', '"a>b"@y'),
        ("FROM:a@x BODY=8BITMIME", "a@x"),
        ("FROM", ""),
    ],
)
def test_path(argument: str, path: str) -> None:
    assert path_of(argument) == path


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"250 2.1.5 Ok", "2.1.5"),
        (b"550-5.7.26 no", "5.7.26"),
        (b"250 2.1", None),
        (b"250 3.1.1 x", None),
        (b"250 1.2.3.4 is you", None),
        (b"250 2.0.0.1 is me", None),
        (b"220 mx", None),
    ],
)
def test_enhanced_code(line: bytes, code: str | None) -> None:
    assert enhanced_code(line) == code


@pytest.mark.parametrize(
    ("line", "oddities"),
    [
        (b"NOOP", 0),
        (b"NOOP\tx", 0),
        (b"NO\x00OP", NUL),
        (b"\xc3\xa9", EIGHT_BIT),
        (b"a\x7f\x01", CONTROL),
        (b" a ", LEADING_SPACE | TRAILING_SPACE),
        (b"x" * 510, 0),  # 512 with its line end: RFC 5321 4.5.3.1.4
        (b"x" * 511, LONG_LINE),
        (b"", 0),
    ],
)
def test_line_oddities(line: bytes, oddities: int) -> None:
    assert line_oddities(line) == oddities


@pytest.mark.parametrize(
    "line", [b"MAIL FROM:<a@x>", b"quit", b"BDAT 10 LAST", b"EHLO [192.0.2.1]", b"AUTH PLAIN AA=="]
)
def test_a_foot(line: bytes) -> None:
    assert FOOT.match(line)


@pytest.mark.parametrize(
    "line", [b"Data protection is", b"help me", b"Quit smoking", b"mail from: nobody"[:9], b"noop noop"]
)
def test_prose_is_no_foot(line: bytes) -> None:
    assert not FOOT.match(line)


def test_tls_beginnings() -> None:
    assert TLS_RECORD.match(b"\x16\x03\x01\x02\x00\x01")
    assert TLS_HELLO.match(b"\x80\x2e\x01\x03\x01")
    assert not TLS_RECORD.match(b"220 mx")
    assert not TLS_RECORD.match(b"\x16\x04\x01")
