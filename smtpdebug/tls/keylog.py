"""Key logs in NSS format (draft-ietf-tls-keylogfile), read without complaint about what is not one."""

from __future__ import annotations

from typing import Final

import msgspec

_TRAFFIC: Final = frozenset(
    (
        "CLIENT_EARLY_TRAFFIC_SECRET",
        "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
        "SERVER_HANDSHAKE_TRAFFIC_SECRET",
        "CLIENT_TRAFFIC_SECRET_0",
        "SERVER_TRAFFIC_SECRET_0",
    )
)
_KNOWN: Final = frozenset(("EARLY_EXPORTER_SECRET", "EXPORTER_SECRET", "ECH_SECRET", "ECH_CONFIG"))


class KeylogLine(msgspec.Struct, frozen=True, gc=False):
    """One secret."""

    label: str
    """``CLIENT_RANDOM``, ``RSA``, ``SESSION_ID`` or a TLS 1.3 label."""
    index: bytes
    """The client random; for ``RSA`` the first eight octets of the encrypted premaster; the session id."""
    secret: bytes


class Keylog(msgspec.Struct):
    """What a key log holds."""

    lines: list[KeylogLine]
    ignored: int
    """Lines that are neither secrets, comments, nor empty."""


def parse_keylog(text: bytes) -> Keylog:
    """Read a key log: any line ends, upper or lower case hexadecimal, junk counted and passed over."""
    out = Keylog([], 0)
    for raw in text.replace(b"\r", b"\n").split(b"\n"):
        words = raw.decode("ascii", "replace").lstrip("\ufeff\ufffd").split()
        if not words or words[0].startswith("#"):
            continue
        line = _line(words)
        if line is not None:
            out.lines.append(line)
        elif words[0] not in _KNOWN:
            out.ignored += 1
    return out


def _line(words: list[str]) -> KeylogLine | None:
    if len(words) != 3:
        return None
    label, first, second = words
    if label == "RSA" and first.startswith("Session-ID:") and second.startswith("Master-Key:"):
        # As tshark 4.0 exports it.
        label, first, second = "SESSION_ID", first[11:], second[11:]
    try:
        index, secret = bytes.fromhex(first), bytes.fromhex(second)
    except ValueError:
        return None
    fits = {
        "CLIENT_RANDOM": len(index) == 32 and len(secret) == 48,
        "RSA": len(index) == 8 and len(secret) == 48,
        "SESSION_ID": 0 < len(index) <= 32 and len(secret) == 48,
    }.get(label, label in _TRAFFIC and len(index) == 32 and len(secret) in (32, 48))
    return KeylogLine(label, index, secret) if fits else None
