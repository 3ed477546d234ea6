"""Writes small classic pcap files and builds TCP segments for them: scratch captures, tests, benchmarks."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from ipaddress import ip_address
from typing import BinaryIO, Final

from smtpdebug.pcap.link import ETHERNET, IPV4, IPV6

_FILE_HEADER: Final = struct.Struct("<IHHiIII")
_RECORD: Final = struct.Struct("<IIII")
_MAGIC_NS: Final = 0xA1B23C4D
_SNAPLEN: Final = 262_144
_TCP = 6
_LONGEST: Final = 65_535


class PcapWriter:
    """Writes a classic pcap file with nanosecond times, little-endian.

    Args:
        file: where to, opened for bytes.
        linktype: LINKTYPE of all packets.
    """

    def __init__(self, file: BinaryIO, linktype: int = ETHERNET) -> None:
        self._file = file
        file.write(_FILE_HEADER.pack(_MAGIC_NS, 2, 4, 0, 0, _SNAPLEN, linktype))

    def write(self, ts_ns: int, packet: bytes, wire: int | None = None) -> None:
        """One packet; ``wire`` is its length on the wire where it was longer."""
        seconds, fraction = divmod(ts_ns, 1_000_000_000)
        self._file.write(_RECORD.pack(seconds, fraction, len(packet), len(packet) if wire is None else wire) + packet)


def write_pcap(file: BinaryIO, packets: Iterable[tuple[int, bytes]], linktype: int = ETHERNET) -> int:
    """Writes packets given as (nanoseconds since the epoch, bytes); gives how many."""
    writer = PcapWriter(file, linktype)
    number = 0
    for ts_ns, packet in packets:
        writer.write(ts_ns, packet)
        number += 1
    return number


class Link:
    """One direction of a TCP connection: builds its Ethernet frames quickly, addresses and ports being fixed.

    Args:
        src, dst: IPv4 or IPv6 addresses of the same family.
        sport, dport: ports.
        checksums: whether to fill in valid checksums; otherwise they are zero, as offloading network cards leave them.
        ethernet: whether an Ethernet header goes before the IP header (else for link type 101).
    """

    def __init__(
        self, src: str, sport: int, dst: str, dport: int, *, checksums: bool = False, ethernet: bool = True
    ) -> None:
        source, target = ip_address(src), ip_address(dst)
        if source.version != target.version:
            raise ValueError("addresses of two families")
        self._addresses = source.packed + target.packed
        self._ports = struct.pack(">HH", sport, dport)
        self._version = source.version
        self._checksums = checksums
        kind = IPV4 if self._version == 4 else IPV6
        # Locally administered addresses made of the last bytes of the IP addresses.
        macs = b"\x02\x00" + target.packed[-4:] + b"\x02\x00" + source.packed[-4:]
        self._ethernet = macs + kind.to_bytes(2) if ethernet else b""
        self._identification = 0

    def segment(
        self, seq: int, ack: int, flags: int, payload: bytes = b"", *, window: int = 65_535, options: bytes = b""
    ) -> bytes:
        """One TCP segment as a frame.

        Args:
            seq, ack: 32-bit numbers.
            flags: ``model.packets`` flags.
            payload: its data; where it is too long for the IP length, that is 0, as segmentation offload has it.
            window: as on the wire.
            options: TCP options, a multiple of four bytes.
        """
        size = 20 + len(options) + len(payload)
        offset = (5 + len(options) // 4) << 4
        tcp = (
            self._ports
            + struct.pack(">IIBBHHH", seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, offset, flags, window, 0, 0)
            + options
            + payload
        )
        if self._checksums:
            tcp = _with(tcp, 16, checksum(self._addresses + struct.pack(">II", size, _TCP) + tcp))
        if self._version == 4:
            self._identification = (self._identification + 1) & 0xFFFF
            total = 20 + size if 20 + size <= _LONGEST else 0
            ip = struct.pack(">BBHHHBBH", 0x45, 0, total, self._identification, 0x4000, 64, _TCP, 0)
            ip += self._addresses
            if self._checksums:
                ip = _with(ip, 10, checksum(ip))
        else:
            ip = struct.pack(">IHBB", 0x60000000, size if size <= _LONGEST else 0, _TCP, 64) + self._addresses
        return self._ethernet + ip + tcp


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    # The one's complement sum of 16-bit words is the number modulo 65535.
    rest = int.from_bytes(data) % 0xFFFF
    return 0xFFFF - (rest or (0xFFFF if any(data) else 0))


def _with(data: bytes, at: int, value: int) -> bytes:
    return data[:at] + value.to_bytes(2) + data[at + 2 :]
