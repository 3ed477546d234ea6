"""Conversations go out in order of their first packet, within a budget."""

from hypothesis import given
from hypothesis import strategies as st

from smtpdebug.engine.order import OutputOrder
from smtpdebug.model.smtp import Conversation
from smtpdebug.model.streams import Endpoint, Location, Stream


def conversation(ts_ns: int) -> Conversation:
    at = Location("a.pcap", 1, ts_ns)
    return Conversation(Stream(ts_ns, Endpoint("192.0.2.1", ts_ns), Endpoint("192.0.2.2", 25), at, at))


@given(st.permutations(range(8)))
def test_any_order_of_ends_gives_the_order_of_beginnings(ends: list[int]) -> None:
    order = OutputOrder(budget=100)
    keys = [order.opened(Location("a.pcap", 1, ts_ns), ts_ns) for ts_ns in range(8)]
    out: list[int] = []
    for ts_ns in ends:
        order.finished(keys[ts_ns], conversation(ts_ns))
        ready = [c.stream.opened.ts_ns for c in order.ready()]
        assert ready == list(range(len(out), len(out) + len(ready)))
        out += ready
    assert out == list(range(8))


def test_above_the_budget_the_oldest_finished_go_out_before_the_one_that_never_ends() -> None:
    order = OutputOrder(budget=3)
    order.opened(Location("a.pcap", 1, 0), 0)
    out = []
    for ts_ns in range(1, 11):
        order.finished(order.opened(Location("a.pcap", 1, ts_ns), ts_ns), conversation(ts_ns))
        out += [c.stream.opened.ts_ns for c in order.ready()]
    assert out == list(range(1, 8))
    assert order.let_go_early == 7
    assert [c.stream.opened.ts_ns for c in order.ready(everything=True)] == [8, 9, 10]


def test_one_that_never_ends_does_not_let_the_others_keys_pile_up() -> None:
    order = OutputOrder(budget=3)
    order.opened(Location("a.pcap", 1, 0), 0)
    out = []
    for ts_ns in range(1, 20_001):
        order.finished(order.opened(Location("a.pcap", 1, ts_ns), ts_ns), conversation(ts_ns))
        out += [c.stream.opened.ts_ns for c in order.ready()]
    assert order.held < 5000
    assert out == list(range(1, 19_998))
