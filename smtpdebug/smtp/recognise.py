"""What a stream is, from the first bytes of both directions: SMTP, LMTP, TLS or something else, on any port."""

from __future__ import annotations

import re
from typing import Final, Literal

from smtpdebug.model.streams import CLIENT, SERVER, Side
from smtpdebug.smtp.grammar import FOOT, TLS_HELLO, TLS_RECORD
from smtpdebug.smtp.proxy import preface_length

Kind = Literal["smtp", "lmtp", "tls", "unknown"]

_REPLY: Final = re.compile(rb"[2-5][0-5]\d(?:[ -][^\r\n]*)?\r?\n")
_REPLY_BEGUN: Final = re.compile(rb"[2-5][0-5]\d[ -]")
_MAIL_BANNER: Final = re.compile(rb"(?i)220[ -][^\r\n]*(?:e?smtp|lmtp|mail|postfix|exim|sendmail)")
_MAIL_WORDS: Final = re.compile(
    rb"(?im)^(?:250[ -](?:\S+ )?(?:PIPELINING|8BITMIME|SIZE|ENHANCEDSTATUSCODES|CHUNKING|STARTTLS|DSN)"
    rb"|354[ -]|250[ -]2\.[0-7]\.\d|[245]\d\d[ -][245]\.\d{1,3}\.\d{1,3} )"
)
_EHLO: Final = re.compile(rb"(?i)(?:EHLO|HELO|LHLO)[ \t]")
_MAIL_FROM: Final = re.compile(rb"(?i)(?:MAIL|SEND|SOML|SAML)[ \t]+FROM:|RCPT[ \t]+TO:")
_HTTP_METHOD: Final = re.compile(rb"(?:GET|POST|HEAD|PUT|DELETE|OPTIONS|PATCH|TRACE) [^\r\n]* HTTP/")
_CONNECT: Final = re.compile(rb"CONNECT [^\r\n]* HTTP/")
_FTP: Final = re.compile(
    rb"(?i)(?:USER|PASS|SYST|PASV|EPSV|FEAT|CWD|TYPE|RETR|STOR|AUTH[ \t]+(?:TLS|SSL))(?:[ \t\r]|$)"
)
_FTP_OR_POP: Final = re.compile(rb"(?i)(?:USER|PASS|RETR)(?:[ \t\r]|$)")
_FTP_BANNER: Final = re.compile(rb"(?i)220[ -][^\r\n]*(?:ftp|filezilla)")
_POP: Final = re.compile(rb"\+OK[ \r\n]|-ERR[ \r\n]")
_IMAP: Final = re.compile(rb"\* (?:OK|BYE|PREAUTH|CAPABILITY|\d+ )|(?![2-5]\d\d )\S{1,16} (?:OK|NO|BAD) ")
_NNTP: Final = re.compile(rb"(?i)20[01] [^\r\n]*(?:nntp|news|posting)")
_APPLICATION_DATA: Final = re.compile(rb"\x17\x03[\x01-\x03]")
_ENOUGH: Final = 256
"""Octets after which a client that has shown no SMTP shows none."""


def recognise(client: bytes, server: bytes, *, mail_port: bool, tls_port: bool, closed: bool) -> Kind | None:
    """Tell what the stream is.

    Args:
        client: first bytes that the client sent, possibly none; of a conversation joined late: the first captured.
        server: the same of the server.
        mail_port: the server's port is one where SMTP is spoken in clear.
        tls_port: the server's port is one where SMTP is spoken in TLS from the first byte.
        closed: no more bytes will be given.

    Returns:
        The kind, or ``None`` when more bytes are needed.
    """
    length = preface_length(client) if client else 0
    if length is None:
        return "smtp" if closed and mail_port else ("unknown" if closed else None)
    if length:
        # The parser takes the preface and what follows it, ClientHello included.
        kind = recognise(client[length:], server, mail_port=mail_port, tls_port=tls_port, closed=closed)
        if kind == "tls":
            return "smtp" if mail_port or tls_port else "unknown"
        return kind
    tls = _is_tls(client, server)
    if tls:
        # A client may begin TLS where a server speaks in clear: what that says is to be read.
        if not server and not closed:
            return None
        return "smtp" if _REPLY.match(server) else "tls"
    if tls is None and not closed:
        return None
    if other_protocol(client, server):
        return "unknown"
    kind = _speaks_mail(client, server)
    if kind is not None:
        return kind
    if mail_port or tls_port:
        return _by_port(client, server, tls_port=tls_port, closed=closed)
    if closed:
        return "smtp" if _replies_only(client, server) else "unknown"
    if len(client) >= _ENOUGH or (server and not _could_be_reply(server)):
        return "unknown"
    return None


def _by_port(client: bytes, server: bytes, *, tls_port: bool, closed: bool) -> Kind | None:
    """On a mail port what is not known for something else is SMTP, once there is a line to show."""
    if not client and not server:
        return "smtp" if closed else None
    if not any(_could_be_text(data[:64]) for data in (client, server) if data):
        if len(client) + len(server) < _ENOUGH and not closed:
            return None
        # Joined within TLS, between two records; one begins somewhere.
        return "tls" if tls_port or _APPLICATION_DATA.search(client + server) else "unknown"
    if closed or _REPLY.match(server) or b"\n" in client or len(client) + len(server) >= _ENOUGH:
        # A client's first words may still say that this is FTP behind "220".
        if server and not client and not closed and server.startswith(b"220") and b"FTP" in server.upper():
            return None
        return "smtp"
    return None


def _is_tls(client: bytes, server: bytes) -> bool | None:
    """Whether a side begins with TLS; ``None`` where a byte or two more must tell."""
    for data in (client, server):
        if TLS_RECORD.match(data) or (data is client and TLS_HELLO.match(data)):
            return True
    for data in (client, server):
        if data and len(data) < 5 and (20 <= data[0] <= 23 or data[0] == 128):
            return None
    return False


def _speaks_mail(client: bytes, server: bytes) -> Kind | None:
    """SMTP or LMTP for sure, from either side."""
    lines = [line.rstrip(b"\r") for line in client.split(b"\n")[:20]]
    if any(line[:5].upper() == b"LHLO " for line in lines):
        return "lmtp"
    if not server or _could_be_reply(server):
        if any(_EHLO.match(line) or _MAIL_FROM.match(line) for line in lines):
            return "smtp"
        if server and any(FOOT.match(line) for line in lines) and _REPLY.match(server):
            return "smtp"
    elif any(_MAIL_FROM.match(line) for line in lines) and _MAIL_WORDS.search(server):
        return "smtp"
    if _MAIL_BANNER.match(server) and b"\n" in server and not _FTP_BANNER.match(server):
        # LMTP greets alike (RFC 2033 4.1): wait for the client's first line where the banner says LMTP.
        return None if b"LMTP" in server.upper() and not client else "smtp"
    if _MAIL_WORDS.search(server) and (not client or _could_be_text(client)):
        return "smtp"
    return None


def _replies_only(client: bytes, server: bytes) -> bool:
    """One-sided: nothing but lines that are replies, of which one is a mail server's."""
    if client or not server:
        return False
    lines = [line for line in server.split(b"\n") if line]
    return all(_REPLY_BEGUN.match(line) for line in lines) and bool(
        _MAIL_WORDS.search(server) or _MAIL_BANNER.match(server)
    )


def _could_be_reply(data: bytes) -> bool:
    return bool(_REPLY.match(data) or _REPLY_BEGUN.match(data)) or (len(data) < 4 and data.isdigit())


def _could_be_text(data: bytes) -> bool:
    return not data.translate(None, bytes([9, 10, 13, *range(32, 256)]))


def other_protocol(client: bytes, server: bytes) -> str:
    """The name of another protocol where one is plain to see, else ``""``."""
    first = client.partition(b"\n")[0].rstrip(b"\r")
    smtp = bool(_EHLO.match(first) or _MAIL_FROM.match(first))
    if client.startswith(b"SSH-") or server.startswith(b"SSH-"):
        return "SSH"
    if _CONNECT.match(client):
        return "HTTP CONNECT tunnel"
    if server.startswith(b"HTTP/") or (_HTTP_METHOD.match(client) and not _could_be_reply(server)):
        return "HTTP"
    if _POP.match(server) and not smtp:
        return "POP3"
    if _IMAP.match(server) and not smtp:
        return "IMAP"
    if _FTP_BANNER.match(server) and not smtp:
        return "FTP"
    if _FTP.match(first) and (server.startswith(b"220") or not server):
        return "FTP" if server or not _FTP_OR_POP.match(first) else "FTP or POP3"
    if _NNTP.match(server):
        return "NNTP"
    if client.startswith((b"<?xml", b"<stream:stream")) or server.startswith((b"<?xml", b"<stream:stream")):
        return "XMPP"
    return ""


def server_side(first: bytes, second: bytes) -> Side | None:
    """Which of two directions speaks like a server: 0 for ``first``, 1 for ``second``, ``None`` where neither tells."""
    scores = [_server_likeness(first), _server_likeness(second)]
    if scores[0] > scores[1]:
        return CLIENT
    if scores[1] > scores[0]:
        return SERVER
    return None


def _server_likeness(data: bytes) -> int:
    """Positive for a server's words, negative for a client's, 0 for none of both."""
    if _POP.match(data) or data.startswith((b"* OK", b"HTTP/")):
        return 2
    if TLS_RECORD.match(data) and data[:1] == b"\x16" and len(data) > 5:
        return {1: -2, 2: 2}.get(data[5], 0)  # ClientHello, ServerHello
    if _could_be_reply(data) and len(data) > 3:
        return 2
    lines = [line.rstrip(b"\r") for line in data.split(b"\n")[:50]]
    if any(_EHLO.match(line) or _MAIL_FROM.match(line) or FOOT.match(line) for line in lines):
        return -2
    if any(_REPLY_BEGUN.match(line) for line in lines[1:]):
        return 1
    return 0


def describe(client: bytes, server: bytes) -> str:
    """What a stream that is no SMTP looks like, in a few words."""
    name = other_protocol(client, server)
    if name == "HTTP CONNECT tunnel":
        target = client.split(b" ", 2)[1].decode("ascii", "backslashreplace")[:100]
        inside = client.partition(b"\r\n\r\n")[2]
        answered = server.partition(b"\r\n\r\n")[2]
        if _speaks_mail(inside, answered) or _MAIL_BANNER.match(answered):
            return f"HTTP CONNECT tunnel to {target} that carries SMTP"
        return f"HTTP CONNECT tunnel to {target}"
    if name:
        return name
    if not client and not server:
        return "no data"
    if _is_tls(client, server):
        return "TLS"
    sample = (client or server)[:64]
    if not _could_be_text(sample):
        return "binary data, no SMTP"
    line = sample.partition(b"\n")[0].rstrip(b"\r")[:40].decode("utf-8", "backslashreplace")
    return f"text, no SMTP: {line!r}"
