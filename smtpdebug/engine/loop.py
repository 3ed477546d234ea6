"""Engine: feed packets, get conversations in order of their first packet, finished and judged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from smtpdebug.engine.builder import Builder, Surroundings
from smtpdebug.engine.identity import community_id, conversation_id
from smtpdebug.engine.order import Key, OutputOrder
from smtpdebug.engine.outcome import outcome
from smtpdebug.engine.protocols import Decryptor, Event, Item, Judge
from smtpdebug.model.packets import PacketBatch
from smtpdebug.model.smtp import Conversation
from smtpdebug.model.streams import (
    MAIL_PORTS,
    Chunk,
    Limits,
    Stream,
    StreamClosed,
    StreamOpened,
    StreamWhole,
    TcpStreamEvent,
)
from smtpdebug.model.tls import Decrypted, TlsFacts
from smtpdebug.tcp.reassembly import Reassembler
from smtpdebug.waits import account

if TYPE_CHECKING:
    from smtpdebug.tls.keys import KeyRing
    from smtpdebug.tls.tracker import TlsTracker


class Engine:
    """Packets in, conversations out. Knows no files, no clock, no globals.

    Args:
        limits: every budget (``model.streams.Limits``).
        ports: mail ports beside the known ones.
        decryptor: opens TLS; a function is called for one when the first TLS connection shows up, so that a capture
            without TLS does not pay for it.
        keys: what it was given, to say why a connection stays closed.
        judge: fills in findings and diagnoses, or ``None``.
        live: also give out each :class:`Item` as it is said.
        shard: ``(k, n)``: follow only the k-th n-th of the connections; n engines see all, each once.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        ports: Iterable[int] = (),
        decryptor: Decryptor | Callable[[], Decryptor] | None = None,
        keys: KeyRing | None = None,
        judge: Judge | None = None,
        live: bool = False,
        shard: tuple[int, int] | None = None,
    ) -> None:
        self._limits = limits or Limits()
        self._ports = frozenset(ports)
        self._keys, self._judge, self._live = keys, judge, live
        self._reassembler = Reassembler(self._limits, MAIL_PORTS | self._ports, shard, wholes=True)
        self._around = Surroundings(
            self._limits, self._ports, decryptor, self._reassembler.flip, self._reassembler.ignore, self._route
        )
        self._order = OutputOrder(self._limits.pending_conversations)
        self._builders: dict[int, Builder] = {}
        self._let_go = 0
        self._unsettled: list[Builder] = []
        """Opened, and not yet asked to read what they were given."""
        self._turn: dict[int, Key] = {}
        self._waiting: dict[int, Builder] = {}
        """Closed on the wire, plaintext still to come."""
        self._shown: dict[int, int] = {}
        self._fresh: list[Item] = []

    @property
    def limits_hit(self) -> dict[str, int]:
        """How often each budget was hit, by its name."""
        hit = dict(self._reassembler.limits_hit)
        if early := self._order.let_go_early + self._let_go:
            hit["pending_conversations"] = early
        for name, times in getattr(self._around.decryptor, "limits_hit", {}).items():
            hit[name] = hit.get(name, 0) + times
        return hit

    @property
    def strays(self) -> int:
        """TCP packets that belong to no connection: without SYN and data, or left over from one that is closed."""
        return self._reassembler.strays

    def feed(self, batch: PacketBatch) -> Iterator[Event]:
        """Take a batch of packets in time order; give what is ready."""
        for text in batch.secrets:
            if (decryptor := self._around.wake()) is not None:
                self._route(decryptor.add_keylog(text, "dsb"))
        return self._after(self._reassembler.feed(batch))

    def advance(self, ts_ns: int) -> Iterator[Event]:
        """Live: it is at least ``ts_ns`` now; name the holes and ends that are certain by then."""
        return self._after(self._reassembler.advance(ts_ns))

    def close(self) -> Iterator[Event]:
        """The capture ended: give everything that is left."""
        yield from self._after(self._reassembler.close())
        if self._around.decryptor is not None:
            self._route(self._around.decryptor.flush())
        for serial in list(self._waiting):
            self._finish(self._waiting.pop(serial))
        if self._live:
            yield from self._new_items()
        yield from map(self._judged, self._order.ready(everything=True))

    def _after(self, events: Iterator[TcpStreamEvent]) -> Iterator[Event]:
        builders = self._builders
        for event in events:
            kind = type(event)
            if kind is Chunk:
                builders[event.stream.serial].feed(event)  # type: ignore[arg-type]
            elif kind is StreamWhole:
                self._open(event.stream).whole(event)  # type: ignore[arg-type]
            elif kind is StreamOpened:
                self._unsettled.append(self._open(event.stream))
            elif kind is StreamClosed:
                self._close(event.stream)
            else:
                builders[event.stream.serial].feed(event)  # type: ignore[arg-type]
        # Live, what was said is shown at once.
        patient = not self._live
        self._unsettled = [builder for builder in self._unsettled if not builder.settle(patient=patient)]
        if self._live:
            yield from self._new_items()
        yield from map(self._judged, self._order.ready())

    def _open(self, stream: Stream) -> Builder:
        self._turn[stream.serial] = self._order.opened(stream.opened, stream.serial)
        builder = self._builders[stream.serial] = Builder(stream, self._around)
        if self._live:
            builder.conversation.id = conversation_id(stream)
        return builder

    def _close(self, stream: Stream) -> None:
        builder = self._builders[stream.serial]
        # Closing may feed what was held, and that may open records: until it is done the stream is not waiting.
        opened = builder.close()
        self._waiting[stream.serial] = self._builders.pop(stream.serial)
        self._route(opened)
        if stream.serial in self._waiting and not (builder.tracker is not None and self._pending(stream.serial)):
            self._finish(self._waiting.pop(stream.serial))

        if len(self._waiting) > self._limits.pending_conversations:
            # Secrets that did not come by now are not waited for any longer.
            self._let_go += 1
            self._finish(self._waiting.pop(next(iter(self._waiting))))

    def _pending(self, flow: int) -> bool:
        decryptor = self._around.decryptor
        return decryptor is not None and decryptor.pending(flow)

    def _route(self, opened: list[Decrypted]) -> None:
        """Hand plaintext to the streams it belongs to; finish those that were waiting for it."""
        if not opened:
            return
        if len(opened) > 1:
            # What waited for a secret was pushed when it was found, which behind a gap is later than it was sent.
            opened = sorted(opened, key=_when)
        for record in opened:
            builder = self._builders.get(record.flow) or self._waiting.get(record.flow)
            if builder is not None:
                builder.decrypted(record)
        for flow in {record.flow for record in opened} & self._waiting.keys():
            if not self._pending(flow):
                self._finish(self._waiting.pop(flow))

    def _finish(self, builder: Builder) -> None:
        stream = builder.stream
        if builder.tracker is not None:
            self._explain(builder.conversation, builder.tracker, stream.serial)
        if self._live:
            self._take_items(builder)
            self._shown.pop(stream.serial)
        conversation = builder.complete()
        # Not before: a SYN captured late may tell who the client is.
        conversation.id = conversation_id(stream)
        conversation.community_id = community_id(stream)
        conversation.outcome = outcome(conversation)
        conversation.latency = account(conversation)
        conversation.finished = True
        self._order.finished(self._turn.pop(stream.serial), conversation)

    def _explain(self, conversation: Conversation, tracker: TlsTracker, flow: int) -> None:
        """Whether and by what the TLS was opened, or why not."""
        from smtpdebug.tls.alerts import Closings
        from smtpdebug.tls.reasons import explain  # only where there is TLS: cryptography is slow to import

        facts, decryptor = tracker.facts, self._around.decryptor
        verdict = decryptor.verdict(flow) if decryptor is not None else None
        if verdict is not None:
            facts.decrypted, facts.secret = verdict.decrypted, verdict.secret
            facts.decryptor = verdict.decryptor if verdict.decrypted else None
        reason = explain(
            facts,
            verdict,
            self._keys,
            snaplen=tracker.snaplen,
            not_tls=tracker.not_tls,
            answered_in_clear=_answers_in_clear(conversation, facts),
            closings=Closings.of(conversation.stream),
        )
        if reason is not None:
            facts.reason, facts.reason_text, facts.advice = reason.id, reason.sentence, reason.advice

    def _judged(self, conversation: Conversation) -> Conversation:
        """Judged in order of output, so that what rules remember of a server does not depend on batching."""
        if self._judge is not None:
            self._judge.judge(conversation)
        return conversation

    def _new_items(self) -> Iterator[Item]:
        """Live: what was added to any timeline since the last time, in order of time."""
        for builder in (*self._builders.values(), *self._waiting.values()):
            self._take_items(builder)
        fresh, self._fresh = self._fresh, []
        fresh.sort(key=lambda item: item.item.at.ts_ns)
        yield from fresh

    def _take_items(self, builder: Builder) -> None:
        conversation, serial = builder.conversation, builder.stream.serial
        shown = self._shown.get(serial, 0)
        self._fresh += [Item(conversation, item) for item in conversation.timeline[shown:]]
        self._shown[serial] = len(conversation.timeline)


def _answers_in_clear(conversation: Conversation, facts: TlsFacts) -> bool:
    """Whether the server speaks in clear where the client began TLS with its first byte, or when it had done so."""
    replies = [one.reply for one in conversation.exchanges if one.reply is not None and not one.encrypted]
    if facts.mode == "implicit":
        return bool(replies)
    hello = facts.client_hello
    return hello is not None and any(reply.began.ts_ns > hello.ts_ns for reply in replies)


def _when(record: Decrypted) -> int:
    return record.at.ts_ns
