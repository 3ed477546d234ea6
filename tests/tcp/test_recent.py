"""Octets given out are kept for comparison with later copies: enough of them, in few pieces, whatever the segments."""

from __future__ import annotations

from collections import deque

import pytest

from smtpdebug.model.streams import CLIENT, Endpoint, Location, Stream
from smtpdebug.tcp.half import PIECES, RECENT, Half, Held

AT = Location("a.pcap", 1, 0)


@pytest.mark.parametrize("size", [1, 100, 1460, 65_535])
def test_pieces_and_octets_are_bounded_and_the_last_ones_are_there(size: int) -> None:
    """Segments of an octet each must not make a list of 65,536 that is walked for each of them."""
    stream = Stream(1, Endpoint("192.0.2.1", 40000), Endpoint("192.0.2.2", 25), AT, AT)
    half = Half(stream, CLIENT, deque())
    half.begin(1, certain=True)
    for number in range(3000):
        data = bytes([number % 251]) * size
        half.deliver(Held(half.next, half.next + size, data, AT, 0, number), AT)
        assert len(half.recent) <= PIECES
    half.trim()
    kept = b"".join(half.recent)
    assert len(kept) >= min(RECENT, 3000 * size)
    assert len(kept) < RECENT + max(size, PIECES * size)
    last = bytes([2999 % 251]) * size
    assert half.conflicts(half.next - size, last) == 0
    assert half.conflicts(half.next - size, b"\xff" * size) == size
