"""Shards: each connection in exactly one of them, both directions, whatever the batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recut import recut, turns
from segments import SYN, Seen, Seg, Wire, batch, numbered
from test_calls import error
from test_recut import by_stream

from smtpdebug.model.packets import Unreachable
from smtpdebug.model.streams import Limits, StreamOpened, TcpStreamEvent
from smtpdebug.tcp.flows import group, key_of, shard_of
from smtpdebug.tcp.reassembly import MAIL_PORTS, Reassembler

MASK64 = (1 << 64) - 1


def follow(
    segments: Sequence[Seg],
    shard: tuple[int, int] | None,
    cuts: Sequence[int] = (),
    unreachable: tuple[Unreachable, ...] = (),
) -> Seen:
    rows = numbered(segments)
    reassembler = Reassembler(Limits(), MAIL_PORTS, shard)
    events: list[TcpStreamEvent] = []
    for begin, end in pairwise([0, *sorted(cuts), len(rows)]):
        if begin < end:
            events.extend(reassembler.feed(batch(rows[begin:end], unreachable=() if begin else unreachable)))
    events.extend(reassembler.close())
    return Seen(events, reassembler)


@st.composite
def traffic(draw: st.DrawFn) -> list[Seg]:
    """A few connections of several addresses and ports, at the same time, IPv4 and IPv6."""
    rows: list[Seg] = []
    for _ in range(draw(st.integers(1, 4))):
        shift, version = draw(st.integers(0, 1000)), draw(st.sampled_from([4, 6]))
        for row in draw(recut(draw(turns()), lose=draw(st.booleans()))).segments:
            ends = (row.src + shift, row.dst + shift) if version == 4 else (row.src << 96 | shift, row.dst << 96)
            ends = (ends[0], ends[1]) if row.dport == 25 or version == 4 else (row.src << 96, row.dst << 96 | shift)
            rows.append(replace(row, src=ends[0], dst=ends[1], version=version))
    return sorted(rows, key=lambda row: row.ts_ns)


@given(traffic(), st.integers(1, 4), st.data())
def test_all_shards_together_are_the_whole(rows: list[Seg], shards: int, data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(rows)), max_size=3))
    seen = [follow(rows, (k, shards), cuts) for k in range(shards)]
    whole = follow(rows, None)
    together = sorted((item for one in seen for item in by_stream(one)), key=repr)
    assert together == sorted(by_stream(whole), key=repr)
    assert sum(one.reassembler.strays for one in seen) == whole.reassembler.strays


@given(traffic(), st.integers(2, 4))
def test_rows_and_keys_agree_on_the_shard(rows: list[Seg], shards: int) -> None:
    """The array operation, and the one for a single key, which ICMP errors need."""
    for k in range(shards):
        grouped = group(batch(rows), (k, shards))
        assert {shard_of(key, shards) for key in grouped.keys} <= {k}
        assert sum(grouped.counts) == sum(
            shard_of(key_of(s.version, _end(s.src, s.sport), _end(s.dst, s.dport))[0], shards) == k for s in rows
        )


def _end(address: int, port: int) -> tuple[int, int, int]:
    return address >> 64, address & MASK64, port


@pytest.mark.parametrize("shards", [2, 3, 4, 8])
def test_clients_of_one_server_are_split_evenly(shards: int) -> None:
    """4000 connections, of which neighbours differ in one port alone: within 15 % of an equal share (4 sigma at 8)."""
    keys = [key_of(4, (0, 0x0A000007, 20000 + i % 1000), (0, 0x0A000100 + i // 1000, 25))[0] for i in range(4000)]
    share = [0] * shards
    for key in keys:
        share[shard_of(key, shards)] += 1
    assert all(abs(count * shards / 4000 - 1) < 0.15 for count in share)


def test_an_icmp_error_goes_with_the_connection_that_it_quotes() -> None:
    wires = [Wire(sport=port) for port in range(30000, 30016)]
    for wire in wires:
        wire.put("C", SYN, -1)
    rows = [segment for wire in wires for segment in wire.segments]
    errors = tuple(error(wire, 1000, wire.now_ns) for wire in wires)
    ports = []
    for k in range(3):
        streams = [e.stream for e in follow(rows, (k, 3), (), errors).events if isinstance(e, StreamOpened)]
        assert [s.refused_by for s in streams] == ["icmp"] * len(streams)
        assert all(len(s.events) == 1 for s in streams), "its own error, and no other"
        ports += [s.client.port for s in streams]
    assert sorted(ports) == list(range(30000, 30016))


def test_a_shard_without_packets_is_silent() -> None:
    rows = Wire().handshake().segments
    given_out = [len(follow(rows, (k, 4)).events) for k in range(4)]
    assert sorted(given_out) == [0, 0, 0, 2]


@pytest.mark.parametrize("shard", [(2, 2), (-1, 2), (0, 0)])
def test_there_is_no_such_shard(shard: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="no such shard"):
        Reassembler(shard=shard)
