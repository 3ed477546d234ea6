"""Every row of the decision table, from conversations that have the fault."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from smtpdebug.model.streams import CLIENT, SERVER, Gap
from smtpdebug.model.tls import Verdict
from smtpdebug.tls.keys import KeyRing
from smtpdebug.tls.reasons import TABLE, Reason, explain
from smtpdebug.tls.tracker import TlsTracker


def why(maker: Any, writes: Any, ring: KeyRing | None = None, keylog: bytes = b"") -> Reason | None:
    return why_of(maker, maker.chunks(writes), ring, keylog)


def why_of(maker: Any, events: Any, ring: KeyRing | None = None, keylog: bytes = b"") -> Reason | None:
    tracker, records = maker.track(events)
    decryptor, _ = maker.decrypt(records, ring, keylog)
    return explain(tracker.facts, decryptor.verdict(1), ring, snaplen=tracker.snaplen, not_tls=tracker.not_tls)


def without(maker: Any, writes: Any, lost: Any, reason: str = "lost") -> list[Any]:
    """The chunks with those for which ``lost`` holds made gaps."""
    return [
        Gap(chunk.stream, chunk.side, chunk.offset, len(chunk.data), chunk.at, reason) if lost(chunk) else chunk
        for chunk in maker.chunks(writes)
    ]


def test_opened_needs_no_reason(maker: Any) -> None:
    assert why(maker, maker.talk().writes, maker.ring(maker.server())) is None


def test_not_tls(maker: Any) -> None:
    reason = why(maker, [(CLIENT, b"EHLO client.example.net\r\n"), (SERVER, b"\x15\x03\x01\x00\x02\x02\x0a")])
    assert reason is not None
    assert reason.id == "not-tls"


def test_partial(maker: Any) -> None:
    recording = maker.talk([(CLIENT, b"one\r\n"), (CLIENT, b"two\r\n"), (CLIENT, b"three\r\n")], close=False)
    position = [index for index, (side, data) in enumerate(recording.writes) if side == CLIENT and data[0] == 23][1]
    lost = recording.writes[position][1]
    reason = why_of(maker, without(maker, recording.writes, lambda c: c.data == lost), maker.ring(maker.server()))
    assert reason is not None
    assert reason.id == "partial"
    assert f"{len(lost)} bytes of the client are missing" in reason.sentence


@pytest.mark.parametrize(
    ("side", "code", "words", "advice"),
    [
        (SERVER, 40, "the server sent alert 40 handshake_failure", "were agreed"),
        (SERVER, 70, "the server sent alert 70 protocol_version", "version"),
        (CLIENT, 48, "the client sent alert 48 unknown_ca", "trust"),
        (CLIENT, 90, "the client sent alert 90 user_canceled", "compare"),
    ],
)
def test_handshake_failed(maker: Any, side: int, code: int, words: str, advice: str) -> None:
    writes = [*maker.talk().writes[:2], (side, b"\x15\x03\x03\x00\x02\x02" + bytes((code,)))]
    reason = why(maker, writes, maker.ring(maker.server()))
    assert reason is not None
    assert reason.id == "handshake-failed"
    assert words in reason.sentence
    assert advice in reason.advice


def test_an_alert_after_the_handshake_is_no_failed_handshake(maker: Any) -> None:
    reason = why(maker, maker.talk().writes)
    assert reason is not None
    assert reason.id == "no-key"


def test_snaplen(maker: Any) -> None:
    reason = why_of(maker, without(maker, maker.talk().writes, lambda c: len(c.data) > 60, "snaplen"))
    assert reason is not None
    assert reason.id == "snaplen"
    assert "-s 0" in reason.advice


def test_joined_late(maker: Any) -> None:
    reason = why(maker, maker.talk().writes[4:], maker.ring(maker.server()))
    assert reason is not None
    assert reason.id == "joined-late"


@pytest.mark.parametrize(("frame", "what"), [(1, "ClientHello"), (2, "ServerHello"), (3, "ClientKeyExchange")])
def test_incomplete(maker: Any, frame: int, what: str) -> None:
    events = without(maker, maker.talk().writes, lambda c: c.at.frame == frame)
    reason = why_of(maker, events, maker.ring(maker.server()))
    assert reason is not None
    assert (reason.id, reason.sentence.endswith(f"no {what}")) == ("incomplete", True)


def test_tls13(maker: Any) -> None:
    recording = maker.talk(version="TLSv1_3", ciphers="DEFAULT")
    reason = why(maker, recording.writes, maker.ring(maker.server()))
    assert reason is not None
    assert reason.id == "tls13"
    assert "--keylog" in reason.advice
    assert "key log given" not in reason.sentence
    other = why(maker, recording.writes, maker.ring(maker.server(), keylog=True), maker.talk().keylog)
    assert other is not None
    assert "the key log given has no secret for this connection" in other.sentence


def test_unsupported_cipher(maker: Any) -> None:
    recording = maker.talk(ciphers="ECDHE-RSA-AES128-GCM-SHA256")
    # ARIA (RFC 6209) in the ServerHello: version, random, session id (none or 32 octets), then the suite.
    data = bytearray(recording.writes[1][1])
    at = 5 + 4 + 2 + 32 + 1 + data[5 + 4 + 34]
    data[at : at + 2] = b"\xc0\x60"
    recording.writes[1] = (SERVER, bytes(data))
    reason = why(maker, recording.writes, maker.ring(maker.server()))
    assert reason is not None
    assert reason.id == "unsupported-cipher"
    assert "TLS_ECDHE_RSA_WITH_ARIA_128_GCM_SHA256 (0xC060)" in reason.sentence


@pytest.mark.parametrize("tickets", [True, False])
def test_resumed(maker: Any, tickets: bool) -> None:
    contexts = maker.contexts(tickets=tickets)
    resumed = maker.talk(contexts=contexts, session=maker.talk(contexts=contexts).session)
    reason = why(maker, resumed.writes, maker.ring(maker.server()))
    assert reason is not None
    assert reason.id == "resumed"


@pytest.mark.parametrize("client_key_given", [True, False])
def test_forward_secrecy_comes_before_any_word_of_keys(maker: Any, client_key_given: bool) -> None:
    recording = maker.talk(ciphers="ECDHE-RSA-AES128-GCM-SHA256", client_cert=True)
    reason = why(maker, recording.writes, maker.ring(maker.client()) if client_key_given else None)
    assert reason is not None
    assert reason.id == "forward-secrecy"
    assert "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256" in reason.sentence


def test_no_key(maker: Any) -> None:
    reason = why(maker, maker.talk().writes)
    assert reason is not None
    assert reason.id == "no-key"
    assert "--rsa-key" in reason.advice


def test_the_clients_key(maker: Any) -> None:
    reason = why(maker, maker.talk(client_cert=True).writes, maker.ring(maker.client()))
    assert reason is not None
    assert reason.id == "client-key"
    assert maker.client().path.name in reason.sentence


def test_the_key_of_the_authority(maker: Any) -> None:
    reason = why(maker, maker.talk().writes, maker.ring(maker.ca()))
    assert reason is not None
    assert reason.id == "ca-key"


def test_the_wrong_key(maker: Any) -> None:
    reason = why(maker, maker.talk().writes, maker.ring(maker.other()))
    assert reason is not None
    assert reason.id == "wrong-key"
    facts = maker.track(maker.chunks(maker.talk().writes))[0].facts
    assert facts.certificates[0].spki_sha256 in reason.sentence
    assert next(iter(maker.ring(maker.other()))).spki_sha256 in reason.sentence


def test_a_damaged_premaster(maker: Any) -> None:
    recording = maker.talk()
    side, data = recording.writes[2]
    recording.writes[2] = (side, data[:40] + bytes((data[40] ^ 1,)) + data[41:])
    reason = why(maker, recording.writes, maker.ring(maker.server()))
    assert reason is not None
    # The damaged ciphertext decrypts to random octets, of which one in 32768 has a plausible version.
    assert reason.id in ("bad-premaster", "not-authentic")


def test_secrets_that_do_not_fit(maker: Any) -> None:
    recording = maker.talk()
    label, random, master = recording.keylog.decode().split()[-3:]
    false = f"{label} {random} {'00' * (len(master) // 2)}".encode()
    reason = why(maker, recording.writes, maker.ring(maker.server()), false)
    assert reason is not None
    assert reason.id == "not-authentic"


def test_spool_limit_and_what_a_tool_left(maker: Any) -> None:
    facts = maker.track(maker.chunks(maker.talk().writes))[0].facts
    ring = maker.ring(maker.server(), keylog=True)
    for said, expected in ((("spool-limit", "9 records let go"), "spool-limit"), ((None, ""), "tool")):
        reason = explain(facts, Verdict(False, None, "tshark", *said), ring)
        assert reason is not None
        assert reason.id == expected
    reason = explain(facts, Verdict(False, None, "tshark"), ring)
    assert reason is not None
    assert "the tshark decryptor left it closed" in reason.sentence


def test_a_leaf_without_rsa(maker: Any) -> None:
    """An RSA key exchange cannot be with an EC certificate; the row is for what claims so."""
    recording = maker.talk(ciphers="ECDHE-ECDSA-AES128-GCM-SHA256", identity=maker.ecdsa())
    facts = maker.track(maker.chunks(recording.writes))[0].facts
    facts.cipher_suite, facts.cipher_suite_code = "TLS_RSA_WITH_AES_128_GCM_SHA256", 0x009C
    reason = explain(facts, None, maker.ring(maker.server()))
    assert reason is not None
    assert (reason.id, "EC secp256r1" in reason.sentence) == ("leaf-not-rsa", True)


def test_rows_have_distinct_ids_and_say_what_to_do() -> None:
    assert len({row.id for row in TABLE}) == len(TABLE)
    assert all(row.sentence and row.advice for row in TABLE)


def test_nothing_at_all_is_joined_late(maker: Any) -> None:
    reason = explain(TlsTracker("implicit", maker.where(0)).facts, None)
    assert reason is not None
    assert reason.id == "joined-late"


def test_the_how_to_lists_every_reason_in_order() -> None:
    """Written twice, so one is checked against the other."""
    page = (Path(__file__).parents[2] / "docs/howto/decrypt.md").read_text(encoding="utf-8")
    rows = "".join(f"| `{row.id}` | {row.sentence.format('…')} | {row.advice} |\n" for row in TABLE)
    assert page.endswith(rows), rows
