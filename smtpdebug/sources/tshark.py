"""TLS records opened by tshark: the Decryptor that the requirement names.

Records of each flow are kept until the flow ends, written to a scratch capture (``sources.scratch``), and decrypted in
one tshark pass over many flows (``sources.tshark_worker``, pyshark in a process of its own). The server's key goes in
as plain PKCS#8 through a memfd: never on a disk, never on a command line. tshark runs without rights, without a
profile, without Lua, and within limits of time and memory.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence

import msgspec

from smtpdebug.errors import ToolError
from smtpdebug.model.streams import Limits, Side
from smtpdebug.model.tls import APPLICATION_DATA, UNSEALED, Decrypted, Record, TlsFacts, Verdict, opened_by
from smtpdebug.sources.scratch import SERVER_PORT, ScratchCapture
from smtpdebug.sources.tshark_process import PATIENCE_S, run_worker
from smtpdebug.tls.suite_parameters import key_exchange

OLDEST = (3, 4)
INSTALL = "install it with: apt-get install tshark (Debian, Ubuntu), dnf install wireshark-cli (Fedora, RHEL)"
_PASS_FLOWS = 500
"""Flows in one pass: enough to make tshark's start-up cheap, few enough that results come and memory stays bounded."""
_OVERHEAD = 300
"""Octets that a held record costs beside its payload."""
_CPU_SECONDS = 600
_MEMORY = 4 << 30


class Tshark(msgspec.Struct, frozen=True):
    """A usable tshark."""

    path: str
    version: tuple[int, ...]


def find_tshark(path: str | None = None) -> Tshark:
    """Look for tshark on ``PATH`` and check that it can decrypt.

    Raises:
        ToolError: missing, older than 3.4, or built without GnuTLS; the message has the remedy.
    """
    found = path or shutil.which("tshark")
    if not found:
        raise ToolError(f"tshark is not installed; {INSTALL}, or use --decrypt-with native")
    try:
        text = subprocess.run(
            [found, "--version"], capture_output=True, text=True, timeout=30, env=_environment(), check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolError(f"{found} does not run: {error}; {INSTALL}, or use --decrypt-with native") from error
    match = re.search(r"TShark[^\d]*(\d+)\.(\d+)\.(\d+)", text)
    if match is None:
        raise ToolError(f"{found} does not say its version: is it tshark? Use --decrypt-with native")
    version = tuple(int(part) for part in match.groups())
    if version < OLDEST:
        raise ToolError(f"{found} is version {match[0].split()[-1]}; 3.4 or newer is needed, or --decrypt-with native")
    if "GnuTLS" not in text or "without GnuTLS" in text:
        raise ToolError(f"{found} was built without GnuTLS and cannot decrypt TLS; use --decrypt-with native")
    return Tshark(found, version)


_AEAD = re.compile("GCM|CCM|CHACHA20")
_AEAD_OVERHEAD = 24
"""Explicit nonce and tag (RFC 5288 section 3): a record of this size is empty."""


class TsharkDecryptor:
    """The engine's Decryptor, by tshark.

    Args:
        tshark: from :func:`find_tshark`.
        rsa_keys: private keys as unencrypted PKCS#8 PEM, one key each.
        limits: ``tls_spool_bytes`` bounds the records held.
        patience_s: seconds without a word from tshark after which a pass is ended.
    """

    def __init__(
        self, tshark: Tshark, rsa_keys: Sequence[bytes], limits: Limits, patience_s: float = PATIENCE_S
    ) -> None:
        self._tshark, self._rsa_keys, self._limits = tshark, list(rsa_keys), limits
        self._patience_s = patience_s
        self._keylog = bytearray()
        self._sources: set[str] = set()
        self._facts: dict[int, TlsFacts] = {}
        self._closed: dict[int, str] = {}
        """What tshark left closed of a flow that it opened, in words."""
        self._held: dict[int, list[Record]] = {}
        self._held_bytes = 0
        self._ended: list[int] = []
        self._opened: dict[int, int] = {}
        self._given_up: set[int] = set()
        self._done: dict[int, None] = {}
        self.problems: list[str] = []
        """What tshark complained about, one sentence each."""

    def add_keylog(self, text: bytes, source: str) -> list[Decrypted]:
        """More secrets, NSS key log format."""
        self._keylog += text.rstrip(b"\n") + b"\n"
        self._sources.add(source)
        return []

    def start(self, flow: int, facts: TlsFacts) -> None:
        """A TLS connection begins."""
        self._held[flow], self._facts[flow] = [], facts

    def push(self, flow: int, record: Record) -> list[Decrypted]:
        """Hold the record for the next pass."""
        held = self._held.get(flow)
        if held is None:
            return []
        held.append(record)
        self._held_bytes += _cost(record)
        if self._held_bytes > self._limits.tls_spool_bytes:
            opened = self._run() if self._ended else []
            if self._held_bytes > self._limits.tls_spool_bytes and flow in self._held:
                self._give_up(flow)
            return opened
        return []

    def gap(self, flow: int, side: Side, length: int) -> None:
        """Nothing to do: the scratch capture has no gaps, and tshark opens nothing more in that direction."""

    def end(self, flow: int) -> list[Decrypted]:
        """The connection closed: it goes into the next pass."""
        if flow in self._held:
            self._ended.append(flow)
        return self._run() if len(self._ended) >= _PASS_FLOWS else []

    def pending(self, flow: int) -> bool:
        """Whether the pass that holds the flow is still to come."""
        return flow in self._held

    def flush(self) -> list[Decrypted]:
        """The capture ended: everything that is held goes into a last pass."""
        self._ended = list(self._held)
        return self._run() if self._ended else []

    def verdict(self, flow: int) -> Verdict:
        """Whether tshark opened anything of the flow, which is forgotten: nobody waits for what is still held of it."""
        if flow in self._held:
            self._drop(flow)
            if flow in self._ended:
                self._ended.remove(flow)
        self._done.pop(flow, None)
        opened = self._opened.pop(flow, 0) > 0
        facts = self._facts.pop(flow, None)
        secret = self._secret_of(facts) if opened else None
        if flow in self._given_up:
            self._given_up.remove(flow)
            return Verdict(opened, secret, "tshark", detail="more TLS than may be held for tshark")
        closed = self._closed.pop(flow, "")
        return Verdict(opened, secret, "tshark", reason="partial" if closed else None, detail=closed)

    def _secret_of(self, facts: TlsFacts | None) -> str:
        """tshark does not tell what it used: what can have opened such a connection."""
        if facts is not None and "_WITH_NULL_" in (facts.cipher_suite or ""):
            return UNSEALED
        by_key = facts is None or (facts.version != "TLS 1.3" and key_exchange(facts.cipher_suite) == "RSA")
        if self._rsa_keys and (by_key or not self._sources):
            return "rsa-key"
        return "dsb" if self._sources == {"dsb"} else "keylog"

    def take_done(self) -> list[int]:
        """Flows that nothing more will be given of, since the last call."""
        done, self._done = list(self._done), {}
        return done

    def _drop(self, flow: int) -> None:
        self._held_bytes -= sum(map(_cost, self._held.pop(flow)))

    def _give_up(self, flow: int) -> None:
        self._drop(flow)
        self._given_up.add(flow)
        self._done[flow] = None

    def _run(self) -> list[Decrypted]:
        flows, self._ended = self._ended, []
        held = [(flow, self._held.pop(flow)) for flow in flows]
        self._held_bytes -= sum(_cost(record) for _, records in held for record in records)
        self._done.update(dict.fromkeys(flows))
        if not self._rsa_keys and not self._keylog:
            return []
        opened: list[Decrypted] = []
        seen: set[int] = set()
        with tempfile.TemporaryFile() as file:
            os.fchmod(file.fileno(), 0o444)
            scratch = ScratchCapture(file)
            where = {number: (flow, record) for flow, records in held for number, record in scratch.add(records)}
            file.flush()
            for number, data in self._plaintexts(file.fileno()):
                flow, record = where[number]
                self._opened[flow] = self._opened.get(flow, 0) + 1
                opened.append(opened_by(flow, record, APPLICATION_DATA, data))
                seen.add(number)
            self._check({number: place for number, place in where.items() if number not in seen})
        opened.sort(key=lambda record: record.at.ts_ns)
        return opened

    def _check(self, closed: dict[int, tuple[int, Record]]) -> None:
        """tshark is silent about what it cannot open (after a gap, say): note the records that should have opened.

        Only where the outside tells that a record holds mail and not a handshake or nothing: TLS 1.2 with AEAD.
        """
        left: dict[int, int] = {}
        for flow, record in closed.values():
            facts = self._facts.get(flow)
            sealed = facts is not None and facts.version == "TLS 1.2" and _AEAD.search(facts.cipher_suite or "")
            if sealed and record.content_type == APPLICATION_DATA and len(record.payload) > _AEAD_OVERHEAD:
                left[flow] = left.get(flow, 0) + 1
        for flow, records in left.items():
            if flow in self._opened:
                self._closed[flow] = f"tshark left {records} of {records + self._opened[flow]} records closed"

    def _plaintexts(self, scratch: int) -> Iterator[tuple[int, bytes]]:
        """Run the worker over the scratch capture; ``(packet number, plaintext)`` as they come."""
        preferences = ["tcp.check_checksum:FALSE", "tcp.desegment_tcp_streams:TRUE"]
        files = [scratch]
        try:
            for key in self._rsa_keys:
                files.append(_memory_file(key))
                preferences.append(f'uat:rsa_keys:"/proc/{{pid}}/fd/{files[-1]}",""')
            if self._keylog:
                files.append(_memory_file(bytes(self._keylog)))
                preferences.append(f"tls.keylog_file:/proc/{{pid}}/fd/{files[-1]}")
            yield from self._work(files, preferences)
        finally:
            for file in files[1:]:
                os.close(file)

    def _work(self, files: list[int], preferences: list[str]) -> Iterator[tuple[int, bytes]]:
        job = {
            "tshark": self._tshark.path,
            "port": SERVER_PORT,
            "capture": f"/proc/{{pid}}/fd/{files[0]}",
            "preferences": preferences,
            "cpu_s": _CPU_SECONDS,
            "memory": _MEMORY,
        }
        yield from run_worker(job, files, _environment(), self.problems, self._patience_s)


def _cost(record: Record) -> int:
    return len(record.payload) + _OVERHEAD


def _environment() -> dict[str, str]:
    """No profile, no plugins, no preferences of the user's: ``HOME`` is the one switch that stops all of them."""
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": "/nonexistent", "LC_ALL": "C"}


def _memory_file(data: bytes) -> int:
    file = os.memfd_create("smtpdebug")
    os.write(file, data)
    return file
