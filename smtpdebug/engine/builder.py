"""One connection on its way to a Conversation: recognised by content, then parsed in clear, in TLS, or only counted."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING

from smtpdebug.engine.plain import PlainOffsets
from smtpdebug.engine.protocols import Decryptor
from smtpdebug.model.smtp import Conversation, TlsStarted
from smtpdebug.model.streams import (
    CLIENT,
    PLAIN_PORTS,
    SERVER,
    TLS_PORTS,
    Chunk,
    Gap,
    Limits,
    Location,
    Side,
    Stream,
    StreamWhole,
)
from smtpdebug.model.tls import APPLICATION_DATA, Decrypted, Record
from smtpdebug.smtp.lockstep import Lockstep, usual
from smtpdebug.smtp.parser import ConversationParser
from smtpdebug.smtp.recognise import describe, recognise, server_side

if TYPE_CHECKING:
    from smtpdebug.tls.tracker import TlsTracker

_LMTP = 24
_TIME = attrgetter("at.ts_ns")
_SNIFF_BYTES = 1024
"""Enough of each direction to tell SMTP from anything else."""
_LATER = 64
"""Records held so; more are given in the order they come."""
_SNIFF_EVENTS = 1024
"""Chunks and gaps held until then: where the capture has headers only, bytes never come."""


class Surroundings:
    """What every builder of an engine shares.

    ``opens`` is the decryptor or a function that makes it when it is wanted. ``flip`` is called when content says that
    client and server are the other way round, ``ignore`` when the rest of the stream is of no interest, ``route`` with
    what the decryptor opened, which may belong to other streams.
    """

    __slots__ = ("_opens", "decryptor", "flip", "ignore", "limits", "ports", "route")

    def __init__(
        self,
        limits: Limits,
        ports: frozenset[int],
        opens: Decryptor | Callable[[], Decryptor] | None,
        flip: Callable[[Stream], None],
        ignore: Callable[[Stream], None],
        route: Callable[[list[Decrypted]], None],
    ) -> None:
        self.limits, self.ports = limits, ports
        self.flip, self.ignore, self.route = flip, ignore, route
        self.decryptor: Decryptor | None = None if callable(opens) else opens
        self._opens = opens

    def wake(self) -> Decryptor | None:
        """The decryptor, made now if it was not yet."""
        if self.decryptor is None and callable(self._opens):
            self.decryptor = self._opens()
        return self.decryptor


class Builder:
    """Takes the events of one stream; calls the parsers; holds what belongs to one conversation."""

    __slots__ = (
        "_around", "_cut", "_early", "_held", "_later", "_left_alone", "_patient", "_plain", "_prefix", "_usual",
        "_whole", "conversation", "feed", "gaps", "parser", "stream", "tracker",
    )  # fmt: skip

    def __init__(self, stream: Stream, around: Surroundings) -> None:
        self.stream = stream
        self.conversation = Conversation(stream=stream, protocol="unknown")
        self.parser: ConversationParser | None = None
        self.tracker: TlsTracker | None = None
        self.gaps: list[Gap] = []
        self.feed: Callable[[Chunk | Gap], None]
        self._around = around
        self._usual: Lockstep | None = None
        self._early: list[Chunk | Gap] = []
        """Everything of the first batches: a conversation that is whole in them may be read the short way."""
        self._whole: StreamWhole | None = None
        self._left_alone = False
        self._held: list[Chunk | Gap] = []
        self._prefix = [b"", b""]
        self._cut = [False, False]
        """A gap ended the prefix: what comes behind it is not glued to it."""
        self._plain = PlainOffsets()
        self._later: list[Decrypted] = []
        """Opened, but held until it is clear what the other side said before."""
        port = stream.server.port
        mail = port in PLAIN_PORTS or port in around.ports
        self._patient = stream.complete and mail and port != _LMTP
        """Kept for its end: it may be read the short way."""
        self.feed = self._early.append if self._patient else self._feed_undecided

    # -- the first batch

    def settle(self, *, patient: bool = False) -> bool:
        """The batch, or the stream, is over: read what was kept of it. False where nothing came yet.

        ``patient``: a conversation that goes on may be whole in the next batch; it is left alone once.
        """
        stream, early = self.stream, self._early
        if self._usual is not None or self.feed != early.append:
            return True
        if not early:
            return stream.closed_by is not None
        over = stream.fin_ns[CLIENT] is not None and stream.fin_ns[SERVER] is not None
        if patient and not over and not self._left_alone:
            self._left_alone = True
            return False
        read = usual(early, self._around.limits, self._established(_began(early[0]))) if over else None
        if read is None:
            self._read_early()
        else:
            self._take(read)
        return True

    def whole(self, said: StreamWhole) -> None:
        """All that will come, but for stragglers."""
        if self._patient and said.at:
            read = usual(said, self._around.limits, self._established(said.at[0]))
            if read is not None:
                self._take(read)
                self._whole = said
                return
        self._early = list(said.chunks())
        self._read_early()

    def _take(self, read: Lockstep) -> None:
        conversation = self.conversation
        conversation.exchanges, conversation.messages = read.exchanges, read.messages
        conversation.timeline, conversation.protocol = read.timeline, read.protocol
        self._usual = read
        # Should more come after both ends were closed, everything is read again, the long way.
        self.feed = self._feed_after_all

    def _feed_after_all(self, event: Chunk | Gap) -> None:
        self._usual = None
        self.conversation.timeline = []
        if self._whole is not None:
            self._early += self._whole.chunks()
            self._whole = None
        self._early.append(event)
        self._read_early()

    def _read_early(self) -> None:
        early, self._early = self._early, []
        self.feed = self._feed_undecided
        for event in early:
            self.feed(event)

    # -- not yet known what it is

    def _feed_undecided(self, event: Chunk | Gap) -> None:
        self._held.append(event)
        if type(event) is Gap:
            self._cut[event.side] = bool(self._prefix[event.side])
        elif type(event) is Chunk and not self._cut[event.side]:
            self._prefix[event.side] += event.data[:_SNIFF_BYTES]
        self._decide(closed=False)

    def _decide(self, *, closed: bool) -> None:
        stream, prefix = self.stream, self._prefix
        if stream.decided_by == "order" and server_side(prefix[0], prefix[1]) == CLIENT:
            self._turn_round()
        port = stream.server.port
        enough = max(map(len, prefix)) >= _SNIFF_BYTES or len(self._held) >= _SNIFF_EVENTS
        kind = recognise(
            prefix[CLIENT],
            prefix[SERVER],
            mail_port=port in PLAIN_PORTS or port in self._around.ports,
            tls_port=port in TLS_PORTS,
            closed=closed or enough,
        )
        if kind is None:
            return
        held, self._held = self._held, []
        if kind == "unknown":
            self.conversation.summary = describe(prefix[CLIENT], prefix[SERVER])
            self.feed = _drop
            self._around.ignore(stream)
            return
        if kind == "tls":
            self._start_tls(TlsStarted(mode="implicit", at=held[0].at))
        else:
            self._start_parser(_began(held[0]), lmtp=kind == "lmtp")
            self.feed = self._feed_clear
        for event in held:
            self.feed(event)

    def _turn_round(self) -> None:
        self._around.flip(self.stream)
        self._prefix.reverse()
        self._cut.reverse()
        for i, event in enumerate(self._held):
            side: Side = CLIENT if event.side == SERVER else SERVER
            if isinstance(event, Chunk):
                event.side = side
            else:
                self._held[i] = Gap(event.stream, side, event.offset, event.length, event.at, event.reason)

    def _start_parser(self, first: Location, *, lmtp: bool = False, implicit_tls: bool = False) -> None:
        stream = self.stream
        self.parser = ConversationParser(
            self._around.limits,
            lmtp=lmtp,
            implicit_tls=implicit_tls,
            joined_late=not stream.complete,
            established=self._established(first),
        )
        conversation, parser = self.conversation, self.parser
        conversation.exchanges = parser.exchanges
        conversation.messages = parser.messages
        if conversation.timeline:
            parser.timeline[:0] = conversation.timeline
        conversation.timeline = parser.timeline
        conversation.protocol = parser.protocol
        conversation.joined_late = not stream.complete

    def _established(self, first: Location) -> Location | None:
        """When the handshake was completed, if that was before ``first``, the packet of the first thing said.

        A batch is reassembled before its events are taken, so an ACK of later packets may be known here already: which
        ones depends on the batch, and they did not complete what the server had not waited for.
        """
        stream = self.stream
        if stream.established_ns is None or stream.established_ns >= first.ts_ns:
            return None
        return Location(stream.opened.capture, stream.established_frame, stream.established_ns)

    # -- in clear

    def _feed_clear(self, event: Chunk | Gap) -> None:
        parser = self.parser
        assert parser is not None
        if type(event) is Chunk:
            parser.feed(event)
        else:
            parser.gap(event)  # type: ignore[arg-type]  # type() narrows one way only
            self._keep(event)  # type: ignore[arg-type]
        if parser.tls is not None:
            self._switch_to_tls(parser.tls)

    def _keep(self, gap: Gap) -> None:
        if len(self.gaps) < self._around.limits.exchanges:
            self.gaps.append(gap)
        else:
            self.conversation.truncated = True

    def _switch_to_tls(self, started: TlsStarted) -> None:
        assert self.parser is not None
        self._start_tls(started)
        for event in self.parser.take_tls():
            self.feed(event)

    # -- in TLS

    def _start_tls(self, started: TlsStarted) -> None:
        conversation = self.conversation
        if self.parser is None:
            conversation.protocol = "tls"
            conversation.timeline.append(started)
        from smtpdebug.tls.tracker import TlsTracker  # only where there is TLS: cryptography is slow to import

        self.tracker = TlsTracker(started.mode, started.at, self._around.limits)
        conversation.tls = self.tracker.facts
        if (decryptor := self._around.wake()) is not None:
            decryptor.start(self.stream.serial, self.tracker.facts)
        self.feed = self._feed_tls

    def _feed_tls(self, event: Chunk | Gap) -> None:
        tracker, decryptor, flow = self.tracker, self._around.decryptor, self.stream.serial
        assert tracker is not None
        if type(event) is Chunk:
            self._push(tracker.feed(event))
            self._let_follow()
            return
        self._push(tracker.gap(event))  # type: ignore[arg-type]
        self._plain.gap(event)  # type: ignore[arg-type]
        self._keep(event)  # type: ignore[arg-type]
        if decryptor is not None:
            decryptor.gap(flow, event.side, event.length)  # type: ignore[union-attr]

    def _push(self, records: list[Record]) -> None:
        decryptor, flow = self._around.decryptor, self.stream.serial
        if decryptor is None:
            return
        for record in records:
            opened = decryptor.push(flow, record)
            if opened:
                self._around.route(opened)

    def decrypted(self, record: Decrypted) -> None:
        """Plaintext of one record of this stream.

        Behind a gap a record is known only by the one after it. What the other side says meanwhile waits, so that it
        does not come before what it answers.
        """
        later = self._later
        if later:
            self._let_follow(record.at.ts_ns)
        if len(later) < _LATER and (self._is_ahead(record) or any(one.side == record.side for one in later)):
            later.append(record)
            return
        self._opened(record)

    def _is_ahead(self, record: Decrypted) -> bool:
        assert self.tracker is not None
        since = self.tracker.unsure_since(1 - record.side)
        return since is not None and since <= record.at.ts_ns

    def _let_follow(self, until_ns: int | None = None) -> None:
        """Give what waits, as far as nothing is unsure before it any more; up to a time, or all."""
        later = self._later
        while later and (until_ns is None or later[0].at.ts_ns <= until_ns) and not self._is_ahead(later[0]):
            self._opened(later.pop(0))

    def _opened(self, record: Decrypted) -> None:
        tracker = self.tracker
        assert tracker is not None
        side, data = record.side, record.data
        if self.parser is None and data and record.content_type == APPLICATION_DATA:
            self._start_parser(record.began, implicit_tls=True)
        parser = self.parser
        plain = self._plain
        if record.missing_before and parser is not None:
            parser.gap(Gap(self.stream, side, plain.offset[side], 1, record.at, "undecrypted", encrypted=True))
            plain.missing(record)
        if record.content_type != APPLICATION_DATA:
            plain.take(record, 0)
            tracker.decrypted(record)
            return
        if not data or parser is None:
            return
        offset, acked = plain.offset[side], plain.acked(record)
        plain.take(record, len(data))
        parser.feed(Chunk(self.stream, side, offset, data, record.began, record.at, acked, encrypted=True))

    # -- the end

    def close(self) -> list[Decrypted]:
        """The stream is over: decide what is undecided, end the parsers. The decryptor may have more to give."""
        self.settle()
        if self._usual is not None:
            return []
        if self._held:
            self._decide(closed=True)
        parser, tracker = self.parser, self.tracker
        if tracker is not None:
            self._push(tracker.close(self.stream.last))
            self._let_follow()
            return self._around.decryptor.end(self.stream.serial) if self._around.decryptor is not None else []
        if parser is not None:
            parser.close(self.stream.last)
            if parser.tls is not None:
                # Bytes held for the reply to STARTTLS turned out to be TLS at the very end.
                self._switch_to_tls(parser.tls)
                return self.close()
        return []

    def complete(self) -> Conversation:
        """The finished conversation, but for judgement: timeline in order of time, TLS verdict applied."""
        conversation, parser = self.conversation, self.parser
        if parser is not None:
            if self.tracker is not None:
                parser.close(self.stream.last)
            conversation.proxy = parser.proxy
            conversation.protocol = parser.protocol
            conversation.truncated = conversation.truncated or parser.truncated
        if conversation.protocol == "unknown":
            self._forget_copies()
        conversation.timeline += self.stream.events
        conversation.timeline += self.gaps
        conversation.timeline.sort(key=_TIME)
        # The bound method closes a cycle, and cycles wait for the garbage collector.
        self.feed = _drop
        return conversation

    def _forget_copies(self) -> None:
        """Copies of what nobody reads are compared until it is ignored, and when that is depends on the batch."""
        stream = self.stream
        stream.conflicts = [0, 0]
        stream.events = [event for event in stream.events if event.kind != "conflicting-overlap"]


def _began(event: Chunk | Gap) -> Location:
    return event.began if isinstance(event, Chunk) else event.at


def _drop(event: Chunk | Gap) -> None:
    """Not SMTP: the reassembler counts it."""
