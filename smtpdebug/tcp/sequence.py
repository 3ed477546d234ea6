"""TCP sequence numbers: 32 bits that wrap (RFC 9293 section 3.4), compared by signed distance."""

from __future__ import annotations

from typing import Final

MASK: Final = 0xFFFFFFFF
HALF_SPACE: Final = 1 << 31
WILD: Final = 1 << 30
"""Farther from what is expected than the largest window (RFC 7323 section 2.3) a number means nothing."""


def ahead(seq: int, reference: int) -> int:
    """How far ``seq`` lies after ``reference``, in octets; negative when before. In ``[-2**31, 2**31)``."""
    distance = (seq - reference) & MASK
    return distance - (1 << 32) if distance >= HALF_SPACE else distance


def plausible(distance: int) -> bool:
    """Whether a distance can be that of a segment of the same connection."""
    return -WILD < distance < WILD
