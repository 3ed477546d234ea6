"""``-f jsonl``: one conversation record a line (``docs/record.md``). In the hot path: see ``make bench``."""

from __future__ import annotations

from typing import BinaryIO

import msgspec

from smtpdebug.model.findings import Diagnosis, Finding
from smtpdebug.model.smtp import Command, Conversation, Exchange, Latency, Message, Reply
from smtpdebug.model.streams import Location, Stream
from smtpdebug.model.tls import UNSEALED, TlsFacts
from smtpdebug.render.clock import milliseconds, rfc3339
from smtpdebug.render.escape import safe_json
from smtpdebug.render.record import (
    VERSION,
    AlertRecord,
    BySide,
    CertificateRecord,
    CommandRecord,
    ConversationRecord,
    DiagnosisRecord,
    EndpointRecord,
    EvidenceRecord,
    ExchangeRecord,
    FindingRecord,
    LatencyRecord,
    MessageRecord,
    ProxyRecord,
    RecipientRecord,
    ReplyRecord,
    TcpRecord,
    TlsRecord,
)
from smtpdebug.render.redact import Redactor

_SIDES = ("client", "server")
_CONFIDENCE = ("high", "medium", "low")
_decode = msgspec.json.Decoder(ConversationRecord).decode


class JsonLines:
    """Sink: writes each finished conversation as one line of JSON.

    Args:
        out: a binary stream; written in pieces of about 64 KiB.
        show_secrets: write AUTH arguments and answers as sent.
    """

    def __init__(self, out: BinaryIO, *, show_secrets: bool = False) -> None:
        self._out, self._show_secrets = out, show_secrets
        self._encoder = msgspec.json.Encoder()
        self._buffer = bytearray()

    def conversation(self, conversation: Conversation) -> None:
        """Write one line."""
        buffer = self._buffer
        buffer += self.line(conversation)
        if len(buffer) >= 65536:
            self.flush()

    def line(self, conversation: Conversation) -> bytes:
        """The line, with its end."""
        return safe_json(self._encoder.encode(record(conversation, show_secrets=self._show_secrets))) + b"\n"

    def flush(self) -> None:
        """Hand over what is written so far."""
        if self._buffer:
            self._out.write(self._buffer)
            self._buffer.clear()
        self._out.flush()

    def close(self) -> None:
        """Nothing belongs at the end; what is held is written."""
        self.flush()


def completed(line: bytes, findings: list[Finding], diagnoses: list[Diagnosis], redactor: Redactor) -> bytes:
    """A written line, with its end, to which something is added that was found out later.

    A diagnosis takes the place of one with the same id. The result is the line that the whole would have given.

    Args:
        redactor: knows the secret words of the conversation.
    """
    written = _decode(line)
    several = len(written.captures) > 1
    if findings:
        written.findings += [_finding(finding, redactor, several) for finding in findings]
        written.findings.sort(key=lambda finding: (finding.at, finding.frame, finding.rule))
    if diagnoses:
        replaced = {diagnosis.id for diagnosis in diagnoses}
        kept = [diagnosis for diagnosis in written.diagnoses if diagnosis.id not in replaced]
        kept += [_diagnosis(diagnosis, redactor) for diagnosis in diagnoses]
        written.diagnoses = sorted(kept, key=_weight)
    return safe_json(msgspec.json.encode(written)) + b"\n"


def _weight(diagnosis: DiagnosisRecord) -> tuple[int, str, str]:
    evidence = diagnosis.evidence
    return _CONFIDENCE.index(diagnosis.confidence), evidence[0].at if evidence else "", diagnosis.id


def record(conversation: Conversation, *, show_secrets: bool = False) -> ConversationRecord:
    """The record of a conversation, secrets hidden unless asked for."""
    stream = conversation.stream
    redactor = Redactor(conversation, show=show_secrets)
    # Frame numbers restart in each file: where there are several, each place names its own.
    several = len(stream.captures) > 1
    proxy = conversation.proxy
    return ConversationRecord(
        VERSION,
        "conversation",
        conversation.id,
        conversation.community_id,
        stream.captures,
        EndpointRecord(stream.client.ip, stream.client.port),
        EndpointRecord(stream.server.ip, stream.server.port),
        rfc3339(stream.opened.ts_ns),
        rfc3339(stream.last.ts_ns),
        conversation.outcome,  # type: ignore[arg-type]  # a closed list, but a str in the model
        conversation.protocol,  # type: ignore[arg-type]
        _tcp(stream),
        None if conversation.tls is None else _tls(conversation.tls),
        None if proxy is None else ProxyRecord(proxy.version, proxy.source, proxy.destination),
        _exchanges(conversation.exchanges, redactor, several),
        [_message(message) for message in conversation.messages],
        _latency(conversation.latency),
        [_finding(finding, redactor, several) for finding in conversation.findings],
        conversation.truncated,
        [_diagnosis(diagnosis, redactor) for diagnosis in conversation.diagnoses],
        conversation.joined_late,
        conversation.summary and redactor.text(conversation.summary),
    )


def _exchanges(exchanges: list[Exchange], redactor: Redactor, several: bool) -> list[ExchangeRecord]:
    written = []
    idle = redactor.idle
    for exchange in exchanges:
        command, reply, wait = exchange.command, exchange.reply, exchange.wait_ns
        built = ExchangeRecord(
            None if command is None else _command(command, redactor, idle),
            None if reply is None else _reply(reply, redactor, idle),
            None if wait is None else wait / 1_000_000,
            exchange.encrypted,
        )
        if several:
            _name_captures(built, exchange)
        if exchange.recipient is not None:
            built.recipient = exchange.recipient
        written.append(built)
    return written


def _command(command: Command, redactor: Redactor, idle: bool) -> CommandRecord:
    verb, argument = (command.verb, command.argument) if idle else redactor.command(command)
    at = command.at
    ended = rfc3339(at.ts_ns)
    began = ended if command.began is at else rfc3339(command.began.ts_ns)
    return CommandRecord(verb, argument, began, ended, at.frame)


def _reply(reply: Reply, redactor: Redactor, idle: bool) -> ReplyRecord:
    at = reply.at
    ended = rfc3339(at.ts_ns)
    began = ended if reply.began is at else rfc3339(reply.began.ts_ns)
    texts = reply.texts if idle else redactor.reply_texts(reply)
    return ReplyRecord(reply.code, reply.enhanced, texts, began, ended, at.frame)


def _name_captures(built: ExchangeRecord, exchange: Exchange) -> None:
    if built.command is not None and exchange.command is not None:
        built.command.capture = exchange.command.at.capture
    if built.reply is not None and exchange.reply is not None:
        built.reply.capture = exchange.reply.at.capture


def _tcp(stream: Stream) -> TcpRecord:
    syn, syn_ack, established = stream.last_syn_ns, stream.syn_ack_ns, stream.established_ns
    if syn is None:
        syn = stream.syn_ns
    handshake = rtt = None
    if established is not None:
        handshake = None if stream.syn_ns is None else (established - stream.syn_ns) / 1_000_000
        # From the SYN that was answered to the ACK: a full round trip wherever on the path the capture was taken.
        rtt = None if syn is None or syn_ack is None else (established - syn) / 1_000_000
    return TcpRecord(
        stream.complete,
        handshake,
        rtt,
        stream.syn_retransmissions,
        stream.closed_by,  # type: ignore[arg-type]
        BySide(*stream.packets),
        BySide(*stream.bytes),
        BySide(*stream.retransmissions),
        BySide(*stream.out_of_order),
        BySide(*stream.zero_windows),
        BySide(*stream.missing),
    )


def _tls(facts: TlsFacts) -> TlsRecord:
    return TlsRecord(
        mode=facts.mode,  # type: ignore[arg-type]
        version=facts.version,
        cipher_suite=facts.cipher_suite,
        server_name=facts.server_name,
        resumed=facts.resumed,
        handshake_ms=milliseconds(facts.handshake_ns),
        certificates=[
            CertificateRecord(
                certificate.subject,
                certificate.issuer,
                certificate.names,
                rfc3339(certificate.not_before_ns),
                rfc3339(certificate.not_after_ns),
                certificate.sha256,
            )
            for certificate in facts.certificates
        ],
        alerts=[
            AlertRecord(_SIDES[alert.sender], alert.level, alert.description, alert.at.frame)  # type: ignore[arg-type]
            for alert in facts.alerts
        ],
        decrypted=facts.decrypted,
        secret=None if facts.secret == UNSEALED else facts.secret,
        reason=facts.reason,
        decryptor=facts.decryptor,
        reason_text=facts.reason_text,
        advice=facts.advice,
        alpn=facts.alpn,
        group=facts.group,
        ja3=facts.ja3,
        ja4=facts.ja4,
    )


def _message(message: Message) -> MessageRecord:
    data = message.data
    built = MessageRecord(
        message.mail_from,
        [RecipientRecord(recipient.address, recipient.code) for recipient in message.recipients],
        None if data is None else data.bytes,
        None if data is None else data.sha256,
        message.code,
        [] if data is None or not data.headers else header_fields(data.headers),
    )
    if data is not None and data.body is not None:
        built.body = data.body.decode("utf-8", "backslashreplace")
    return built


def header_fields(headers: bytes) -> list[str]:
    """One string a header field, unfolded (RFC 5322 section 2.2.3): line ends before blanks are taken out."""
    text = headers.decode("utf-8", "backslashreplace").replace("\r\n", "\n")
    if "\n " in text or "\n\t" in text:
        text = text.replace("\n ", " ").replace("\n\t", "\t")
    return text.rstrip("\n").split("\n")


def _latency(latency: Latency) -> LatencyRecord:
    return LatencyRecord(
        milliseconds(latency.tcp_handshake_ns),
        milliseconds(latency.greeting_ns),
        milliseconds(latency.tls_handshake_ns),
        latency.total_ns / 1_000_000,
        latency.network_ns / 1_000_000,
        latency.server_ns / 1_000_000,
        latency.client_ns / 1_000_000,
        latency.unknown_ns / 1_000_000,
    )


def _finding(finding: Finding, redactor: Redactor, several: bool) -> FindingRecord:
    built = FindingRecord(
        finding.rule,
        finding.severity.value,
        redactor.text(finding.message),
        finding.at.frame,
        rfc3339(finding.at.ts_ns),
        finding.indeterminate,
        finding.security,
    )
    if several:
        built.capture = finding.at.capture
    return built


def _diagnosis(diagnosis: Diagnosis, redactor: Redactor) -> DiagnosisRecord:
    return DiagnosisRecord(
        diagnosis.id,
        diagnosis.name,
        redactor.text(diagnosis.says),
        redactor.text(diagnosis.advice),
        diagnosis.confidence,  # type: ignore[arg-type]
        redactor.text(diagnosis.otherwise),
        [_evidence(location) for location in diagnosis.evidence],
    )


def _evidence(location: Location) -> EvidenceRecord:
    return EvidenceRecord(location.capture, location.frame, rfc3339(location.ts_ns))
