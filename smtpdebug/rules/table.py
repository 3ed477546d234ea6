"""Which replies belong to which command: RFC 5321 section 4.3.2 and what amends it, as data with its sources.

RFC 5321bis will replace RFC 5321: ``EDITION`` says which text an entry was read from, ids of rules never do.
"""

from __future__ import annotations

from typing import Final

import msgspec

from smtpdebug.model.smtp import AUTH_ANSWER, END_OF_DATA, GREETING, Command

EDITION: Final = "RFC 5321 (2008) with RFC 7504 (2015)"


class Source(msgspec.Struct, frozen=True, gc=False):
    """Where an entry comes from; ``extension`` is the EHLO keyword it needs, ``""`` for the base protocol."""

    ref: str
    extension: str = ""
    edition: str = EDITION


_BASE: Final = Source("RFC 5321 §4.3.2")
_NULL_MX: Final = Source("RFC 7504 §5.1")
_STARTTLS: Final = Source("RFC 3207 §4", "STARTTLS", "RFC 3207 (2002)")
_AUTH: Final = Source("RFC 4954 §6", "AUTH", "RFC 4954 (2007)")
_CHUNKING: Final = Source("RFC 3030 §2", "CHUNKING", "RFC 3030 (2000)")
_ETRN: Final = Source("RFC 1985 §4", "ETRN", "RFC 1985 (1996)")
_ATRN: Final = Source("RFC 2645 §5", "ATRN", "RFC 2645 (1999)")
_BURL: Final = Source("RFC 4468 §3", "BURL", "RFC 4468 (2006)")
_REQUIRETLS: Final = Source("RFC 8689 §5", "REQUIRETLS", "RFC 8689 (2019)")
_XCLIENT: Final = Source("Postfix XCLIENT_README", "XCLIENT", "Postfix 3.7")
_XFORWARD: Final = Source("Postfix XFORWARD_README", "XFORWARD", "Postfix 3.7")
_LMTP: Final = Source("RFC 2033 §4.1", "", "RFC 2033 (1996)")
_PRDR: Final = Source("draft-hall-prdr-00 §4.5", "PRDR", "2010")

ANY_COMMAND: Final = {500: _BASE, 501: _BASE, 421: _BASE}
"""What any command may get "if the corresponding unusual circumstances are encountered"."""

_FINAL: Final = dict.fromkeys((250, 552, 554, 451, 452, 450, 550), _BASE)

EXPECTED: Final[dict[str, dict[int, Source]]] = {
    GREETING: {220: _BASE, 554: _BASE, 521: _NULL_MX},
    "EHLO": dict.fromkeys((250, 504, 550, 502), _BASE),
    "HELO": dict.fromkeys((250, 504, 550, 502), _BASE),
    "LHLO": dict.fromkeys((250, 504, 550), _LMTP),
    "MAIL": dict.fromkeys((250, 552, 451, 452, 550, 553, 503, 455, 555), _BASE),
    "RCPT": {
        **dict.fromkeys((250, 251, 550, 551, 552, 553, 450, 451, 452, 503, 455, 555), _BASE),
        556: _NULL_MX,
    },
    "DATA": dict.fromkeys((354, 503, 554, 450, 451, 452, 550, 552), _BASE),
    END_OF_DATA: _FINAL,
    "RSET": {250: _BASE},
    "VRFY": dict.fromkeys((250, 251, 252, 550, 551, 553, 502, 504), _BASE),
    "EXPN": dict.fromkeys((250, 252, 550, 500, 502, 504), _BASE),
    "HELP": dict.fromkeys((211, 214, 502, 504), _BASE),
    "NOOP": {250: _BASE},
    "QUIT": {221: _BASE},
    "STARTTLS": {220: _STARTTLS, 454: _STARTTLS, 502: _BASE, 503: _BASE},
    "AUTH": dict.fromkeys((235, 334, 432, 454, 502, 503, 504, 534, 535, 538), _AUTH),
    AUTH_ANSWER: dict.fromkeys((235, 334, 432, 454, 535, 534, 538), _AUTH),
    "BDAT": {**dict.fromkeys((250, 503, 554, 552, 550, 450, 451, 452), _CHUNKING), 502: _BASE},
    "ETRN": dict.fromkeys((250, 251, 252, 253, 458, 459, 502, 503), _ETRN),
    "ATRN": dict.fromkeys((250, 450, 453, 502), _ATRN),
    "BURL": dict.fromkeys((250, 503, 554, 552, 550, 450, 451, 452, 354), _BURL),
    "XCLIENT": dict.fromkeys((220, 503, 550), _XCLIENT),
    "XFORWARD": dict.fromkeys((250, 503, 550), _XFORWARD),
}
"""Verb -> code -> source. DATA's own row ends with the codes of the refusals that RFC 5321 4.2.5 and 4.3.2 allow after
it: a server that refuses for policy at DATA says the same before 354 as after it."""

PER_RECIPIENT: Final = {353: _PRDR}
"""To the end of mail data, where MAIL asked for it: a reply for each recipient and one for the message follow."""

FROM_EXTENSIONS: Final = {
    530: (_STARTTLS, _AUTH),
    550: (_REQUIRETLS,),
}
"""Codes that an extension lets other commands return. 530: RFC 3207 4 to every command other than NOOP, EHLO, STARTTLS
or QUIT; RFC 4954 6 to every command other than AUTH, EHLO, HELO, NOOP, RSET or QUIT."""

NEVER_530: Final = frozenset({GREETING, "EHLO", "NOOP", "QUIT"})

REQUIRED_VERBS: Final = frozenset({"EHLO", "HELO", "MAIL", "RCPT", "DATA", "RSET", "NOOP", "QUIT", "VRFY"})
"""The minimum implementation, RFC 5321 4.5.1."""

VERB_EXTENSION: Final = {
    "STARTTLS": "STARTTLS",
    "AUTH": "AUTH",
    "BDAT": "CHUNKING",
    "ETRN": "ETRN",
    "ATRN": "ATRN",
    "EXPN": "EXPN",
    "VRFY": "VRFY",
    "HELP": "HELP",
    "BURL": "BURL",
    "XCLIENT": "XCLIENT",
    "XFORWARD": "XFORWARD",
}
"""Verb -> EHLO keyword that announces it."""

KNOWN_VERBS: Final = (
    REQUIRED_VERBS
    | VERB_EXTENSION.keys()
    | {
        "LHLO",
        "SEND",
        "SOML",
        "SAML",
        "TURN",
        "XEXCH50",
        "X-EXPS",
        "XADR",
        "XSTA",
        "XCIR",
        "XGEN",
        "XAUTH",
        "X-LINK2STATE",
    }
)
OBSOLETE_VERBS: Final = frozenset({"SEND", "SOML", "SAML", "TURN"})
"""RFC 5321 Appendix F.6 and F.1."""

PARAMETER_EXTENSION: Final[dict[str, tuple[str, ...]]] = {
    "SIZE": ("SIZE",),
    "BODY": ("8BITMIME", "BINARYMIME"),
    "SMTPUTF8": ("SMTPUTF8",),
    "AUTH": ("AUTH",),
    "RET": ("DSN",),
    "ENVID": ("DSN",),
    "NOTIFY": ("DSN",),
    "ORCPT": ("DSN",),
    "REQUIRETLS": ("REQUIRETLS",),
    "BY": ("DELIVERBY",),
    "MT-PRIORITY": ("MT-PRIORITY",),
    "HOLDFOR": ("FUTURERELEASE",),
    "HOLDUNTIL": ("FUTURERELEASE",),
    "RRVS": ("RRVS",),
    "TRANSID": ("CHECKPOINT",),
    "SOLICIT": ("NO-SOLICITING",),
    "MTRK": ("MTRK",),
    "CONPERM": ("CONPERM",),
    "CONNEG": ("CONNEG",),
    "PRDR": ("PRDR",),
}
"""ESMTP parameter -> EHLO keywords, one of which must have been offered (IANA registry of SMTP parameters)."""

MULTILINE_KEYWORDS: Final = frozenset(
    {
        "PIPELINING",
        "SIZE",
        "8BITMIME",
        "STARTTLS",
        "AUTH",
        "ENHANCEDSTATUSCODES",
        "DSN",
        "CHUNKING",
        "BINARYMIME",
        "SMTPUTF8",
        "ETRN",
        "VRFY",
        "EXPN",
        "HELP",
        "DELIVERBY",
        "REQUIRETLS",
        "LIMITS",
    }
)
"""Keywords that nobody's host is called, and that a reply to HELO has no business to list."""

EXTENSION_KEYWORDS: Final = MULTILINE_KEYWORDS | {
    "MT-PRIORITY",
    "FUTURERELEASE",
    "RRVS",
    "CHECKPOINT",
    "NO-SOLICITING",
    "MTRK",
    "CONPERM",
    "CONNEG",
    "PRDR",
    "BURL",
    "ATRN",
    "TURN",
    "SEND",
    "SOML",
    "SAML",
    "XCLIENT",
    "XFORWARD",
    "PIPECONNECT",
    "UTF8SMTP",
    "SUBMITTER",
    "XRDST",
    "OK",
}
"""Every EHLO keyword the rules know: a server that offers another may give meaning to a parameter they do not know."""


def listed(verb: str, code: int) -> bool:
    """Whether the code may answer the verb, by the table, RFC 7504 or an extension's own text."""
    row = EXPECTED.get(verb)
    if row is None or code in row:
        return True
    if verb == GREETING:
        return code == 421
    if code in ANY_COMMAND:
        return True
    return code == 530 and verb not in NEVER_530


def shown_verb(command: Command) -> str:
    """The verb for a message. Never what might be an AUTH answer seen out of its place (principle 10)."""
    verb = command.verb
    if verb in KNOWN_VERBS or verb.startswith("("):
        return verb
    if not verb:
        return "an empty line"
    return verb if is_word(verb) else "a line"


def is_word(verb: str) -> bool:
    """Whether it may be a command's name: a short word of letters and hyphens, not junk and no secret."""
    return 0 < len(verb) <= 12 and verb.isascii() and verb.replace("-", "").isalpha()
