"""What TCP and TLS did, in words, for the transcript: only what helps a person understand the conversation."""

from __future__ import annotations

from typing import Final

from smtpdebug.model.smtp import Conversation, Injected, Lost, ProxyPreface
from smtpdebug.model.streams import CLIENT, SERVER, Gap, TcpEvent
from smtpdebug.model.tls import UNSEALED, Alert, TlsFacts
from smtpdebug.render.clock import span
from smtpdebug.render.escape import from_wire, printable
from smtpdebug.render.redact import Redactor

STALL_NS: Final = 200_000_000
"""A retransmission is shown where it cost at least this: the least retransmission time-out of Linux is 200 ms."""

TWICE_NS: Final = 100_000_000
"""A SYN repeated sooner was captured twice: TCP waits a second (RFC 6298 section 2.1)."""

_SIDE: Final = ("client", "server")

_AGAIN: Final = {
    "syn-repeated": ("SYN again", "no answer so far"),
    "syn-ack-repeated": ("SYN-ACK again", "the server has seen no ACK"),
}

NO_KEY_HELPS: Final = frozenset(
    ("not-tls", "answered-in-clear", "handshake-failed", "incomplete", "snaplen", "joined-late")
)
"""Reasons why TLS stays closed that no key changes."""

_GAP_REASONS: Final = {
    "lost": "not in the capture",
    "snaplen": "cut off by the capture's snap length",
    "limit": "dropped, over the memory budget",
    "closed": "not in the capture when the connection closed",
    "undecrypted": "could not be decrypted",
}


def plural(count: int, noun: str, many: str = "") -> str:
    """``1 byte``, ``1,448 bytes``."""
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"


def gap(item: Gap) -> str:
    """A hole in the stream."""
    why = _GAP_REASONS.get(item.reason, item.reason)
    size = plural(item.length, "byte") if item.length else "something"
    return f"gap: {size} of the {_SIDE[item.side]} {why}"


def lost(item: Lost) -> str:
    """A stretch that the parser could not follow; one that is a gap reads as the gap does."""
    why = _GAP_REASONS.get(item.why)
    if why is not None:
        size = "something" if item.length is None else plural(item.length, "byte")
        return f"gap: {size} of the {_SIDE[item.side]} {why}"
    size = "" if item.length is None else f", {plural(item.length, 'byte')}"
    return f"lost: {_SIDE[item.side]}'s side cannot be followed here{size} ({printable(item.why)})"


def injected(item: Injected, redactor: Redactor) -> str:
    """Plaintext at the STARTTLS boundary."""
    shown = from_wire(redactor.octets(item.data[:200]).replace(b"\r\n", b" | ").strip(b" |"))
    after = "STARTTLS" if item.side == 0 else "its 220 to STARTTLS"
    return f'INJECTED: {plural(len(item.data), "byte")} in clear from the {_SIDE[item.side]} after {after}: "{shown}"'


def proxy(item: ProxyPreface) -> str:
    """The PROXY protocol preface."""
    if not item.valid:
        return f'PROXY preface, version {item.version}, not valid: "{from_wire(item.line[:120])}"'
    if item.source is None:
        return f"PROXY preface, version {item.version}: source not given"
    return f"PROXY preface, version {item.version}: {printable(item.source)} to {printable(item.destination or '?')}"


def alert(item: Alert) -> str | None:
    """A TLS alert; ``None`` for the ones that every orderly end has."""
    late = item.phase != "handshake"
    if late and (item.description == "close_notify" or (item.encrypted and item.level == "unknown")):
        return None
    what = "encrypted" if item.level == "unknown" else f"{item.level} {item.description}"
    return f"TLS alert from the {_SIDE[item.sender]}: {what}{', after the handshake' if late else ''}"


def tls_agreed(facts: TlsFacts) -> str:
    """What was agreed: version, suite, server name."""
    mode = "TLS from the first byte" if facts.mode == "implicit" else "STARTTLS"
    parts = [mode]
    if facts.version or facts.cipher_suite:
        parts.append(" ".join(part for part in (facts.version, facts.cipher_suite) if part))
    elif facts.versions_offered:
        parts.append(f"offered {', '.join(facts.versions_offered)}, nothing agreed")
    if facts.server_name:
        parts.append(f"server name {printable(facts.server_name)}")
    if facts.resumed:
        parts.append("resumed")
    if facts.handshake_ns is not None:
        parts.append(f"handshake {span(facts.handshake_ns)}")
    return ", ".join(parts)


def tls_opened(facts: TlsFacts) -> list[str]:
    """Decrypted by what; or why it stays closed, and what to do."""
    if facts.decrypted and facts.secret == UNSEALED:
        return [f"not encrypted: {facts.cipher_suite} has no cipher; anybody on the way reads it"]
    if facts.decrypted:
        by = f" by {facts.decryptor}" if facts.decryptor else ""
        return [f"decrypted{by} with {_secret(facts.secret)}"]
    said = printable(facts.reason_text or facts.reason or "no key given")
    volume = ""
    if any(facts.application_bytes):
        volume = "; {:,} bytes from the client, {:,} from the server".format(*facts.application_bytes)
    closed = f"stays closed: {said.rstrip('.')}{volume}"
    label = "what to do" if facts.reason in NO_KEY_HELPS else "to open it"
    return [closed, f"{label}: {printable(facts.advice)}"] if facts.advice else [closed]


def _secret(secret: str | None) -> str:
    names = {
        "rsa-key": "the RSA key",
        "keylog": "the key log",
        "dsb": "the capture's own secrets",
        "resumed": "the secret of the session that it resumes",
    }
    return names.get(secret or "", secret or "a secret")


def tcp(item: TcpEvent, conversation: Conversation, since_last_ns: int) -> str | None:
    """Something TCP did, or ``None`` where it is of no interest here.

    Args:
        since_last_ns: since the line before; a retransmission is worth a line where it cost time.
    """
    who, length = _SIDE[item.side], plural(item.length, "byte")
    kind = item.kind
    if kind == "fin":
        return None if _orderly(conversation) else f"the {who} closes its side (FIN)"
    if kind == "rst":
        return _reset(who, conversation)
    if kind == "retransmission":
        stalled = since_last_ns >= STALL_NS
        return f"the {who} sends {length} again after {span(since_last_ns)} of silence" if stalled else None
    if kind in _AGAIN:
        return _again(item, conversation, since_last_ns)
    note = f": {printable(item.note)}" if item.note else ""
    sentences = {
        "conflicting-overlap": f"the {who} sent {length} again with other content; the first copy is shown",
        "zero-window": f"the {who} takes no more bytes (window 0)",
        "window-open": f"the {who} takes bytes again",
        "unreachable": f"the network answers: unreachable{note}",
        "data-after-fin": f"the {who} sends {length} after its FIN",
        "rst-ignored": f"a reset in the {who}'s name lies outside the window and ends nothing",
    }
    return sentences.get(kind)


def _again(item: TcpEvent, conversation: Conversation, since_last_ns: int) -> str:
    """A SYN or SYN-ACK that was repeated; too soon for TCP it is the capture that has it twice, and means nothing."""
    stream = conversation.stream
    first = stream.syn_ns if item.kind == "syn-repeated" else stream.syn_ack_ns
    soon = since_last_ns < TWICE_NS or (first is not None and item.at.ts_ns - first < TWICE_NS)
    what, why = _AGAIN[item.kind]
    return what if soon else f"{what}: {why}"


def _orderly(conversation: Conversation) -> bool:
    """It came to its end; a server that closed without having said a word was none to talk with."""
    return conversation.outcome == "completed" and any(one.reply is not None for one in conversation.exchanges)


def _reset(who: str, conversation: Conversation) -> str | None:
    stream = conversation.stream
    after_fin = any(fin is not None for fin in stream.fin_ns) and conversation.outcome != "reset"
    if _orderly(conversation) or after_fin:
        return None  # the last words of a connection that was over
    if stream.syn_ack_ns is None and conversation.outcome == "refused":
        return f"connection refused by the {who} (RST)"
    return f"connection reset by the {who} (RST)"


def opening(conversation: Conversation) -> str | None:
    """A first line for a conversation of which the capture holds one direction alone."""
    packets, missing = conversation.stream.packets, conversation.stream.missing
    for side in (CLIENT, SERVER):
        if not packets[side] and missing[side] > 1:
            there, away = _SIDE[1 - side], _SIDE[side]
            size = plural(missing[side], "byte")
            return f"only the {there}'s packets are in the capture: of the {away}, {size} by the {there}'s ACKs are not"
    return None


def ending(conversation: Conversation) -> str | None:
    """A last line for a connection that never came to be."""
    stream = conversation.stream
    if conversation.outcome == "no-answer":
        sent = stream.syn_retransmissions + 1
        over = f" over {span(stream.last.ts_ns - stream.opened.ts_ns)}" if sent > 1 else ""
        return f"no answer to {plural(sent, 'SYN')}{over}"
    if conversation.outcome == "open":
        return "still open where the capture ends"
    return None
