"""Hypothesis strategies: what two ends said, cut into segments from scratch in every way a wire can.

A conversation is a list of turns ``(side, bytes)``. :func:`recut` forgets how it was sent: each turn is cut and
joined at any octet, parts of it are sent again overlapping what was there, the order is disturbed, and segments may
be lost from the capture. What the ends said is unchanged, so what must come out is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

from hypothesis import strategies as st
from segments import ACK, FIN, Seg, Wire

Turn: TypeAlias = tuple[str, bytes]

REACH = 6
"""How many places a segment may be displaced: well under the reassembler's grace of 16 packets."""


@dataclass
class Recut:
    """A capture and what it must give, by side (client, server)."""

    segments: list[Seg]
    sent: tuple[bytes, bytes]
    captured: tuple[set[int], set[int]]
    """Offsets that at least one captured segment carried."""

    def missing(self, side: int) -> list[tuple[int, int]]:
        """Runs ``(begin, end)`` of octets that were sent and not captured."""
        runs: list[tuple[int, int]] = []
        for offset in range(len(self.sent[side])):
            if offset in self.captured[side]:
                continue
            if runs and runs[-1][1] == offset:
                runs[-1] = (runs[-1][0], offset + 1)
            else:
                runs.append((offset, offset + 1))
        return runs


def turns() -> st.SearchStrategy[list[Turn]]:
    """What was said: a few turns of up to some hundred octets that differ from place to place."""
    size = st.one_of(st.integers(1, 12), st.integers(1, 300))
    return st.lists(st.tuples(st.sampled_from("CS"), size), min_size=1, max_size=8).map(
        lambda sizes: [(side, _text(index, size)) for index, (side, size) in enumerate(sizes)]
    )


def _text(index: int, size: int) -> bytes:
    return bytes((index * 61 + position * 7 + position // 251) % 256 for position in range(size))


@st.composite
def recut(
    draw: st.DrawFn, said: Sequence[Turn], *, lose: bool = False, disturb: bool = True, handshake: bool = True
) -> Recut:
    """The turns on the wire, with handshake and close."""
    isn = st.one_of(st.integers(0, (1 << 32) - 1), st.integers((1 << 32) - 400, (1 << 32) - 1))
    wire = Wire(client_isn=draw(isn), server_isn=draw(isn), step_ns=1000)
    wire.handshake()
    done = {"C": 0, "S": 0}
    kept: list[Seg] = list(wire.segments) if handshake else []
    captured: tuple[set[int], set[int]] = (set(), set())
    for side, data in said:
        other = "S" if side == "C" else "C"
        parts = _parts(draw, len(data), repeat=disturb)
        if disturb:
            parts = _displaced(draw, parts)
        for begin, end in parts:
            segment = wire.put(side, ACK, done[side] + begin, done[other], data[begin:end])
            if not lose or draw(st.integers(0, 5)):
                kept.append(segment)
                captured[side == "S"].update(range(done[side] + begin, done[side] + end))
        done[side] += len(data)
        kept.append(wire.put(other, ACK, done[other], done[side]))
    kept.append(wire.put("C", FIN | ACK, done["C"], done["S"]))
    kept.append(wire.put("S", FIN | ACK, done["S"], done["C"] + 1))
    kept.append(wire.put("C", ACK, done["C"] + 1, done["S"] + 1))
    sent = (b"".join(d for s, d in said if s == "C"), b"".join(d for s, d in said if s == "S"))
    return Recut(kept, sent, captured)


def _parts(draw: st.DrawFn, size: int, *, repeat: bool) -> list[tuple[int, int]]:
    """Ranges that cover ``size`` octets, and others that overlap them."""
    edges = sorted({0, size, *draw(st.lists(st.integers(0, size), max_size=6))})
    parts = list(pairwise(edges))
    if repeat:
        extra = draw(st.lists(st.tuples(st.integers(0, size), st.integers(0, size)), max_size=3))
        for begin, end in extra:
            if begin != end:
                parts.insert(draw(st.integers(0, len(parts))), (min(begin, end), max(begin, end)))
    return parts


def _displaced(draw: st.DrawFn, parts: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Bounded disorder: each part moves back by at most ``REACH`` places."""
    keys = [index + draw(st.integers(0, REACH)) for index in range(len(parts))]
    return [part for _, part in sorted(zip(keys, parts, strict=True), key=lambda item: item[0])]


@st.composite
def swapped(draw: st.DrawFn, segments: Sequence[Seg]) -> list[Seg]:
    """Capture order is not wire order: neighbours of different sides change places (two taps, several queues)."""
    rows = list(segments)
    for index in draw(st.lists(st.integers(3, max(3, len(rows) - 2)), max_size=4, unique=True)):
        if index + 1 < len(rows) and rows[index].sport != rows[index + 1].sport:
            rows[index], rows[index + 1] = rows[index + 1], rows[index]
    return rows
