"""The transcript, compared with what DESIGN says it looks like: written here by hand, not copied from a run."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import pytest

from smtpdebug.model.findings import Diagnosis, Finding, Severity
from smtpdebug.model.smtp import (
    END_OF_DATA,
    Command,
    Conversation,
    Exchange,
    Injected,
    Lost,
    MailData,
    ProxyPreface,
    Reply,
    TlsStarted,
)
from smtpdebug.model.streams import CLIENT, SERVER, Endpoint, Gap, Location, TcpEvent
from smtpdebug.model.tls import Alert, TlsFacts
from smtpdebug.render.text import Text, server_name
from smtpdebug.render.transcript import Options
from smtpdebug.testing import dialogue

Talk = Callable[..., Conversation]
At = Callable[[int, float], Location]


def shown(*conversations: Conversation, options: Options | None = None, **how: Any) -> str:
    out = io.StringIO()
    how.setdefault("columns", WIDE)
    sink = Text(out, options or Options(), **how)
    for conversation in conversations:
        sink.conversation(conversation)
    sink.close()
    return out.getvalue()


def body(text: str) -> list[str]:
    """The lines under the two header lines, blanks squeezed."""
    return [re.sub(r" {2,}", "  ", line.strip()) for line in text.splitlines()[2:]]


WIDE = 200
"""Columns; no line of these tests is broken there."""


@pytest.fixture
def plain(talk: Talk) -> Conversation:
    return talk(
        "S 220 mx.example.org ESMTP",
        "C EHLO client.example.net",
        "S 250-mx.example.org|250 PIPELINING",
        "C MAIL FROM:<a@example.net>",
        "S 354 go ahead",
    )


def test_the_picture_of_the_design(plain: Conversation, at: At) -> None:
    plain.findings.append(Finding("SR103", Severity.WARNING, "354 is not listed as a reply to MAIL", at(8, 5)))
    expected = """\
10.0.0.7:54170 > 10.0.0.2:25   mx.example.org   completed   3 exchanges, 1 finding
   2024-01-01T00:00:00.000000000Z   id-54170   a.pcap
    +1.0 ms  S  220 mx.example.org ESMTP                                      #4
    +1.0 ms  C  EHLO client.example.net                                       #5
    +1.0 ms  S  250-mx.example.org                                            #6
             S  250 PIPELINING
    +1.0 ms  C  MAIL FROM:<a@example.net>                                     #7
    +1.0 ms  S  354 go ahead                                                  #8
             ^  SR103 354 is not listed as a reply to MAIL        RFC 5321 4.3.2
"""
    assert shown(plain, references={"SR103": "RFC 5321 4.3.2"}, columns=80) == expected


def test_clocks(plain: Conversation) -> None:
    absolute = shown(plain, clock="absolute").splitlines()
    assert absolute[2].startswith("2024-01-01T00:00:00.001000000Z  S  220 ")
    relative = shown(plain, clock="relative").splitlines()
    assert [line.split()[0] for line in relative[2:5]] == ["0.001000000", "0.002000000", "0.003000000"]


def test_colours_only_when_asked_for(plain: Conversation) -> None:
    assert "\x1b" not in shown(plain)
    colored = shown(plain, color=True)
    assert "\x1b[94mEHLO client.example.net\x1b[0m" in colored
    assert "\x1b[91m250 PIPELINING\x1b[0m" in colored
    assert re.sub("\x1b\\[[0-9;]*m", "", colored) == shown(plain)


def test_hostile_lines_do_not_reach_the_terminal(talk: Talk, at: At) -> None:
    conversation = talk("S 220 \x1b[2J\x9b1m", "C EHLO \x07\r", "S 250 \x1b]0;x\x07")
    data = MailData(at(8, 5), at(8, 5), bytes=40, lines=3, headers=b"Subject: \x1b[31m\x00\r\n", ended=True)
    conversation.timeline += [
        data,
        Lost(SERVER, None, at(9, 6), "\x1b[1m"),
        Injected(CLIENT, b"\x1b[1mX", at(9, 6)),
        ProxyPreface(1, at(9, 6), "\x1b[1m:1", "b:2"),
        ProxyPreface(1, at(9, 6), line=b"PROXY \x1b[1m", valid=False),
    ]
    conversation.summary = "\x1b[1m"
    conversation.findings.append(Finding("SX1", Severity.NOTE, "says \x1b[1m", at(99, 6)))
    conversation.diagnoses.append(Diagnosis("D1", "x", "\x1b[1m", "\x1b[1m", "low", "", []))
    text = shown(conversation) + shown(conversation, interleave=True)
    assert all(line.isprintable() for line in text.splitlines())
    conversation.outcome = "not-smtp"
    assert shown(conversation).replace("\n", "").isprintable()


def data_exchange(conversation: Conversation, data: MailData, at: At) -> Conversation:
    end = Command(END_OF_DATA, "", b"", data.at, data.at)
    reply = Reply(250, [b"250 queued"], at(12, 30), at(12, 30))
    conversation.exchanges.append(Exchange(end, reply, data=data))
    conversation.timeline += [data, end, reply]
    return conversation


def test_mail_data_is_folded_to_its_headers_and_a_count(talk: Talk, at: At) -> None:
    headers = b"From: a@example.net\r\nSubject: x\r\n"
    data = MailData(at(10, 20), at(11, 25), bytes=len(headers) + 2 + 3 * 7, lines=6, headers=headers, ended=True)
    conversation = data_exchange(talk("C DATA", "S 354 go"), data, at)
    assert body(shown(conversation))[2:] == [
        "+18.0 ms  C  From: a@example.net  #10",
        "C  Subject: x",
        "C  [4 lines, 23 bytes]",
        "+5.0 ms  C  .  #11",
        "+5.0 ms  S  250 queued  #12",
    ]
    assert body(shown(conversation, options=Options(headers=False)))[2:4] == [
        "+23.0 ms  C  [6 lines, 56 bytes]  #11",
        "+0.0 ms  C  .  #11",
    ]


def test_bodies_are_shown_whole(talk: Talk, at: At) -> None:
    headers = b"Subject: x\r\n"
    data = MailData(at(10, 20), at(11, 25), bytes=12 + 2 + 9, lines=4, headers=headers, ended=True)
    data.body = b"one\r\n.2\r\n"
    conversation = data_exchange(talk("C DATA", "S 354 go"), data, at)
    lines = body(shown(conversation, options=Options(bodies=True)))[2:]
    assert lines[:4] == ["+18.0 ms  C  Subject: x  #10", "C", "C  one", "C  .2"]
    assert not any("[" in line for line in lines)


def test_mail_data_cut_short_says_so(talk: Talk, at: At) -> None:
    data = MailData(at(10, 20), at(11, 25), bytes=5000, lines=80, headers=b"Subject: x\r\n", missing=1448)
    conversation = talk("C DATA", "S 354 go")
    conversation.timeline.append(data)
    assert "C  [79 lines, 4,988 bytes, 1,448 bytes of it not in the capture, unfinished]" in body(shown(conversation))


def test_a_reply_that_took_its_time_shows_both_ends(talk: Talk, at: At) -> None:
    conversation = talk("S 220 mx", "C EHLO x")
    conversation.timeline.append(Reply(250, [b"250-mx", b"250-A", b"250 B"], at(6, 10), at(9, 5010)))
    assert body(shown(conversation))[2:] == ["+8.0 ms  S  250-mx  #6", "S  250-A", "+5000.0 ms  S  250 B  #9"]


@pytest.mark.parametrize(
    ("event", "outcome", "said"),
    [
        (("syn-repeated", CLIENT, 0), "completed", "SYN again: no answer so far"),
        (("retransmission", CLIENT, 1448), "completed", "the client sends 1,448 bytes again after 498 ms of silence"),
        (("zero-window", SERVER, 0), "completed", "the server takes no more bytes (window 0)"),
        (("rst", SERVER, 0), "reset", "connection reset by the server (RST)"),
        (("fin", SERVER, 0), "aborted", "the server closes its side (FIN)"),
        (("fin", SERVER, 0), "completed", None),
        (("rst", CLIENT, 0), "completed", None),
        (("keep-alive", CLIENT, 1), "open", None),
        (("window-open", SERVER, 0), "open", None),
    ],
)
def test_tcp_where_it_matters(talk: Talk, at: At, event: tuple[str, Any, int], outcome: str, said: str | None) -> None:
    conversation = talk("S 220 mx", "C EHLO x")
    conversation.outcome = outcome
    kind, side, length = event
    conversation.timeline.append(TcpEvent(kind, side, at(7, 500), length=length))
    lines = [line for line in body(shown(conversation))[2:] if "still open" not in line]
    assert lines == ([] if said is None else [f"+498.0 ms  *  {said}  #7"])


def test_a_quick_retransmission_is_not_worth_a_line(talk: Talk, at: At) -> None:
    conversation = talk("S 220 mx", "C EHLO x")
    conversation.timeline.append(TcpEvent("retransmission", CLIENT, at(7, 150), length=10))
    assert len(body(shown(conversation))) == 2


def test_a_window_that_opens_again_is_shown_after_it_was_shut(talk: Talk, at: At) -> None:
    conversation = talk("S 220 mx")
    conversation.timeline += [TcpEvent("zero-window", SERVER, at(5, 5)), TcpEvent("window-open", SERVER, at(6, 900))]
    assert body(shown(conversation))[-1] == "+895.0 ms  *  the server takes bytes again  #6"


def test_connections_that_never_open(talk: Talk, at: At) -> None:
    conversation = talk()
    conversation.outcome = "no-answer"
    stream = conversation.stream
    stream.syn_ack_ns = stream.established_ns = None
    stream.syn_retransmissions, stream.last = 2, at(3, 3000)
    conversation.timeline += [
        TcpEvent("syn-repeated", CLIENT, at(2, 1000)),
        TcpEvent("syn-repeated", CLIENT, at(3, 3000)),
    ]
    assert body(shown(conversation))[-1].endswith("*  no answer to 3 SYNs over 3.0 s  #3")
    conversation.outcome, conversation.timeline = "refused", [TcpEvent("rst", SERVER, at(2, 1))]
    assert body(shown(conversation)) == ["+1.0 ms  *  connection refused by the server (RST)  #2"]


def test_gaps_and_lost_stretches(talk: Talk, at: At) -> None:
    conversation = talk("S 220 mx")
    gap = Gap(conversation.stream, CLIENT, 0, 1448, at(6, 6), "lost")
    conversation.timeline += [gap, Lost(SERVER, 12, at(7, 7), "joined late")]
    assert body(shown(conversation))[1:] == [
        "+5.0 ms  *  gap: 1,448 bytes of the client not in the capture  #6",
        "+1.0 ms  *  lost: server's side cannot be followed here, 12 bytes (joined late)  #7",
    ]


def test_one_hole_is_told_once(talk: Talk, at: At) -> None:
    conversation = talk("S 220 mx")
    lost, gap = Lost(CLIENT, 10, at(6, 6), "lost", 0), Gap(conversation.stream, CLIENT, 0, 10, at(6, 6), "lost")
    conversation.timeline += [lost, gap]
    once = body(shown(conversation))
    assert once[1:] == ["+5.0 ms  *  gap: 10 bytes of the client not in the capture  #6"]
    conversation.timeline[-2:] = [gap]
    assert body(shown(conversation)) == once


def test_tls_says_what_was_agreed_and_why_it_stays_closed(talk: Talk, at: At) -> None:
    conversation = talk("S 220 mx", "C STARTTLS", "S 220 go")
    conversation.timeline.append(TlsStarted("starttls", at(7, 10)))
    conversation.outcome = "opaque"
    conversation.tls = TlsFacts(
        "starttls", at(7, 10), version="TLS 1.3", cipher_suite="TLS_AES_256_GCM_SHA384", server_name="mx.example.org",
        reason="tls13", reason_text="TLS 1.3 needs a key log", advice="Set SSLKEYLOGFILE",
        application_bytes=[1200, 800], alerts=[Alert(CLIENT, "fatal", "unknown_ca", 48, at(9, 12))],
    )  # fmt: skip
    assert body(shown(conversation))[3:] == [
        "+7.0 ms  *  STARTTLS, TLS 1.3 TLS_AES_256_GCM_SHA384, server name mx.example.org  #7",
        "*  stays closed: TLS 1.3 needs a key log; 1,200 bytes from the client, 800 from the server",
        "*  to open it: Set SSLKEYLOGFILE",
        "+2.0 ms  *  TLS alert from the client: fatal unknown_ca  #9",
    ]


def test_closed_tls_on_a_port_that_is_no_mail_takes_one_line(talk: Talk, at: At) -> None:
    """A capture without a filter holds much HTTPS; ten lines for each would bury the mail."""
    conversation = talk()
    conversation.timeline.append(TlsStarted("implicit", at(4, 10)))
    conversation.outcome, conversation.protocol = "opaque", "tls"
    conversation.stream.server = Endpoint("10.0.0.2", 443)
    conversation.tls = TlsFacts(
        "implicit", at(4, 10), version="TLS 1.3", cipher_suite="TLS_AES_256_GCM_SHA384", server_name="www.example.org",
        reason="tls13", reason_text="TLS 1.3 needs a key log", advice="Set SSLKEYLOGFILE",
        application_bytes=[1200, 800],
    )  # fmt: skip
    assert shown(conversation) == (
        "10.0.0.7:54170 > 10.0.0.2:443   TLS from the first byte, TLS 1.3 TLS_AES_256_GCM_SHA384, server name "
        "www.example.org; stays closed: TLS 1.3 needs a key log; 1,200 bytes from the client, 800 from the server\n"
    )
    assert "Set SSLKEYLOGFILE" in shown(conversation, ports={443})
    conversation.stream.server = Endpoint("10.0.0.2", 465)
    assert "Set SSLKEYLOGFILE" in shown(conversation)


def test_decrypted_lines_are_marked(talk: Talk, at: At) -> None:
    conversation = talk("S 220 mx", "C STARTTLS", "S 220 go")
    conversation.timeline.append(TlsStarted("starttls", at(7, 10)))
    conversation.tls = TlsFacts("starttls", at(7, 10), version="TLS 1.2", decrypted=True, secret="keylog")
    conversation.timeline.append(Command("NOOP", "", b"NOOP", at(8, 11), at(8, 11), encrypted=True))
    assert body(shown(conversation))[4:] == ["*  decrypted with the key log", "+1.0 ms  C~ NOOP  #8"]


def test_injected_plaintext_is_loud(talk: Talk, at: At) -> None:
    conversation = talk("S 220 mx", "C STARTTLS")
    conversation.timeline.append(Injected(CLIENT, b"RSET\r\nMAIL FROM:<x@y>\r\n", at(5, 2)))
    assert body(shown(conversation))[2] == (
        '+0.0 ms  !  INJECTED: 23 bytes in clear from the client after STARTTLS: "RSET | MAIL FROM:<x@y>"  #5'
    )
    assert "\x1b[1;7;91mINJECTED" in shown(conversation, color=True)


def test_what_is_not_smtp_takes_one_line(talk: Talk) -> None:
    other = talk()
    other.outcome, other.protocol, other.summary = "not-smtp", "unknown", "HTTP"
    line = "10.0.0.7:54170 > 10.0.0.2:25   not SMTP: HTTP; 100 bytes from the client, 90 from the server"
    assert shown(other, other, talk("S 220 mx"), other).splitlines() == [
        line, line, "", *shown(talk("S 220 mx")).splitlines(), "", line
    ]  # fmt: skip


def test_a_finding_in_a_packet_of_many_lines_goes_under_the_one_it_names(talk: Talk, at: At) -> None:
    conversation = talk("S 220 mx")
    place = at(9, 9)
    conversation.timeline += [
        Command(verb, "x", f"{verb} x".encode(), place, place) for verb in ("MAIL", "RCPT", "DATA")
    ]
    conversation.findings += [
        Finding("SC1", Severity.ERROR, "RCPT without brackets", place),
        Finding("SC2", Severity.NOTE, "something of this packet", place),
        Finding("SC3", Severity.NOTE, "of no line here, and later", at(77, 10)),
        Finding("SC4", Severity.NOTE, "of no line here, before all", at(1, 0)),
        Finding("SC5", Severity.NOTE, "of no line here, in between", at(6, 5)),
    ]
    marks = [line.split("  ")[-2 if "#" in line else -1] for line in body(shown(conversation))]
    assert marks == ["SC4 of no line here, before all", "220 mx", "SC5 of no line here, in between",
                     "MAIL x", "RCPT x", "SC1 RCPT without brackets", "DATA x", "SC2 something of this packet",
                     "SC3 of no line here, and later"]  # fmt: skip


def test_among_replies_of_one_code_a_finding_goes_under_the_one_it_quotes(talk: Talk, at: At) -> None:
    conversation = talk("S 220 mx")
    place = at(9, 9)
    for text in ("550 5.1.1 <a@x> unknown", "550 5.1.1 <b@x> unknown"):
        conversation.timeline.append(Reply(550, [text.encode()], place, place))
    conversation.findings += [
        Finding("SC1", Severity.NOTE, f"recipient <{who}@x> refused: 550 5.1.1 <{who}@x> unknown", place)
        for who in ("a", "b")
    ]
    whose = [line.split("@")[0][-1] for line in body(shown(conversation))[1:]]
    assert whose == ["a", "a", "b", "b"]


def test_of_the_replies_in_one_packet_a_finding_goes_under_the_one_of_its_exchange(talk: Talk, at: At) -> None:
    conversation = talk("S 220 mx")
    place = at(9, 9)
    for text in (b"250 2.1.0 ok", b"250 2.1.5 ok"):
        reply = Reply(250, [text], place, place)
        conversation.timeline.append(reply)
        conversation.exchanges.append(Exchange(None, reply))
    last = len(conversation.exchanges) - 1
    conversation.findings.append(Finding("SC1", Severity.NOTE, "250 to RCPT", place, exchange=last))
    assert [line.split("  ")[-1 if "SC1" in line else 2] for line in body(shown(conversation))[1:]] == [
        "250 2.1.0 ok", "250 2.1.5 ok", "SC1 250 to RCPT"
    ]  # fmt: skip


def test_mail_data_begins_before_what_happened_in_its_middle(talk: Talk, at: At) -> None:
    """An item of the timeline is at its end; a negative time between lines would be nonsense."""
    conversation = talk("C DATA", "S 354 go")
    conversation.timeline += [
        TcpEvent("zero-window", SERVER, at(12, 22)),
        TcpEvent("window-open", SERVER, at(13, 23)),
        MailData(at(10, 20), at(14, 24), bytes=5000, lines=80, headers=b"Subject: x\r\nFrom: y\r\n", ended=True),
    ]
    assert body(shown(conversation))[2:] == [
        "+18.0 ms  C  Subject: x  #10",
        "C  From: y",
        "+2.0 ms  *  the server takes no more bytes (window 0)  #12",
        "+1.0 ms  *  the server takes bytes again  #13",
        "+1.0 ms  C  [78 lines, 4,979 bytes]  #14",
        "+0.0 ms  C  .  #14",
    ]


def test_frames_name_their_file_where_it_changes(talk: Talk, at: At) -> None:
    conversation = talk("S 220 mx")
    place = Location("traces/b.pcap", 1, at(0, 9).ts_ns)
    conversation.timeline.append(Command("QUIT", "", b"QUIT", place, place))
    conversation.stream.captures = ["traces/a.pcap", "traces/b.pcap"]
    text = shown(conversation)
    assert "   a.pcap to b.pcap\n" in text
    assert text.rstrip().endswith("b.pcap #1")


def test_ipv6_addresses_have_brackets(talk: Talk) -> None:
    assert shown(talk("S 220 mx", client="[2001:db8::7]:54170")).startswith("[2001:db8::7]:54170 > ")


def test_interleaved_lines_are_in_order_of_time(talk: Talk) -> None:
    first, second = talk("S 220 one", "C NOOP 1"), talk("S 220 two", "C NOOP 2", client="10.0.0.8:1")
    second.stream.opened = Location("a.pcap", 2, second.stream.opened.ts_ns + 1)
    lines = shown(first, second, interleave=True, clock="absolute").splitlines()
    times = [line[22:52] for line in lines if "Z  " in line]
    assert times == sorted(times)
    assert [line.split()[0] for line in lines if "NOOP" in line] == ["10.0.0.7:54170", "10.0.0.8:1"]
    assert [line.split()[-2] for line in lines if "Z  S" in line] == ["one", "two"]


def test_live_lines_come_as_they_are_said(talk: Talk) -> None:
    conversation = talk("S 220 mx.example.org", "C QUIT", "S 221 bye")
    out = io.StringIO()
    sink = Text(out, Options())
    seen = []
    for item in conversation.timeline:
        sink.item(conversation, item)
        seen.append(out.getvalue().count("\n"))
    assert seen == [2, 3, 4]
    sink.conversation(conversation)
    assert out.getvalue().splitlines()[-1] == "10.0.0.7:54170        completed"
    assert out.getvalue().count("QUIT") == 1


def test_the_servers_name(talk: Talk, at: At) -> None:
    assert server_name(talk("S 220 mx.example.org ESMTP", "C QUIT", "S 221 x")) == "mx.example.org"
    assert server_name(talk("S 220 ready", "C EHLO x", "S 250-mail.example.com hello|250 A")) == "mail.example.com"
    opaque = talk()
    opaque.tls = TlsFacts("implicit", at(1, 1), server_name="smtp.example.net")
    assert server_name(opaque) == "smtp.example.net"
    assert server_name(talk("S 554 mx.example.org no")) == ""


def test_what_is_said_about_the_conversation_is_broken_to_fit_and_what_was_said_is_not(talk: Talk, at: At) -> None:
    words = "word " * 30
    conversation = talk(f"S 220 {words}")
    conversation.timeline.append(Lost(SERVER, None, at(5, 5), words))
    conversation.findings.append(Finding("SR1", Severity.NOTE, words, at(4, 1)))
    conversation.diagnoses.append(Diagnosis("D1", "x", words, words, "low", "", []))
    lines = shown(conversation, columns=80, references={"SR1": "RFC 5321 4.2"}).splitlines()[2:]
    assert len(lines[0]) > 150
    assert len(lines) > 8
    assert all(len(line) <= 80 for line in lines[1:])
    assert lines[1].endswith("RFC 5321 4.2")


def test_the_alerts_of_an_orderly_end_are_not_worth_a_line(talk: Talk, at: At) -> None:
    conversation = talk("S 220 mx")
    conversation.tls = TlsFacts("implicit", at(1, 1))
    conversation.tls.alerts = [
        Alert(CLIENT, "warning", "close_notify", 0, at(9, 12), phase="application"),
        Alert(CLIENT, "unknown", "encrypted", -1, at(9, 12), encrypted=True, phase="application"),
    ]
    assert len(body(shown(conversation))) == 1


def test_a_reset_after_a_fin_is_not_worth_a_line(talk: Talk, at: At) -> None:
    conversation = talk("S 220 mx")
    conversation.outcome = "opaque"
    conversation.timeline.append(TcpEvent("rst", CLIENT, at(9, 9)))
    assert len(body(shown(conversation))) == 2
    conversation.stream.fin_ns[SERVER] = at(8, 8).ts_ns
    assert len(body(shown(conversation))) == 1


def test_a_server_that_closes_without_a_word(talk: Talk, at: At) -> None:
    """The end is all there is to see; it must not be left out as the end of a conversation that was over."""
    conversation = talk("C QUIT")
    conversation.timeline.insert(0, TcpEvent("fin", SERVER, at(4, 0.5)))
    conversation.timeline.append(TcpEvent("fin", CLIENT, at(6, 2)))
    assert [line.split("  ")[2] for line in body(shown(conversation))] == [
        "the server closes its side (FIN)", "QUIT", "the client closes its side (FIN)"
    ]  # fmt: skip


@pytest.mark.parametrize(("kind", "what"), [("syn-repeated", "SYN again"), ("syn-ack-repeated", "SYN-ACK again")])
def test_a_handshake_captured_twice_says_nothing_about_answers(talk: Talk, at: At, kind: str, what: str) -> None:
    conversation = talk()
    late, soon = at(9, 2000), at(3, 0)
    conversation.stream.syn_ns = conversation.stream.syn_ack_ns = soon.ts_ns
    conversation.timeline += [TcpEvent(kind, CLIENT, soon), TcpEvent(kind, CLIENT, late)]
    first, second = (line.split("  ")[2] for line in body(shown(conversation)) if " again" in line)
    assert first == what
    assert second.startswith(what + ": ")


def test_lines_nobody_can_read_are_shown_and_the_rest_of_mail_data_is_folded() -> None:
    def said(text: str, **options: bool) -> list[str]:
        conversation = dialogue("S: 220 mx\n-- gap 10 --\n" + text)
        lines = body(shown(conversation, options=Options(**options)))
        return [found[1] for line in lines if (found := re.search(r"(?:^|  )C  (.*?)(?:  #|$)", line))]

    assert said("C: TO:<b@example.org>\nS: 250 ok") == ["TO:<b@example.org>"]
    nine = "\n".join(f"C: line {n}" for n in range(9))
    assert said(nine) == [*(f"line {n}" for n in range(5)), "[4 more lines, 32 bytes]"]
    mail = "C: Subject: x\nC:\nC: text\nC: .\nS: 250 ok"
    assert said(mail) == ["[3 lines, 20 bytes]", "."]
    assert "text" in said(mail, bodies=True)
