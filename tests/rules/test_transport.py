"""Rules on STARTTLS, TLS, TCP and variants: when they must be silent, and what is compared."""

from __future__ import annotations

import pytest

from smtpdebug.model.smtp import Conversation
from smtpdebug.rules.examples import apply_facts, bare
from smtpdebug.rules.judge import RuleSet
from smtpdebug.rules.scope import concerns_mail
from smtpdebug.rules.verdicts import Verdicts
from smtpdebug.testing import dialogue
from smtpdebug.tls.names import covers


def judged(conversation: Conversation, *select: str, verdicts: Verdicts | None = None) -> list[str]:
    (verdicts or Verdicts(RuleSet(select=select or ("ST",)))).judge(conversation)
    return [f.rule for f in conversation.findings]


def facts(text: str) -> Conversation:
    conversation = bare()
    apply_facts(conversation, text)
    return conversation


# RFC 6125 section 6.4: case does not matter, the star stands for one whole label, the leftmost one.
@pytest.mark.parametrize(
    ("names", "host", "expected"),
    [
        (["mx.example.org"], "MX.Example.ORG", True),
        (["mx.example.org"], "mx.example.org.", True),
        (["*.example.org"], "mx.example.org", True),
        (["*.example.org"], "a.mx.example.org", False),
        (["*.example.org"], "example.org", False),
        (["mx*.example.org"], "mx1.example.org", False),
        (["other.example.org", "mx.example.org"], "mx.example.org", True),
        ([], "mx.example.org", False),
    ],
)
def test_names_of_a_certificate(names: list[str], host: str, expected: bool) -> None:
    assert covers(names, host) is expected


def test_tls_and_tcp_of_other_programs_are_not_judged() -> None:
    https = facts('server_port = 443\nprotocol = "tls"\n[tls]\nversion = "TLS 1.0"\n')
    refused = facts('server_port = 139\nprotocol = "unknown"\n[stream]\nsyn_ms = 0\nrefused_by = "rst"\n')
    assert not concerns_mail(https)
    assert judged(https) == []
    assert judged(refused) == []


def test_smtp_counts_on_any_port() -> None:
    conversation = dialogue("S: 220 mx.example.org ESMTP\nC: QUIT\nS: 221 bye", port=40025)
    assert concerns_mail(conversation)


OFFER = "S: 220 mx.example.org ESMTP\nC: EHLO a.example.net\nS: 250-mx.example.org\nS: 250 {}\nC: QUIT\nS: 221 bye\n"


def test_a_lost_offer_of_starttls_is_told_whichever_comes_first() -> None:
    verdicts = Verdicts(RuleSet(select=("ST109",)))
    assert judged(dialogue(OFFER.format("STARTTLS")), verdicts=verdicts) == []
    assert judged(dialogue(OFFER.format("8BITMIME")), verdicts=verdicts) == ["ST109"]
    other = Verdicts(RuleSet(select=("ST109",)))
    assert judged(dialogue(OFFER.format("8BITMIME")), verdicts=other) == []
    assert judged(dialogue(OFFER.format("STARTTLS")), verdicts=other) == ["ST109"]
    # once: the many that are as they should be do not each accuse the one
    assert judged(dialogue(OFFER.format("STARTTLS")), verdicts=other) == []


def test_two_ports_of_one_host_may_differ() -> None:
    verdicts = Verdicts(RuleSet(select=("ST109",)))
    assert judged(dialogue(OFFER.format("STARTTLS"), port=587), verdicts=verdicts) == []
    assert judged(dialogue(OFFER.format("8BITMIME"), port=25), verdicts=verdicts) == []


AUTH = "S: 220 mx.example.org ESMTP\nC: EHLO a.example.net\nS: 250-mx.example.org\nS: 250 AUTH PLAIN LOGIN\n"


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("C: AUTH PLAIN AGEAYg==\nS: 535 no\n", True),  # refused, and yet it was sent
        ("C: AUTH PLAIN\nS: 334 \nC: AGEAYg==\nS: 235 ok\n", True),
        ("C: AUTH PLAIN\nS: 538 5.7.11 Encryption required\n", False),  # the password was never sent
        ("C: AUTH LOGIN YQ==\nS: 538 5.7.11 Encryption required\n", False),  # only the name was
        ("C: AUTH CRAM-MD5\nS: 334 PDEyM0BleGFtcGxlPg==\nC: YSBiYg==\nS: 235 ok\n", False),
    ],
)
def test_a_password_in_clear_counts_when_it_was_sent(lines: str, told: bool) -> None:
    assert ("ST107" in judged(dialogue(AUTH + lines))) is told


def test_a_password_inside_tls_is_not_in_clear() -> None:
    conversation = dialogue(
        """
        S: 220 mx.example.org ESMTP
        C: EHLO a.example.net
        S: 250-mx.example.org
        S: 250 STARTTLS
        C: STARTTLS
        S: 220 2.0.0 Ready
        -- tls --
        C: EHLO a.example.net
        S: 250-mx.example.org
        S: 250 AUTH PLAIN
        C: AUTH PLAIN AGEAYg==
        S: 235 2.7.0 Ok
        C: MAIL FROM:<a@example.net>
        S: 250 Ok
        C: QUIT
        S: 221 bye
        C closes
        """
    )
    assert set(judged(conversation)) <= {"ST205"}  # a note: no close_notify


@pytest.mark.parametrize("keyword", ["XXXXXXXA", "XXXXXXXX", "STARTTLX", "STARTXXX"])
def test_masked_keywords(keyword: str) -> None:
    assert "ST103" in judged(dialogue(OFFER.format(keyword)))


@pytest.mark.parametrize(
    "keyword", ["STARTTLS", "XCLIENT", "SMTPUTF8", "X-ANONYMOUSTLS", "XEXCH50", "XFORWARD", "SIZE 1"]
)
def test_honest_keywords_are_not_masked(keyword: str) -> None:
    assert "ST103" not in judged(dialogue(OFFER.format(keyword)))


def test_a_syn_captured_twice_is_not_a_slow_connection() -> None:
    text = "[stream]\nsyn_ms = 0\nlast_syn_ms = {0}\nsyn_ack_ms = {1}\nestablished_ms = {1}\nsyn_retransmissions = 1\n"
    assert "ST404" not in judged(facts(text.format(0.1, 1)))
    assert "ST404" in judged(facts(text.format(1000, 1001)))


def test_a_handshake_with_missing_bytes_is_not_called_cut_off() -> None:
    text = '[stream]\nclosed_by = "server-fin"\nbytes = [300, 0]\nmissing = [0, {}]\n[tls]\nclient_hello_ms = 5\n'
    assert "ST206" in judged(facts(text.format(0)))
    assert "ST206" not in judged(facts(text.format(1400)))


def test_a_reset_after_quit_is_not_in_the_conversation() -> None:
    clean = "S: 220 mx.example.org ESMTP\nC: QUIT\nS: 221 bye\nC resets"
    assert "ST405" not in judged(dialogue(clean))


def test_anonymous_suites_count_only_where_a_certificate_is_expected() -> None:
    text = 'server_port = {}\n[tls]\nmode = "starttls"\ncipher_suite = "TLS_DH_anon_WITH_AES_128_CBC_SHA"\n'
    assert "ST202" not in judged(facts(text.format(25)))
    assert "ST202" in judged(facts(text.format(587)))


FAILED_HANDSHAKE = """
[stream]
closed_by = "client-fin"
bytes = [300, 900]
[tls]
client_hello_ms = 5
server_hello_ms = 9
reason = "handshake-failed"
reason_text = "the handshake failed: the client sent alert 48 unknown_ca"
"""


def test_a_failed_handshake_is_told_once() -> None:
    alert = 'alerts = [{ sender = "client", level = "fatal", description = "unknown_ca", code = 48 }]\n'
    assert [rule for rule in judged(facts(FAILED_HANDSHAKE + alert)) if rule in ("ST203", "ST207")] == ["ST203"]
    assert [rule for rule in judged(facts(FAILED_HANDSHAKE)) if rule in ("ST206", "ST207")] == ["ST206"]


def test_an_encrypted_alert_leaves_the_reason_to_be_told() -> None:
    alert = (
        'alerts = [{ sender = "client", level = "unknown", description = "unknown", code = -1, encrypted = true }]\n'
    )
    assert "ST207" in judged(facts(FAILED_HANDSHAKE + alert))
    late = "finished_ms = 20\napplication_bytes = [200, 300]\n"
    fatal = 'alerts = [{ sender = "client", level = "fatal", description = "bad", code = 80, phase = "application" }]'
    assert "ST207" in judged(facts(FAILED_HANDSHAKE + late + fatal))


SLOW_PATH = """
[stream]
syn_ms = 0
last_syn_ms = {last}
syn_ack_ms = {answer}
established_ms = {answer}
syn_retransmissions = {count}
bytes = [10, 10]
events = [{events}]
"""


def repeated(*times: float, answer: float) -> Conversation:
    """A conversation whose SYN, first sent at 0, came again at these times (ms) and was answered at ``answer``."""
    events = ", ".join(f'{{ kind = "syn-repeated", side = "client", ms = {ms} }}' for ms in times)
    last = max((ms for ms in times if ms <= answer), default=0)
    return facts(SLOW_PATH.format(last=last, answer=answer, count=len(times), events=events))


def told(conversation: Conversation) -> dict[str, str]:
    Verdicts(RuleSet(select=("ST404",))).judge(conversation)
    found = {finding.rule: finding.message for finding in conversation.findings}
    return found | {d.id: d.says for d in conversation.diagnoses if d.id in ("D05", "D91")}


def test_a_syn_captured_twice_on_a_long_path_was_not_repeated() -> None:
    assert told(repeated(0.02, answer=600)).keys() == {"D91"}


def test_a_syn_repeated_and_captured_twice_is_counted_once() -> None:
    found = told(repeated(0.02, 1000, 1000.02, answer=1030))
    assert found["ST404"] == "2 SYN until the answer, 1.0 s"
    assert found["D05"] == "The connection took 1.0 s to open: the first of 2 attempts got no answer."
    assert "D91" in found


def test_a_syn_repeated_after_its_answer_was_answered_in_time() -> None:
    """Beside the server: the SYN-ACK was lost on its way to the client, which begins again after a second."""
    assert told(repeated(1000, answer=1)) == {}


def test_several_lost_attempts_are_counted() -> None:
    assert "the first 2 of 3 attempts" in told(repeated(1000, 3000, answer=3020))["D05"]
