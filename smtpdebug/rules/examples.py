"""The examples in the pages of rules and diagnoses: dialogues, and TCP and TLS facts that no dialogue can say.

A page's section holds blocks fenced with ``smtp`` (a dialogue) and ``facts`` (TOML). The keys of ``[stream]`` and
``[tls]`` are the fields of ``Stream`` and ``TlsFacts``; ``<name>_ms`` gives a time ``<name>_ns`` or a location
``<name>`` in milliseconds from the start of the conversation; sides and dates are written as words.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any, Final

import msgspec

from smtpdebug.model.smtp import Conversation
from smtpdebug.model.streams import CLIENT, SERVER, Endpoint, Location, Side, Stream, TcpEvent
from smtpdebug.model.tls import Alert, Certificate, TlsFacts

START_NS: Final = 1_704_067_200_000_000_000
"""2024-01-01T00:00:00Z, when examples begin."""
MILLISECOND: Final = 1_000_000
_DAY_NS: Final = 86_400_000_000_000
_BLOCK: Final = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_CUMULATIVE: Final = (0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334)


def sections(page: str) -> dict[str, str]:
    """Split a page at its ``## `` headings; the text before the first is under ``""``."""
    parts = re.split(r"^## (.+)$", page, flags=re.MULTILINE)
    found = {"": parts[0].strip()}
    for heading, text in zip(parts[1::2], parts[2::2], strict=True):
        found[heading.strip()] = text.strip()
    return found


def blocks(section: str) -> dict[str, str]:
    """The fenced blocks of a section by their language: ``smtp``, ``facts``."""
    return {match[1]: match[2] for match in _BLOCK.finditer(section)}


def bare() -> Conversation:
    """A conversation in which nothing has been said: the ground for facts without a dialogue."""
    at = _at(0)
    return Conversation(
        Stream(0, Endpoint("192.0.2.7", 54170), Endpoint("198.51.100.2", 25), at, at, complete=True), finished=True
    )


def apply_facts(conversation: Conversation, text: str) -> None:
    """Write the facts of a ``facts`` block (TOML) over those of a conversation.

    Raises:
        tomllib.TOMLDecodeError, AttributeError, KeyError: the block is wrong (an error of whoever wrote the page).
    """
    data = tomllib.loads(text)
    stream = data.pop("stream", {})
    tls = data.pop("tls", None)
    port = data.pop("server_port", None)
    if port is not None:
        conversation.stream.server = Endpoint(conversation.stream.server.ip, port)
    server_ip = data.pop("server_ip", None)
    if server_ip is not None:
        conversation.stream.server = Endpoint(server_ip, conversation.stream.server.port)
    start = conversation.stream.opened.ts_ns
    for name, value in data.items():
        _set(conversation, name, value, start)
    for name, value in stream.items():
        if name == "events":
            conversation.stream.events = [_event(entry, start) for entry in value]
        else:
            _set(conversation.stream, name, value, start)
    if tls is not None:
        conversation.tls = conversation.tls or TlsFacts("starttls", _at(0, start))
        _apply_tls(conversation.tls, tls, start)


def _apply_tls(facts: TlsFacts, data: dict[str, Any], start: int) -> None:
    for name, value in data.items():
        if name == "alerts":
            facts.alerts = [_alert(entry, start) for entry in value]
        elif name == "certificates":
            facts.certificates = [_certificate(entry) for entry in value]
        else:
            _set(facts, name, value, start)


def _set(target: msgspec.Struct, name: str, value: Any, start: int) -> None:
    if name.endswith("_ms"):
        field = name[:-3]
        if field + "_ns" not in target.__struct_fields__:
            setattr(target, field, _at(value, start))
            return
        field += "_ns"
        # durations count from nothing, moments from the start
        base = 0 if field == "handshake_ns" else start
        if isinstance(value, list):
            value = [None if item < 0 else base + int(item * MILLISECOND) for item in value]
        else:
            value = base + int(value * MILLISECOND)
        setattr(target, field, value)
        return
    setattr(target, name, value)


def _event(data: dict[str, Any], start: int) -> TcpEvent:
    at = _at(data.get("ms", 0), start)
    return TcpEvent(
        data["kind"], _side(data["side"]), at, data.get("offset", -1), data.get("length", 0), data.get("note", "")
    )


def _alert(data: dict[str, Any], start: int) -> Alert:
    return Alert(
        _side(data["sender"]),
        data["level"],
        data["description"],
        data["code"],
        _at(data.get("ms", 0), start),
        data.get("encrypted", False),
        data.get("phase", "handshake"),
    )


def _certificate(data: dict[str, Any]) -> Certificate:
    names: list[str] = data.get("names", [])
    return Certificate(
        subject=data.get("subject", f"CN={names[0]}" if names else "CN=server"),
        issuer=data.get("issuer", "CN=Example CA"),
        names=names,
        not_before_ns=_date(data.get("not_before", "2023-06-01")),
        not_after_ns=_date(data.get("not_after", "2024-06-01")),
        sha256="",
        spki_sha256="",
        key=data.get("key", "RSA 2048"),
        self_signed=data.get("self_signed", False),
    )


def _side(word: str) -> Side:
    return CLIENT if word == "client" else SERVER


def _at(ms: float, start: int = START_NS) -> Location:
    return Location("dialogue", 1, start + int(ms * MILLISECOND))


def _date(text: str) -> int:
    """``YYYY-MM-DD`` as nanoseconds since the epoch; good from 2001 to 2099, which is all that examples need."""
    year, month, day = (int(part) for part in text.split("-"))
    leap_day = month > 2 and year % 4 == 0
    days = (year - 1970) * 365 + (year - 1969) // 4 + _CUMULATIVE[month - 1] + day - 1 + leap_day
    return days * _DAY_NS
