"""Sendmail, from Debian's packages, on a machine of its own."""

from __future__ import annotations

from pathlib import Path

from lab.machines import Machine
from lab.network import SERVER4, Network

_MACROS = """\
divert(0)dnl
include(`/usr/share/sendmail/cf/m4/cf.m4')dnl
OSTYPE(`linux')dnl
define(`confDOMAIN_NAME', `{name}')dnl
define(`confTO_IDENT', `0')dnl
define(`confPID_FILE', `/var/spool/mqueue/sendmail.pid')dnl
define(`confHOSTS_FILE', `/etc/hosts')dnl
define(`confSERVICE_SWITCH_FILE', `/etc/mail/service.switch')dnl
define(`confDONT_BLAME_SENDMAIL', `GroupReadableKeyFile')dnl
define(`LOCAL_MAILER_PATH', `/bin/true')dnl
FEATURE(`accept_unresolvable_domains')dnl
FEATURE(`nocanonify')dnl
{relay}dnl
MAILER(`local')dnl
MAILER(`smtp')dnl
LOCAL_CONFIG
Cw{domain}
"""


class Sendmail:
    """A Sendmail that accepts mail for alice and bob at its domain, or sends all to 192.0.2.25.

    Args:
        network: where it runs, on the host ``space``.
        scratch: the folder of the recording.
        name: its host name; that of the server receives, any other relays.
    """

    def __init__(self, network: Network, space: str, scratch: Path, name: str) -> None:
        self.network = network
        debs = ("sendmail-bin", "sendmail-base", "sendmail-cf", "m4", "libsigsegv2", "libwrap0")
        self.machine = Machine(network, space, scratch, name, debs, ("smmta", "smmsp", "alice", "bob"))
        relay = "" if name == "mx.example.org" else f"define(`SMART_HOST', `esmtp:[{SERVER4}]')"
        self.machine.write("/etc/mail/lab.mc", _MACROS.format(name=name, domain=name.partition(".")[2], relay=relay))
        made = self.machine.run("m4", "/etc/mail/lab.mc")
        self.machine.write("/etc/mail/sendmail.cf", made)
        self.machine.write("/etc/mail/service.switch", "hosts files\naliases files\n")
        self.machine.write("/etc/mail/aliases", "postmaster: root\n")
        self.machine.write("/etc/mail/local-host-names", "")
        self.machine.folder("/var/spool/mqueue", mode=0o700)
        self.machine.run("/usr/libexec/sendmail/sendmail", "-bi")

    def serve(self) -> Path:
        """Start it as a daemon; return the file of what it prints."""
        log = self.machine.start("/usr/libexec/sendmail/sendmail", "-bD")
        self.network.wait_for_port(25)
        return log

    def send(self, mail: bytes, sender: str, *recipients: str) -> str:
        """Deliver a message at once; return Sendmail's transcript of it."""
        words = ("-Am", "-v", "-odi", "-i", "-f", sender, *recipients)
        return self.machine.run("/usr/libexec/sendmail/sendmail", *words, stdin=mail)
