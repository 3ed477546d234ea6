"""The client's bytes after an agreed STARTTLS: where TLS begins in them, or that it never does (RFC 3207)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from smtpdebug.model.smtp import Reply
from smtpdebug.model.streams import Chunk
from smtpdebug.smtp.grammar import TLS_HELLO, TLS_RECORD, VERBS, command_parts

_PLAIN_AFTER_220: Final = 4096
"""Octets without a ClientHello after which no TLS is expected any more."""


def find_hello(waiting: Collection[Chunk], agreed: Reply, *, final: bool) -> int | None:
    """Look for TLS in what the client sent after its STARTTLS line.

    Args:
        waiting: those bytes, in order.
        agreed: the 220.
        final: no more bytes come.

    Returns:
        How many octets come before the first TLS octet; -1 where the client goes on in clear; ``None`` where more
        bytes must tell.
    """
    looks = b"".join(chunk.data for chunk in waiting)
    if not looks:
        return None
    match = TLS_HELLO.search(looks) or TLS_RECORD.match(looks)
    if match is not None:
        return match.start()
    if final or len(looks) > _PLAIN_AFTER_220 or _goes_on_in_clear(waiting, agreed):
        return -1
    return None


def _goes_on_in_clear(waiting: Collection[Chunk], agreed: Reply) -> bool:
    """Whether the client sent a whole command line when it had the 220 already."""
    for chunk in waiting:
        knew = chunk.acked >= agreed.end if chunk.acked >= 0 else chunk.began.ts_ns > agreed.at.ts_ns
        line, newline, _ = chunk.data.partition(b"\n")
        if knew and newline and command_parts(line.rstrip(b"\r"))[0] in VERBS:
            return True
    return False
