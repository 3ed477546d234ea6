from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from smtpdebug.render.interleave import Interleaver

CONVERSATIONS = st.lists(st.tuples(st.integers(0, 100), st.lists(st.integers(0, 50), max_size=5)), max_size=8).map(
    lambda pairs: sorted(pairs, key=lambda pair: pair[0])
)


@given(CONVERSATIONS)
def test_lines_come_by_time_and_none_is_lost(conversations: list[tuple[int, list[int]]]) -> None:
    written: list[tuple[int, int]] = []
    interleaver: Interleaver[tuple[int, int]] = Interleaver(written.append)
    expected = []
    for number, (start, offsets) in enumerate(conversations):
        times = sorted(start + offset for offset in offsets)
        expected += [(ts, number) for ts in times]
        interleaver.conversation(start, [(ts, (ts, number)) for ts in times])
    interleaver.close()
    assert written == sorted(expected, key=lambda pair: pair[0])


def test_lines_are_given_as_soon_as_none_can_come_before() -> None:
    written: list[str] = []
    interleaver: Interleaver[str] = Interleaver(written.append)
    interleaver.conversation(0, [(1, "a"), (9, "b")])
    interleaver.conversation(5, [(6, "c")])
    assert written == ["a"]


def test_a_conversation_keeps_its_own_order() -> None:
    """Capture order is not wire order: an item may bear an earlier time than the one above it."""
    written: list[str] = []
    interleaver: Interleaver[str] = Interleaver(written.append)
    interleaver.conversation(0, [(5, "first"), (3, "second")])
    interleaver.close()
    assert written == ["first", "second"]
