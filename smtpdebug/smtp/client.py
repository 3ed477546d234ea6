"""The client's bytes: command lines, mail data, BDAT chunks, and where TLS begins.

What the bytes after DATA, AUTH and STARTTLS are hangs on the reply. Until it is known they wait in ``queue``.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import Final

from smtpdebug.model.smtp import (
    AFTER_GAP,
    AUTH_ANSWER,
    BARE_LF,
    END_OF_DATA,
    OVERLONG,
    UNTERMINATED,
    Command,
    Exchange,
    Injected,
    MailData,
    ProxyPreface,
    Reply,
    TimelineItem,
)
from smtpdebug.model.streams import CLIENT, Chunk, Gap, Limits, Location
from smtpdebug.smtp.bdat import ChunkReader
from smtpdebug.smtp.grammar import (
    FOOT,
    TLS_HELLO,
    TLS_RECORD,
    VERBS,
    chunk_size,
    command_parts,
    line_oddities,
    usual_command,
)
from smtpdebug.smtp.maildata import Candidate, DataReader
from smtpdebug.smtp.pairing import Pairing, Pending
from smtpdebug.smtp.proxy import preface_length, read_preface
from smtpdebug.smtp.retake import Retake
from smtpdebug.smtp.starttls import find_hello

PREFACE, LINES, MAIL, CHUNK, WAIT, HELLO, TLS = range(7)
"""What the next bytes are: perhaps a PROXY preface; command lines; mail data; octets of a BDAT chunk; unknown until a
reply comes; a ClientHello, STARTTLS being agreed; TLS."""

HOLD_BYTES: Final = 256 << 10
"""Octets that wait for a reply; beyond, what they are is decided by their looks."""
_USUAL: Final = 80
"""Octets of a command line for which it pays to remember what it says."""
_GATES: Final = {"DATA": "DATA", "AUTH": "AUTH", "X-EXPS": "AUTH", "STARTTLS": "STARTTLS"}
_RESTARTS: Final = frozenset(("MAIL", "RSET", "EHLO", "HELO", "LHLO", "DATA", "XCLIENT"))


def cut(chunk: Chunk, pos: int) -> Chunk:
    """The rest of a chunk from ``pos`` on."""
    if pos <= 0:
        return chunk
    return Chunk(
        chunk.stream,
        chunk.side,
        chunk.offset + pos,
        chunk.data[pos:],
        chunk.began,
        chunk.at,
        chunk.acked,
        chunk.encrypted,
    )


class ClientLexer:
    """Turns the client's bytes into commands for the pairing and items for the timeline.

    Args:
        limits: budgets.
        pairing: told of each command.
        timeline: commands and mail data are appended.
        lost: the first bytes may be anything (conversation joined in its middle).
    """

    __slots__ = (
        "_auth", "_bdat", "_began", "_gate", "_held", "_held_acked", "_held_length", "_held_offset", "_known_220",
        "_limits", "_pairing", "_timeline", "fed", "lmtp", "lost", "mode", "proxy", "queue", "queued", "reader",
        "retake", "tls_items", "tls_mode", "tls_offset",
    )  # fmt: skip

    def __init__(
        self, limits: Limits, pairing: Pairing, timeline: list[TimelineItem], *, lmtp: bool, lost: bool
    ) -> None:
        self._limits = limits
        self._pairing = pairing
        self._timeline = timeline
        self.lmtp = lmtp
        self.lost = lost
        self.mode = LINES if lost else PREFACE
        self.fed = 0
        self.queue: deque[Chunk] = deque()
        self.queued = 0
        self.reader: DataReader | None = None
        self.proxy: ProxyPreface | None = None
        self.tls_items: list[Chunk | Gap] = []
        self.tls_offset = -1
        self.tls_mode = "implicit"
        self._gate = ""
        self._auth = False
        self._known_220: Reply | None = None
        self._held = bytearray()
        self._held_length = 0
        self._held_offset = 0
        self._held_acked = -1
        self._began: Location | None = None
        self._bdat = ChunkReader(limits)
        self.retake: Retake | None = None

    # -- bytes in

    def feed(self, chunk: Chunk) -> None:
        """Take the next bytes."""
        self.fed = chunk.offset + len(chunk.data)
        if self.mode == LINES and not (self._held_length or self.queue or self.lost or self.retake):
            # The usual case: one whole line.
            data = chunk.data
            end = len(data) - 2
            if data[end:] == b"\r\n" and data.find(b"\n") == end + 1 and 64 < data[0] < 123:
                self._command(
                    data[:end], 0, chunk.began, chunk.at, chunk.offset, self.fed, chunk.acked, chunk.encrypted
                )
                return
        if self.mode == WAIT or self.mode == HELLO or self.queue:
            self.queue.append(chunk)
            self.queued += len(chunk.data)
            if self.mode == HELLO:
                self._look_for_hello()
            if self.queued > HOLD_BYTES and self.mode == WAIT:
                self.guess()
            self.run()
        else:
            self._process(chunk)

    def run(self) -> None:
        """Go on with what waits, as far as it is known what it is."""
        while self.queue and self.mode != WAIT and self.mode != HELLO:
            chunk = self.queue.popleft()
            self.queued -= len(chunk.data)
            self._process(chunk)

    def _process(self, chunk: Chunk) -> None:
        pos, size = 0, len(chunk.data)
        if self.retake is not None and not self.retake.keep(chunk):
            self.let_go()
        while pos < size:
            mode = self.mode
            if mode == LINES:
                pos = self._line(chunk, pos)
            elif mode == MAIL:
                pos = self._mail(chunk, pos)
            elif mode == CHUNK:
                pos = self._octets(chunk, pos)
            elif mode == PREFACE:
                pos = self._preface(chunk, pos)
            elif mode == TLS:
                self.tls_items.append(cut(chunk, pos))
                return
            else:
                rest = cut(chunk, pos)
                self.queue.appendleft(rest)
                self.queued += len(rest.data)
                if mode == HELLO:
                    self._look_for_hello()
                return

    def _preface(self, chunk: Chunk, pos: int) -> int:
        """A PROXY header can only be the very first thing; it may come in pieces."""
        held = bytes(self._held)
        data = held + chunk.data[pos:]
        length = preface_length(data)
        if length is None:
            self._hold(chunk, pos)
            return len(chunk.data)
        self.mode = LINES
        if length:
            self.proxy = read_preface(data[:length], chunk.at)
            self.proxy.at = self._began or chunk.began
            self._pairing.note(self.proxy)
            self._drop_held()
            for entry in self._pairing.pending:
                # The greeting: the server may wait for the preface before it speaks.
                entry.since = -1
            return pos + length - len(held)
        if held:
            # What looked like the beginning of one may hold whole lines.
            began, acked = self._began or chunk.began, self._held_acked
            self._drop_held()
            self._process(Chunk(chunk.stream, CLIENT, self._held_offset, held, began, began, acked, chunk.encrypted))
        return pos

    # -- lines

    def _hold(self, chunk: Chunk, pos: int) -> None:
        if not self._held_length:
            self._began, self._held_offset, self._held_acked = chunk.began, chunk.offset + pos, chunk.acked
        part = chunk.data[pos:]
        room = self._limits.line_bytes - len(self._held)
        if room > 0:
            self._held += part[:room]
        self._held_length += len(part)

    def _drop_held(self) -> None:
        self._held.clear()
        self._held_length = 0

    def _line(self, chunk: Chunk, pos: int) -> int:
        data = chunk.data
        length = self._held_length
        if length < 5 and not chunk.encrypted:
            head = bytes(self._held) + data[pos : pos + 5]
            if head[0] < 24 or head[0] == 128:
                found = self._tls_at_line(chunk, pos, head)
                if found is not None:
                    return found
        end = data.find(b"\n", pos)
        if end < 0:
            self._hold(chunk, pos)
            return len(data)
        oddities, began, offset, acked = 0, chunk.began, chunk.offset + pos, chunk.acked
        if length:
            room = self._limits.line_bytes - len(self._held)
            self._held += data[pos : min(end, pos + max(0, room))]
            line = bytes(self._held)
            if length + end - pos > len(line):
                oddities = OVERLONG
            began, offset, acked = self._began or began, self._held_offset, self._held_acked
            self._drop_held()
        else:
            line = data[pos:end]
        if line[-1:] == b"\r":
            line = line[:-1]
        elif not oddities:
            oddities = BARE_LF
        self._command(line, oddities, began, chunk.at, offset, chunk.offset + end + 1, acked, chunk.encrypted)
        return end + 1

    def _tls_at_line(self, chunk: Chunk, pos: int, head: bytes) -> int | None:
        """A line that begins like a TLS record: TLS it is. ``None`` where it is not."""
        if TLS_RECORD.match(head) or (TLS_HELLO.match(head) and not self.lost):
            self._begin_tls(chunk.offset + pos - self._held_length)
            if self._held_length:
                at = self._began or chunk.began
                self.tls_items.append(
                    Chunk(chunk.stream, CLIENT, self.tls_offset, bytes(self._held), at, at, self._held_acked)
                )
                self._drop_held()
            self.tls_items.append(cut(chunk, pos))
            return len(chunk.data)
        if len(head) < 3 and 20 <= head[0] <= 23 and (len(head) < 2 or head[1] == 3):
            self._hold(chunk, pos)
            return len(chunk.data)
        return None

    def _command(
        self,
        line: bytes,
        oddities: int,
        began: Location,
        at: Location,
        offset: int,
        end: int,
        acked: int,
        encrypted: bool,
    ) -> None:
        if self.lost:
            if line == b".":
                self._end_of_unknown_data(began, at, offset, end, acked, encrypted)
                return
            if not FOOT.match(line):
                return
            self.lost = False
            oddities |= AFTER_GAP
        if self._auth:
            verb, argument = AUTH_ANSWER, line.decode("utf-8", "backslashreplace")
            gate = "AUTH"
            self._auth = False
            oddities |= line_oddities(line)
        else:
            if len(line) <= _USUAL:
                verb, argument, odd = usual_command(line)
            else:
                verb, argument = command_parts(line)
                odd = line_oddities(line)
            oddities |= odd
            gate = _GATES.get(verb, "")
        command = Command(verb, argument, line, began, at, offset, end, acked, oddities, encrypted)
        entry = Pending(Exchange(command, None, None, encrypted), offset, gate)
        if gate:
            self._gate = gate
            self.mode = WAIT
        elif verb == "BDAT":
            self._begin_chunk(entry, argument, at, end, encrypted)
        elif verb in _RESTARTS:
            self._bdat.restart()
            if verb == "LHLO":
                self.lmtp = self._pairing.envelopes.lmtp = True
        self._pairing.note(command)
        self._pairing.add(entry)

    def _end_of_unknown_data(
        self, began: Location, at: Location, offset: int, end: int, acked: int, encrypted: bool
    ) -> None:
        """A line of a lone dot in bytes that nothing is known of: the end of mail data that began before."""
        self.lost = False
        command = Command(END_OF_DATA, "", b"", began, at, offset, end, acked, AFTER_GAP, encrypted)
        self._pairing.add(Pending(Exchange(command, None, None, encrypted), offset))

    # -- what hangs on a reply

    def verdict(self, gate: str, reply: Reply | None) -> None:
        """The reply to the gate's command is known; ``None``: it is lost."""
        if self.mode != WAIT or gate != self._gate:
            return
        if reply is None:
            self.guess()
            return
        code = reply.code
        self.mode = LINES
        if gate == "DATA":
            if code == 354 or (300 <= code < 400 and code != 334):
                self._begin_mail()
        elif gate == "AUTH":
            self._auth = code == 334
        elif code == 220:
            self.mode = HELLO
            self._known_220 = reply
            self._look_for_hello()

    def guess(self) -> None:
        """No reply tells: decide by looks what the bytes after the gate are. Nothing there: nothing decided."""
        if self.mode == HELLO:
            self._look_for_hello(final=True)
            return
        if self.mode != WAIT or not self.queue:
            return
        looks = b"".join(chunk.data for chunk in islice(self.queue, 8))[:1024]
        command = FOOT.match(looks.partition(b"\n")[0].rstrip(b"\r"))
        self.mode = LINES
        if self._gate == "DATA":
            if not command:
                self._begin_mail()
        elif self._gate == "AUTH":
            self._auth = not command

    def _look_for_hello(self, *, final: bool = False) -> None:
        """STARTTLS is agreed: find the first byte of TLS in what waits; what comes before it was put in."""
        queue, agreed = self.queue, self._known_220
        assert agreed is not None
        start = find_hello(queue, agreed, final=final)
        if start is None:
            return
        if start < 0:
            self.mode = LINES
            return
        if start:
            looks = b"".join(chunk.data for chunk in queue)
            self._pairing.note(Injected(side=CLIENT, data=looks[:start], at=queue[0].began))
        self._begin_tls(queue[0].offset + start)
        while queue:
            chunk = queue.popleft()
            length = len(chunk.data)
            self.queued -= length
            if start < length:
                self.tls_items.append(cut(chunk, start))
            start = max(0, start - length)

    def _begin_tls(self, offset: int) -> None:
        self.tls_mode = "starttls" if self._gate == "STARTTLS" else "implicit"
        self.tls_offset = offset
        self.mode = TLS

    def passed(self, gap: Gap) -> bool:
        """Whether what waits for a reply was sent by a client that had the server's bytes which we lack."""
        if self.mode != WAIT or not self.queue:
            return False
        last = self.queue[-1]
        if last.acked >= 0:
            return last.acked >= gap.offset + gap.length
        return last.began.ts_ns > gap.at.ts_ns

    def tls_unseen(self) -> None:
        """TLS is known to have begun, although no record of it was fed: what waits was put in before it."""
        waits = b"".join(chunk.data for chunk in self.queue)
        if waits and self._gate == "STARTTLS":
            self._pairing.note(Injected(side=CLIENT, data=waits, at=self.queue[0].began))
        self.queue.clear()
        self.queued = 0

    # -- mail data

    def _begin_mail(self) -> None:
        self.mode = MAIL
        self.reader = None

    def orphan(self, reply: Reply) -> None:
        """A reply whose command is lost may still tell what the bytes are."""
        if self.lost and self.mode == LINES and 300 <= reply.code < 400:
            self._drop_held()
            self.lost = False
            if reply.code == 334:
                self._auth = True
            else:
                self._begin_mail()

    def _mail(self, chunk: Chunk, pos: int) -> int:
        reader = self.reader
        if reader is None:
            reader = self.reader = DataReader(self._limits, chunk.began, chunk.offset + pos, chunk.encrypted)
        pos = reader.feed(chunk, pos)
        if reader.window is not None:
            self.let_go()
            self.retake = Retake(reader, self._pairing, self._timeline)
            reader.window = None
        if reader.done:
            self._end_mail(reader.data, chunk.at, chunk.acked)
        return pos

    def let_go(self) -> None:
        """No second thoughts about the end of the mail data any more."""
        if self.retake is not None:
            self.retake.let_go()
            self.retake = None

    def read_again(self, candidate: Candidate) -> None:
        """The server took a look-alike for the end of the mail data: so do we, and read on from there."""
        retake, self.retake = self.retake, None
        assert retake is not None
        retake.set_back()
        rest = retake.rest(candidate.after)
        later = [cut(chunk, retake.read_to - chunk.offset) for chunk in self.queue]
        self.queue = deque(chunk for chunk in (*rest, *later) if chunk.data)
        self.queued = sum(len(chunk.data) for chunk in self.queue)
        self._drop_held()
        self._auth, self._gate = False, ""
        self._bdat = ChunkReader(self._limits)
        body = candidate.body
        body.data.ended = True
        body.data.at = candidate.at
        body.data.end = candidate.after
        body.data.wire_bytes = candidate.after - body.data.offset
        body.finish()
        self._end_mail(body.data, candidate.at, -1)
        self.run()

    def _end_mail(self, data: MailData, at: Location, acked: int) -> None:
        self.reader = None
        self.mode = LINES
        oddities = AFTER_GAP if data.missing else 0
        began = at
        command = Command(
            END_OF_DATA, "", b"", began, at, max(data.offset, data.end - 3), data.end, acked, oddities, data.encrypted
        )
        self._pairing.note(data)
        exchange = Exchange(command, None, None, data.encrypted, data)
        self._pairing.add(Pending(exchange, data.offset, fans_out=self.lmtp))

    def end_mail_here(self, end: int, at: Location) -> None:
        """The server's reply shows that the data ended, although the end itself is lost in a gap."""
        reader = self.reader
        assert reader is not None
        reader.close(end)
        self._end_mail(reader.data, reader.data.at, -1)

    # -- BDAT (RFC 3030)

    def _begin_chunk(self, entry: Pending, argument: str, at: Location, end: int, encrypted: bool) -> None:
        size = chunk_size(argument)
        if size is None:
            return
        entry.fans_out = self.lmtp and size[1]
        if self._bdat.begin(entry, size[0], size[1], at, end, encrypted):
            self.mode = CHUNK

    def _octets(self, chunk: Chunk, pos: int) -> int:
        pos, data = self._bdat.feed(chunk, pos)
        if data is not None:
            self._end_chunk(data)
        return pos

    def _end_chunk(self, data: MailData) -> None:
        self._pairing.note(data)
        self.mode = LINES

    # -- losses and the end

    def gap(self, gap: Gap) -> None:
        """Bytes of the client are missing."""
        self.fed = gap.offset + gap.length
        if self.mode == TLS:
            self.tls_items.append(gap)
            return
        if self.queue:
            # What waits cannot be told from what is lost behind it: settle it now.
            self.guess()
            self.run()
        if self.mode == MAIL:
            if self.reader is None:
                self.reader = DataReader(self._limits, gap.at, gap.offset, gap.encrypted)
            self.reader.gap(gap.length, self.fed)
        elif self.mode == CHUNK:
            behind, data = self._bdat.gap(gap.length)
            if data is not None:
                self._end_chunk(data)
                self.lost = behind > 0
        else:
            self._cut_line(gap.encrypted)
            self.lost = True
            if self.mode != HELLO:
                self.mode = LINES

    def _cut_line(self, encrypted: bool) -> None:
        """A line without end is a command where its verb is whole."""
        if not self._held_length or self.mode == PREFACE:
            self._drop_held()
            return
        line, began = bytes(self._held), self._began
        end = self._held_offset + self._held_length
        self._drop_held()
        assert began is not None
        verb = command_parts(line)[0]
        if self._auth or (verb in VERBS and len(line.split(None, 1)) > 1):
            self._command(
                line.rstrip(b"\r"), UNTERMINATED, began, began, self._held_offset, end, self._held_acked, encrypted
            )

    def close(self, at: Location, encrypted: bool) -> None:
        """No more bytes."""
        for _ in range(HOLD_BYTES):
            if not self.queue or self.mode == TLS:
                break
            self.guess()
            self.run()
        if self.mode == MAIL and self.reader is not None:
            self.reader.close(self.fed)
            self._pairing.note(self.reader.data)
            current = self._pairing.envelopes.current
            if current is not None and current.data is None:
                current.data = self.reader.data
            self.reader = None
        elif self.mode == CHUNK:
            self._end_chunk(self._bdat.end(cut=True))
        elif self.mode in (LINES, PREFACE):
            self.mode = LINES
            self._close_line(encrypted)

    def _close_line(self, encrypted: bool) -> None:
        """What is left of a line when the client closed is a command that never ended."""
        if not self._held_length:
            return
        line, began = bytes(self._held), self._began
        end = self._held_offset + self._held_length
        self._drop_held()
        assert began is not None
        self._command(
            line.rstrip(b"\r"), UNTERMINATED, began, began, self._held_offset, end, self._held_acked, encrypted
        )
