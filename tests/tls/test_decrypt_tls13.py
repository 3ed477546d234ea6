"""TLS 1.3 as no library will talk it on demand: early data, key updates, losses at the change of keys.

Records are sealed here with ``cryptography`` as RFC 8446 sections 5.2 and 7.3 have it, not with the code under test.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from smtpdebug.model.streams import CLIENT, SERVER, Location, Side
from smtpdebug.model.tls import Decrypted, Record

RANDOM = bytes(range(32))
LABELS = {
    "early": "CLIENT_EARLY_TRAFFIC_SECRET",
    "c hs": "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
    "s hs": "SERVER_HANDSHAKE_TRAFFIC_SECRET",
    "c ap": "CLIENT_TRAFFIC_SECRET_0",
    "s ap": "SERVER_TRAFFIC_SECRET_0",
}
FINISHED = b"\x14\x00\x00\x20" + bytes(32)
END_OF_EARLY_DATA = b"\x05\x00\x00\x00"
KEY_UPDATE = b"\x18\x00\x00\x01\x00"


def _expand(secret: bytes, label: bytes, length: int) -> bytes:
    full = b"tls13 " + label
    info = length.to_bytes(2, "big") + bytes((len(full),)) + full + b"\x00"
    return HKDFExpand(hashes.SHA256(), length, info).derive(secret)


class Sealer:
    """One traffic secret in use."""

    def __init__(self, secret: bytes) -> None:
        self.secret = secret
        self._aead, self._iv = AESGCM(_expand(secret, b"key", 16)), _expand(secret, b"iv", 12)
        self.count = 0

    def seal(self, kind: int, data: bytes) -> bytes:
        nonce = (int.from_bytes(self._iv, "big") ^ self.count).to_bytes(12, "big")
        inner = data + bytes((kind,)) + b"\x00" * (self.count % 3)
        head = b"\x17\x03\x03" + (len(inner) + 16).to_bytes(2, "big")
        self.count += 1
        return self._aead.encrypt(nonce, inner, head)

    def next(self) -> Sealer:
        return Sealer(_expand(self.secret, b"traffic upd", 32))


class Talk:
    """Records of one connection in the making."""

    def __init__(self, *, early: bool = False) -> None:
        self.secrets = {name: os.urandom(32) for name in LABELS}
        self.keys = {name: Sealer(secret) for name, secret in self.secrets.items()}
        self.records: list[Record] = []
        self._gap = [0, 0]
        extensions = b"\x00\x2b\x00\x03\x02\x03\x04" + (b"\x00\x2a\x00\x00" if early else b"")
        hello = b"\x03\x03" + RANDOM + b"\x00\x00\x02\x13\x01\x01\x00" + len(extensions).to_bytes(2, "big") + extensions
        self.plain(CLIENT, 22, b"\x01" + len(hello).to_bytes(3, "big") + hello)

    def server_hello(self) -> None:
        hello = b"\x03\x03" + os.urandom(32) + b"\x00\x13\x01\x00" + b"\x00\x06\x00\x2b\x00\x02\x03\x04"
        self.plain(SERVER, 22, b"\x02" + len(hello).to_bytes(3, "big") + hello)
        self.plain(SERVER, 20, b"\x01")

    def plain(self, side: Side, kind: int, payload: bytes) -> None:
        at = Location("cap", len(self.records) + 1, len(self.records) * 1000)
        self.records.append(Record(side, kind, 0x0303, payload, 1000 * len(self.records), at, at, self._gap[side]))
        self._gap[side] = 0

    def say(self, side: Side, key: str, data: bytes, kind: int = 23, *, lost: bool = False) -> None:
        sealed = self.keys[key].seal(kind, data)
        if lost:
            self._gap[side] += len(sealed) + 5
        else:
            self.plain(side, 23, sealed)

    def update(self, side: Side, key: str, *, lost: bool = False) -> None:
        self.say(side, key, KEY_UPDATE, 22, lost=lost)
        self.keys[key] = self.keys[key].next()

    def keylog(self, *without: str) -> bytes:
        lines = [f"{label} {RANDOM.hex()} {self.secrets[n].hex()}" for n, label in LABELS.items() if n not in without]
        return "\n".join(lines).encode()


def handshake(talk: Talk, *, lose_client_finished: bool = False, lose_server_finished: bool = False) -> None:
    talk.server_hello()
    talk.say(SERVER, "s hs", FINISHED, 22, lost=lose_server_finished)
    talk.plain(CLIENT, 20, b"\x01")
    talk.say(CLIENT, "c hs", FINISHED, 22, lost=lose_client_finished)


def said(opened: list[Decrypted], side: Side) -> list[bytes]:
    return [one.data for one in opened if one.side == side and one.content_type == 23]


def test_padding_and_both_sides(maker: Any) -> None:
    talk = Talk()
    handshake(talk)
    for n in range(4):
        talk.say(CLIENT, "c ap", b"C%d" % n)
        talk.say(SERVER, "s ap", b"S%d" % n)
    decryptor, opened = maker.decrypt(talk.records, keylog=talk.keylog())
    assert said(opened, CLIENT) == [b"C0", b"C1", b"C2", b"C3"]
    assert said(opened, SERVER) == [b"S0", b"S1", b"S2", b"S3"]
    assert decryptor.verdict(1).reason is None


@pytest.mark.parametrize("before_hello", [True, False])
def test_early_data_that_is_accepted(maker: Any, before_hello: bool) -> None:
    """Early data is before the ServerHello on the wire; EndOfEarlyData ends it (RFC 8446 section 4.5)."""
    talk = Talk(early=True)
    if before_hello:
        talk.say(CLIENT, "early", b"EHLO early")
        talk.server_hello()
    else:
        talk.server_hello()
        talk.say(CLIENT, "early", b"EHLO early")
    talk.say(SERVER, "s hs", FINISHED, 22)
    talk.say(CLIENT, "early", END_OF_EARLY_DATA, 22)
    talk.say(CLIENT, "c hs", FINISHED, 22)
    talk.say(CLIENT, "c ap", b"QUIT")
    _, opened = maker.decrypt(talk.records, keylog=talk.keylog())
    assert said(opened, CLIENT) == [b"EHLO early", b"QUIT"]


@pytest.mark.parametrize("known", [True, False])
def test_early_data_that_is_refused_or_unknown(maker: Any, known: bool) -> None:
    """Refused: no EndOfEarlyData. Without its secret the early record stays closed, and the rest opens."""
    talk = Talk(early=True)
    talk.say(CLIENT, "early", b"EHLO early")
    talk.server_hello()
    talk.say(SERVER, "s hs", FINISHED, 22)
    talk.say(CLIENT, "c hs", FINISHED, 22)
    talk.say(CLIENT, "c ap", b"QUIT")
    decryptor, opened = maker.decrypt(talk.records, keylog=talk.keylog() if known else talk.keylog("early"))
    assert said(opened, CLIENT) == ([b"EHLO early", b"QUIT"] if known else [b"QUIT"])
    assert (decryptor.verdict(1).reason is None) is known


def test_key_updates(maker: Any) -> None:
    """RFC 8446 section 4.6.3: the sender's next record is under the next secret, and counts from zero."""
    talk = Talk()
    handshake(talk)
    talk.say(CLIENT, "c ap", b"one")
    talk.update(CLIENT, "c ap")
    talk.say(CLIENT, "c ap", b"two")
    talk.update(SERVER, "s ap")
    talk.update(SERVER, "s ap")
    talk.say(SERVER, "s ap", b"three")
    _, opened = maker.decrypt(talk.records, keylog=talk.keylog())
    assert (said(opened, CLIENT), said(opened, SERVER)) == ([b"one", b"two"], [b"three"])


def test_a_lost_key_update(maker: Any) -> None:
    talk = Talk()
    handshake(talk)
    talk.say(CLIENT, "c ap", b"one")
    talk.update(CLIENT, "c ap", lost=True)
    talk.say(CLIENT, "c ap", b"lost too", lost=True)
    talk.say(CLIENT, "c ap", b"two")
    decryptor, opened = maker.decrypt(talk.records, keylog=talk.keylog())
    assert said(opened, CLIENT) == [b"one", b"two"]
    assert decryptor.verdict(1).reason == "partial"


def test_lost_finished_messages(maker: Any) -> None:
    """The change from handshake to application keys was itself in the gap."""
    talk = Talk()
    handshake(talk, lose_client_finished=True, lose_server_finished=True)
    talk.say(CLIENT, "c ap", b"gone", lost=True)
    talk.say(CLIENT, "c ap", b"here")
    talk.say(SERVER, "s ap", b"there")
    _, opened = maker.decrypt(talk.records, keylog=talk.keylog())
    assert (said(opened, CLIENT), said(opened, SERVER)) == ([b"here"], [b"there"])
    first = next(one for one in opened if one.side == CLIENT)
    assert first.missing_before >= 1


def test_a_key_log_without_handshake_secrets(maker: Any) -> None:
    talk = Talk()
    handshake(talk)
    talk.say(CLIENT, "c ap", b"one")
    talk.say(SERVER, "s ap", b"two")
    _, opened = maker.decrypt(talk.records, keylog=talk.keylog("c hs", "s hs"))
    assert (said(opened, CLIENT), said(opened, SERVER)) == ([b"one"], [b"two"])


def test_secrets_of_one_side_only(maker: Any) -> None:
    talk = Talk()
    handshake(talk)
    talk.say(CLIENT, "c ap", b"one")
    talk.say(SERVER, "s ap", b"two")
    _, opened = maker.decrypt(talk.records, keylog=talk.keylog("c hs", "c ap", "early"))
    assert (said(opened, CLIENT), said(opened, SERVER)) == ([], [b"two"])
