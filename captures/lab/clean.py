"""Ordinary deliveries between many real programs: nothing in them is worth an error or a warning."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from lab.bench import Bench, case
from lab.exim import RSA_ONLY, Exim
from lab.machines import Machine
from lab.network import HERE, SERVER4
from lab.opensmtpd import OpenSmtpd
from lab.servers import TLS12_RSA, certificate

SENDER, ALICE, BOB = "sender@example.net", "alice@example.org", "bob@example.org"
AUTH = ("--auth-user", "alice", "--auth-password", "correct horse")


def mail(by: str, lines: int = 2) -> bytes:
    """A message with a line that begins with a dot, LF at the ends of its lines."""
    head = f"From: Sender <{SENDER}>\nTo: <{ALICE}>\nSubject: by {by}\nDate: Sun, 15 Jun 2025 15:06:40 +0000\n"
    head += "Message-ID: <recording@example.net>\n\nHello,\n.a line that begins with a dot\n"
    return (head + "All the world is a stage, and every line of it goes through a queue.\n" * lines).encode()


def exim_server(bench: Bench, *, tls: bool = False, only_rsa: bool = True, prdr: bool = False) -> None:
    """An Exim on the server; with TLS that its RSA key opens, unless a key log is to."""
    settings = f"tls_require_ciphers = {RSA_ONLY}\n" if only_rsa and tls else ""
    settings += "prdr_enable = true\nacl_smtp_data_prdr = each\n" if prdr else "prdr_enable = false\n"
    chosen = certificate(bench.scratch, "mx.example.org") if tls else None
    if chosen and only_rsa:
        (bench.folder / "server.key").write_bytes(chosen[0].read_bytes())
        bench.facts["rsa_key"] = "server.key"
    Exim(bench.network, bench.network.server, bench.scratch, "mx.example.org", settings, "", chosen).serve()


def exim_client(bench: Bench, transport: str = "") -> Exim:
    return Exim(bench.network, bench.network.client, bench.scratch, "relay.example.net", "", transport)


def small(bench: Bench, debs: tuple[str, ...]) -> Machine:
    """A machine on the client for a small program."""
    return Machine(bench.network, bench.network.client, bench.scratch, "client.example.net", debs, ("alice",))


def watched_postfix(bench: Bench, settings: str = "") -> Path:
    """A Postfix that logs what is said to it: the witness for clients that keep silent."""
    made = bench.postfix(f"debug_peer_list = 192.0.2.7\n{settings}")
    bench.log_name = "server.log"
    return made.log


def keep(bench: Bench, log: Path, *words: str) -> None:
    """Keep the lines of a log with one of these words."""
    lines = log.read_text(errors="replace").splitlines()
    bench.log.write_text("\n".join(line for line in lines if any(word in line for word in words)) + "\n")


def keep_smtpd(bench: Bench, log: Path) -> None:
    """Wait for the end of the session in the log of Postfix' server and keep what was said in it."""
    for _ in range(150):
        if "disconnect from" in log.read_text():
            break
        time.sleep(0.1)
    keep(bench, log, "]: < ", "]: > ", "connect from", "TLS connection")


@case(
    "exim-exim-tls",
    why="BDAT pipelined behind MAIL and two RCPT, QUIT behind it, inside TLS 1.2 that the server's key opens.",
    how="Exim to Exim, captured on the client",
    witness="exim",
    clean=True,
)
def exim_exim_tls(bench: Bench) -> None:
    exim_server(bench, tls=True)
    client = exim_client(bench)
    bench.facts |= {"tls": "starttls", "sni": False}
    with bench.tcpdump():
        bench.log.write_text(client.send(mail("Exim"), SENDER, ALICE, BOB))


@case(
    "exim-exim-chunks",
    why="A message of 40 KB in several BDAT chunks (RFC 3030).",
    how="Exim to Exim, captured on the server",
    witness="exim",
    clean=True,
)
def exim_exim_chunks(bench: Bench) -> None:
    exim_server(bench)
    client = exim_client(bench)
    with bench.tcpdump(at="server"):
        bench.log.write_text(client.send(mail("Exim", 580), SENDER, ALICE))


@case(
    "exim-exim-prdr",
    why="PRDR (draft-hall-prdr-00): after the last chunk 353, a reply for each of two recipients, and the final one.",
    how="Exim to Exim, captured on the client",
    witness="exim",
    clean=True,
)
def exim_exim_prdr(bench: Bench) -> None:
    exim_server(bench, prdr=True)
    client = exim_client(bench)
    with bench.tcpdump():
        bench.log.write_text(client.send(mail("Exim"), SENDER, ALICE, BOB))


@case(
    "exim-postfix",
    why="A null sender (a bounce, RFC 5321 section 4.5.5) and BDAT.",
    how="Exim to Postfix, captured on the client",
    witness="exim",
    clean=True,
)
def exim_postfix(bench: Bench) -> None:
    bench.postfix()
    client = exim_client(bench)
    with bench.tcpdump():
        bench.log.write_text(client.send(mail("Exim"), "<>", ALICE, BOB))


@case(
    "exim-opensmtpd",
    why="No PIPELINING and no CHUNKING offered: one command at a time.",
    how="Exim to OpenSMTPD, captured on the client",
    witness="exim",
    clean=True,
)
def exim_opensmtpd(bench: Bench) -> None:
    OpenSmtpd(bench.network, bench.network.server, bench.scratch, "mx.example.org").serve()
    client = exim_client(bench)
    with bench.tcpdump():
        bench.log.write_text(client.send(mail("Exim"), SENDER, ALICE, BOB))


@case(
    "postfix-exim-tls",
    why="Two recipients in one segment with DATA, inside TLS 1.2 that the server's key opens.",
    how="Postfix smtp(8) to Exim, captured on the server",
    witness="postfix",
    clean=True,
)
def postfix_exim_tls(bench: Bench) -> None:
    exim_server(bench, tls=True)
    client = bench.postfix_client("smtp_tls_security_level = encrypt\n")
    bench.facts |= {"tls": "starttls", "sni": False}
    with bench.tcpdump(at="server"):
        bench.submit(client, "status=sent", ALICE, BOB)


@case(
    "postfix-postfix-dsn",
    why="NOTIFY, ORCPT, RET and ENVID (RFC 3461) and BODY=8BITMIME, inside TLS 1.2 that the server's key opens.",
    how="Postfix smtp(8) to Postfix smtpd(8), captured on the client",
    witness="postfix",
    clean=True,
)
def postfix_postfix_dsn(bench: Bench) -> None:
    bench.postfix(bench.certificate() + TLS12_RSA)
    client = bench.postfix_client("smtp_tls_security_level = encrypt\n")
    bench.facts |= {"tls": "starttls", "sni": False}
    with bench.tcpdump():
        bench.submit(client, "status=sent", ALICE, BOB, options=("--dsn", "--eight-bit"))


@case(
    "smtplib-postfix-utf8",
    why="SMTPUTF8 (RFC 6531): a sender and a header in UTF-8.",
    how="smtplib to Postfix, captured on the client",
    witness="smtplib",
    clean=True,
)
def smtplib_postfix_utf8(bench: Bench) -> None:
    bench.postfix("smtputf8_enable = yes\n")
    with bench.tcpdump():
        bench.smtplib("--utf8", "--to", ALICE, "--to", BOB)


@case(
    "swaks-exim-auth",
    why="AUTH PLAIN inside TLS 1.2 that the server's key opens.",
    how="swaks to Exim, captured on the client; the password is made up",
    witness="swaks",
    clean=True,
)
def swaks_exim_auth(bench: Bench) -> None:
    exim_server(bench, tls=True)
    bench.facts |= {"tls": "starttls", "sni": False}
    with bench.tcpdump():
        bench.swaks("--to", f"{ALICE},{BOB}", "--tls", "--auth", "PLAIN", *AUTH)


@case(
    "swaks-opensmtpd",
    why="A plain delivery to OpenSMTPD, with the dialect of its EHLO reply.",
    how="swaks to OpenSMTPD, captured on the server",
    witness="swaks",
    clean=True,
)
def swaks_opensmtpd(bench: Bench) -> None:
    OpenSmtpd(bench.network, bench.network.server, bench.scratch, "mx.example.org").serve()
    with bench.tcpdump(at="server"):
        bench.swaks("--to", f"{ALICE},{BOB}")


def opensmtpd_client(bench: Bench, relay: str) -> None:
    """Hand OpenSMTPD on the client two messages; it keeps the session for ten seconds before QUIT."""
    client = OpenSmtpd(bench.network, bench.network.client, bench.scratch, "relay.example.net", relay=relay)
    log = client.serve(None)
    time.sleep(1.5)
    submit = [sys.executable, str(HERE / "smtplib_client.py"), "--server", "127.0.0.1"]
    with bench.tcpdump():
        for to in (ALICE, BOB):
            bench.network.run(bench.network.client, [*submit, "--to", to], bench.scratch / "submission.log")
        for _ in range(300):
            if ">>> QUIT" in log.read_text():
                break
            time.sleep(0.1)
    keep(bench, log, "mta: 0x", " mta ")


@case(
    "opensmtpd-postfix-tls",
    why="TLS 1.2 that the server's key opens; ten idle seconds before QUIT, in case there is more to send.",
    how="OpenSMTPD to Postfix, captured on the client",
    witness="opensmtpd",
    clean=True,
)
def opensmtpd_postfix_tls(bench: Bench) -> None:
    bench.postfix(bench.certificate() + TLS12_RSA)
    bench.facts |= {"tls": "starttls", "sni": False}
    opensmtpd_client(bench, f"smtp+tls://{SERVER4} tls no-verify")


@case(
    "opensmtpd-opensmtpd",
    why="Two messages, ten idle seconds before QUIT, in case there is more to send.",
    how="OpenSMTPD to OpenSMTPD, captured on the client",
    witness="opensmtpd",
    clean=True,
)
def opensmtpd_opensmtpd(bench: Bench) -> None:
    OpenSmtpd(bench.network, bench.network.server, bench.scratch, "mx.example.org").serve()
    opensmtpd_client(bench, f"smtp+notls://{SERVER4}")


def curl(bench: Bench, *words: str) -> None:
    """A delivery by curl, which logs its keys; its QUIT comes when its log is closed already."""
    upload = bench.scratch / "mail"
    upload.write_bytes(mail("curl").replace(b"\n", b"\r\n"))
    keys = f"SSLKEYLOGFILE={bench.folder / 'keylog.txt'}"
    words = ("env", keys, "curl", "-svk", "--resolve", f"mx.example.org:465:{SERVER4}", *words)
    words += ("--mail-from", SENDER, "--mail-rcpt", ALICE, "--upload-file", str(upload))
    with bench.tcpdump():
        bench.network.run(bench.network.client, list(words), bench.log)
    bench.facts["keylog"] = "keylog.txt"
    bench.unlogged.append(("QUIT", 221))


@case(
    "curl-postfix-tls13",
    why="TLS 1.3 from the first byte on port 465, opened by curl's key log.",
    how="curl with SSLKEYLOGFILE to Postfix, captured on the client",
    witness="curl",
    clean=True,
)
def curl_postfix_tls13(bench: Bench) -> None:
    bench.postfix(bench.certificate(), "465 inet n - n - - smtpd -o smtpd_tls_wrappermode=yes\n")
    del bench.facts["rsa_key"]
    (bench.folder / "server.key").unlink()
    bench.facts["tls"] = "implicit"
    curl(bench, "--url", "smtps://mx.example.org/client.example.net")


@case(
    "curl-exim-auth",
    why="AUTH PLAIN inside TLS 1.3 from the first byte on port 465, opened by curl's key log.",
    how="curl with SSLKEYLOGFILE to Exim, captured on the client; the password is made up",
    witness="curl",
    clean=True,
)
def curl_exim_auth(bench: Bench) -> None:
    exim_server(bench, tls=True, only_rsa=False)
    bench.facts["tls"] = "implicit"
    curl(bench, "--url", "smtps://mx.example.org/client.example.net", "--user", "alice:correct horse")


@case(
    "msmtp-exim-tls13",
    why="TLS 1.3 after STARTTLS, opened by the key log of GnuTLS.",
    how="msmtp with SSLKEYLOGFILE to Exim, captured on the client",
    witness="msmtp",
    clean=True,
)
def msmtp_exim_tls13(bench: Bench) -> None:
    exim_server(bench, tls=True, only_rsa=False)
    bench.facts |= {"tls": "starttls", "sni": False, "keylog": "keylog.txt"}
    words = f"msmtp --debug --file=/dev/null --host={SERVER4} --domain=client.example.net --from={SENDER} --tls=on"
    words += f" --tls-starttls=on --tls-certcheck=off {ALICE} {BOB}"
    command = ["env", f"SSLKEYLOGFILE={bench.folder / 'keylog.txt'}", *words.split()]
    with bench.tcpdump():
        bench.network.run(bench.network.client, command, bench.log, stdin=mail("msmtp"))


@case(
    "s-nail-postfix",
    why="A delivery by a mail user agent.",
    how="s-nail to Postfix, captured on the client",
    witness="postfix-server",
    clean=True,
)
def s_nail_postfix(bench: Bench) -> None:
    log = watched_postfix(bench)
    machine = small(bench, ("s-nail",))
    settings = f"v15-compat=yes mta=smtp://{SERVER4} smtp-auth=none from={SENDER} hostname=client.example.net sendwait"
    words = [word for each in settings.split() for word in ("-S", each)]
    with bench.tcpdump():
        machine.run("/usr/bin/s-nail", "-:/", *words, "-s", "by s-nail", ALICE, BOB, stdin=b"Hello,\n.dot\n")
    keep_smtpd(bench, log)


@case(
    "nullmailer-postfix",
    why="A delivery by a forwarder of system mail.",
    how="nullmailer to Postfix, captured on the client",
    witness="postfix-server",
    clean=True,
)
def nullmailer_postfix(bench: Bench) -> None:
    log = watched_postfix(bench)
    machine = small(bench, ("nullmailer",))
    machine.write("/etc/nullmailer/remotes", f"{SERVER4} smtp\n")
    machine.write("/etc/nullmailer/me", "client.example.net\n")
    for part in ("queue", "tmp", "failed"):
        machine.folder(f"/var/spool/nullmailer/{part}", "alice:alice", 0o777)
    machine.run("mkfifo", "-m", "666", "/var/spool/nullmailer/trigger")
    with bench.tcpdump():
        machine.start("/usr/sbin/nullmailer-send")
        time.sleep(0.5)
        machine.run("/usr/bin/nullmailer-inject", "-f", SENDER, ALICE, BOB, stdin=mail("nullmailer"))
        keep_smtpd(bench, log)


@case(
    "dma-postfix-tls",
    why="A delivery by DragonFly's mail agent, inside TLS 1.2 that the server's key opens.",
    how="dma to Postfix, captured on the client",
    witness="postfix-server",
    clean=True,
)
def dma_postfix_tls(bench: Bench) -> None:
    log = watched_postfix(bench, bench.certificate() + TLS12_RSA)
    bench.facts |= {"tls": "starttls", "sni": False}
    machine = small(bench, ("dma",))
    machine.write(
        "/etc/dma/dma.conf", f"SMARTHOST {SERVER4}\nPORT 25\nSECURETRANSFER\nSTARTTLS\nMAILNAME client.example.net\n"
    )
    machine.folder("/var/spool/dma", "root:mail", 0o2775)
    with bench.tcpdump():
        machine.run("/usr/sbin/dma", "-D", "-f", SENDER, ALICE, stdin=mail("dma"))
        keep_smtpd(bench, log)
