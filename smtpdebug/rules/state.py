"""The reference model: what an RFC 5321 client and server would know before each exchange of a conversation.

``State.enter`` is called before an exchange is judged, ``State.advance`` after it. Where the capture does not show what
came before (a gap, a late start, an unanswered command) the model says so with ``uncertain`` and rules keep silent,
until a successful EHLO or HELO makes the state known again (RFC 5321 4.1.4: EHLO resets everything).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

import msgspec

from smtpdebug.model.smtp import (
    AFTER_GAP,
    AUTH_ANSWER,
    END_OF_DATA,
    GREETING,
    Command,
    Conversation,
    Exchange,
    Lost,
    Reply,
)
from smtpdebug.model.streams import Gap, Location
from smtpdebug.rules.registry import (
    BEFORE_HELLO,
    CHUNKED,
    CLOSING,
    IN_TRANSACTION,
    LIMITED,
    NO_RECIPIENT,
    NO_TRANSACTION,
    REFUSED_DATA,
    REFUSED_GREETING,
    REFUSED_TLS,
    STARTED_TLS,
)
from smtpdebug.rules.table import KNOWN_VERBS

HELLOS: Final = frozenset({"EHLO", "HELO", "LHLO"})


class State(msgspec.Struct, gc=False, eq=False):
    """The model before an exchange. Rules read it and never change it."""

    conversation: Conversation
    index: int = 0
    """Of the exchange in ``conversation.exchanges``."""
    greeting: Reply | None = None
    helo: Command | None = None
    """The accepted EHLO, HELO or LHLO in force."""
    helo_reply: Reply | None = None
    helo_tried: bool = False
    """Some EHLO, HELO or LHLO was sent since the connection or TLS began, accepted or not."""
    ehlo_refused: bool = False
    """An EHLO got 4yz or 5yz since the connection or TLS began (so that HELO is the fall-back)."""
    esmtp: bool = False
    """``helo`` is EHLO or LHLO."""
    extensions: dict[str, str] = {}
    """Of the EHLO in force: keyword in upper case -> parameters as sent."""
    extensions_before_tls: dict[str, str] | None = None
    """What the last EHLO in clear offered; ``None`` if there was none or TLS has not started."""
    encrypted: bool = False
    tls_refused: bool = False
    """A STARTTLS got 4yz or 5yz."""
    tls_agreed: Exchange | None = None
    """The STARTTLS that got 220, until the first exchange inside TLS."""
    authenticated: bool = False
    auth_pending: Command | None = None
    """AUTH that got 334 and has no final reply yet."""
    mail: Command | None = None
    """MAIL of the open, accepted transaction."""
    mail_refused: bool = False
    """The last MAIL was refused and nothing has begun a transaction since."""
    rcpt_sent: int = 0
    rcpt_accepted: int = 0
    rcpt_refused: int = 0
    data_open: bool = False
    """354 was given, the end of mail data has not been judged yet."""
    data_refused: bool = False
    """DATA of this transaction was refused."""
    spilled: bool = False
    """DATA was refused and the message came all the same: its lines are read as commands."""
    ended: int = 0
    """Replies so far to the end of the last mail data (LMTP gives several)."""
    ended_accepted: int = 0
    """Recipients the last ended transaction had."""
    bdat_open: bool = False
    """At least one chunk was accepted and LAST has not come."""
    bdat_failed: bool = False
    """A chunk before the last was refused and neither RSET nor EHLO came since."""
    bdat_last: bool = False
    """LAST ended the message, taken or not, and neither MAIL, RSET nor EHLO came since."""
    bdat_bytes: int = 0
    transactions: int = 0
    """MAIL commands accepted so far (since the connection began)."""
    lmtp: bool = False
    quit_sent: bool = False
    quit_reply: Reply | None = None
    closing: Reply | None = None
    """The 421 that the server gave, at any time."""
    uncertain: bool = False
    """What came before is not known in full: say nothing that leans on it."""
    lossy: bool = False
    """Something of this conversation is missing, ever: a gap, a late join."""
    previous: Exchange | None = None
    timeline_seen: int = 0
    losses: list[Location] = []
    """Where bytes are missing, by time; the first ``losses_met`` are behind us."""
    losses_met: int = 0

    def offers(self, keyword: str) -> bool:
        """Whether the EHLO in force offered the extension."""
        return keyword in self.extensions

    def repeats(self, exchange: Exchange) -> bool:
        """Whether this is a further reply to the command of the exchange before: LMTP and PRDR, one a recipient."""
        before = self.previous
        return before is not None and before.command is not None and before.command is exchange.command

    def in_flight(self, exchange: Exchange) -> list[Exchange]:
        """The exchanges whose replies the client had not seen when it sent this command (its pipelining group)."""
        if exchange.command is None or not exchange.command.outstanding:
            return []
        return self.conversation.exchanges[max(0, self.index - exchange.command.outstanding) : self.index]

    def pipelined_with(self, exchange: Exchange, *verbs: str) -> bool:
        """Whether one of these verbs was still unanswered when the command was sent."""
        return any(e.command is not None and e.command.verb in verbs for e in self.in_flight(exchange))

    def situation(self) -> int:
        """The situations (``registry``) that depend on what came before."""
        found = 0
        if self.greeting is not None and self.greeting.code != 220:
            found |= REFUSED_GREETING
        if self.closing is not None:
            found |= CLOSING
        if self.bdat_open or self.bdat_failed or self.bdat_last:
            found |= CHUNKED
        if self.tls_agreed is not None:
            found |= STARTED_TLS
        if self.tls_refused:
            found |= REFUSED_TLS
        if self.data_refused:
            found |= REFUSED_DATA
        if not self.helo_tried:
            found |= BEFORE_HELLO
        if "LIMITS" in self.extensions:
            found |= LIMITED
        found |= NO_TRANSACTION if self.mail is None else IN_TRANSACTION
        return found if self.rcpt_accepted else found | NO_RECIPIENT

    def enter(self, exchange: Exchange) -> None:
        """Take in what is known just before the exchange: losses, and TLS having begun."""
        self.note_losses()
        if self.losses_met < len(self.losses):
            self._meet_losses(exchange)
        command = exchange.command
        if command is not None and command.oddities & AFTER_GAP:
            self.uncertain = self.lossy = True
        if exchange.encrypted and not self.encrypted:
            self.enter_tls()

    def enter_tls(self) -> None:
        """RFC 3207 4.2: both sides forget what they learnt before TLS."""
        self.extensions_before_tls = self.extensions if self.helo is not None else None
        self.tls_agreed = None
        self.encrypted = True
        self._forget_hello()

    def advance(self, exchange: Exchange) -> None:
        """Take in the exchange."""
        command, reply = exchange.command, exchange.reply
        if reply is not None and reply.code == 421:
            self.closing = reply
        if command is None:
            if reply is not None and reply.code != 421:
                self.uncertain = True
        else:
            step = _STEPS.get(command.verb)
            if step is not None:
                step(self, exchange, command, reply)
            elif self.data_refused:
                self.spilled = self.spilled or is_spilled(command)
        self.previous = exchange
        self.index += 1

    def reset_transaction(self) -> None:
        """RSET, EHLO, HELO, the end of mail data (RFC 5321 4.1.1.5)."""
        self.mail = None
        self.mail_refused = self.data_open = self.data_refused = self.spilled = False
        self.rcpt_sent = self.rcpt_accepted = self.rcpt_refused = 0
        self.bdat_open = self.bdat_failed = self.bdat_last = False
        self.bdat_bytes = 0

    def _forget_hello(self) -> None:
        self.helo = self.helo_reply = None
        self.helo_tried = self.ehlo_refused = self.esmtp = False
        self.extensions = {}
        self.authenticated = False
        self.auth_pending = None
        self.reset_transaction()

    def note_losses(self) -> bool:
        """Look where bytes are missing; whether any are."""
        timeline = self.conversation.timeline
        if len(timeline) == self.timeline_seen:
            return bool(self.losses)
        # An engine may have put TCP items in between: look again at all, there are few.
        losses = [item.at for item in timeline if item.__class__ is Lost or item.__class__ is Gap]
        if losses or self.losses:
            self.losses = sorted(losses, key=_when)
        self.timeline_seen = len(timeline)
        return bool(self.losses)

    def _meet_losses(self, exchange: Exchange) -> None:
        said = exchange.reply.at if exchange.reply is not None else None
        if said is None and exchange.command is not None:
            said = exchange.command.at
        while self.losses_met < len(self.losses) and (
            said is None or _when(self.losses[self.losses_met]) <= _when(said)
        ):
            self.losses_met += 1
            self.uncertain = self.lossy = True


def is_spilled(command: Command) -> bool:
    """Whether a line behind a refused DATA is one of the message: no command, nor the dot of RFC 2920 3.1."""
    verb = command.verb
    return verb not in KNOWN_VERBS and not verb.startswith("(") and command.line.strip() not in (b".", b"")


def begin(conversation: Conversation) -> State:
    """The model at the first exchange."""
    state = State(conversation, lmtp=conversation.protocol == "lmtp")
    state.uncertain = state.lossy = conversation.joined_late
    return state


def extensions_of(reply: Reply) -> dict[str, str]:
    """Keywords (upper case) and parameters of a reply to EHLO (RFC 5321 4.1.1.1); the first line is the domain."""
    return dict(_extensions(tuple(reply.lines)))


@lru_cache(maxsize=512)
def _extensions(lines: tuple[bytes, ...]) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for line in lines[1:]:
        keyword, _, parameters = line[4:].decode("utf-8", "backslashreplace").strip().partition(" ")
        key = keyword.upper()
        if key.startswith("AUTH="):  # what clients before RFC 2554 look for; same meaning
            key, parameters = "AUTH", f"{keyword[5:]} {parameters}"
        if key == "AUTH":  # one list, where both forms are there
            parameters = " ".join(dict.fromkeys(f"{found.get(key, '')} {parameters}".split()))
        if key:
            found[key] = parameters.strip()
    return tuple(found.items())


def _when(at: Location) -> tuple[int, int]:
    return at.ts_ns, at.frame


def _greeting(state: State, exchange: Exchange, command: Command, reply: Reply | None) -> None:
    state.greeting = reply


def _hello(state: State, exchange: Exchange, command: Command, reply: Reply | None) -> None:
    state.helo_tried = True
    if reply is None:
        state.uncertain = True
        return
    if 200 <= reply.code < 300:
        state.helo, state.helo_reply = command, reply
        state.esmtp = command.verb != "HELO"
        state.lmtp = state.lmtp or command.verb == "LHLO"
        state.extensions = extensions_of(reply) if state.esmtp else {}
        state.reset_transaction()
        # Of a reply with a hole in it neither the extensions are known nor whether its end is that of another one.
        state.uncertain = bool(reply.oddities & AFTER_GAP)
    elif command.verb != "HELO":
        state.ehlo_refused = True


def _starttls(state: State, exchange: Exchange, command: Command, reply: Reply | None) -> None:
    if reply is None:
        state.uncertain = True
    elif reply.code == 220:
        state.tls_agreed = exchange
    elif reply.code >= 400:
        state.tls_refused = True


def _auth(state: State, exchange: Exchange, command: Command, reply: Reply | None) -> None:
    if reply is None:
        state.auth_pending = None
        return
    if reply.code == 334:
        state.auth_pending = state.auth_pending or command
        return
    state.auth_pending = None
    if 200 <= reply.code < 300:
        state.authenticated = True


def _mail(state: State, exchange: Exchange, command: Command, reply: Reply | None) -> None:
    if reply is None:
        state.uncertain = True
    elif 200 <= reply.code < 300:
        state.reset_transaction()
        state.mail = command
        state.transactions += 1
    elif state.mail is None:
        state.mail_refused = True


def _rcpt(state: State, exchange: Exchange, command: Command, reply: Reply | None) -> None:
    state.rcpt_sent += 1
    if reply is None:
        state.uncertain = True
    elif 200 <= reply.code < 300:
        state.rcpt_accepted += 1
    else:
        state.rcpt_refused += 1


def _data(state: State, exchange: Exchange, command: Command, reply: Reply | None) -> None:
    state.ended = 0
    if reply is None:
        state.uncertain = True
    elif 300 <= reply.code < 400:
        state.data_open = True
    else:
        state.data_refused = True


def _end_of_data(state: State, exchange: Exchange, command: Command, reply: Reply | None) -> None:
    if not state.ended or state.data_open:
        state.ended_accepted = state.rcpt_accepted
        state.ended = 0
        state.reset_transaction()
    state.ended += 1


def _bdat(state: State, exchange: Exchange, command: Command, reply: Reply | None) -> None:
    if state.repeats(exchange):
        state.ended += 1
        return
    last = command.argument.upper().endswith("LAST")
    state.ended = 1 if last else 0
    over = last and reply is not None and reply.code != 503
    if reply is None:
        state.uncertain = True
    elif over:
        state.ended_accepted = state.rcpt_accepted
        state.reset_transaction()
        state.bdat_last = True
    elif not 200 <= reply.code < 300:
        state.bdat_failed = not last
    else:
        state.bdat_open = True
        state.bdat_bytes += exchange.data.bytes if exchange.data is not None else 0


def _turn(state: State, exchange: Exchange, command: Command, reply: Reply | None) -> None:
    if reply is not None and 200 <= reply.code < 300:  # RFC 2645 5.3: from here on the server is the client
        state.uncertain = state.lossy = True


def _rset(state: State, exchange: Exchange, command: Command, reply: Reply | None) -> None:
    if reply is None:
        state.uncertain = True
    elif 200 <= reply.code < 300:
        state.reset_transaction()


def _quit(state: State, exchange: Exchange, command: Command, reply: Reply | None) -> None:
    state.quit_sent, state.quit_reply = True, reply


def _xclient(state: State, exchange: Exchange, command: Command, reply: Reply | None) -> None:
    if reply is not None and reply.code == 220:  # Postfix XCLIENT_README: the conversation starts over
        state._forget_hello()
        state.greeting = reply


_STEPS: Final[dict[str, Callable[[State, Exchange, Command, Reply | None], None]]] = {
    GREETING: _greeting,
    "EHLO": _hello,
    "HELO": _hello,
    "LHLO": _hello,
    "STARTTLS": _starttls,
    "AUTH": _auth,
    AUTH_ANSWER: _auth,
    "MAIL": _mail,
    "RCPT": _rcpt,
    "DATA": _data,
    END_OF_DATA: _end_of_data,
    "BDAT": _bdat,
    "ATRN": _turn,
    "TURN": _turn,
    "RSET": _rset,
    "QUIT": _quit,
    "XCLIENT": _xclient,
}
