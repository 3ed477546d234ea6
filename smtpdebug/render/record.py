"""The conversation record, version 1: the types behind every line of ``-f jsonl`` and its JSON Schema.

The schema in ``docs/record.schema.json`` is made from these types (``python -m smtpdebug.cli.reference``), so the two
cannot part ways. What each field means is in ``docs/record.md``.
"""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

VERSION: Final = 1

Millis: TypeAlias = float | None
Outcome: TypeAlias = Literal[
    "completed", "refused", "no-answer", "rejected", "reset", "aborted", "open", "opaque", "not-smtp"
]


class EndpointRecord(msgspec.Struct, gc=False):
    """An address (text form, IPv6 without brackets) and a TCP port."""

    ip: str
    port: int


class BySide(msgspec.Struct, gc=False):
    """A count for each side: of what it sent."""

    client: int
    server: int


class TcpRecord(msgspec.Struct, gc=False):
    """What TCP did under the conversation."""

    complete: bool
    handshake_ms: Millis
    rtt_ms: Millis
    syn_retransmissions: int
    closed_by: Literal["client-fin", "server-fin", "client-rst", "server-rst"] | None
    packets: BySide
    bytes: BySide
    retransmissions: BySide
    out_of_order: BySide
    zero_windows: BySide
    missing_bytes: BySide


class CertificateRecord(msgspec.Struct, gc=False):
    """One certificate of the server's chain, leaf first."""

    subject: str
    issuer: str
    names: list[str]
    not_before: str
    not_after: str
    sha256: str


class AlertRecord(msgspec.Struct, gc=False, rename={"sender": "from"}):
    """A TLS alert that could be read."""

    sender: Literal["client", "server"]
    level: str
    description: str
    frame: int


class TlsRecord(msgspec.Struct, gc=False):
    """One TLS connection: what was agreed, and whether it was opened."""

    mode: Literal["implicit", "starttls"]
    version: str | None
    cipher_suite: str | None
    server_name: str | None
    resumed: bool | None
    handshake_ms: Millis
    certificates: list[CertificateRecord]
    alerts: list[AlertRecord]
    decrypted: bool
    secret: str | None
    reason: str | None
    decryptor: str | None
    reason_text: str | None
    advice: str | None
    alpn: str | None
    group: str | None
    ja3: str | None
    ja4: str | None


class ProxyRecord(msgspec.Struct, gc=False):
    """The PROXY protocol preface."""

    version: int
    source: str | None
    destination: str | None


class CommandRecord(msgspec.Struct, gc=False):
    """A command line or pseudo-command."""

    verb: str
    argument: str
    began: str
    at: str
    frame: int
    capture: str | UnsetType = UNSET


class ReplyRecord(msgspec.Struct, gc=False):
    """A reply, all its lines."""

    code: int
    enhanced: str | None
    lines: list[str]
    began: str
    at: str
    frame: int
    capture: str | UnsetType = UNSET


class ExchangeRecord(msgspec.Struct, gc=False):
    """A command and its reply."""

    command: CommandRecord | None
    reply: ReplyRecord | None
    wait_ms: Millis
    encrypted: bool
    recipient: str | UnsetType = UNSET


class RecipientRecord(msgspec.Struct, gc=False):
    """A recipient of a message and the code of its reply."""

    address: str
    code: int | None


class MessageRecord(msgspec.Struct, gc=False):
    """A mail transaction."""

    mail_from: str
    rcpt_to: list[RecipientRecord]
    bytes: int | None
    sha256: str | None
    code: int | None
    headers: list[str]
    body: str | UnsetType = UNSET


class LatencyRecord(msgspec.Struct, gc=False):
    """Where the time went."""

    tcp_handshake_ms: Millis
    greeting_ms: Millis
    tls_handshake_ms: Millis
    total_ms: float
    network_ms: float
    server_ms: float
    client_ms: float
    unknown_ms: float


class FindingRecord(msgspec.Struct, gc=False):
    """What one rule has to say about one place."""

    rule: str
    severity: Literal["error", "warning", "note"]
    message: str
    frame: int
    at: str
    indeterminate: bool = False
    security: bool = False
    capture: str | UnsetType = UNSET


class EvidenceRecord(msgspec.Struct, gc=False):
    """A packet that a diagnosis leans on."""

    capture: str
    frame: int
    at: str


class DiagnosisRecord(msgspec.Struct, gc=False):
    """What the findings, waits and TCP facts add up to."""

    id: str
    name: str
    says: str
    advice: str
    confidence: Literal["high", "medium", "low"]
    otherwise: str
    evidence: list[EvidenceRecord]


class ConversationRecord(msgspec.Struct, gc=False):
    """One line of ``-f jsonl``."""

    v: Literal[1]
    type: Literal["conversation"]
    id: str
    community_id: str
    captures: list[str]
    client: EndpointRecord
    server: EndpointRecord
    start: str
    end: str
    outcome: Outcome
    protocol: Literal["smtp", "lmtp", "tls", "unknown"]
    tcp: TcpRecord
    tls: TlsRecord | None
    proxy: ProxyRecord | None
    exchanges: list[ExchangeRecord]
    messages: list[MessageRecord]
    latency: LatencyRecord
    findings: list[FindingRecord]
    truncated: bool
    diagnoses: list[DiagnosisRecord]
    joined_late: bool
    summary: str


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of one line. Other properties are allowed: the record only ever grows."""
    schema = msgspec.json.schema(ConversationRecord)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:smtpdebug:record:1",
        "title": "smtpdebug conversation record, version 1",
        **schema,
    }
