"""The table against the text of RFC 5321 4.3.2, and the grammar of 4.1.2 and 4.1.3 by its own examples."""

from __future__ import annotations

import pytest

from smtpdebug.rules.syntax import is_domain, is_literal, is_xtext, mailbox_fault, path
from smtpdebug.rules.table import EXPECTED, listed

# Typed from the RFC's table, beside the code's own; "any command" codes are left out here.
RFC = {
    "(greeting)": {220, 554, 521},
    "EHLO": {250, 504, 550, 502},
    "HELO": {250, 504, 550, 502},
    "MAIL": {250, 552, 451, 452, 550, 553, 503, 455, 555},
    "RCPT": {250, 251, 550, 551, 552, 553, 450, 451, 452, 503, 455, 555, 556},
    "(end of mail data)": {250, 552, 554, 451, 452, 450, 550},
    "RSET": {250},
    "VRFY": {250, 251, 252, 550, 551, 553, 502, 504},
    "EXPN": {250, 252, 550, 500, 502, 504},
    "HELP": {211, 214, 502, 504},
    "NOOP": {250},
    "QUIT": {221},
}


@pytest.mark.parametrize("verb", RFC)
def test_the_rows_are_those_of_the_rfc(verb: str) -> None:
    assert set(EXPECTED[verb]) == RFC[verb]


def test_every_entry_names_its_source() -> None:
    for row in EXPECTED.values():
        for source in row.values():
            assert source.ref
            assert source.edition


def test_any_command_may_get_500_501_and_421_and_530_only_some() -> None:
    for verb in ("MAIL", "QUIT", "EHLO", "DATA"):
        assert listed(verb, 500)
        assert listed(verb, 501)
        assert listed(verb, 421)
    assert listed("MAIL", 530)
    assert not listed("EHLO", 530)
    assert not listed("MAIL", 354)
    assert listed("XPRIVATE", 299)


@pytest.mark.parametrize("text", ["example.org", "a", "xn--bcher-kva.example", "1.example", "bücher.example"])
def test_domains(text: str) -> None:
    assert is_domain(text)


@pytest.mark.parametrize("text", ["", "-a.example", "a-.example", "a..b", "a_b.example", ".a", "a b", "/x"])
def test_not_domains(text: str) -> None:
    assert not is_domain(text)


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("[123.255.37.2]", True),
        ("[IPv6:2001:db8::1]", True),
        ("[ipv6:::1]", True),
        ("[IPv6:::ffff:192.0.2.1]", True),
        ("[256.1.1.1]", False),
        ("[2001:db8::1]", False),
        ("[IPv6:2001:db8::1%eth0]", False),
        ("[1.2.3]", False),
        ("1.2.3.4", False),
        ("[]", False),
    ],
)
def test_literals(text: str, good: bool) -> None:
    assert is_literal(text) is good


@pytest.mark.parametrize(
    "address",
    [
        "joe@example.org", '"Joe\\,Smith"@example.org', '"a@b"@example.org', "a+b=c@example.org", "x@[192.0.2.1]",
        "!#$%&'*+-/=?^_`{|}~@example.org", "bö@example.org", '""@example.org',
    ],
)  # fmt: skip
def test_mailboxes(address: str) -> None:
    assert mailbox_fault(address) is None


@pytest.mark.parametrize(
    "address", ["joe", "joe@", "@example.org", "a..b@example.org", ".a@example.org", "a b@example.org", "a@b_c.org"]
)
def test_not_mailboxes(address: str) -> None:
    assert mailbox_fault(address) is not None


def test_postmaster_needs_no_domain_as_a_recipient() -> None:
    assert mailbox_fault("PostMaster", postmaster=True) is None
    assert mailbox_fault("Postmaster") is not None


def test_paths() -> None:
    found = path("FROM:<a@example.net> SIZE=10 body=8BITMIME", "FROM")
    assert (found.address, found.value("SIZE"), found.value("BODY")) == ("a@example.net", "10", "8BITMIME")
    assert path("from:<>", "FROM").address == ""
    assert path('TO:<"a>b"@example.org> NOTIFY=NEVER', "TO").address == '"a>b"@example.org'
    assert path("TO:<@x,@y:b@example.org>", "TO").route == "@x,@y"
    assert path("TO: <b@example.org>", "TO").spaced
    assert path("TO :<b@example.org>", "TO").spaced
    assert not path("TO:b@example.org", "TO").bracketed
    assert not path("FROM:<b@example.org>", "TO").keyword
    assert path("TO:<b@example.org> A==b", "TO").bad_parameters == ("A==b",)
    assert path("TO:<b@example.org", "TO").bracketed is False
    assert path("", "TO").keyword is False


def test_xtext() -> None:
    assert is_xtext("abc+2Bdef")
    assert not is_xtext("a=b")
    assert not is_xtext("a+2b")
