"""A large capture read by several processes, each following its share of the connections.

Every process reads and decodes the whole capture, which is a small part of the work, and keeps those connections whose
addresses and ports fall to it. Each writes its conversations, rendered, in order of first packet; the parent merges
them by that order. So the output is byte for byte that of one process.

Only where no conversation depends on another: not with keys (a resumed TLS connection needs the secrets of an earlier
one), not for a pipe (which can be read once).
"""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import os
import signal
import struct
import sys
from collections.abc import Callable, Iterator
from operator import itemgetter
from pathlib import Path
from typing import BinaryIO, TypeAlias

import msgspec

from smtpdebug.cli.options import ReadOptions
from smtpdebug.cli.run import Run, Summary
from smtpdebug.errors import SmtpDebugError
from smtpdebug.model.smtp import Conversation

WORTH_IT = 24 << 20
"""Octets of captures below which a second process costs more than it saves."""
_MOST = 8
_PIPE_BYTES = 1 << 20
_SIZE = struct.Struct("!I")

Key: TypeAlias = tuple[int, str, int]
_Frame: TypeAlias = tuple[Key, bytes]
Render: TypeAlias = Callable[[Conversation], bytes]


class _Last(msgspec.Struct):
    """The last frame of a process: what it has to say, or what went wrong."""

    summary: Summary | None
    fault: str = ""


def processes(options: ReadOptions) -> int:
    """How many processes to read with: 1 where more do not pay, or would not give the same."""
    if "-" in options.captures or options.rsa_keys or options.keylogs or options.verify_decryption:
        return 1
    if options.jobs is not None:
        return options.jobs
    size = sum(_size(Path(name)) for name in options.captures)
    return min(len(os.sched_getaffinity(0)), _MOST) if size >= WORTH_IT else 1


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):
        if path.is_dir():
            return sum(entry.stat().st_size for entry in path.iterdir() if entry.is_file())
        return path.stat().st_size
    return 0


class Shards:
    """The processes of one run.

    Args:
        options: of the verb.
        count: from :func:`processes`.
        render: what to write for one conversation; called in the process that read it.
    """

    def __init__(self, options: ReadOptions, count: int, render: Render) -> None:
        self._summaries: list[Summary] = []
        self._children: dict[int, BinaryIO] = {}
        self.interrupted = False
        for number in range(count):
            self._start(options, (number, count), render)

    def _start(self, options: ReadOptions, shard: tuple[int, int], render: Render) -> None:
        reading, writing = os.pipe()
        with contextlib.suppress(OSError):  # more than the system allows: what there is will do
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        child = os.fork()
        if child:
            os.close(writing)
            self._children[child] = os.fdopen(reading, "rb", buffering=_PIPE_BYTES)
            return
        os.close(reading)
        status = 1
        with contextlib.suppress(BaseException):
            _work(options, shard, render, writing)
            status = 0
        os._exit(status)

    def pieces(self) -> Iterator[bytes]:
        """What was rendered, in order of the conversations' first packets.

        Raises:
            SmtpDebugError: a process failed; what came before was given.
        """
        before = signal.signal(signal.SIGINT, self._interrupted)
        try:
            frames = [self._frames(child, pipe) for child, pipe in self._children.items()]
            for _, piece in heapq.merge(*frames, key=itemgetter(0)):
                yield piece
        finally:
            signal.signal(signal.SIGINT, before)
            self._end()

    def _interrupted(self, number: int, frame: object) -> None:
        # The terminal interrupts the children too: they stop reading, and give what they have.
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True

    def _frames(self, child: int, pipe: BinaryIO) -> Iterator[_Frame]:
        decode = msgspec.msgpack.Decoder(tuple[Key, bytes]).decode
        while True:
            head = pipe.read(_SIZE.size)
            if len(head) < _SIZE.size:
                raise SmtpDebugError(f"a reading process ({child}) ended early: out of memory? Try --jobs 1")
            size = _SIZE.unpack(head)[0]
            if not size:
                break
            yield decode(pipe.read(size))
        last = msgspec.msgpack.decode(pipe.read(), type=_Last)
        if last.summary is None:
            raise SmtpDebugError(last.fault)
        self._summaries.append(last.summary)

    def _end(self) -> None:
        for child, pipe in self._children.items():
            pipe.close()
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child, 0)
        self._children.clear()

    def summary(self) -> Summary:
        """All processes together: they read the same packets, and different conversations."""
        first, *others = self._summaries
        for other in others:
            first.conversations += other.conversations
            first.shown += other.shown
            first.notes += [note for note in other.notes if note not in first.notes]
        first.interrupted = any(one.interrupted for one in self._summaries)
        return first


def _work(options: ReadOptions, shard: tuple[int, int], render: Render, writing: int) -> None:
    """A process: read, render its share, say how it went."""
    with os.fdopen(writing, "wb", buffering=_PIPE_BYTES) as pipe:
        try:
            run = Run(_quiet(options, shard), shard=shard)
            encode = msgspec.msgpack.Encoder().encode
            for conversation in run:
                opened = conversation.stream.opened
                frame = encode(((opened.ts_ns, opened.capture, opened.frame), render(conversation)))
                pipe.write(_SIZE.pack(len(frame)))
                pipe.write(frame)
            last = _Last(run.summary())
        except BrokenPipeError:
            raise
        except Exception as error:  # goes to the parent, which tells the user
            last = _Last(None, str(error) if isinstance(error, SmtpDebugError) else repr(error))
        pipe.write(_SIZE.pack(0))
        pipe.write(msgspec.msgpack.encode(last))


def _quiet(options: ReadOptions, shard: tuple[int, int]) -> ReadOptions:
    """One process shows the progress for all."""
    return options if shard[0] == 0 and sys.stderr.isatty() else msgspec.structs.replace(options, quiet=True)
