"""The layout of tcpflow 1.6.1 -c, as that program printed it for other captures."""

from __future__ import annotations

import io
from collections.abc import Callable

from smtpdebug.model.smtp import Conversation, MailData
from smtpdebug.model.streams import Location
from smtpdebug.render.tcpflow import TcpFlow

Talk = Callable[..., Conversation]


def lines(*conversations: Conversation) -> list[str]:
    out = io.StringIO()
    sink = TcpFlow(out)
    for conversation in conversations:
        sink.conversation(conversation)
    sink.close()
    return out.getvalue().splitlines()


def test_addresses_are_padded_as_tcpflow_does(talk: Talk) -> None:
    assert lines(talk("S 220 mx", "C EHLO x", "S 250-mx|250 A")) == [
        "2024-01-01T00:00:00.001000000Z 010.000.000.002.00025-010.000.000.007.54170: 220 mx",
        "2024-01-01T00:00:00.002000000Z 010.000.000.007.54170-010.000.000.002.00025: EHLO x",
        "2024-01-01T00:00:00.003000000Z 010.000.000.002.00025-010.000.000.007.54170: 250-mx",
        "2024-01-01T00:00:00.003000000Z 010.000.000.002.00025-010.000.000.007.54170: 250 A",
    ]


def test_ipv6_addresses_stay_as_they_are(talk: Talk) -> None:
    assert " 2001:db8::7.54170-010.000.000.002.00025: NOOP" in lines(talk("C NOOP", client="[2001:db8::7]:54170"))[0]


def test_mail_data_is_the_clients(talk: Talk, at: Callable[[int, float], Location]) -> None:
    conversation = talk("C DATA", "S 354 go")
    conversation.timeline.append(MailData(at(7, 9), at(8, 10), headers=b"Subject: x\r\n", ended=True))
    said = [line.split(" ", 1)[1].split(": ", 1) for line in lines(conversation)][2:]
    assert [text for _, text in said] == ["Subject: x", "."]
    assert {flow for flow, _ in said} == {"010.000.000.007.54170-010.000.000.002.00025"}


def test_two_conversations_by_time(talk: Talk) -> None:
    first, second = talk("S 220 1", "S 250 1"), talk("S 220 2", "S 250 2", client="10.0.0.8:9")
    assert [line[-5:] for line in lines(first, second)] == ["220 1", "220 2", "250 1", "250 2"]
