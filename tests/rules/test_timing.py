"""Rules on time at their edges, against the figures of RFC 5321 section 4.5.3.2."""

from __future__ import annotations

import pytest

from smtpdebug.rules.judge import RuleSet
from smtpdebug.testing import dialogue


def found(text: str) -> list[str]:
    conversation = dialogue(text)
    findings = RuleSet(select=("SL",)).judge(conversation)
    return [f.rule for f in (findings if findings is not None else conversation.findings)]


@pytest.mark.parametrize(
    ("wait", "rules"), [("1900ms", []), ("2100ms", ["SL101"]), ("29s", ["SL101"]), ("31s", ["SL102"])]
)
def test_greeting(wait: str, rules: list[str]) -> None:
    assert found(f"-- {wait} --\nS: 220 mx.example.org ESMTP\nC: QUIT\nS: 221 bye") == rules


def test_a_greeting_that_trickles_counts_to_its_last_line() -> None:
    assert found("S: 220-mx.example.org\n-- 6s --\nS: 220 mx.example.org\nC: QUIT\nS: 221 bye") == ["SL101"]


TO_DOT = """
    S: 220 mx.example.org ESMTP
    C: EHLO a.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 Ok
    C: RCPT TO:<b@example.org>
    S: 250 Ok
    C: DATA
    S: 354 go
    C: Subject: x
    C: .
"""


# 4.5.3.2.6: ten minutes after the final dot.
@pytest.mark.parametrize(("wait", "told"), [("4s", False), ("30s", True), ("599s", True), ("605s", False)])
def test_client_gives_up_after_the_dot(wait: str, told: bool) -> None:
    assert ("SL103" in found(TO_DOT + f"-- {wait} --\nC closes")) is told


@pytest.mark.parametrize(("wait", "rules"), [("29s", []), ("31s", ["SL107"]), ("601s", ["SL106"])])
def test_final_reply(wait: str, rules: list[str]) -> None:
    assert found(TO_DOT + f"-- {wait} --\nS: 250 Ok\nC: QUIT\nS: 221 bye\nC closes") == rules


# 4.5.3.2.7: the server waits five minutes at least.
@pytest.mark.parametrize(("wait", "told"), [("10s", True), ("290s", True), ("300s", False), ("400s", False)])
def test_server_gives_up(wait: str, told: bool) -> None:
    text = "S: 220 mx.example.org ESMTP\nC: EHLO a.example.net\nS: 250 mx.example.org\n"
    assert ("SL104" in found(text + f"-- {wait} --\nS: 421 4.4.2 timeout\nS closes")) is told


def test_421_for_another_reason_is_no_impatience() -> None:
    text = (
        "S: 220 mx.example.org ESMTP\nC: EHLO a.example.net\nS: 250 mx.example.org\n-- 10s --\nS: 421 4.3.2 shutdown\n"
    )
    assert "SL104" not in found(text)


def test_a_reply_lost_from_the_capture_is_no_impatience_of_the_client() -> None:
    text = "S: 220 mx.example.org ESMTP\nC: EHLO a.example.net\nS: 250 mx.example.org\nC: MAIL FROM:<a@example.net>\n"
    assert "SL103" in found(text + "-- 20s --\nC closes")
    assert "SL103" not in found(text + "-- gap S 30 --\n-- 20s --\nC closes")
