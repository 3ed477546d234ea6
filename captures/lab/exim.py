"""Exim, from Debian's package, on a machine of its own."""

from __future__ import annotations

import time
from pathlib import Path

from lab.machines import Machine
from lab.network import SERVER4, Network

USER = "Debian-exim"
RSA_ONLY = "NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+RSA"
"""GnuTLS priorities for what a server's RSA key opens."""

CONFIGURATION = """\
primary_hostname = {name}
domainlist local_domains = {domain}
hostlist relay_from_hosts = 127.0.0.1 : 192.0.2.7
daemon_smtp_ports = {ports}
tls_on_connect_ports = 465
acl_smtp_rcpt = check
host_lookup =
rfc1413_query_timeout = 0s
dns_again_means_nonexist = *
message_logs = false
log_file_path = {shared}/%slog
spool_directory = /var/spool/exim4
smtp_banner = {name} ESMTP Exim $version_number
trusted_users = root
qualify_domain = example.net
tls_advertise_hosts = {tls_hosts}
{settings}
begin acl
check:
  accept  domains = +local_domains
  accept  hosts = +relay_from_hosts
          control = submission
  deny    message = relay not permitted
each:
  accept
begin routers
local:
  driver = accept
  domains = +local_domains
  transport = keep
out:
  driver = manualroute
  domains = ! +local_domains
  route_list = * {server}
  self = send
  transport = smtp
begin transports
keep:
  driver = appendfile
  file = /dev/null
  user = {user}
smtp:
  driver = smtp
  hosts_try_fastopen =
  interface = <; ${{if eq{{$primary_hostname}}{{relay.example.net}}{{192.0.2.7}}{{}}}}
{transport}
begin retry
*  *  F,2h,15m
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if and{{{{eq{{$auth2}}{{alice}}}}{{eq{{$auth3}}{{correct horse}}}}}}}}
  server_set_id = $auth2
  server_advertise_condition = ${{if def:tls_in_cipher}}
"""


class Exim:
    """An Exim that accepts mail for its domain and sends all other to 192.0.2.25.

    Args:
        network: where it runs, on the host ``space``.
        scratch: the folder of the recording.
        name: its host name.
        settings: further lines for the main part of its configuration.
        transport: further lines for the smtp transport.
        certificate: key and certificate; with these it offers TLS, and 465 is in TLS from the first byte.
    """

    def __init__(
        self,
        network: Network,
        space: str,
        scratch: Path,
        name: str,
        settings: str = "",
        transport: str = "",
        certificate: tuple[Path, Path] | None = None,
    ) -> None:
        self.network = network
        users = (USER, "alice", "bob")
        self.machine = Machine(network, space, scratch, name, ("exim4-daemon-light", "exim4-base"), users)
        if certificate:
            for path, inside in zip(certificate, ("server.key", "server.crt"), strict=True):
                self.machine.write(f"/etc/exim4/{inside}", path.read_text())
            settings += "tls_certificate = /etc/exim4/server.crt\ntls_privatekey = /etc/exim4/server.key\n"
        text = CONFIGURATION.format(
            name=name,
            domain=name.partition(".")[2],
            ports="25 : 465" if certificate else "25",
            shared=self.machine.shared,
            tls_hosts="*" if certificate else "",
            settings=settings,
            server=SERVER4,
            user=USER,
            transport=transport,
        )
        self.machine.write("/etc/exim4/exim4.conf", text)
        self.machine.folder("/var/spool/exim4", f"{USER}:{USER}", 0o750)
        self.machine.run("chown", f"{USER}:{USER}", str(self.machine.shared))

    def serve(self) -> Path:
        """Start it as a daemon; return the file with its debugging output."""
        log = self.machine.start("/usr/sbin/exim4", "-bdf", "-v")
        self.network.wait_for_port(25)
        return log

    def send(self, mail: bytes, sender: str, *recipients: str) -> str:
        """Deliver a message at once; return Exim's transcript of it."""
        said = self.machine.run("/usr/sbin/exim4", "-v", "-odf", "-oi", "-f", sender, *recipients, stdin=mail)
        time.sleep(0.3)
        return said
