"""A client's line as a command, and the commands whose reply tells what the next bytes are."""

from __future__ import annotations

from typing import Final

from smtpdebug.model.smtp import AFTER_GAP, AUTH_ANSWER, END_OF_DATA, Command, Exchange, MailData
from smtpdebug.model.streams import Location
from smtpdebug.smtp.grammar import command_parts, line_oddities, usual_command
from smtpdebug.smtp.pairing import Pending

GATES: Final = {"DATA": "DATA", "AUTH": "AUTH", "X-EXPS": "AUTH", "STARTTLS": "STARTTLS"}
"""Verbs whose reply tells what comes next, and the kind of what may come."""
RESTARTS: Final = frozenset(("MAIL", "RSET", "EHLO", "HELO", "LHLO", "DATA", "XCLIENT"))
"""Verbs after which no BDAT chunk belongs to those before (RFC 3030)."""
_USUAL: Final = 80
"""Octets of a command line for which it pays to remember what it says."""


def spoken(line: bytes) -> tuple[str, str, int]:
    """Verb, argument and oddities of a command line without its end."""
    if len(line) <= _USUAL:
        return usual_command(line)
    verb, argument = command_parts(line)
    return verb, argument, line_oddities(line)


def auth_answer(line: bytes) -> tuple[str, str, int]:
    """The same of a line that answers a challenge of AUTH, whatever it looks like (RFC 4954 section 4)."""
    return AUTH_ANSWER, line.decode("utf-8", "backslashreplace"), line_oddities(line)


def end_of_data(data: MailData, at: Location, acked: int, *, lmtp: bool) -> Pending:
    """The line of a lone dot behind mail data; over LMTP it is answered once a recipient (RFC 2033 section 4.2)."""
    oddities = AFTER_GAP if data.missing else 0
    offset = max(data.offset, data.end - 3)
    command = Command(END_OF_DATA, "", b"", at, at, offset, data.end, acked, oddities, data.encrypted)
    return Pending(Exchange(command, None, None, data.encrypted, data), data.offset, fans_out=lmtp)
