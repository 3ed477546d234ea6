"""The record, field by field, against docs/record.md and its schema."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smtpdebug.model.findings import Diagnosis, Finding, Severity
from smtpdebug.model.smtp import Conversation, Latency, MailData, Message, ProxyPreface, Recipient
from smtpdebug.model.streams import SERVER, Location
from smtpdebug.model.tls import Alert, Certificate, TlsFacts
from smtpdebug.render.jsonl import JsonLines, header_fields

Talk = Callable[..., Conversation]
At = Callable[[int, float], Location]

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "record.schema.json").read_text())
VALID = jsonschema.Draft202012Validator(SCHEMA)


def written(conversation: Conversation, **how: Any) -> dict[str, Any]:
    out = io.BytesIO()
    sink = JsonLines(out, **how)
    sink.conversation(conversation)
    sink.close()
    text = out.getvalue().decode()
    assert text.endswith("\n")
    assert text.count("\n") == 1
    line: dict[str, Any] = json.loads(text)
    VALID.validate(line)
    return line


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_every_field_of_a_plain_conversation(talk: Talk, at: At) -> None:
    conversation = talk("S 220 mx ESMTP", "C MAIL FROM:<a@b.example>", "S 250 2.1.0 fine", "C DATA")
    reply = conversation.exchanges[1].reply
    assert reply is not None
    reply.enhanced, reply.began, reply.at = "2.1.0", at(6, 3.25), at(7, 3.75)
    conversation.exchanges[1].wait_ns = 1_250_001
    data = MailData(at(8, 5), at(9, 6), bytes=21, sha256="ab" * 32, headers=b"Subject: a\r\n b\r\nTo: x\r\n")
    conversation.messages = [Message("a@b.example", [Recipient("c@d.example", 250), Recipient("e@f", None)], data, 451)]
    conversation.latency = Latency(200_000, 800_000, None, 10_000_000, 1_000_000, 2_000_000, 3_000_000, 4_000_000)
    conversation.findings = [Finding("SR103", Severity.WARNING, "odd", at(6, 3), security=True)]
    conversation.diagnoses = [Diagnosis("D24", "slow", "Slow.", "Wait.", "high", "Not slow.", [at(6, 3)])]
    stream = conversation.stream
    stream.packets, stream.bytes, stream.retransmissions = [1, 2], [3, 4], [5, 6]
    stream.out_of_order, stream.zero_windows, stream.missing = [7, 8], [9, 10], [11, 12]
    assert written(conversation) == {
        "v": 1,
        "type": "conversation",
        "id": "id-54170",
        "community_id": "1:x",
        "captures": ["a.pcap"],
        "client": {"ip": "10.0.0.7", "port": 54170},
        "server": {"ip": "10.0.0.2", "port": 25},
        "start": "2024-01-01T00:00:00.000000000Z",
        "end": "2024-01-01T00:00:00.004000000Z",
        "outcome": "completed",
        "protocol": "smtp",
        "tcp": {
            "complete": True,
            "handshake_ms": 0.2,
            "rtt_ms": 0.2,
            "syn_retransmissions": 0,
            "closed_by": "client-fin",
            "packets": {"client": 1, "server": 2},
            "bytes": {"client": 3, "server": 4},
            "retransmissions": {"client": 5, "server": 6},
            "out_of_order": {"client": 7, "server": 8},
            "zero_windows": {"client": 9, "server": 10},
            "missing_bytes": {"client": 11, "server": 12},
        },
        "tls": None,
        "proxy": None,
        "exchanges": [
            {
                "command": {
                    "verb": "(greeting)",
                    "argument": "",
                    "began": "2024-01-01T00:00:00.000200000Z",
                    "at": "2024-01-01T00:00:00.000200000Z",
                    "frame": 3,
                },
                "reply": {
                    "code": 220,
                    "enhanced": None,
                    "lines": ["mx ESMTP"],
                    "began": "2024-01-01T00:00:00.001000000Z",
                    "at": "2024-01-01T00:00:00.001000000Z",
                    "frame": 4,
                },
                "wait_ms": 1.0,
                "encrypted": False,
            },
            {
                "command": {
                    "verb": "MAIL",
                    "argument": "FROM:<a@b.example>",
                    "began": "2024-01-01T00:00:00.002000000Z",
                    "at": "2024-01-01T00:00:00.002000000Z",
                    "frame": 5,
                },
                "reply": {
                    "code": 250,
                    "enhanced": "2.1.0",
                    "lines": ["2.1.0 fine"],
                    "began": "2024-01-01T00:00:00.003250000Z",
                    "at": "2024-01-01T00:00:00.003750000Z",
                    "frame": 7,
                },
                "wait_ms": 1.250001,
                "encrypted": False,
            },
            {
                "command": {
                    "verb": "DATA",
                    "argument": "",
                    "began": "2024-01-01T00:00:00.004000000Z",
                    "at": "2024-01-01T00:00:00.004000000Z",
                    "frame": 7,
                },
                "reply": None,
                "wait_ms": None,
                "encrypted": False,
            },
        ],
        "messages": [
            {
                "mail_from": "a@b.example",
                "rcpt_to": [{"address": "c@d.example", "code": 250}, {"address": "e@f", "code": None}],
                "bytes": 21,
                "sha256": "ab" * 32,
                "code": 451,
                "headers": ["Subject: a b", "To: x"],
            }
        ],
        "latency": {
            "tcp_handshake_ms": 0.2,
            "greeting_ms": 0.8,
            "tls_handshake_ms": None,
            "total_ms": 10.0,
            "network_ms": 1.0,
            "server_ms": 2.0,
            "client_ms": 3.0,
            "unknown_ms": 4.0,
        },
        "findings": [
            {
                "rule": "SR103",
                "severity": "warning",
                "message": "odd",
                "frame": 6,
                "at": "2024-01-01T00:00:00.003000000Z",
                "indeterminate": False,
                "security": True,
            }
        ],
        "truncated": False,
        "diagnoses": [
            {
                "id": "D24",
                "name": "slow",
                "says": "Slow.",
                "advice": "Wait.",
                "confidence": "high",
                "otherwise": "Not slow.",
                "evidence": [{"capture": "a.pcap", "frame": 6, "at": "2024-01-01T00:00:00.003000000Z"}],
            }
        ],
        "joined_late": False,
        "summary": "",
    }


def test_tls_and_proxy(talk: Talk, at: At) -> None:
    conversation = talk("S 220 mx")
    day = 86_400_000_000_000
    certificate = Certificate("CN=mx", "CN=ca", ["mx.example.org"], 0, day, "aa", "bb", "RSA 2048", b"der")
    conversation.proxy = ProxyPreface(2, at(4, 1), "192.0.2.1:5", "192.0.2.2:25")
    conversation.tls = TlsFacts(
        "starttls", at(5, 2), version="TLS 1.2", cipher_suite="TLS_RSA_WITH_AES_128_GCM_SHA256", resumed=False,
        certificates=[certificate], alerts=[Alert(SERVER, "fatal", "handshake_failure", 40, at(6, 3))],
        handshake_ns=1_500_000, reason="no-key", secret=None,
    )  # fmt: skip
    line = written(conversation)
    assert line["proxy"] == {"version": 2, "source": "192.0.2.1:5", "destination": "192.0.2.2:25"}
    tls = line["tls"]
    assert tls["certificates"] == [
        {
            "subject": "CN=mx",
            "issuer": "CN=ca",
            "names": ["mx.example.org"],
            "not_before": "1970-01-01T00:00:00.000000000Z",
            "not_after": "1970-01-02T00:00:00.000000000Z",
            "sha256": "aa",
        }
    ]
    assert tls["alerts"] == [{"from": "server", "level": "fatal", "description": "handshake_failure", "frame": 6}]
    wanted = {"mode": "starttls", "version": "TLS 1.2", "cipher_suite": "TLS_RSA_WITH_AES_128_GCM_SHA256",
              "server_name": None, "resumed": False, "handshake_ms": 1.5, "decrypted": False, "secret": None,
              "reason": "no-key"}  # fmt: skip
    assert {name: tls[name] for name in wanted} == wanted


def test_a_reply_that_nobody_asked_for(talk: Talk) -> None:
    line = written(talk("S 220 mx", "S 421 bye"))
    assert line["exchanges"][1]["command"] is None
    assert line["exchanges"][1]["wait_ms"] is None


def test_places_name_their_capture_where_there_are_several(talk: Talk, at: At) -> None:
    conversation = talk("S 220 mx")
    conversation.findings = [Finding("SR1", Severity.NOTE, "x", at(4, 1))]
    assert "capture" not in written(conversation)["exchanges"][0]["reply"]
    conversation.stream.captures = ["a.pcap", "b.pcap"]
    line = written(conversation)
    assert line["exchanges"][0]["command"]["capture"] == "a.pcap"
    assert line["exchanges"][0]["reply"]["capture"] == "a.pcap"
    assert line["findings"][0]["capture"] == "a.pcap"


@pytest.mark.parametrize(
    "outcome",
    ["completed", "refused", "no-answer", "rejected", "reset", "aborted", "open", "opaque", "not-smtp"],
)
def test_all_outcomes_of_the_contract_are_valid(talk: Talk, outcome: str) -> None:
    conversation = talk()
    conversation.outcome = outcome
    assert written(conversation)["outcome"] == outcome


def test_an_unknown_outcome_is_not_valid(talk: Talk) -> None:
    conversation = talk()
    conversation.outcome = "splendid"
    with pytest.raises(jsonschema.ValidationError):
        written(conversation)


@given(st.binary(max_size=60))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_octets_make_valid_json(talk: Talk, octets: bytes) -> None:
    conversation = talk("S 220 mx", "C EHLO x")
    reply, command = conversation.exchanges[0].reply, conversation.exchanges[1].command
    assert reply is not None
    assert command is not None
    reply.lines = [b"220-" + octets, b"220 x"]
    command.argument = octets.decode("utf-8", "backslashreplace")
    line = written(conversation)
    assert line["exchanges"][0]["reply"]["lines"] == [octets.decode("utf-8", "backslashreplace"), "x"]
    assert line["exchanges"][1]["command"]["argument"] == command.argument


@pytest.mark.parametrize(
    ("headers", "fields"),
    [
        (b"A: 1\r\nB: 2\r\n", ["A: 1", "B: 2"]),
        (b"A: 1", ["A: 1"]),
        (b"A: 1\r\n  2\r\n\t3\r\nB: 4\r\n", ["A: 1  2\t3", "B: 4"]),  # RFC 5322 2.2.3: only the line end goes
        (b"A: 1\nB: \xff\n", ["A: 1", r"B: \xff"]),
    ],
)
def test_header_fields_are_unfolded(headers: bytes, fields: list[str]) -> None:
    assert header_fields(headers) == fields


def test_bodies_are_written_only_where_kept(talk: Talk, at: At) -> None:
    conversation = talk()
    data = MailData(at(1, 1), at(1, 1), bytes=3)
    conversation.messages = [Message("a", [], data)]
    assert "body" not in written(conversation)["messages"][0]
    data.body = b"a\r\n"
    assert written(conversation)["messages"][0]["body"] == "a\r\n"
