"""One TLS connection as it can be seen without a key: records, handshake, alerts, times."""

from __future__ import annotations

from typing import Final

from smtpdebug.model.streams import CLIENT, SERVER, Chunk, Gap, Limits, Location, Side
from smtpdebug.model.tls import (
    ALERT,
    APPLICATION_DATA,
    CHANGE_CIPHER_SPEC,
    HANDSHAKE,
    Alert,
    Decrypted,
    Flight,
    Record,
    TlsFacts,
)
from smtpdebug.tls import names
from smtpdebug.tls.certificates import chain_tls12, chain_tls13, read_certificate
from smtpdebug.tls.extensions import Reader, parse_extensions
from smtpdebug.tls.fingerprint import describe_offer
from smtpdebug.tls.handshake import Message, MessageReader
from smtpdebug.tls.hello import ClientHello, ServerHello, alpn_chosen, parse_server_hello, read_client_hello
from smtpdebug.tls.records import RecordReader

ENCRYPTED: Final = "(encrypted)"
"""Stands in a flight for handshake messages that cannot be read (yet)."""
SSL2_HELLO: Final = "ClientHello (SSL 2.0 format)"
"""Stands in a flight for a ClientHello as RFC 5246 appendix E.2 has it."""
_TLS13: Final = 0x0304
PAUSE_NS: Final = 200_000_000
"""A side that is silent so long amid its messages is waited for: what it sends then is a flight of its own."""
_SEAL: Final = 17
"""Octets that TLS 1.3 adds to a record's content: its type and the tag (RFC 8446 section 5.2); tags of 8 are rare."""
_HANDSHAKE_HEADER: Final = 4
_FLIGHT_MESSAGES: Final = 64
_FLIGHTS: Final = 32
_LEVELS: Final = {1: "warning", 2: "fatal"}


class TlsTracker:
    """Follows one TLS connection.

    The caller feeds the chunks from the byte where TLS starts in each direction, in the order it has them; ``facts``
    grows. Records go on to a decryptor; what it opens comes back by ``decrypted`` so that inner alerts and handshake
    messages are known too.

    Args:
        mode: ``implicit`` or ``starttls``.
        at: where TLS started.
        limits: budgets; ``stream_events`` bounds the alerts kept.
    """

    def __init__(self, mode: str, at: Location, limits: Limits | None = None) -> None:
        self.facts = TlsFacts(mode=mode, started=at)
        self.client_hello: ClientHello | None = None
        self.server_hello: ServerHello | None = None
        self.snaplen = False
        """Bytes are missing because packets were captured short."""
        self.done = False
        """Both sides have finished the handshake, as far as can be seen."""
        self._limits = limits or Limits()
        self._readers: list[RecordReader | None] = [None, None]
        self._messages = (MessageReader(), MessageReader())
        self._inner = (MessageReader(), MessageReader())
        self._ciphered = [False, False]
        self._finished: list[Location | None] = [None, None]
        self._proved = [False, False]
        self._hello_began: Location | None = None

    @property
    def not_tls(self) -> bool:
        """The first bytes of a direction are no record header."""
        return any(reader is not None and reader.broken for reader in self._readers)

    @property
    def not_tls_sides(self) -> list[bool]:
        """``not_tls`` of [client, server]."""
        return [reader is not None and reader.broken for reader in self._readers]

    def unsure_since(self, side: int) -> int | None:
        """See ``RecordReader.unsure_since``."""
        reader = self._readers[side]
        return None if reader is None else reader.unsure_since

    @property
    def partial_records(self) -> int:
        """Records whose header was seen and whose content was lost in part."""
        return sum(reader.partial for reader in self._readers if reader is not None)

    def feed(self, chunk: Chunk) -> list[Record]:
        """The records that this chunk completes, in order."""
        reader = self._readers[chunk.side]
        if reader is None:
            # A stream joined in its middle may start inside a record.
            searching = self.facts.mode == "implicit" and not chunk.stream.complete
            reader = self._readers[chunk.side] = RecordReader(chunk.side, searching=searching)
        return self._seen(reader.feed(chunk))

    def gap(self, gap: Gap) -> list[Record]:
        """Bytes are missing; gives a record that only the gap could delimit."""
        self.facts.missing[gap.side] += gap.length
        self.snaplen = self.snaplen or gap.reason == "snaplen"
        self._messages[gap.side].reset()
        reader = self._readers[gap.side]
        if reader is None:
            reader = self._readers[gap.side] = RecordReader(gap.side, searching=True)
        return self._seen(reader.gap(gap.length))

    def close(self, at: Location) -> list[Record]:
        """No more will come; gives a record that only the end could delimit."""
        out: list[Record] = []
        for reader in self._readers:
            if reader is not None:
                out += self._seen(reader.close())
        # The sides may have been fed in another order than that of their packets.
        self.facts.flights.sort(key=_began)
        return out

    def decrypted(self, opened: Decrypted) -> None:
        """Take note of an alert or handshake message that a decryptor opened."""
        if opened.content_type == ALERT:
            self._alert(opened.data, opened.side, opened.began, opened.at, encrypted=True)
        elif opened.content_type == HANDSHAKE:
            if opened.missing_before:
                self._inner[opened.side].reset()
            for message in self._inner[opened.side].feed(opened.data, opened.began, opened.at):
                self._inner_message(opened.side, message)

    def _seen(self, records: list[Record]) -> list[Record]:
        facts = self.facts
        for record in records:
            side = record.side
            facts.records[side] += 1
            kind = record.content_type
            if kind == APPLICATION_DATA:
                facts.application_bytes[side] += len(record.payload)
                if not self.done:
                    self._early_application_data(record)
            elif kind == HANDSHAKE:
                self._handshake(record)
            elif kind == CHANGE_CIPHER_SPEC:
                if not self.done:
                    self._flight(side, "ChangeCipherSpec", record.began, record.at)
                self._change_cipher_spec(side)
            else:
                self._visible_alert(record)
        return records

    # What each kind of record tells.

    def _change_cipher_spec(self, side: Side) -> None:
        """In TLS 1.3 it means nothing (RFC 8446 appendix D.4); before, what this side sends next is encrypted."""
        facts = self.facts
        if facts.version == "TLS 1.3" or self._ciphered[side]:
            return
        if side == SERVER and facts.resumed is None and facts.server_hello is not None and not facts.missing[SERVER]:
            # No Certificate, no ServerHelloDone before it: an abbreviated handshake (RFC 5246 section 7.3).
            facts.resumed = True
        self._ciphered[side] = True
        self._messages[side].reset()

    def _handshake(self, record: Record) -> None:
        side = record.side
        if self._ciphered[side] and self.facts.version != "TLS 1.3":
            if self._finished[side] is None:
                # RFC 5246 section 7.4.9: Finished comes immediately after ChangeCipherSpec.
                self._flight(side, "Finished", record.began, record.at)
                self._finish(side, record.at)
            return
        reader = self._messages[side]
        if record.after_gap:
            reader.reset()
        for message in reader.read(record):
            self._message(side, message)

    def _early_application_data(self, record: Record) -> None:
        """In TLS 1.3 encrypted handshake messages look like application data (RFC 8446 section 5.2)."""
        if self.facts.version != "TLS 1.3":
            return
        side, seal = record.side, _SEAL - 8 * (self.facts.cipher_suite or "").endswith("CCM_8_SHA256")
        content = len(record.payload) - seal
        if content < _HANDSHAKE_HEADER:
            # Too short for a handshake message: it is an alert, which ends the handshake.
            self._encrypted_alert(record)
            return
        self._flight(side, ENCRYPTED, record.began, record.at)
        if side == SERVER:
            self._finished[SERVER] = record.at
        elif self._finished[SERVER] is not None and content >= _HANDSHAKE_HEADER + self._hash_size():
            # Without a key the first client record after the server's flight that can hold a Finished is taken for
            # it. Early data, which looks the same, is before it; an empty Certificate is smaller.
            self._finish(CLIENT, record.at)

    def _hash_size(self) -> int:
        """Octets of a Finished of TLS 1.3 (RFC 8446 section 4.4.4)."""
        return 48 if (self.facts.cipher_suite or "").endswith("SHA384") else 32

    def _visible_alert(self, record: Record) -> None:
        side = record.side
        if len(record.payload) != 2:
            # Every cipher makes it longer than the two bytes of an alert.
            self._encrypted_alert(record)
            return
        self._alert(record.payload, side, record.began, record.at, encrypted=False)

    def _encrypted_alert(self, record: Record) -> None:
        """Of the alert at the end of a connection whose handshake is not in the capture nothing else was seen."""
        facts = self.facts
        if len(facts.alerts) < self._limits.stream_events:
            joined = facts.client_hello is None and facts.server_hello is None
            over = self.done or joined or (facts.version != "TLS 1.3" and any(facts.application_bytes))
            phase = "application" if over else "handshake"
            facts.alerts.append(Alert(record.side, "unknown", "encrypted", -1, record.at, True, phase))

    def _alert(self, data: bytes, side: Side, began: Location, at: Location, *, encrypted: bool) -> None:
        alerts = self.facts.alerts
        if len(data) < 2:
            return
        level, code = _LEVELS.get(data[0], str(data[0])), data[1]
        phase = "application" if self.done else "handshake"
        if encrypted:
            done = self.facts.finished
            if done is not None and at.ts_ns < done.ts_ns:
                phase = "handshake"
            for known in alerts:
                if known.code == -1 and known.sender == side and known.at == at:
                    known.level, known.description, known.code = level, names.alert_name(code), code
                    return
        if len(alerts) < self._limits.stream_events:
            alerts.append(Alert(side, level, names.alert_name(code), code, at, encrypted, phase))

    # Handshake messages.

    def _message(self, side: Side, message: Message) -> None:
        kind, facts = message.kind, self.facts
        name = names.message_name(kind)
        if kind == names.CLIENT_HELLO and side == CLIENT:
            self._client_hello(message)
            if message.ssl2:
                name = SSL2_HELLO
        elif kind == names.SERVER_HELLO and side == SERVER:
            if self._server_hello(message):
                name = "HelloRetryRequest"
        elif kind == names.CERTIFICATE:
            self._certificates(side, chain_tls12(message.body))
        elif kind == names.SERVER_KEY_EXCHANGE:
            self._key_exchange(message.body)
        elif kind == names.CERTIFICATE_REQUEST:
            facts.client_certificate_requested = True
        if side == SERVER and kind in (names.CERTIFICATE, names.SERVER_KEY_EXCHANGE, names.SERVER_HELLO_DONE):
            facts.resumed = False
        self._flight(side, name, message.began, message.at)

    def _inner_message(self, side: Side, message: Message) -> None:
        """A handshake message from inside the encryption."""
        kind, facts, body = message.kind, self.facts, message.body
        if kind == names.ENCRYPTED_EXTENSIONS:
            extensions = parse_extensions(Reader(body).vector(2))
            facts.server_extensions += [code for code, _ in extensions]
            facts.alpn = alpn_chosen(dict(extensions).get(names.ALPN)) or facts.alpn
        elif kind == names.CERTIFICATE_REQUEST:
            facts.client_certificate_requested = True
        elif kind == names.CERTIFICATE:
            chain = chain_tls13(body) if facts.version == "TLS 1.3" else chain_tls12(body)
            self._certificates(side, chain)
        if facts.version != "TLS 1.3":
            return
        if kind == names.FINISHED:
            self._prove(side, message.at)
        self._name_flight(side, names.message_name(kind), message.at)

    def _prove(self, side: Side, at: Location) -> None:
        """A Finished of TLS 1.3 was read: better than the guess made from outside.

        The first of each side counts; another comes with authentication after the handshake (RFC 8446 section 4.6.2).
        """
        if self._proved[side]:
            return
        self._proved[side] = True
        self._finished[side] = at
        if side == CLIENT:
            self.done = True
            self._set_finished(at)

    def _client_hello(self, message: Message) -> None:
        facts = self.facts
        hello = read_client_hello(message)
        offer = describe_offer(hello)
        if self._hello_began is None:
            self._hello_began = message.began
            facts.client_hello = message.at
            facts.client_hello_size = len(message.raw)
            if not message.ssl2:  # JA3 and JA4 are fingerprints of the TLS format
                facts.ja3, facts.ja4 = offer.ja3, offer.ja4
        self.client_hello = hello
        facts.versions_offered = offer.versions
        facts.cipher_suites_offered = offer.suites
        facts.server_name = hello.server_name
        facts.alpn_offered = offer.alpn
        facts.groups_offered = offer.groups
        facts.signature_algorithms = offer.signature_algorithms
        facts.client_extensions = [code for code, _ in hello.extensions]
        facts.ticket_offered = bool(hello.ticket) or hello.extension(names.PRE_SHARED_KEY) is not None

    def _server_hello(self, message: Message) -> bool:
        """Whether it is a HelloRetryRequest."""
        facts = self.facts
        hello = parse_server_hello(message.body)
        facts.version = names.version_name(hello.version)
        facts.cipher_suite, facts.cipher_suite_code = names.suite_name(hello.suite), hello.suite
        if hello.retry:
            facts.hello_retry = True
            return True
        if facts.server_hello is None:
            facts.server_hello = message.at
        self.server_hello = hello
        facts.server_extensions = [code for code, _ in hello.extensions]
        facts.session_id = hello.session_id.hex() or None
        facts.alpn = hello.alpn or facts.alpn
        if hello.group is not None:
            facts.group = names.group_name(hello.group)
        if hello.version == _TLS13:
            facts.resumed = hello.extension(names.PRE_SHARED_KEY) is not None
        return False

    def _certificates(self, side: Side, chain: list[bytes]) -> None:
        target = self.facts.client_certificates if side == CLIENT else self.facts.certificates
        if not target:
            target.extend(read_certificate(der) for der in chain)

    def _key_exchange(self, body: bytes) -> None:
        """The group of an ECDHE key exchange: curve type named_curve (RFC 8422 section 5.4)."""
        suite = self.facts.cipher_suite or ""
        if "ECDH" in suite and len(body) >= 3 and body[0] == 3:
            self.facts.group = names.group_name(body[1] << 8 | body[2])

    # Times.

    def _finish(self, side: Side, at: Location) -> None:
        self._finished[side] = at
        first, second = self._finished
        if first is not None and second is not None:
            self.done = True
            self._set_finished(max(first, second, key=_when))

    def _set_finished(self, at: Location) -> None:
        facts = self.facts
        facts.finished = at
        if self._hello_began is not None:
            facts.handshake_ns = max(0, at.ts_ns - self._hello_began.ts_ns)

    def _flight(self, side: Side, name: str, began: Location, at: Location) -> None:
        flights = self.facts.flights
        if flights and flights[-1].side == side and began.ts_ns - flights[-1].ended_ns < PAUSE_NS:
            flight = flights[-1]
            if len(flight.messages) < _FLIGHT_MESSAGES and not (name == ENCRYPTED and name in flight.messages[-1:]):
                flight.messages.append(name)
            flight.ended_ns = max(flight.ended_ns, at.ts_ns)
        elif len(flights) < _FLIGHTS:
            flights.append(Flight(side, [name], began.ts_ns, at.ts_ns))

    def _name_flight(self, side: Side, name: str, at: Location) -> None:
        """Put the name of a decrypted message in the place that was kept for it."""
        for flight in self.facts.flights:
            if flight.side == side and flight.began_ns <= at.ts_ns <= flight.ended_ns and ENCRYPTED in flight.messages:
                if len(flight.messages) < _FLIGHT_MESSAGES:
                    flight.messages.insert(flight.messages.index(ENCRYPTED), name)
                if name == "Finished":
                    flight.messages.remove(ENCRYPTED)
                return


def _when(at: Location) -> int:
    return at.ts_ns


def _began(flight: Flight) -> int:
    return flight.began_ns
