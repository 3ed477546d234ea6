"""Which capture format a file has, by its first bytes."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

import numpy as np

from smtpdebug.pcap.classic import LONGEST_PACKET, ClassicWalker, is_classic
from smtpdebug.pcap.ng import NgWalker, is_ng
from smtpdebug.pcap.records import Fault, Records, Walker, empty_records

HEAD_BYTES: Final = 24
"""What must be read before the format can be told; every capture has that many."""

_SNOOP: Final = b"snoop\0\0\0"
_SNOOP_LINKS: Final = {4: 1, 2: 1, 26: 101}
"""RFC 1761's data link types and the LINKTYPE of the same packets: Ethernet, and Solaris' raw IPv4."""


class SnoopWalker:
    """Walks one Sun snoop file (RFC 1761): big-endian records that say their own length.

    Args:
        head: the first 16 bytes of the file.
    """

    def __init__(self, head: bytes) -> None:
        (link,) = struct.unpack_from(">I", head, 12)
        self._link = _SNOOP_LINKS.get(link, -1)
        self.fault: Fault | None = None
        self.frames = 0
        self.position = 16

    def walk(self, buf: bytes, start: int, most: int) -> tuple[Records, int]:
        """Up to ``most`` complete records from ``buf[start:]`` and where the walk stopped in ``buf``."""
        rows: list[tuple[int, ...]] = []
        at = start
        while len(rows) < most and at + 24 <= len(buf) and self.fault is None:
            wire, captured, size, _, seconds, micros = struct.unpack_from(">6I", buf, at)
            if captured > LONGEST_PACKET or size < captured + 24:
                self.fault = Fault(
                    "the record header is damaged", self.frames + len(rows) + 1, self.position + at - start
                )
            elif at + size <= len(buf):
                rows.append((seconds * 1_000_000_000 + micros * 1000, at + 24, captured, max(wire, captured)))
                at += size
            else:
                break
        self.position += at - start
        if not rows:
            return empty_records(), at
        ts_ns, offset, captured_, wire_ = np.array(rows, np.int64).T
        n = len(rows)
        frame = np.arange(self.frames + 1, self.frames + n + 1, dtype=np.int64)
        self.frames += n
        link, capture = np.full(n, self._link, np.int32), np.zeros(n, np.int32)
        return Records(
            buf[start:at], frame, ts_ns.copy(), offset - start, captured_.copy(), wire_.copy(), link, capture
        ), at

    def rest(self, buf: bytes, start: int) -> Fault | None:
        """What to say of the bytes left at the end of the file, ``None`` if there are none."""
        return None if start == len(buf) else Fault("the last packet is cut short", self.frames + 1, self.position)

    def take_secrets(self) -> tuple[bytes, ...]:
        """Snoop files carry none."""
        return ()


_STARTS: Final[tuple[tuple[Callable[[bytes], bool], Callable[[bytes], Walker], int], ...]] = (
    (is_classic, ClassicWalker, 24),
    (is_ng, NgWalker, 0),
    (lambda head: head[:8] == _SNOOP, SnoopWalker, 16),
)


def walker_for(head: bytes) -> tuple[Walker, int] | None:
    """The walker for a file that begins so, and how many bytes its file header has; ``None`` if it is no capture.

    Args:
        head: the first ``HEAD_BYTES`` of the (decompressed) file, or all of it where it is shorter.
    """
    for begins, walker, size in _STARTS:
        if begins(head) and len(head) >= size:
            return walker(head), size
    return None


def looks_like(head: bytes) -> str:
    """What a file that is no capture seems to be, in words, or ``""``; for the error message."""
    if head.startswith(b"-----BEGIN "):
        return "it looks like a PEM key or certificate"
    if head.startswith((b"PK\x03\x04", b"BZh", b"\xfd7zXZ")):
        return "it is an archive of a kind that is not read; unpack it first"
    if is_classic(head):
        return "its file header is cut short"
    if head and all(byte in b"\t\r\n\x1b" or byte >= 0x20 for byte in head[:16]):
        return "it looks like text; smtpdebug reads what tcpdump -w wrote, not what it printed"
    return "expected pcap or pcapng, plain or compressed with gzip, zstd or lz4"
