"""Grouping of a batch: every row in its connection, in order, whatever the hash says."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from segments import Seg, batch, numbered

from smtpdebug.tcp.flows import Key, endpoint, group, key_of

MASK64 = (1 << 64) - 1
PRIME = 0x9E3779B97F4A7C15

ADDRESS = st.one_of(st.integers(0, 3), st.integers(0, (1 << 128) - 1))
SEGMENT = st.builds(
    Seg, src=ADDRESS, dst=ADDRESS, sport=st.integers(0, 2), dport=st.integers(0, 2), version=st.sampled_from([4, 6])
)


def expected(segments: list[Seg]) -> dict[Key, list[tuple[int, bool]]]:
    """Row by row: frames and directions of each connection."""
    found: dict[Key, list[tuple[int, bool]]] = {}
    for s in segments:
        key, low = key_of(s.version, (s.src >> 64, s.src & MASK64, s.sport), (s.dst >> 64, s.dst & MASK64, s.dport))
        found.setdefault(key, []).append((s.frame, low))
    return found


def grouped(segments: list[Seg]) -> dict[Key, list[tuple[int, bool]]]:
    result = group(batch(segments))
    found: dict[Key, list[tuple[int, bool]]] = {}
    for key, count in zip(result.keys, result.counts, strict=True):
        assert key not in found
        found[key] = [(row[9], row[0]) for row, _ in zip(result.rows, range(count), strict=False)]
    return found


@given(st.lists(SEGMENT, min_size=1, max_size=30))
def test_rows_are_with_their_connection_in_order(segments: list[Seg]) -> None:
    rows = numbered(segments)
    result = group(batch(rows))
    frames = [row[9] for row in result.rows]
    assert sum(result.counts) == len(rows)
    position, found = 0, {}
    for key, count in zip(result.keys, result.counts, strict=True):
        found[key] = frames[position : position + count]
        position += count
    assert found == {key: [frame for frame, _ in items] for key, items in expected(rows).items()}
    assert list(found) == list(expected(rows)), "connections in order of their first row"


def unmix(value: int) -> int:
    """The inverse of one step of the mix (xor-shift by 29 after a product)."""
    value ^= value >> 29 ^ value >> 58
    return value * pow(PRIME, -1, 1 << 64) & MASK64


def mix(value: int) -> int:
    value = value * PRIME & MASK64
    return value ^ value >> 29


def test_a_collision_made_on_purpose_joins_nothing() -> None:
    """Two IPv6 connections with different ports whose mixes are equal."""
    low_address, high = 5, 0x20010DB8 << 32
    port, other_port = 1111, 2222

    def before_last_address(sport: int) -> int:
        state = 6
        for column in (0, low_address, sport, high):
            state = mix(state ^ column)
        return state

    first_address = 7
    target = before_last_address(port) ^ first_address
    second_address = before_last_address(other_port) ^ target
    rows = numbered(
        [
            Seg(low_address, high << 64 | address, sport, 25, version=6)
            for sport, address in ((port, first_address), (other_port, second_address))
        ]
        * 2
    )
    assert mix(unmix(12345)) == 12345
    result = group(batch(rows))
    assert result.counts == [2, 2]
    assert [row[9] for row in result.rows] == [1, 3, 2, 4]


def test_endpoints_in_words() -> None:
    assert endpoint(4, 0, 0xC0000201, 25).ip == "192.0.2.1"
    assert endpoint(6, 0x20010DB8 << 32, 0x10, 25).ip == "2001:db8::10"
