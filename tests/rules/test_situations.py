"""What happened on the wire, packet by packet, and what must and must not be said of it."""

from __future__ import annotations

import pytest

from smtpdebug.rules.examples import apply_facts, bare
from smtpdebug.rules.verdicts import Verdicts
from smtpdebug.testing import dialogue

HAIL = "S: 220 mx.example.org ESMTP\nC: EHLO client.example.net\nS: 250 mx.example.org\n"
MAIL = HAIL + "C: MAIL FROM:<a@example.net>\n"
DATA = MAIL + "S: 250 2.1.0 Ok\nC: RCPT TO:<b@example.org>\nS: 250 2.1.5 Ok\nC: DATA\nS: 354 go\nC: Subject: x\nC: .\n"
SITUATIONS = {
    "MAIL never answered, the client says QUIT after a minute": (MAIL + "-- 60s --\nC: QUIT\nC closes", {"D92"}),
    "MAIL never answered, the client leaves": (MAIL + "-- 60s --\nC closes", {"D92"}),
    "EHLO never answered": ("S: 220 mx ESMTP\nC: EHLO client.example.net\n-- 300s --\nC closes", {"D92"}),
    "the client pauses between commands": (HAIL + "-- 20s --\nC: QUIT\nS: 221 bye\nC closes", {"D86"}),
    "the reply to the end of data comes when the client is gone": (
        DATA + "-- 8s --\nC closes\n-- 8s --\nS: 250 2.0.0 queued\nC resets",
        {"D59"},
    ),
    "the server closes an idle connection and the client speaks after that": (
        HAIL + "S closes\n-- 400s --\nC: MAIL FROM:<a@example.net>\nS resets",
        set(),
    ),
    "the server says 421 to an idle client and closes": (
        HAIL
        + "-- 300s --\nS: 421 4.4.2 mx Error: timeout exceeded\nS closes\n"
        + "-- 90s --\nC: MAIL FROM:<a@example.net>\nS resets",
        {"D53"},
    ),
    "a look-up behind the server times out": (
        MAIL + "-- 30s --\nS: 451 4.4.3 DNS lookup timeout\nC: QUIT\nS: 221 bye",
        {"D85", "D87"},
    ),
    "the client pauses amid the mail data": (
        DATA.replace("C: .\n", "C:\nC: hello\n-- 40s --\nC: world\nC: .\n")
        + "S: 250 ok\nC: QUIT\nS: 221 bye\nC closes",
        {"D86"},
    ),
    "a client without QUIT": (DATA + "S: 250 2.0.0 queued\nC closes", {"D74"}),
}


@pytest.mark.parametrize("name", SITUATIONS)
def test_what_is_said_of_a_dialogue(name: str) -> None:
    said, expected = SITUATIONS[name]
    conversation = dialogue(said)
    Verdicts().judge(conversation)
    assert {one.id for one in conversation.diagnoses} == expected


def diagnosed(said: str, facts: str) -> set[str]:
    conversation = dialogue(said)
    apply_facts(conversation, facts)
    Verdicts().judge(conversation)
    return {one.id for one in conversation.diagnoses}


def again(side: str, offset: int, length: int, *ms: int) -> str:
    return "".join(
        f'{{ kind = "retransmission", side = "{side}", offset = {offset}, length = {length}, ms = {at} }},' for at in ms
    )


STUCK = "[stream]\nbytes = [{bytes}, 400]\npackets = [90, 60]\nretransmissions = [3, 0]\nevents = [{events}]\n"


def test_a_big_packet_that_never_passes_is_a_matter_of_its_size_only_where_none_passed_before() -> None:
    early = STUCK.format(bytes=6000, events=again("client", 120, 1448, 300, 900, 2100))
    late = STUCK.format(bytes=90000, events=again("client", 86880, 1448, 300, 900, 2100))
    assert "D12" in diagnosed(DATA, early)
    assert "D12" not in diagnosed(DATA, late)


@pytest.mark.parametrize(
    ("note", "asked"),
    [("ICMP type 3 code 4 from 192.0.2.1, next-hop MTU 1400", True), ("ICMP type 3 code 1 from 192.0.2.1", False)],
)
def test_only_one_kind_of_icmp_asks_for_smaller_packets(note: str, asked: bool) -> None:
    told = f'{{ kind = "unreachable", side = "client", note = "{note}", ms = 350 }},'
    conversation = dialogue(DATA)
    apply_facts(conversation, STUCK.format(bytes=6000, events=told + again("client", 120, 1448, 300, 900, 2100)))
    Verdicts().judge(conversation)
    (hole,) = (one for one in conversation.diagnoses if one.id == "D12")
    assert ("ICMP asks for smaller packets" in hole.says) is asked


def test_a_command_that_the_network_lost_is_not_the_servers_slowness() -> None:
    """The command is sent at 3 ms; its third copy, at 8 s, is answered at once."""
    slow = HAIL + "-- 8s --\nC: MAIL FROM:<a@example.net>\n-- 8s --\nS: 250 2.1.0 Ok\nC: QUIT\nS: 221 bye"
    conversation = dialogue(slow)
    asked = conversation.exchanges[2].command
    assert asked is not None
    offset, length = asked.offset, asked.end - asked.offset
    answered = conversation.exchanges[2].reply
    assert answered is not None
    ms = (answered.began.ts_ns - conversation.stream.opened.ts_ns) // 1_000_000
    apply_facts(
        conversation,
        f"[stream]\nretransmissions = [2, 0]\nevents = [{again('client', offset, length, ms - 5000, ms - 1)}]\n",
    )
    Verdicts().judge(conversation)
    assert "D85" not in {one.id for one in conversation.diagnoses}


def test_a_window_that_closes_twice_is_told_with_both_times() -> None:
    events = "".join(
        f'{{ kind = "{kind}", side = "server", ms = {ms} }},'
        for kind, ms in (("zero-window", 100), ("window-open", 400), ("zero-window", 500), ("window-open", 9500))
    )
    conversation = dialogue(DATA + "S: 250 ok")
    apply_facts(conversation, f"[stream]\nzero_windows = [0, 2]\nbytes = [90000, 400]\nevents = [{events}]\n")
    Verdicts().judge(conversation)
    (stuck,) = (one for one in conversation.diagnoses if one.id == "D13")
    assert "9.3 s" in stuck.says
    assert "2 times, at most 9.0 s" in stuck.says


def test_a_server_that_never_greets_is_said_to_be_silent() -> None:
    facts = """
[stream]
syn_ms = 0
last_syn_ms = 0
syn_ack_ms = 1
established_ms = 2
closed_by = "client-fin"
last_ms = 30002
"""
    conversation = bare()
    apply_facts(conversation, "server_port = 25\n" + facts)
    Verdicts().judge(conversation)
    (silent,) = (one for one in conversation.diagnoses if one.id == "D92")
    assert "did not greet for 30.0 s" in silent.says
