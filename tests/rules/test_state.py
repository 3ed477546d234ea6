"""The reference model: what it knows after each kind of exchange."""

from __future__ import annotations

from smtpdebug.rules.state import State, begin
from smtpdebug.testing import dialogue


def after(text: str, **options: bool) -> State:
    conversation = dialogue(text, **options)  # type: ignore[arg-type]  # only flags are given here
    state = begin(conversation)
    for exchange in conversation.exchanges:
        state.enter(exchange)
        state.advance(exchange)
    return state


HELLO = "S: 220 mx.example.org\nC: EHLO c.example.net\nS: 250-mx.example.org\nS: 250-Size 100\nS: 250 AUTH=PLAIN\n"
MAIL = "C: MAIL FROM:<a@example.net>\nS: 250 OK\n"
RCPT = "C: RCPT TO:<b@example.org>\nS: 250 OK\nC: RCPT TO:<c@example.org>\nS: 550 no\n"


def test_hello() -> None:
    state = after(HELLO)
    assert state.extensions == {"SIZE": "100", "AUTH": "PLAIN"}
    assert state.esmtp
    assert not state.uncertain


def test_a_refused_ehlo_changes_nothing_but_is_remembered() -> None:
    state = after(HELLO + MAIL + "C: EHLO\nS: 501 name?")
    assert state.mail is not None
    assert state.ehlo_refused
    assert state.offers("SIZE")


def test_transaction() -> None:
    state = after(HELLO + MAIL + RCPT)
    assert (state.rcpt_sent, state.rcpt_accepted, state.rcpt_refused) == (2, 1, 1)
    assert after(HELLO + MAIL + RCPT + "C: RSET\nS: 250 OK").mail is None
    assert after(HELLO + MAIL + "C: EHLO c.example.net\nS: 250 mx").mail is None
    done = after(HELLO + MAIL + RCPT + "C: DATA\nS: 354 go\nC: hi\nC: .\nS: 250 OK")
    assert (done.mail, done.rcpt_accepted, done.ended_accepted, done.transactions) == (None, 0, 1, 1)


def test_starttls_forgets() -> None:
    state = after(HELLO + "C: STARTTLS\nS: 220 go\n-- tls --\nC: NOOP\nS: 250 OK")
    assert state.encrypted
    assert state.helo is None
    assert state.extensions == {}
    assert state.extensions_before_tls == {"SIZE": "100", "AUTH": "PLAIN"}


def test_auth() -> None:
    assert after(HELLO + "C: AUTH LOGIN\nS: 334 VXNlcm5hbWU6").auth_pending is not None
    state = after(HELLO + "C: AUTH LOGIN\nS: 334 VXNlcm5hbWU6\nC: YQ==\nS: 334 UGFzc3dvcmQ6\nC: Yg==\nS: 235 OK")
    assert state.authenticated
    assert state.auth_pending is None


def test_chunks() -> None:
    state = after(HELLO + MAIL + RCPT + "C: BDAT 2\nC! ab\nS: 250 OK")
    assert state.bdat_open
    assert state.bdat_bytes == 2
    state = after(HELLO + MAIL + RCPT + "C: BDAT 2 LAST\nC! ab\nS: 250 OK")
    assert state.bdat_last
    assert state.mail is None
    assert after(HELLO + MAIL + RCPT + "C: BDAT 2\nC! ab\nS: 452 full").bdat_failed


def test_a_gap_makes_uncertain_until_the_next_ehlo() -> None:
    state = after(HELLO + "-- gap 40 --\nC: NOOP\nS: 250 OK")
    assert state.uncertain
    state = after(HELLO + "-- gap 40 --\nC: NOOP\nS: 250 OK\nC: EHLO c.example.net\nS: 250 mx")
    assert not state.uncertain
    assert state.lossy


def test_a_late_start_is_uncertain() -> None:
    assert after(MAIL, joined_late=True).uncertain
