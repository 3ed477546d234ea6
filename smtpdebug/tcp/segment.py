"""A packet on the long way."""

from __future__ import annotations

import msgspec


class Segment(msgspec.Struct, gc=False):
    """One row, where the short way is not taken. Fields are those of :data:`smtpdebug.tcp.flows.Row`."""

    low: bool
    plain: bool
    flags: int
    seq: int
    ack: int
    window: int
    length: int
    captured: int
    start: int
    frame: int
    ts_ns: int
    capture: str
