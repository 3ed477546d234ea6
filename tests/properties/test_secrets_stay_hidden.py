"""Credentials do not get into a record, whichever packets around the AUTH exchange the capture lacks."""

from __future__ import annotations

import io
import struct
from functools import cache
from pathlib import Path

import pytest

from smtpdebug.engine import Engine, Item
from smtpdebug.render.jsonl import JsonLines
from smtpdebug.rules.verdicts import Verdicts
from smtpdebug.sources.files import batches_from_bytes

CAPTURE = Path(__file__).resolve().parents[2] / "captures" / "auth-in-clear" / "capture.pcap"
# Answers of the client's log: AUTH PLAIN twice, and the password of AUTH LOGIN.
SECRETS = (b"AGFsaWNlAHdyb25nIGhvcnNl", b"AGFsaWNlAGNvcnJlY3QgaG9yc2U=", b"Y29ycmVjdCBob3JzZQ==")


@cache
def packets() -> list[bytes]:
    data, at, found = CAPTURE.read_bytes(), 24, []
    while at < len(data):
        size = 16 + struct.unpack_from("<I", data, at + 8)[0]
        found.append(data[at : at + size])
        at += size
    return found


def written(kept: list[bytes], *, show_secrets: bool = False) -> bytes:
    """The lines of ``-f jsonl`` for these packets."""
    out = io.BytesIO()
    sink, engine = JsonLines(out, show_secrets=show_secrets), Engine(judge=Verdicts())
    batches, _ = batches_from_bytes(CAPTURE.read_bytes()[:24] + b"".join(kept))
    for event in [event for batch in batches for event in engine.feed(batch)] + list(engine.close()):
        if not isinstance(event, Item):
            sink.conversation(event)
    sink.close()
    return out.getvalue()


def test_the_secrets_are_in_the_capture() -> None:
    assert all(secret in written(packets(), show_secrets=True) for secret in SECRETS)


@pytest.mark.parametrize("lost", [1, 2, 3, 5, 9])
def test_with_packets_missing(lost: int) -> None:
    for first in range(len(packets())):
        text = written(packets()[:first] + packets()[first + lost :])
        assert not [secret for secret in SECRETS if secret in text], first + 1


def test_joined_late() -> None:
    for first in range(len(packets()) - 1):
        assert not [secret for secret in SECRETS if secret in written(packets()[first:])], first + 1
