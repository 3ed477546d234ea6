"""The order of lines that real servers and clients gave (found by tshark and the servers' logs), paired again by us."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from smtpdebug.testing import dialogue

CORPUS = Path(__file__).parents[2] / "../shared/corpus/mta"
# An end of data that is none, and several replies to one end, need the bytes and the protocol.
TRUTHS = sorted(p for p in CORPUS.glob("*/truth.json") if not {"smuggling", "lmtp"} & set(p.parent.name.split("-")))
pytestmark = [pytest.mark.corpus, pytest.mark.skipif(not TRUTHS, reason="no corpus beside the project")]


def as_dialogue(events: list[dict[str, Any]]) -> str | None:
    """The events as a dialogue; ``None`` where they hold what is not text (TLS, BDAT, PROXY, odd bytes)."""
    lines = []
    for event in events:
        text = event.get("text", "")
        if event.get("tls") or event.get("verb") == "BDAT" or event["kind"] in ("proxy", "garbage", "tls"):
            return None
        if event["kind"] == "data":
            lines += ["C: Subject: x", "C+ .", ""]
        elif event["dir"] == "C":
            lines.append(f"C: {text}")
        else:
            first, *more = text.split("\n")
            lines += [f"S: {first}", *(f"S+ {line}" for line in more)]
    return "\n".join(lines)


def speaks(conversation: dict[str, Any]) -> bool:
    """Whether it can be written down as a dialogue, and has replies."""
    events = conversation["events"]
    return bool(as_dialogue(events)) and any(event["kind"] == "reply" for event in events)


SPOKEN = {
    path.parent.name: spoken
    for path in TRUTHS
    if (spoken := [c["events"] for c in json.loads(path.read_text())["conversations"] if speaks(c)])
}


@pytest.mark.parametrize("case", SPOKEN)
def test_replies_find_their_commands(case: str) -> None:
    for events in SPOKEN[case]:
        text = as_dialogue(events)
        assert text is not None
        answers = {e.reply.lines[0]: e.command for e in dialogue(text).exchanges if e.reply}
        for event in events:
            if event["kind"] != "reply" or sum(event["text"] == other.get("text") for other in events) > 1:
                continue
            command = answers[event["text"].split("\n")[0].encode()]
            asked = event["for"]
            if asked == "unsolicited":
                assert command is None
            elif asked == "greeting":
                assert command is not None
                assert command.verb == "(greeting)"
            elif events[asked]["kind"] == "command":
                assert command is not None
                assert command.line.decode() == events[asked]["text"]
            else:
                assert command is not None
                assert command.verb == "(end of mail data)"
