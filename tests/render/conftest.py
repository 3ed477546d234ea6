"""Conversations built by hand, so that what is written can be told from what was parsed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import pytest

from smtpdebug.model.smtp import AUTH_ANSWER, GREETING, Command, Conversation, Exchange, Reply
from smtpdebug.model.streams import Endpoint, Location, Stream

START_NS = 1_704_067_200_000_000_000
"""2024-01-01T00:00:00Z."""

Talk: TypeAlias = Callable[..., Conversation]


def location(frame: int, ms: float) -> Location:
    return Location("a.pcap", frame, START_NS + round(ms * 1e6))


def build(*said: str, client: str = "10.0.0.7:54170", joined_late: bool = False) -> Conversation:
    """``"C EHLO x"``, ``"S 250-a|250 b"``, ``"A answer"`` (to a 334): one frame and one millisecond each, from 4."""
    ip, port = client.rsplit(":", 1)
    stream = Stream(
        1,
        Endpoint(ip.strip("[]"), int(port)),
        Endpoint("10.0.0.2", 25),
        location(1, 0),
        location(3 + len(said), len(said)),
        complete=True,
        captures=["a.pcap"],
        syn_ns=START_NS,
        last_syn_ns=START_NS,
        syn_ack_ns=START_NS + 100_000,
        established_ns=START_NS + 200_000,
        closed_by="client-fin",
        packets=[10, 8],
        bytes=[100, 90],
    )
    conversation = Conversation(
        stream, id=f"id-{port}", community_id="1:x", outcome="completed", joined_late=joined_late, finished=True
    )
    conversation.exchanges, conversation.timeline = [], []
    waiting: Exchange | None = None
    if said and said[0].startswith("S "):
        waiting = Exchange(Command(GREETING, "", b"", location(3, 0.2), location(3, 0.2)), None)
        conversation.exchanges.append(waiting)
    for number, line in enumerate(said):
        at = location(4 + number, 1.0 + number)
        who, text = line.split(" ", 1)
        if who == "S":
            lines = [part.encode("latin-1") for part in text.split("|")]
            reply = Reply(int(lines[-1][:3]), lines, at, at)
            if waiting is None:
                conversation.exchanges.append(Exchange(None, reply))
            else:
                waiting.reply, waiting.wait_ns, waiting = reply, 1_000_000, None
            conversation.timeline.append(reply)
            continue
        verb, _, argument = text.partition(" ")
        if who == "A":
            verb, argument = AUTH_ANSWER, text
        command = Command(verb if who == "A" else verb.upper(), argument, text.encode("latin-1"), at, at)
        waiting = Exchange(command, None)
        conversation.exchanges.append(waiting)
        conversation.timeline.append(command)
    return conversation


@pytest.fixture
def talk() -> Talk:
    return build


@pytest.fixture
def at() -> Callable[[int, float], Location]:
    """A place by its frame and its milliseconds from the start."""
    return location
