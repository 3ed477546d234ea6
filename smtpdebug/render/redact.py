"""Hiding secrets: AUTH arguments and answers never reach an output unless asked for (DESIGN principle 10).

The mechanism stays (``AUTH PLAIN ********``), the server's challenges stay, ``AUTH=<>`` of MAIL stays. What looks like
an AUTH answer out of its place (after a gap, after a refused AUTH, in a conversation joined late) is hidden too: better
one harmless line too many than a password.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator
from typing import Final

from smtpdebug.model.smtp import (
    AFTER_GAP,
    AUTH_ANSWER,
    END_OF_DATA,
    GREETING,
    Command,
    Conversation,
    Reply,
    TimelineItem,
    Unread,
)

HIDDEN: Final = "********"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


PLAIN_VERBS: Final = _words(
    "HELO EHLO LHLO MAIL RCPT DATA BDAT RSET NOOP QUIT VRFY EXPN HELP STARTTLS TURN ATRN ETRN SEND SOML SAML "
    "XCLIENT XFORWARD XEXCH50 XXXX"
) | {GREETING, END_OF_DATA, ""}
"""Commands whose arguments hold no secret."""

_SECRET_ARGUMENT: Final = frozenset({"PASS", "APOP", "LOGIN", "XLOGIN", "COOKIE:", "PROXY-AUTHORIZATION:", "BURL"})
"""Words of other protocols spoken to an SMTP port by mistake, and BURL, whose URL carries a token (RFC 4468)."""

_MECHANISMS: Final = _words(
    "PLAIN LOGIN CRAM-MD5 DIGEST-MD5 EXTERNAL ANONYMOUS GSSAPI GS2-KRB5 GS2-KRB5-PLUS NTLM GSS-SPNEGO XOAUTH XOAUTH2 "
    "OAUTHBEARER SCRAM-SHA-1 SCRAM-SHA-1-PLUS SCRAM-SHA-256 SCRAM-SHA-256-PLUS SCRAM-SHA-512 SCRAM-SHA-512-PLUS OTP "
    "SRP KERBEROS_V4 SECURID CRAM-SHA1 XYMCOOKIE EAP-AES128 SAML20 OPENID20"
)
# RFC 4422 section 3.1 gives upper case only. A token with lower-case letters that is no known mechanism may be base64.
_MECHANISM_SHAPE: Final = re.compile(r"[A-Z][A-Z0-9_-]{0,19}\Z")
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/]{2,}={0,2}\Z")
_QUOTED: Final = re.compile(
    r"\b((?i:AUTH\s+[^\s'\"]+\s+|AUTH\s+)|PASS\s+|(?<=['\"`\u2018\u201c])(?i:PASS\s+))([^\s'\",;]+)"
)
"""Commands with a secret where a message quotes traffic that is in no exchange. "pass" within a sentence is a word."""
_WINDOW: Final = 3
"""How many commands after an AUTH are watched for answers that came out of phase."""
_WORDS_KEPT: Final = 256
"""Secret words looked for in replies: a password guesser on one connection must not make that quadratic."""


class Redactor:
    """What of one conversation is secret; made once for each conversation that is written.

    Args:
        conversation: whose secrets; only its exchanges are looked at.
        show: the user asked to see them (``--show-secrets``): everything stays as it is.
        words: secret words found before, by another of its kind.
    """

    __slots__ = ("_hidden", "_show", "_since_auth", "_words", "idle")

    def __init__(self, conversation: Conversation | None, *, show: bool = False, words: Iterable[str] = ()) -> None:
        self._show = show
        self.idle = True
        """Nothing here is hidden or needs a look: outputs may take their fast path."""
        self._hidden: dict[int, tuple[str, str]] = {}
        self._words = list(words)
        self._since_auth = _WINDOW
        if conversation is not None and not show:
            self._scan(conversation)

    @property
    def words(self) -> list[str]:
        """The secret words found, the longest first; a reason to be careful where this goes."""
        return self._words

    def command(self, command: Command) -> tuple[str, str]:
        """Verb and argument as they may be shown."""
        if self._show or command.verb in PLAIN_VERBS:
            return command.verb, command.argument
        hidden = self._hidden.get(id(command))
        if hidden is None:
            # Not seen by the scan where a limit cut the list of exchanges: judged alone then.
            hidden = _hide(command, since_auth=False)
        return hidden or (command.verb, command.argument)

    def line(self, command: Command) -> bytes:
        """The command line as it may be shown."""
        shown = self.command(command)
        if shown == (command.verb, command.argument):
            return command.line
        verb, argument = shown
        if verb == AUTH_ANSWER:
            return argument.encode()
        return f"{verb} {argument}".encode() if argument else verb.encode()

    def reply_lines(self, reply: Reply) -> list[bytes]:
        """The reply's lines with any secret that they echo hidden."""
        if not self._words:
            return reply.lines
        lines = reply.lines
        for word in self._words:
            secret = word.encode()
            lines = [line.replace(secret, HIDDEN.encode()) for line in lines]
        return lines

    def reply_texts(self, reply: Reply) -> list[str]:
        """The reply's lines without code and separator, any secret that they echo hidden."""
        texts = reply.texts
        for word in self._words:
            texts = [text.replace(word, HIDDEN) for text in texts]
        return texts

    def text(self, text: str) -> str:
        """Any other text about the conversation (a finding, a diagnosis, a summary) with its secrets hidden."""
        for word in self._words:
            text = text.replace(word, HIDDEN)
        if self._show:
            return text
        return _QUOTED.sub(_hide_quoted, text)

    def octets(self, data: bytes) -> bytes:
        """Bytes outside the parsed conversation (plaintext injected around STARTTLS): AUTH lines and answers hidden."""
        return data if self._show else b"".join(shown for _, shown in _hidden_lines(data, wary=False))

    def unread(self, item: Unread) -> list[bytes]:
        """The lines of what nobody could read, those hidden that may answer a challenge of AUTH."""
        if self._show or item.mail:
            return item.data.splitlines()
        return [shown.rstrip(b"\r\n") for _, shown in _hidden_lines(item.data, wary=True)]

    def follow(self, item: TimelineItem) -> None:
        """Live mode: look at one more item as it comes, before it is shown."""
        if self._show:
            return
        if isinstance(item, Command):
            self._look(item)
        elif isinstance(item, Unread):
            self._look_at_unread(item)
        elif isinstance(item, Reply) and item.code == 334:
            self._since_auth = 0

    def _scan(self, conversation: Conversation) -> None:
        if conversation.joined_late:
            self._since_auth = 0
        if conversation.joined_late or any(conversation.stream.missing):
            for item in conversation.timeline:
                if isinstance(item, Unread):
                    self._look_at_unread(item)
        if not _needs_care(conversation):
            return
        for exchange in conversation.exchanges:
            if exchange.command is not None:
                self._look(exchange.command)
            if exchange.reply is not None and exchange.reply.code == 334:
                self._since_auth = 0

    def _look(self, command: Command) -> None:
        self._since_auth += 1
        hidden = _hide(command, since_auth=self._since_auth <= _WINDOW)
        if hidden is not None:
            self.idle = False
            self._hidden[id(command)] = hidden
            self._remember(command.line or command.argument.encode(), " ".join(hidden))
        if hidden is not None or _is_auth(command.verb):
            self._since_auth = 0

    def _look_at_unread(self, item: Unread) -> None:
        for line, shown in () if item.mail else _hidden_lines(item.data, wary=True):
            if shown != line:
                self.idle = False
                self._remember(line, shown.decode("utf-8", "backslashreplace"))

    def _remember(self, line: bytes, hidden: str) -> None:
        """Keep the words that are hidden, and what they decode to, to find them again where they are echoed."""
        shown = {word.upper() for word in hidden.split()}
        words = line.decode("utf-8", "backslashreplace").split()
        found = {word for word in words if len(word) >= 4 and word.upper() not in shown}
        for word in list(found):
            found.update(_decoded(word))
        # The longest first: a secret that holds another is hidden whole.
        self._words = sorted(found.union(self._words), key=len, reverse=True)[:_WORDS_KEPT]


def _hidden_lines(data: bytes, *, wary: bool) -> Iterator[tuple[bytes, bytes]]:
    """Each line, as it is and as it may be shown; ``wary``: any lone word of base64 may be an answer."""
    after_auth = False
    for line in data.splitlines(keepends=True):
        bare = line.rstrip(b"\r\n")
        word = bare.strip()
        end = line[len(bare) :]
        if word[:4].upper() == b"AUTH":
            words = bare.split(None, 2)
            known = len(words) > 1 and words[1].upper().decode("ascii", "replace") in _MECHANISMS
            yield line, b" ".join(words[: 1 + known] + [HIDDEN.encode()] * (len(words) > 1 + known)) + end
            after_auth = True
        elif _like_answer(bare) or (after_auth and word and b" " not in word) or (wary and _BASE64.match(word)):
            yield line, HIDDEN.encode() + end
        else:
            yield line, _hidden_words(line) if wary else line


def _hidden_words(line: bytes) -> bytes:
    """A line that may lack its beginning: what may be the initial response of an AUTH is hidden."""
    return b" ".join(HIDDEN.encode() if _like_answer(word) else word for word in line.split(b" "))


def _needs_care(conversation: Conversation) -> bool:
    """Whether any command may hold a secret; most conversations say no after a look at their verbs."""
    for exchange in conversation.exchanges:
        command = exchange.command
        if command is not None and command.verb not in PLAIN_VERBS:
            return True
    return False


def _is_auth(verb: str) -> bool:
    return verb[:4] == "AUTH" or verb == "X-EXPS"  # [MS-SMTPNTLM]: Exchange's older name for AUTH


def _hide(command: Command, *, since_auth: bool) -> tuple[str, str] | None:
    """Verb and argument to show instead, or ``None`` where nothing is secret."""
    verb = command.verb
    if verb in PLAIN_VERBS:
        return None
    if verb == AUTH_ANSWER:
        return None if command.argument == "*" else (verb, HIDDEN)
    if _is_auth(verb):
        return _auth_command(command)
    if verb in _SECRET_ARGUMENT:
        return (verb, HIDDEN) if command.argument else None
    words = command.line.split()
    if len(words) > 1 and words[1].upper() in (b"LOGIN", b"AUTHENTICATE"):
        return (verb, f"{words[1].decode('ascii')} {HIDDEN}")  # IMAP: a1 LOGIN user password
    if len(words) > 2 and words[1].upper().decode("ascii", "replace") in _MECHANISMS:
        return (verb, f"{words[1].decode('ascii')} {HIDDEN}")  # AUTH mistyped
    if len(words) > 1 and command.oddities & AFTER_GAP and not since_auth:
        shown = _hidden_words(command.line)
        return (shown.decode("utf-8", "backslashreplace"), "") if shown != command.line else None
    if since_auth or command.oddities & AFTER_GAP or _like_answer(command.line):
        return (HIDDEN, "")
    return None


def _auth_command(command: Command) -> tuple[str, str] | None:
    if command.verb in ("AUTH", "X-EXPS"):
        mechanism, _, initial = command.argument.strip().partition(" ")
        if not mechanism:
            return None
        if mechanism.upper() not in _MECHANISMS and not _MECHANISM_SHAPE.match(mechanism):
            return (command.verb, HIDDEN)
        initial = initial.strip()
        if not initial or initial == "=":  # RFC 4954 section 4: "=" is an empty initial response
            return None
        return (command.verb, f"{mechanism} {HIDDEN}")
    # ``AUTH=PLAIN``, ``AUTH:``, ``Authorization:`` of HTTP: what is not AUTH proper is not shown at all.
    word = re.match(r"[A-Z]+", command.verb)
    return (word.group() if word else "AUTH", HIDDEN)


def _hide_quoted(match: re.Match[str]) -> str:
    before, word = match.groups()
    return f"{before}{HIDDEN}" if before[:4].upper() == "PASS" or _like_answer(word.encode()) else match.group()


def _like_answer(line: bytes) -> bool:
    """A lone base64 word that no command looks like: mixed case, or padded, or long; or it decodes to SASL PLAIN."""
    word = line.strip()
    if len(word) < 8 or not _BASE64.match(word):
        return False
    if len(word) % 4 and not word.endswith(b"="):
        return False
    mixed = word != word.upper() and word != word.lower()
    return mixed or word.endswith(b"=") or any(48 <= octet <= 57 for octet in word) or b"\0" in _base64(word)


def _base64(word: bytes) -> bytes:
    try:
        return base64.b64decode(word + b"=" * (-len(word) % 4), validate=True)
    except (binascii.Error, ValueError):
        return b""


def _decoded(word: str) -> Iterable[str]:
    """The words inside an encoded answer that may be echoed in clear: names and password of PLAIN, LOGIN's answers."""
    if not word.isascii():
        return
    for part in _base64(word.encode()).split(b"\0"):
        try:
            text = part.decode()
        except UnicodeDecodeError:
            continue
        if len(text) >= 6 and text.isprintable():
            yield text
