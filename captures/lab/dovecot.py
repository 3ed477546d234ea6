"""Dovecot's LMTP server, from Debian's packages, on a machine of its own."""

from __future__ import annotations

from pathlib import Path

from lab.machines import Machine
from lab.network import Network

_CONFIGURATION = """\
protocols = lmtp
ssl = no
hostname = mx.example.org
postmaster_address = postmaster@example.org
auth_username_format = %n
mail_location = maildir:/home/%n/mail
log_path = /dev/stderr
first_valid_uid = 1
service lmtp {
  inet_listener lmtp {
    address = 0.0.0.0
    port = 24
  }
}
passdb {
  driver = static
  args = nopassword=y
}
userdb {
  driver = static
  args = uid=alice gid=alice home=/home/%n
}
"""


class Dovecot:
    """A Dovecot that takes mail for anybody by LMTP on port 24, and runs."""

    def __init__(self, network: Network, space: str, scratch: Path, name: str) -> None:
        users = ("dovecot", "dovenull", "alice")
        self.machine = Machine(network, space, scratch, name, ("dovecot-core", "dovecot-lmtpd"), users)
        self.machine.write("/etc/dovecot/lab.conf", _CONFIGURATION)
        self.machine.folder("/home", mode=0o777)
        self.machine.folder("/run/dovecot")
        self.log = self.machine.start("/usr/sbin/dovecot", "-F", "-c", "/etc/dovecot/lab.conf")
        network.wait_for_port(24)
