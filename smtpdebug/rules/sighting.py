"""What comparisons between conversations need of one of them: small enough to send from process to process.

A conversation is judged alone wherever it was read. What can only be said beside earlier conversations (a server that
offers STARTTLS now and then, a recipient put off before) is said from sightings, in order of output.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from smtpdebug.model.findings import Diagnosis
from smtpdebug.model.smtp import Conversation
from smtpdebug.model.streams import Location

if TYPE_CHECKING:
    from smtpdebug.rules.state import State

ACCEPTED: Final = 512
"""Times of accepted messages kept of one conversation, the last ones: enough to tell a sending rate."""
_RECIPIENTS: Final = 20
"""Recipients looked at in one message."""
_PAIRS: Final = 1024
"""Senders and recipients kept of one conversation."""


class Sighting(msgspec.Struct, array_like=True, gc=False):
    """One judged conversation, as far as later ones may be compared with it; strings and numbers only."""

    client: str
    """Address."""
    server: str
    port: int
    """The server's."""
    opened: Location
    syn_ns: int | None = None
    connected: bool = False
    """The server answered the SYN."""
    mail: bool = True
    """It concerns mail (``scope``): comparisons may speak of it."""
    starttls: bool | None = None
    """Whether the last EHLO in clear was offered STARTTLS; ``None`` where that was not seen."""
    starttls_at: Location | None = None
    """The reply that did or did not offer it."""
    lossy: bool = False
    """Something of the conversation is missing."""
    accepted: list[int] = []
    """When messages were accepted."""
    deferred: list[tuple[str, str]] = []
    """Sender and recipient, lower case, of recipients put off with 450 or 451."""
    welcomed: list[tuple[str, str]] = []
    """The same of accepted recipients; empty where greylisting explains the conversation already."""
    throttled: Diagnosis | None = None
    """The diagnosis that the server limits the rate (D52)."""


def sight(conversation: Conversation, state: State, *, mail: bool) -> Sighting:
    """Make the sighting of a judged conversation; ``state`` is the model at its end."""
    stream = conversation.stream
    seen = Sighting(
        stream.client.ip,
        stream.server.ip,
        stream.server.port,
        stream.opened,
        stream.syn_ns,
        stream.syn_ack_ns is not None,
        mail,
    )
    if conversation.exchanges:
        _take_offer(seen, conversation, state)
        seen.accepted = _accepted(conversation)
        seen.lossy = state.lossy
    greylisted = False
    for diagnosis in conversation.diagnoses:
        if diagnosis.id == "D52":
            seen.throttled = diagnosis
        elif diagnosis.id == "D55":
            greylisted = True
    if conversation.messages:
        _take_recipients(seen, conversation, greylisted)
    return seen


def _take_offer(seen: Sighting, conversation: Conversation, state: State) -> None:
    if state.encrypted:
        _take_offer_before_tls(seen, conversation)
    elif state.esmtp and state.helo_reply is not None:
        seen.starttls = "STARTTLS" in state.extensions
        seen.starttls_at = state.helo_reply.at


def _take_offer_before_tls(seen: Sighting, conversation: Conversation) -> None:
    from smtpdebug.rules.state import extensions_of  # the registry of rules is made before the state

    for exchange in conversation.exchanges:
        if exchange.encrypted:
            return
        command, reply = exchange.command, exchange.reply
        if command is None or reply is None or not 200 <= reply.code < 300:
            continue
        if command.verb == "EHLO" or command.verb == "LHLO":
            seen.starttls = "STARTTLS" in extensions_of(reply)
            seen.starttls_at = reply.at


def _accepted(conversation: Conversation) -> list[int]:
    times = []
    for exchange in conversation.exchanges:
        if exchange.data is None or exchange.reply is None or exchange.reply.code != 250:
            continue
        command = exchange.command
        if command is not None and (command.verb != "BDAT" or command.argument.upper().endswith("LAST")):
            times.append(exchange.reply.at.ts_ns)
    return times[-ACCEPTED:]


def _take_recipients(seen: Sighting, conversation: Conversation, greylisted: bool) -> None:
    deferred, welcomed = [], []
    for message in conversation.messages:
        sender = message.mail_from.lower()
        for number, recipient in enumerate(message.recipients):
            code = recipient.code
            if code is None:
                continue
            if 250 <= code < 260:
                if number < _RECIPIENTS:
                    welcomed.append((sender, recipient.address.lower()))
            elif code == 450 or code == 451:
                deferred.append((sender, recipient.address.lower()))
        if len(deferred) > _PAIRS or len(welcomed) > _PAIRS:
            break
    seen.deferred = deferred[:_PAIRS]
    if not greylisted:
        seen.welcomed = welcomed[:_PAIRS]
