"""What is made of whole dialogues. Expected: what RFC 5321 and the extensions' RFCs say each reply answers."""

from __future__ import annotations

import pytest

from smtpdebug.model.smtp import (
    AFTER_GAP,
    BARE_CR,
    BARE_LF,
    LONG_LINE,
    MALFORMED,
    UNTERMINATED,
    Conversation,
    Injected,
    Lost,
    MailData,
    TlsStarted,
)
from smtpdebug.model.streams import CLIENT, SERVER, Limits
from smtpdebug.testing import dialogue

HAIL = """
    S: 220 mx ESMTP
    C: EHLO c
    S: 250 mx
"""
ENVELOPE = """
    C: MAIL FROM:<a@x>
    S: 250 ok
    C: RCPT TO:<b@y>
    S: 250 ok
    C: DATA
    S: 354 go
"""


def pairs(conversation: Conversation) -> list[tuple[str | None, int | None]]:
    return [(e.command.verb if e.command else None, e.reply.code if e.reply else None) for e in conversation.exchanges]


def test_waits_count_from_the_last_byte_of_the_command_or_the_reply_before() -> None:
    conversation = dialogue(
        """
        -- 5s --
        S: 220 mx
        C: EHLO c
        -- 200ms --
        S: 250 mx
        C: MAIL FROM:<a@x>
        C+ RCPT TO:<b@y>
        S: 250 ok
        -- 3s --
        S: 250 ok
        """
    )
    waits = [e.wait_ns for e in conversation.exchanges]
    # One millisecond from line to line; the connection was established half of one after the SYN.
    assert waits == [5_000_500_000, 201_000_000, 1_000_000, 3_001_000_000]


def test_outstanding_counts_commands_still_unanswered() -> None:
    conversation = dialogue(HAIL + "C: MAIL FROM:<a@x>\nC+ RCPT TO:<b@y>\nS: 250 ok\nC: DATA\nS: 250 ok\nS: 354 go")
    assert [e.command.outstanding for e in conversation.exchanges if e.command] == [0, 0, 0, 1, 1]


def test_multi_line_reply_whose_codes_differ_is_one_reply() -> None:
    conversation = dialogue("S: 220 mx\nC: EHLO c\nS: 250-mx\nS: 251-SIZE\nS: 250 DSN\nC: QUIT\nS: 221 bye")
    assert pairs(conversation) == [("(greeting)", 220), ("EHLO", 250), ("QUIT", 221)]
    reply = conversation.exchanges[1].reply
    assert reply is not None
    assert reply.oddities == MALFORMED
    assert reply.texts == ["mx", "SIZE", "DSN"]


def test_multi_line_reply_that_never_ends() -> None:
    """The client went on, so the next code answers its next command."""
    conversation = dialogue("S: 220 mx\nC: EHLO c\nS: 250-mx\nC: DATA\nS: 503 no\nC: QUIT\nS: 221-bye")
    assert pairs(conversation) == [("(greeting)", 220), ("EHLO", 250), ("DATA", 503), ("QUIT", 221)]
    for index in (1, 3):
        reply = conversation.exchanges[index].reply
        assert reply is not None
        assert reply.oddities == MALFORMED | UNTERMINATED


def test_time_out_within_mail_data_answers_nothing() -> None:
    conversation = dialogue(HAIL + ENVELOPE + "C: Subject: half\n-- 300s --\nS: 421 4.4.2 timeout\nS closes")
    assert pairs(conversation)[-2:] == [("DATA", 354), (None, 421)]
    (message,) = conversation.messages
    assert message.code is None
    assert message.data is not None
    assert not message.data.ended
    assert message.data.bytes == len("Subject: half\r\n")


def test_refusal_before_the_end_of_data_belongs_to_it() -> None:
    conversation = dialogue(HAIL + ENVELOPE + "C: a\nS: 552 too big\nC: b\nC: .\nC: QUIT\nS: 221 bye")
    assert pairs(conversation)[-2:] == [("(end of mail data)", 552), ("QUIT", 221)]


def test_reply_nobody_asked_for_stands_before_the_next_command() -> None:
    conversation = dialogue(HAIL + "S: 250 what\nC: NOOP\nS: 250 ok")
    assert pairs(conversation) == [("(greeting)", 220), ("EHLO", 250), (None, 250), ("NOOP", 250)]


def test_replies_in_tls_are_told_apart_by_time() -> None:
    conversation = dialogue(
        HAIL + "C: STARTTLS\nS: 220 go\n-- tls --\nC: NOOP\nS: 250 ok\n-- 5s --\nS: 421 idle\nC: QUIT"
    )
    assert pairs(conversation)[2:] == [("STARTTLS", 220), ("NOOP", 250), (None, 421), ("QUIT", None)]
    assert [e.encrypted for e in conversation.exchanges[2:]] == [False, True, True, True]


def test_starttls_injection_on_both_sides() -> None:
    conversation = dialogue(HAIL + "C: STARTTLS\nC+ NOOP\nS: 220 go\nS+ 250 put in\n-- tls --\nC: EHLO c\nS: 250 mx")
    injected = [item for item in conversation.timeline if isinstance(item, Injected)]
    assert (CLIENT, b"NOOP\r\n") in [(item.side, item.data) for item in injected]
    assert ("NOOP", 250) not in pairs(conversation)
    assert pairs(conversation)[-1] == ("EHLO", 250)
    assert any(isinstance(item, TlsStarted) for item in conversation.timeline)


def test_starttls_agreed_but_commands_go_on_in_clear() -> None:
    conversation = dialogue(HAIL + "C: STARTTLS\nS: 220 go\nC: QUIT\nS: 221 bye")
    assert pairs(conversation)[-2:] == [("STARTTLS", 220), ("QUIT", 221)]


def test_xclient_and_its_greeting() -> None:
    conversation = dialogue(HAIL + "C: XCLIENT ADDR=192.0.2.9\nS: 220 mx ESMTP\nC: EHLO d\nS: 250 mx")
    assert pairs(conversation)[2:] == [("XCLIENT", 220), ("EHLO", 250)]


def test_messages_of_transactions_with_and_without_data() -> None:
    conversation = dialogue(
        HAIL
        + """
        C: MAIL FROM:<one@x>
        S: 250 ok
        C: RCPT TO:<b@y>
        S: 550 no
        C: RSET
        S: 250 ok
        C: MAIL FROM:<two@x>
        S: 452 full
        C: MAIL FROM:<three@x>
        S: 250 ok
        C: RCPT TO:<c@y>
        S: 250 ok
        C: BDAT 3
        C! abc
        S: 250 ok
        C: BDAT 2 LAST
        C! de
        S: 250 queued
        C: QUIT
        S: 221 bye
        """
    )
    one, three = conversation.messages
    assert (one.mail_from, one.data, [(r.address, r.code) for r in one.recipients]) == ("one@x", None, [("b@y", 550)])
    assert three.data is not None
    # sha256 of "abcde"
    assert three.data.sha256 == "36bbe50ed96841d10443bcb670d6554f0a34b761be67ec9c4a8ad2c0c44ca42c"
    assert (three.mail_from, three.code, three.data.bytes, three.data.chunks) == ("three@x", 250, 5, [3, 2])
    assert three.data.ended


def test_lmtp_codes_by_recipient() -> None:
    conversation = dialogue(
        """
        S: 220 mx
        C: LHLO c
        S: 250 mx
        C: MAIL FROM:<a@x>
        S: 250 ok
        C: RCPT TO:<b@y>
        S: 250 ok
        C: RCPT TO:<c@y>
        S: 250 ok
        C: DATA
        S: 354 go
        C: .
        S: 250 b
        S: 552 c
        C: QUIT
        S: 221 bye
        """
    )
    assert conversation.protocol == "lmtp"
    assert [(e.recipient, e.reply.code) for e in conversation.exchanges if e.recipient and e.reply] == [
        ("b@y", 250),
        ("c@y", 552),
    ]
    (message,) = conversation.messages
    assert [(r.address, r.code) for r in message.recipients] == [("b@y", 250), ("c@y", 552)]


def test_lmtp_codes_by_recipient_after_bdat() -> None:
    """RFC 2033 section 4.2 with RFC 3030: the last chunk is answered once a recipient, the others once."""
    conversation = dialogue(
        """
        S: 220 mx
        C: LHLO c
        S: 250 mx
        C: MAIL FROM:<a@x>
        S: 250 ok
        C: RCPT TO:<b@y>
        S: 250 ok
        C: RCPT TO:<c@y>
        S: 250 ok
        C: BDAT 3
        C! abc
        S: 250 more
        C: BDAT 2 LAST
        C! de
        S: 550 b
        S: 250 c
        C: QUIT
        S: 221 bye
        """
    )
    assert pairs(conversation)[-4:] == [("BDAT", 250), ("BDAT", 550), ("BDAT", 250), ("QUIT", 221)]
    (message,) = conversation.messages
    assert [(r.address, r.code) for r in message.recipients] == [("b@y", 550), ("c@y", 250)]
    assert message.data is not None
    assert (message.data.bytes, message.code) == (5, 250)


@pytest.mark.parametrize("sent", ["C: DATA\nS: 354 go\nC: hi\nC: .", "C: BDAT 4 LAST\nC! hi\\r\\n"])
def test_prdr_has_a_reply_a_recipient_and_one_for_the_message(sent: str) -> None:
    """draft-hall-prdr-00 section 4.5: 353, one reply for each accepted recipient, and the final one."""
    conversation = dialogue(
        "S: 220 mx\nC: EHLO c\nS: 250-mx\nS: 250-CHUNKING\nS: 250 PRDR\n"
        "C: MAIL FROM:<a@x> PRDR\nS: 250 ok\nC: RCPT TO:<no@y>\nS: 550 no\n"
        "C: RCPT TO:<b@y>\nS: 250 ok\nC: RCPT TO:<c@y>\nS: 250 ok\n"
        f"{sent}\nS: 353 each\nS: 250 b\nS: 550 c\nS: 250 all but c\nC: QUIT\nS: 221 bye"
    )
    end = [(e.recipient, e.reply.code) for e in conversation.exchanges if e.data is not None and e.reply is not None]
    assert end == [(None, 353), ("b@y", 250), ("c@y", 550), (None, 250)]
    assert pairs(conversation)[-1] == ("QUIT", 221)
    (message,) = conversation.messages
    assert [(r.address, r.code) for r in message.recipients] == [("no@y", 550), ("b@y", 250), ("c@y", 550)]
    assert message.code == 250


def test_221_answers_quit_and_leaves_what_has_no_reply_without_one() -> None:
    conversation = dialogue(HAIL + "C: NOOP\n-- 10s --\nC: RSET\nS: 250 ok\nC: QUIT\nS: 221 bye")
    assert [e.reply and e.reply.code for e in conversation.exchanges[-3:]] == [250, None, 221]


@pytest.mark.parametrize(
    ("chunks", "oddities"),
    [
        (["a\\r\\nb\\r\\n"], 0),
        (["a\\r", "\\nb\\r\\n"], 0),
        (["a\\n", "b\\r\\n"], BARE_LF),
        (["a\\r", "b\\r\\n"], BARE_CR),
        (["a\\r\\nb\\r"], BARE_CR),
        (["x" * 998 + "\\r\\n"], 0),
        (["x" * 500, "x" * 499 + "\\r\\n"], LONG_LINE),
        (["a\\r\\n" + "x" * 999 + "\\r\\n", "b\\r\\n"], LONG_LINE),
    ],
)
def test_line_ends_of_bdat_are_looked_at_across_chunks(chunks: list[str], oddities: int) -> None:
    sizes = [len(chunk.replace("\\r", "r").replace("\\n", "n")) for chunk in chunks]
    sent = "".join(
        f"C: BDAT {size}{' LAST' if n == len(chunks) - 1 else ''}\nC! {chunk}\nS: 250 ok\n"
        for n, (size, chunk) in enumerate(zip(sizes, chunks, strict=True))
    )
    conversation = dialogue(HAIL + "C: MAIL FROM:<a@x>\nS: 250 ok\nC: RCPT TO:<b@y>\nS: 250 ok\n" + sent)
    (message,) = conversation.messages
    assert message.data is not None
    assert message.data.oddities & (BARE_LF | BARE_CR | LONG_LINE) == oddities


def test_gap_in_mail_data() -> None:
    conversation = dialogue(HAIL + ENVELOPE + "C: one\n-- gap 100 --\nC: two\nC: .\nS: 250 queued\nC: QUIT\nS: 221 bye")
    data = conversation.messages[0].data
    assert data is not None
    assert (data.bytes, data.missing, data.sha256, data.ended) == (10, 100, None, True)
    assert pairs(conversation)[-2:] == [("(end of mail data)", 250), ("QUIT", 221)]
    assert any(isinstance(item, Lost) and item.length == 100 for item in conversation.timeline)


def test_gap_that_took_the_end_of_the_mail_data() -> None:
    conversation = dialogue(HAIL + ENVELOPE + "C: one\n-- gap 100 --\nS: 250 queued\nC: QUIT\nS: 221 bye")
    assert pairs(conversation)[-2:] == [("(end of mail data)", 250), ("QUIT", 221)]
    data = conversation.messages[0].data
    assert data is not None
    assert (data.ended, data.missing) == (False, 100)


def test_records_of_unknown_length_missing_in_tls() -> None:
    conversation = dialogue(
        HAIL
        + "C: STARTTLS\nS: 220 go\n-- tls --"
        + ENVELOPE
        + "C: one\n-- gap 0 --\nS: 250 queued\nC: QUIT\nS: 221 bye"
    )
    assert pairs(conversation)[-2:] == [("(end of mail data)", 250), ("QUIT", 221)]
    data = conversation.messages[0].data
    assert data is not None
    assert (data.sha256, data.ended) == (None, False)


def test_gap_that_took_the_end_of_the_mail_data_and_the_reply_to_it() -> None:
    said = HAIL + ENVELOPE + "C: Subject: x\n-- gap 100 --\n-- gap S 12 --\nC: QUIT\nS: 221 bye"
    conversation = dialogue(said)
    assert pairs(conversation)[-3:] == [("DATA", 354), ("(end of mail data)", None), ("QUIT", 221)]
    (message,) = conversation.messages
    assert message.data is not None
    assert (message.data.headers, message.data.missing, message.data.ended) == (b"Subject: x\r\n", 100, False)


def test_headers_are_not_glued_over_a_gap() -> None:
    conversation = dialogue(HAIL + ENVELOPE + "C: Subject: x\n-- gap 100 --\nC: est\nC: To: b\nC: .\nS: 250 ok")
    (message,) = conversation.messages
    assert message.data is not None
    assert message.data.headers == b"Subject: x\r\n"
    assert message.data.ended


def test_gap_that_took_a_command() -> None:
    conversation = dialogue(HAIL + "-- gap 20 --\nS: 250 ok\nC: RCPT TO:<b@y>\nS: 250 ok")
    assert pairs(conversation)[2:] == [(None, 250), ("RCPT", 250)]
    command = conversation.exchanges[-1].command
    assert command is not None
    assert command.oddities & AFTER_GAP


def test_gap_that_took_a_reply() -> None:
    conversation = dialogue(
        HAIL + "C: MAIL FROM:<a@x>\n-- gap S 8 --\nC: RCPT TO:<b@y>\nS: 550 no\nC: QUIT\nS: 221 bye"
    )
    assert pairs(conversation)[2:] == [("MAIL", None), ("RCPT", 550), ("QUIT", 221)]


def test_gap_that_took_the_354() -> None:
    """The client had it, or it would not have sent what is plainly no command."""
    conversation = dialogue(
        HAIL
        + "C: MAIL FROM:<a@x>\nS: 250 ok\nC: DATA\n-- gap S 8 --\n"
        + "C: Subject: x\nC:\nC: .\nS: 250 queued\nC: QUIT\nS: 221 x"
    )
    assert pairs(conversation)[2:] == [("MAIL", 250), ("DATA", None), ("(end of mail data)", 250), ("QUIT", 221)]


def test_joined_in_the_middle() -> None:
    conversation = dialogue("S: 250 ok\nC: RCPT TO:<b@y>\nS: 250 ok\nC: QUIT\nS: 221 bye", joined_late=True)
    assert pairs(conversation) == [(None, 250), ("RCPT", 250), ("QUIT", 221)]


def test_joined_within_mail_data() -> None:
    conversation = dialogue(
        "C! f a line\nC:\nC: body, quit\nC: .\nS: 250 queued\nC: QUIT\nS: 221 bye", joined_late=True
    )
    assert pairs(conversation) == [("(end of mail data)", 250), ("QUIT", 221)]


def test_joined_late_but_before_the_greeting() -> None:
    conversation = dialogue("S: 220 mx\nC: QUIT\nS: 221 bye", joined_late=True)
    assert pairs(conversation) == [("(greeting)", 220), ("QUIT", 221)]


def test_one_side_only() -> None:
    client = dialogue("C: EHLO c\nC: AUTH PLAIN\nC: AGEAYg==\nC: MAIL FROM:<a@x>\nC: DATA\nC: hi\nC: .\nC: QUIT")
    assert pairs(client) == [
        ("(greeting)", None),
        ("EHLO", None),
        ("AUTH", None),
        ("(auth)", None),
        ("MAIL", None),
        ("DATA", None),
        ("(end of mail data)", None),
        ("QUIT", None),
    ]
    server = dialogue("S: 220 mx\nS: 250 mx\nS: 354 go\nS: 250 queued")
    assert pairs(server) == [("(greeting)", 220), (None, 250), (None, 354), (None, 250)]


def test_odd_lines() -> None:
    conversation = dialogue(
        HAIL + "C! NOOP\\n\nS: 250 ok\nC: " + "x" * 600 + "\nS: 500 what", limits=Limits(line_bytes=100)
    )
    command = conversation.exchanges[2].command
    assert command is not None
    assert command.oddities == BARE_LF
    long = conversation.exchanges[3].command
    assert long is not None
    # A line in one packet costs nothing to keep; the limit is for what has to be held.
    assert len(long.line) == 600


def test_empty_lines_that_look_like_the_beginning_of_a_proxy_preface() -> None:
    conversation = dialogue("C! \\r\\n\nS: 500 what\nC! \\r\\n\nC: QUIT\nS: 500 what\nS+ 221 bye")
    assert [e.command.verb for e in conversation.exchanges if e.command] == ["(greeting)", "", "", "QUIT"]


def test_exchanges_are_limited() -> None:
    conversation = dialogue(HAIL + "C: NOOP\nS: 250 ok\n" * 20, limits=Limits(exchanges=10))
    assert len(conversation.exchanges) == 10
    assert conversation.truncated


def test_timeline_has_mail_data_in_its_place() -> None:
    conversation = dialogue(HAIL + ENVELOPE + "C: a\nC: .\nS: 250 ok")
    kinds = [type(item).__name__ for item in conversation.timeline[-3:]]
    assert kinds == ["Reply", "MailData", "Reply"]
    assert sum(isinstance(item, MailData) for item in conversation.timeline) == 1
    assert SERVER == 1


def test_the_wait_after_a_look_alike_that_the_server_took_is_counted_from_the_end_of_that_data() -> None:
    """All the replies come in one packet 6 ms after the data: only the first one was waited for."""
    conversation = dialogue(
        """
        S: 220 mx.example.org
        C: EHLO raw.example.net
        S: 250 mx.example.org
        C: MAIL FROM:<a@example.net>
        S: 250 ok
        C: RCPT TO:<b@example.org>
        S: 250 ok
        C: DATA
        S: 354 go ahead
        C! a: b\\r\\n\\r\\n.\\n.\\r\\nMAIL FROM:<>\\r\\nRCPT TO:<d@example.org>\\r\\nDATA\\r\\nx\\r\\n.\\r\\n
        -- 5 ms --
        S: 250 queued as 1
        S+ 250 ok
        S+ 250 ok
        S+ 354 go ahead
        S+ 250 queued as 2
        """,
        gap_ms=1.0,
    )
    waits = [(e.command.verb, e.wait_ns) for e in conversation.exchanges[5:] if e.command is not None]
    assert waits == [
        ("(end of mail data)", 6_000_000),
        ("MAIL", 0),
        ("RCPT", 0),
        ("DATA", 0),
        ("(end of mail data)", 0),
    ]
