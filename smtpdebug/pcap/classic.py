"""The classic pcap file format (draft-ietf-opsawg-pcap): both byte orders, micro- and nanoseconds."""

from __future__ import annotations

import struct
from itertools import repeat
from typing import Final

import numpy as np

from smtpdebug.pcap.records import I64, Fault, Records

HEADER_BYTES: Final = 24
LONGEST_PACKET: Final = 262_144
"""libpcap's MAXIMUM_SNAPLEN: a longer record is damage, unless the file header announces longer ones."""
_LONGEST_ANNOUNCED: Final = 64 << 20

_MAGICS: Final[dict[bytes, tuple[str, int, int]]] = {
    # magic: byte order, nanoseconds a unit of the second field, bytes of a record header
    b"\xa1\xb2\xc3\xd4": (">", 1000, 16),
    b"\xd4\xc3\xb2\xa1": ("<", 1000, 16),
    b"\xa1\xb2\x3c\x4d": (">", 1, 16),
    b"\x4d\x3c\xb2\xa1": ("<", 1, 16),
    # Kuznetzov's patched libpcap of old Linux distributions: eight more bytes a record
    b"\xa1\xb2\xcd\x34": (">", 1000, 24),
    b"\x34\xcd\xb2\xa1": ("<", 1000, 24),
}


class ClassicWalker:
    """Walks one classic pcap file.

    Args:
        head: the first 24 bytes of the file.

    Raises:
        ValueError: these are not the first bytes of a classic pcap file.
    """

    def __init__(self, head: bytes) -> None:
        if len(head) < HEADER_BYTES or head[:4] not in _MAGICS:
            raise ValueError("no pcap file header")
        self._order, self._unit, self._header = _MAGICS[head[:4]]
        snaplen, network = struct.unpack_from(self._order + "II", head, 16)
        # The upper bits are flags and the length of the frame check sequence.
        self.link: int = network & 0xFFFF
        self._limit = max(LONGEST_PACKET, snaplen if snaplen <= _LONGEST_ANNOUNCED else 0)
        self.fault: Fault | None = None
        self.frames = 0
        self.position = HEADER_BYTES

    def _offsets(self, buf: bytes, at: int, most: int) -> tuple[list[int], int]:
        # The one serial loop: each record header gives the place of the next.
        unpack = struct.Struct(self._order + "I").unpack_from
        header, end = self._header, len(buf)
        last = end - header
        offsets: list[int] = []
        append = offsets.append
        for _ in repeat(None, most):
            if at > last:
                break
            append(at)
            at += header + unpack(buf, at + 8)[0]
        if at > end:  # only the last one can reach beyond the end
            at = offsets.pop()
        return offsets, at

    def walk(self, buf: bytes, start: int, most: int) -> tuple[Records, int]:
        """Up to ``most`` complete records from ``buf[start:]`` and where the walk stopped in ``buf``."""
        offsets: list[int] = []
        stop = start
        if self.fault is None:
            offsets, stop = self._offsets(buf, start, most)
        at = np.array(offsets, np.int64)
        window = np.lib.stride_tricks.sliding_window_view(np.frombuffer(buf, np.uint8), 16) if offsets else None
        head = window[at] if window is not None else np.zeros((0, 16), np.uint8)
        seconds, fraction, captured, wire = (
            column.astype(np.int64) for column in head.view(self._order + "u4").reshape(-1, 4).T
        )
        good = self._sound(seconds, captured, wire)
        if good < len(offsets):
            stop = offsets[good]
            self.fault = self._damage(good, self.position + stop - start)
        elif self.fault is None and stop + self._header <= len(buf):
            (size,) = struct.unpack_from(self._order + "I", buf, stop + 8)
            if size > self._limit:
                self.fault = self._damage(good, self.position + stop - start)
        whole = start == 0 and stop == len(buf)
        first = self.frames + 1
        self.frames += good
        self.position += stop - start
        records = Records(
            buf if whole else buf[start:stop],
            np.arange(first, first + good, dtype=np.int64),
            seconds[:good] * 1_000_000_000 + fraction[:good] * self._unit,
            at[:good] + (self._header - start),
            captured[:good],
            np.maximum(captured[:good], wire[:good]),
            np.full(good, self.link, np.int32),
            np.zeros(good, np.int32),
        )
        return records, stop

    def _sound(self, seconds: I64, captured: I64, wire: I64) -> int:
        # How many records come before the first that cannot be one. A run of zero bytes (a hole in the file) would
        # otherwise read as many empty packets of 1970.
        if not len(captured):
            return 0
        wrong = captured > self._limit
        if int(captured.min()) == 0:
            wrong |= (captured == 0) & (wire == 0) & (seconds == 0)
        return int(np.argmax(wrong)) if bool(wrong.any()) else len(captured)

    def _damage(self, good: int, offset: int) -> Fault:
        return Fault("the record header is damaged", self.frames + good + 1, offset)

    def rest(self, buf: bytes, start: int) -> Fault | None:
        """What to say of the bytes left at the end of the file, ``None`` if there are none."""
        if start == len(buf):
            return None
        return Fault("the last packet is cut short", self.frames + 1, self.position)

    def take_secrets(self) -> tuple[bytes, ...]:
        """Classic pcap carries none."""
        return ()


def is_classic(head: bytes) -> bool:
    """Whether a file that begins so is a classic pcap file."""
    return head[:4] in _MAGICS
