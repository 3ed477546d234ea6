"""The corpus beside the project, through files, reassembly and engine: plaintext octet for octet, or the reason."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from smtpdebug.engine import Engine
from smtpdebug.errors import KeyFileError
from smtpdebug.model.smtp import Conversation
from smtpdebug.model.streams import Side
from smtpdebug.model.tls import APPLICATION_DATA, Decrypted, Record
from smtpdebug.sources.files import open_captures
from smtpdebug.tls.decrypt import NativeDecryptor
from smtpdebug.tls.keys import KeyRing, load_private_keys

CORPUS = Path(__file__).parents[2] / "../shared/corpus/tls"
CASES = sorted(path.name for path in CORPUS.glob("*") if (path / "cap.pcap").exists())
pytestmark = [pytest.mark.corpus, pytest.mark.skipif(not CASES, reason="no corpus beside the project")]

# By what each case is (its name and truth.json), with the server's key: the reason, and whether plaintext is owed.
REASONS = {
    "dmg_gcm_dropc2s": "partial",
    "dmg_gcm_midstream": "joined-late",
    "dmg_gcm_no_cke": "incomplete",
    "dmg_resume_ticket_only2nd": "resumed",
    "fail_version": "handshake-failed",
    "fs_ecdhe-rsa-aes128-gcm-sha256": "forward-secrecy",
    "starttls_25_tls13": "tls13",
    "tls13_default": "tls13",
    "tls13_hrr": "tls13",
    "tls13_keyupdate": "tls13",
    "wrap_465_snap96": "snaplen",
}
NEVER = {"dmg_gcm_midstream", "fail_version", "wrap_465_snap96", "fail_plain_on_465"}
LOCKED = {"fmt_p12.p12", "fmt_p12_legacy.p12", "fmt_pkcs1_enc.pem", "fmt_pkcs8_enc.pem"}
# s_client -crlf sent one octet more than the truth has (said in the corpus' own notes).
INEXACT = {"blog_clientkey"}


class Spy(NativeDecryptor):
    """Keeps what it gives out."""

    def __init__(self, keys: KeyRing) -> None:
        super().__init__(keys)
        self.data: dict[tuple[int, Side], bytes] = defaultdict(bytes)

    def push(self, flow: int, record: Record) -> list[Decrypted]:
        out = super().push(flow, record)
        for one in out:
            if one.content_type == APPLICATION_DATA:
                self.data[one.flow, one.side] += one.data
        return out


def run(case: str, *, key: bool) -> tuple[Spy, list[Conversation]]:
    folder = CORPUS / case
    keys = load_private_keys((folder / "server.key").read_bytes(), "server.key") if key else []
    ring = KeyRing(keys)
    spy = Spy(ring)
    if not key:
        spy.add_keylog((folder / "keylog.txt").read_bytes(), "keylog")
    engine = Engine(decryptor=spy, keys=ring)
    events = [event for batch in open_captures([str(folder / "cap.pcap")]) for event in engine.feed(batch)]
    events += engine.close()
    return spy, [event for event in events if isinstance(event, Conversation)]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("key", [True, False], ids=["key", "keylog"])
def test_plaintext_is_what_was_sent_or_the_reason_is_given(case: str, key: bool) -> None:
    spy, conversations = run(case, key=key)
    expected = REASONS.get(case) if key or case in NEVER or case == "dmg_gcm_dropc2s" else None
    if case == "dmg_gcm_no_cke" and not key:
        expected = "partial"  # the lost bytes stay lost, and nothing else
    for conversation in conversations:
        facts = conversation.tls
        if case == "fail_plain_on_465":
            assert facts is None or facts.reason == "not-tls"
            continue
        assert facts is not None
        assert facts.reason == expected, facts.reason_text
        assert facts.decrypted is (expected in (None, "partial"))
        if expected is not None and case != "dmg_gcm_no_cke":
            continue
        for side, name in ((0, "c2s"), (1, "s2c")):
            truth = CORPUS / case / f"truth_{conversation.stream.client.port}_tls_{name}.bin"
            if truth.exists() and case not in INEXACT and facts.decrypted:
                assert spy.data[conversation.stream.serial, side] == truth.read_bytes()  # type: ignore[index]


@pytest.mark.parametrize("path", sorted((CORPUS / "keys").glob("*")) if CASES else [], ids=lambda path: path.name)
def test_every_key_file_works_or_is_refused_in_words(path: Path) -> None:
    refused = {
        "dh.pem": "no private key",
        "early.txt": "neither PEM",
        "ec.key": "EC secp256r1, not RSA",
        "fmt_pub.pem": "a public key",
        "rsapss.key": "RSA-PSS",
    }
    words = "only a certificate" if path.suffix == ".crt" else refused.get(path.name)
    if words is not None:
        with pytest.raises(KeyFileError, match=words):
            load_private_keys(path.read_bytes(), path.name, b"x")
        return
    if path.name in LOCKED:
        with pytest.raises(KeyFileError, match="wrong password"):
            load_private_keys(path.read_bytes(), path.name, b"not this one")
        return
    keys = load_private_keys(path.read_bytes(), path.name)
    assert len(keys) == max(1, path.read_bytes().count(b"PRIVATE KEY-----") // 2)
