"""aiosmtpd as a server that accepts mail for example.org, by SMTP or LMTP, with AUTH for alice if asked."""

from __future__ import annotations

import argparse
import asyncio
import logging
import ssl
from typing import Any

from aiosmtpd.lmtp import LMTP
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session


class Handler:
    """Accepts all; by LMTP one reply a recipient (RFC 2033), the mailbox of bob being full."""

    def __init__(self, lmtp: bool) -> None:
        self.lmtp = lmtp

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if not self.lmtp:
            return "250 2.0.0 OK: queued"
        return "\r\n".join(
            "452 4.2.2 Mailbox full" if recipient.startswith("bob@") else f"250 2.1.5 <{recipient}> delivered"
            for recipient in envelope.rcpt_tos
        )


def authenticate(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
    """Only alice, with the password of this example."""
    right = isinstance(data, LoginPassword) and data.login == b"alice" and data.password == b"correct horse"
    return AuthResult(success=right, handled=False)


async def serve(chosen: argparse.Namespace) -> None:
    options: dict[str, Any] = {"hostname": "mx.example.org", "ident": "ESMTP aiosmtpd"}
    if chosen.auth:
        options |= {"authenticator": authenticate, "auth_require_tls": False}
    if chosen.tls:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certfile=chosen.tls[1], keyfile=chosen.tls[0])
        options["tls_context"] = context
    kind = LMTP if chosen.lmtp else SMTP
    server = await asyncio.get_running_loop().create_server(
        lambda: kind(Handler(chosen.lmtp), **options), "", chosen.port
    )
    async with server:
        await server.serve_forever()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--port", type=int, default=25)
    arguments.add_argument("--lmtp", action="store_true")
    arguments.add_argument("--auth", action="store_true")
    arguments.add_argument("--tls", nargs=2, metavar=("KEY", "CERTIFICATE"))
    arguments.add_argument("--verbose", action="store_true", help="log replies too")
    chosen = arguments.parse_args()
    logging.basicConfig(level=logging.DEBUG if chosen.verbose else logging.INFO, format="%(message)s")
    asyncio.run(serve(chosen))


if __name__ == "__main__":
    main()
