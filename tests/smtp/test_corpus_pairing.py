"""The order of lines that real servers and clients gave (found by tshark and the servers' logs), paired again by us."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from smtpdebug.testing import dialogue

CORPUS = Path(__file__).parents[2] / "../shared/corpus/mta"
CASES = sorted(CORPUS.glob("*/truth.json"))
pytestmark = [pytest.mark.corpus, pytest.mark.skipif(not CASES, reason="no corpus beside the project")]


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


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.parent.name)
def test_replies_find_their_commands(path: Path) -> None:
    tried = 0
    for conversation in json.loads(path.read_text())["conversations"]:
        events = conversation["events"]
        text = as_dialogue(events)
        # An end of data that is none, and several replies to one end, need the bytes and the protocol.
        if not text or "smuggling" in path.parent.name or "lmtp" in path.parent.name:
            continue
        if not any(event["kind"] == "reply" for event in events):
            continue
        tried += 1
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
    if not tried:
        pytest.skip("nothing in clear text in it")
