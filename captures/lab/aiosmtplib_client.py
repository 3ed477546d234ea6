"""Two messages in one session by aiosmtplib: ``aiosmtplib_client.py SERVER KEYLOG``."""

from __future__ import annotations

import asyncio
import ssl
import sys

import aiosmtplib
from smtplib_client import SENDER, message


async def main() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.keylog_filename = sys.argv[2]
    client = aiosmtplib.SMTP(
        hostname=sys.argv[1], port=25, local_hostname="client.example.net", start_tls=False, tls_context=context
    )
    async with client:
        await client.starttls(server_hostname="mx.example.org")
        for to in (["alice@example.org"], ["alice@example.org", "bob@example.org"]):
            await client.send_message(message(to, 300), sender=SENDER, recipients=to)


if __name__ == "__main__":
    asyncio.run(main())
