"""RFC 5321 section 4.1.2 and 4.1.3 as predicates: domains, address literals, paths and ESMTP parameters.

Text is what ``Command.argument`` holds. Octets above 127 are let pass here (RFC 6531 section 3.3 extends the grammar by
UTF-8); whether they may be used is another rule's question.
"""

from __future__ import annotations

import ipaddress
import re
import string
from functools import lru_cache
from typing import Final

import msgspec


def _or_high(ascii_: str) -> str:
    """A set of these ASCII characters and all that are none, told by what it leaves out: so it compiles fast."""
    return "[^" + "".join(f"\\x{octet:02x}" for octet in range(128) if chr(octet) not in ascii_) + "]"


_ALNUM: Final = string.ascii_letters + string.digits
_PRINTABLE: Final = "".join(map(chr, range(0x20, 0x7F)))
_VALUE: Final = _or_high("".join(set(_PRINTABLE) - set(" =")))
_QTEXT: Final = _or_high("".join(set(_PRINTABLE) - set('"\\')))
_SUB_DOMAIN: Final = rf"{_or_high(_ALNUM)}(?:{_or_high(_ALNUM + '-')}*{_or_high(_ALNUM)})?"
_DOMAIN: Final = re.compile(rf"{_SUB_DOMAIN}(?:\.{_SUB_DOMAIN})*\Z")
_ATEXT: Final = _or_high(_ALNUM + "!#$%&'*+/=?^_`{|}~-") + "+"
_DOT_STRING: Final = re.compile(rf"{_ATEXT}(?:\.{_ATEXT})*\Z")
_QUOTED: Final = re.compile(rf'"(?:{_QTEXT}|\\[\x20-\x7e])*"\Z')
_GENERAL_LITERAL: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?:[\x21-\x5a\x5e-\x7e]+\Z")
_SNUM: Final = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}\Z")
_PARAMETER: Final = re.compile(rf"[A-Za-z0-9][A-Za-z0-9-]*(?:={_VALUE}+)?\Z")
_KEYWORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*\Z")
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_COMMON_PATH: Final = re.compile(
    rf"(?:FROM|TO):<([A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*@{_LABEL}(?:\.{_LABEL})*)>(?: |\Z)", re.IGNORECASE
)
_COMMON_SIZE: Final = re.compile(r"FROM:<[A-Za-z0-9_+.@-]+> SIZE=([0-9]+)(?: BODY=[78A-Z]+)?\Z", re.IGNORECASE)
_XTEXT: Final = re.compile(r"(?:[\x21-\x2a\x2c-\x3c\x3e-\x7e]|\+[0-9A-F]{2})*\Z")

_NUMBER: Final = 20

LONGEST_JUDGED: Final = 4096
"""Arguments longer than this are overlong lines first of all; their grammar is not looked at."""


class Path(msgspec.Struct, frozen=True, gc=False):
    """The argument of MAIL or RCPT, taken apart as far as it can be."""

    address: str | None
    """Without brackets and source route; ``""`` for ``<>``; ``None`` where no address can be made out."""
    bracketed: bool = True
    spaced: bool = False
    """A space before or after the colon."""
    keyword: bool = True
    """``FROM:`` or ``TO:`` is there."""
    route: str = ""
    parameters: tuple[tuple[str, str | None], ...] = ()
    """(keyword in upper case, value)."""
    bad_parameters: tuple[str, ...] = ()

    def value(self, keyword: str) -> str | None:
        """The value of the parameter; ``""`` if it has none, ``None`` if the parameter is not there."""
        for name, value in self.parameters:
            if name == keyword:
                return value or ""
        return None


@lru_cache(maxsize=2048)
def path(argument: str, keyword: str) -> Path:
    """Take apart ``FROM:<...> ...`` (keyword ``FROM``) or ``TO:<...> ...`` (keyword ``TO``)."""
    argument = argument[:LONGEST_JUDGED].rstrip(" \t")
    common = _COMMON_PATH.match(argument)
    if common is not None and argument[: len(keyword)].upper() == keyword:
        parameters, bad = _parameters(argument[common.end() :]) if common.end() < len(argument) else ((), ())
        return Path(common[1], parameters=parameters, bad_parameters=bad)
    head, colon, rest = argument.partition(":")
    if not colon or head.strip().upper() != keyword:
        return Path(None, keyword=False, bracketed=False)
    spaced = head != head.strip() or rest != rest.lstrip(" \t")
    rest = rest.lstrip(" \t")
    if not rest.startswith("<"):
        address, _, tail = rest.partition(" ")
        parameters, bad = _parameters(tail)
        return Path(address or None, bracketed=False, spaced=spaced, parameters=parameters, bad_parameters=bad)
    end = _closing(rest)
    if end < 0:
        return Path(None, bracketed=False, spaced=spaced)
    inside, tail = rest[1:end], rest[end + 1 :]
    route = ""
    if inside.startswith("@") and ":" in inside:
        route, _, inside = inside.partition(":")
    if tail and not tail.startswith(" "):
        return Path(inside, spaced=spaced, route=route, bad_parameters=(tail[:80],))
    parameters, bad = _parameters(tail[1:]) if tail else ((), ())
    return Path(inside, spaced=spaced, route=route, parameters=parameters, bad_parameters=bad)


_FULL_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.[A-Za-z][A-Za-z-]*[A-Za-z]\Z")


@lru_cache(maxsize=1024)
def is_plain_name(argument: str) -> bool:
    """Whether the argument of EHLO is a domain of several labels that needs no closer look."""
    return _FULL_NAME.match(argument) is not None and not argument.startswith("localhost.")


def is_plain(argument: str, keyword: str) -> bool:
    """Whether the argument of MAIL or RCPT begins with the keyword and a path that needs no closer look."""
    return _COMMON_PATH.match(argument) is not None and argument[: len(keyword)].upper() == keyword


def number(text: str) -> int | None:
    """The number that the text is, in ASCII digits alone, of a length that anybody means; else ``None``."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _NUMBER else None


def _closing(text: str) -> int:
    """Index of the ``>`` that closes the path: not one inside a quoted string."""
    quoted = escaped = False
    for index, character in enumerate(text):
        if escaped:
            escaped = False
        elif character == "\\" and quoted:
            escaped = True
        elif character == '"':
            quoted = not quoted
        elif character == ">" and not quoted:
            return index
    return text.find(">")


@lru_cache(maxsize=256)
def declared_size(argument: str) -> str:
    """The value of SIZE in the argument of MAIL; ``""`` if there is none, or one outside ASCII."""
    match = _COMMON_SIZE.match(argument)
    if match is not None:
        return match[1]
    value = path(argument, "FROM").value("SIZE") or ""
    return value if value.isascii() else ""


def _parameters(text: str) -> tuple[tuple[tuple[str, str | None], ...], tuple[str, ...]]:
    good: list[tuple[str, str | None]] = []
    bad: list[str] = []
    for word in text.split(" ") if text else ():
        if not _PARAMETER.match(word):
            bad.append(word[:80])
            continue
        name, equals, value = word.partition("=")
        good.append((name.upper(), value if equals else None))
    return tuple(good), tuple(bad)


def is_domain(text: str) -> bool:
    """``Domain``; the length limits are other rules' business."""
    return _DOMAIN.match(text) is not None


def is_literal(text: str) -> bool:
    """``address-literal``, brackets included."""
    if len(text) < 3 or text[0] != "[" or text[-1] != "]":
        return False
    inside = text[1:-1]
    if _SNUM.match(inside):
        return all(int(part) < 256 for part in inside.split("."))
    if inside[:5].upper() == "IPV6:":
        return is_ipv6(inside[5:])
    return _GENERAL_LITERAL.match(inside) is not None and not is_ipv6(inside)


def is_ipv6(text: str) -> bool:
    """An IPv6 address in one of the forms of RFC 4291, without a zone."""
    try:
        return "%" not in text and ipaddress.IPv6Address(text) is not None
    except ValueError:
        return False


def is_bare_ipv4(text: str) -> bool:
    """Four numbers and dots without brackets."""
    return _SNUM.match(text) is not None


def mailbox_fault(address: str, *, postmaster: bool = False) -> str | None:
    """What keeps the text from being a ``Mailbox``, in a few words; ``None`` if nothing does.

    ``postmaster``: also take the bare ``Postmaster`` (RCPT, RFC 5321 4.1.1.3).
    """
    if postmaster and address.lower() == "postmaster":
        return None
    local, at, domain = address.rpartition("@")
    if not at:
        return "there is no @ and domain"
    if not _DOT_STRING.match(local) and not _QUOTED.match(local):
        return "the local part is neither a dot-string nor a quoted string"
    if domain.startswith("["):
        return None if is_literal(domain) else "the address literal is malformed"
    if _DOMAIN.match(domain):
        return None
    return "the domain has an underscore" if is_domain(domain.replace("_", "x")) else "the domain is malformed"


def is_keyword(text: str) -> bool:
    """``ehlo-keyword`` (RFC 5321 4.1.1.1), which is also ``esmtp-keyword``."""
    return _KEYWORD.match(text) is not None


def is_xtext(text: str) -> bool:
    """``xtext`` (RFC 3461 section 4)."""
    return _XTEXT.match(text) is not None
