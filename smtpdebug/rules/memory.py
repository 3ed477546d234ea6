"""What a run remembers of each server beyond one conversation, for rules that compare (bounded)."""

from __future__ import annotations

import msgspec

from smtpdebug.model.smtp import Conversation
from smtpdebug.model.streams import Location
from smtpdebug.rules.state import State


class ServerRecord(msgspec.Struct, gc=False):
    """One server (address and port), from the conversations judged so far."""

    conversations: int = 0
    keywords_in_clear: dict[str, Location] = {}
    """EHLO keyword seen outside TLS -> the first reply that offered it."""
    without_starttls: list[Location] = []
    """EHLO replies outside TLS that did not offer STARTTLS; the first few."""
    reused_tls: int = 0
    """Conversations that went into TLS."""


_NO_RECORD = ServerRecord()


class ServerMemory:
    """Records by server, in the order of the conversations judged; at most ``limit`` servers, the oldest forgotten.

    ``forgotten`` counts the servers dropped.
    """

    def __init__(self, limit: int = 10_000, keywords: int = 64, examples: int = 8) -> None:
        self._limit, self._keywords, self._examples = limit, keywords, examples
        self._records: dict[tuple[str, int], ServerRecord] = {}
        self.forgotten = 0

    def of(self, conversation: Conversation) -> ServerRecord:
        """What earlier conversations with the same server showed; empty if there were none."""
        server = conversation.stream.server
        return self._records.get((server.ip, server.port), _NO_RECORD)

    def remember(self, conversation: Conversation, state: State) -> None:
        """Add a finished conversation; ``state`` is the model at its end."""
        server = conversation.stream.server
        key = (server.ip, server.port)
        record = self._records.get(key)
        if record is None:
            if len(self._records) >= self._limit:
                del self._records[next(iter(self._records))]
                self.forgotten += 1
            record = self._records[key] = ServerRecord()
        record.conversations += 1
        if conversation.tls is not None:
            record.reused_tls += 1
        self._remember_hello(record, conversation, state)

    def _remember_hello(self, record: ServerRecord, conversation: Conversation, state: State) -> None:
        offered = state.extensions_before_tls if state.encrypted else state.extensions
        if offered is None or not (state.encrypted or state.esmtp):
            return
        reply = state.helo_reply
        at = reply.at if reply is not None else conversation.stream.opened
        if "STARTTLS" not in offered and len(record.without_starttls) < self._examples:
            record.without_starttls.append(at)
        known = record.keywords_in_clear
        if len(known) < self._keywords:
            for keyword in offered:
                if keyword not in known and len(known) < self._keywords:
                    known[keyword] = at
