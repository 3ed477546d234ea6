"""Words of the protocol: known verbs, command and reply lines taken apart, the looks of a TLS record."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from smtpdebug.model.smtp import (
    BARE_CR,
    BARE_LF,
    CONTROL,
    EIGHT_BIT,
    LEADING_SPACE,
    LONG_LINE,
    NUL,
    TRAILING_SPACE,
)

VERBS: Final = frozenset(
    (
        *("HELO", "EHLO", "LHLO", "MAIL", "RCPT", "DATA", "RSET", "VRFY", "EXPN", "HELP", "NOOP", "QUIT"),
        *("SEND", "SOML", "SAML", "TURN", "ATRN", "ETRN", "AUTH", "STARTTLS", "BDAT", "BURL"),
        *("XCLIENT", "XFORWARD", "XEXCH50", "X-EXPS", "X-LINK2STATE", "X-ANONYMOUSTLS", "XREQUIRETLS"),
        *("XADR", "XSTA", "XCIR", "XGEN", "XSHADOW", "XRDST", "XPROXY", "XPROXYTO", "XUSR", "ONEX", "VERB"),
    )
)
"""RFC 5321 and the extensions in use (RFC 1985, 2033, 2645, 3030, 3207, 4468, 4954; Postfix, Exchange, sendmail)."""

FOOT: Final = re.compile(
    rb"(?i)(?:MAIL[ \t]+FROM:|RCPT[ \t]+TO:"
    rb"|(?:EHLO|HELO|LHLO)[ \t]+[\w.:\[\]-]+[ \t]*$"
    rb"|(?:DATA|RSET|QUIT|STARTTLS|NOOP)[ \t]*$"
    rb"|BDAT[ \t]+\d+(?:[ \t]+LAST)?[ \t]*$"
    rb"|AUTH[ \t]+(?:PLAIN|LOGIN|CRAM-MD5|DIGEST-MD5|NTLM|GSSAPI|EXTERNAL|SCRAM-|XOAUTH2|OAUTHBEARER)"
    rb"|(?:VRFY|EXPN|ETRN)[ \t]+\S+[ \t]*$"
    rb"|(?:XCLIENT|XFORWARD)[ \t]+\S+=)"
)
"""A line that is surely a command: where to find one's feet in bytes that may as well be mail data."""

FOOT_BEGUN: Final = re.compile(
    rb"(?i)MAIL[ \t]+(?:F|FR|FRO|FROM)$|RCPT[ \t]+(?:T|TO)$|(?:EHLO|HELO|LHLO)[ \t]+[\w.:\[\]-]+$"
)
"""The same of a line that is cut off, as a short snap length does it."""

TLS_RECORD: Final = re.compile(rb"[\x14-\x17]\x03[\x00-\x04]")
"""The first octets of a TLS record (RFC 8446 5.1); no SMTP line begins so."""
TLS_HELLO: Final = re.compile(rb"\x16\x03[\x00-\x04]|\x80[\x00-\xff]\x01\x03[\x00-\x04]")
"""A ClientHello, also in an SSLv2 record (RFC 5246 E.2)."""

ORDINARY: Final = bytes([9, 10, 13, *range(32, 127)])
_PRINTABLE: Final = bytes([9, *range(32, 127)])

_PATH: Final = re.compile(r'<((?:"(?:\\.|[^"\\])*"|[^<>"])*)>')
_ENHANCED: Final = re.compile(rb"[245]\.\d{1,3}\.\d{1,3}(?![\d.])")
COMMAND_LINE: Final = 512
"""Octets of a command or reply line, line end included (RFC 5321 4.5.3.1.4 and .5)."""


def oddities_of(odd: bytes) -> int:
    """What the octets that are left after the ordinary ones were taken out amount to."""
    found = 0
    for octet in set(odd):
        if octet == 0:
            found |= NUL
        elif octet > 127:
            found |= EIGHT_BIT
        elif octet == 13:
            found |= BARE_CR
        elif octet == 10:
            found |= BARE_LF
        else:
            found |= CONTROL
    return found


def line_oddities(line: bytes) -> int:
    """Oddities of a command or reply line given without its line end."""
    odd = line.translate(None, _PRINTABLE)
    found = oddities_of(odd) if odd else 0
    if line:
        if line[-1] in b" \t":
            found |= TRAILING_SPACE
        if line[0] in b" \t":
            found |= LEADING_SPACE
        if len(line) > COMMAND_LINE - 2:
            found |= LONG_LINE
    return found


def command_parts(line: bytes) -> tuple[str, str]:
    """Verb in upper case and argument of a command line without its line end; ``("", "")`` for an empty one."""
    if line[-1:] == b"\r":
        line = line.rstrip(b"\r")  # sent as CR CR LF
    text = line.decode("utf-8", "backslashreplace")
    verb, _, argument = text.partition(" ")
    if not verb or "\t" in verb:
        parts = text.split(None, 1)
        verb = parts[0] if parts else ""
        argument = parts[1] if len(parts) > 1 else ""
    return verb.upper(), argument


@lru_cache(maxsize=1024)
def usual_command(line: bytes) -> tuple[str, str, int]:
    """Verb, argument and oddities of a command line: for short ones, which come again and again."""
    verb, argument = command_parts(line)
    return verb, argument, line_oddities(line)


def chunk_size(argument: str) -> tuple[int, bool] | None:
    """Size and LAST of a BDAT argument (RFC 3030 section 2), ``None`` where it is none: then no octets follow."""
    size, *more = argument.split() or ("",)
    if not (size.isascii() and size.isdigit() and len(size) <= 18):
        return None
    if more and (len(more) > 1 or more[0].upper() != "LAST"):
        return None
    return int(size), bool(more)


def path_of(argument: str) -> str:
    """The address of a MAIL or RCPT argument: what is between the angle brackets, else the first word."""
    start = argument.find("<")
    end = argument.find(">", start)
    if 0 <= start < end and '"' not in argument:
        return argument[start + 1 : end]
    match = _PATH.search(argument)
    if match:
        return match.group(1)
    words = argument.partition(":")[2].split(None, 1)
    return words[0] if words else ""


def enhanced_code(line: bytes) -> str | None:
    """The enhanced status code of a reply line (RFC 2034 section 4), or ``None``."""
    if line[5:6] != b".":
        return None
    match = _ENHANCED.match(line, 4)
    return match.group().decode() if match else None
