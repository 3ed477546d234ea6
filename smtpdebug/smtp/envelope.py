"""Mail transactions out of exchanges in order (RFC 5321 3.3): who sends what to whom, and what became of it."""

from __future__ import annotations

import re

from smtpdebug.model.smtp import END_OF_DATA, Exchange, MailData, Message, Recipient
from smtpdebug.smtp.grammar import chunk_size, path_of

_ENDS = frozenset(("EHLO", "HELO", "LHLO", "RSET", "QUIT", "STARTTLS", "XCLIENT"))
_CONCERNED = _ENDS | {"MAIL", "SEND", "SOML", "SAML", "RCPT", "BDAT", END_OF_DATA}

PER_RECIPIENT = 353
"""After it come a reply for each accepted recipient and one for the message (draft-hall-prdr-00 section 4.5)."""
_PRDR = re.compile(r" PRDR(?: |\Z)", re.IGNORECASE)


def _fine(code: int | None) -> bool:
    """Accepted, or, the reply being lost, taken as such."""
    return code is None or code < 300


class Envelopes:
    """Follows the transactions of one conversation; finished ones are appended to ``messages``, up to ``limit``."""

    __slots__ = ("_limit", "current", "lmtp", "messages", "per_recipient")

    def __init__(self, limit: int, *, lmtp: bool) -> None:
        self._limit = limit
        self.messages: list[Message] = []
        self.current: Message | None = None
        self.lmtp = lmtp
        self.per_recipient = False
        """MAIL of the open transaction asked for PRDR."""

    def accepted(self) -> list[Recipient]:
        """Recipients of the open transaction that the server took."""
        current = self.current
        return [one for one in current.recipients if _fine(one.code)] if current is not None else []

    def settle(self, exchange: Exchange, whole: MailData | None = None) -> None:
        """Take the next exchange, in order of the commands, its reply known or never to come.

        Args:
            exchange: command and reply.
            whole: BDAT: the mail data of all chunks so far.
        """
        command = exchange.command
        if command is None:
            return
        verb = command.verb
        if verb not in _CONCERNED:
            return
        code = exchange.reply.code if exchange.reply is not None else None
        if verb == "RCPT":
            if self.current is None:
                if not _fine(code):
                    return
                self.current = Message(mail_from="", recipients=[])
            if len(self.current.recipients) < self._limit:
                self.current.recipients.append(Recipient(path_of(command.argument), code))
        elif verb in ("MAIL", "SEND", "SOML", "SAML"):
            if _fine(code):
                self.finish()
                self.current = Message(mail_from=path_of(command.argument), recipients=[])
                self.per_recipient = _PRDR.search(command.argument) is not None
        elif verb == END_OF_DATA:
            self._delivered(exchange, code, exchange.data)
        elif verb == "BDAT" and exchange.data is not None:
            self._chunk(exchange, command.argument, code, whole or exchange.data)
        elif verb in _ENDS and (_fine(code) or verb == "QUIT"):
            self.finish()

    def _delivered(self, exchange: Exchange, code: int | None, data: MailData | None) -> None:
        """A reply to the end of mail data; of LMTP and PRDR one of several, and the last one ends the transaction."""
        current = self.current
        if current is None:
            if data is None:
                return
            current = self.current = Message(mail_from="", recipients=[])
        if current.data is None:
            current.data = data
        if code == PER_RECIPIENT and self.per_recipient:
            return
        if exchange.recipient is None:
            current.code = code
            self._append()
            return
        if self.lmtp:
            current.code = code if current.code is None else min(current.code, code or current.code)
        for one in current.recipients:
            if one.address == exchange.recipient and _fine(one.code):
                one.code = code if code is not None else one.code

    def _chunk(self, exchange: Exchange, argument: str, code: int | None, whole: MailData) -> None:
        if self.current is None:
            self.current = Message(mail_from="", recipients=[])
        self.current.data = whole
        size = chunk_size(argument)
        if size is not None and size[1]:
            self._delivered(exchange, code, whole)
        else:
            self.current.code = code

    def _append(self) -> None:
        if self.current is not None:
            self._keep(self.current)
            self.current = None

    def finish(self) -> None:
        """The transaction is over: kept where it had recipients or mail data."""
        current = self.current
        if current is not None and (current.recipients or current.data is not None):
            self._keep(current)
        self.current = None

    def _keep(self, message: Message) -> None:
        if len(self.messages) < self._limit:
            self.messages.append(message)
