"""Nothing from the wire drives the terminal."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpdebug.render.escape import from_wire, mail_line, printable, safe_json, width


@pytest.mark.parametrize(
    ("wire", "shown"),
    [
        (b"250 mx.example.org", "250 mx.example.org"),
        (b"\x1b]0;owned\x07", r"\x1b]0;owned\x07"),
        (b"a\tb\x00\r", r"a\tb\x00\x0d"),
        ("grüße".encode(), "grüße"),
        (b"gr\xfc\xdfe", r"gr\xfc\xdfe"),
        ("\u009b31m".encode(), r"\u009b31m"),  # the one-character form of ESC [
        ("exe.\u202egpj".encode(), r"exe.\u202egpj"),  # shown backwards by terminals that know bidi
        ("\u2028".encode(), r"\u2028"),
        ("\U000e0041".encode(), r"\U000e0041"),
    ],
)
def test_lines(wire: bytes, shown: str) -> None:
    assert from_wire(wire) == shown


@given(st.binary(max_size=80))
def test_whatever_comes_is_printable(wire: bytes) -> None:
    assert from_wire(wire).isprintable()
    assert mail_line(wire).isprintable()


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126)))
def test_plain_text_stays(text: str) -> None:
    assert printable(text) == text
    assert width(text) == len(text)


def test_tabs_of_mail_headers_become_blanks() -> None:
    assert mail_line(b"\tby mx") == "        by mx"


def test_width_of_wide_and_combining_characters() -> None:
    assert width("\u65e5\u672c") == 4
    assert width("e\u0301") == 1


@given(st.text())
def test_json_made_safe_holds_the_same_and_nothing_that_drives_a_terminal(text: str) -> None:
    safe = safe_json(msgspec.json.encode(text))
    assert json.loads(safe) == text
    assert safe.decode().isprintable()


def test_json_keeps_what_is_printable() -> None:
    assert safe_json('"é\u202e\x9b\U000e0001"'.encode()) == b'"\xc3\xa9\\u202e\\u009b\\udb40\\udc01"'
