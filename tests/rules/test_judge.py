"""The judge: same findings live or whole, however chosen; silent where evidence is missing; never raises."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpdebug.model.findings import Severity
from smtpdebug.model.smtp import Conversation, Exchange
from smtpdebug.rules import registry
from smtpdebug.rules.judge import Judge, RuleSet
from smtpdebug.rules.registry import Indeterminate, UnknownRuleError
from smtpdebug.rules.verdicts import Verdicts
from smtpdebug.testing import dialogue

RULES = RuleSet()

CLEAN = """
S: 220 mx.example.org ESMTP
C: EHLO client.example.net
S: 250-mx.example.org
S+ 250-PIPELINING
S+ 250-SIZE 10240000
S+ 250-ENHANCEDSTATUSCODES
S+ 250-8BITMIME
S+ 250 DSN
C: MAIL FROM:<a@example.net> SIZE=40 BODY=8BITMIME
C+ RCPT TO:<b@example.org>
C+ DATA
S: 250 2.1.0 Ok
S+ 250 2.1.5 Ok
S+ 354 End data with <CR><LF>.<CR><LF>
C: From: a@example.net
C+
C+ hello
C+ .
C+ QUIT
S: 250 2.0.0 Ok: queued as 123
S+ 221 2.0.0 Bye
S closes
C closes
"""


def loud(conversation: Conversation) -> list[str]:
    return [f"{f.rule} {f.message}" for f in RuleSet().judge(conversation) if f.severity is not Severity.NOTE]


def test_a_clean_pipelined_delivery_is_clean() -> None:
    assert RULES.judge(dialogue(CLEAN)) == []


def test_a_rcpt_pipelined_behind_a_refused_mail_is_not_blamed_on_the_client() -> None:
    assert (
        loud(
            dialogue(
                """
                S: 220 mx.example.org ESMTP
                C: EHLO client.example.net
                S: 250-mx.example.org
                S+ 250 PIPELINING
                C: MAIL FROM:<a@example.net>
                C+ RCPT TO:<b@example.org>
                C+ DATA
                S: 550 no
                S+ 503 need MAIL
                S+ 503 need RCPT
                C: QUIT
                S: 221 bye
                """
            )
        )
        == []
    )


@pytest.mark.parametrize("start", range(2, 17))
def test_a_capture_that_begins_anywhere_accuses_nobody(start: int) -> None:
    lines = [line for line in CLEAN.strip().splitlines() if not line.startswith(("S+ 250-", "C+ From"))]
    rest = "\n".join(line.replace("+ ", ": ", 1) if number == 0 else line for number, line in enumerate(lines[start:]))
    assert loud(dialogue(rest, joined_late=True)) == []


@pytest.mark.parametrize("place", range(2, 20))
@pytest.mark.parametrize("side", "CS")
def test_a_gap_anywhere_makes_no_error_of_a_clean_conversation(place: int, side: str) -> None:
    lines = CLEAN.strip().splitlines()
    lines.insert(place, f"-- gap {side} 30 --")
    text = "\n".join(
        line.replace("+ ", ": ", 1) if number and lines[number - 1].startswith("-- gap") else line
        for number, line in enumerate(lines)
    )
    assert [said for said in loud(dialogue(text)) if not said.startswith(("SD", "ST", "SL"))] == []


def test_live_and_whole_give_the_same_findings() -> None:
    conversation = dialogue(
        """
        S: 220 mx.example.org ESMTP
        C: HELO localhost
        S: 250 mx.example.org
        C: RCPT TO:<b@example.org>
        S: 503 need MAIL
        C: MAIL FROM: <a@example.net>
        S: 554 no
        C: FROB
        S: 250 OK
        C closes
        """
    )
    whole = RuleSet().judge(conversation)
    live = Judge(RuleSet(), conversation)
    as_it_goes = [f for exchange in conversation.exchanges for f in live.exchange(exchange)]
    assert len(as_it_goes) > 3, "exchange rules fire as traffic flows"
    found = as_it_goes + live.close()
    assert sorted((f.rule, f.at.frame, f.message, f.exchange or -1) for f in found) == sorted(
        (f.rule, f.at.frame, f.message, f.exchange or -1) for f in whole
    )


def test_a_finding_knows_its_exchange_where_many_share_a_packet() -> None:
    """Not by frame: the three replies are in one."""
    found = RULES.judge(dialogue(CLEAN.replace("250 2.1.5 Ok", "299 2.1.5 Ok")))
    assert {f.exchange for f in found} == {3}, "greeting, EHLO, MAIL, RCPT"


def test_findings_come_in_order_of_their_place() -> None:
    conversation = dialogue("S: 220 *****\nC: MAIL FROM:a\nS: 254 hm\nC: QUIT now\nS: 250 bye\nS closes")
    frames = [finding.at.frame for finding in RULES.judge(conversation)]
    assert frames == sorted(frames)
    assert len(frames) >= 5


def test_select_ignore_and_severity() -> None:
    text = "S: 220 mx.example.org\nC: FROB\nS: 500 what\nC: MAIL FROM:<a@example.net>\nS: 250 OK"
    every = {finding.rule for finding in RULES.judge(dialogue(text))}
    assert {"SC120", "SC102"} <= every
    only = RuleSet(["SC"], ["SC120"]).judge(dialogue(text))
    assert {finding.rule for finding in only} == {rule for rule in every if rule.startswith("SC")} - {"SC120"}
    named = RuleSet(["mail-before-hello"], severities={"commands": "note"}).judge(dialogue(text))
    assert [(f.rule, f.severity) for f in named] == [("SC102", Severity.NOTE)]
    assert RuleSet(["timing"]).judge(dialogue(text)) == []
    with pytest.raises(UnknownRuleError, match="XX999"):
        RuleSet(["XX999"])


def test_preview_rules_wait_to_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    before = dict(registry._rules)

    @registry.rule(id="SR999", on=Exchange, severity=Severity.NOTE, since="9", refs=("RFC 5321",), status="preview")
    def always(exchange: Exchange):  # type: ignore[no-untyped-def]
        """Always."""
        assert exchange.command is not None
        yield exchange.command.at, Indeterminate("who knows")

    try:
        text = "S: 220 mx.example.org"
        assert "SR999" not in [f.rule for f in RuleSet().judge(dialogue(text))]
        assert "SR999" in [f.rule for f in RuleSet(preview=True).judge(dialogue(text))]
        (finding,) = RuleSet(["SR999"]).judge(dialogue(text))
        assert finding.indeterminate
        assert finding.message == "who knows"
    finally:
        registry._rules.clear()
        registry._rules.update(before)


def test_the_catalogue_is_of_the_promised_size() -> None:
    rules = registry.all_rules()
    assert len(rules) >= 90
    assert {rule.family for rule in rules} == set(registry.FAMILIES.values())
    assert len({rule.name for rule in rules}) == len(rules)


def test_a_second_conversation_with_a_server_knows_the_first() -> None:
    text = "S: 220 mx.example.org\nC: EHLO c.example.net\nS: 250-mx.example.org\nS: 250 "
    offered, masked = text + "STARTTLS", text + "8BITMIME"
    inside = offered + "\nC: STARTTLS\nS: 220 go\n-- tls --\nC: EHLO c.example.net\nS: 250-mx.example.org\nS: 250 SIZE"
    assert steady(offered, offered, inside) == []
    assert steady(masked, masked) == []
    assert steady(offered, masked) == [("STARTTLS is not offered here and was in frame 4 of dialogue", 4)]
    assert steady(inside, masked) == [("STARTTLS is not offered here and was in frame 4 of dialogue", 4)]
    assert steady(masked, inside) == [("STARTTLS is offered here and was not in frame 4 of dialogue", 4)]
    assert steady(offered, masked, rules=RuleSet(ignore=["ST109"])) == []


def test_comparisons_have_the_severity_of_the_run_and_their_place_among_the_others() -> None:
    verdicts = Verdicts(RuleSet(severities={"ST109": "error"}))
    text = "S: 220 mx.example.org\nC: EHLO c.example.net\nS: 250-mx.example.org\nS: 250 {}\nC: FROB\nS: 500 what"
    verdicts.judge(dialogue(text.format("STARTTLS")))
    second = dialogue(text.format("SIZE"))
    verdicts.judge(second)
    (found,) = (f for f in second.findings if f.rule == "ST109")
    assert found.severity is Severity.ERROR
    assert second.findings[-1].rule != "ST109"
    frames = [f.at.frame for f in second.findings]
    assert frames == sorted(frames)


def steady(*texts: str, rules: RuleSet | None = None) -> list[tuple[str, int]]:
    verdicts = Verdicts(rules)
    conversations = [dialogue(text) for text in texts]
    for conversation in conversations:
        verdicts.judge(conversation)
    return [(f.message, f.at.frame) for c in conversations for f in c.findings if f.rule == "ST109"]


def test_verdicts_fill_in_findings_and_diagnoses() -> None:
    conversation = dialogue("S: 554 5.7.1 you are on a blocklist, see https://example.org/why\nC: QUIT\nS: 221 bye")
    Verdicts().judge(conversation)
    assert [finding.rule for finding in conversation.findings] == ["SR164"]
    assert conversation.diagnoses


def test_what_may_be_a_secret_is_not_quoted() -> None:
    secret = "AGFsaWNlAHNlY3JldA=="
    conversation = dialogue(
        f"""
        S: 220 mx.example.org ESMTP
        C: EHLO client.example.net
        S: 250-mx.example.org
        S: 250 AUTH PLAIN LOGIN
        C: AUTH PLAIN {secret}
        S: 535 5.7.8 failed
        C: {secret}
        S: 500 5.5.2 unknown command {secret}
        C: AUTH LOGIN
        S: 334 VXNlcm5hbWU6
        C: {secret[:-1]}
        S: 501 cannot decode
        """
    )
    assert secret[:12] not in repr(RuleSet().judge(conversation))


def test_a_size_in_other_digits_than_ours_is_no_number() -> None:
    text = "S: 220 mx.example.org\nC: EHLO c.example.net\nS: 250-mx.example.org\nS: 250 SIZE 1000\n"
    for size in ("²", "٣٣٣٣٣"):
        assert "SC160" not in {f.rule for f in RULES.judge(dialogue(f"{text}C: MAIL FROM:<a@example.net> SIZE={size}"))}
    assert "SC160" in {f.rule for f in RULES.judge(dialogue(f"{text}C: MAIL FROM:<a@example.net> SIZE=1001"))}


LINES = st.sampled_from(
    [
        "C: EHLO a.example.net", "C: HELO [1.2.3.4", "C: MAIL FROM:<a@b> SIZE=x BODY=", "C: MAIL FROM:<\"a@b>",
        "C: RCPT TO:<>", "C: RCPT TO:<@a:b@c> NOTIFY=NEVER,DELAY ORCPT=x", "C: DATA", "C: .", "C:", "C: BDAT 3 LAST",
        "C: BDAT 99999999999999999999", "C! abc", "C! \\x00\\xff\\r\\n", "C: RSET x", "C: QUIT", "C: AUTH PLAIN =",
        "C: AUTH", "C: *", "C: STARTTLS", "C: GET / HTTP/1.0", "C: XCLIENT ADDR=1.2.3.4", "C: LHLO a", "-- 400s --",
        "S: 220 mx", "S: 250 ok", "S: 250-", "S: 250-SIZE 1", "S: 354 go", "S: 334 ", "S: 235 ok", "S: 421 no",
        "S: 550 4.7.1 x", "S: 999", "S: x", "S! \\xff\\r\\n", "S: 503 5.5.1 no", "-- tls --", "-- gap 5 --",
        "-- gap S 5 --", "C+ RCPT TO:<b@c>", "C+ DATA", "S+ 250 ok",
    ]
)  # fmt: skip


@given(st.lists(LINES, max_size=30), st.sampled_from(["", "S closes", "C closes", "C resets", "S resets"]))
def test_no_traffic_makes_a_rule_raise(lines: list[str], end: str) -> None:
    conversation = dialogue("\n".join([*lines, end]))
    whole = RULES.judge(conversation)
    live = Judge(RULES, conversation)
    found = [f for exchange in conversation.exchanges for f in live.exchange(exchange)] + live.close()
    key = [(f.at.ts_ns, f.rule, f.message) for f in whole if not f.rule.startswith("ST1")]
    assert sorted(key) == sorted((f.at.ts_ns, f.rule, f.message) for f in found if not f.rule.startswith("ST1"))


def _unknown_commands(lines: str) -> list[str]:
    hello = "S: 220 mx.example.org ESMTP\nC: EHLO client.example.net\nS: 250 mx.example.org\n"
    return [finding.message for finding in RuleSet(["SC120"]).judge(dialogue(hello + lines))]


def test_a_run_of_junk_is_told_once() -> None:
    junk = r"C! \x01\x02\xff\r\n\xfe\xfd\r\n\r\n{json:1}\r\n" + "\nS: 500 what\nS: 500 what\nS: 500 what\nS: 500 what\n"
    assert _unknown_commands(junk) == ["a line that begins with no command"]
    # answered one by one it is the same run; a command between ends it
    assert len(_unknown_commands("C: {1}\nS: 500 what\nC: {2}\nS: 500 what")) == 1
    assert len(_unknown_commands("C: {1}\nS: 500 what\nC: NOOP\nS: 250 OK\nC: {2}\nS: 500 what")) == 2
    # words are told one by one
    assert _unknown_commands("C: FROB\nS: 500 what\nC: QUUX\nS: 500 what") == [
        "unknown command FROB",
        "unknown command QUUX",
    ]
