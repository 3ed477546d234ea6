"""Two hosts on one machine: network namespaces joined by a veth pair, or by a relay that loses and reorders.

Addresses are those of RFC 5737 and RFC 3849: the client is 192.0.2.7 and 2001:db8::7, the server 192.0.2.25 and
2001:db8::25. Needs root and iproute2. Everything made here is taken away again.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

HERE = Path(__file__).resolve().parent
CLIENT4, SERVER4 = "192.0.2.7", "192.0.2.25"
CLIENT6, SERVER6 = "2001:db8::7", "2001:db8::25"
_SIOCETHTOOL = 0x8946
_OFFLOADS = {"tx checksum": 0x17, "tso": 0x1F, "gso": 0x24}


def ip(*words: str) -> None:
    """Run ip(8)."""
    subprocess.run(["ip", *words], check=True)


def without_offload(interface: str) -> None:
    """Make an interface send whole, checksummed segments of the MTU's size: a relay in user space needs them so."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for command in _OFFLOADS.values():
            value = ctypes.create_string_buffer(struct.pack("II", command, 0))
            request = struct.pack("16sP", interface.encode(), ctypes.addressof(value))
            fcntl.ioctl(control, _SIOCETHTOOL, request)


class Network:
    """The two hosts. ``relay`` are arguments of ``relay.py``; without them the hosts are joined directly."""

    def __init__(self, relay: tuple[str, ...] = ()) -> None:
        tag = f"sdl{os.getpid() % 100000}"
        self.client, self.server, self.middle = f"{tag}c", f"{tag}s", f"{tag}m"
        self._relay_arguments = relay
        self._processes: list[subprocess.Popen[bytes]] = []
        self._endings: list[Callable[[], object]] = []

    def at_end(self, ending: Callable[[], object]) -> None:
        """Have something done when nothing runs any more; the last first."""
        self._endings.append(ending)

    def __enter__(self) -> Network:
        self._spaces = [self.client, self.server] + ([self.middle] if self._relay_arguments else [])
        for space in self._spaces:
            ip("netns", "add", space)
            ip("-n", space, "link", "set", "lo", "up")
        if self._relay_arguments:
            self._join_through_relay()
        else:
            ip("link", "add", self.client, "type", "veth", "peer", "name", self.server)
        self._address(self.client, CLIENT4, CLIENT6)
        self._address(self.server, SERVER4, SERVER6)
        if self._relay_arguments:
            relay = [sys.executable, str(HERE / "relay.py"), "c0", "s0", *self._relay_arguments]
            self.start(self.middle, relay)
        time.sleep(0.3)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in reversed(self._processes):
            stop(process)
        for space in self._spaces:
            self._stop_all_in(space)
        for ending in reversed(self._endings):
            ending()
        for space in self._spaces:
            ip("netns", "del", space)

    @staticmethod
    def _stop_all_in(space: str) -> None:
        """End what still runs on a host: Postfix's master is no child of ours. The host is ours alone."""
        for how in (signal.SIGTERM, signal.SIGKILL):
            for _ in range(30):
                found = subprocess.run(["ip", "netns", "pids", space], capture_output=True, text=True).stdout.split()
                if not found:
                    return
                for pid in found:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(pid), how)
                time.sleep(0.1)

    def start(self, space: str, command: list[str], **options: object) -> subprocess.Popen[bytes]:
        """Start a command on one of the hosts; it is stopped with the network."""
        process = subprocess.Popen(["ip", "netns", "exec", space, *command], **options)  # type: ignore[call-overload]
        self._processes.append(process)
        return process

    def run(self, space: str, command: list[str], output: Path, *, stdin: bytes = b"", timeout: float = 60) -> int:
        """Run a command on one of the hosts, its output added to a file; return its exit code."""
        with output.open("ab") as log:
            whole = ["ip", "netns", "exec", space, *command]
            return subprocess.run(whole, input=stdin, stdout=log, stderr=subprocess.STDOUT, timeout=timeout).returncode

    def wait_for_port(self, port: int) -> None:
        """Wait until the server listens, without connecting: the capture must not show us."""
        for _ in range(100):
            listening = subprocess.run(
                ["ip", "netns", "exec", self.server, "ss", "-Hltn", f"sport = :{port}"], capture_output=True
            ).stdout
            if listening.strip():
                return
            time.sleep(0.1)
        raise RuntimeError(f"nothing listens on port {port}")

    def _address(self, space: str, address4: str, address6: str) -> None:
        if not self._relay_arguments:
            ip("link", "set", space, "netns", space)
        ip("-n", space, "link", "set", space, "name", "eth0")
        ip("-n", space, "addr", "add", f"{address4}/24", "dev", "eth0")
        ip("-n", space, "addr", "add", f"{address6}/64", "dev", "eth0", "nodad")
        ip("-n", space, "link", "set", "eth0", "up")

    def _join_through_relay(self) -> None:
        for space, end in ((self.client, "c0"), (self.server, "s0")):
            other = f"{space}x"
            ip("link", "add", space, "type", "veth", "peer", "name", other)
            without_offload(space)
            ip("link", "set", space, "netns", space)
            ip("link", "set", other, "netns", self.middle)
            ip("-n", self.middle, "link", "set", other, "name", end)
            ip("-n", self.middle, "link", "set", end, "up")


class Tcpdump:
    """tcpdump on one of the hosts, for as long as the ``with`` block lasts."""

    def __init__(self, network: Network, space: str, arguments: list[str], log: Path) -> None:
        # In immediate mode each packet takes a slot of the snap length; the default buffer has room for eight.
        self._command = ["tcpdump", "-n", "-U", "--immediate-mode", "-B", "65536", "-Z", "root", *arguments]
        self._network, self._space, self._log = network, space, log

    def __enter__(self) -> Tcpdump:
        with self._log.open("wb") as log:
            self._process = self._network.start(self._space, self._command, stderr=log, stdout=subprocess.DEVNULL)
        for _ in range(50):
            if b"listening on" in self._log.read_bytes():
                return self
            time.sleep(0.1)
        raise RuntimeError(f"tcpdump did not start: {self._log.read_text()}")

    def __exit__(self, *_: object) -> None:
        time.sleep(0.4)  # the last ACK
        stop(self._process, signal.SIGINT)
        if "\n0 packets dropped by kernel" not in self._log.read_text():
            raise RuntimeError(f"tcpdump lost packets: {self._log.read_text()}")


def stop(process: subprocess.Popen[bytes], how: signal.Signals = signal.SIGTERM) -> None:
    """End a process that we started, and wait for it."""
    if process.poll() is None:
        process.send_signal(how)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
