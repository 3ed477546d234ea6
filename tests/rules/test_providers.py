"""Provider data: every file reads, every entry names its source, and known servers are told from strangers."""

from __future__ import annotations

import pytest

from smtpdebug.model.smtp import Conversation
from smtpdebug.rules.diagnosis import DIAGNOSES, diagnose
from smtpdebug.rules.examples import apply_facts, bare
from smtpdebug.rules.providers import Provider, all_providers, known, page, parse
from smtpdebug.testing import dialogue

PROVIDERS = all_providers()


def greeted(text: str) -> Conversation:
    return dialogue(f"S: 220 {text}\nC: QUIT\nS: 221 bye")


def provider(id: str) -> Provider:
    return next(p for p in PROVIDERS if p.id == id)


def test_the_expected_ones_are_there() -> None:
    assert {p.id for p in PROVIDERS} >= {"amazon-ses", "gmail", "microsoft-365", "postfix", "exim"}


@pytest.mark.parametrize("one", PROVIDERS, ids=lambda p: p.id)
def test_every_entry_has_a_source_and_a_diagnosis_that_exists(one: Provider) -> None:
    assert one.texts
    for entry in one.texts:
        assert entry.source in one.sources
        assert entry.diagnosis is None or entry.diagnosis in DIAGNOSES
        assert entry.means.endswith(".")
        assert entry.advice.endswith(".")


@pytest.mark.parametrize("one", PROVIDERS, ids=lambda p: p.id)
def test_the_page_has_every_entry(one: Provider) -> None:
    text = page(one)
    assert text.startswith(f"# {one.name}\n")
    assert all(entry.pattern.pattern in text for entry in one.texts)


# Greetings as the providers' own documentation and defaults have them, and as their servers send them.
@pytest.mark.parametrize(
    ("greeting", "expected"),
    [
        ("email-smtp.amazonaws.com ESMTP SimpleEmailService-d-ABC", "amazon-ses"),
        ("mx.google.com ESMTP d9443c01a7336-2sm123 - gsmtp", "gmail"),
        ("AM7EUR06FT012.mail.protection.outlook.com Microsoft ESMTP MAIL Service ready", "microsoft-365"),
        ("mx.example.org ESMTP Postfix", "postfix"),
        ("mx.example.org ESMTP Postfix (Debian/GNU)", "postfix"),
        ("mx.example.org ESMTP Exim 4.96 Mon, 01 Jan 2024 00:00:00 +0000", "exim"),
        ("mx.example.org ESMTP", None),
        ("mx.example.org ESMTP OpenSMTPD", None),
    ],
)
def test_recognised_by_the_greeting(greeting: str, expected: str | None) -> None:
    found = known(greeted(greeting))
    assert (found.id if found is not None else None) == expected


def test_recognised_by_the_name_asked_for_in_tls() -> None:
    conversation = bare()
    apply_facts(conversation, '[tls]\nserver_name = "email-smtp.eu-west-1.amazonaws.com"')
    found = known(conversation)
    assert found is not None
    assert found.id == "amazon-ses"


def test_a_stranger_may_mention_a_provider_without_being_it() -> None:
    assert known(greeted("relay.example.org ESMTP in front of email-smtp.amazonaws.com")) is None


def test_amazon_uses_454_for_throttling_on_purpose() -> None:
    entry = provider("amazon-ses").explains(
        "(end of mail data)", 454, "Throttling failure: Maximum sending rate exceeded."
    )
    assert entry is not None
    assert entry.off_table
    assert entry.diagnosis == "D52"
    assert provider("amazon-ses").explains("(end of mail data)", 554, "Throttling failure") is None
    assert provider("amazon-ses").explains("MAIL", 454, "something else") is None


# Each reply of the provider's own list leads to the diagnosis that it is about.
@pytest.mark.parametrize(
    ("reply", "diagnosis"),
    [
        ("454 Throttling failure: Daily message quota exceeded.", "D52"),
        ("454 Temporary service failure.", "D87"),
        ("451 Timeout waiting for data from client.", "D53"),
        ("552 Message is too long.", "D54"),
        ("554 Access denied: User `arn:aws:iam::1:user/x' is not authorized to perform ses:SendRawEmail on r", "D51"),
        ("554 Message rejected: Email address is not verified. The following identities failed the check", "D50"),
    ],
)
def test_replies_of_amazon_are_explained(reply: str, diagnosis: str) -> None:
    conversation = dialogue(
        f"""
        S: 220 email-smtp.amazonaws.com ESMTP SimpleEmailService-1
        C: EHLO client.example.net
        S: 250 email-smtp.amazonaws.com
        C: MAIL FROM:<a@example.net>
        S: 250 Ok
        C: RCPT TO:<b@example.org>
        S: 250 Ok
        C: DATA
        S: 354 End data with <CR><LF>.<CR><LF>
        C: Subject: x
        C: .
        S: {reply}
        C: QUIT
        S: 221 Bye
        """
    )
    found = diagnose(conversation)
    assert [d.id for d in found] == [diagnosis]
    assert found[0].confidence == "high"


def test_data_without_a_source_is_refused() -> None:
    text = """
id = "x"
name = "X"
about = "X."
[sources]
[recognise]
[[text]]
pattern = "x"
means = "X."
advice = "X."
source = "nowhere"
"""
    with pytest.raises(KeyError):
        parse(text)
