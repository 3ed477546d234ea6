"""Which conversations are ours to judge: a capture without a filter holds much that is no mail."""

from __future__ import annotations

from typing import Final

from smtpdebug.model.smtp import Conversation
from smtpdebug.model.streams import MAIL_PORTS

LOCAL_PORTS: Final = frozenset({1025, 8025, 10024, 10025, 10026, 10027})
"""Where test servers and content filters (amavis) listen for SMTP."""


def concerns_mail(conversation: Conversation) -> bool:
    """Whether it is SMTP or LMTP, or what happened at a port of mail before anything could be told.

    TLS that was never opened, refused connections and the like count at mail ports only: elsewhere they are the
    business of other programs.
    """
    if conversation.protocol in ("smtp", "lmtp"):
        return True
    port = conversation.stream.server.port
    return port in MAIL_PORTS or (port in LOCAL_PORTS and not any(conversation.stream.bytes))
