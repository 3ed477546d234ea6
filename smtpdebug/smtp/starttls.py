"""Where TLS begins in the client's bytes: after an agreed STARTTLS (RFC 3207), or where a line was due."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from smtpdebug.model.smtp import Reply
from smtpdebug.model.streams import CLIENT, Chunk, Gap
from smtpdebug.smtp.grammar import TLS_HELLO, TLS_RECORD, VERBS, command_parts
from smtpdebug.smtp.waiting import HeldLine, Waiting, cut

_PLAIN_AFTER_220: Final = 4096
"""Octets without a ClientHello after which no TLS is expected any more."""


class TlsEntry:
    """The client's bytes from the first octet of TLS on."""

    __slots__ = ("items", "mode", "offset")

    def __init__(self) -> None:
        self.items: list[Chunk | Gap] = []
        self.offset = -1
        """Stream offset of the first octet; -1: TLS has not begun."""
        self.mode = "implicit"

    def begin(self, offset: int, gate: str) -> None:
        """TLS begins at a stream offset; ``gate``: whose reply the client waited for last."""
        self.mode = "starttls" if gate == "STARTTLS" else "implicit"
        self.offset = offset

    def at_line(self, chunk: Chunk, pos: int, held: HeldLine, gate: str) -> None:
        """TLS begins where a line was due, with what is held of it."""
        self.begin(chunk.offset + pos - held.length, gate)
        if held.length:
            at = held.began or chunk.began
            self.items.append(Chunk(chunk.stream, CLIENT, self.offset, bytes(held.data), at, at, held.acked))
            held.drop()
        self.items.append(cut(chunk, pos))

    def after(self, start: int, waiting: Waiting, gate: str) -> None:
        """TLS begins ``start`` octets into what waits, all of which is taken."""
        self.begin(waiting.chunks[0].offset + start, gate)
        while waiting.chunks:
            chunk = waiting.take()
            length = len(chunk.data)
            if start < length:
                self.items.append(cut(chunk, start))
            start = max(0, start - length)


def may_become_record(head: bytes) -> bool:
    """Whether one or two octets are too few to tell that they begin no TLS record."""
    return len(head) < 3 and 20 <= head[0] <= 23 and (len(head) < 2 or head[1] == 3)


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
