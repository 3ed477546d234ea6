"""Text from the wire made safe to print: nothing in a mail may drive the terminal that shows it."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_NOT_PLAIN: Final = re.compile(r"[^\n -~]")


def printable(text: str) -> str:
    r"""``text`` with everything that is not printable as ``\t``, ``\xNN`` or ``\uNNNN``.

    Not printable are the control characters (escape sequences among them), C1 controls, bidirectional and other
    format characters, line separators, private and unassigned code points.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def from_wire(line: bytes) -> str:
    r"""A line of the wire for the screen: UTF-8 where it is UTF-8, ``\xNN`` for other octets, nothing unprintable."""
    return printable(line.decode("utf-8", "backslashreplace"))


def mail_line(line: bytes) -> str:
    """A line of mail data for the screen: as :func:`from_wire`, but tabs become blanks, as folded headers have them."""
    return printable(line.decode("utf-8", "backslashreplace").expandtabs(8))


def safe_json(text: bytes) -> bytes:
    r"""JSON with all in its strings that is not printable as ``\uNNNN`` (RFC 8259 section 7): the same values."""
    if text.isascii() and b"\x7f" not in text:
        return text  # JSON itself escapes what is below a blank
    return _NOT_PLAIN.sub(_in_json, text.decode()).encode()


def _in_json(match: re.Match[str]) -> str:
    char = match.group()
    if char.isprintable():
        return char
    units = char.encode("utf-16-be")
    return "".join(f"\\u{units[n]:02x}{units[n + 1]:02x}" for n in range(0, len(units), 2))


def width(text: str) -> int:
    """Columns that ``text`` (printable) takes on a terminal: wide characters count two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def _escaped(char: str) -> str:
    code = ord(char)
    if char == "\t":
        return "\\t"
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
