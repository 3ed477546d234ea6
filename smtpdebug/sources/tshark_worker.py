"""Runs tshark through pyshark in a process of its own; ``sources.tshark`` starts it and reads what it writes.

A process of its own because pyshark wants an event loop (there may be one running: Jupyter, pytest-asyncio), reads
``config.ini`` in the current folder when imported and runs the binary named there, and cannot give tshark another
environment or user. The parent starts this one in ``/`` with a clean environment; here the root's rights are dropped
once everything is imported. Standard input: one JSON job. Standard output: msgpack frames, each after its length.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import pwd
import resource
import subprocess
import sys
import warnings
from typing import Any

import msgspec

_PR_SET_DUMPABLE = 4
_QUIET = ("smtp", "http", "http2", "fix", "imf", "pop", "imap")
"""Protocols that must not claim the plaintext, so that it comes out as plain ``data``."""


def main() -> None:
    """Read the job, run tshark, write ``[packet number, plaintext]`` frames; an empty frame ends them."""
    job: dict[str, Any] = json.load(sys.stdin)
    warnings.simplefilter("ignore")
    capture = _prepare(job)
    write = sys.stdout.buffer.write
    encode = msgspec.msgpack.encode
    try:
        for packet in capture:
            plain = _plaintext(packet)
            if plain:
                frame = encode([int(packet.number), plain])
                write(len(frame).to_bytes(4, "big"))
                write(frame)
    except Exception as error:  # pyshark raises whatever tshark's end makes it think; what came before is good
        frame = encode([0, str(error).encode()])
        write(len(frame).to_bytes(4, "big") + frame)
    write(b"\0\0\0\0")
    sys.stdout.buffer.flush()
    # pyshark's own clean-up races with tshark's end (it kills what is about to exit, or reports a crash): the parent
    # reads the frames and the empty last one, and needs nothing more from here.
    os._exit(0)


def _prepare(job: dict[str, Any]) -> Any:
    """A pyshark capture whose tshark will run without rights, profile, plugins, or unbounded time and memory."""
    import pyshark
    from pyshark.tshark import tshark as pyshark_tshark
    from pyshark.tshark.output_parser import tshark_ek

    # The program is the one the parent found. pyshark would look into its config.ini, which names a program to run, and
    # which cannot be read without rights where the package lies in root's home.
    pyshark_tshark.get_config = lambda: None

    class Capture(pyshark.FileCapture):  # type: ignore[misc]  # pyshark is untyped
        def _setup_tshark_output_parser(self) -> Any:
            # The stock one runs `tshark -G elastic-mapping` (a second) to type fields that are not read here.
            return tshark_ek.TsharkEkJsonParser()

    # Once with rights, so that whatever asyncio imports late is imported: the interpreter may not be readable after.
    subprocess.run([job["tshark"], "-v"], capture_output=True, check=False)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.run_until_complete(_warm_up(job["tshark"]))
    resource.setrlimit(resource.RLIMIT_CPU, (job["cpu_s"], job["cpu_s"]))
    resource.setrlimit(resource.RLIMIT_AS, (job["memory"], job["memory"]))
    if os.getuid() == 0:
        _drop_rights()
    parameters = ["-n", "-J", "frame data", "-d", f"tcp.port=={job['port']},tls"]
    for preference in job["preferences"]:
        parameters += ["-o", preference]
    for protocol in _QUIET:
        parameters += ["--disable-protocol", protocol]
    if job.get("export"):
        parameters += ["--export-tls-session-keys", job["export"]]
    return Capture(
        job["capture"],
        use_ek=True,
        keep_packets=False,
        tshark_path=job["tshark"],
        display_filter="data",
        eventloop=loop,
        custom_parameters=parameters,
    )


async def _warm_up(tshark: str) -> None:
    process = await asyncio.create_subprocess_exec(tshark, "-v", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    await process.wait()


def _drop_rights() -> None:
    nobody = pwd.getpwnam("nobody")
    os.setgroups([])
    os.setgid(nobody.pw_gid)
    os.setuid(nobody.pw_uid)
    # Dropping rights closes /proc/<pid>/fd to tshark, through which it reads the key; this opens it again.
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)


def _plaintext(packet: Any) -> bytes:
    """Octets of the packet's ``data`` layer; several layers in a packet come as a list."""
    layer = next((layer for layer in packet.layers if layer.layer_name == "data"), None)
    if layer is None:
        return b""
    fields = layer._fields_dict
    found = fields.get("data_data_data", "") if isinstance(fields, dict) else [f["data_data_data"] for f in fields]
    parts = found if isinstance(found, list) else [found]
    return b"".join(bytes.fromhex(part.replace(":", "")) for part in parts)


if __name__ == "__main__":
    main()
