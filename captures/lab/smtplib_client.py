"""A delivery by Python's smtplib; its own debug output, on standard error, is the witness."""

from __future__ import annotations

import argparse
import contextlib
import smtplib
import ssl
import time
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8

SENDER = "sender@example.net"


def message(recipients: list[str], size: int) -> EmailMessage:
    mail = EmailMessage()
    mail["From"], mail["To"] = f"Sender <{SENDER}>", ", ".join(recipients)
    mail["Subject"], mail["Date"] = "A message for the recording", "Sun, 15 Jun 2025 15:06:40 +0000"
    mail["Message-ID"] = "<recording@example.net>"
    line = "All the world is a stage, and every line of it goes through a queue.\n"
    mail.set_content("Hello,\n.a line that begins with a dot\n" + line * max(1, size // len(line)))
    return mail


def context(chosen: argparse.Namespace) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    if chosen.tls12:
        made.maximum_version = ssl.TLSVersion.TLSv1_2
        made.set_ciphers("kRSA")  # what a server's RSA key alone can open
    if chosen.keylog:
        made.keylog_filename = chosen.keylog
    return made


def send(client: smtplib.SMTP, chosen: argparse.Namespace) -> None:
    """Send the message, with what extensions were asked for."""
    mail, sender, options = message(chosen.to, chosen.size), SENDER, []
    if chosen.utf8:
        sender = "jos\u00e9@example.net"
        mail.replace_header("From", f"Jos\u00e9 <{sender}>")
        options.append("SMTPUTF8")
    if chosen.eight_bit:
        mail.set_content("Caf\u00e9 au lait\n", cte="8bit")
    if chosen.utf8 or chosen.eight_bit:
        options.append("BODY=8BITMIME")
    if chosen.dsn:
        options += ["RET=HDRS", "ENVID=QQ314159"]
        for_each = ["NOTIFY=SUCCESS,FAILURE", f"ORCPT=rfc822;{chosen.to[0]}"]
        client.sendmail(sender, chosen.to, mail.as_bytes(policy=SMTP), options, for_each)
    else:
        policy = SMTPUTF8 if chosen.utf8 else SMTP
        client.sendmail(sender, chosen.to, mail.as_bytes(policy=policy), options)


def deliver(chosen: argparse.Namespace, mechanism: str, password: str) -> None:
    kind = smtplib.LMTP if chosen.lmtp else smtplib.SMTP_SSL if chosen.tls == "wrapper" else smtplib.SMTP
    options = {"context": context(chosen)} if chosen.tls == "wrapper" else {}
    client = kind(local_hostname="client.example.net", **options)
    client._host = "mx.example.org"  # the server name in the ClientHello; the address below has no name here
    client.set_debuglevel(1)
    client.connect(chosen.server, chosen.port)
    client.ehlo()
    if chosen.tls == "starttls":
        client.starttls(context=context(chosen))
        client.ehlo()
    if mechanism:
        client.user, client.password = "alice", password
        method = {"PLAIN": client.auth_plain, "LOGIN": client.auth_login}[mechanism]
        try:
            client.auth(mechanism, method, initial_response_ok=mechanism == "PLAIN")
        except smtplib.SMTPAuthenticationError:
            client.quit()
            return
    if chosen.pause:
        for command in (f"mail FROM:<{SENDER}>", *(f"rcpt TO:<{each}>" for each in chosen.to)):
            time.sleep(chosen.pause)
            client.docmd(command)
        time.sleep(chosen.pause)
        client.data(message(chosen.to, chosen.size).as_bytes())
    else:
        send(client, chosen)
    client.quit()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--server", default="192.0.2.25")
    arguments.add_argument("--port", type=int, default=25)
    arguments.add_argument("--lmtp", action="store_true")
    arguments.add_argument("--tls", choices=["wrapper", "starttls"])
    arguments.add_argument("--tls12", action="store_true", help="TLS 1.2 with RSA key exchange")
    arguments.add_argument("--keylog")
    arguments.add_argument("--auth", action="append", help="MECHANISM:PASSWORD; one delivery each")
    arguments.add_argument("--dsn", action="store_true", help="NOTIFY, ORCPT, RET, ENVID (RFC 3461)")
    arguments.add_argument("--utf8", action="store_true", help="SMTPUTF8 (RFC 6531)")
    arguments.add_argument("--eight-bit", action="store_true", help="8BITMIME (RFC 6152)")
    arguments.add_argument("--pause", type=float, default=0, help="seconds before each command")
    arguments.add_argument("--size", type=int, default=300)
    arguments.add_argument("--to", action="append")
    chosen = arguments.parse_args()
    chosen.to = chosen.to or ["alice@example.org"]
    for each in chosen.auth or [":"]:
        with contextlib.suppress(ConnectionRefusedError):
            deliver(chosen, *each.split(":", 1))


if __name__ == "__main__":
    main()
