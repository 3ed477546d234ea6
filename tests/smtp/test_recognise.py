from __future__ import annotations

import pytest

from smtpdebug.model.streams import CLIENT, SERVER
from smtpdebug.smtp.recognise import describe, recognise, server_side

CLIENT_HELLO = b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4"
GREETING = b"220 mx.example.org ESMTP\r\n"


@pytest.mark.parametrize(
    ("client", "server", "kind"),
    [
        (b"", GREETING, "smtp"),
        (b"EHLO c\r\n", b"220 hello\r\n", "smtp"),
        (b"LHLO c\r\n", b"220 hello\r\n", "lmtp"),
        (b"MAIL FROM:<a@x>\r\n", b"", "smtp"),
        (b"QUIT\r\n", b"250 2.1.5 Ok\r\n", "smtp"),
        (b"", b"250 OK id=1xVRcC-0007Ma-28\r\n", None),
        (b"QUIT\r\n", b"250 OK id=1xVRcC-0007Ma-28\r\n", "smtp"),
        (b"a1 NOOP\r\n", b"a1 OK NOOP completed\r\n", "unknown"),
        (CLIENT_HELLO, b"", None),  # the server may speak in clear, which is to be read
        (CLIENT_HELLO, b"220 mx ESMTP\r\n", "smtp"),
        (CLIENT_HELLO, b"\x15\x03\x03\x00\x02\x02\x28", "tls"),
        (b"USER anonymous\r\n", b"220 (vsFTPd 3.0.3)\r\n", "unknown"),
        (b"USER anonymous\r\n", b"220 files\r\n", "unknown"),
        (b"GET / HTTP/1.1\r\n", b"", "unknown"),
        (b"", b"+OK POP3 ready\r\n", "unknown"),
        (b"", b"* OK IMAP4rev1\r\n", "unknown"),
        (b"", b"SSH-2.0-OpenSSH_9.2\r\n", "unknown"),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 25\r\nEHLO c\r\n", b"", "smtp"),
        (b"\x16", b"", None),
        (b"", b"", None),
        (b"", b"2", None),
    ],
)
def test_on_any_port(client: bytes, server: bytes, kind: str | None) -> None:
    assert recognise(client, server, mail_port=False, tls_port=False, closed=False) == kind


@pytest.mark.parametrize(
    ("client", "server", "kind"),
    [
        (b"EHLO c\r\n", b"", "smtp"),  # plain SMTP where TLS is expected
        (CLIENT_HELLO, b"", "tls"),
        (b"PROXY UNKNOWN\r\n" + CLIENT_HELLO, b"", "smtp"),  # the parser finds the TLS behind the preface
        (b"", b"554 go away\r\n", "smtp"),
        (b"", b"250 ok\r\n", "smtp"),  # joined in the middle
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"220 mx\r\n", "smtp"),  # HTTP on the SMTP port, and SMTP answers
    ],
)
def test_on_mail_ports(client: bytes, server: bytes, kind: str) -> None:
    assert recognise(client, server, mail_port=True, tls_port=True, closed=True) == kind


def test_one_sided_at_the_end() -> None:
    replies = b"220 mx\r\n250-mx\r\n250 PIPELINING\r\n250 2.1.0 Ok\r\n"
    assert recognise(b"", replies, mail_port=False, tls_port=False, closed=True) == "smtp"
    assert recognise(b"", b"200 fine\r\n", mail_port=False, tls_port=False, closed=True) == "unknown"


def test_who_is_the_server() -> None:
    assert server_side(GREETING, b"EHLO c\r\n") == CLIENT
    assert server_side(b"EHLO c\r\n", b"250 ok\r\n") == SERVER
    assert server_side(b"MAIL FROM:<a@x>\r\n", b"") == SERVER
    assert server_side(CLIENT_HELLO, b"") == SERVER
    assert server_side(b"hello", b"world") is None


@pytest.mark.parametrize(
    ("client", "server", "words"),
    [
        (b"GET / HTTP/1.0\r\n", b"", "HTTP"),
        (b"", b"+OK hi\r\n", "POP3"),
        (b"USER bob\r\n", b"", "FTP or POP3"),
        (b"PASV\r\n", b"", "FTP"),
        (b"CONNECT mx:25 HTTP/1.1\r\n\r\nEHLO c\r\n", b"HTTP/1.1 200 ok\r\n\r\n220 mx ESMTP\r\n", "carries SMTP"),
        (b"\x00\x01\x02", b"", "binary"),
        (b"hello\r\n", b"", "'hello'"),
        (b"", b"", "no data"),
    ],
)
def test_describe(client: bytes, server: bytes, words: str) -> None:
    assert words in describe(client, server)
