"""TLS conversations made in the process: real OpenSSL on both ends, records cut out of what they sent."""

from __future__ import annotations

import datetime
import ssl
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from smtpdebug.model.streams import CLIENT, SERVER, Location, Side
from smtpdebug.model.tls import Record

PLAIN_SECRET = 0x80001
"""SSL_OP_NO_EXTENDED_MASTER_SECRET and SSL_OP_NO_ENCRYPT_THEN_MAC: the keys hang on the randoms alone."""


def make_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def certificate(key: rsa.RSAPrivateKey, name: str = "mx.example.org") -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    start = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=36500))
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


@dataclass
class TlsTraffic:
    """What was said inside, and the records that carried it."""

    records: list[Record] = field(default_factory=list)
    said: tuple[bytes, bytes] = (b"", b"")
    keylog: bytes = b""


def talk(
    key: rsa.RSAPrivateKey, turns: Sequence[tuple[Side, bytes]], ciphers: str | None = None, options: int = 0
) -> TlsTraffic:
    """Handshake, then ``turns``; ``ciphers`` means TLS 1.2 with these, ``None`` TLS 1.3."""
    with tempfile.TemporaryDirectory() as folder:
        return _talk(key, turns, ciphers, options, Path(folder))


def _talk(
    key: rsa.RSAPrivateKey, turns: Sequence[tuple[Side, bytes]], ciphers: str | None, options: int, folder: Path
) -> TlsTraffic:
    (folder / "server.pem").write_bytes(pem(key) + certificate(key))
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    server.load_cert_chain(folder / "server.pem")
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    client.keylog_filename = str(folder / "keylog.txt")
    for context in (server, client):
        context.options |= options
        if ciphers is not None:
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.set_ciphers(ciphers + ":@SECLEVEL=0")
    pipes = [(ssl.MemoryBIO(), ssl.MemoryBIO()) for _ in range(2)]
    ends = [
        client.wrap_bio(*pipes[CLIENT], server_side=False, server_hostname="mx.example.org"),
        server.wrap_bio(*pipes[SERVER], server_side=True),
    ]
    traffic = TlsTraffic()
    carry = _Carrier(traffic, pipes)
    done = [False, False]
    for _ in range(20):
        for side in (CLIENT, SERVER):
            try:
                ends[side].do_handshake()
                done[side] = True
            except ssl.SSLWantReadError:
                pass
            carry.move(side)
        if all(done):
            break
    said = [b"", b""]
    for side, data in turns:
        ends[side].write(data)
        carry.move(side)
        ends[1 - side].read(len(data) + 1)
        said[side] += data
    traffic.said = (said[0], said[1])
    traffic.keylog = (folder / "keylog.txt").read_bytes()
    return traffic


class _Carrier:
    """Moves bytes from one end to the other and cuts them into records."""

    def __init__(self, traffic: TlsTraffic, pipes: list[tuple[ssl.MemoryBIO, ssl.MemoryBIO]]) -> None:
        self._traffic, self._pipes, self._offset, self._frame = traffic, pipes, [0, 0], 0

    def move(self, side: Side) -> None:
        data = self._pipes[side][1].read()
        self._pipes[1 - side][0].write(data)
        while data:
            size = int.from_bytes(data[3:5], "big")
            self._frame += 1
            at = Location("made", self._frame, 1_700_000_000_000_000_000 + self._frame * 1_000_000)
            version = int.from_bytes(data[1:3], "big")
            self._traffic.records.append(Record(side, data[0], version, data[5 : 5 + size], self._offset[side], at, at))
            self._offset[side] += 5 + size
            data = data[5 + size :]
