"""TLS conversations made in the process by Python's ``ssl`` (OpenSSL), and the bytes of them as chunks and records."""

from __future__ import annotations

import datetime
import ssl
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from smtpdebug.model.streams import Chunk, Endpoint, Gap, Location, Side, Stream
from smtpdebug.model.tls import Decrypted, Record
from smtpdebug.tls.decrypt import NativeDecryptor
from smtpdebug.tls.keys import KeyRing, load_private_keys
from smtpdebug.tls.tracker import TlsTracker

NO_ETM = 0x80000
"""SSL_OP_NO_ENCRYPT_THEN_MAC"""
NO_EMS = 0x1
"""SSL_OP_NO_EXTENDED_MASTER_SECRET"""
START_NS = 1_700_000_000_000_000_000
STEP_NS = 1_000_000
DIALOGUE = ((1, b"220 mx.example.org ESMTP\r\n"), (0, b"EHLO client.example.net\r\n"), (1, b"250 mx.example.org\r\n"))


@dataclass
class Identity:
    """A private key and the certificate that goes with it, in PEM."""

    key_pem: bytes
    cert_pem: bytes
    path: Path


@dataclass
class Recording:
    """What two TLS endpoints wrote, in order, and what they meant by it."""

    writes: list[tuple[Side, bytes]] = field(default_factory=list)
    said: list[tuple[Side, bytes]] = field(default_factory=list)
    keylog: bytes = b""
    session: ssl.SSLSession | None = None
    client_version: str | None = None
    suite: str | None = None
    failed: str | None = None

    def plain(self, side: Side) -> bytes:
        """Everything one side said."""
        return b"".join(data for who, data in self.said if who == side)

    def wire(self, side: Side) -> bytes:
        """Every byte one side sent."""
        return b"".join(data for who, data in self.writes if who == side)


class Maker:
    """Makes conversations and feeds them to what is tested."""

    NO_ETM, NO_EMS, START_NS, STEP_NS = NO_ETM, NO_EMS, START_NS, STEP_NS

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = cache(lambda: self._issue("ca", None, rsa.generate_private_key(65537, 2048)))
        self.server = cache(lambda: self._issue("mx.example.org", self.ca(), rsa.generate_private_key(65537, 2048)))
        self.other = cache(lambda: self._issue("mx.example.org", self.ca(), rsa.generate_private_key(65537, 2048)))
        self.client = cache(lambda: self._issue("client", self.ca(), rsa.generate_private_key(65537, 2048)))
        self.ecdsa = cache(lambda: self._issue("mx.example.org", self.ca(), ec.generate_private_key(ec.SECP256R1())))
        self._count = 0

    def _issue(
        self, name: str, issuer: Identity | None, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
    ) -> Identity:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        signer: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey = key
        issued_by, chain = subject, b""
        if issuer is not None:
            chain = issuer.cert_pem
            issued_by = x509.load_pem_x509_certificate(chain).subject
            loaded = load_private_keys(issuer.key_pem, "ca")[0].key
            signer = loaded
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issued_by)
            .public_key(key.public_key())
            .serial_number(1000 + len(name))
            .not_valid_before(datetime.datetime(2023, 1, 1))
            .not_valid_after(datetime.datetime(2033, 1, 1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
            .sign(signer, hashes.SHA256())
        )
        key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        cert_pem = certificate.public_bytes(Encoding.PEM)
        path = self.folder / f"{name}-{certificate.fingerprint(hashes.SHA256()).hex()[:8]}.pem"
        path.write_bytes(key_pem + cert_pem + chain)
        return Identity(key_pem, cert_pem, path)

    def contexts(
        self,
        *,
        version: str = "TLSv1_2",
        ciphers: str = "AES128-GCM-SHA256",
        options: int = 0,
        tickets: bool = True,
        identity: Identity | None = None,
        client_cert: bool = False,
        curve: str | None = None,
        alpn: Sequence[str] = (),
    ) -> tuple[ssl.SSLContext, ssl.SSLContext]:
        """(client, server) contexts that agree on exactly this."""
        client, server = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
        server.load_cert_chain((identity or self.server()).path)
        if client_cert:
            client.load_cert_chain(self.client().path)
            server.load_verify_locations(cadata=self.ca().cert_pem.decode())
            server.verify_mode = ssl.CERT_REQUIRED
            server.verify_flags &= ~ssl.VERIFY_X509_STRICT
        for context in (client, server):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
            context.set_ciphers(f"{ciphers}:@SECLEVEL=0")
            context.options |= options
            if not tickets:
                context.options |= ssl.OP_NO_TICKET
            if alpn:
                context.set_alpn_protocols(list(alpn))
        if curve:
            server.set_ecdh_curve(curve)
        self._count += 1
        client.keylog_filename = str(self.folder / f"keylog-{self._count}")
        return client, server

    def talk(
        self,
        lines: Sequence[tuple[Side, bytes]] = DIALOGUE,  # type: ignore[assignment]
        *,
        contexts: tuple[ssl.SSLContext, ssl.SSLContext] | None = None,
        session: ssl.SSLSession | None = None,
        close: bool = True,
        name: str = "mx.example.org",
        **settings: object,
    ) -> Recording:
        """Handshake, the lines, and a close; what was written is recorded."""
        client, server = contexts or self.contexts(**settings)  # type: ignore[arg-type]
        pair = Pair(client, server, session, name)
        recording = pair.recording
        log = Path(str(client.keylog_filename))
        before = log.stat().st_size if log.exists() else 0
        try:
            pair.handshake()
            for side, data in lines:
                pair.say(side, data)
            recording.session = pair.ends[0].session
            if close:
                pair.close()
        except ssl.SSLError as error:
            recording.failed = str(error)
            pair.drain()
        cipher = pair.ends[0].cipher()
        recording.client_version, recording.suite = pair.ends[0].version(), cipher and cipher[0]
        recording.keylog = log.read_bytes()[before:] if log.exists() else b""
        return recording

    def chunks(
        self, writes: Sequence[tuple[Side, bytes]], *, cut: int = 0, offsets: tuple[int, int] = (0, 0)
    ) -> list[Chunk]:
        """The writes as chunks of at most ``cut`` bytes, each its own frame a millisecond after the one before."""
        stream = self.stream()
        at = list(offsets)
        out: list[Chunk] = []
        for side, data in writes:
            step = cut or max(len(data), 1)
            for start in range(0, len(data), step):
                piece = data[start : start + step]
                where = self.where(len(out))
                out.append(Chunk(stream, side, at[side], piece, where, where))
                at[side] += len(piece)
        return out

    def where(self, index: int) -> Location:
        """The frame of the chunk with this index."""
        return Location("cap", index + 1, START_NS + index * STEP_NS)

    def stream(self, *, complete: bool = True) -> Stream:
        """A connection to a mail port."""
        opened = self.where(0)
        return Stream(1, Endpoint("192.0.2.1", 40000), Endpoint("192.0.2.2", 465), opened, opened, complete)

    def track(self, events: Sequence[Chunk | Gap]) -> tuple[TlsTracker, list[Record]]:
        """A tracker that has seen all of it, and the records it gave."""
        tracker = TlsTracker("implicit", self.where(0))
        records: list[Record] = []
        for event in events:
            records += tracker.feed(event) if isinstance(event, Chunk) else tracker.gap(event)
        return tracker, records + tracker.close(self.where(len(events)))

    def records(self, writes: Sequence[tuple[Side, bytes]]) -> list[Record]:
        """The records of it."""
        return self.track(self.chunks(writes))[1]

    def ring(self, *identities: Identity, keylog: bool = False) -> KeyRing:
        """A key ring with these keys."""
        keys = [key for one in identities for key in load_private_keys(one.key_pem, one.path.name)]
        return KeyRing(keys, keylog=keylog)

    def decrypt(
        self, records: Sequence[Record], ring: KeyRing | None = None, keylog: bytes = b""
    ) -> tuple[NativeDecryptor, list[Decrypted]]:
        """All records through a new decryptor, as flow 1, which is ended."""
        decryptor = NativeDecryptor(ring)
        out = decryptor.add_keylog(keylog, "keylog") if keylog else []
        return decryptor, out + self.push(decryptor, 1, records)

    def push(self, decryptor: NativeDecryptor, flow: int, records: Sequence[Record]) -> list[Decrypted]:
        """All records of one flow, then its end."""
        decryptor.start(flow, TlsTracker("implicit", self.where(0)).facts)
        out: list[Decrypted] = []
        for record in records:
            if record.after_gap:
                decryptor.gap(flow, record.side, record.after_gap)
            out += decryptor.push(flow, record)
        return out + decryptor.end(flow)

    def text(self, opened: Sequence[Decrypted], side: Side, flow: int = 1) -> bytes:
        """The application data of one side."""
        return b"".join(one.data for one in opened if (one.flow, one.side, one.content_type) == (flow, side, 23))


class Pair:
    """A client and a server joined in memory."""

    def __init__(
        self, client: ssl.SSLContext, server: ssl.SSLContext, session: ssl.SSLSession | None, name: str
    ) -> None:
        self.recording = Recording()
        wires = [ssl.MemoryBIO() for _ in range(4)]
        self._in, self._out = (wires[0], wires[1]), (wires[2], wires[3])
        self.ends = (
            client.wrap_bio(self._in[0], self._out[0], server_hostname=name, session=session),
            server.wrap_bio(self._in[1], self._out[1], server_side=True),
        )

    def drain(self) -> bool:
        """Carry what was written to the other side; whether there was anything."""
        moved = False
        sides: tuple[Side, Side] = (0, 1)
        for side in sides:
            data = self._out[side].read()
            if data:
                self.recording.writes.append((side, data))
                self._in[1 - side].write(data)
                moved = True
        return moved

    def _step(self, step: Callable[[], object]) -> bool:
        try:
            step()
        except (ssl.SSLWantReadError, ssl.SSLSyscallError, ssl.SSLZeroReturnError):
            return False
        return True

    def handshake(self) -> None:
        """Until both sides are done."""
        done = [False, False]
        for _ in range(20):
            for side in (0, 1):
                done[side] = done[side] or self._step(self.ends[side].do_handshake)
                self.drain()
            if all(done):
                break
        # The tickets of TLS 1.3 arrive with the first read.
        self._step(lambda: self.ends[0].read(1))
        self.drain()

    def say(self, side: Side, data: bytes) -> None:
        """One side writes, the other reads."""
        self.ends[side].write(data)
        self.recording.said.append((side, data))
        self.drain()
        while self._step(lambda: self.ends[1 - side].read(1 << 16)):
            pass

    def close(self) -> None:
        """close_notify of both sides."""
        for side in (0, 1, 0):
            self._step(self.ends[side].unwrap)
            self.drain()


@pytest.fixture(scope="session")
def maker(tmp_path_factory: pytest.TempPathFactory) -> Maker:
    """Makes TLS conversations; keys and certificates are made once."""
    return Maker(tmp_path_factory.mktemp("tls"))
