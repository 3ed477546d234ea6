"""What is visible without a key, against what Python's ``ssl`` says was agreed."""

from __future__ import annotations

import hashlib
import ssl
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from smtpdebug.model.streams import CLIENT, SERVER, Chunk, Gap, Location
from smtpdebug.model.tls import Decrypted
from smtpdebug.render import tls_words
from smtpdebug.tls.tracker import TlsTracker


def _flights(tracker: TlsTracker) -> list[tuple[int, list[str]]]:
    return [(flight.side, flight.messages) for flight in tracker.facts.flights]


def test_a_full_tls12_handshake(maker: Any) -> None:
    recording = maker.talk(ciphers="ECDHE-RSA-AES128-GCM-SHA256", alpn=["smtp"])
    facts = maker.track(maker.chunks(recording.writes))[0].facts
    assert facts.version == "TLS 1.2"
    assert facts.cipher_suite == "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
    assert facts.server_name == "mx.example.org"
    assert (facts.alpn_offered, facts.alpn) == (["smtp"], "smtp")
    assert facts.group == "x25519"
    assert facts.resumed is False
    assert not facts.client_certificate_requested
    tracker = maker.track(maker.chunks(recording.writes))[0]
    assert _flights(tracker) == [
        (CLIENT, ["ClientHello"]),
        (SERVER, ["ServerHello", "Certificate", "ServerKeyExchange", "ServerHelloDone"]),
        (CLIENT, ["ClientKeyExchange", "ChangeCipherSpec", "Finished"]),
        (SERVER, ["NewSessionTicket", "ChangeCipherSpec", "Finished"]),
    ]


def test_times_of_the_handshake(maker: Any) -> None:
    """Each write is a frame, a millisecond apart: four flights, so three milliseconds."""
    recording = maker.talk()
    facts = maker.track(maker.chunks(recording.writes))[0].facts
    assert facts.handshake_ns == 3 * maker.STEP_NS
    assert facts.finished == maker.where(3)
    assert (facts.client_hello, facts.server_hello) == (maker.where(0), maker.where(1))
    assert [flight.began_ns - maker.START_NS for flight in facts.flights] == [n * maker.STEP_NS for n in range(4)]


@pytest.mark.parametrize("cut", [1, 7, 100])
def test_segments_make_no_difference(maker: Any, cut: int) -> None:
    recording = maker.talk(client_cert=True)
    whole, cut_up = (maker.track(maker.chunks(recording.writes, cut=size))[0] for size in (0, cut))
    for name in ("version", "cipher_suite", "ja3", "ja4", "certificates", "client_certificates", "records", "resumed"):
        assert getattr(whole.facts, name) == getattr(cut_up.facts, name)
    assert _flights(whole) == _flights(cut_up)


def test_the_certificate_chain(maker: Any) -> None:
    recording = maker.talk(client_cert=True)
    facts = maker.track(maker.chunks(recording.writes))[0].facts
    assert facts.client_certificate_requested
    leaf, ca = (x509.load_pem_x509_certificate(one.cert_pem) for one in (maker.server(), maker.ca()))
    assert [one.der for one in facts.certificates] == [one.public_bytes(Encoding.DER) for one in (leaf, ca)]
    told = facts.certificates[0]
    assert (told.subject, told.issuer, told.names) == ("CN=mx.example.org", "CN=ca", ["mx.example.org"])
    assert told.key == "RSA 2048"
    assert told.sha256 == hashlib.sha256(told.der).hexdigest()
    spki = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert told.spki_sha256 == hashlib.sha256(spki).hexdigest()
    assert told.not_before_ns == 1_672_531_200 * 10**9  # 2023-01-01 UTC
    assert (told.self_signed, facts.certificates[1].self_signed) == (False, True)
    assert [one.subject for one in facts.client_certificates] == ["CN=client", "CN=ca"]


@pytest.mark.parametrize("tickets", [True, False])
def test_resumption_is_seen(maker: Any, tickets: bool) -> None:
    contexts = maker.contexts(tickets=tickets)
    full = maker.talk(contexts=contexts)
    resumed = maker.talk(contexts=contexts, session=full.session)
    assert maker.track(maker.chunks(full.writes))[0].facts.resumed is False
    facts = maker.track(maker.chunks(resumed.writes))[0].facts
    assert facts.resumed is True
    assert facts.ticket_offered is tickets
    assert not facts.certificates


def test_tls13_from_outside_and_from_inside(maker: Any) -> None:
    recording = maker.talk(version="TLSv1_3", ciphers="DEFAULT", alpn=["smtp"])
    tracker, records = maker.track(maker.chunks(recording.writes))
    facts = tracker.facts
    assert (facts.version, facts.cipher_suite) == ("TLS 1.3", "TLS_AES_256_GCM_SHA384")
    assert not facts.certificates
    assert _flights(tracker) == [
        (CLIENT, ["ClientHello"]),
        (SERVER, ["ServerHello", "ChangeCipherSpec", "(encrypted)"]),
        (CLIENT, ["ChangeCipherSpec", "(encrypted)"]),
    ]
    guessed = facts.handshake_ns
    for opened in maker.decrypt(records, keylog=recording.keylog)[1]:
        tracker.decrypted(opened)
    assert _flights(tracker)[1:] == [
        (
            SERVER,
            ["ServerHello", "ChangeCipherSpec", "EncryptedExtensions", "Certificate", "CertificateVerify", "Finished"],
        ),
        (CLIENT, ["ChangeCipherSpec", "Finished"]),
    ]
    assert facts.certificates[0].names == ["mx.example.org"]
    assert facts.alpn == "smtp"
    assert guessed == facts.handshake_ns == 2 * maker.STEP_NS
    assert [(one.description, one.encrypted, one.phase) for one in facts.alerts] == [
        ("close_notify", True, "application")
    ] * len(facts.alerts)
    assert facts.alerts


def test_an_alert_in_the_open(maker: Any) -> None:
    """No cipher suite in common: the server says handshake_failure (RFC 5246 section 7.2.2)."""
    client, _ = maker.contexts(ciphers="AES128-GCM-SHA256")
    _, server = maker.contexts(ciphers="AES256-GCM-SHA384")
    recording = maker.talk(contexts=(client, server))
    assert recording.failed is not None
    facts = maker.track(maker.chunks(recording.writes))[0].facts
    assert [(a.sender, a.level, a.description, a.code, a.phase, a.encrypted) for a in facts.alerts] == [
        (SERVER, "fatal", "handshake_failure", 40, "handshake", False)
    ]
    assert facts.finished is None


def test_encrypted_alerts_get_their_names_when_opened(maker: Any) -> None:
    recording = maker.talk()
    tracker, records = maker.track(maker.chunks(recording.writes))
    assert {(a.level, a.description, a.encrypted) for a in tracker.facts.alerts} == {("unknown", "encrypted", True)}
    count = len(tracker.facts.alerts)
    for opened in maker.decrypt(records, maker.ring(maker.server()))[1]:
        tracker.decrypted(opened)
    assert [(a.level, a.description, a.phase) for a in tracker.facts.alerts] == [
        ("warning", "close_notify", "application")
    ] * count


def test_plain_text_is_no_tls(maker: Any) -> None:
    tracker, records = maker.track(maker.chunks([(CLIENT, b"EHLO client.example.net\r\n")]))
    assert tracker.not_tls
    assert tracker.not_tls_sides == [True, False]
    assert not records


def test_snaplen_and_missing_bytes(maker: Any) -> None:
    chunks = maker.chunks(maker.talk().writes)
    events = []
    for chunk in chunks:
        head, rest = chunk.data[:30], len(chunk.data) - 30
        chunk.data = head
        events.append(chunk)
        if rest > 0:
            events.append(Gap(chunk.stream, chunk.side, chunk.offset + 30, rest, chunk.at, "snaplen"))
    tracker, _ = maker.track(events)
    assert tracker.snaplen
    assert tracker.facts.missing[CLIENT] == sum(e.length for e in events if isinstance(e, Gap) and e.side == CLIENT)
    assert tracker.partial_records
    assert tracker.facts.client_hello is None


def test_counters(maker: Any) -> None:
    recording = maker.talk([(CLIENT, b"x" * 1000)], close=False)
    facts = maker.track(maker.chunks(recording.writes))[0].facts
    # AES-GCM adds eight octets of nonce and sixteen of tag (RFC 5288 section 3).
    assert facts.application_bytes == [1024, 0]
    assert facts.records == [5, 6]


def test_a_certificate_that_is_none_is_kept_as_bytes() -> None:
    from smtpdebug.tls.certificates import read_certificate

    told = read_certificate(b"not DER")
    assert (told.subject, told.key, told.der) == ("", "unreadable", b"not DER")


def refused(maker: Any, version: str) -> Any:
    """A client that does not trust the server's certificate breaks the handshake off, by Python's ``ssl``."""
    contexts = maker.contexts(version=version)
    contexts[0].verify_mode = ssl.CERT_REQUIRED
    recording = maker.talk(contexts=contexts)
    assert "certificate verify failed" in recording.failed
    return recording


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_a_handshake_that_an_alert_ends_is_not_finished(maker: Any, version: str) -> None:
    tracker = maker.track(maker.chunks(refused(maker, version).writes))[0]
    assert (tracker.done, tracker.facts.finished, tracker.facts.handshake_ns) == (False, None, None)
    (alert,) = tracker.facts.alerts
    assert (alert.sender, alert.phase, alert.description) == (CLIENT, "handshake", "unknown_ca")


@pytest.mark.parametrize("suite", ["TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256", "TLS_AES_128_CCM_8_SHA256"])
def test_finished_of_tls13_has_its_size(maker: Any, suite: str) -> None:
    """Octets by RFC 8446 sections 4, 4.4.4 and 5.2: header, hash, type, tag; an alert has two and no header."""
    hash_size, tag = 48 if "384" in suite else 32, 8 if "CCM_8" in suite else 16
    tracker = maker.track(maker.chunks(maker.talk(version="TLSv1_3").writes))[0]
    assert tracker.done
    for size, ends in ((4 + hash_size + 1 + tag, True), (4 + 4 + 1 + tag, False), (2 + 1 + tag, False)):
        tracker = TlsTracker("implicit", maker.where(0))
        tracker.facts.version, tracker.facts.cipher_suite = "TLS 1.3", suite
        flight, answer = (b"\x17\x03\x03" + n.to_bytes(2, "big") + bytes(n) for n in (900, size))
        tracker.feed(Chunk(maker.stream(), SERVER, 0, flight, maker.where(1), maker.where(1)))
        tracker.feed(Chunk(maker.stream(), CLIENT, 0, answer, maker.where(2), maker.where(2)))
        assert tracker.done is ends
        assert bool(tracker.facts.alerts) is (size == 3 + tag)


def test_the_closing_alert_of_a_connection_joined_at_its_end_failed_no_handshake(maker: Any) -> None:
    recording = maker.talk()
    tracker = maker.track(maker.chunks(recording.writes[-2:]))[0]
    assert [alert.phase for alert in tracker.facts.alerts] == ["application"] * 2


def test_a_pause_inside_a_flight_is_seen(maker: Any) -> None:
    recording = maker.talk()
    (hello, *_), flight = recording.writes, recording.writes[1][1]
    first = 5 + int.from_bytes(flight[3:5], "big")
    tracker = TlsTracker("implicit", maker.where(0))
    late = Location("", 9, maker.where(1).ts_ns + 2_000_000_000)
    tracker.feed(Chunk(maker.stream(), CLIENT, 0, hello[1], maker.where(0), maker.where(0)))
    tracker.feed(Chunk(maker.stream(), SERVER, 0, flight[:first], maker.where(1), maker.where(1)))
    tracker.feed(Chunk(maker.stream(), SERVER, first, flight[first:], late, late))
    assert [flight.side for flight in tracker.facts.flights] == [CLIENT, SERVER, SERVER]
    assert tls_words.waits(tracker.facts) == [0, 2_000_000_000 + maker.STEP_NS]


def test_authentication_after_the_handshake_does_not_lengthen_it(maker: Any) -> None:
    tracker = maker.track(maker.chunks(maker.talk(version="TLSv1_3").writes))[0]
    finished = tracker.facts.finished
    body = bytes(36)
    message = b"\x14" + len(body).to_bytes(3, "big") + body
    for at in (maker.where(2), maker.where(500)):
        tracker.decrypted(Decrypted(1, CLIENT, 22, message, at, at))
    assert finished == tracker.facts.finished == maker.where(2)
