"""Identity by content: a conversation's id, and its Community ID."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import struct
from functools import lru_cache

from smtpdebug.model.streams import Stream

_TCP = 6


@lru_cache(maxsize=4096)
def _packed(ip: str) -> bytes:
    return ipaddress.ip_address(ip).packed


def conversation_id(stream: Stream) -> str:
    """Twelve hex digits made of the endpoints and the opening time: the same in every run over the same packets."""
    client, server = stream.client, stream.server
    text = f"{client.ip} {client.port} {server.ip} {server.port} {stream.opened.ts_ns}"
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def community_id(stream: Stream) -> str:
    """Community ID version 1, seed 0 (github.com/corelight/community-id-spec), to join with Zeek and Suricata."""
    one, two = (_packed(stream.client.ip), stream.client.port), (_packed(stream.server.ip), stream.server.port)
    if two < one:
        one, two = two, one
    data = struct.pack("!H", 0) + one[0] + two[0] + struct.pack("!BBHH", _TCP, 0, one[1], two[1])
    return "1:" + base64.b64encode(hashlib.sha1(data, usedforsecurity=False).digest()).decode()
