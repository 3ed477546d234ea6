"""Wait accounting, on conversations whose times are written down in the test."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpdebug.model.smtp import Conversation
from smtpdebug.model.streams import Location
from smtpdebug.testing import dialogue
from smtpdebug.waits import _in_turn, _shares, _turns, account, rtt_ns

MS = 1_000_000


def shaken(conversation: Conversation, to_server_ms: int, to_client_ms: int) -> Conversation:
    """Put a handshake with these two legs before the conversation, and its end at the last line."""
    stream = conversation.stream
    stream.established_ns = conversation.exchanges[0].command.at.ts_ns  # type: ignore[union-attr]
    stream.syn_ack_ns = stream.established_ns - to_client_ms * MS
    stream.syn_ns = stream.last_syn_ns = stream.syn_ack_ns - to_server_ms * MS
    stream.opened = Location("dialogue", 1, stream.syn_ns)
    last = max(e.reply.at.ts_ns for e in conversation.exchanges if e.reply is not None)
    stream.last = Location("dialogue", 99, last)
    return conversation


TALK = """
S: 220 mx.example.org
-- 99 ms --
C: EHLO client.example.net
-- 299 ms --
S: 250 mx.example.org
-- 49 ms --
C: QUIT
-- 19 ms --
S: 221 bye
"""


def test_turns_of_a_plain_dialogue() -> None:
    """Each line of a dialogue takes 1 ms; the pauses are given."""
    conversation = shaken(dialogue(TALK, gap_ms=1.0), to_server_ms=10, to_client_ms=5)
    latency = account(conversation)

    greeting = conversation.exchanges[0].wait_ns
    assert greeting is not None
    assert latency.tcp_handshake_ns == 15 * MS
    assert rtt_ns(conversation.stream) == 15 * MS
    assert latency.greeting_ns == greeting
    # Client: 100 ms and 50 ms, of each 5 ms on the way; server: 300 and 20 ms, of each 10 ms on the way.
    assert latency.client_ns == (100 - 5 + 50 - 5) * MS
    assert latency.server_ns == (300 - 10 + 20 - 10) * MS + max(0, greeting - 10 * MS)
    assert latency.unknown_ns == 0
    total = conversation.stream.last.ts_ns - conversation.stream.opened.ts_ns
    assert latency.total_ns == total
    assert latency.network_ns == total - latency.client_ns - latency.server_ns


def test_without_a_handshake_the_network_has_no_share_and_the_rest_still_sums_up() -> None:
    conversation = dialogue(TALK)
    stream = conversation.stream
    stream.syn_ns = stream.last_syn_ns = stream.syn_ack_ns = stream.established_ns = None
    latency = account(conversation)
    assert latency.tcp_handshake_ns is None
    assert latency.network_ns == 0
    assert latency.client_ns + latency.server_ns + latency.unknown_ns == latency.total_ns


@pytest.mark.parametrize(
    "text",
    [
        "S: 220 hi\nC: EHLO a\nC+ MAIL FROM:<a@example.net>\nC+ NOOP\nS: 250 hi\nS: 250 ok\nS: 250 ok",
        "C: EHLO early\nS: 220 hi\nS: 250 ok",
        "S: 421 busy",
        "S: 220 hi\nC: EHLO a\nS: 250 hi\nC: MAIL FROM:<a@example.net>\nC: QUIT",
        "S: 220 hi",
    ],
)
def test_the_shares_always_sum_to_the_total(text: str) -> None:
    latency = account(dialogue(text))
    shares = (latency.network_ns, latency.server_ns, latency.client_ns, latency.unknown_ns)
    assert sum(shares) == latency.total_ns
    assert min(shares) >= 0


@given(st.lists(st.integers(-1, 30), min_size=6, max_size=6), st.tuples(st.integers(0, 9), st.integers(0, 9)))
def test_the_short_way_shares_alike(pauses: list[int], legs: tuple[int, int]) -> None:
    """Commands answered in turn need no marks; where times go back, marks are made after all."""
    conversation = shaken(dialogue(TALK), *legs)
    at = conversation.exchanges[0].command.at  # type: ignore[union-attr]
    for exchange, asked, answered in zip(conversation.exchanges, pauses[::2], pauses[1::2], strict=True):
        if exchange is not conversation.exchanges[0]:
            at = Location(at.capture, at.frame, at.ts_ns + asked * MS)
        exchange.command.at = at  # type: ignore[union-attr]
        at = Location(at.capture, at.frame, at.ts_ns + answered * MS)
        exchange.reply.at = at  # type: ignore[union-attr]
    conversation.stream.last = Location(at.capture, at.frame, at.ts_ns + 3 * MS)
    short = _in_turn(conversation)
    assert (short is None) == (min(pauses[1:]) < 0)
    assert short is None or short == _shares(_turns(conversation), conversation.stream)
