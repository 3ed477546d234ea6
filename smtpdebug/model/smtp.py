"""SMTP: commands, replies, mail data, and the conversation they make (RFC 5321 section 2.3.2 for the words)."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, TypeAlias

import msgspec

from smtpdebug.model.findings import Diagnosis, Finding
from smtpdebug.model.streams import Gap, Location, Side, Stream, TcpEvent
from smtpdebug.model.tls import TlsFacts

Octets: TypeAlias = bytes
"""For the classes that have a field named ``bytes``."""

# What a line or the mail data was seen to contain (``oddities``): facts for the rules, no opinion.
BARE_LF: Final = 1 << 0
"""A line ended by LF without CR (in mail data: an LF not preceded by CR)."""
BARE_CR: Final = 1 << 1
"""A CR not followed by LF."""
NUL: Final = 1 << 2
EIGHT_BIT: Final = 1 << 3
"""An octet above 127."""
CONTROL: Final = 1 << 4
"""An octet below 32 or 127 other than CR, LF, TAB, NUL."""
OVERLONG: Final = 1 << 5
"""Longer than the limit: what is kept is a prefix."""
LEADING_SPACE: Final = 1 << 6
TRAILING_SPACE: Final = 1 << 7
UNTERMINATED: Final = 1 << 8
"""The line ends with the stream or at a gap, not with a line end."""
LONG_LINE: Final = 1 << 9
"""Command or reply line above 512 octets, or text line above 1000, line end included (RFC 5321 4.5.3.1)."""
AFTER_GAP: Final = 1 << 10
"""The line may lack its beginning, or its end, to a gap; or what came before it is unknown."""
MALFORMED: Final = 1 << 11
"""A reply line that is not three digits and then space, hyphen or line end; or codes differ; or the last line of
a multi-line reply never came."""
UNDOTTED: Final = 1 << 12
"""Mail data: a line that begins with a dot that was not doubled (RFC 5321 4.5.2)."""
ODD_END: Final = 1 << 13
"""Mail data: holds an end-of-data sequence other than CRLF.CRLF, see ``MailData.odd_ends``."""

GREETING: Final = "(greeting)"
AUTH_ANSWER: Final = "(auth)"
END_OF_DATA: Final = "(end of mail data)"


class Command(msgspec.Struct, gc=False):
    """A command line, or a pseudo-command (verb in parentheses) for the replies that answer no command line."""

    verb: str
    """In upper case, as sent; ``(greeting)``, ``(auth)``, ``(end of mail data)``; ``""`` for an empty line."""
    argument: str
    """What follows the verb and its space, line end off; octets above 127 as UTF-8 or ``\\xNN``."""
    line: bytes
    """The whole line as sent, without its line end; for pseudo-commands ``b""`` or the answer's line."""
    began: Location
    at: Location
    offset: int = -1
    end: int = -1
    """Stream offsets of the first byte and of the byte after the line end."""
    acked: int = -1
    """How many of the server's bytes the client had when it sent this (see ``Chunk.acked``)."""
    oddities: int = 0
    encrypted: bool = False
    outstanding: int = 0
    """Commands that waited for their replies when this one was sent, as far as the wire shows (pipelining)."""


class Reply(msgspec.Struct, gc=False):
    """A reply, all its lines."""

    code: int
    """Of the last line; 0 where no line had one."""
    lines: list[bytes]
    """As sent, code included, line ends off."""
    began: Location
    at: Location
    enhanced: str | None = None
    """Enhanced status code ``d.d.d`` (RFC 2034, RFC 3463) of the first line, or ``None``."""
    offset: int = -1
    end: int = -1
    acked: int = -1
    """How many of the client's bytes the server had when it sent the reply's last byte."""
    oddities: int = 0
    encrypted: bool = False

    @property
    def texts(self) -> list[str]:
        """The lines without code and separator; octets that are not UTF-8 as ``\\xNN``."""
        return list(map(_reply_text, self.lines))


@lru_cache(maxsize=1024)
def _reply_text(line: bytes) -> str:
    """Most reply lines come again and again."""
    text = line[4:] if line[:3].isdigit() and line[3:4] in (b" ", b"-", b"") else line
    return text.decode("utf-8", "backslashreplace")


class OddEnd(msgspec.Struct, gc=False):
    """An end-of-data look-alike inside the mail data (RFC 5321 4.1.1.4; SMTP smuggling, CVE-2023-51764)."""

    sequence: bytes
    """The octets around the dot, e.g. ``b"\\n.\\r\\n"``."""
    offset: int
    """Of the dot, in the client's stream."""
    at: Location
    following: bytes
    """The first 200 octets after it: commands there are a smuggling attempt."""


class MailData(msgspec.Struct, gc=False):
    """Mail data of DATA or of one or more BDAT chunks: counted, hashed, headers kept; the body only when asked."""

    began: Location
    at: Location
    bytes: int = 0
    """After transparency is undone, without the end-of-data line."""
    wire_bytes: int = 0
    sha256: str | None = None
    """Hex, of those bytes; ``None`` where some are missing."""
    lines: int = 0
    headers: Octets = b""
    """Up to and without the empty line, line ends as sent; bounded by ``Limits.header_bytes``."""
    body: Octets | None = None
    missing: int = 0
    """Bytes lost to gaps."""
    ended: bool = False
    """The end-of-data line (or BDAT LAST) was seen."""
    chunks: list[int] = []
    """BDAT: the declared size of each chunk. Empty for DATA."""
    oddities: int = 0
    odd_ends: list[OddEnd] = []
    stuffed: int = 0
    """Lines whose leading dot was doubled."""
    longest_line: int = 0
    """Octets of the longest line, line end included, stuffed dot not counted; 0 where none is above the limit of
    1000 (RFC 5321 4.5.3.1.6)."""
    encrypted: bool = False
    offset: int = -1
    end: int = -1
    pause_ns: int = 0
    """The longest silence between two packets of it; 0 where none is a second long."""


class Exchange(msgspec.Struct, gc=False):
    """A command and its reply. ``command`` is ``None`` for a reply nobody asked for, ``reply`` where none came."""

    command: Command | None
    reply: Reply | None
    wait_ns: int | None = None
    """From the command's ``at`` (or the ``at`` of the reply before, if later) to the reply's ``began``."""
    encrypted: bool = False
    data: MailData | None = None
    """For ``(end of mail data)`` and ``BDAT``: what was sent."""
    recipient: str | None = None
    """LMTP: the recipient this reply is about (RFC 2033 4.2)."""


class Lost(msgspec.Struct, gc=False):
    """The parser could not follow for a while: a gap, or a start in mid-conversation."""

    side: Side
    length: int | None
    at: Location
    why: str
    offset: int = -1
    """In the stream of that side, -1 where unknown."""


class Unread(msgspec.Struct, gc=False):
    """Lines of which nobody can tell what they are: behind a gap, or where the capture begins in mid-conversation."""

    side: Side
    data: bytes
    """The lines as sent, up to a limit."""
    at: Location
    """Of the first."""
    length: int = 0
    """Octets, kept or not."""
    lines: int = 0
    mail: bool = False
    """A lone dot follows: they are the last of the mail data."""
    encrypted: bool = False


class Injected(msgspec.Struct, gc=False):
    """Plaintext at the STARTTLS boundary: after the client's STARTTLS line or after the server's 220 line."""

    side: Side
    data: bytes
    at: Location


class TlsStarted(msgspec.Struct, gc=False):
    """From here on the bytes are TLS. Offsets are those of the first TLS byte in each direction, -1 if unknown."""

    mode: str
    """``starttls`` or ``implicit``."""
    at: Location
    client_offset: int = 0
    server_offset: int = 0


class ProxyPreface(msgspec.Struct, gc=False):
    """A PROXY protocol header (version 1 or 2) before the conversation."""

    version: int
    at: Location
    source: str | None = None
    """``ip:port`` of the real client, or ``None`` (UNKNOWN, LOCAL)."""
    destination: str | None = None
    line: bytes = b""
    valid: bool = True


class Recipient(msgspec.Struct, gc=False):
    """One recipient of a message, and what the server said to it."""

    address: str
    code: int | None
    """Of the reply to RCPT (LMTP: replaced by the reply after the end of mail data, if there is one)."""


class Message(msgspec.Struct, gc=False):
    """One mail transaction that got as far as mail data, or to its end otherwise (RSET, QUIT, close)."""

    mail_from: str
    recipients: list[Recipient]
    data: MailData | None = None
    code: int | None = None
    """Of the reply to the end of mail data."""


TimelineItem: TypeAlias = (
    Command | Reply | MailData | Lost | Unread | Injected | TlsStarted | ProxyPreface | Gap | TcpEvent
)


class Latency(msgspec.Struct, gc=False):
    """Nanoseconds; ``None`` where not seen. The last four sum to ``total_ns``."""

    tcp_handshake_ns: int | None = None
    greeting_ns: int | None = None
    tls_handshake_ns: int | None = None
    total_ns: int = 0
    network_ns: int = 0
    server_ns: int = 0
    client_ns: int = 0
    unknown_ns: int = 0


class Conversation(msgspec.Struct, gc=False, eq=False):
    """One client and one server on one connection: what they said and what TCP and TLS did under it."""

    stream: Stream
    id: str = ""
    community_id: str = ""
    protocol: str = "smtp"
    """``smtp``, ``lmtp``, ``tls`` (never seen in clear), ``unknown``."""
    outcome: str = "open"
    """See ``docs/record.md``: completed, refused, no-answer, rejected, reset, aborted, open, opaque, not-smtp."""
    summary: str = ""
    """For streams that are not SMTP: what they look like, in a few words."""
    exchanges: list[Exchange] = []
    messages: list[Message] = []
    timeline: list[TimelineItem] = []
    """Everything in order of its time: what ``show`` prints."""
    tls: TlsFacts | None = None
    proxy: ProxyPreface | None = None
    latency: Latency = msgspec.field(default_factory=Latency)
    findings: list[Finding] = []
    diagnoses: list[Diagnosis] = []
    joined_late: bool = False
    """The capture starts in the middle of the conversation."""
    truncated: bool = False
    finished: bool = False
    """No more will come."""
