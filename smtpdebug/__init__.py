"""smtpdebug: SMTP and TLS conversations out of packet captures, judged against RFC 5321."""

__version__ = "0.1.0"
