"""What one handshake up to TLS 1.2 (or the hellos of TLS 1.3) must give before keys can be derived."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import padding

from smtpdebug.model.streams import CLIENT, Side
from smtpdebug.tls import names
from smtpdebug.tls.certificates import chain_tls12, rsa_modulus
from smtpdebug.tls.extensions import Reader
from smtpdebug.tls.handshake import Message
from smtpdebug.tls.hello import ClientHello, ServerHello, parse_server_hello, read_client_hello
from smtpdebug.tls.keys import KeyRing, RsaKey
from smtpdebug.tls.prf import MASTER_LENGTH, TLS10, TLS12, KeyBlock, extended_master_secret, key_blocks, master_secret
from smtpdebug.tls.secrets import Clue, Secrets, ticket_clue
from smtpdebug.tls.suite_parameters import Suite, suite_parameters

_TLS13 = 0x0304


class Negotiation:
    """Gathers handshake messages of both sides and derives the keys as soon as they allow it.

    Each side's messages come in order; the sides may be ahead of each other, since capture order is not wire order.
    """

    def __init__(self, secrets: Secrets, keys: KeyRing) -> None:
        self.client_hello: ClientHello | None = None
        self.server_hello: ServerHello | None = None
        self.version: int | None = None
        """Agreed; known from a HelloRetryRequest on."""
        self.suite: Suite | None = None
        self.source: str | None = None
        """Where the secret came from: ``rsa-key``, ``keylog``, ``dsb`` or ``resumed``."""
        self.fault: str | None = None
        """``bad-premaster`` or ``unsupported-cipher``: it will not open with what is known."""
        self.master: bytes | None = None
        self.server_changed = False
        """The server's ChangeCipherSpec was seen: no Certificate will come."""
        self._secrets, self._ring = secrets, keys
        self._client: list[bytes] = []
        self._server: list[bytes] = []
        self._leaf: bytes | None = None
        self._sealed: bytes | None = None
        self._tickets: list[bytes] = []
        self._flight_done = False
        self._full = False
        self._blocks: tuple[KeyBlock, KeyBlock] | None = None
        self._premaster: tuple[bytes, str] | None = None
        self._tried = False

    @property
    def etm(self) -> bool:
        """Encrypt-then-MAC was agreed (RFC 7366)."""
        return self.server_hello is not None and self.server_hello.extension(names.ENCRYPT_THEN_MAC) is not None

    @property
    def compressed(self) -> bool:
        """DEFLATE was agreed (RFC 3749)."""
        return self.server_hello is not None and self.server_hello.compression == 1

    @property
    def random(self) -> bytes:
        """The client random, by which key logs name a connection."""
        return self.client_hello.random if self.client_hello is not None else b""

    def message(self, side: Side, message: Message) -> None:
        """Take the next handshake message of one side."""
        if side == CLIENT:
            self._client_message(message)
        else:
            self._server_message(message)

    def _client_message(self, message: Message) -> None:
        if message.kind == names.CLIENT_HELLO:
            self.client_hello = read_client_hello(message)
            self._client.clear()
        if self._sealed is None:
            self._client.append(message.raw)
            if message.kind == names.CLIENT_KEY_EXCHANGE:
                self._sealed = message.body

    def _server_message(self, message: Message) -> None:
        kind = message.kind
        if kind == names.SERVER_HELLO:
            hello = parse_server_hello(message.body)
            self.version, self.suite = hello.version, suite_parameters(hello.suite)
            if self.suite is None:
                self.fault = "unsupported-cipher"
            if not hello.retry:
                self.server_hello = hello
        elif kind == names.CERTIFICATE:
            chain = chain_tls12(message.body)
            self._leaf = chain[0] if chain else None
        elif kind == names.NEW_SESSION_TICKET:
            reader = Reader(message.body, 4)
            self._tickets.append(ticket_clue(reader.vector(2)))
            self._remember()
        if kind in (names.CERTIFICATE, names.SERVER_KEY_EXCHANGE, names.SERVER_HELLO_DONE):
            self._full = True
        if not self._flight_done:
            self._server.append(message.raw)
            self._flight_done = kind == names.SERVER_HELLO_DONE

    def clues(self) -> list[Clue]:
        """What a secret that opens this would be filed under."""
        out: list[Clue] = [("random", self.random)]
        if self.client_hello is not None and not self._full:
            out.append(("ticket", ticket_clue(self.client_hello.ticket)))
            out.append(("session", self.client_hello.session_id))
        if self._sealed is not None:
            out.append(("premaster", self._encrypted()[:8]))
        return [clue for clue in out if clue[1]]

    @property
    def resumes(self) -> bool:
        """An abbreviated handshake: the server took up what the client offered (RFC 5246 section 7.3, RFC 5077)."""
        client, server = self.client_hello, self.server_hello
        if client is None or server is None or self._full or self.version == _TLS13:
            return False
        return bool(client.ticket) or (bool(client.session_id) and client.session_id == server.session_id)

    def blocks(self) -> tuple[KeyBlock, KeyBlock] | None:
        """The keys of (client, server) up to TLS 1.2; ``None`` while something is wanting."""
        if self._blocks is None:
            client, server, suite = self.client_hello, self.server_hello, self.suite
            if (
                client is None
                or server is None
                or suite is None
                or self.version is None
                or not TLS10 <= self.version <= TLS12
            ):
                return None
            if self.master is None and not self._find(client, server, suite, self.version):
                return None
            assert self.master is not None
            self._blocks = key_blocks(self.version, suite, self.master, client.random, server.random)
            self._remember()
        return self._blocks

    def _find(self, client: ClientHello, server: ServerHello, suite: Suite, version: int) -> bool:
        known = self._secrets.find("random", client.random)
        if known is not None:
            self.master, self.source = known.secret, known.source
            return True
        if self.resumes and self.server_changed:
            known = self._secrets.find("ticket", ticket_clue(client.ticket))
            known = known or self._secrets.find("session", client.session_id)
            if known is not None:
                self.master, self.source = known.secret, "resumed"
            return known is not None
        premaster = self._open_premaster(client, suite, version)
        if premaster is None:
            return False
        secret, source = premaster
        if server.extension(names.EXTENDED_MASTER_SECRET) is None:
            self.master = master_secret(version, suite, secret, client.random, server.random)
        elif self._flight_done and self._client:  # not so in an order that no client sends
            transcript = b"".join((self._client[0], *self._server, *self._client[1:]))
            self.master = extended_master_secret(version, suite, secret, transcript)
        else:
            return False
        self.source = source
        return True

    def _encrypted(self) -> bytes:
        """The encrypted premaster of a ClientKeyExchange (RFC 5246 section 7.4.7.1)."""
        body = self._sealed or b""
        return body[2:] if len(body) > 2 and int.from_bytes(body[:2], "big") == len(body) - 2 else body

    def _open_premaster(self, client: ClientHello, suite: Suite, version: int) -> tuple[bytes, str] | None:
        if self._sealed is None or suite.key_exchange != "RSA":
            return None
        sealed = self._encrypted()
        logged = self._secrets.find("premaster", sealed[:8])
        if logged is not None:
            return logged.secret, logged.source
        if not self._tried:
            self._tried = True
            expected = {client.version.to_bytes(2, "big"), version.to_bytes(2, "big")}
            for key in self._candidates(sealed):
                opened = _decrypt(key, sealed)
                if len(opened) == MASTER_LENGTH and opened[:2] in expected:
                    self._premaster, self.fault = (opened, "rsa-key"), None
                    break
                self.fault = "bad-premaster"
        return self._premaster

    def _candidates(self, sealed: bytes) -> list[RsaKey]:
        """The key of the server's certificate; where that was lost, every key of the right size."""
        if self._leaf is not None:
            key = self._ring.find(rsa_modulus(self._leaf))
            return [key] if key is not None else []
        return [key for key in self._ring if (key.modulus.bit_length() + 7) // 8 == len(sealed)]

    def _remember(self) -> None:
        """File the master secret for the sessions that resume this one."""
        if self.master is None:
            return
        source = self.source or "keylog"
        if self.server_hello is not None:
            self._secrets.learn("session", self.server_hello.session_id, self.master, source)
        for ticket in self._tickets:
            self._secrets.learn("ticket", ticket, self.master, source)
        self._tickets.clear()


def _decrypt(key: RsaKey, sealed: bytes) -> bytes:
    """PKCS#1 v1.5. What comes back may be random: OpenSSL hides bad padding (implicit rejection)."""
    try:
        return key.key.decrypt(sealed, padding.PKCS1v15())
    except ValueError:
        return b""
