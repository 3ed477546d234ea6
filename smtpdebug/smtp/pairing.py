"""Which reply answers which command, whatever order the two directions were captured in.

Commands wait in a queue, and so do replies that came before their command was seen. What decides is what the sides
had of each other (``acked``), then packet times; never the order in which the bytes were fed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from smtpdebug.model.smtp import (
    AFTER_GAP,
    AUTH_ANSWER,
    END_OF_DATA,
    GREETING,
    UNTERMINATED,
    Command,
    Exchange,
    Injected,
    Lost,
    MailData,
    Reply,
    TimelineItem,
)
from smtpdebug.model.streams import SERVER, Gap, Limits
from smtpdebug.smtp.envelope import PER_RECIPIENT, Envelopes
from smtpdebug.smtp.grammar import VERBS
from smtpdebug.smtp.waiting import Hole

_EARLY_REPLIES: Final = 256
"""Replies held for commands still to be seen."""
_WAITING: Final = 4096
"""Commands that wait for replies; the oldest is left unanswered beyond."""
_PLAIN_REPLIES: Final = frozenset(
    ("EHLO", "HELO", "LHLO", "MAIL", "RCPT", "DATA", END_OF_DATA, "BDAT", "RSET", "NOOP", "VRFY", "HELP")
)
"""Commands that a server may have left without a reply at a QUIT behind them."""
_SUCCESSES: Final = {
    **dict.fromkeys(("EHLO", "HELO", "LHLO", "MAIL", "RSET", "NOOP"), (250,)),
    **dict.fromkeys((END_OF_DATA, "BDAT"), (250, 353)),
    **dict.fromkeys(("RCPT", "VRFY"), (250, 251, 252)),
    **dict.fromkeys(("AUTH", AUTH_ANSWER), (235, 334)),
    **dict.fromkeys((GREETING, "STARTTLS"), (220,)),
    "DATA": (354,),
    "QUIT": (221,),
    "HELP": (211, 214),
}
"""What says yes to a command (RFC 5321 section 4.3.2, RFC 3207, RFC 4954; 353 is PRDR's)."""
_LONG_REPLIES: Final = frozenset((GREETING, "EHLO", "LHLO", "HELP", "EXPN"))
"""What is behind a gap may be the rest of their reply."""
_EARLY_NS: Final = 1_000_000
"""Where nothing but time tells: a reply this much older than the next command does not answer it. Captures put
packets of the two directions in the wrong order by less."""


class Pending(msgspec.Struct, gc=False):
    """A command that waits for its reply."""

    exchange: Exchange
    since: int
    """Client's stream offset; a reply sent when the server had no more than this is no answer."""
    gate: str = ""
    """``DATA``, ``AUTH`` or ``STARTTLS``: what the client's next bytes are hangs on the reply."""
    done: bool = True
    """False while the octets of a BDAT chunk are still coming."""
    whole: MailData | None = None
    """BDAT: mail data of all chunks so far."""
    fans_out: bool = False
    """LMTP: one reply a recipient."""
    last: bool = False
    """LMTP: the reply for the last recipient."""
    again: bool = False
    """LMTP, PRDR: not the first reply to its command."""


class Pairing:
    """Makes exchanges of commands and replies.

    Args:
        limits: budgets.
        timeline: where replies are put down.
        lmtp: replies to the end of mail data come one a recipient (RFC 2033 4.2).
        verdict: called with gate and reply code (``None``: lost) when a gate's reply is known.
    """

    __slots__ = (
        "_hole", "_holes", "_items", "_limit", "_looked_at", "_previous", "_recent", "_seen_to", "_timeline",
        "_verdict", "envelopes", "exchanges", "log", "lossy", "orphan", "passed", "pending", "replies", "tls_agreed",
        "truncated",
    )  # fmt: skip

    def __init__(
        self,
        limits: Limits,
        timeline: list[TimelineItem],
        verdict: Callable[[str, Reply | None], None],
        *,
        lmtp: bool,
    ) -> None:
        self._limit = limits.exchanges
        self._items = 4 * limits.exchanges
        self._timeline = timeline
        self._verdict = verdict
        self.envelopes = Envelopes(limits.exchanges, lmtp=lmtp)
        self.exchanges: list[Exchange] = []
        self.pending: deque[Pending] = deque()
        self.replies: deque[Reply] = deque()
        self.truncated = False
        self._previous: Reply | None = None
        self._recent: deque[Reply] = deque(maxlen=64)
        self._holes: deque[Hole] = deque()
        self._hole: Hole | None = None
        """The one before the reply that is looked at, until it is clear whom it cost a reply."""
        self._looked_at: Reply | None = None
        self._seen_to = 0
        self.lossy = False
        """Bytes are missing: replies and commands may be."""
        self.tls_agreed: Reply | None = None
        """The 220 to STARTTLS."""
        self.orphan: Callable[[Reply], bool] | None = None
        """Asked before a reply is put down as answering nothing; true where it set everything back."""
        self.passed: Callable[[Hole, Reply], bool] | None = None
        """Asked whether the client has gone on, having had the lost bytes, with what is no command as yet."""
        self.log: list[Exchange] | None = None
        """While set: every exchange that got its reply, to be able to start over (see ``retake``)."""

    # -- the two queues

    def note(self, item: TimelineItem) -> None:
        """Put something down in the timeline, within the limit."""
        if len(self._timeline) < self._items:
            self._timeline.append(item)
        else:
            self.truncated = True

    def add(self, pending: Pending) -> None:
        """A command was seen; its exchange gets its place."""
        self.pending.append(pending)
        self.put(pending.exchange)
        if len(self.pending) > _WAITING:
            self.skip(1)

    def put(self, exchange: Exchange) -> None:
        """Keep an exchange, within the limit."""
        if len(self.exchanges) < self._limit:
            self.exchanges.append(exchange)
        else:
            self.truncated = True

    def run(self, fed: int, in_data: bool) -> bool:
        """Pair what can be paired; true when a gate opened, so that the client's bytes can go on.

        Args:
            fed: how many of the client's bytes were given so far (as a stream offset).
            in_data: mail data has begun and its end has not been seen.
        """
        replies, pending = self.replies, self.pending
        while replies:
            reply = replies[0]
            self._look_behind(reply)
            head = pending[0] if pending else None
            if head is None:
                if not self._is_alone(reply, fed, in_data):
                    return False
            elif self._hole is not None:
                if self._skip_lost(reply):
                    return True
                continue
            elif self._is_for_later(reply, head):
                if self.skip(1):
                    return True
                continue
            if head is None or not self._may_answer(reply, head):
                if self._has_second_thoughts(reply):
                    return True
                replies.popleft()
                self.alone(reply)
                continue
            if not head.done and not 0 <= reply.acked <= fed and len(replies) <= _EARLY_REPLIES:
                return False  # the rest of the chunk is still to be fed
            replies.popleft()
            self._pair(head, reply)
            if head.gate:
                self._verdict(head.gate, reply)
                return True
        return False

    def _has_second_thoughts(self, reply: Reply) -> bool:
        return self.orphan is not None and self.orphan(reply)

    def _is_alone(self, reply: Reply, fed: int, in_data: bool) -> bool:
        """Whether a reply that finds no command waiting will never find one."""
        if len(self.replies) > _EARLY_REPLIES:
            return True
        if in_data and reply.code != 421:
            return False  # the server did not wait for the end of the data, or it is yet to be fed
        return 0 <= reply.acked <= fed

    def _may_answer(self, reply: Reply, head: Pending) -> bool:
        command = head.exchange.command
        if command is None or command.verb == GREETING:
            return True
        if reply.acked >= 0 and command.offset >= 0:
            if command.verb == END_OF_DATA and reply.code == 421:
                return reply.acked >= command.end
            return reply.acked > head.since
        early = command.began.ts_ns - reply.began.ts_ns
        if early > 0 and head.gate == "DATA" and 200 <= reply.code < 300:
            return False  # no answer to DATA, so to a command before it that the capture lacks
        return early <= (0 if reply.code == 421 else _EARLY_NS)

    def _is_for_later(self, reply: Reply, head: Pending) -> bool:
        """Whether a reply that the command at the head cannot get answers another one.

        Where bytes are missing, the reply to the head was lost, and perhaps the other command too. Elsewhere only
        221 to QUIT is so sure: the server left what is at the head without a reply.
        """
        command = head.exchange.command
        if command is None or reply.code >= 400 or not self._may_answer(reply, head):
            return False
        taken = _SUCCESSES.get(command.verb, None if command.verb in VERBS else ())
        if taken is None or reply.code in taken:
            return False
        return self.lossy or (reply.code == 221 and command.verb in _PLAIN_REPLIES and self._has_quit(reply))

    def _has_quit(self, reply: Reply) -> bool:
        for entry in self.pending:
            command = entry.exchange.command
            if command is not None and command.verb == "QUIT":
                return self._may_answer(reply, entry)
        return False

    def _look_behind(self, reply: Reply) -> None:
        """Bytes of the server between the last reply and this one, which nobody told of, are lost as well.

        So it is where nothing at all of the server was captured before.
        """
        if reply is self._looked_at:
            return
        self._looked_at, self._hole = reply, None
        while self._holes and self._holes[0].end <= reply.offset:
            self._hole = self._holes.popleft()
        if reply.encrypted:
            return
        if self._hole is None and reply.offset > self._seen_to:
            before = self._previous
            cut = before is not None and before.oddities & (AFTER_GAP | UNTERMINATED)
            self._hole, self.lossy = Hole(reply.offset, reply.began.ts_ns, not cut), True
        self._seen_to = max(self._seen_to, reply.end)

    def alone(self, reply: Reply) -> None:
        """A reply that nobody asked for: it stands before the commands that wait."""
        exchange = Exchange(command=None, reply=reply, encrypted=reply.encrypted)
        before = self.pending[0].exchange if self.pending else None
        self.note(reply)
        if before is None or len(self.exchanges) >= self._limit:
            self.put(exchange)
        else:
            for index in range(len(self.exchanges) - 1, -1, -1):
                if self.exchanges[index] is before:
                    self.exchanges.insert(index, exchange)
                    break
        self._previous = reply
        self._recent.append(reply)
        if self.log is not None:
            self.log.append(exchange)

    def _pair(self, head: Pending, reply: Reply) -> None:
        if head.fans_out:
            self._fan_out(head)
        elif reply.code == PER_RECIPIENT and self.envelopes.per_recipient and head.exchange.data is not None:
            self._expect(head, [*(one.address for one in self.envelopes.accepted()), None])
        pending, exchange = self.pending, head.exchange
        pending.popleft()
        exchange.reply = reply
        command = exchange.command
        assert command is not None
        since = command.at.ts_ns
        if exchange.data is not None and head.done:
            since = exchange.data.at.ts_ns
        previous = self._previous
        if previous is not None:
            if previous.at.ts_ns > since:
                since = previous.at.ts_ns
            if not head.again and (previous.end > command.acked or command.acked < 0):
                command.outstanding = self._outstanding(command)
        wait = reply.began.ts_ns - since
        exchange.wait_ns = wait if wait > 0 else 0
        self._previous = reply
        self._recent.append(reply)
        self.note(reply)
        if head.gate == "STARTTLS" and reply.code == 220:
            self.tls_agreed = reply
        self.envelopes.settle(exchange, head.whole)
        if head.last:
            self.envelopes.finish()
        if self.log is not None:
            self.log.append(exchange)

    def memory(self) -> tuple[Reply | None, tuple[Reply, ...]]:
        """What it keeps of the replies used up so far, to be able to go back here (:meth:`remember`)."""
        return self._previous, tuple(self._recent)

    def remember(self, memory: tuple[Reply | None, tuple[Reply, ...]]) -> None:
        """Go back to what :meth:`memory` gave."""
        self._previous, recent = memory
        self._recent.clear()
        self._recent.extend(recent)

    def _outstanding(self, command: Command) -> int:
        """How many replies the client still had to get when it sent the command, of those that came before its own."""
        count = 0
        for reply in reversed(self._recent):
            if command.acked >= 0 and reply.end >= 0:
                if reply.end <= command.acked:
                    break
            elif reply.at.ts_ns <= command.began.ts_ns:
                break
            count += 1
        return count

    def _fan_out(self, head: Pending) -> None:
        """LMTP: make an exchange for each accepted recipient (RFC 2033 4.2)."""
        head.fans_out = False
        recipients = self.envelopes.accepted()
        if not recipients:
            return
        first = head.exchange
        first.recipient = recipients[0].address
        more = self._expect(head, [one.address for one in recipients[1:]])
        (more[-1] if more else head).last = True

    def _expect(self, head: Pending, recipients: Sequence[str | None]) -> list[Pending]:
        """Further replies to the command at the head: an exchange each, behind its own."""
        first = head.exchange
        index = next((i for i in range(len(self.exchanges) - 1, -1, -1) if self.exchanges[i] is first), -1)
        more = []
        for recipient in recipients:
            exchange = Exchange(first.command, None, None, first.encrypted, first.data, recipient)
            more.append(Pending(exchange, head.since, done=head.done, whole=head.whole, again=True))
        if index >= 0:
            self.exchanges[index + 1 : index + 1] = [entry.exchange for entry in more]
        self.pending.popleft()
        self.pending.extendleft(reversed(more))
        self.pending.appendleft(head)
        return more

    # -- losses

    def lost_replies(self, hole: Hole) -> None:
        """Bytes of the server are missing: replies may be."""
        self._holes.append(hole)

    def _skip_lost(self, reply: Reply) -> bool:
        """After a gap: leave those commands unanswered whose replies the gap took. True when a gate fell open.

        A client that had the lost bytes when it sent a command had the replies in them, so what it sent before has
        been answered. Among commands of one burst the first is taken whose reply can stand behind the gap.
        """
        hole, self._hole = self._hole, None
        assert hole is not None
        pending = self.pending
        if self.passed is not None and self.passed(hole, reply):
            return self.skip(len(pending))
        keep = int(self._is_in_hole(hole, reply))
        for index in range(1, len(pending)):
            command = pending[index].exchange.command
            before = pending[index - 1].exchange.command
            assert command is not None
            assert before is not None
            if reply.acked >= 0 and command.offset >= 0:
                if reply.acked <= pending[index].since:
                    break
                if command.acked >= hole.end > before.acked:
                    keep = index
            elif command.began.ts_ns <= reply.began.ts_ns and command.began.ts_ns > before.at.ts_ns:
                keep = index
        return self.skip(keep)

    def _is_in_hole(self, hole: Hole, reply: Reply) -> bool:
        """Whether the reply to the command at the head is in the hole for sure.

        One begins there, and the reply behind was sent when the server had more than that command. In a burst it
        might still be the rest of a long one.
        """
        command = self.pending[0].exchange.command
        if not hole.clean or command is None or command.acked >= hole.end:
            return False
        return reply.acked > command.end and not (command.verb in _LONG_REPLIES and len(self.pending) > 1)

    def skip(self, count: int) -> bool:
        """Give up on the replies of the first ``count`` waiting commands. True when a gate fell open."""
        opened = False
        for _ in range(count):
            head = self.pending.popleft()
            self.envelopes.settle(head.exchange, head.whole)
            if head.gate:
                self._verdict(head.gate, None)
                opened = True
        return opened

    def note_lost(self, gap: Gap, why: str) -> None:
        """Put a loss down in the timeline; what is lost at one stretch, piece by piece, is one loss."""
        self.lossy = True
        last = self._timeline[-1] if self._timeline else None
        if (
            isinstance(last, Lost)
            and last.length
            and (last.side, last.why, last.offset + last.length)
            == (
                gap.side,
                why,
                gap.offset,
            )
        ):
            last.length += gap.length
            return
        self.note(Lost(gap.side, gap.octets or None, gap.at, why, gap.offset))

    # -- the ends

    def finish(self) -> None:
        """Nothing more comes: pair what is left, then settle what stays unanswered."""
        self.flush()
        for ahead, entry in enumerate(self.pending):
            command = entry.exchange.command
            if command is not None:
                command.outstanding = ahead + self._outstanding(command)
        self.skip(len(self.pending))
        self.envelopes.finish()

    def flush(self) -> None:
        """Replies still held find their commands now, or stand alone."""
        while self.replies:
            if self.pending and self._may_answer(self.replies[0], self.pending[0]):
                head, reply = self.pending[0], self.replies.popleft()
                self._pair(head, reply)
                if head.gate:
                    self._verdict(head.gate, reply)
                    return
                continue
            if self._has_second_thoughts(self.replies[0]):
                return
            self.alone(self.replies.popleft())

    def injected_replies(self, hello: int) -> list[Injected]:
        """Replies in clear after the 220 to STARTTLS: what somebody put in before TLS began.

        ``hello``: where the client's TLS begins; what the server says on having that is its answer.
        """
        agreed = self.tls_agreed
        if agreed is None:
            return []
        recent = [reply for reply in self._recent if not reply.encrypted and not 0 <= hello < reply.acked]
        late = [reply for reply in recent if reply.offset >= agreed.end >= 0]
        return [
            Injected(side=SERVER, data=b"".join(line + b"\r\n" for line in reply.lines), at=reply.began)
            for reply in late
        ]
