"""Changes to a recorded capture that a real fault would make: here, a packet that the capture missed."""

from __future__ import annotations

import struct
from pathlib import Path


def records(data: bytes) -> list[tuple[int, int, int]]:
    """Offsets of each record of a classic little-endian pcap, start and end, and its captured length."""
    found, at = [], 24
    while at + 16 <= len(data):
        length = struct.unpack_from("<I", data, at + 8)[0]
        found.append((at, at + 16 + length, length))
        at += 16 + length
    return found


def take_out(path: Path, *, largest: int) -> int:
    """Take one of the largest packets out of the capture, the ``largest``-th in order; return its payload's length."""
    data = path.read_bytes()
    all_records = records(data)
    size = max(length for _, _, length in all_records)
    start, end, _ = [record for record in all_records if record[2] == size][largest - 1]
    path.write_bytes(data[:start] + data[end:])
    frame = data[start + 16 : end]
    tcp = 14 + (frame[14] & 15) * 4
    return len(frame) - tcp - (frame[tcp + 12] >> 4) * 4
