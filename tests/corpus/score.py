"""Scores the program against the corpus: commands, codes, order and times as independent truth has them.

Run by hand for the table (``python tests/corpus/score.py``); ``test_corpus.py`` asserts it.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smtpdebug.api import analyze
from smtpdebug.model.smtp import Conversation
from smtpdebug.model.streams import Chunk
from smtpdebug.sources.files import open_captures
from smtpdebug.tcp.reassembly import Reassembler

CORPUS = Path(__file__).resolve().parents[2].parent / "shared" / "corpus"


@dataclass
class Score:
    case: str
    wanted: int = 0
    right: int = 0
    faults: list[str] = field(default_factory=list)

    def check(self, what: str, ours: object, truth: object) -> None:
        self.wanted += 1
        if ours == truth:
            self.right += 1
        else:
            self.faults.append(f"{what}: ours {ours!r}, truth {truth!r}")


@dataclass(frozen=True)
class Said:
    """A command or a reply, as far as both kinds of truth know it."""

    side: str
    word: str
    at_us: int
    frame: int


def ours(conversation: Conversation) -> list[Said]:
    """Commands and replies of one conversation, each side in order."""
    commands: list[tuple[Said, object]] = []
    replies = []
    for exchange in conversation.exchanges:
        command, reply = exchange.command, exchange.reply
        if command is not None and (not command.verb.startswith("(") or command.verb == "(auth)"):
            word = "(auth)" if command.verb == "(auth)" else command.verb
            said = Said("C", word, round(command.at.ts_ns / 1000), command.at.frame)
            if not commands or commands[-1][1] is not command:
                commands.append((said, command))
        if reply is not None:
            replies.append(Said("S", str(reply.code), round(reply.at.ts_ns / 1000), reply.at.frame))
    return [said for said, _ in commands] + sorted(replies, key=lambda said: said.at_us)


def _micro(text: str) -> int:
    seconds, _, fraction = str(text).partition(".")
    return int(seconds) * 1_000_000 + round(int(fraction.ljust(9, "0")[:9]) / 1000)


def mta_truth(conversation: dict[str, Any], *, encrypted: bool) -> list[Said]:
    commands, replies = [], []
    for event in conversation["events"]:
        if event.get("tls") and not encrypted:
            continue
        if event["kind"] == "command":
            word = "(auth)" if event.get("auth_continuation") else event["verb"]
            commands.append(Said("C", word, _micro(f"{event['t']:.6f}"), event["frame"]))
        elif event["kind"] == "reply":
            at = _micro(f"{event['t_last']:.6f}")
            replies.append(Said("S", str(event["code"]), at, event["frame"]))
    return commands + sorted(replies, key=lambda said: said.at_us)


def public_truth(conversation: dict[str, Any]) -> list[Said]:
    commands, replies = [], []
    for event in conversation["events"]:
        if event["dir"] == "S":
            replies.append(Said("S", str(event["code"]), _micro(event["t"]), event["frame"]))
        elif event["verb"] == "<auth-response>":
            commands.append(Said("C", "(auth)", _micro(event["t"]), event["frame"]))
        elif not event["verb"].startswith("<"):
            commands.append(Said("C", event["verb"], _micro(event["t"]), event["frame"]))
    return commands + sorted(replies, key=lambda said: said.at_us)


def compare(score: Score, name: str, mine: list[Said], truth: list[Said], *, same_packets: bool = True) -> None:
    """``same_packets``: the truth was read off these very packets, so that times and frames must be equal."""
    for side in "CS":
        got = [said for said in mine if said.side == side]
        want = [said for said in truth if said.side == side]
        what = f"{name} {'commands' if side == 'C' else 'replies'}"
        score.check(what, [said.word for said in got], [said.word for said in want])
        if len(got) == len(want):
            for one, two in zip(got, want, strict=True):
                if same_packets:
                    score.check(f"{what} time of {two.word} #{two.frame}", abs(one.at_us - two.at_us) <= 1, True)
                    score.check(f"{what} frame of {two.word}", one.frame, two.frame)


def _endpoints(conversation: Conversation) -> tuple[str, str]:
    stream = conversation.stream

    def text(end: Any) -> str:
        return f"[{end.ip}]:{end.port}" if ":" in end.ip else f"{end.ip}:{end.port}"

    return text(stream.client), text(stream.server)


def _plain(endpoint: str) -> str:
    host, _, port = endpoint.rpartition(":")
    return f"{host.strip('[]')}:{port}"


def find(conversations: list[Conversation], client: str, server: str, start_us: int) -> Conversation | None:
    """The conversation between these endpoints that began closest to ``start_us``."""
    same = [
        c
        for c in conversations
        if {_plain(_endpoints(c)[0]), _plain(_endpoints(c)[1])} == {_plain(client), _plain(server)}
    ]
    return min(same, key=lambda c: abs(c.stream.opened.ts_ns // 1000 - start_us), default=None)


def mta_cases() -> Iterator[Score]:
    for folder in sorted((CORPUS / "mta").iterdir()):
        if (folder / "truth.json").is_file():
            yield score_mta(folder)


def score_mta(folder: Path) -> Score:
    truth = json.loads((folder / "truth.json").read_text())
    score = Score(f"mta/{folder.name}")
    keys = truth.get("keys") or {}
    rsa = [folder / name for name in keys.get("server_key") or [] if (folder / name).is_file()]
    keylog = [folder / keys["keylog"]] if keys.get("keylog") else []
    together = folder.name.startswith(("19-", "08b-"))
    reference = truth["reference_capture"]
    sets = [truth["captures"]] if together else [[name] for name in truth["captures"]]
    if not together and [reference] not in sets and (folder / reference).is_file():
        sets.append([reference])
    for captures in sets:
        same_packets = captures == [reference]
        paths = [folder / name for name in captures]
        report = analyze(*paths, rsa_key=rsa, keylog=keylog, rules=False)
        partial = folder.name.startswith("18i") and not same_packets
        for wanted in truth["conversations"]:
            name = f"{'+'.join(captures)[:20]} conv {wanted['id']}"
            start = _micro(f"{wanted['start_epoch']:.6f}")
            conversation = find(report.conversations, wanted["client"], wanted["server"], start)
            if conversation is None:
                score.check(name, "not found", "found")
                continue
            expected = mta_truth(wanted, encrypted=bool(rsa or keylog))
            mine = ours(conversation)
            if partial:
                first = min((said.at_us for said in mine), default=0)
                last = conversation.stream.last.ts_ns // 1000
                expected = [said for said in expected if first - 1 <= said.at_us <= last + 1]
            compare(score, name, mine, expected, same_packets=same_packets)
            if not partial:
                accepted = sum(1 for m in conversation.messages if m.code is not None and m.code // 100 == 2)
                score.check(f"{name} messages accepted", accepted, wanted["messages"]["accepted"])
    return score


def public_cases() -> Iterator[Score]:
    folder = CORPUS / "public"
    truths = [json.loads(line) for line in (folder / "truth" / "_auto_GIVE.jsonl").read_text().splitlines()]
    truths += [json.loads(p.read_text()) for p in sorted((folder / "truth").glob("[a-z]*.json"))]
    for truth in truths:
        if not (folder / truth["capture"]).is_file():
            continue
        score = Score(f"public/{truth['name']}")
        report = analyze(folder / truth["capture"], rules=False)
        for wanted in truth["conversations"]:
            name = f"conv {wanted['tcp_stream']}"
            conversation = find(report.conversations, wanted["client"], wanted["server"], _micro(wanted["start"]))
            if conversation is None:
                score.check(name, "not found", "found")
                continue
            compare(score, name, ours(conversation), public_truth(wanted))
            _messages(score, name, conversation, wanted)
        yield score


def _messages(score: Score, name: str, conversation: Conversation, wanted: dict[str, Any]) -> None:
    # Where dots were doubled the truth hashes the data as sent; ours is with transparency undone (RFC 5321 4.5.2).
    want = [
        (e["wire_bytes"], None if e["dot_stuffed_lines"] else e["sha256"])
        for e in wanted["events"]
        if e.get("verb") == "<message>" and "sha256" in e
    ]
    got = [
        (e.data.wire_bytes, None if e.data.stuffed else e.data.sha256)
        for e in conversation.exchanges
        if e.data is not None and e.command is not None and e.command.verb != "BDAT"
    ]
    score.check(f"{name} messages", got, want)


def derived_cases() -> Iterator[Score]:
    folder = CORPUS / "public"
    bases = {p.stem: json.loads(p.read_text()) for p in (folder / "truth").glob("[a-z]*.json")}
    for truth in json.loads((folder / "truth" / "_derived_GIVE.json").read_text()):
        score = Score(f"public/{truth['capture']}")
        report = analyze(folder / truth["capture"], rules=False)
        smtp = [c for c in report.conversations if c.protocol in ("smtp", "lmtp")]
        base = bases.get(truth["base_truth"])
        if "snaplen" in truth["capture"]:
            # Lines are cut short: the codes survive, and nothing may be made up.
            codes = [said.word for c in smtp for said in ours(c) if said.side == "S"]
            wanted = [said.word for c in base["conversations"] for said in public_truth(c) if said.side == "S"]  # type: ignore[index]
            score.check("every reply is one of the base", set(codes) <= set(wanted) and len(codes) > 30, True)
            yield score
            continue
        if truth["tools"]["convs"] == 0 or base is None:
            score.check("conversations", len(report.conversations), 0)
            yield score
            continue
        mine = sorted((said.side, said.word) for c in smtp for said in ours(c))
        want = sorted((said.side, said.word) for c in base["conversations"] for said in public_truth(c))
        score.check("commands and replies", mine, want)
        yield score


def lab_cases() -> Iterator[Score]:
    folder = CORPUS / "public"
    for truth in json.loads((folder / "truth" / "_lab_GIVE.json").read_text()):
        score = Score(f"public/{truth['capture']}")
        secret = {}
        if truth["key"]:
            secret = {"rsa_key" if truth["key"].endswith(".key") else "keylog": folder / truth["key"]}
        report = analyze(folder / truth["capture"], rules=False, **secret)
        mine = [said for c in report.conversations for said in ours(c)]
        want = [
            Said(
                e["dir"],
                "STARTTLS" if e.get("verb") == "STAR" else str(e.get("verb", e.get("code"))),
                _micro(e["t"]),
                e["frame"],
            )
            for e in truth["events_tshark"]
        ]
        compare(score, "all", mine, want)
        yield score


def stream_cases() -> Iterator[Score]:
    """Bytes of each direction of each TCP stream, hashed."""
    folder = CORPUS / "public"
    wanted: dict[str, list[dict[str, Any]]] = {}
    for line in (folder / "truth" / "_tcp_streams_GIVE.jsonl").read_text().splitlines():
        if line.strip():
            truth = json.loads(line)
            wanted.setdefault(truth["capture"], []).append(truth)
    for capture, truths in wanted.items():
        if not (folder / capture).is_file():
            continue
        score = Score(f"streams/{capture}")
        reassembler = Reassembler()
        got: dict[int, dict[str, bytearray]] = {}
        for batch in [*open_captures([str(folder / capture)]), None]:
            for event in reassembler.feed(batch) if batch is not None else reassembler.close():
                if type(event) is Chunk:
                    ends = (event.stream.client, event.stream.server)
                    end = f"{ends[event.side].ip}:{ends[event.side].port}"
                    got.setdefault(event.stream.serial, {}).setdefault(end, bytearray()).extend(event.data)
        have = {(end, len(data), hashlib.sha256(data).hexdigest()) for s in got.values() for end, data in s.items()}
        for truth in truths:
            for direction in truth["dirs"]:
                if direction["bytes"]:
                    key = (_plain(direction["from"]), direction["bytes"], direction["sha256"])
                    near = [(e, n) for e, n, _ in have if e == key[0]]
                    score.check(f"stream {truth['tcp_stream']} {key[:2]}", key if key in have else near, key)
        yield score


def main() -> None:
    only = sys.argv[1] if len(sys.argv) > 1 else ""
    total = Score("all")
    for cases in (mta_cases, public_cases, derived_cases, lab_cases, stream_cases):
        for score in cases():
            if only not in score.case:
                continue
            total.wanted += score.wanted
            total.right += score.right
            print(f"{score.right:5}/{score.wanted:<5} {score.case}")
            for fault in score.faults if only else score.faults[:3]:
                print(f"        {fault[:600]}")
    print(f"{total.right:5}/{total.wanted:<5} all")


if __name__ == "__main__":
    main()
