"""A bridge between two interfaces that loses, holds back or rewrites chosen frames: netem and a meddling firewall.

    relay.py c0 s0 --lose client:3 --swap server:2 --mask-starttls

Data segments (TCP segments with payload) are counted from 1 in each direction; a repeat counts again.
"""

from __future__ import annotations

import argparse
import select
import socket
import struct

ETH_P_ALL = 3
SOL_PACKET, PACKET_ADD_MEMBERSHIP, PACKET_MR_PROMISC = 263, 1, 1
OUTGOING = 4


def payload_of(frame: bytes) -> tuple[int, int]:
    """Return the offsets of the TCP header and of its payload; the same offset twice where there is no payload."""
    if frame[12:14] != b"\x08\x00" or frame[23] != 6:
        return 0, 0
    tcp = 14 + (frame[14] & 15) * 4
    data = tcp + (frame[tcp + 12] >> 4) * 4
    end = 14 + struct.unpack_from("!H", frame, 16)[0]
    return (tcp, data) if data < end else (data, data)


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def masked(frame: bytes) -> bytes:
    """The frame with the STARTTLS keyword overwritten, as firewalls that inspect SMTP do, and a right checksum."""
    tcp, data = payload_of(frame)
    if b"STARTTLS" not in frame[data:]:
        return frame
    end = 14 + struct.unpack_from("!H", frame, 16)[0]
    segment = bytearray(frame[tcp:end].replace(b"STARTTLS", b"XXXXXXXA"))
    segment[16:18] = b"\0\0"
    pseudo = frame[26:34] + struct.pack("!BBH", 0, 6, len(segment))
    segment[16:18] = struct.pack("!H", checksum(pseudo + segment))
    return frame[:tcp] + bytes(segment) + frame[end:]


def open_end(interface: str) -> socket.socket:
    """A raw socket that hears every frame of an interface."""
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    end.bind((interface, 0))
    index = socket.if_nametoindex(interface)
    end.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, struct.pack("iHH8s", index, PACKET_MR_PROMISC, 0, b""))
    return end


class Relay:
    """The bridge; ``lose`` and ``swap`` name segments as ``client:3``."""

    def __init__(self, interfaces: list[str], lose: list[str], swap: list[str], mask_starttls: bool) -> None:
        self.ends = [open_end(interface) for interface in interfaces]
        self.lose, self.swap, self.mask_starttls = lose, swap, mask_starttls
        self.seen = [0, 0]
        self.held: list[bytes | None] = [None, None]

    def run(self) -> None:
        """Relay until killed. A frame held back goes after the next one, or after 150 ms if none comes."""
        while True:
            ready, _, _ = select.select(self.ends, [], [], 0.15)
            if not ready:
                self.release(0)
                self.release(1)
            for end in ready:
                frame, address = end.recvfrom(65536)
                if address[2] != OUTGOING:
                    self.pass_on(self.ends.index(end), frame)

    def pass_on(self, side: int, frame: bytes) -> None:
        """One frame from one side."""
        tcp, data = payload_of(frame)
        mark = ""
        if tcp != data:
            self.seen[side] += 1
            mark = f"{('client', 'server')[side]}:{self.seen[side]}"
            if self.mask_starttls:
                frame = masked(frame)
        if mark in self.lose:
            return
        if mark in self.swap:
            self.held[side] = frame
            return
        self.ends[1 - side].send(frame)
        self.release(side)

    def release(self, side: int) -> None:
        """Send what is held back of one side."""
        if (late := self.held[side]) is not None:
            self.ends[1 - side].send(late)
            self.held[side] = None


def main() -> None:
    """Read the arguments and relay."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("interfaces", nargs=2)
    arguments.add_argument("--lose", action="append", default=[])
    arguments.add_argument("--swap", action="append", default=[])
    arguments.add_argument("--mask-starttls", action="store_true")
    arguments.add_argument("--plain", action="store_true", help="only relay")
    chosen = arguments.parse_args()
    Relay(chosen.interfaces, chosen.lose, chosen.swap, chosen.mask_starttls).run()


if __name__ == "__main__":
    main()
