"""The cases: what each capture is for and how it is made. ``record.py`` runs them."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from lab import surgery
from lab.bench import Bench, case
from lab.network import HERE, SERVER4, SERVER6
from lab.servers import aiosmtpd

TLS12 = "smtpd_tls_protocols = >=TLSv1.2, <=TLSv1.2\n"


@case(
    "plain",
    why="A plain delivery: every command, its reply and its wait.",
    how="smtplib to Postfix, captured on the client",
    witness="smtplib",
    clean=True,
)
def plain(bench: Bench) -> None:
    bench.postfix()
    with bench.tcpdump():
        bench.smtplib()


@case(
    "recipient-refused",
    why="Three recipients, the second refused: the message still goes to the others.",
    how="swaks to Postfix, captured on the server",
    witness="swaks",
)
def recipient_refused(bench: Bench) -> None:
    bench.postfix()
    with bench.tcpdump(at="server"):
        bench.swaks("--to", "alice@example.org,nobody@example.org,bob@example.org")


@case(
    "pipelining",
    why="MAIL, RCPT, RCPT and DATA in one segment; end of mail data and QUIT in another (RFC 2920).",
    how="Postfix smtp(8) to Postfix smtpd(8), captured on the client",
    witness="postfix",
    clean=True,
)
def pipelining(bench: Bench) -> None:
    bench.postfix()
    client = bench.postfix_client()
    with bench.tcpdump():
        bench.submit(client, "status=sent", "alice@example.org", "bob@example.org")


@case(
    "bdat",
    why="Mail data in three BDAT chunks, a line cut between two of them; an NOOP between (RFC 3030).",
    how="a scripted client to Postfix, captured on the client",
    witness="talk",
)
def bdat(bench: Bench) -> None:
    bench.postfix()
    first, second = (
        b"From: <sender@example.net>\r\nTo: <alice@example.org>\r\nSubj",
        b"ect: in pieces\r\n\r\n.\r\nA dot ",
    )
    steps = [
        "S: 220", "C: EHLO client.example.net", "S: 250", "C: MAIL FROM:<sender@example.net>", "S: 250",
        "C: RCPT TO:<alice@example.org>", "S: 250", f"C: BDAT {len(first)}", f"B: {first!r}", "S: 250",
        f"C: BDAT {len(second)}", f"B: {second!r}", "S: 250", "C: NOOP", "S: 250", "C: BDAT 14 LAST",
        f"B: {b'stays a dot.' + bytes([13, 10])!r}", "S: 250", "C: QUIT", "S: 221",
    ]  # fmt: skip
    with bench.tcpdump():
        bench.talk("\n".join(steps))


@case(
    "starttls-rsa",
    why="STARTTLS, then TLS 1.2 with RSA key exchange: the server's key opens it.",
    how="smtplib to Postfix, captured on the client; server.key is the server's",
    witness="smtplib",
    clean=True,
)
def starttls_rsa(bench: Bench) -> None:
    bench.postfix(bench.certificate() + TLS12)
    bench.facts["tls"] = "starttls"
    with bench.tcpdump():
        bench.smtplib("--tls", "starttls", "--tls12")


@case(
    "wrapper-465",
    why="TLS from the first byte on port 465, TLS 1.2 with RSA key exchange: the server's key opens it.",
    how="smtplib.SMTP_SSL to Postfix with smtpd_tls_wrappermode, captured on the server",
    witness="smtplib",
    clean=True,
)
def wrapper_465(bench: Bench) -> None:
    bench.postfix(bench.certificate() + TLS12, "465 inet n - n - - smtpd -o smtpd_tls_wrappermode=yes\n")
    bench.facts["tls"] = "implicit"
    with bench.tcpdump(at="server"):
        bench.smtplib("--port", "465", "--tls", "wrapper", "--tls12")


@case(
    "tls13-keylog",
    why="TLS 1.3 after STARTTLS: no RSA key opens it, the client's key log does.",
    how="smtplib with SSLKEYLOGFILE's mechanism to Postfix, captured on the client",
    witness="smtplib",
    clean=True,
)
def tls13_keylog(bench: Bench) -> None:
    bench.postfix(bench.certificate())
    del bench.facts["rsa_key"]
    bench.facts |= {"tls": "starttls", "keylog": "keylog.txt"}
    with bench.tcpdump():
        bench.smtplib("--tls", "starttls", "--keylog", str(bench.folder / "keylog.txt"))


@case(
    "auth-in-clear",
    why="AUTH PLAIN refused with 535, then AUTH PLAIN and AUTH LOGIN accepted, all without TLS (on purpose).",
    how="smtplib to aiosmtpd with auth_require_tls off, captured on the client; the password is made up",
    witness="smtplib",
)
def auth_in_clear(bench: Bench) -> None:
    aiosmtpd(bench.network, bench.scratch / "server.log", "--auth", port=25)
    with bench.tcpdump():
        bench.smtplib("--auth", "PLAIN:wrong horse", "--auth", "PLAIN:correct horse", "--auth", "LOGIN:correct horse")


@case(
    "slow-greeting",
    why="The greeting takes three seconds: a delay on purpose, or a server that waits for its DNS.",
    how="swaks to Postfix with `sleep 3` before the greeting, captured on the client",
    witness="swaks",
)
def slow_greeting(bench: Bench) -> None:
    bench.postfix("smtpd_delay_reject = no\nsmtpd_client_restrictions = sleep 3\n")
    bench.facts["greeting_takes_ms"] = [2900, 3900]
    with bench.tcpdump():
        bench.swaks("--to", "alice@example.org")


@case(
    "greylisted",
    why="A 4yz to RCPT: come again later.",
    how="Postfix smtp(8) to Postfix with an access table that greylists, captured on the client",
    witness="postfix",
)
def greylisted(bench: Bench) -> None:
    table = "inline:{ {carol@example.org=450 4.2.0 Greylisted, please try again in 300 seconds} }"
    bench.postfix(f"smtpd_recipient_restrictions = check_recipient_access {table}\n")
    client = bench.postfix_client()
    with bench.tcpdump():
        bench.submit(client, "status=deferred", "carol@example.org")


@case(
    "reset-in-data",
    why="The client resets the connection in the middle of the mail data: the message is not delivered.",
    how="a scripted client that closes with RST, to Postfix, captured on the server",
    witness="talk",
)
def reset_in_data(bench: Bench) -> None:
    bench.postfix()
    steps = [
        "S: 220", "C: EHLO client.example.net", "S: 250", "C: MAIL FROM:<sender@example.net>", "S: 250",
        "C: RCPT TO:<alice@example.org>", "S: 250", "C: DATA", "S: 354",
        r'B: b"Subject: cut short\r\n\r\nThe first half of a line"', "WAIT 0.3", "RESET",
    ]  # fmt: skip
    with bench.tcpdump(at="server"):
        bench.talk("\n".join(steps))


@case(
    "any-interface",
    why="What `tcpdump -i any` writes: LINUX_SLL2 (276), which tcpflow refuses.",
    how="smtplib to aiosmtpd, captured on the server with -i any",
    witness="smtplib",
    clean=True,
)
def any_interface(bench: Bench) -> None:
    aiosmtpd(bench.network, bench.scratch / "server.log", port=25)
    with bench.tcpdump("-i", "any", at="server"):
        bench.smtplib()


@case(
    "ipv6",
    why="The same over IPv6, with nanosecond times.",
    how="smtplib to Postfix over IPv6, captured on the client with --time-stamp-precision=nano",
    witness="smtplib",
    clean=True,
)
def ipv6(bench: Bench) -> None:
    bench.postfix()
    with bench.tcpdump("-i", "eth0", "--time-stamp-precision=nano"):
        bench.smtplib("--server", SERVER6)


@case(
    "rotated",
    why="A rotated set: two conversations at the same time that cross the files of one ring.",
    how="two smtplib, one with pauses, to Postfix, captured on the client with -G 2",
    witness="smtplib",
)
def rotated(bench: Bench) -> None:
    bench.postfix()
    slow = ["--pause", "1.1", "--to", "alice@example.org", "--to", "bob@example.org"]
    other = bench.scratch / "other.log"
    quick = [sys.executable, str(HERE / "smtplib_client.py"), "--pause", "0.6"]
    with bench.tcpdump("-i", "eth0", "-G", "2", name="capture-%H%M%S.pcap"), ThreadPoolExecutor() as threads:
        first = threads.submit(bench.smtplib, *slow)
        time.sleep(1)
        bench.network.run(bench.network.client, quick, other)
        first.result()
    bench.log.write_text(bench.log.read_text() + other.read_text())


@case(
    "loss",
    why="Segments lost on the way: captured where they were sent, so each is there twice.",
    how="smtplib to Postfix through a relay that loses four data segments, captured on the client",
    witness="smtplib",
    relay=("--lose", "client:2", "--lose", "client:6", "--lose", "client:9", "--lose", "server:4"),
)
def loss(bench: Bench) -> None:
    bench.postfix()
    with bench.tcpdump():
        bench.smtplib("--size", "9000")


@case(
    "reordering",
    why="Segments lost and overtaken on the way: captured where they arrive, so they come out of order.",
    how="smtplib to Postfix through a relay that swaps and loses data segments, captured on the server",
    witness="smtplib",
    relay=("--swap", "client:6", "--lose", "client:8", "--swap", "client:10", "--swap", "server:2"),
)
def reordering(bench: Bench) -> None:
    bench.postfix()
    with bench.tcpdump(at="server"):
        bench.smtplib("--size", "9000")


@case(
    "gap",
    why="The capture itself lacks a packet of the mail data, which the server acknowledged: a gap, not a loss.",
    how="smtplib to Postfix, captured on the client; a packet then taken out of the file by lab/surgery.py",
    witness="smtplib",
    relay=("--plain",),
)
def gap(bench: Bench) -> None:
    bench.postfix()
    with bench.tcpdump():
        bench.smtplib("--size", "9000")
    bench.facts["gap_bytes"] = surgery.take_out(bench.folder / "capture.pcap", largest=3)


@case(
    "lmtp",
    why="LMTP: one reply for each recipient after the end of mail data, one of them a refusal (RFC 2033).",
    how="Postfix lmtp(8) to aiosmtpd's LMTP on port 24, captured on the client",
    witness="postfix",
)
def lmtp(bench: Bench) -> None:
    aiosmtpd(bench.network, bench.scratch / "server.log", "--lmtp", port=24)
    client = bench.postfix_client(f"default_transport = lmtp:inet:[{SERVER4}]:24\nrelayhost =\n")
    bench.facts["protocol"] = "lmtp"
    with bench.tcpdump():
        bench.submit(client, "status=deferred", "alice@example.org", "bob@example.org")


@case(
    "refused",
    why="Nothing listens: the SYN is answered by RST. A conversation without a word.",
    how="smtplib to a closed port, captured on the client",
    witness="smtplib",
)
def refused(bench: Bench) -> None:
    bench.facts["outcome"] = "refused"
    with bench.tcpdump():
        bench.smtplib()
    bench.log.write_text("ConnectionRefusedError\n")


SMUGGLED = [
    "S: 220", "C: EHLO client.example.net", "S: 250", "C: MAIL FROM:<sender@example.net>", "S: 250",
    "C: RCPT TO:<alice@example.org>", "S: 250", "C: DATA", "S: 354",
    r'B: b"Subject: innocent\r\n\r\nlook here\n.\r\nMAIL FROM:<admin@example.org>\r\n'
    r'RCPT TO:<bob@example.org>\r\nDATA\r\nSubject: smuggled\r\n\r\nhello\r\n.\r\n"',
]  # fmt: skip


@case(
    "smuggling",
    why="A second message hidden behind LF . CRLF (CVE-2023-51764); for this server it is all one message.",
    how="a scripted client to Postfix with smtpd_forbid_bare_newline, captured on the server",
    witness="talk",
)
def smuggling(bench: Bench) -> None:
    bench.postfix("smtpd_forbid_bare_newline = yes\nsmtpd_forbid_bare_newline_exclusions =\n")
    with bench.tcpdump(at="server"):
        bench.talk("\n".join([*SMUGGLED, "S: 250", "C: QUIT", "S: 221"]))


@case(
    "smuggling-accepted",
    why="The same against a server that takes LF . CRLF as the end: a second message is accepted.",
    how="a scripted client to Postfix with smtpd_forbid_bare_newline off, captured on the server",
    witness="talk",
)
def smuggling_accepted(bench: Bench) -> None:
    bench.postfix("smtpd_forbid_bare_newline = no\n")
    bench.facts["codes_only"] = True  # which command a reply belongs to is just what the two sides disagree about
    with bench.tcpdump(at="server"):
        bench.talk("\n".join([*SMUGGLED, *["S: 250"] * 5]))


@case(
    "starttls-stripped",
    why="Something on the way overwrites STARTTLS in the EHLO reply: mail goes in clear that would not have.",
    how="Postfix smtp(8) with opportunistic TLS to Postfix, through a relay that masks the keyword; on the client",
    witness="postfix",
    relay=("--mask-starttls",),
)
def starttls_stripped(bench: Bench) -> None:
    bench.postfix(bench.certificate())
    (bench.folder / "server.key").unlink()
    del bench.facts["rsa_key"]
    client = bench.postfix_client("smtp_tls_security_level = may\n")
    with bench.tcpdump():
        bench.submit(client, "status=sent", "alice@example.org")


@case(
    "curl",
    why="A plain delivery by curl.",
    how="curl to Postfix, captured on the client",
    witness="curl",
    clean=True,
)
def curl(bench: Bench) -> None:
    bench.postfix()
    words = f"curl -sv --url smtp://{SERVER4}/client.example.net --mail-from sender@example.net"
    mail = bench.scratch / "mail"
    mail.write_bytes(b"From: <sender@example.net>\r\nTo: <alice@example.org>\r\nSubject: by curl\r\n\r\nHello.\r\n")
    command = [*words.split(), "--mail-rcpt", "alice@example.org", "--upload-file", str(mail)]
    with bench.tcpdump():
        bench.network.run(bench.network.client, command, bench.log)
    bench.unlogged.append(("QUIT", 221))  # curl says QUIT when it clears up, its log closed; tshark shows it


@case(
    "msmtp",
    why="A plain delivery by msmtp.",
    how="msmtp to aiosmtpd, captured on the client",
    witness="msmtp",
    clean=True,
)
def msmtp(bench: Bench) -> None:
    aiosmtpd(bench.network, bench.scratch / "server.log", port=25)
    words = f"msmtp --debug --file=/dev/null --host={SERVER4} --domain=client.example.net --from=sender@example.net"
    mail = b"From: <sender@example.net>\nTo: <alice@example.org>\nSubject: by msmtp\n\nHello.\n"
    whole = ["ip", "netns", "exec", bench.network.client, *words.split(), "alice@example.org"]
    with bench.tcpdump():
        done = subprocess.run(whole, input=mail, capture_output=True, timeout=30)
    bench.log.write_bytes(done.stdout + done.stderr)


@case(
    "swaks",
    why="A plain delivery by swaks, inside TLS 1.2 with forward secrecy: without a key log it stays closed.",
    how="swaks --tls to Postfix, captured on the client",
    witness="swaks",
    clean=True,
)
def swaks(bench: Bench) -> None:
    bench.postfix(bench.certificate() + TLS12 + "tls_high_cipherlist = ECDHE+AESGCM\nsmtpd_tls_ciphers = high\n")
    bench.facts |= {"tls": "starttls", "stays_closed": "forward-secrecy"}
    with bench.tcpdump():
        bench.swaks("--to", "alice@example.org", "--tls")
