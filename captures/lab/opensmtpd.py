"""OpenSMTPD, from Debian's package, on a machine of its own."""

from __future__ import annotations

from pathlib import Path

from lab.machines import Machine
from lab.network import SERVER4, Network


class OpenSmtpd:
    """An OpenSMTPD that accepts mail for alice and bob at its domain and sends all other to 192.0.2.25.

    Args:
        network: where it runs, on the host ``space``.
        scratch: the folder of the recording.
        name: its host name.
        certificate: key and certificate; with these it offers STARTTLS.
        relay: the url of where other mail goes.
    """

    def __init__(
        self,
        network: Network,
        space: str,
        scratch: Path,
        name: str,
        certificate: tuple[Path, Path] | None = None,
        relay: str = f"smtp+notls://{SERVER4}",
    ) -> None:
        self.network = network
        users = ("opensmtpd", "opensmtpq", "alice", "bob")
        debs = ("opensmtpd",)
        self.machine = Machine(network, space, scratch, name, debs, users)
        listen = f"listen on 0.0.0.0 hostname {name}\nlisten on socket\n"
        if certificate:
            for path, inside in zip(certificate, ("server.key", "server.crt"), strict=True):
                self.machine.write(f"/etc/{inside}", path.read_text(), 0o600)
            listen = f'pki {name} key "/etc/server.key"\npki {name} cert "/etc/server.crt"\n' + (
                f"listen on 0.0.0.0 tls pki {name} hostname {name}\nlisten on socket\n"
            )
        domain = name.partition(".")[2]
        rules = (
            'action "keep" mda "cat >/dev/null"\n'
            f'action "out" relay host {relay} helo {name}\n'
            f'match from any for domain "{domain}" action "keep"\nmatch for any action "out"\n'
        )
        self.machine.write("/etc/smtpd.conf", listen + rules)
        self.machine.write("/etc/aliases", "")
        self.machine.folder("/var/spool/smtpd", mode=0o711)
        self.machine.folder("/var/lib/opensmtpd/empty")
        self.machine.folder("/var/empty")

    def serve(self, port: int | None = 25) -> Path:
        """Start it; return the file with its traces of the sessions."""
        log = self.machine.start("/usr/sbin/smtpd", "-d", "-v", "-T", "smtp", "-T", "mta")
        if port:
            self.network.wait_for_port(port)
        return log
