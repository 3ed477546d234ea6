"""The captures that ship against the client's own log: ``expect.toml`` was read from it when they were recorded."""

from __future__ import annotations

import ast
import hashlib
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from smtpdebug.api import analyze
from smtpdebug.model.smtp import END_OF_DATA, Conversation
from smtpdebug.model.streams import Gap

CAPTURES = Path(__file__).resolve().parents[2] / "captures"
CASES = sorted(path.parent.name for path in CAPTURES.glob("*/expect.toml"))


@cache
def expected(case: str) -> dict[str, Any]:
    return tomllib.loads((CAPTURES / case / "expect.toml").read_text())


def keys(case: str) -> dict[str, Path]:
    """The key files that come with a case, as options of ``analyze``."""
    return {name: CAPTURES / case / expected(case)[name] for name in ("rsa_key", "keylog") if name in expected(case)}


@cache
def conversations(case: str, decrypt_with: str = "native") -> list[Conversation]:
    files = sorted((CAPTURES / case).glob("capture*.pcap"))
    report = analyze(*files, rules=False, decrypt_with=decrypt_with, **keys(case))
    assert not report.errors
    assert not report.notes
    return report.conversations


def said(conversation: Conversation) -> list[list[Any]]:
    """Verb and code of each exchange; mail data that was not answered is no exchange in a client's log."""
    pairs = [
        [exchange.command.verb if exchange.command else "", exchange.reply.code if exchange.reply else 0]
        for exchange in conversation.exchanges
    ]
    return [pair for pair in pairs if pair != [END_OF_DATA, 0]]


def logged_mail(case: str) -> list[bytes]:
    """Mail data that smtplib logged as sent, transparency undone (RFC 5321 section 4.5.2), end of mail data off."""
    found, after_354 = [], False
    log = CAPTURES / case / "client.log"
    for line in log.read_text().splitlines() if log.exists() else ():
        if line.startswith("reply: retcode ("):
            after_354 = line.startswith("reply: retcode (354)")
        elif line.startswith("send: ") and after_354:
            lines = ast.literal_eval(line[6:]).removesuffix(b".\r\n").split(b"\r\n")
            found.append(b"\r\n".join(each[1:] if each.startswith(b".") else each for each in lines))
    return found


def test_there_are_captures_of_each_kind() -> None:
    assert len(CASES) >= 20
    assert {"plain", "pipelining", "bdat", "starttls-rsa", "tls13-keylog", "rotated", "loss", "gap"} <= set(CASES)


@pytest.mark.parametrize("case", [case for case in CASES if not expected(case).get("stays_closed")])
def test_verbs_and_codes_are_those_of_the_clients_log(case: str) -> None:
    wanted = [each["exchanges"] for each in expected(case)["conversation"]]
    found = [said(conversation) for conversation in conversations(case)]
    if expected(case).get("codes_only"):
        wanted = [[code for _, code in each] for each in wanted]
        codes = [[reply.reply.code for reply in each.exchanges if reply.reply] for each in conversations(case)]
        assert codes == wanted
    else:
        assert found == wanted


@pytest.mark.parametrize("case", [case for case in CASES if keys(case) and not expected(case).get("stays_closed")])
def test_tshark_opens_what_the_native_decryptor_opens(case: str) -> None:
    by_tshark = conversations(case, "tshark")
    assert [each.tls and each.tls.decryptor for each in by_tshark] == ["tshark"] * len(by_tshark)
    assert [said(each) for each in by_tshark] == [each["exchanges"] for each in expected(case)["conversation"]]


@pytest.mark.parametrize("case", [case for case in CASES if expected(case).get("stays_closed")])
def test_what_cannot_be_opened_says_why(case: str) -> None:
    (conversation,) = conversations(case)
    assert conversation.tls is not None
    assert not conversation.tls.decrypted
    assert conversation.tls.reason == expected(case)["stays_closed"]
    opened = said(conversation)
    assert opened == expected(case)["conversation"][0]["exchanges"][: len(opened)]
    assert opened[-1] == ["STARTTLS", 220]


@pytest.mark.parametrize("case", [case for case in CASES if "tls" in expected(case) and keys(case)])
def test_tls_is_seen_as_it_was_started(case: str) -> None:
    (conversation,) = conversations(case)
    assert conversation.tls is not None
    assert conversation.tls.mode == expected(case)["tls"]
    if expected(case).get("sni", expected(case)["witness"] != "swaks"):
        assert conversation.tls.server_name == "mx.example.org"


@pytest.mark.parametrize("case", [case for case in CASES if logged_mail(case) and case != "gap"])
def test_mail_data_is_what_the_client_logged(case: str) -> None:
    data = [message.data for each in conversations(case) for message in each.messages if message.data]
    mail = logged_mail(case)
    assert [each.bytes for each in data] == [len(each) for each in mail]
    assert [each.sha256 for each in data] == [hashlib.sha256(each).hexdigest() for each in mail]


def test_the_time_of_a_slow_greeting() -> None:
    (conversation,) = conversations("slow-greeting")
    low, high = expected("slow-greeting")["greeting_takes_ms"]
    assert conversation.latency.greeting_ns is not None
    assert low <= conversation.latency.greeting_ns / 1e6 <= high


def test_a_packet_taken_out_is_a_gap_of_its_length() -> None:
    (conversation,) = conversations("gap")
    gaps = [item.length for item in conversation.timeline if isinstance(item, Gap)]
    assert gaps == [expected("gap")["gap_bytes"]]
    (message,) = conversation.messages
    assert message.data is not None
    assert message.data.missing == gaps[0]
    assert message.data.sha256 is None, "a hash of what is not whole would be a guess"


def test_a_refused_connection_is_a_conversation_without_a_word() -> None:
    (conversation,) = conversations("refused")
    assert conversation.outcome == expected("refused")["outcome"]
    assert conversation.stream.refused_by == "rst"


def test_lmtp_is_named_and_replies_belong_to_recipients() -> None:
    (conversation,) = conversations("lmtp")
    assert conversation.protocol == "lmtp"
    replies = {each.recipient: each.reply.code for each in conversation.exchanges if each.recipient and each.reply}
    assert {str(name).strip("<>"): code for name, code in replies.items()} == {
        "alice@example.org": 250,
        "bob@example.org": 452,
    }


def test_losses_on_the_way_are_counted_as_retransmissions() -> None:
    (conversation,) = conversations("loss")
    # The relay lost three segments of the client and one of the server; the client's side has both copies of each.
    assert conversation.stream.retransmissions[0] >= 3
    assert conversation.stream.missing == [0, 0]


def test_a_smuggled_message_is_seen_in_the_mail_data() -> None:
    for case in ("smuggling", "smuggling-accepted"):
        (conversation,) = conversations(case)
        ends = [end for message in conversation.messages if message.data for end in message.data.odd_ends]
        assert ends, case
        assert ends[0].sequence == b"\n.\r\n"
        assert ends[0].following.startswith(b"MAIL FROM:<admin@example.org>")
