"""Write the captures that the benchmark reads: many SMTP conversations, interleaved as on a busy relay.

A conversation is what a real one looks like on the wire: three-way handshake, greeting, EHLO with a multi-line reply,
MAIL, RCPT, DATA, a message of about 4 KiB in full segments, QUIT, and the FINs, 34 packets in all. 64 of them run at
any time. Every run with the same arguments writes the same bytes (not so with --tls). Checksums are left zero, as a
host that offloads them to its network card shows its own packets.

    python benchmarks/generate.py benchmarks/data/plain.pcap --conversations 10000
    python benchmarks/generate.py benchmarks/data/tls.pcap --conversations 500 --tls benchmarks/data/tls.key
"""

from __future__ import annotations

import argparse
import heapq
import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

FIN, SYN, PSH, ACK = 1, 2, 8, 16
CLIENT, SERVER = 0, 1
MSS = 1460
START_US = 1_750_000_000_000_000
SENTENCE = (
    "the queue manager hands the message to the next free delivery agent which looks up the relay and waits for its "
    "greeting before it says anything at all about senders recipients or the data that is to follow"
)
WORDS = SENTENCE.split()

MAC = (b"\x02\x00\x00\x00\x00\x01", b"\x02\x00\x00\x00\x00\x02")
SYN_OPTIONS = b"\x02\x04\x05\xb4\x04\x02\x01\x03\x03\x07\x01\x01"
"""MSS 1460, SACK permitted, window scale 7."""
PACKET = struct.Struct("<IIII6s6sHBBHHHBBHIIHHIIBBHHH")
"""pcap record header (little-endian); Ethernet, IPv4 and TCP headers with their fields already byte-swapped."""


class Step(NamedTuple):
    """One packet of a conversation: how long after the one before, who sends it, and what it carries."""

    after_us: int
    side: int
    flags: int
    payload: bytes = b""


def swap16(value: int) -> int:
    """A 16-bit number as it reads when its octets are taken the other way round."""
    return (value & 0xFF) << 8 | value >> 8


def swap32(value: int) -> int:
    """A 32-bit number as it reads when its octets are taken the other way round."""
    return int.from_bytes((value & 0xFFFFFFFF).to_bytes(4, "big"), "little")


def message(number: int, size: int) -> bytes:
    """Mail data of about ``size`` octets, with headers, a line that needs its dot doubled, and the end of mail data."""
    source = random.Random(number % 512)
    lines = [
        f"Received: from client.example.net (client.example.net [192.0.2.1]) by mx.example.org; id {number:08d}",
        f"From: Sender {number:07d} <sender{number:07d}@example.net>",
        f"To: recipient{number:07d}@example.org",
        "Date: Sun, 15 Jun 2025 15:06:40 +0000",
        f"Message-ID: <{number:08d}.bench@example.net>",
        f"Subject: message {number:07d}",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=us-ascii",
        "",
        "..a line that began with a dot",
    ]
    total = sum(len(line) + 2 for line in lines)
    while total < size:
        line = " ".join(source.choices(WORDS, k=12))
        lines.append(line)
        total += len(line) + 2
    return ("\r\n".join(lines) + "\r\n.\r\n").encode("ascii")


def segments(data: bytes) -> list[bytes]:
    """``data`` as TCP sends it: full segments and a rest."""
    return [data[start : start + MSS] for start in range(0, len(data), MSS)]


def opening() -> list[Step]:
    """The three-way handshake."""
    return [Step(0, CLIENT, SYN), Step(180, SERVER, SYN | ACK), Step(40, CLIENT, ACK)]


def closing() -> list[Step]:
    """The server closes first, as it must after its 221."""
    return [Step(20, SERVER, FIN | ACK), Step(190, CLIENT, FIN | ACK), Step(170, SERVER, ACK)]


def plain(number: int) -> list[Step]:
    """The packets of one delivery in clear text."""
    steps = opening()
    ehlo_reply = (
        b"250-mx.example.org\r\n250-PIPELINING\r\n250-SIZE 52428800\r\n250-STARTTLS\r\n250-ENHANCEDSTATUSCODES\r\n"
        b"250-8BITMIME\r\n250 DSN\r\n"
    )
    steps += [Step(900, SERVER, PSH | ACK, b"220 mx.example.org ESMTP ready\r\n"), Step(30, CLIENT, ACK)]
    turns = [
        (b"EHLO client.example.net\r\n", ehlo_reply),
        (b"MAIL FROM:<sender%07d@example.net> SIZE=4096\r\n" % number, b"250 2.1.0 Ok\r\n"),
        (b"RCPT TO:<recipient%07d@example.org>\r\n" % number, b"250 2.1.5 Ok\r\n"),
        (b"DATA\r\n", b"354 End data with <CR><LF>.<CR><LF>\r\n"),
    ]
    for command, reply in turns:
        steps += [
            Step(80, CLIENT, PSH | ACK, command),
            Step(170, SERVER, ACK),
            Step(300 + number % 97, SERVER, PSH | ACK, reply),
            Step(30, CLIENT, ACK),
        ]
    parts = segments(message(number, 3900 + number % 200))
    for index, part in enumerate(parts):
        steps.append(Step(12, CLIENT, ACK if index + 1 < len(parts) else PSH | ACK, part))
        if index:
            steps.append(Step(160, SERVER, ACK))
    steps += [
        Step(2400, SERVER, PSH | ACK, b"250 2.0.0 Ok: queued as %010X\r\n" % number),
        Step(30, CLIENT, ACK),
        Step(70, CLIENT, PSH | ACK, b"QUIT\r\n"),
        Step(170, SERVER, ACK),
        Step(40, SERVER, PSH | ACK, b"221 2.0.0 Bye\r\n"),
    ]
    return steps + closing()


def slot_of(slot: int, numbers: range, script: Callable[[int], list[Step]], port: int) -> Iterator[tuple[int, bytes]]:
    """Yield ``(time in microseconds, pcap record)`` of the conversations that run one after the other in one slot."""
    now = START_US + slot * 331
    mac = MAC
    for number in numbers:
        # Another server once the ports are used up, so that no four-tuple comes twice.
        addresses = (0xC0000200 + slot % 200 + 1, 0xC6336400 + 25 + number // 40_000 % 200)
        ips = (swap32(addresses[0]), swap32(addresses[1]))
        ports = (swap16(20000 + number % 40000), swap16(port))
        state = random.Random(number)
        sent = [state.getrandbits(32), state.getrandbits(32)]
        seen = [0, 0]
        for after_us, side, flags, payload in script(number):
            now += after_us
            other = 1 - side
            options = SYN_OPTIONS if flags & SYN else b""
            size = 40 + len(options) + len(payload)
            wire = max(60, 14 + size)  # Ethernet pads short frames
            seconds, micros = divmod(now, 1_000_000)
            head = PACKET.pack(
                seconds,
                micros,
                wire,
                wire,
                mac[other],
                mac[side],
                0x0008,
                0x45,
                0,
                swap16(size),
                swap16(sent[side] & 0xFFFF),
                0x0040,  # don't fragment
                64,
                6,
                0,
                ips[side],
                ips[other],
                ports[side],
                ports[other],
                swap32(sent[side]),
                swap32(seen[side]) if flags & ACK else 0,
                (20 + len(options)) << 2,
                flags,
                0xF501,
                0,
                0,
            )
            yield now, head + options + payload + bytes(wire - 14 - size)
            sent[side] = (sent[side] + len(payload) + (1 if flags & (SYN | FIN) else 0)) & 0xFFFFFFFF
            seen[other] = sent[side]
        now += 700


def write(path: Path, conversations: int, at_once: int, script: Callable[[int], list[Step]], port: int) -> int:
    """Write the capture (classic pcap, microseconds, Ethernet) and return the number of packets in it."""
    slots = [slot_of(slot, range(slot, conversations, at_once), script, port) for slot in range(at_once)]
    packets = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb", buffering=1 << 20) as out:
        out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1))
        for _, record in heapq.merge(*slots):
            out.write(record)
            packets += 1
    return packets


def main() -> None:
    """Read the arguments and write the capture."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("path", type=Path, help="capture to write")
    arguments.add_argument("--conversations", type=int, default=10_000)
    arguments.add_argument("--at-once", type=int, default=64, help="conversations that run at any time")
    arguments.add_argument(
        "--tls", type=Path, metavar="KEY", help="TLS wrapper conversations; the server's key goes here"
    )
    chosen = arguments.parse_args()
    script, port = plain, 25
    if chosen.tls:
        from tls_script import TlsScript  # imported here: only this needs cryptography

        script, port = TlsScript(chosen.tls).steps, 465
    packets = write(chosen.path, chosen.conversations, chosen.at_once, script, port)
    size = chosen.path.stat().st_size
    print(f"{chosen.path}: {chosen.conversations:,} conversations, {packets:,} packets, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
