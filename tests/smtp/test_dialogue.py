from __future__ import annotations

import doctest

import pytest

import smtpdebug.testing
from smtpdebug.model.streams import Location
from smtpdebug.testing import dialogue, dialogue_with_marks


def test_the_module_tells_the_truth() -> None:
    assert doctest.testmod(smtpdebug.testing).failed == 0


def test_frames_and_times() -> None:
    conversation = dialogue("S: 220 mx\nC: QUIT\nS: 221 bye\nS closes", start="2024-05-06T07:08:09Z", gap_ms=2)
    places = [e.reply.at for e in conversation.exchanges if e.reply]
    # 2024-05-06T07:08:09Z is 1714979289 seconds after the epoch.
    start = 1_714_979_289 * 10**9
    assert places == [Location("dialogue", 1, start + 2_000_000), Location("dialogue", 3, start + 6_000_000)]
    assert conversation.stream.closed_by == "server-fin"
    assert conversation.stream.bytes == [6, 17]


def test_marks() -> None:
    _, marks = dialogue_with_marks("S: 220 mx  <- SR001\nC: NOOP\nC+ QUIT <- SR002, SR003")
    assert [(rule, at.frame) for rule, at in marks] == [("SR001", 1), ("SR002", 2), ("SR003", 2)]


def test_marks_are_not_part_of_the_line() -> None:
    conversation = dialogue("S: 220 mx <- SR001")
    assert conversation.exchanges[0].reply is not None
    assert conversation.exchanges[0].reply.lines == [b"220 mx"]


def test_raw_bytes() -> None:
    conversation = dialogue("S: 220 mx\nC! NO\\x00OP\\t\\\\\\r\\n")
    command = conversation.exchanges[1].command
    assert command is not None
    assert command.line == b"NO\x00OP\t\\"


def test_an_unknown_line_is_refused() -> None:
    with pytest.raises(ValueError, match="not a line of a dialogue"):
        dialogue("X: what")
