"""Conversations inside TLS for the benchmark: real handshakes and records, made by two ends of `ssl` in memory."""

from __future__ import annotations

import contextlib
import datetime
import ssl
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from generate import ACK, CLIENT, PSH, SERVER, Step, closing, message, opening, segments

NAME = "mx.example.org"


class TlsScript:
    """A TLS wrapper delivery (TLS 1.2, RSA key exchange: what a server's RSA key alone can open).

    Args:
        key_path: where to write the server's private key (PEM), made anew.
    """

    def __init__(self, key_path: Path) -> None:
        key = rsa.generate_private_key(65537, 2048)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(datetime.datetime(2025, 1, 1))
            .not_valid_after(datetime.datetime(2035, 1, 1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
            .sign(key, hashes.SHA256())
        )
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        key_path.parent.mkdir(parents=True, exist_ok=True)
        key_path.write_bytes(pem)
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.NamedTemporaryFile(suffix=".pem") as chain:
            chain.write(pem + certificate.public_bytes(serialization.Encoding.PEM))
            chain.flush()
            self.server.load_cert_chain(chain.name)
        self.server.maximum_version = ssl.TLSVersion.TLSv1_2
        self.server.set_ciphers("AES128-GCM-SHA256:AES256-SHA256")
        self.server.options |= ssl.OP_NO_TICKET
        self.client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.client.check_hostname = False
        self.client.verify_mode = ssl.CERT_NONE
        self.client.maximum_version = ssl.TLSVersion.TLSv1_2

    def steps(self, number: int) -> list[Step]:
        """The packets of one delivery; every other conversation uses CBC, the rest GCM."""
        self.client.set_ciphers("AES256-SHA256" if number % 2 else "AES128-GCM-SHA256")
        wires = [ssl.MemoryBIO(), ssl.MemoryBIO()]
        ends = [
            self.client.wrap_bio(wires[SERVER], wires[CLIENT], server_hostname=NAME),
            self.server.wrap_bio(wires[CLIENT], wires[SERVER], server_side=True),
        ]
        steps = opening()
        pending = [CLIENT, SERVER, CLIENT, SERVER, CLIENT]
        for side in pending:
            with contextlib.suppress(ssl.SSLWantReadError):
                ends[side].do_handshake()
            steps += self._flight(side, wires, 400)
        for side, text in dialogue(number):
            ends[side].write(text)
            steps += self._flight(side, wires, 350)
            while True:
                try:
                    ends[1 - side].read(65536)
                except ssl.SSLWantReadError:
                    break
        return steps + closing()

    @staticmethod
    def _flight(side: int, wires: list[ssl.MemoryBIO], after_us: int) -> list[Step]:
        """What one end just put on the wire, as segments, and the other end's ACK; the bytes go to the other end."""
        data = wires[side].read()
        if not data:
            return []
        wires[side].write(data)
        parts = segments(data)
        steps = [Step(after_us if part is parts[0] else 12, side, PSH | ACK, part) for part in parts]
        return [*steps, Step(40, 1 - side, ACK)]


def dialogue(number: int) -> list[tuple[int, bytes]]:
    """Who says what."""
    return [
        (SERVER, b"220 mx.example.org ESMTP ready\r\n"),
        (CLIENT, b"EHLO client.example.net\r\n"),
        (SERVER, b"250-mx.example.org\r\n250-SIZE 52428800\r\n250 8BITMIME\r\n"),
        (CLIENT, b"MAIL FROM:<sender%07d@example.net>\r\n" % number),
        (SERVER, b"250 2.1.0 Ok\r\n"),
        (CLIENT, b"RCPT TO:<recipient%07d@example.org>\r\n" % number),
        (SERVER, b"250 2.1.5 Ok\r\n"),
        (CLIENT, b"DATA\r\n"),
        (SERVER, b"354 End data with <CR><LF>.<CR><LF>\r\n"),
        (CLIENT, message(number, 4000)),
        (SERVER, b"250 2.0.0 Ok: queued as %010X\r\n" % number),
        (CLIENT, b"QUIT\r\n"),
        (SERVER, b"221 2.0.0 Bye\r\n"),
    ]
