"""A large capture read by several processes, each following its share of the connections.

Every process reads and decodes the whole capture, which is a small part of the work, and keeps those connections whose
addresses and ports fall to it. Each writes its conversations, rendered, in order of first packet; the parent merges
them by that order. So the output is byte for byte that of one process.

Judged conversations are compared with earlier ones, which the parent does: it is given a sighting of each (``judged``).

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

from smtpdebug.api import STRAY
from smtpdebug.cli.options import ReadOptions
from smtpdebug.cli.run import Run, Summary
from smtpdebug.errors import SmtpDebugError
from smtpdebug.model.smtp import Conversation
from smtpdebug.rules.sighting import Sighting

WORTH_IT = 24 << 20
"""Octets of captures below which a second process costs more than it saves."""
_MOST = 8
_PIPE_BYTES = 1 << 20
_SIZE = struct.Struct("!I")

Key: TypeAlias = tuple[int, str, int]
_Frame: TypeAlias = tuple[Key, bytes | None, Sighting | None]
"""Its place, what was rendered (``None``: the user did not choose it), and what to compare of it."""
Render: TypeAlias = Callable[[Conversation], bytes]
Look: TypeAlias = Callable[[Conversation], Sighting]


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
        look: judges each conversation alone and gives its sighting.
    """

    def __init__(self, options: ReadOptions, count: int, render: Render, look: Look | None = None) -> None:
        self._summaries: list[Summary] = []
        self._children: dict[int, BinaryIO] = {}
        self.interrupted = False
        for number in range(count):
            self._start(options, (number, count), render, look)

    def _start(self, options: ReadOptions, shard: tuple[int, int], render: Render, look: Look | None) -> None:
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
            _work(options, shard, render, look, writing)
            status = 0
        os._exit(status)

    def pieces(self) -> Iterator[bytes]:
        """What was rendered, in order of the conversations' first packets.

        Raises:
            SmtpDebugError: a process failed; what came before was given.
        """
        for _, piece, _ in self._merged():
            if piece is not None:
                yield piece

    def judged(self) -> Iterator[tuple[bytes | None, Sighting]]:
        """The same with the sightings (``look``), also of those that were not chosen, which have no piece.

        Raises:
            SmtpDebugError: as for :meth:`pieces`.
        """
        for _, piece, sighting in self._merged():
            if sighting is not None:
                yield piece, sighting

    def _merged(self) -> Iterator[_Frame]:
        before = signal.signal(signal.SIGINT, self._interrupted)
        try:
            frames = [self._frames(child, pipe) for child, pipe in self._children.items()]
            yield from heapq.merge(*frames, key=itemgetter(0))
        finally:
            signal.signal(signal.SIGINT, before)
            self._end()

    def _interrupted(self, number: int, frame: object) -> None:
        # The terminal interrupts the children too: they stop reading, and give what they have.
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True

    def _frames(self, child: int, pipe: BinaryIO) -> Iterator[_Frame]:
        decode = msgspec.msgpack.Decoder(tuple[Key, bytes | None, Sighting | None]).decode
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
        every = self._summaries
        # Each process reads every packet, and finds strays among its own connections only.
        strays = sum(one.skipped.get(STRAY, 0) for one in every)
        skipped = {**every[0].skipped, STRAY: strays} if strays else every[0].skipped
        return msgspec.structs.replace(
            every[0],
            skipped=skipped,
            conversations=sum(one.conversations for one in every),
            shown=sum(one.shown for one in every),
            notes=list(dict.fromkeys(note for one in every for note in one.notes)),
            interrupted=any(one.interrupted for one in every),
        )


def _work(options: ReadOptions, shard: tuple[int, int], render: Render, look: Look | None, writing: int) -> None:
    """A process: read, render its share, say how it went."""
    with os.fdopen(writing, "wb", buffering=_PIPE_BYTES) as pipe:
        try:
            looker = None if look is None else _Looker(look)
            run = Run(_quiet(options, shard), judge=looker, shard=shard)
            encode = msgspec.msgpack.Encoder().encode
            for said in _said(run, render, looker):
                frame = encode(said)
                pipe.write(_SIZE.pack(len(frame)))
                pipe.write(frame)
            last = _Last(run.summary())
        except BrokenPipeError:
            raise
        except Exception as error:  # goes to the parent, which tells the user
            last = _Last(None, str(error) if isinstance(error, SmtpDebugError) else repr(error))
        pipe.write(_SIZE.pack(0))
        pipe.write(msgspec.msgpack.encode(last))


class _Looker:
    """The ``Judge`` of a process: looks at each conversation alone, chosen or not; keeps what it saw until taken."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self.seen: list[tuple[Key, Sighting]] = []

    def judge(self, conversation: Conversation) -> None:
        self.seen.append((_key(conversation), self._look(conversation)))


def _said(run: Run, render: Render, looker: _Looker | None) -> Iterator[_Frame]:
    for conversation in run:
        if looker is None:
            yield _key(conversation), render(conversation), None
            continue
        *others, (key, sighting) = looker.seen
        looker.seen.clear()
        for its_key, its_sighting in others:
            yield its_key, None, its_sighting
        yield key, render(conversation), sighting
    if looker is not None:
        for key, sighting in looker.seen:
            yield key, None, sighting


def _key(conversation: Conversation) -> Key:
    opened = conversation.stream.opened
    return opened.ts_ns, opened.capture, opened.frame


def _quiet(options: ReadOptions, shard: tuple[int, int]) -> ReadOptions:
    """One process shows the progress for all."""
    return options if shard[0] == 0 and sys.stderr.isatty() else msgspec.structs.replace(options, quiet=True)
