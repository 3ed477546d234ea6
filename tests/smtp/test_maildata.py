from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from smtpdebug.model.smtp import BARE_CR, BARE_LF, EIGHT_BIT, LONG_LINE, NUL, ODD_END, UNDOTTED, MailData
from smtpdebug.model.streams import Chunk, Endpoint, Limits, Location, Stream
from smtpdebug.smtp.maildata import Body, DataReader

AT = Location("x", 1, 0)
STREAM = Stream(0, Endpoint("192.0.2.1", 1), Endpoint("192.0.2.2", 25), AT, AT)


def read(wire: bytes, limits: Limits | None = None, step: int = 0) -> tuple[MailData, int]:
    """Mail data, and how many octets it took."""
    reader, taken = DataReader(limits or Limits(), AT, 0, False), 0
    for start in range(0, len(wire), step or len(wire)):
        part = wire[start : start + (step or len(wire))]
        taken += reader.feed(Chunk(STREAM, 0, start, part, AT, AT), 0)
        if reader.done:
            break
    return reader.data, taken


def test_transparency_is_undone() -> None:
    """RFC 5321 4.5.2: a dot in front of other characters of a line is deleted."""
    data, taken = read(b"..\r\n...x\r\ny.\r\n.\r\nQUIT\r\n")
    content = b".\r\n..x\r\ny.\r\n"
    assert (data.bytes, data.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert (data.stuffed, data.lines, data.ended, taken) == (2, 3, True, 17)
    assert data.wire_bytes == 17
    assert not data.oddities & UNDOTTED


def test_a_dot_that_was_not_doubled() -> None:
    data, _ = read(b".x\r\n.\r\n")
    assert data.bytes == 3
    assert data.oddities == UNDOTTED


def test_empty_message_and_one_that_ends_the_conversation() -> None:
    data, taken = read(b".\r\n")
    assert (data.bytes, data.ended, taken) == (0, True, 3)
    assert data.sha256 == hashlib.sha256(b"").hexdigest()


def test_the_first_end_counts_whatever_follows_it() -> None:
    for after in (b".", b".\r\n", b".x\r\n.\r\n", b"\r\n.\r\n"):
        data, taken = read(b"x\r\n.\r\n" + after)
        assert (data.bytes, data.ended, taken) == (3, True, 6), after


def test_headers_and_body() -> None:
    wire = b"Subject: x\r\nTo: y\r\n\r\nbody one\r\nbody two\r\n.\r\n"
    data, _ = read(wire, Limits(body_bytes=10))
    assert data.headers == b"Subject: x\r\nTo: y\r\n"
    assert data.body == b"body one\r\n"
    assert read(wire)[0].body is None
    assert read(b"\r\nno headers\r\n.\r\n")[0].headers == b""
    assert read(b"only: headers\r\n.\r\n")[0].headers == b"only: headers\r\n"
    assert read(b"a: b\n\nbody\r\n.\r\n")[0].headers == b"a: b\n"


def test_oddities() -> None:
    assert read(b"a\nb\r\n.\r\n")[0].oddities == BARE_LF
    assert read(b"a\rb\r\n.\r\n")[0].oddities == BARE_CR
    assert read(b"\x00\xff\r\n.\r\n")[0].oddities == NUL | EIGHT_BIT
    long, _ = read(b"x" * 998 + b"\r\n.\r\n")
    assert (long.longest_line, long.oddities) == (0, 0)
    longer, _ = read(b"x" * 999 + b"\r\n.\r\n")
    assert (longer.longest_line, longer.oddities) == (1001, LONG_LINE)


def test_look_alikes_are_kept_with_what_follows() -> None:
    """The four that servers have taken for the end (CVE-2023-51764 and its kin)."""
    for sequence in (b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r\n", b"\r\n.\r"):
        data, _ = read(b"x" + sequence + b"MAIL FROM:<a@x>\r\n.\r\n")
        assert [odd.sequence for odd in data.odd_ends] == [sequence]
        assert data.odd_ends[0].offset == 1 + sequence.index(b".")
        assert data.odd_ends[0].following == b"MAIL FROM:<a@x>\r\n"
        assert data.oddities & ODD_END


@given(
    lines=st.lists(st.text("ab.", max_size=6), max_size=12),
    ends=st.lists(st.sampled_from(["\r\n", "\r\n", "\r\n", "\n", "\r"]), min_size=1, max_size=12),
    step=st.integers(1, 50),
)
def test_cuts_make_no_difference(lines: list[str], ends: list[str], step: int) -> None:
    wire = "".join(line + ends[i % len(ends)] for i, line in enumerate(lines)).encode() + b"z\r\n.\r\n"
    assert read(wire, step=step)[0] == read(wire)[0]


@given(lines=st.lists(st.text("ab.", max_size=6), max_size=12))
def test_what_a_client_stuffs_comes_out_again(lines: list[str]) -> None:
    content = "".join(line + "\r\n" for line in lines).encode()
    wire = "".join(("." if line.startswith(".") else "") + line + "\r\n" for line in lines).encode() + b".\r\n"
    data, taken = read(wire)
    assert (data.bytes, data.sha256, taken) == (len(content), hashlib.sha256(content).hexdigest(), len(wire))


@given(
    lines=st.lists(st.tuples(st.sampled_from(["", ".", "..", "a", "\u00fc\t"]), st.integers(0, 1005)), max_size=6),
    step=st.integers(1, 2500),
)
def test_lines_are_counted_and_long_ones_measured(lines: list[tuple[str, int]], step: int) -> None:
    """RFC 5321 4.5.3.1.6: 1000 octets, CRLF included and the dot of transparency not."""
    texts = [begin.encode() + b"x" * length for begin, length in lines]
    wire = b"".join((b"." if text[:1] == b"." else b"") + text + b"\r\n" for text in texts) + b".\r\n"
    data, _ = read(wire, step=step)
    longest = max((len(text) + 2 for text in texts), default=0)
    assert data.lines == len(texts)
    assert data.longest_line == (longest if longest > 1000 else 0)
    assert data.stuffed == sum(text[:1] == b"." for text in texts)
    assert bool(data.oddities & LONG_LINE) == (longest > 1000)
    assert bool(data.oddities & EIGHT_BIT) == any(not text.isascii() for text in texts)


def test_a_line_without_end_is_not_held() -> None:
    reader = DataReader(Limits(header_bytes=100), AT, 0, False)
    for number in range(100):
        reader.feed(Chunk(STREAM, 0, number * 10_000, b"x" * 10_000, AT, AT), 0)
        assert len(reader.held) <= 4096
    reader.close(1_000_000)
    assert (reader.data.bytes, reader.data.longest_line, len(reader.data.headers)) == (1_000_000, 1_000_000, 100)


def test_the_headers_of_a_message_in_chunks_are_its_own_once() -> None:
    """RFC 3030 section 2: chunks are cut anywhere; a later one goes on where the one before it ended."""
    whole, first, second, third = (
        MailData(began=AT, at=AT, encrypted=False, offset=0, chunks=[], odd_ends=[]) for _ in range(4)
    )
    limits = Limits(body_bytes=100)
    message = Body(limits, whole)
    cut = [b"Subject: a", b"\r\nTo: b\r\n\r\nbo", b"dy: one\r\n\r\ntwo"]
    for data, part in zip((first, second, third), cut, strict=True):
        chunk = Body(limits, data)
        chunk.follows(message)
        for each in (chunk, message):
            each.octets(part)
            each.finish()
    assert [data.headers for data in (first, second, third)] == [b"Subject: a", b"\r\nTo: b\r\n", b""]
    assert [data.body for data in (first, second, third)] == [None, b"bo", b"dy: one\r\n\r\ntwo"]
    assert whole.headers == b"Subject: a\r\nTo: b\r\n"
    assert whole.body == b"body: one\r\n\r\ntwo"
