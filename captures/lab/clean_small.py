"""Ordinary deliveries by programs that come from npm and PyPI, and by small ones; the rest of ``clean.py``."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence

from lab.bench import Bench, case
from lab.clean import ALICE, BOB, SENDER, exim_client, exim_server, keep_smtpd, mail, small, watched_postfix
from lab.dovecot import Dovecot
from lab.machines import node_modules, python_packages
from lab.network import HERE, SERVER4
from lab.sendmail import Sendmail
from lab.servers import TLS12_RSA, aiosmtpd, certificate


@case(
    "nodemailer-without-quit",
    why="Two messages in one session, which the client then closes without QUIT: RFC 5321 section 4.1.1.10 forbids it.",
    how="nodemailer with a pool to smtp-server (Node.js), captured on the client; the password is made up",
    witness="nodemailer",
)
def nodemailer_without_quit(bench: Bench) -> None:
    run = smtp_server(bench)
    bench.facts |= {"tls": "starttls", "keylog": "keylog.txt", "findings": ["SC115"]}
    run += [f"--tls-keylog={bench.folder / 'keylog.txt'}", str(HERE / "nodemailer_client.js"), SERVER4]
    with bench.tcpdump():
        bench.network.run(bench.network.client, run, bench.log)


def smtp_server(bench: Bench) -> list[str]:
    """Start smtp-server; return how to run another script with these packages."""
    path = ["env", f"NODE_PATH={node_modules('nodemailer', 'smtp-server')}", "node"]
    key, chain = certificate(bench.scratch, "mx.example.org")
    bench.network.start(bench.network.server, [*path, str(HERE / "smtp_server.js"), str(key), str(chain)])
    bench.network.wait_for_port(25)
    return path


@case(
    "aiosmtplib-aiosmtpd",
    why="TLS 1.3 after STARTTLS, opened by the client's key log; two messages in one session.",
    how="aiosmtplib to aiosmtpd, captured on the client",
    witness="aiosmtpd",
    clean=True,
)
def aiosmtplib_aiosmtpd(bench: Bench) -> None:
    bench.log_name = "server.log"
    key, chain = certificate(bench.scratch, "mx.example.org")
    aiosmtpd(bench.network, bench.log, "--tls", str(key), str(chain), "--verbose", port=25)
    bench.facts |= {"tls": "starttls", "keylog": "keylog.txt"}
    path = f"PYTHONPATH={python_packages('aiosmtplib')}"
    words: Sequence[str] = ("env", path, sys.executable, str(HERE / "aiosmtplib_client.py"), SERVER4)
    with bench.tcpdump():
        bench.network.run(
            bench.network.client, [*words, str(bench.folder / "keylog.txt")], bench.scratch / "client.log"
        )


@case(
    "smtplib-smtp-server",
    why="AUTH LOGIN inside TLS 1.3 after STARTTLS, opened by the client's key log.",
    how="smtplib to smtp-server (Node.js), captured on the server; the password is made up",
    witness="smtplib",
    clean=True,
)
def smtplib_smtp_server(bench: Bench) -> None:
    smtp_server(bench)
    bench.facts |= {"tls": "starttls", "keylog": "keylog.txt"}
    keys = str(bench.folder / "keylog.txt")
    with bench.tcpdump(at="server"):
        bench.smtplib("--tls", "starttls", "--keylog", keys, "--auth", "LOGIN:correct horse", "--to", ALICE)


@case(
    "net-smtp-exim",
    why="A delivery by Perl's Net::SMTP, as git send-email makes them.",
    how="Net::SMTP to Exim, captured on the client",
    witness="net-smtp",
    clean=True,
)
def net_smtp_exim(bench: Bench) -> None:
    exim_server(bench)
    script = (
        f"my $s = Net::SMTP->new('{SERVER4}', Hello => 'client.example.net', Debug => 1) or die; "
        f"$s->mail('{SENDER}'); $s->to('{ALICE}', '{BOB}'); $s->data(<STDIN>); $s->quit"
    )
    with bench.tcpdump():
        bench.network.run(
            bench.network.client, ["perl", "-MNet::SMTP", "-e", script], bench.log, stdin=mail("Net::SMTP")
        )


@case(
    "ssmtp-postfix",
    why="A delivery by a forwarder of system mail.",
    how="ssmtp to Postfix, captured on the client",
    witness="postfix-server",
    clean=True,
)
def ssmtp_postfix(bench: Bench) -> None:
    log = watched_postfix(bench)
    machine = small(bench, ("ssmtp",))
    machine.write("/etc/ssmtp/ssmtp.conf", f"mailhub={SERVER4}:25\nhostname=client.example.net\nFromLineOverride=YES\n")
    with bench.tcpdump():
        machine.run("/usr/sbin/ssmtp", "-f", SENDER, ALICE, BOB, stdin=mail("ssmtp"))
        keep_smtpd(bench, log)


@case(
    "sendmail-postfix-tls",
    why="TLS 1.2 when it is offered, opened by the server's key.",
    how="Sendmail to Postfix, captured on the client",
    witness="sendmail",
    clean=True,
)
def sendmail_postfix_tls(bench: Bench) -> None:
    bench.postfix(bench.certificate() + TLS12_RSA)
    client = Sendmail(bench.network, bench.network.client, bench.scratch, "relay.example.net")
    bench.facts |= {"tls": "starttls", "sni": False}
    with bench.tcpdump():
        bench.log.write_text(client.send(mail("Sendmail"), SENDER, ALICE, BOB))


@case(
    "postfix-sendmail",
    why="PIPELINING with Sendmail's EHLO reply.",
    how="Postfix smtp(8) to Sendmail, captured on the server",
    witness="postfix",
    clean=True,
)
def postfix_sendmail(bench: Bench) -> None:
    Sendmail(bench.network, bench.network.server, bench.scratch, "mx.example.org").serve()
    client = bench.postfix_client()
    with bench.tcpdump(at="server"):
        bench.submit(client, "status=sent", ALICE, BOB)


@case(
    "postfix-dovecot-lmtp",
    why="LMTP: one reply for each of two recipients after the end of mail data (RFC 2033).",
    how="Postfix lmtp(8) to Dovecot on port 24, captured on the client",
    witness="postfix",
    clean=True,
)
def postfix_dovecot_lmtp(bench: Bench) -> None:
    Dovecot(bench.network, bench.network.server, bench.scratch, "mx.example.org")
    client = bench.postfix_client(f"default_transport = lmtp:inet:[{SERVER4}]:24\nrelayhost =\n")
    bench.facts["protocol"] = "lmtp"
    with bench.tcpdump():
        bench.submit(client, "status=sent", ALICE, BOB)


@case(
    "exim-dovecot-lmtp",
    why="LMTP with BDAT: the last chunk has one reply for each of two recipients (RFC 2033 with RFC 3030).",
    how="Exim to Dovecot on port 24, captured on the client",
    witness="exim",
    clean=True,
)
def exim_dovecot_lmtp(bench: Bench) -> None:
    Dovecot(bench.network, bench.network.server, bench.scratch, "mx.example.org")
    client = exim_client(bench, "  protocol = lmtp\n  port = 24\n")
    bench.facts["protocol"] = "lmtp"
    with bench.tcpdump():
        bench.log.write_text(client.send(mail("Exim"), SENDER, ALICE, BOB))


@case(
    "swaks-haraka",
    why="MAIL, two RCPT and DATA in one go (RFC 2920), with Haraka's EHLO reply.",
    how="swaks to Haraka (Node.js), captured on the client",
    witness="swaks",
    clean=True,
)
def swaks_haraka(bench: Bench) -> None:
    haraka(bench)
    with bench.tcpdump():
        bench.swaks("--to", f"{ALICE},{BOB}", "--pipeline")


def haraka(bench: Bench) -> None:
    """Start Haraka, which takes mail for example.org and throws it away."""
    home = bench.scratch / "haraka"
    modules = node_modules("Haraka")
    shutil.copytree(modules / "Haraka" / "config", home / "config")
    for name, text in {
        "smtp.ini": "listen=0.0.0.0:25\n[main]\n", "me": "mx.example.org\n", "host_list": "example.org\n",
        "plugins": "rcpt_to.in_host_list\nqueue/discard\n", "queue.discard": "", "loglevel": "NOTICE\n",
    }.items():  # fmt: skip
        (home / "config" / name).write_text(text)
    command = ["env", "YES_REALLY_DO_DISCARD=1", "node", str(modules / "Haraka" / "bin" / "haraka"), "-c", str(home)]
    with (bench.scratch / "haraka.log").open("wb") as log:
        bench.network.start(bench.network.server, command, stdout=log, stderr=log)
    bench.network.wait_for_port(25)
