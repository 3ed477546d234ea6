"""Where a case is recorded and what it may use: servers, clients, tcpdump; and the list of cases."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lab import witness
from lab.network import HERE, SERVER4, Network, Tcpdump
from lab.servers import Postfix, certificate


@dataclass
class Bench:
    """Where one case is recorded: its folder, a scratch folder, and the two hosts."""

    folder: Path
    scratch: Path
    network: Network
    facts: dict[str, object] = field(default_factory=dict)
    """Goes into expect.toml as it is."""
    log_name: str = "client.log"
    """``server.log`` where the client keeps silent and the server's log is the witness."""
    unlogged: list[witness.Exchange] = field(default_factory=list)
    """What the client did after it stopped logging."""

    @property
    def log(self) -> Path:
        """The log that is the witness."""
        return self.folder / self.log_name

    def postfix(self, settings: str = "", services: str = "") -> Postfix:
        """A Postfix on the server."""
        made = Postfix(self.network, self.network.server, self.scratch / "mx", "mx.example.org", settings, services)
        self.network.wait_for_port(25)
        return made

    def postfix_client(self, settings: str = "") -> Postfix:
        """A Postfix on the client that relays to the server and logs what it says."""
        relay = f"relayhost = [{SERVER4}]\nmydestination =\ndebug_peer_list = {SERVER4}\n"
        relay += "smtp_tls_loglevel = 1\nsmtp_skip_quit_response = no\n"
        return Postfix(self.network, self.network.client, self.scratch / "relay", "relay.example.net", relay + settings)

    def certificate(self) -> str:
        """Settings for a Postfix with a certificate; its key is kept beside the capture."""
        key, chain = certificate(self.scratch, "mx.example.org")
        (self.folder / "server.key").write_bytes(key.read_bytes())
        self.facts["rsa_key"] = "server.key"
        return f"smtpd_tls_security_level = may\nsmtpd_tls_key_file = {key}\nsmtpd_tls_cert_file = {chain}\n"

    def smtplib(self, *arguments: str) -> None:
        """A delivery by smtplib."""
        self.network.run(self.network.client, [sys.executable, str(HERE / "smtplib_client.py"), *arguments], self.log)

    def swaks(self, *arguments: str) -> None:
        """A delivery by swaks."""
        words = ["swaks", "--server", SERVER4, "--helo", "client.example.net", "--from", "sender@example.net"]
        self.network.run(self.network.client, [*words, *arguments], self.log)

    def talk(self, script: str, port: int = 25) -> None:
        """What the script says."""
        path = self.scratch / "script"
        path.write_text(script)
        self.network.run(
            self.network.client, [sys.executable, str(HERE / "talk.py"), SERVER4, str(port), str(path)], self.log
        )

    def submit(self, client: Postfix, until: str, *recipients: str, options: tuple[str, ...] = ()) -> None:
        """Hand a message to the client's Postfix, wait until its log says ``until``; that log is the witness."""
        handed = self.scratch / "submission.log"
        to = [word for each in recipients for word in ("--to", each)]
        command = [sys.executable, str(HERE / "smtplib_client.py"), "--server", "127.0.0.1", *options, *to]
        self.network.run(self.network.client, command, handed)
        client.wait_for(until)
        kept = [line for line in client.log.read_text().splitlines() if "/smtp[" in line or "/lmtp[" in line]
        spoken = [line for line in kept if "]: < " in line or "]: > " in line or "status=" in line or "TLS" in line]
        self.log.write_text("\n".join(spoken) + "\n")

    @contextmanager
    def tcpdump(self, *arguments: str, at: str = "client", name: str = "capture.pcap") -> Iterator[None]:
        """Capture on one of the hosts while the block runs."""
        words = [*(arguments or ("-i", "eth0")), "-w", str(self.folder / name), "tcp or icmp or icmp6"]
        if words[:2] != ["-i", "any"]:
            words[-1] = "tcp or icmp"
        space = self.network.client if at == "client" else self.network.server
        with Tcpdump(self.network, space, words, self.scratch / "tcpdump.log"):
            yield


@dataclass(frozen=True)
class Case:
    """One capture: its name, why it exists, how it was made, whose log is the witness, and the recording itself."""

    name: str
    why: str
    how: str
    witness: str
    record: Callable[[Bench], None]
    relay: tuple[str, ...] = ()
    clean: bool = False
    """Nothing in it is worth an error or a warning."""


CASES: dict[str, Case] = {}


def case(
    name: str, *, why: str, how: str, witness: str, relay: tuple[str, ...] = (), clean: bool = False
) -> Callable[[Callable[[Bench], None]], Callable[[Bench], None]]:
    """Register a case."""

    def register(record: Callable[[Bench], None]) -> Callable[[Bench], None]:
        CASES[name] = Case(name, why, how, witness, record, relay, clean)
        return record

    return register
