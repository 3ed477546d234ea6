"""The normalised scratch capture: one packet a TLS record, so that tshark's own reassembly has nothing to get wrong.

tshark stalls at real gaps, loses data with its default reordering setting, knows STARTTLS by packet and not by byte,
and TLS on few ports only. Our reassembly has solved all of that already, so tshark is given a capture in which each
record is one packet of a perfect connection, and packet numbers lead back to our records.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import IO

from smtpdebug.model.streams import CLIENT
from smtpdebug.model.tls import Record

SERVER_PORT = 4433
_PCAP_HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 101)
"""Classic pcap, microseconds, LINKTYPE_RAW."""
_RECORD_HEADER = struct.Struct("<IIII")
_IP = struct.Struct("!BBHHHBBH4s4s")
_TCP = struct.Struct("!HHIIBBHHH")
_HEADERS = _IP.size + _TCP.size
_SSL2 = 0x0002
"""Version of a ClientHello in the format of SSL 2.0, whose header is its length with the high bit set."""
LARGEST_RECORD = 65535 - _HEADERS - 5
_SYN, _ACK, _PUSH_ACK = 0x02, 0x10, 0x18


class ScratchCapture:
    """Writes flows, one after the other, and remembers which packet holds which record."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._packets = 0
        self._flows = 0
        self.bytes = file.write(_PCAP_HEADER)

    def add(self, records: Iterable[Record]) -> list[tuple[int, Record]]:
        """Append one flow; gives the packet number of each record written."""
        self._flows += 1
        client = struct.pack("!I", 0x0A000000 + self._flows // 40000)
        port = 10000 + self._flows % 40000
        ends = ((client, port), (b"\x0a\xff\xff\xfe", SERVER_PORT))
        following = [1, 1]
        self._write(0, ends, 0, 0, _SYN, b"")
        self._write(0, ends[::-1], 0, 1, _SYN | _ACK, b"")
        self._write(0, ends, 1, 1, _ACK, b"")
        written = []
        for record in records:
            size = len(record.payload)
            if size > LARGEST_RECORD:
                continue
            side = record.side
            data = _header(record, size) + record.payload
            direction = ends if side == CLIENT else ends[::-1]
            number = self._write(record.at.ts_ns, direction, following[side], following[1 - side], _PUSH_ACK, data)
            following[side] += len(data)
            written.append((number, record))
        return written

    def _write(
        self, ts_ns: int, ends: tuple[tuple[bytes, int], ...], seq: int, ack: int, flags: int, data: bytes
    ) -> int:
        (src, sport), (dst, dport) = ends
        size = _HEADERS + len(data)
        ip = _IP.pack(0x45, 0, size, 0, 0x4000, 64, 6, 0, src, dst)
        tcp = _TCP.pack(sport, dport, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, 0x50, flags, 65535, 0, 0)
        seconds, rest = divmod(max(ts_ns, 0), 1_000_000_000)
        header = _RECORD_HEADER.pack(seconds & 0xFFFFFFFF, rest // 1000, size, size)
        self.bytes += self._file.write(header + ip + tcp + data)
        self._packets += 1
        return self._packets


def _header(record: Record, size: int) -> bytes:
    if record.version == _SSL2:
        return struct.pack("!H", 0x8000 | size)
    return struct.pack("!BHH", record.content_type, record.version, size)
