"""The short way reads what it reads exactly as the long way does."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpdebug.model.streams import CLIENT, SERVER, Chunk, Endpoint, Gap, Limits, Location, Side, Stream
from smtpdebug.smtp.lockstep import usual
from smtpdebug.smtp.parser import ConversationParser
from smtpdebug.sources.files import open_captures
from smtpdebug.tcp.reassembly import Reassembler

CAPTURES = Path(__file__).parents[2] / "captures"
Turn: TypeAlias = tuple[Side, bytes]
LIMITS = Limits(body_bytes=1 << 20)


def talk(said: list[Turn]) -> list[Chunk | Gap]:
    """Each turn in a packet of its own, a millisecond apart, acknowledging all that came before."""
    at = Location("made", 1, 0)
    stream = Stream(1, Endpoint("192.0.2.1", 1025), Endpoint("192.0.2.2", 25), at, at, complete=True)
    sent = [0, 0]
    chunks: list[Chunk | Gap] = []
    for number, (side, data) in enumerate(said, 1):
        place = Location("made", number, number * 1_000_000)
        chunks.append(Chunk(stream, side, sent[side], data, place, place, sent[1 - side]))
        sent[side] += len(data)
    return chunks


def long_way(chunks: list[Chunk | Gap]) -> ConversationParser:
    parser = ConversationParser(LIMITS)
    for chunk in chunks:
        if isinstance(chunk, Gap):
            parser.gap(chunk)
        else:
            parser.feed(chunk)
    parser.close(chunks[-1].at)
    return parser


def same(chunks: list[Chunk | Gap]) -> bool:
    """Whether the short way was open; if so, it gives what the long way gives."""
    short = usual(chunks, LIMITS, None)
    if short is None:
        return False
    parser = long_way(chunks)
    assert short.exchanges == parser.exchanges
    assert short.messages == parser.messages
    assert short.timeline == parser.timeline
    assert (short.protocol, short.proxy, short.truncated) == (parser.protocol, parser.proxy, parser.truncated)
    return True


GREETING: Turn = (SERVER, b"220 mx.example.org ESMTP\r\n")
EHLO: list[Turn] = [(CLIENT, b"EHLO client.example.net\r\n"), (SERVER, b"250-mx.example.org\r\n250 SIZE 1000\r\n")]
MAIL: list[Turn] = [(CLIENT, b"MAIL FROM:<a@example.net>\r\n"), (SERVER, b"250 2.1.0 Ok\r\n")]
RCPT: list[Turn] = [(CLIENT, b"rcpt to:<b@example.org>\r\n"), (SERVER, b"250 2.1.5 Ok\r\n")]
REFUSED: list[Turn] = [(CLIENT, b"RCPT TO:<c@example.org> \r\n"), (SERVER, b"550 5.1.1 no such user\r\n")]
DATA: list[Turn] = [(CLIENT, b"DATA\r\n"), (SERVER, b"354 go ahead\r\n")]
MESSAGE: list[Turn] = [
    (CLIENT, b"Subject: hello\r\nFrom: a@example.net\r\n\r\nline\r\n"),
    (CLIENT, b"..dotted\r\n8-bit \xe9\r\n.un-dotted\r\n" + b"x" * 1200 + b"\r\nthe end.\r\n"),
    (CLIENT, b".\r\n"),
    (SERVER, b"250 2.0.0 Ok: queued\r\n"),
]
QUIT: list[Turn] = [(CLIENT, b"QUIT\r\n"), (SERVER, b"221 2.0.0 Bye\r\n")]
NO_DATA: list[Turn] = [(CLIENT, b"DATA\r\n"), (SERVER, b"554 5.5.1 no valid recipients\r\n")]


def test_a_delivery_takes_the_short_way() -> None:
    assert same(talk([GREETING, *EHLO, *MAIL, *RCPT, *REFUSED, *DATA, *MESSAGE, *MAIL, *RCPT, *NO_DATA, *QUIT]))


@pytest.mark.parametrize(
    "said",
    [
        [GREETING, *EHLO, (CLIENT, b"QUIT\r\n")],
        [(SERVER, b"554 no\r\n"), *QUIT],
        [GREETING, *EHLO, (CLIENT, b"STARTTLS\r\n"), (SERVER, b"220 go ahead\r\n")],
        [GREETING, *EHLO, *MAIL, *RCPT, *DATA, (CLIENT, b".\r\n"), (SERVER, b"250 ok\r\n")],
        [GREETING, *EHLO, *MAIL, *RCPT, *DATA, (CLIENT, b"a\n.\r\n.\r\n"), (SERVER, b"250 ok\r\n")],
        [GREETING, *EHLO, *MAIL, *RCPT, *DATA, (CLIENT, b"a\r\n.\r\nQUIT\r\n"), (SERVER, b"250 ok\r\n221 bye\r\n")],
        [GREETING, (CLIENT, b"EHLO a\r\nMAIL FROM:<>\r\n"), (SERVER, b"250 a\r\n250 ok\r\n"), *QUIT],
        [GREETING, (CLIENT, b"EHLO a\n"), (SERVER, b"250 a\r\n"), *QUIT],
        [GREETING, *EHLO, (SERVER, b"421 time out\r\n")],
    ],
)
def test_what_is_not_one_command_at_a_time_is_left_to_the_long_way(said: list[Turn]) -> None:
    assert not same(talk(said))


ALL: list[list[Turn]] = [EHLO, MAIL, RCPT, REFUSED, [*DATA, *MESSAGE], NO_DATA, QUIT,
                         [(CLIENT, b"NOOP  x\r\n"), (SERVER, b"250\r\n")],
                         [(CLIENT, b"RSET\r\n"), (SERVER, b"250 2.0.0 Ok\r\n")],
                         [(CLIENT, b"XYZZY\r\n"), (SERVER, b"500 what\r\n")],
                         [(CLIENT, b"VRFY \xff\x00\r\n"), (SERVER, b"252 \xe9\r\n")],
                         [(CLIENT, b"HELP\r\n"), (SERVER, b"214-this\r\n215 that\r\n")]]  # fmt: skip


@given(st.lists(st.sampled_from(ALL), max_size=8), st.booleans())
def test_any_turns(turns: list[list[Turn]], cut: bool) -> None:
    chunks = talk([GREETING, *(line for turn in turns for line in turn)])
    same(chunks[:-1] if cut and len(chunks) > 2 else chunks)


@pytest.mark.parametrize("case", sorted(p.parent.name for p in CAPTURES.glob("*/capture.pcap")))
def test_shipped_captures(case: str) -> None:
    chunks: dict[int, list[Chunk | Gap]] = {}
    reassembler = Reassembler()
    for batch in open_captures([CAPTURES / case / "capture.pcap"]):
        for event in reassembler.feed(batch):
            if isinstance(event, Chunk | Gap):
                chunks.setdefault(event.stream.serial, []).append(event)
    short = [same(said) for said in chunks.values()]
    assert case != "plain" or all(short)
