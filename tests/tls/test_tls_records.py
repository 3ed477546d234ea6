"""Record framing: the same records however the bytes are cut; gaps; what is no TLS."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpdebug.model.streams import CLIENT, SERVER, Chunk, Endpoint, Location, Stream
from smtpdebug.model.tls import Record
from smtpdebug.tls.records import RecordReader


def _where(index: int) -> Location:
    return Location("cap", index + 1, index * 1000)


STREAM = Stream(1, Endpoint("192.0.2.1", 4), Endpoint("192.0.2.2", 465), _where(0), _where(0))


def record(kind: int, payload: bytes, version: int = 0x0303) -> bytes:
    return bytes((kind,)) + version.to_bytes(2, "big") + len(payload).to_bytes(2, "big") + payload


def chunk(data: bytes, offset: int, index: int) -> Chunk:
    return Chunk(STREAM, CLIENT, offset, data, _where(index), _where(index))


def read(data: bytes, cuts: list[int], *, searching: bool = False) -> tuple[list[Record], RecordReader]:
    """Feed ``data`` cut at these places; each piece is its own frame."""
    reader = RecordReader(CLIENT, searching=searching)
    out: list[Record] = []
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for index, (start, end) in enumerate(pairwise(edges)):
        out += reader.feed(chunk(data[start:end], start, index))
    return out + reader.close(), reader


payloads = st.lists(st.tuples(st.integers(20, 23), st.binary(max_size=60)), min_size=1, max_size=8)


@given(payloads, st.lists(st.integers(0, 600), max_size=20))
def test_records_do_not_depend_on_segments_and_name_their_packets(
    sent: list[tuple[int, bytes]], cuts: list[int]
) -> None:
    wire = b"".join(record(kind, payload) for kind, payload in sent)
    got, _ = read(wire, cuts)
    assert [(one.content_type, one.payload) for one in got] == sent
    edges = sorted({0, len(wire), *(cut % (len(wire) + 1) for cut in cuts)})
    at = 0
    for one in got:
        assert one.offset == at
        last = at + 5 + len(one.payload) - 1
        assert one.began == _where(sum(edge <= at for edge in edges) - 1)
        assert one.at == _where(sum(edge <= last for edge in edges) - 1)
        at = last + 1


def test_one_byte_segments() -> None:
    wire = record(22, b"hello") + record(23, b"x" * 300)
    got, _ = read(wire, list(range(len(wire))))
    assert [one.payload for one in got] == [b"hello", b"x" * 300]
    assert (got[1].began, got[1].at) == (_where(10), _where(314))


@pytest.mark.parametrize(
    "wire", [b"220 mx.example.org ESMTP\r\n", b"EHLO x\r\n", b"\x16\x02\x00\x00\x05hello", b"QUIT"]
)
@pytest.mark.parametrize("cuts", [[], list(range(30))])
def test_what_is_no_tls_is_said(wire: bytes, cuts: list[int]) -> None:
    got, reader = read(wire, cuts)
    assert not got
    assert reader.broken


def test_a_gap_inside_a_record_leaves_the_next_one_whole() -> None:
    wire = record(23, b"a" * 100) + record(23, b"b" * 50)
    reader = RecordReader(CLIENT)
    out = reader.feed(chunk(wire[:30], 0, 0))
    out += reader.gap(40)
    out += reader.feed(chunk(wire[70:], 70, 2))
    assert [(one.payload, one.offset, one.after_gap) for one in out] == [(b"b" * 50, 105, 105)]
    assert reader.partial == 1


def test_a_gap_that_ends_with_its_record() -> None:
    wire = record(23, b"a" * 100) + record(23, b"b" * 50)
    reader = RecordReader(CLIENT)
    out = reader.feed(chunk(wire[:30], 0, 0)) + reader.gap(75) + reader.feed(chunk(wire[105:], 105, 2))
    assert [one.payload for one in out] == [b"b" * 50]


@given(
    payloads.filter(lambda sent: len(sent) >= 4),
    st.data(),
    st.lists(st.integers(0, 600), max_size=12),
)
def test_after_a_gap_the_records_behind_it_are_found(
    sent: list[tuple[int, bytes]], data: st.DataObject, cuts: list[int]
) -> None:
    """Whatever the gap swallows and however the rest is cut, the last record after it is found."""
    # Letters cannot look like record headers, so that what must be found is certain.
    sent = [(kind, bytes(65 + byte % 26 for byte in payload)) for kind, payload in sent]
    wires = [record(kind, payload) for kind, payload in sent]
    wire, last = b"".join(wires), len(b"".join(wires[:-2]))
    start = data.draw(st.integers(0, last))
    end = data.draw(st.integers(start, last))
    reader = RecordReader(CLIENT)
    out: list[Record] = []
    edges = sorted({0, start, end, len(wire), *(cut % (len(wire) + 1) for cut in cuts)})
    for index, (low, high) in enumerate(pairwise(edges)):
        if low == start and start < end:
            out += reader.gap(end - start)
        if low < start or low >= end:
            out += reader.feed(chunk(wire[low:high], low, index))
    out += reader.close()
    assert [(one.content_type, one.payload) for one in out[-2:]] == sent[-2:]
    whole = [
        one
        for one in out
        if wire[one.offset : one.offset + 5 + len(one.payload)] == record(one.content_type, one.payload)
    ]
    assert whole == out
    assert sum(one.after_gap + 5 + len(one.payload) for one in out) == len(wire)


def test_joined_in_the_middle_of_a_record() -> None:
    wire = b"rest of a record, ciphertext" + record(23, b"b" * 50) + record(23, b"c" * 20)
    for cuts in ([], [3, 29, 60], list(range(len(wire)))):
        got, reader = read(wire, cuts, searching=True)
        assert [one.payload for one in got] == [b"b" * 50, b"c" * 20]
        assert not reader.broken


def test_random_bytes_are_given_up_in_bounded_memory() -> None:
    reader = RecordReader(CLIENT, searching=True)
    for index in range(200):
        assert not reader.feed(chunk(b"no records here\n" * 64, index * 1024, index))
    assert reader.broken


def test_records_of_openssl(maker: Any) -> None:
    """A real conversation cut to single bytes gives the records of the same one uncut."""
    recording = maker.talk([(CLIENT, b"NOOP\r\n")])
    whole = maker.records(recording.writes)
    bytewise = maker.track(maker.chunks(recording.writes, cut=1))[1]
    assert [(r.side, r.content_type, r.payload, r.offset) for r in whole] == [
        (r.side, r.content_type, r.payload, r.offset) for r in bytewise
    ]


def ssl2(body: bytes) -> bytes:
    """RFC 5246 appendix E.2: the length with the high bit set, then the message."""
    return (0x8000 | len(body)).to_bytes(2, "big") + body


SSL2_HELLO = b"\x01\x03\x01" + b"\x00\x03\x00\x00\x00\x10" + b"\x00\x00\x2f" + b"c" * 16


@given(st.lists(st.integers(0, 60), max_size=20))
def test_a_client_hello_in_the_format_of_ssl2_comes_before_records(cuts: list[int]) -> None:
    got, reader = read(ssl2(SSL2_HELLO) + record(22, b"key exchange"), cuts)
    assert [(one.version, one.content_type, one.payload, one.offset) for one in got] == [
        (2, 22, SSL2_HELLO, 0),
        (0x0303, 22, b"key exchange", 2 + len(SSL2_HELLO)),
    ]
    assert not reader.broken


def test_a_cut_hello_in_the_format_of_ssl2_is_tls_all_the_same() -> None:
    got, reader = read(ssl2(SSL2_HELLO)[:20], [])
    assert (got, reader.broken, reader.partial) == ([], False, 1)


@pytest.mark.parametrize("wire", [ssl2(b"\x01\x00\x02" + SSL2_HELLO[3:]), ssl2(b"\x04" + SSL2_HELLO[1:])])
def test_ssl2_itself_is_no_tls(wire: bytes) -> None:
    assert read(wire, [])[1].broken


def test_only_clients_say_hello_so() -> None:
    reader = RecordReader(SERVER)
    assert not reader.feed(chunk(ssl2(SSL2_HELLO), 0, 0))
    assert reader.broken
