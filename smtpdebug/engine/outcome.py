"""How a conversation ended, in one word (docs/record.md)."""

from __future__ import annotations

from smtpdebug.model.smtp import END_OF_DATA, GREETING, Conversation, Exchange
from smtpdebug.model.streams import CLIENT, MAIL_PORTS, SERVER

_ENDS_TRANSACTION = frozenset({"RSET", "EHLO", "HELO", "LHLO", "STARTTLS", "XCLIENT"})


def outcome(conversation: Conversation) -> str:
    """The closed list of the record's ``outcome``, decided in order of what explains most."""
    stream = conversation.stream
    if stream.refused_by is not None:
        return "refused"
    if stream.syn_ns is not None and not stream.packets[SERVER] and not stream.bytes[CLIENT]:
        return "no-answer"
    if conversation.protocol == "unknown":
        nobody_spoke = unserved(conversation) and not stream.bytes[CLIENT] and stream.server.port in MAIL_PORTS
        return "aborted" if nobody_spoke else "not-smtp"
    if conversation.tls is not None and not conversation.tls.decrypted:
        return _outcome_in_tls(conversation)
    return _outcome_in_clear(conversation)


def _outcome_in_tls(conversation: Conversation) -> str:
    tls = conversation.tls
    if tls is not None and tls.finished is None and any(alert.level == "fatal" for alert in tls.alerts):
        # Nothing was hidden: the handshake failed and took the conversation with it.
        return "reset" if _reset(conversation) else "aborted"
    return "opaque"


def _outcome_in_clear(conversation: Conversation) -> str:
    exchanges = conversation.exchanges
    if _greeting_rejected(exchanges):
        return "rejected"
    # Where the server's side is not in the capture, its answer to QUIT cannot be either.
    unheard = not conversation.stream.packets[SERVER]
    if any(_verb(exchange) == "QUIT" and (exchange.reply or unheard) for exchange in reversed(exchanges)):
        return "completed"
    if _reset(conversation):
        return "reset"
    if conversation.stream.closed_by is None:
        return "open"
    return "aborted" if transaction_open(exchanges) or unserved(conversation) else "completed"


def unserved(conversation: Conversation) -> bool:
    """The server closed without a single reply, not even the greeting (RFC 5321 section 3.1)."""
    stream = conversation.stream
    silent = not stream.bytes[SERVER] and not stream.missing[SERVER]
    return stream.closed_by == "server-fin" and silent and stream.complete and not conversation.joined_late


def _reset(conversation: Conversation) -> bool:
    return (conversation.stream.closed_by or "").endswith("rst")


def _verb(exchange: Exchange) -> str:
    return exchange.command.verb if exchange.command is not None else ""


def _greeting_rejected(exchanges: list[Exchange]) -> bool:
    for exchange in exchanges[:2]:
        if _verb(exchange) == GREETING:
            return exchange.reply is not None and exchange.reply.code >= 400
    return False


def transaction_open(exchanges: list[Exchange]) -> bool:
    """A MAIL was accepted and neither finished, reset nor refused at its end (RFC 5321 section 3.3)."""
    for exchange in reversed(exchanges):
        verb, reply = _verb(exchange), exchange.reply
        if verb == "MAIL" and reply is not None and reply.code // 100 == 2:
            return True
        if verb == END_OF_DATA or (verb == "BDAT" and exchange.command and "LAST" in exchange.command.argument.upper()):
            return reply is None
        if verb in _ENDS_TRANSACTION and reply is not None and reply.code // 100 == 2:
            return False
    return False
