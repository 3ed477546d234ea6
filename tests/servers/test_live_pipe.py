"""`tcpdump -w - | smtpdebug show -` while a real client talks to a real server: the transcript must not wait."""

from __future__ import annotations

import os
import selectors
import shutil
import signal
import smtplib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(os.geteuid() != 0, reason="tcpdump needs root to capture"),
    pytest.mark.skipif(shutil.which("tcpdump") is None, reason="tcpdump is not installed"),
]

SMTPDEBUG = str(Path(sys.executable).with_name("smtpdebug"))
MAIL = "Subject: live\r\n\r\nOne line.\r\n"


class Handler:
    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        return "250 2.0.0 accepted alive"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def server() -> Iterator[int]:
    port = free_port()
    controller = Controller(Handler(), hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield port
    finally:
        controller.stop()


@contextmanager
def started(command: list[str], **options: int) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, stdin=options.get("stdin"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def read_until(process: subprocess.Popen[bytes], words: bytes, seconds: float, stream: str = "stdout") -> bytes:
    """What a process has written once ``words`` are in it, or all that came in that time."""
    pipe = getattr(process, stream)
    text = b""
    deadline = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while words not in text and (left := deadline - time.monotonic()) > 0:
            if selector.select(left):
                piece = os.read(pipe.fileno(), 65536)
                if not piece:
                    break
                text += piece
    return text


def test_the_transcript_is_there_while_the_capture_still_runs() -> None:
    with server() as port:
        # Not --immediate-mode: with -i any its buffer has room for eight packets at tcpdump's default snap length.
        tcpdump = ["tcpdump", "-i", "any", "-n", "-U", "-Z", "root", "-w", "-", f"tcp port {port}"]
        with started(tcpdump) as capture:
            assert capture.stdout is not None
            assert b"listening on" in read_until(capture, b"listening on", 10, "stderr")
            with started([SMTPDEBUG, "show", "-"], stdin=capture.stdout.fileno()) as shown:
                with smtplib.SMTP("127.0.0.1", port, local_hostname="client.example.net", timeout=10) as client:
                    client.sendmail("sender@example.net", ["alice@example.org", "bob@example.org"], MAIL)
                text = read_until(shown, b"S  221", 15)
                assert capture.poll() is None, "tcpdump must still run: this is about not waiting for the end"
                capture.send_signal(signal.SIGINT)
                assert b"\n0 packets dropped by kernel" in read_until(capture, b"dropped by kernel", 10, "stderr")
                rest, errors = shown.communicate(timeout=15)
                status = shown.returncode
    said = [
        b"EHLO client.example.net",
        b"MAIL FROM:<sender@example.net>",
        b"RCPT TO:<alice@example.org>",
        b"RCPT TO:<bob@example.org>",
        b"C  DATA",
        b"S  354",
        b"250 2.0.0 accepted alive",
        b"C  QUIT",
        b"S  221",
    ]
    at = [text.upper().find(words.upper()) for words in said]
    assert -1 not in at, text.decode()
    assert at == sorted(at), "the lines are in the order in which they were said"
    assert b"Traceback" not in errors + rest
    assert status in (0, 1), errors.decode()
