"""Which repetitions of SYN and SYN-ACK are TCP's own, and which are one packet that was captured twice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from smtpdebug.model.streams import Stream

SOONEST_NS: Final = 200_000_000
"""TCP repeats a SYN after a second (RFC 6298 section 2.1); sooner than a fifth of one it was captured twice."""


def syn_repeats(stream: Stream) -> int:
    """How often the client sent its SYN again before the answer; packets captured twice are not counted."""
    if not stream.syn_retransmissions or stream.syn_ns is None:
        return 0
    answered = stream.syn_ack_ns
    gaps = list(_gaps(stream, "syn-repeated", stream.syn_ns, answered))
    if gaps:
        return sum(gap >= SOONEST_NS for gap in gaps)
    if any(event.kind == "syn-repeated" for event in stream.events):
        return 0  # after the answer
    return stream.syn_retransmissions if _until_last_syn(stream) >= SOONEST_NS else 0


def captured_twice(stream: Stream) -> bool:
    """Some SYN or SYN-ACK is in the capture again sooner than TCP sends it again."""
    return _syn_twice(stream) or _syn_ack_twice(stream)


def _syn_twice(stream: Stream) -> bool:
    if not stream.syn_retransmissions or stream.syn_ns is None:
        return False
    gaps = list(_gaps(stream, "syn-repeated", stream.syn_ns))
    return min(gaps) < SOONEST_NS if gaps else _until_last_syn(stream) < SOONEST_NS


def _syn_ack_twice(stream: Stream) -> bool:
    if not stream.syn_ack_retransmissions or stream.syn_ack_ns is None:
        return False
    gaps = list(_gaps(stream, "syn-ack-repeated", stream.syn_ack_ns))
    if gaps:
        return min(gaps) < SOONEST_NS
    return stream.established_ns is not None and stream.established_ns - stream.syn_ack_ns < SOONEST_NS


def _until_last_syn(stream: Stream) -> int:
    """From the first SYN to the one that was answered, where the single events are not known."""
    last = next((t for t in (stream.last_syn_ns, stream.syn_ack_ns) if t is not None), stream.last.ts_ns)
    if stream.syn_ns is not None and last == stream.syn_ns and stream.syn_ack_ns is None:
        last = stream.last.ts_ns
    return last - (stream.syn_ns or last)


def _gaps(stream: Stream, kind: str, first: int, until: int | None = None) -> Iterator[int]:
    """Time from each such packet to the next one, in nanoseconds."""
    before = first
    for event in stream.events:
        if event.kind == kind and (until is None or event.at.ts_ns <= until):
            yield event.at.ts_ns - before
            before = event.at.ts_ns
