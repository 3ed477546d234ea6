"""Text from the wire made safe to print: nothing in a mail may drive the terminal that shows it."""

from __future__ import annotations

import unicodedata


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
