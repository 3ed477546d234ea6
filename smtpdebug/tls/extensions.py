"""Length-prefixed fields and hello extensions (RFC 8446 section 4.2), read without ever raising."""

from __future__ import annotations

import struct


class Reader:
    """A cursor over bytes. Reading past the end gives what is there (zero, empty) and sets ``short``."""

    __slots__ = ("at", "data", "end", "short")

    def __init__(self, data: bytes, at: int = 0, end: int | None = None) -> None:
        self.data = data
        self.at = at
        self.end = len(data) if end is None else min(end, len(data))
        self.short = False

    def take(self, length: int) -> bytes:
        """The next ``length`` bytes, fewer at the end."""
        start = self.at
        self.at = start + length
        if self.at > self.end:
            self.at, self.short = self.end, True
        return self.data[start : self.at]

    def number(self, width: int) -> int:
        """An unsigned integer of ``width`` octets, zero where it is cut."""
        field = self.take(width)
        return int.from_bytes(field, "big") if len(field) == width else 0

    def vector(self, width: int) -> bytes:
        """A field with its length in ``width`` octets before it (RFC 8446 section 3.4)."""
        return self.take(self.number(width))

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return self.end - self.at


def numbers(data: bytes, width: int = 2) -> list[int]:
    """A packed list of unsigned integers; an odd rest is dropped."""
    if width == 2:
        return list(struct.unpack(f">{len(data) // 2}H", data[: len(data) & ~1]))
    return [int.from_bytes(data[i : i + width], "big") for i in range(0, len(data) - width + 1, width)]


def vectors(data: bytes, width: int) -> list[bytes]:
    """A packed list of length-prefixed fields."""
    reader, out = Reader(data), []
    while reader.left >= width:
        out.append(reader.vector(width))
    return out


def parse_extensions(data: bytes) -> list[tuple[int, bytes]]:
    """(type, content) of each extension, in order, as sent."""
    out = []
    at, size = 0, len(data)
    while size - at >= 4:
        end = at + 4 + (data[at + 2] << 8 | data[at + 3])
        out.append((data[at] << 8 | data[at + 1], data[at + 4 : end]))
        at = end
    return out


def text(data: bytes) -> str:
    """Bytes from the peer as text: ASCII, the rest escaped."""
    return data.decode("ascii", "backslashreplace")


def server_name(content: bytes) -> str | None:
    """The host name of a server_name extension (RFC 6066 section 3)."""
    reader = Reader(Reader(content).vector(2))
    while reader.left >= 3:
        kind, name = reader.number(1), reader.vector(2)
        if kind == 0:
            return text(name)
    return None
