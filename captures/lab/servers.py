"""Real servers for the recordings: Postfix in a folder of its own, and aiosmtpd."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from lab.network import HERE, Network

TLS12_RSA = "smtpd_tls_protocols = >=TLSv1.2, <=TLSv1.2\ntls_high_cipherlist = kRSA\nsmtpd_tls_ciphers = high\n"
"""Settings for TLS that the server's RSA key opens, whatever the client prefers."""

MASTER = """\
smtp      inet  n - n - - smtpd
pickup    unix  n - n 60 1 pickup
cleanup   unix  n - n - 0 cleanup
qmgr      unix  n - n 300 1 qmgr
tlsmgr    unix  - - n 1000? 1 tlsmgr
rewrite   unix  - - n - - trivial-rewrite
bounce    unix  - - n - 0 bounce
defer     unix  - - n - 0 bounce
trace     unix  - - n - 0 bounce
verify    unix  - - n - 1 verify
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n - - proxymap
smtp      unix  - - n - - smtp
relay     unix  - - n - - smtp
showq     unix  n - n - - showq
error     unix  - - n - - error
retry     unix  - - n - - error
discard   unix  - - n - - discard
lmtp      unix  - - n - - lmtp
anvil     unix  - - n - 1 anvil
scache    unix  - - n - 1 scache
postlog   unix-dgram n - n - 1 postlogd
"""

MAIN = """\
compatibility_level = 3.6
queue_directory = {folder}/spool
data_directory = {folder}/data
maillog_file = {log}
maillog_file_prefixes = {folder}
mail_owner = postfix
setgid_group = postdrop
inet_interfaces = all
inet_protocols = all
myhostname = {name}
mydomain = {domain}
mydestination = {domain}
mynetworks = 127.0.0.0/8 [::1]/128
smtpd_peername_lookup = no
smtp_host_lookup = native
smtp_dns_support_level = disabled
smtputf8_enable = no
alias_maps =
alias_database =
local_transport = discard:
local_recipient_maps = inline:{{ alice@example.org=x bob@example.org=x carol@example.org=x postmaster@example.org=x }}
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
smtpd_recipient_restrictions =
anvil_rate_time_unit = 60s
debug_peer_level = 1
"""


class Postfix:
    """A Postfix that knows nothing of the system's own: configuration, queue and log are in ``folder``.

    Args:
        network: where it runs, on the host ``space``.
        folder: an empty folder that the user ``postfix`` can reach.
        name: its host name; mail for the domain of it is accepted and discarded.
        settings: further lines for main.cf.
        services: further lines for master.cf.
    """

    def __init__(
        self, network: Network, space: str, folder: Path, name: str, settings: str = "", services: str = ""
    ) -> None:
        self.log = folder / "log"
        for part in ("conf", "spool", "data"):
            (folder / part).mkdir(parents=True)
        subprocess.run(["chown", "postfix", str(folder / "data")], check=True)
        domain = name.partition(".")[2]
        main = MAIN.format(folder=folder, log=self.log, name=name, domain=domain)
        (folder / "conf" / "main.cf").write_text(main + settings)
        (folder / "conf" / "master.cf").write_text(MASTER + services)
        network.start(
            space,
            ["postfix", "-c", str(folder / "conf"), "start-fg"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(100):
            if self.log.exists() and "daemon started" in self.log.read_text():
                return
            time.sleep(0.1)
        raise RuntimeError("Postfix did not start" + (": " + self.log.read_text() if self.log.exists() else ""))

    def wait_for(self, words: str) -> None:
        """Wait until its log says so."""
        for _ in range(150):
            if words in self.log.read_text():
                return
            time.sleep(0.1)
        raise RuntimeError(f"Postfix never logged {words!r}:\n{self.log.read_text()[-2000:]}")


def aiosmtpd(network: Network, log: Path, *arguments: str, port: int) -> None:
    """Start aiosmtpd on the server."""
    with log.open("wb") as output:
        command = [sys.executable, str(HERE / "aiosmtpd_server.py"), "--port", str(port), *arguments]
        network.start(network.server, command, stdout=output, stderr=output)
    network.wait_for_port(port)


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """Make an RSA key and a self-signed certificate; return their paths (key, certificate)."""
    key, chain = folder / "server.key", folder / "server.crt"
    words = f"openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj /CN={name} -addext subjectAltName=DNS:{name}"
    subprocess.run([*words.split(), "-keyout", str(key), "-out", str(chain)], check=True, capture_output=True)
    return key, chain
