"""A conversation that never ends holds no more than its limits allow, whichever side keeps talking."""

from __future__ import annotations

import tracemalloc

import pytest

from smtpdebug.model.streams import CLIENT, SERVER, Chunk, Endpoint, Gap, Limits, Location, Side, Stream
from smtpdebug.smtp.parser import ConversationParser

AT = Location("x", 1, 1_700_000_000_000_000_000)
LIMITS = Limits(exchanges=50)


class Talk:
    """Feeds a parser, keeping the offsets of both sides."""

    def __init__(self) -> None:
        ends = Endpoint("192.0.2.1", 40000), Endpoint("192.0.2.2", 25)
        self.stream = Stream(1, *ends, AT, AT, complete=True)
        self.parser = ConversationParser(LIMITS)
        self.said = [0, 0]

    def say(self, side: Side, data: bytes) -> None:
        self.parser.feed(Chunk(self.stream, side, self.said[side], data, AT, AT, self.said[1 - side]))
        self.said[side] += len(data)

    def lose(self, side: Side, length: int) -> None:
        self.parser.gap(Gap(self.stream, side, self.said[side], length, AT, "lost"))
        self.said[side] += length


@pytest.mark.parametrize(
    ("opening", "client", "server"),
    [
        ([b"NOOP\r\n", b"250 ok\r\n"], b"NOOP\r\n", b"250 ok\r\n"),
        # The server does not wait for the end of the mail data, or of the chunk.
        ([b"DATA\r\n", b"354 go\r\n"], b"text\r\n", b"250 ok\r\n"),
        ([b"BDAT 999999999\r\n", b"250 ok\r\n"], b"text\r\n", b"250 ok\r\n"),
        ([b"NOOP\r\n", b"250 ok\r\n"], b"BDAT 1\r\nx", b"250 ok\r\n"),
    ],
)
def test_what_is_kept_does_not_grow(opening: list[bytes], client: bytes, server: bytes) -> None:
    talk = Talk()
    talk.say(SERVER, b"220 mx\r\n")
    talk.say(CLIENT, opening[0])
    talk.say(SERVER, opening[1])

    def rounds(count: int) -> None:
        for _ in range(count):
            talk.say(CLIENT, client)
            talk.say(SERVER, server)

    rounds(1000)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        rounds(3000)
        # 3,000 replies would be more than 1 MB; a few hundred may wait for their commands.
        assert tracemalloc.get_traced_memory()[0] - before < 200_000
    finally:
        tracemalloc.stop()
    assert len(talk.parser.exchanges) <= LIMITS.exchanges
    assert len(talk.parser.timeline) <= 4 * LIMITS.exchanges
    assert talk.parser.truncated


def test_gap_after_gap() -> None:
    talk = Talk()
    talk.say(SERVER, b"220 mx\r\n")
    for _ in range(1000):
        talk.lose(CLIENT, 100)
        talk.say(CLIENT, b"x")
    assert len(talk.parser.timeline) <= 4 * LIMITS.exchanges
    assert talk.parser.truncated
