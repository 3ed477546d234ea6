"""Sequence arithmetic across the wrap (RFC 9293 section 3.4)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpdebug.tcp.sequence import ahead, plausible


@pytest.mark.parametrize(
    ("seq", "reference", "distance"),
    [(5, 3, 2), (3, 5, -2), (1, 0xFFFFFFFF, 2), (0xFFFFFFFF, 1, -2), (0x80000000, 0, -(1 << 31)), (7, 7, 0)],
)
def test_distance(seq: int, reference: int, distance: int) -> None:
    assert ahead(seq, reference) == distance


@given(st.integers(0, (1 << 32) - 1), st.integers(-(1 << 31), (1 << 31) - 1))
def test_distance_is_found_again(reference: int, distance: int) -> None:
    assert ahead((reference + distance) % (1 << 32), reference) == distance


def test_farther_than_any_window_is_not_plausible() -> None:
    assert plausible(1 << 20)
    assert not plausible(1 << 30)
    assert not plausible(-(1 << 30))
