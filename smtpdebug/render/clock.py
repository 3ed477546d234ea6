"""Times as text: RFC 3339 in UTC with nanoseconds, and durations."""

from __future__ import annotations

import datetime
from functools import lru_cache

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_LAST_SECOND = 253_402_300_799
"""9999-12-31T23:59:59Z: RFC 3339 has four digits for the year."""


@lru_cache(maxsize=4096)
def _prefix(second: str) -> str:
    """``2024-01-01T00:00:00.`` of a second since the epoch; remembered, since packets come many to a second."""
    moment = _EPOCH + datetime.timedelta(seconds=min(max(int(second), 0), _LAST_SECOND))
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") if moment.year > 999 else ""


def rfc3339(ts_ns: int) -> str:
    """Nanoseconds since the epoch as ``2024-01-01T00:00:00.000000000Z`` (RFC 3339 section 5.6)."""
    if ts_ns < 1_000_000_000:
        second, fraction = divmod(ts_ns, 1_000_000_000)
        return f"{_prefix(str(second))}{fraction:09d}Z"
    # To cut the digits is quicker than to divide and to format what is left.
    digits = str(ts_ns)
    return f"{_prefix(digits[:-9])}{digits[-9:]}Z"


def milliseconds(duration_ns: int | None) -> float | None:
    """Nanoseconds as milliseconds; exact to the nanosecond, ``None`` stays ``None``."""
    return None if duration_ns is None else duration_ns / 1_000_000


def delta(duration_ns: int) -> str:
    """Time since the line before: ``+0.4 ms``; from a minute on ``+61.2 s``."""
    sign = "-" if duration_ns <= -50_000 else "+"  # never -0.0
    duration_ns = abs(duration_ns)
    if duration_ns >= 60_000_000_000:
        return f"{sign}{duration_ns / 1e9:.1f} s"
    return f"{sign}{duration_ns / 1e6:.1f} ms"


def span(duration_ns: int) -> str:
    """A duration in a sentence: ``350 ms``, ``2.1 s``, ``4 min 5 s``."""
    if duration_ns < 1_000_000_000:
        return f"{duration_ns / 1e6:.0f} ms"
    seconds = duration_ns / 1e9
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"
