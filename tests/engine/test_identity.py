"""Identity by content; the Community IDs are those of the specification's own test vectors."""

import pytest

from smtpdebug.engine.identity import community_id, conversation_id
from smtpdebug.model.streams import Endpoint, Location, Stream


def stream(client: tuple[str, int], server: tuple[str, int], serial: int = 1, ts_ns: int = 5) -> Stream:
    at = Location("a.pcap", 1, ts_ns)
    return Stream(serial, Endpoint(*client), Endpoint(*server), at, at)


@pytest.mark.parametrize(
    ("client", "server", "wanted"),
    [
        (("128.232.110.120", 34855), ("66.35.250.204", 80), "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
        (("66.35.250.204", 80), ("128.232.110.120", 34855), "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
        (
            ("2001:470:e5bf:dead:4957:2174:e82c:4887", 63943),
            ("2607:f8b0:400c:c03::1a", 25),
            "1:/qFaeAR+gFe1KYjMzVDsMv+wgU4=",
        ),
    ],
)
def test_community_id(client: tuple[str, int], server: tuple[str, int], wanted: str) -> None:
    assert community_id(stream(client, server)) == wanted


def test_an_id_is_made_of_endpoints_and_opening_time_and_of_nothing_else() -> None:
    one = stream(("192.0.2.1", 1025), ("192.0.2.2", 25), serial=1)
    assert conversation_id(one) == conversation_id(stream(("192.0.2.1", 1025), ("192.0.2.2", 25), serial=9))
    others = [
        stream(("192.0.2.1", 1026), ("192.0.2.2", 25)),
        stream(("192.0.2.2", 25), ("192.0.2.1", 1025)),
        stream(("192.0.2.1", 1025), ("192.0.2.2", 25), ts_ns=6),
    ]
    assert len({conversation_id(other) for other in [one, *others]}) == 4
