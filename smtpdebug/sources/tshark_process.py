"""The worker process (``sources.tshark_worker``) from outside: started, watched, read, and never left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import IO, Final

import msgspec

PATIENCE_S: Final = 300.0
"""Seconds without a frame after which tshark is taken to hang. A pass is bounded by the octets held for it, and takes
seconds; but it says nothing of flows that it cannot open, and the disk or the machine may be slow."""
_LAST_WORDS: Final = 4096
"""Octets read of the end of what the worker wrote to standard error."""
_PACKAGE_ROOT = str(Path(__file__).parents[2])


class _Watchdog(threading.Thread):
    """Ends a process group that says nothing for too long."""

    def __init__(self, leader: int, patience_s: float) -> None:
        super().__init__(name="smtpdebug-tshark-watchdog", daemon=True)
        self._leader, self._patience_s = leader, patience_s
        self._heard = time.monotonic()
        self._over = threading.Event()
        self.fired = False

    def heard(self) -> None:
        """It said something."""
        self._heard = time.monotonic()

    def stop(self) -> None:
        """It need not be watched any more."""
        self._over.set()
        self.join()

    def run(self) -> None:
        while not self._over.wait(max(0.0, self._heard + self._patience_s - time.monotonic())):
            if time.monotonic() >= self._heard + self._patience_s:
                self.fired = True
                end_group(self._leader)
                return


def end_group(leader: int) -> None:
    """Kill a process group: the worker would leave its tshark behind."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def run_worker(
    job: Mapping[str, object],
    files: Sequence[int],
    environment: Mapping[str, str],
    problems: list[str],
    patience_s: float = PATIENCE_S,
) -> Generator[tuple[int, bytes], None, None]:
    """Run the worker; gives ``(packet number, plaintext)`` as they come.

    Args:
        job: what the worker is to do; ``{pid}`` in it stands for the worker's process id.
        files: descriptors that it may use.
        environment: all of it but for the way to this package.
        problems: gets a sentence for each thing that went wrong.
        patience_s: seconds without a frame after which it is ended.
    """
    # Standard error goes to a file: a pipe that nobody reads yet would fill and stop it.
    with tempfile.TemporaryFile() as complaints:
        worker = subprocess.Popen(
            [sys.executable, "-P", "-m", "smtpdebug.sources.tshark_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            pass_fds=files,
            cwd="/",
            env={**environment, "PYTHONPATH": _PACKAGE_ROOT},
            process_group=0,
        )
        watchdog = _Watchdog(worker.pid, patience_s)
        watchdog.start()
        whole = False
        try:
            assert worker.stdin is not None
            assert worker.stdout is not None
            with contextlib.suppress(BrokenPipeError):  # it is gone already: its exit code says so below
                worker.stdin.write(msgspec.json.encode(job).replace(b"{pid}", str(worker.pid).encode()))
                worker.stdin.close()
            whole = yield from _frames(worker.stdout, watchdog, problems)
            # Wait for its end, but leave its id taken until nothing is to be killed by that id any more.
            os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
        finally:
            watchdog.stop()
            end_group(worker.pid)
            worker.wait()
            for pipe in (worker.stdin, worker.stdout):
                with contextlib.suppress(BrokenPipeError):
                    if pipe is not None:
                        pipe.close()
        if not whole:
            problems.append(_what_happened(worker, watchdog, complaints, patience_s))


def _frames(pipe: IO[bytes], watchdog: _Watchdog, problems: list[str]) -> Generator[tuple[int, bytes], None, bool]:
    """Frames up to the empty one; the generator's value is whether that one came."""
    decode = msgspec.msgpack.Decoder(tuple[int, bytes]).decode
    while True:
        header = pipe.read(4)
        size = int.from_bytes(header, "big")
        if len(header) == 4 and not size:
            return True
        frame = pipe.read(size)
        if len(header) < 4 or len(frame) < size:
            return False  # it was ended in the middle: out of memory, or out of its limits
        watchdog.heard()
        number, data = decode(frame)
        if number:
            yield number, data
        else:
            problems.append(f"tshark: {data.decode(errors='replace')}")


def _what_happened(
    worker: subprocess.Popen[bytes], watchdog: _Watchdog, complaints: IO[bytes], patience_s: float
) -> str:
    if watchdog.fired:
        return (
            f"tshark gave nothing for {patience_s:g} seconds and was ended; what it did not open stays closed, "
            "unless --decrypt-with native opens it"
        )
    complaints.seek(max(0, complaints.seek(0, os.SEEK_END) - _LAST_WORDS))
    lines = complaints.read().decode(errors="replace").strip().splitlines()
    return f"tshark could not be run for decryption: {lines[-1] if lines else f'exit code {worker.returncode}'}"
