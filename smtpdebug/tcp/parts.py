"""Rows of a connection that need no look of their own: whole handshakes, runs of segments in order, whole ends.

What is said here holds only if the connection stands, before the first row, where the part says; who takes a part
checks that. All other rows are for the long way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from smtpdebug.tcp.flows import Numbers, Row


class Shake(msgspec.Struct, frozen=True, gc=False):
    """SYN, SYN-ACK and the ACK that completes the handshake, without data (RFC 9293 section 3.5)."""

    begin: int
    """Place of the first row in the grouped batch."""
    low: bool
    """Whether the lower endpoint is the client."""
    client_isn: int
    server_isn: int
    syn_ns: int
    syn_ack_ns: int
    established_ns: int
    first_frame: int
    last_frame: int
    capture: int

    @property
    def end(self) -> int:
        """The place after the last row."""
        return self.begin + 3

    @property
    def last_ns(self) -> int:
        """Time of the last row."""
        return self.established_ns


class Run(msgspec.Struct, frozen=True, gc=False):
    """Plain segments, each direction's in order, with ACKs that never go back nor ahead of the data."""

    begin: int
    end: int
    first: int
    beyond: int
    """Its rows with payload, in :class:`Payloads`."""
    low_seq: int
    high_seq: int
    """The sequence number that each direction must be at."""
    low_packets: int
    high_packets: int
    low_bytes: int
    high_bytes: int
    low_largest: int
    high_largest: int
    low_acked: int
    high_acked: int
    """What the last segment from each endpoint acknowledged, counted from where the other one stood at the begin."""
    last_frame: int
    last_ns: int
    capture: int


class End(msgspec.Struct, frozen=True, gc=False):
    """FIN, its ACK (which may be in the other FIN), the other FIN, its ACK; no data (RFC 9293 section 3.6)."""

    begin: int
    end: int
    low: bool
    """Whether the lower endpoint closed first."""
    first_seq: int
    second_seq: int
    """The sequence number that the first and the second to close must be at."""
    first_ns: int
    answer_ns: int
    """Of the ACK for the first FIN."""
    second_ns: int
    last_ns: int
    first_frame: int
    second_frame: int
    last_frame: int
    capture: int


@dataclass(slots=True)
class Payloads:
    """Of all rows with payload in runs: what becomes a Chunk. Offsets count from the begin of the run."""

    low: list[int]
    high: list[int]
    """1 where that endpoint sent it: one of the two lists reads as ``Side``."""
    begin: list[int]
    end: list[int]
    """Place in the buffer of the batch."""
    frame: list[int]
    ts_ns: list[int]
    offset: Numbers
    acked: Numbers
    offsets: list[int]
    ackeds: list[int]
    """The same as lists, not below 0: for streams that begin in this batch, as most do."""


Part: TypeAlias = Shake | Run | End | list[Row]
