"""The native decryptor against conversations that OpenSSL held: what comes out is what was said."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from smtpdebug.model.streams import CLIENT, SERVER, Gap, Limits
from smtpdebug.model.tls import UNSEALED
from smtpdebug.tls.decrypt import NativeDecryptor
from smtpdebug.tls.tracker import TlsTracker

OPENSSL_CIPHERS = [
    ("TLSv1_2", "AES128-GCM-SHA256"),
    ("TLSv1_2", "AES256-GCM-SHA384"),
    ("TLSv1_2", "AES128-CCM"),
    ("TLSv1_2", "AES256-CCM8"),
    ("TLSv1_2", "AES128-SHA"),
    ("TLSv1_2", "AES256-SHA256"),
    ("TLSv1_2", "CAMELLIA128-SHA256"),
    ("TLSv1_2", "CAMELLIA256-SHA"),
    ("TLSv1_2", "NULL-SHA256"),
    ("TLSv1_1", "AES256-SHA"),
    ("TLSv1", "AES128-SHA"),
]
LONG = [(CLIENT, b"x" * 40_000), (SERVER, b"250 ok\r\n"), (CLIENT, b""), (CLIENT, b"QUIT\r\n")]
LONG = [line for line in LONG if line[1]]


def _both(maker: Any, recording: Any, opened: Any, flow: int = 1) -> None:
    for side in (CLIENT, SERVER):
        assert maker.text(opened, side, flow) == recording.plain(side)


def test_the_maker_really_talks(maker: Any) -> None:
    recording = maker.talk(version="TLSv1_2", ciphers="AES128-GCM-SHA256")
    assert recording.failed is None
    assert recording.suite == "AES128-GCM-SHA256"
    assert b"EHLO" not in recording.wire(CLIENT)


@pytest.mark.parametrize(("version", "cipher"), OPENSSL_CIPHERS)
@pytest.mark.parametrize("options", ["", "NO_ETM", "NO_EMS"])
def test_rsa_key_exchange_opens_with_the_servers_key(maker: Any, version: str, cipher: str, options: str) -> None:
    recording = maker.talk(LONG, version=version, ciphers=cipher, options=getattr(maker, options, 0))
    if recording.suite is None:
        pytest.skip(f"this OpenSSL does not speak {version} {cipher}")
    decryptor, opened = maker.decrypt(maker.records(recording.writes), maker.ring(maker.other(), maker.server()))
    _both(maker, recording, opened)
    verdict = decryptor.verdict(1)
    secret = UNSEALED if "NULL" in cipher else "rsa-key"
    assert (verdict.decrypted, verdict.secret, verdict.reason) == (True, secret, None)


@pytest.mark.parametrize("cipher", ["NULL-SHA256", "ECDHE-RSA-NULL-SHA"])
def test_a_suite_without_a_cipher_is_read_without_any_key(maker: Any, cipher: str) -> None:
    recording = maker.talk(ciphers=cipher)
    decryptor, opened = maker.decrypt(maker.records(recording.writes), maker.ring())
    _both(maker, recording, opened)
    verdict = decryptor.verdict(1)
    assert (verdict.decrypted, verdict.secret, verdict.reason) == (True, UNSEALED, None)


def test_only_secrets_that_opened_something_are_exported(maker: Any) -> None:
    recording = maker.talk(version="TLSv1_3")
    lines = recording.keylog.decode().splitlines()
    wrong = [
        f"{line[:-2]}{'00' if line[-2:] != '00' else '01'}" if "TRAFFIC_SECRET_0" in line else line for line in lines
    ]
    decryptor, _ = maker.decrypt(maker.records(recording.writes), keylog="\n".join(wrong).encode())
    exported = list(decryptor.secrets())
    assert exported
    assert all("HANDSHAKE_TRAFFIC" in line and line in lines for line in exported)


@pytest.mark.parametrize(
    ("version", "cipher"),
    [
        ("TLSv1_2", "ECDHE-RSA-AES128-GCM-SHA256"),
        ("TLSv1_2", "ECDHE-RSA-CHACHA20-POLY1305"),
        ("TLSv1_2", "ECDHE-RSA-AES256-SHA384"),
        ("TLSv1_3", "DEFAULT"),
    ],
)
def test_a_key_log_opens_what_a_key_cannot(maker: Any, version: str, cipher: str) -> None:
    recording = maker.talk(LONG, version=version, ciphers=cipher)
    records = maker.records(recording.writes)
    decryptor, opened = maker.decrypt(records, maker.ring(maker.server()))
    assert not opened
    assert not decryptor.verdict(1).decrypted
    decryptor, opened = maker.decrypt(records, keylog=recording.keylog)
    _both(maker, recording, opened)
    assert decryptor.verdict(1).secret == "keylog"


def test_a_retried_hello_opens(maker: Any) -> None:
    recording = maker.talk(version="TLSv1_3", ciphers="DEFAULT", curve="secp384r1")
    tracker, records = maker.track(maker.chunks(recording.writes))
    assert tracker.facts.hello_retry
    _both(maker, recording, maker.decrypt(records, keylog=recording.keylog)[1])


@pytest.mark.parametrize("tickets", [True, False])
@pytest.mark.parametrize("earlier_first", [True, False])
def test_a_resumed_session_opens_with_the_first_ones_secret(maker: Any, tickets: bool, earlier_first: bool) -> None:
    """By ticket or by session id, whichever of the two conversations comes first."""
    contexts = maker.contexts(tickets=tickets)
    full = maker.talk(contexts=contexts)
    resumed = maker.talk([(CLIENT, b"NOOP\r\n")], contexts=contexts, session=full.session)
    tracker, resumed_records = maker.track(maker.chunks(resumed.writes))
    assert tracker.facts.resumed
    decryptor = NativeDecryptor(maker.ring(maker.server()))
    if earlier_first:
        opened = maker.push(decryptor, 1, maker.records(full.writes)) + maker.push(decryptor, 2, resumed_records)
    else:
        opened = maker.push(decryptor, 2, resumed_records)
        assert not opened
        assert decryptor.pending(2)
        opened = maker.push(decryptor, 1, maker.records(full.writes))
        assert not decryptor.pending(2)
    _both(maker, full, opened, 1)
    _both(maker, resumed, opened, 2)
    assert decryptor.verdict(2).secret == "resumed"


def test_a_resumed_session_alone_stays_closed(maker: Any) -> None:
    contexts = maker.contexts()
    resumed = maker.talk(contexts=contexts, session=maker.talk(contexts=contexts).session)
    decryptor, opened = maker.decrypt(maker.records(resumed.writes), maker.ring(maker.server()))
    assert decryptor.pending(1)
    assert opened + decryptor.flush() == []
    assert not decryptor.pending(1)
    assert not decryptor.verdict(1).decrypted


def test_a_ticket_that_the_server_declines_is_no_resumption(maker: Any) -> None:
    """The client offers a ticket of another server context: a full handshake with a ticket in the ClientHello."""
    contexts = maker.contexts()
    first = maker.talk(contexts=contexts)
    client, _ = contexts
    _, stranger = maker.contexts()
    second = maker.talk(contexts=(client, stranger), session=first.session)
    tracker, records = maker.track(maker.chunks(second.writes))
    assert tracker.facts.ticket_offered
    assert tracker.facts.resumed is False
    decryptor = NativeDecryptor(maker.ring(maker.server()))
    opened = maker.push(decryptor, 1, maker.records(first.writes)) + maker.push(decryptor, 2, records)
    _both(maker, second, opened, 2)


def test_a_key_log_that_comes_later_opens_what_waits(maker: Any) -> None:
    recording = maker.talk(version="TLSv1_3", ciphers="DEFAULT")
    decryptor = NativeDecryptor(wait_for_keylog=True)
    assert maker.push(decryptor, 1, maker.records(recording.writes)) == []
    assert decryptor.pending(1)
    opened = decryptor.add_keylog(recording.keylog, "dsb")
    _both(maker, recording, opened)
    assert decryptor.verdict(1).secret == "dsb"


def test_the_whole_client_side_may_come_before_the_servers(maker: Any) -> None:
    """Capture order is not wire order."""
    recording = maker.talk(LONG)
    records = maker.records(recording.writes)
    swapped = [r for r in records if r.side == CLIENT] + [r for r in records if r.side == SERVER]
    _both(maker, recording, maker.decrypt(swapped, maker.ring(maker.server()))[1])
    other_way = [r for r in records if r.side == SERVER] + [r for r in records if r.side == CLIENT]
    _both(maker, recording, maker.decrypt(other_way, maker.ring(maker.server()))[1])


def test_client_certificates_do_not_disturb(maker: Any) -> None:
    """With the extended master secret the transcript must hold the client's Certificate, not its CertificateVerify."""
    recording = maker.talk(client_cert=True)
    assert recording.failed is None
    _both(maker, recording, maker.decrypt(maker.records(recording.writes), maker.ring(maker.server()))[1])


def test_the_wrong_key_opens_nothing_though_its_decryption_gives_bytes(maker: Any) -> None:
    """OpenSSL gives random bytes for a wrong key (implicit rejection): nothing may come of them."""
    recording = maker.talk()
    decryptor, opened = maker.decrypt(maker.records(recording.writes), maker.ring(maker.other(), maker.client()))
    assert not opened
    assert decryptor.verdict(1).secret is None


def test_without_the_certificate_the_keys_of_the_right_size_are_tried(maker: Any) -> None:
    """The server's Certificate was lost; without the extended master secret no transcript is needed."""
    recording = maker.talk(options=maker.NO_EMS)
    records = maker.records(recording.writes)
    records.remove(next(r for r in records if r.side == SERVER and r.payload[:1] == b"\x0b"))
    _both(maker, recording, maker.decrypt(records, maker.ring(maker.other(), maker.server()))[1])


def test_the_spool_is_bounded_and_says_so(maker: Any) -> None:
    recording = maker.talk(LONG, version="TLSv1_3", ciphers="DEFAULT")
    decryptor = NativeDecryptor(maker.ring(), Limits(tls_spool_bytes=10_000), wait_for_keylog=True)
    maker.push(decryptor, 1, maker.records(recording.writes))
    assert decryptor.limits_hit == {"tls_spool_bytes": 1}
    assert decryptor.add_keylog(recording.keylog, "keylog") == []
    assert decryptor.verdict(1).reason == "spool-limit"


def test_secrets_blocks_between_packets_keep_ended_flows_waiting(maker: Any) -> None:
    """A block at the start of a capture is all there is; one after the first connection may have followers."""
    recording = maker.talk(version="TLSv1_3", ciphers="DEFAULT")
    records, other = maker.records(recording.writes), maker.talk().keylog
    decryptor = NativeDecryptor()
    decryptor.add_keylog(other, "dsb")
    maker.push(decryptor, 1, records)
    assert not decryptor.pending(1)
    decryptor.add_keylog(other, "dsb")
    maker.push(decryptor, 2, records)
    assert decryptor.pending(2)
    _both(maker, recording, decryptor.add_keylog(recording.keylog, "dsb"), 2)


def test_derived_secrets_are_those_that_openssl_logged(maker: Any) -> None:
    recording = maker.talk()
    decryptor, _ = maker.decrypt(maker.records(recording.writes), maker.ring(maker.server()))
    logged = {line.lower() for line in recording.keylog.decode().splitlines() if line.startswith("CLIENT_RANDOM")}
    assert {line.lower() for line in decryptor.secrets()} == logged


def test_tls13_secrets_used_can_be_exported(maker: Any) -> None:
    recording = maker.talk(version="TLSv1_3", ciphers="DEFAULT")
    decryptor, _ = maker.decrypt(maker.records(recording.writes), keylog=recording.keylog)
    exported = "\n".join(decryptor.secrets()).encode()
    _both(maker, recording, maker.decrypt(maker.records(recording.writes), keylog=exported)[1])


GAP_CASES = [
    ("TLSv1_2", "AES128-GCM-SHA256", 0),
    ("TLSv1_2", "AES128-CCM", 0),
    ("TLSv1_2", "AES128-SHA", 0),
    ("TLSv1_2", "ECDHE-RSA-CHACHA20-POLY1305", 0),
    ("TLSv1_1", "AES128-SHA", 0),
    ("TLSv1_3", "DEFAULT", 0),
    ("TLSv1", "AES128-SHA", 1),
]


@pytest.mark.parametrize(("version", "cipher", "also_lost"), GAP_CASES)
@pytest.mark.parametrize("lost_records", [1, 5])
def test_after_a_gap_the_next_records_open(
    maker: Any, version: str, cipher: str, also_lost: int, lost_records: int
) -> None:
    """Only what was lost is missing; TLS 1.0's chained IV costs one record more (RFC 2246 section 6.2.3.2)."""
    lines = [(CLIENT, b"line %03d\r\n" % n) for n in range(30)]
    recording = maker.talk(lines, version=version, ciphers=cipher, close=False)
    if recording.suite is None:
        pytest.skip(f"this OpenSSL does not speak {version} {cipher}")
    chunks = maker.chunks(recording.writes)
    data = [chunk for chunk in chunks if chunk.side == CLIENT and chunk.data[0] == 23]
    lost = data[12 : 12 + lost_records]
    events = [
        Gap(chunk.stream, chunk.side, chunk.offset, len(chunk.data), chunk.at, "lost") if chunk in lost else chunk
        for chunk in chunks
    ]
    tracker, records = maker.track(events)
    assert tracker.facts.missing[CLIENT] == sum(len(chunk.data) for chunk in lost)
    decryptor, opened = maker.decrypt(records, maker.ring(maker.server()), recording.keylog)
    told = [one for one in opened if one.side == CLIENT and one.content_type == 23]
    count = lost_records
    # TLS 1.0 sends an empty fragment before each line (the remedy for BEAST): that is the one more record.
    per_line = 2 if version == "TLSv1" else 1
    first = data.index(lost[0]) - (len(data) - len(lines))
    expected = [line for n, (_, line) in enumerate(lines) if not first <= n < first + count]
    assert b"".join(one.data for one in told) == b"".join(expected)
    assert sum(one.missing_before for one in told) == count * per_line + also_lost
    verdict = decryptor.verdict(1)
    assert (verdict.decrypted, verdict.reason) == (True, "partial")


def test_lost_key_exchange_opens_with_a_key_log_only(maker: Any) -> None:
    """ClientKeyExchange, ChangeCipherSpec and Finished lost in one packet: the first record is found by number."""
    recording = maker.talk()
    chunks = maker.chunks(recording.writes)
    lost = next(chunk for chunk in chunks if chunk.side == CLIENT and chunk.data[5] == 16)
    events = [
        Gap(chunk.stream, CLIENT, chunk.offset, len(chunk.data), chunk.at, "lost") if chunk is lost else chunk
        for chunk in chunks
    ]
    records = maker.track(events)[1]
    assert maker.decrypt(records, maker.ring(maker.server()))[1] == []
    _both(maker, recording, maker.decrypt(records, keylog=recording.keylog)[1])


def test_renegotiation_is_followed(maker: Any) -> None:
    """A second handshake, put record by record under the keys of the first, as RFC 5246 section 7.4.1 has it."""
    first = maker.talk(close=False)
    second = maker.talk([(CLIENT, b"NOOP\r\n"), (SERVER, b"250 again\r\n")])
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    from smtpdebug.model.tls import Record
    from smtpdebug.tls.negotiation import Negotiation
    from smtpdebug.tls.secrets import Secrets

    records = maker.records(first.writes)
    secrets = Secrets()
    secrets.add_keylog(first.keylog, "keylog")
    negotiation = Negotiation(secrets, maker.ring())
    from smtpdebug.tls.handshake import MessageReader

    readers = (MessageReader(), MessageReader())
    changed = [False, False]
    sequence = [0, 0]
    for record in records:
        changed[record.side] |= record.content_type == 20
        if not changed[record.side]:
            for message in readers[record.side].feed(record.payload, record.began, record.at):
                negotiation.message(record.side, message)
        elif record.content_type != 20:
            sequence[record.side] += 1
    blocks = negotiation.blocks()
    assert blocks is not None
    changed = [False, False]
    for record in maker.records(second.writes):
        side = record.side
        if changed[side]:
            records.append(record)
            continue
        kind, plain = record.content_type, record.payload
        nonce = sequence[side].to_bytes(8, "big")
        head = nonce + bytes((kind, 3, 3)) + len(plain).to_bytes(2, "big")
        sealed = nonce + AESGCM(blocks[side].key).encrypt(blocks[side].iv + nonce, plain, head)
        records.append(Record(side, kind, 0x0303, sealed, record.offset, record.began, record.at))
        sequence[side] += 1
        changed[side] = kind == 20
    decryptor, opened = maker.decrypt(records, maker.ring(maker.server()))
    assert maker.text(opened, CLIENT) == first.plain(CLIENT) + second.plain(CLIENT)
    assert maker.text(opened, SERVER) == first.plain(SERVER) + second.plain(SERVER)
    logged = (first.keylog + second.keylog).decode().splitlines()
    assert sorted(decryptor.secrets()) == sorted(line for line in logged if line.startswith("CLIENT_RANDOM"))


def test_a_changed_byte_closes_its_record_and_no_other(maker: Any) -> None:
    recording = maker.talk([(CLIENT, b"one\r\n"), (CLIENT, b"two\r\n"), (CLIENT, b"three\r\n")])
    records = maker.records(recording.writes)
    damaged = [r for r in records if r.side == CLIENT and r.content_type == 23][1]
    damaged.payload = damaged.payload[:-1] + bytes((damaged.payload[-1] ^ 1,))
    decryptor, opened = maker.decrypt(records, maker.ring(maker.server()))
    assert maker.text(opened, CLIENT) == b"one\r\nthree\r\n"
    verdict = decryptor.verdict(1)
    assert verdict.reason == "partial"
    assert verdict.detail.startswith("1 of ")


def test_a_late_record_of_tls_1_0_is_not_read_with_the_block_before_it(maker: Any) -> None:
    """Encrypt-then-MAC proves the record and not its IV, which only the record before gives (RFC 2246 section 6.2.3.2).

    The garbage would end in padding that looks right once in a few times: enough conversations for that.
    """
    for _ in range(40):
        recording = maker.talk([(CLIENT, b"line %d\r\n" % n) for n in range(3)], version="TLSv1", ciphers="AES128-SHA")
        records = maker.records(recording.writes)
        late = [index for index, one in enumerate(records) if one.side == CLIENT and one.content_type == 23][-2]
        records.append(records.pop(late))
        _, opened = maker.decrypt(records, maker.ring(maker.server()))
        said = {line for _, line in recording.said}
        assert {one.data for one in opened if one.content_type == 23} <= said


class Known:
    """Conversations and their records, with a short name for hypothesis to print."""

    def __init__(self, talks: list[tuple[Any, Any]]) -> None:
        self.talks = talks


@pytest.fixture(scope="module")
def known(maker: Any) -> Known:
    """Conversations of each kind of record protection, with their records."""
    kinds = [
        ("TLSv1_2", "AES128-GCM-SHA256"),
        ("TLSv1_2", "AES128-SHA"),
        ("TLSv1_3", "DEFAULT"),
        ("TLSv1", "AES128-SHA"),
    ]
    lines = [(CLIENT, b"line %d\r\n" % n) for n in range(6)] + [(SERVER, b"250 ok\r\n")]
    talks = [maker.talk(lines, version=version, ciphers=cipher) for version, cipher in kinds]
    return Known([(talk, maker.records(talk.writes)) for talk in talks if talk.suite])


FAULTS = st.tuples(
    st.sampled_from(["lose", "gap", "repeat", "swap", "cut", "change"]),
    st.integers(0, 9_999),
    st.integers(1, 9_999),
)


@given(kind=st.integers(0, 3), faults=st.lists(FAULTS, min_size=1, max_size=4), with_keylog=st.booleans())
def test_whatever_happens_to_the_records_only_what_was_said_comes_out(
    maker: Any, known: Known, kind: int, faults: list[tuple[str, int, int]], with_keylog: bool
) -> None:
    """Records lost, repeated, swapped, cut or changed: nothing raises, and no octet comes out that was not sent."""
    recording, records = known.talks[kind % len(known.talks)]
    records = list(records)
    for fault, place, amount in faults:
        index = place % len(records)
        record = records[index]
        payload = bytearray(record.payload)
        match fault:
            case "lose":
                del records[index]
            case "gap":
                records[index] = structs.replace(record, after_gap=amount)
            case "repeat":
                records.insert(amount % len(records), record)
            case "swap":
                records.append(records.pop(index))
            case "cut":
                records[index] = structs.replace(record, payload=bytes(payload[: amount % 50]))
            case "change" if payload:
                payload[amount % len(payload)] ^= amount % 255 + 1
                records[index] = structs.replace(record, payload=bytes(payload))
    tracker = TlsTracker("implicit", maker.where(0))
    keylog = recording.keylog if with_keylog else b""
    decryptor, opened = maker.decrypt(records, maker.ring(maker.server()), keylog)
    said = {line for _, line in recording.said}
    for one in opened:
        assert one.content_type != 23 or one.data in said
        tracker.decrypted(one)
    decryptor.flush()
    decryptor.verdict(1)


def test_openssl_is_what_the_cases_assume() -> None:
    """RSA key exchange needs an OpenSSL that still has it; says so in the report rather than in odd failures."""
    assert ssl.OPENSSL_VERSION_INFO >= (1, 1, 1)


@pytest.mark.parametrize("cut", [0, 1])
def test_a_client_hello_in_the_format_of_ssl2_gives_the_random_all_the_same(maker: Any, cut: int) -> None:
    """RFC 5246 appendix E.2: the same random as the challenge of a hello in the old format gives the same keys."""
    recording = maker.talk(ciphers="AES128-SHA", options=maker.NO_EMS | maker.NO_ETM)
    side, first = recording.writes[0]
    random = first[11:43]  # behind record header, message header and version
    told = b"\x01\x03\x03" + b"\x00\x03\x00\x00\x00\x20" + b"\x00\x00\x2f" + random
    writes = [(side, (0x8000 | len(told)).to_bytes(2, "big") + told), *recording.writes[1:]]
    tracker, records = maker.track(maker.chunks(writes, cut=cut))
    opened = maker.decrypt(records, maker.ring(maker.server()))[1]
    assert [maker.text(opened, side) for side in (CLIENT, SERVER)] == [recording.plain(s) for s in (CLIENT, SERVER)]
    facts = tracker.facts
    assert not tracker.not_tls
    assert facts.flights[0].messages == ["ClientHello (SSL 2.0 format)"]
    assert (facts.versions_offered, facts.cipher_suites_offered) == (["TLS 1.2"], ["TLS_RSA_WITH_AES_128_CBC_SHA"])
    assert (facts.version, facts.ja3, facts.ja4) == ("TLS 1.2", None, None)
    assert (facts.client_hello, facts.client_hello_size) == (maker.where(45 if cut else 0), len(told))
