from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpdebug.render.clock import delta, milliseconds, rfc3339, span


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "1970-01-01T00:00:00.000000000Z"),
        (1_704_067_200_000_000_001, "2024-01-01T00:00:00.000000001Z"),
        (1_709_210_096_123_456_789, "2024-02-29T12:34:56.123456789Z"),
    ],
)
def test_rfc3339(ns: int, text: str) -> None:
    assert rfc3339(ns) == text


@given(st.integers(0, 4_000_000_000_000_000_000))
def test_rfc3339_says_the_time_to_the_nanosecond(ns: int) -> None:
    text = rfc3339(ns)
    second = datetime.datetime.fromisoformat(text[:19] + "+00:00")
    assert int(second.timestamp()) * 1_000_000_000 + int(text[20:29]) == ns


def test_times_that_no_clock_shows_do_not_raise() -> None:
    """A broken capture may hold any 64-bit number."""
    for ns in (-1, -(1 << 63), (1 << 63) - 1, 1 << 70):
        assert rfc3339(ns).endswith("Z")


@given(st.integers(0, 10**15))
def test_milliseconds_keep_the_nanosecond(ns: int) -> None:
    value = milliseconds(ns)
    assert value is not None
    assert round(value * 1_000_000) == ns
    assert len(repr(value).partition(".")[2]) <= 6


def test_unknown_stays_unknown() -> None:
    assert milliseconds(None) is None


def test_durations_for_people() -> None:
    assert [delta(ns) for ns in (0, 412_000, 6_003_200_000, 61_240_000_000, -300_000, -1)] == [
        "+0.0 ms", "+0.4 ms", "+6003.2 ms", "+61.2 s", "-0.3 ms", "+0.0 ms",
    ]  # fmt: skip
    assert [span(ns) for ns in (350_000_000, 2_140_000_000, 245_000_000_000)] == ["350 ms", "2.1 s", "4 min 5 s"]
