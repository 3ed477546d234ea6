"""The pcapng file format (draft-ietf-opsawg-pcapng): sections, interfaces, packets, secrets; the rest is skipped."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np

from smtpdebug.pcap.records import I32, I64, Fault, Records, empty_records, join_records

SECTION_MAGIC: Final = b"\x0a\x0d\x0d\x0a"
_LITTLE: Final = b"\x4d\x3c\x2b\x1a"
_BIG: Final = b"\x1a\x2b\x3c\x4d"

_SECTION, _INTERFACE, _OLD_PACKET, _SIMPLE_PACKET, _PACKET, _SECRETS = 0x0A0D0D0A, 1, 2, 3, 6, 10
_NUMBERED: Final = frozenset({0xBAD, 0x40000BAD, 9, 0x204, 0x208, 0x210, 0x216, 0x221})
"""Custom, systemd journal and Sysdig blocks: no packets, but Wireshark gives them frame numbers, and so do we."""
_TLS_KEY_LOG: Final = 0x544C534B
_LONGEST_BLOCK: Final = 64 << 20
_MOST_INTERFACES: Final = 65_536
_SHORTEST: Final = {_PACKET: 32, _OLD_PACKET: 32, _SIMPLE_PACKET: 16, _INTERFACE: 20, _SECRETS: 20, _SECTION: 28}
_OPTION_TSRESOL, _OPTION_TSOFFSET = 9, 14
_MAX_NS: Final = 2**62


@dataclass(slots=True)
class Interface:
    """One Interface Description Block: how its packets' bytes and times are to be read."""

    link: int
    snaplen: int
    resolution: int = 6
    """``if_tsresol`` as stored: a power of ten, or of two where the top bit is set."""
    offset_s: int = 0
    """``if_tsoffset``: seconds to add."""

    def nanoseconds(self, units: I64) -> I64:
        """Packet times in nanoseconds since the epoch from the file's units."""
        power, offset = self.resolution & 0x7F, self.offset_s * 1_000_000_000
        # In units of a nanosecond or more, a time with the top bit set is a negative one, not one after the year 2500.
        most = max(abs(int(units.min())), abs(int(units.max()))) if len(units) else 0
        if not self.resolution & 0x80 and power <= 18:
            if power > 9:
                return (units.view(np.uint64) // np.uint64(10 ** (power - 9))).astype(np.int64) + offset
            if most * 10 ** (9 - power) < _MAX_NS // 2:
                return np.asarray(units * np.int64(10 ** (9 - power)) + offset, np.int64)
        # Rare resolutions and absurd times: exact, one by one, and never out of range.
        scale = 2**power if self.resolution & 0x80 else 10**power
        exact = [unit * 1_000_000_000 // scale + offset for unit in units.tolist()]
        return np.array([max(-_MAX_NS, min(_MAX_NS, ns)) for ns in exact], np.int64)


class NgWalker:
    """Walks one pcapng file.

    A Simple Packet Block has no time; it is given the time of the packet before it.

    Args:
        head: the first 12 bytes of the file.

    Raises:
        ValueError: these are not the first bytes of a pcapng file.
    """

    def __init__(self, head: bytes) -> None:
        if not is_ng(head):
            raise ValueError("no pcapng section header")
        self._order = _byte_order(head, 0) or "<"
        self._interfaces: list[Interface] = []
        self._secrets: list[bytes] = []
        self._last_ns = 0
        self.fault: Fault | None = None
        self.frames = 0
        self.position = 0

    def walk(self, buf: bytes, start: int, most: int) -> tuple[Records, int]:
        """Up to ``most`` complete packets from ``buf[start:]`` and where the walk stopped in ``buf``."""
        parts: list[Records] = []
        at = start
        got = 0
        while self.fault is None:
            # One run of packet blocks, then at most one block of another kind (which may change how the next are read).
            offsets, kinds, after = self._run(buf, at, most - got)
            if offsets:
                parts.append(self._gather(buf, at, after, offsets, kinds))
                got += len(offsets)
            self.position += after - at
            at = after
            if got >= most or self.fault is not None:
                break
            after = self._other(buf, at)
            if after == at:
                break
            self.position += after - at
            at = after
        return (join_records(parts) if parts else empty_records()), at

    def _run(self, buf: bytes, at: int, most: int) -> tuple[list[int], dict[int, int], int]:
        unpack = struct.Struct(self._order + "II").unpack_from
        end = len(buf)
        last = end - 32
        offsets: list[int] = []
        kinds: dict[int, int] = {}
        append = offsets.append
        while most > 0 and at + 16 <= end:
            kind, size = unpack(buf, at)
            if kind != _PACKET:
                if kind not in (_OLD_PACKET, _SIMPLE_PACKET):
                    break
                kinds[len(offsets)] = kind
            size = (size + 3) & ~3
            after = at + size
            if after > end or size > _LONGEST_BLOCK or size < _SHORTEST[kind] or (at > last and kind != _SIMPLE_PACKET):
                kinds.pop(len(offsets), None)
                break
            append(at)
            at = after
            most -= 1
        return offsets, kinds, at

    def _gather(self, buf: bytes, start: int, stop: int, offsets: list[int], kinds: dict[int, int]) -> Records:
        at = np.array(offsets, np.int64)
        order = self._order
        # A Simple Packet Block may be shorter than the header read here: pad, and mend its row below.
        block = buf if start == 0 and stop == len(buf) else buf[start:stop]
        bytes_ = np.frombuffer(block + bytes(32) if kinds else block, np.uint8)
        head = np.lib.stride_tricks.sliding_window_view(bytes_, 28)[at - start].view(order + "u4").reshape(-1, 7)
        interface = head[:, 2].astype(np.int64)
        units = (head[:, 3].astype(np.int64) << 32) | head[:, 4].astype(np.int64)
        captured, wire = head[:, 5].astype(np.int64), head[:, 6].astype(np.int64)
        size = head[:, 1].astype(np.int64)
        data = at - start + 28
        for row, kind in kinds.items():
            if kind == _OLD_PACKET:
                interface[row] = struct.unpack_from(order + "H", block, offsets[row] - start + 8)[0]
            else:
                interface[row], units[row] = 0, -1
                wire[row] = head[row, 2]
                snaplen = self._interfaces[0].snaplen if self._interfaces else 0
                captured[row] = min(int(wire[row]), snaplen or _LONGEST_BLOCK, int(size[row]) - 16)
                data[row] = at[row] - start + 12
        # What a damaged length claims beyond its block is not there.
        room = np.where(data == at - start + 12, size - 16, size - 32)
        captured = np.minimum(captured, room)
        ts_ns, link = self._times(interface, units, kinds)
        first = self.frames + 1
        self.frames += len(offsets)
        frame = np.arange(first, first + len(offsets), dtype=np.int64)
        wire = np.maximum(wire, captured)
        return Records(block, frame, ts_ns, data, captured, wire, link, np.zeros(len(offsets), np.int32))

    def _times(self, interface: I64, units: I64, kinds: dict[int, int]) -> tuple[I64, I32]:
        ts_ns = np.zeros(len(units), np.int64)
        link = np.full(len(units), UNKNOWN_INTERFACE, np.int32)
        for number in np.unique(interface).tolist():
            rows = interface == number
            known = self._interfaces[number] if number < len(self._interfaces) else Interface(UNKNOWN_INTERFACE, 0)
            ts_ns[rows] = known.nanoseconds(units[rows])
            link[rows] = known.link
        for row, kind in kinds.items():
            if kind == _SIMPLE_PACKET:
                ts_ns[row] = ts_ns[row - 1] if row else self._last_ns
        self._last_ns = int(ts_ns[-1])
        return ts_ns, link

    def _other(self, buf: bytes, at: int) -> int:
        """Reads one block that is no packet; gives where it ends, or ``at`` when it is not all there or unusable."""
        if len(buf) - at < 12:
            return at
        kind, size = struct.unpack_from(self._order + "II", buf, at)
        if kind == _SECTION:
            order = _byte_order(buf, at)
            if order is None:
                return self._damaged(at)
            size = struct.unpack_from(order + "I", buf, at + 4)[0]
        if size < _SHORTEST.get(kind, 12) or size > _LONGEST_BLOCK:
            return self._damaged(at)
        size = int(size + 3) & ~3
        if len(buf) - at < size:
            return at
        if kind == _SECTION:
            return at + size if self._section(buf, at) else at
        if kind == _INTERFACE:
            if len(self._interfaces) >= _MOST_INTERFACES:
                return self._damaged(at)
            self._interfaces.append(self._interface(buf[at : at + size]))
        elif kind == _SECRETS:
            what, length = struct.unpack_from(self._order + "II", buf, at + 8)
            if what == _TLS_KEY_LOG:
                self._secrets.append(buf[at + 16 : at + 16 + min(length, size - 20)])
        elif kind in _NUMBERED:
            self.frames += 1
        return at + size

    def _section(self, buf: bytes, at: int) -> bool:
        order = _byte_order(buf, at) or "<"
        (major,) = struct.unpack_from(order + "H", buf, at + 12)
        if major != 1:
            self.fault = Fault(f"a pcapng section of unknown version {major}", self.frames + 1, self.position)
            return False
        self._order, self._interfaces = order, []
        return True

    def _damaged(self, at: int) -> int:
        self.fault = Fault("the block header is damaged", self.frames + 1, self.position)
        return at

    def _interface(self, block: bytes) -> Interface:
        order = self._order
        link, _, snaplen = struct.unpack_from(order + "HHI", block, 8)
        interface = Interface(link, snaplen)
        at, end = 16, len(block) - 4
        while at + 4 <= end:
            code, size = struct.unpack_from(order + "HH", block, at)
            value = block[at + 4 : min(at + 4 + size, end)]
            if code == 0:
                break
            if code == _OPTION_TSRESOL and len(value) >= 1:
                interface.resolution = value[0]
            elif code == _OPTION_TSOFFSET and len(value) >= 8:
                # Seconds; kept within what nanoseconds can hold.
                offset = struct.unpack_from(order + "q", value)[0]
                interface.offset_s = max(-4_000_000_000, min(4_000_000_000, offset))
            at += 4 + ((size + 3) & ~3)
        return interface

    def rest(self, buf: bytes, start: int) -> Fault | None:
        """What to say of the bytes left at the end of the file, ``None`` if there are none."""
        if start == len(buf):
            return None
        return Fault("the last block is cut short", self.frames + 1, self.position)

    def take_secrets(self) -> tuple[bytes, ...]:
        """Key log text of the Decryption Secrets Blocks seen since the last call."""
        secrets, self._secrets = tuple(self._secrets), []
        return secrets


UNKNOWN_INTERFACE: Final = -1
"""Link type of a packet whose interface the file does not describe."""


def _byte_order(buf: bytes, at: int) -> str | None:
    magic = buf[at + 8 : at + 12]
    return "<" if magic == _LITTLE else ">" if magic == _BIG else None


def is_ng(head: bytes) -> bool:
    """Whether a file that begins so (12 bytes) is a pcapng file."""
    return head[:4] == SECTION_MAGIC and _byte_order(head, 0) is not None
