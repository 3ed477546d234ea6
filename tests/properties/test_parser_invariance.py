"""The parser's result does not depend on how bytes are cut, nor on the order in which the two sides are fed."""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smtpdebug.model.smtp import Injected
from smtpdebug.model.streams import Chunk, Endpoint, Gap, Limits, Location, Side, Stream
from smtpdebug.smtp.parser import ConversationParser

START_NS = 1_700_000_000_000_000_000
HELLO = b"\x16\x03\x01\x00\x05hello"
SERVER_HELLO = b"\x16\x03\x03\x00\x02ok"


@dataclass(frozen=True)
class Case:
    name: str
    turns: tuple[tuple[str, bytes], ...]
    expected: tuple[tuple[str | None, int | None], ...]
    """Verb and code of each exchange: from RFC 5321 and the extension's RFC, or (smuggling) what Postfix answered."""
    lmtp: bool = False


def case(name: str, *turns: tuple[str, bytes], expected: str, lmtp: bool = False) -> Case:
    pairs = []
    for item in expected.split():
        verb, _, code = item.partition("=")
        verb = {"greeting": "(greeting)", "eod": "(end of mail data)", "auth": "(auth)", "-": ""}.get(verb, verb)
        pairs.append((None if verb == "none" else verb, None if code == "none" else int(code)))
    return Case(name, turns, tuple(pairs), lmtp)


HAIL = (("S", b"220 mx ESMTP\r\n"), ("C", b"EHLO c\r\n"), ("S", b"250-mx\r\n250-SIZE 1000\r\n250 PIPELINING\r\n"))
BYE = (("C", b"QUIT\r\n"), ("S", b"221 2.0.0 bye\r\n"))

CASES = [
    case(
        "pipelined, stuffed, two messages",
        *HAIL,
        ("C", b"MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nRCPT TO:<c@y>\r\nDATA\r\n"),
        ("S", b"250 2.1.0 ok\r\n250 2.1.5 ok\r\n550 5.1.1 no\r\n354 go\r\n"),
        (
            "C",
            b"Subject: hi\r\n\r\n..dot\r\n.x\r\n"
            + b"long " * 300
            + b"\r\nend\xff\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<b@y>\r\n",
        ),
        ("S", b"250 2.0.0 queued\r\n250 ok\r\n250 ok\r\n"),
        ("C", b"DATA\r\n"),
        ("S", b"354 go\r\n"),
        ("C", b".\r\n"),
        ("S", b"250 queued\r\n"),
        *BYE,
        expected="greeting=220 EHLO=250 MAIL=250 RCPT=250 RCPT=550 DATA=354 eod=250 "
        "MAIL=250 RCPT=250 DATA=354 eod=250 QUIT=221",
    ),
    case(
        "refused DATA, what follows it is commands",
        *HAIL,
        ("C", b"MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nDATA\r\n"),
        ("S", b"250 ok\r\n550 no\r\n554 no valid recipients\r\n"),
        ("C", b"RSET\r\nQUIT\r\n"),
        ("S", b"250 ok\r\n221 bye\r\n"),
        expected="greeting=220 EHLO=250 MAIL=250 RCPT=550 DATA=554 RSET=250 QUIT=221",
    ),
    case(
        "BDAT chunks that look like SMTP, one refused",
        *HAIL,
        ("C", b"MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nBDAT 10\r\nQUIT\r\n.\r\nXBDAT 6 LAST\r\nRSET\r\nBDAT 5\r\nDATA\n"),
        ("S", b"250 ok\r\n250 ok\r\n250 10 octets\r\n250 queued\r\n503 no transaction\r\n"),
        ("C", b"BDAT 0 LAST\r\n"),
        ("S", b"503 no\r\n"),
        *BYE,
        expected="greeting=220 EHLO=250 MAIL=250 RCPT=250 BDAT=250 BDAT=250 BDAT=503 BDAT=503 QUIT=221",
    ),
    case(
        "AUTH in three ways",
        *HAIL,
        ("C", b"AUTH LOGIN\r\n"),
        ("S", b"334 VXNlcm5hbWU6\r\n"),
        ("C", b"DATA\r\n"),  # base64 that reads like a command
        ("S", b"334 UGFzc3dvcmQ6\r\n"),
        ("C", b"*\r\n"),
        ("S", b"501 5.7.0 cancelled\r\n"),
        ("C", b"AUTH PLAIN AGEAYg==\r\n"),
        ("S", b"235 2.7.0 fine\r\n"),
        *BYE,
        expected="greeting=220 EHLO=250 AUTH=334 auth=334 auth=501 AUTH=235 QUIT=221",
    ),
    case(
        "LMTP, a reply for each accepted recipient",
        ("S", b"220 mx LMTP\r\n"),
        ("C", b"LHLO c\r\nMAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nRCPT TO:<c@y>\r\nRCPT TO:<d@y>\r\nDATA\r\n"),
        ("S", b"250 mx\r\n250 ok\r\n250 ok\r\n550 no\r\n250 ok\r\n354 go\r\n"),
        ("C", b"hi\r\n.\r\nQUIT\r\n"),
        ("S", b"250 b\r\n452 d\r\n221 bye\r\n"),
        expected="greeting=220 LHLO=250 MAIL=250 RCPT=250 RCPT=550 RCPT=250 DATA=354 eod=250 eod=452 QUIT=221",
    ),
    case(
        "smuggling that the server fell for",
        *HAIL,
        ("C", b"MAIL FROM:<a@x>\r\n"),
        ("S", b"250 2.1.0 Ok\r\n"),
        ("C", b"RCPT TO:<b@y>\r\n"),
        ("S", b"250 2.1.5 Ok\r\n"),
        ("C", b"DATA\r\n"),
        ("S", b"354 End data\r\n"),
        (
            "C",
            b"Subject: one\r\n\r\nfirst\r\n\n.\r\nMAIL FROM:<admin@y>\r\nRCPT TO:<c@y>\r\nDATA\r\n"
            b"Subject: two\r\n\r\nsecond\r\n.\r\n",
        ),
        ("S", b"250 2.0.0 Ok: queued\r\n250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 End data\r\n250 2.0.0 Ok: queued\r\n"),
        *BYE,
        expected="greeting=220 EHLO=250 MAIL=250 RCPT=250 DATA=354 eod=250 MAIL=250 RCPT=250 DATA=354 eod=250 QUIT=221",
    ),
    case(
        "look-alikes that are none",
        *HAIL,
        ("C", b"MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nDATA\r\n"),
        ("S", b"250 ok\r\n250 ok\r\n354 go\r\n"),
        ("C", b"x\n.\ny\r.\rz\n.\r\nMAIL FROM:<admin@y>\r\nw\r\n.\r\n"),
        ("S", b"250 queued\r\n"),
        *BYE,
        expected="greeting=220 EHLO=250 MAIL=250 RCPT=250 DATA=354 eod=250 QUIT=221",
    ),
    case(
        "a client that ends lines by LF alone",
        *HAIL,
        ("C", b"MAIL FROM:<a@x>\nRCPT TO:<b@y>\nDATA\n"),
        ("S", b"250 ok\r\n250 ok\r\n354 go\r\n"),
        ("C", b"Subject: x\n\nhello\n.\n"),
        ("S", b"250 queued\r\n"),
        ("C", b"QUIT\n"),
        ("S", b"221 bye\r\n"),
        expected="greeting=220 EHLO=250 MAIL=250 RCPT=250 DATA=354 eod=250 QUIT=221",
    ),
    case(
        "STARTTLS with commands put in",
        *HAIL,
        ("C", b"STARTTLS\r\nNOOP\r\nMAIL FROM:<evil@x>\r\n"),
        ("S", b"220 go\r\n"),
        ("C", HELLO),
        ("S", SERVER_HELLO),
        ("C", b"\x17\x03\x03\x00\x01x"),
        expected="greeting=220 EHLO=250 STARTTLS=220",
    ),
    case(
        "STARTTLS refused",
        *HAIL,
        ("C", b"STARTTLS\r\nNOOP\r\n"),
        ("S", b"454 4.7.0 not now\r\n250 ok\r\n"),
        *BYE,
        expected="greeting=220 EHLO=250 STARTTLS=454 NOOP=250 QUIT=221",
    ),
    case(
        "a client that talks first, odd lines, a time-out",
        ("C", b"HELO c\r\n"),
        ("S", b"220-wait\r\n220 mx\r\n250 mx\r\n"),
        ("C", b"\r\nno\x00op\r\nHELP\n"),
        ("S", b"500 what\r\n500 what\r\n214-this\r\n214 that\r\n"),
        ("S", b"421 4.4.2 idle\r\n"),
        expected="greeting=220 HELO=250 -=500 NO\x00OP=500 HELP=214 none=421",
    ),
    case(
        "PROXY, version 1",
        ("C", b"PROXY TCP4 192.0.2.7 192.0.2.8 1000 25\r\n"),
        *HAIL,
        *BYE,
        expected="greeting=220 EHLO=250 QUIT=221",
    ),
    case(
        "PROXY, version 2, then a time-out within the mail data",
        ("C", b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x07\xc0\x00\x02\x08\x03\xe8\x00\x19"),
        *HAIL,
        ("C", b"MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nDATA\r\n"),
        ("S", b"250 ok\r\n250 ok\r\n354 go\r\n"),
        ("C", b"Subject: half\r\n"),
        ("S", b"421 4.4.2 timeout exceeded\r\n"),
        expected="greeting=220 EHLO=250 MAIL=250 RCPT=250 DATA=354 none=421",
    ),
]


def make_stream() -> Stream:
    at = Location("x", 1, START_NS)
    return Stream(0, Endpoint("192.0.2.1", 4000), Endpoint("192.0.2.2", 25), at, at, complete=True)


def chunks_of(turns: tuple[tuple[str, bytes], ...], cuts: list[list[int]]) -> tuple[list[Chunk], list[Chunk]]:
    """The chunks of both sides: each turn in pieces, the acknowledgement being all that the other side said before."""
    stream, said = make_stream(), [0, 0]
    sides: tuple[list[Chunk], list[Chunk]] = ([], [])
    for number, (who, data) in enumerate(turns):
        side: Side = 0 if who == "C" else 1
        at = Location("x", number + 1, START_NS + (number + 1) * 1_000_000)
        edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts[number % len(cuts)])})
        for start, end in pairwise(edges):
            piece = data[start:end]
            sides[side].append(Chunk(stream, side, said[side], piece, at, at, said[1 - side]))
            said[side] += len(piece)
    return sides


def in_wire_order(sides: tuple[list[Chunk], list[Chunk]]) -> list[Chunk]:
    return sorted([*sides[0], *sides[1]], key=lambda chunk: chunk.at.frame)


def merged(sides: tuple[list[Chunk], list[Chunk]], picks: list[bool]) -> list[Chunk]:
    """Both sides, each in its order, put together as ``picks`` say."""
    queues, out, turn = [list(reversed(side)) for side in sides], [], 0
    while queues[0] and queues[1]:
        out.append(queues[1 if picks[turn % len(picks)] else 0].pop())
        turn += 1
    return out + list(reversed(queues[0])) + list(reversed(queues[1]))


def parse(chunks: list[Chunk], lmtp: bool) -> tuple[ConversationParser, dict[Side, bytes]]:
    parser = ConversationParser(lmtp=lmtp, established=Location("x", 0, START_NS))
    for chunk in chunks:
        parser.feed(chunk)
    end = Location("x", 999, START_NS + 10**12)
    parser.close(end)
    parser.close(end)
    tls: dict[Side, bytes] = {0: b"", 1: b""}
    for item in parser.take_tls():
        assert isinstance(item, Chunk)
        tls[item.side] += item.data
    return parser, tls


def signature(parser: ConversationParser, tls: dict[Side, bytes]) -> object:
    """All that has to be the same."""
    exchanges = [
        (
            e.command
            and (e.command.verb, e.command.argument, e.command.line, e.command.oddities, e.command.outstanding),
            e.command and (e.command.offset, e.command.end, e.command.at, e.command.began),
            e.reply and (e.reply.code, e.reply.lines, e.reply.oddities, e.reply.enhanced, e.reply.offset, e.reply.end),
            e.wait_ns,
            e.recipient,
            e.data,
        )
        for e in parser.exchanges
    ]
    injected = [item.data for item in parser.timeline if isinstance(item, Injected)]
    return exchanges, parser.messages, injected, parser.proxy, parser.protocol, parser.tls, tls


@pytest.mark.parametrize("given_case", CASES, ids=lambda one: one.name)
def test_whole_turns_give_what_the_rfc_says(given_case: Case) -> None:
    parser, _ = parse(in_wire_order(chunks_of(given_case.turns, [[]])), given_case.lmtp)
    pairs = [(e.command.verb if e.command else None, e.reply.code if e.reply else None) for e in parser.exchanges]
    assert pairs == list(given_case.expected)


@pytest.mark.parametrize("given_case", CASES, ids=lambda one: one.name)
def test_one_byte_chunks_make_no_difference(given_case: Case) -> None:
    whole = parse(in_wire_order(chunks_of(given_case.turns, [[]])), given_case.lmtp)
    bytewise = parse(in_wire_order(chunks_of(given_case.turns, [list(range(3000))])), given_case.lmtp)
    assert signature(*bytewise) == signature(*whole)


@settings(max_examples=300, deadline=None)
@given(
    given_case=st.sampled_from(CASES),
    cuts=st.lists(st.lists(st.integers(0, 3000), max_size=12), min_size=1, max_size=8),
    picks=st.lists(st.booleans(), min_size=1, max_size=40),
)
def test_cuts_and_order_of_feeding_make_no_difference(
    given_case: Case, cuts: list[list[int]], picks: list[bool]
) -> None:
    """Even where a capture gives one whole direction before the other."""
    whole = parse(in_wire_order(chunks_of(given_case.turns, [[]])), given_case.lmtp)
    recut = parse(merged(chunks_of(given_case.turns, cuts), picks), given_case.lmtp)
    assert signature(*recut) == signature(*whole)


PIECES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [
            *(b"220 mx\r\n", b"250-a\r\n", b"250 ok\r\n", b"354 go\r\n", b"334 \r\n", b"421 no\r\n", b"2"),
            *(b"EHLO c\r\n", b"DATA\r\n", b"BDAT 9\r\n", b"AUTH LOGIN\r\n", b"STARTTLS\r\n", b"MAIL FROM:<a>\r\n"),
            *(
                b"\r\n.\r\n",
                b"\n.\n",
                b"\r",
                b"\n",
                b".",
                b"\x16\x03\x01",
                b"\x16",
                b"PROXY ",
                b"\r\n\r\n\x00\r\nQUIT\n",
            ),
        ]
    ),
)


@settings(max_examples=400, deadline=None)
@given(
    script=st.lists(
        st.tuples(st.sampled_from([0, 1]), PIECES, st.sampled_from(["data", "data", "data", "gap"]), st.booleans()),
        max_size=60,
    ),
    late=st.booleans(),
    tls=st.booleans(),
)
def test_garbage_is_parsed_without_complaint(
    script: list[tuple[Side, bytes, str, bool]], late: bool, tls: bool
) -> None:
    stream, said = make_stream(), [0, 0]
    parser = ConversationParser(Limits(line_bytes=64, header_bytes=64), joined_late=late, implicit_tls=tls)
    for number, (side, data, kind, known) in enumerate(script):
        at = Location("x", number, START_NS + number)
        if kind == "gap":
            parser.gap(Gap(stream, side, said[side], len(data), at, "lost", tls))
        elif data:
            parser.feed(Chunk(stream, side, said[side], data, at, at, said[1 - side] if known else -1, tls))
        said[side] += len(data)
    end = Location("x", 999, START_NS + 999)
    parser.close(end)
    parser.close(end)
    commands = [id(e.command) for e in parser.exchanges if e.command is not None and e.recipient is None]
    replies = [id(e.reply) for e in parser.exchanges if e.reply is not None]
    assert len(set(commands)) == len(commands)
    assert len(set(replies)) == len(replies)
    assert all(e.wait_ns is None or e.wait_ns >= 0 for e in parser.exchanges)


@pytest.mark.parametrize("opening", [b"", b"DATA\r\n", b"STARTTLS\r\n", b"BDAT 99999999999 LAST\r\n"])
@pytest.mark.parametrize("filler", [b"x" * 65536, b"\r" * 65536, b"\n.\n" * 900, b"250-x\r\n" * 900])
def test_memory_is_bounded(opening: bytes, filler: bytes) -> None:
    """Up to 2 MiB each way of lines that never end, or never matter."""
    stream, said = make_stream(), [0, 0]
    parser = ConversationParser(Limits(exchanges=500))
    at = Location("x", 1, START_NS)
    tracemalloc.start()
    try:
        for data, side in [(b"220 mx\r\n", 1), (opening, 0), *[(filler, 0), (filler, 1)] * 32]:
            if data:
                parser.feed(Chunk(stream, 0 if side == 0 else 1, said[side], data, at, at, said[1 - side]))
                said[side] += len(data)
        parser.close(at)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
