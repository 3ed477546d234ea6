"""No secret reaches an output. The expectations are RFC 4954's syntax, and what broken peers are known to send."""

from __future__ import annotations

import base64
import io
import string
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smtpdebug.model.findings import Diagnosis, Finding, Severity
from smtpdebug.model.smtp import AFTER_GAP, Command, Conversation, Injected
from smtpdebug.model.streams import CLIENT, Location
from smtpdebug.render.jsonl import JsonLines
from smtpdebug.render.redact import HIDDEN, Redactor
from smtpdebug.render.tcpflow import TcpFlow
from smtpdebug.render.text import Text
from smtpdebug.render.transcript import Options
from smtpdebug.testing import dialogue

Talk = Callable[..., Conversation]

PLAIN = base64.b64encode(b"\0alice\0opensesame1").decode()
USER, PASSWORD = base64.b64encode(b"alice@example.net").decode(), base64.b64encode(b"opensesame1").decode()


def every_output(conversation: Conversation, *, show_secrets: bool = False) -> str:
    """What all the sinks write of a conversation, one after the other."""
    out, raw = io.StringIO(), io.BytesIO()
    options = Options(show_secrets=show_secrets)
    for sink in (
        Text(out, options),
        Text(out, options, interleave=True, color=True),
        TcpFlow(out, show_secrets=show_secrets),
        JsonLines(raw, show_secrets=show_secrets),
    ):
        sink.conversation(conversation)
        sink.close()
    live = Text(out, options)
    for item in conversation.timeline:
        live.item(conversation, item)
    live.conversation(conversation)
    return out.getvalue() + raw.getvalue().decode()


def test_initial_response_is_hidden_and_the_mechanism_stays(talk: Talk) -> None:
    written = every_output(talk("S 220 mx", f"C AUTH PLAIN {PLAIN}", "S 235 2.7.0 ok"))
    assert PLAIN not in written
    assert written.count("AUTH PLAIN ********") == 4
    assert '"argument":"PLAIN ********"' in written


def test_answers_are_hidden_and_challenges_stay(talk: Talk) -> None:
    challenge = base64.b64encode(b"<1896.697170952@postoffice.example.net>").decode()
    written = every_output(talk("S 220 mx", "C AUTH CRAM-MD5", f"S 334 {challenge}", f"A {PASSWORD}", "S 535 5.7.8 no"))
    assert PASSWORD not in written
    assert challenge in written
    assert "AUTH CRAM-MD5" in written


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("AUTH PLAIN", "AUTH PLAIN"),
        ("AUTH EXTERNAL =", "AUTH EXTERNAL ="),  # RFC 4954 section 4: an empty initial response
        ("auth login", "auth login"),
        ("AUTH X-OWN c2VjcmV0", "AUTH X-OWN ********"),
        ("AUTH c2VjcmV0cGFzcw", "AUTH ********"),  # the answer where the mechanism belongs
        ("AUTH=PLAIN c2VjcmV0", "AUTH ********"),
        ("Authorization: Basic c2VjcmV0", "AUTHORIZATION ********"),
        ("X-EXPS LOGIN c2VjcmV0", "X-EXPS LOGIN ********"),
        ("PASS secret", "PASS ********"),
        ("a1 LOGIN alice secret", "A1 LOGIN ********"),
        ("MAIL FROM:<a@b.example> AUTH=<>", "MAIL FROM:<a@b.example> AUTH=<>"),
        ("XCLIENT NAME=spike LOGIN=alice", "XCLIENT NAME=spike LOGIN=alice"),
        ("EHLO YWxpY2VAZXhhbXBsZQ==", "EHLO YWxpY2VAZXhhbXBsZQ=="),
        ("BOGUS", "BOGUS"),
    ],
)
def test_one_command(talk: Talk, line: str, shown: str) -> None:
    conversation = talk("S 220 mx", f"C {line}")
    command = conversation.exchanges[-1].command
    assert command is not None
    assert Redactor(conversation).line(command).decode() == shown
    assert Redactor(conversation, show=True).line(command).decode() == line


def test_cancelling_is_no_secret(talk: Talk) -> None:
    conversation = talk("S 220 mx", "C AUTH LOGIN", "S 334 VXNlcm5hbWU6", "A *", "S 501 cancelled")
    command = conversation.exchanges[2].command
    assert command is not None
    assert Redactor(conversation).line(command) == b"*"


def test_answers_after_a_refused_auth_are_hidden(talk: Talk) -> None:
    """A client that does not wait sends them all the same, and the server takes them for commands."""
    conversation = talk(
        "S 220 mx", "C AUTH LOGIN", "S 504 no", f"C {USER}", "S 500 what?", "C pa55", "S 500 what?", "C QUIT", "S 221 x"
    )
    written = every_output(conversation)
    for word in (USER, USER.upper(), "pa55", "PA55"):
        assert word not in written
    assert "QUIT" in written


def test_a_lone_base64_line_is_hidden_after_a_gap_and_when_joined_late(talk: Talk) -> None:
    late = talk("C b3Blbg", "S 235 ok", joined_late=True)
    assert "b3Blbg" not in every_output(late)
    conversation = talk("S 220 mx", "C EHLO x", "S 250 mx", "C b3Blbg", "S 235 ok")
    command = conversation.exchanges[2].command
    assert command is not None
    command.oddities |= AFTER_GAP
    assert "b3Blbg" not in every_output(conversation)


def test_echoed_secrets_are_hidden_in_replies_findings_and_diagnoses(
    talk: Talk, at: Callable[[int, float], Location]
) -> None:
    conversation = talk(
        "S 220 mx", "C AUTH LOGIN", "S 334 UGFzc3dvcmQ6", f"A {PASSWORD}", f"S 535 no: {PASSWORD} (opensesame1)"
    )
    conversation.findings.append(Finding("SC999", Severity.ERROR, f"bad answer {PASSWORD}", at(7, 4)))
    conversation.diagnoses.append(
        Diagnosis("D99", "x", "opensesame1 is wrong", f"do not send {PASSWORD}", "high", "none", [])
    )
    written = every_output(conversation)
    assert PASSWORD not in written
    assert "opensesame1" not in written
    assert "SC999 bad answer ********" in written


def test_auth_in_injected_plaintext_is_hidden(talk: Talk, at: Callable[[int, float], Location]) -> None:
    conversation = talk("S 220 mx", "C STARTTLS", "S 220 go")
    conversation.timeline.append(Injected(CLIENT, f"RSET\r\nauth plain {PLAIN}\r\n".encode(), at(6, 3)))
    written = every_output(conversation)
    assert PLAIN not in written
    assert "RSET" in written


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("AUTH PLAIN without TLS", "AUTH PLAIN without TLS"),
        (f"smuggled: AUTH PLAIN {PLAIN}", "smuggled: AUTH PLAIN ********"),
        (f"smuggled: 'AUTH {PLAIN}'", "smuggled: 'AUTH ********'"),
        ("text, no SMTP: 'PASS hunter2'", "text, no SMTP: 'PASS ********'"),
        ("535 after AUTH LOGIN: authentication", "535 after AUTH LOGIN: authentication"),
        ("text, no SMTP: 'pass hunter2'", "text, no SMTP: 'pass ********'"),
        ("where packets pass several bridges", "where packets pass several bridges"),
        ("SPF has to pass for the From domain", "SPF has to pass for the From domain"),
    ],
)
def test_what_a_message_quotes(said: str, shown: str) -> None:
    assert Redactor(None).text(said) == shown
    assert Redactor(None, show=True).text(said) == said


def test_answers_among_injected_lines() -> None:
    hidden = Redactor(None).octets(b"AUTH LOGIN\r\nYWxpY2U=\r\npa55\r\nMAIL FROM:<x@y>\r\n")
    assert hidden == b"AUTH LOGIN\r\n********\r\n********\r\nMAIL FROM:<x@y>\r\n"


def test_commands_past_the_limit_of_kept_exchanges_are_hidden(talk: Talk) -> None:
    """The timeline may hold what the list of exchanges no longer does."""
    conversation = talk("S 220 mx", f"C AUTH PLAIN {PLAIN}", "S 235 ok")
    del conversation.exchanges[1:]
    assert PLAIN not in every_output(conversation)


def test_secrets_are_shown_when_asked_for(talk: Talk) -> None:
    written = every_output(
        talk("S 220 mx", f"C AUTH PLAIN {PLAIN}", "S 334 x", f"A {PASSWORD}", "S 235 ok"), show_secrets=True
    )
    assert "********" not in written
    assert written.count(PLAIN) == written.count(PASSWORD) == 5


ANSWERS = st.binary(min_size=6, max_size=40).map(lambda raw: base64.b64encode(b"\0u\0" + raw).decode())
# The suffix: not a word that means something elsewhere, such as a verb or a mechanism.
WORDS = st.text(string.ascii_letters, min_size=8, max_size=20).map(lambda word: word + "xQz")


@given(answer=st.one_of(ANSWERS, WORDS), shape=st.integers(0, 4), noise=st.sampled_from(["RSET", "NOOP", "EHLO x"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_answer_reaches_any_output(talk: Talk, answer: str, shape: int, noise: str) -> None:
    shapes = (
        ["S 220 mx", f"C AUTH PLAIN {answer}", "S 235 ok"],
        ["S 220 mx", f"C {noise}", "S 250 ok", "C AUTH LOGIN", "S 334 VXNlcm5hbWU6", f"A {answer}", "S 535 no"],
        ["S 220 mx", "C AUTH LOGIN", "S 500 what", f"C {answer}", f"S 500 {answer}?"],
        ["S 220 mx", "C AUTH LOGIN", "S 334 x", f"C {noise}", "S 250 ok", f"C {answer}", "S 500 what"],
        ["S 220 mx", f"C AUTH {answer} {answer}", "S 504 no"],
    )
    assert answer not in every_output(talk(*shapes[shape]))


def test_a_conversation_without_auth_is_not_touched(talk: Talk) -> None:
    conversation = talk("S 220 mx", "C EHLO x", "S 250 mx", "C QUIT", "S 221 bye")
    redactor = Redactor(conversation)
    assert redactor.idle
    reply = conversation.exchanges[0].reply
    assert reply is not None
    assert redactor.reply_lines(reply) is reply.lines
    assert redactor.command(Command("NOOP", "x", b"NOOP x", reply.at, reply.at)) == ("NOOP", "x")


@pytest.mark.parametrize(
    "said", [f"C: {PLAIN}\nS: 535 no", f"C: TH PLAIN {PLAIN}\nS: 535 no", f"C: {PLAIN}\nC: ?\nS: 250 ok"]
)
def test_lines_behind_a_gap_hide_what_may_be_an_answer(said: str) -> None:
    conversation = dialogue(f"S: 220 mx\n-- gap 10 --\n{said}\nC: QUIT\nS: 221 bye {PLAIN} opensesame1")
    written = every_output(conversation)
    assert HIDDEN in written
    assert PLAIN not in written
    assert "opensesame1" not in written


def test_a_short_lone_word_behind_a_gap_may_be_an_answer_too() -> None:
    assert "dGhl" not in every_output(dialogue("S: 220 mx\n-- gap 10 --\nC: dGhl\nS: 250 ok"))


def test_a_mistyped_auth_keeps_its_mechanism_alone(talk: Talk) -> None:
    written = every_output(talk("S 220 mx", f"C ATUH PLAIN {PLAIN}", "S 500 what", "C QUIT", "S 221 alice gone"))
    assert PLAIN not in written
    assert "ATUH" not in written or "PLAIN ********" in written


def test_the_name_inside_an_initial_response_is_hidden_where_it_is_echoed(talk: Talk) -> None:
    answer = base64.b64encode(b"\0alice@example.net\0opensesame1").decode()
    written = every_output(
        talk("S 220 mx", f"C AUTH PLAIN {answer}", "S 535 no", "C QUIT", "S 221 bye alice@example.net")
    )
    assert "alice@example.net" not in written
