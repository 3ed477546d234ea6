"""The client's bytes: command lines, mail data, BDAT chunks, and where TLS begins.

What the bytes after DATA, AUTH and STARTTLS are hangs on the reply. Until it is known they are ``waiting``.
"""

from __future__ import annotations

from smtpdebug.model.smtp import (
    AFTER_GAP,
    AUTH_ANSWER,
    BARE_LF,
    END_OF_DATA,
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
from smtpdebug.smtp.commands import GATES, RESTARTS, auth_answer, end_of_data, spoken
from smtpdebug.smtp.grammar import FOOT, FOOT_BEGUN, TLS_HELLO, TLS_RECORD, VERBS, chunk_size, command_parts
from smtpdebug.smtp.maildata import Candidate, DataReader
from smtpdebug.smtp.pairing import Pairing, Pending
from smtpdebug.smtp.proxy import preface_length, read_preface
from smtpdebug.smtp.retake import Retake
from smtpdebug.smtp.starttls import TlsEntry, find_hello, may_become_record
from smtpdebug.smtp.unread import Unsure
from smtpdebug.smtp.waiting import HOLD_BYTES, HeldLine, Hole, Waiting, cut

PREFACE, LINES, MAIL, CHUNK, WAIT, HELLO, TLS = range(7)
"""What the next bytes are: perhaps a PROXY preface; command lines; mail data; octets of a BDAT chunk; unknown until a
reply comes; a ClientHello, STARTTLS being agreed; TLS."""


class ClientLexer:
    """Turns the client's bytes into commands for the pairing and items for the timeline.

    Args:
        limits: budgets.
        pairing: told of each command.
        timeline: commands and mail data are appended.
        lost: the first bytes may be anything (conversation joined in its middle).
    """

    __slots__ = (
        "_agreed", "_auth", "_bdat", "_behind_gap",
        "_gate", "_held", "_known_220", "_limits", "_pairing", "_timeline", "fed", "lmtp", "lost",
        "mode", "proxy", "reader", "retake", "tls", "unsure", "waiting",
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
        self.waiting = Waiting()
        self.reader: DataReader | None = None
        self.proxy: ProxyPreface | None = None
        self.tls = TlsEntry()
        self._gate = ""
        self._auth = False
        self._agreed = self._behind_gap = -1
        """Where the 354 ends among the server's bytes; where the last gap in mail data ends."""
        self._known_220: Reply | None = None
        self._held = HeldLine(limits.line_bytes)
        self._bdat = ChunkReader(limits)
        self.retake: Retake | None = None
        self.unsure = Unsure(pairing.note, limits.header_bytes)

    # -- bytes in

    def feed(self, chunk: Chunk) -> None:
        """Take the next bytes."""
        self.fed = chunk.offset + len(chunk.data)
        if self.mode == LINES and not (self._held.length or self.waiting.chunks or self.lost or self.retake):
            # The usual case: one whole line.
            data = chunk.data
            end = len(data) - 2
            if data[end:] == b"\r\n" and data.find(b"\n") == end + 1 and 64 < data[0] < 123:
                self._command(
                    data[:end], 0, chunk.began, chunk.at, chunk.offset, self.fed, chunk.acked, chunk.encrypted
                )
                return
        if self.mode == WAIT or self.mode == HELLO or self.waiting.chunks:
            self.waiting.put(chunk)
            if self.mode == HELLO:
                self._look_for_hello()
            if self.waiting.size > HOLD_BYTES and self.mode == WAIT:
                self.guess()
            self.run()
        else:
            self._process(chunk)

    def run(self) -> None:
        """Go on with what waits, as far as it is known what it is."""
        while self.waiting.chunks and self.mode != WAIT and self.mode != HELLO:
            self._process(self.waiting.take())

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
                self.tls.items.append(cut(chunk, pos))
                return
            else:
                self.waiting.put_back(cut(chunk, pos))
                if mode == HELLO:
                    self._look_for_hello()
                return

    def _preface(self, chunk: Chunk, pos: int) -> int:
        """A PROXY header can only be the very first thing; it may come in pieces."""
        held = bytes(self._held.data)
        data = held + chunk.data[pos:]
        length = preface_length(data)
        if length is None:
            return self._held.add(chunk, pos)
        self.mode = LINES
        began = self._held.began or chunk.began
        self._held.drop()
        if length:
            self.proxy = read_preface(data[:length], chunk.at)
            self.proxy.at = began
            self._pairing.note(self.proxy)
            for entry in self._pairing.pending:
                # The greeting: the server may wait for the preface before it speaks.
                entry.since = -1
            return pos + length - len(held)
        if held:
            # What looked like the beginning of one may hold whole lines.
            offset, acked = self._held.offset, self._held.acked
            self._process(Chunk(chunk.stream, CLIENT, offset, held, began, began, acked, chunk.encrypted))
        return pos

    # -- lines

    def _line(self, chunk: Chunk, pos: int) -> int:
        data, held = chunk.data, self._held
        length = held.length
        if length < 5 and not chunk.encrypted:
            head = bytes(held.data) + data[pos : pos + 5]
            if head[0] < 24 or head[0] == 128:
                found = self._tls_at_line(chunk, pos, head)
                if found is not None:
                    return found
        end = data.find(b"\n", pos)
        if end < 0:
            return held.add(chunk, pos)
        if length:
            began, offset, acked = held.began or chunk.began, held.offset, held.acked
            line, oddities = held.ended(data, pos, end)
        else:
            began, offset, acked = chunk.began, chunk.offset + pos, chunk.acked
            line, oddities = data[pos:end], 0
        if line[-1:] == b"\r":
            line = line[:-1]
        elif not oddities:
            oddities = BARE_LF
        self._command(line, oddities, began, chunk.at, offset, chunk.offset + end + 1, acked, chunk.encrypted)
        return end + 1

    def _tls_at_line(self, chunk: Chunk, pos: int, head: bytes) -> int | None:
        """A line that begins like a TLS record: TLS it is. ``None`` where it is not."""
        if TLS_RECORD.match(head) or (TLS_HELLO.match(head) and not self.lost):
            self.tls.at_line(chunk, pos, self._held, self._gate)
            self.mode = TLS
            return len(chunk.data)
        return self._held.add(chunk, pos) if may_become_record(head) else None

    def _command(
        self, line: bytes, known: int, began: Location, at: Location, offset: int, end: int, acked: int, encrypted: bool
    ) -> None:
        """A whole line, which has some known oddities, and where it is."""
        if self.lost:
            known |= AFTER_GAP
            if not FOOT.match(line) and not (known & UNTERMINATED and FOOT_BEGUN.match(line)):
                verb, argument, odd = spoken(line)
                self.unsure.add(Command(verb, argument, line, began, at, offset, end, acked, known | odd, encrypted))
                return
            self._found()
        if self._auth:
            self._auth = False
            verb, argument, odd = auth_answer(line)
            gate = "AUTH"
        else:
            verb, argument, odd = spoken(line)
            gate = GATES.get(verb, "")
        self._asked(Command(verb, argument, line, began, at, offset, end, acked, known | odd, encrypted), gate)

    def _asked(self, command: Command, gate: str) -> None:
        """A command whose reply is to be found."""
        verb, encrypted = command.verb, command.encrypted
        entry = Pending(Exchange(command, None, None, encrypted), command.offset, gate)
        if gate:
            self._gate = gate
            self.mode = WAIT
        elif verb == "BDAT":
            self._begin_chunk(entry, command.argument, command.at, command.end, encrypted)
        elif verb in RESTARTS:
            self._bdat.restart()
            if verb == "LHLO":
                self.lmtp = self._pairing.envelopes.lmtp = True
        self._pairing.note(command)
        self._pairing.add(entry)

    # -- behind a gap

    def _found(self) -> None:
        """The feet are found: from here on every line is read."""
        self.lost = False
        self.end_unsure()

    def end_unsure(self) -> None:
        """No more lines come that may tell what the last ones were. A lone dot ended mail data that began before."""
        dot = self.unsure.end()
        if dot is not None:
            self._pairing.add(Pending(Exchange(dot, None, None, dot.encrypted), dot.offset))

    def told_by(self, reply: Reply) -> None:
        """A reply while nothing is known of the client's bytes: it may show what the last line was."""
        held = self._held
        if held.length and reply.acked == held.offset + held.length:
            # Answered without a line end: the last octets of a BDAT chunk, or of a line that the gap cut.
            self.unsure.fragment(held, encrypted=False)
            held.drop()
        command = self.unsure.told_by(reply, self.fed)
        if command is None:
            return
        self.lost = False
        if command.verb == END_OF_DATA:
            self._pairing.add(Pending(Exchange(command, None, None, command.encrypted), command.offset))
        else:
            self._asked(command, "AUTH" if command.verb == AUTH_ANSWER else GATES.get(command.verb, ""))

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
                self._begin_mail(reply)
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
        if self.mode != WAIT or not self.waiting.chunks:
            return
        command = FOOT.match(self.waiting.first_line())
        self.mode = LINES
        if self._gate == "DATA":
            if not command:
                self._begin_mail()
        elif self._gate == "AUTH":
            self._auth = not command

    def _look_for_hello(self, *, final: bool = False) -> None:
        """STARTTLS is agreed: find the first byte of TLS in what waits; what comes before it was put in."""
        waiting, agreed = self.waiting, self._known_220
        assert agreed is not None
        start = find_hello(waiting.chunks, agreed, final=final)
        if start is None:
            return
        if start < 0:
            self.mode = LINES
            return
        if start:
            self._note_injected(waiting.octets()[:start])
        self.tls.after(start, waiting, self._gate)
        self.mode = TLS

    def _note_injected(self, data: bytes) -> None:
        self._pairing.note(Injected(side=CLIENT, data=data, at=self.waiting.chunks[0].began))

    def passed(self, hole: Hole, reply: Reply) -> bool:
        """Whether what cannot be read yet was sent by a client that had the server's bytes which we lack."""
        if self.mode == WAIT:
            return self.waiting.passed(hole)
        return self.lost and hole.end <= self.unsure.acked and self.unsure.offset < reply.acked

    def tls_unseen(self) -> None:
        """TLS is known to have begun, although no record of it was fed: what waits was put in before it."""
        if self._gate == "STARTTLS" and self.waiting.size:
            self._note_injected(self.waiting.octets())
        self.waiting.replace(())

    # -- mail data

    def _begin_mail(self, agreed: Reply | None = None) -> None:
        self.mode = MAIL
        self.reader = None
        whole = agreed is not None and not agreed.oddities & (AFTER_GAP | UNTERMINATED)
        self._agreed = agreed.end if whole and agreed is not None else -1

    def orphan(self, reply: Reply) -> None:
        """A reply whose command is lost may still tell what the bytes are."""
        if self.lost and self.mode == LINES and 300 <= reply.code < 400:
            self._held.drop()
            self._found()
            if reply.code == 334:
                self._auth = True
            else:
                self._begin_mail(reply)

    def _mail(self, chunk: Chunk, pos: int) -> int:
        reader = self.reader
        if reader is None:
            reader = self.reader = DataReader(self._limits, chunk.began, chunk.offset + pos, chunk.encrypted)
            if self._agreed < 0:
                self._agreed = chunk.acked  # the 354 is cut or lost: the client had all of it when it began
        elif chunk.offset + pos == self._behind_gap and chunk.acked > self._agreed >= 0:
            # The client has a reply behind the 354, so the gap holds the end of the data and the reply to it.
            self.end_mail_here(chunk.offset + pos, chunk.began)
            self.lost = True
            return pos
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
        later = [cut(chunk, retake.read_to - chunk.offset) for chunk in self.waiting.chunks]
        self.waiting.replace((*rest, *later))
        self._held.drop()
        self._auth, self._gate = False, ""
        self._bdat = ChunkReader(self._limits)
        self._end_mail(candidate.chosen(), candidate.at, -1)
        self.run()

    def _end_mail(self, data: MailData, at: Location, acked: int) -> None:
        self.reader = None
        self.mode = LINES
        self._pairing.note(data)
        self._pairing.add(end_of_data(data, at, acked, lmtp=self.lmtp))

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
            self.tls.items.append(gap)
            return
        if self.waiting.chunks:
            # What waits cannot be told from what is lost behind it: settle it now.
            self.guess()
            self.run()
        if self.mode == MAIL:
            if self.reader is None:
                self.reader = DataReader(self._limits, gap.at, gap.offset, gap.encrypted)
            self.reader.gap(gap.octets, self.fed)
            self._behind_gap = self.fed
        elif self.mode == CHUNK:
            behind, data = self._bdat.gap(gap.octets)
            if data is not None:
                self._end_chunk(data)
                self.lost = behind > 0
        else:
            self._cut_line(gap.encrypted)
            self.lost, self._auth = True, False
            if self.mode != HELLO:
                self.mode = LINES

    def _cut_line(self, encrypted: bool) -> None:
        """A line without end is a command where its verb is whole."""
        line = bytes(self._held.data)
        if (
            line
            and self.mode != PREFACE
            and (self._auth or (command_parts(line)[0] in VERBS and len(line.split(None, 1)) > 1))
        ):
            self._close_line(encrypted, AFTER_GAP)
        elif line:
            self.unsure.fragment(self._held, encrypted=encrypted)
        self._held.drop()

    def close(self, at: Location, encrypted: bool) -> None:
        """No more bytes."""
        for _ in range(HOLD_BYTES):
            if not self.waiting.chunks or self.mode == TLS:
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
        self.end_unsure()

    def _close_line(self, encrypted: bool, known: int = 0) -> None:
        """What is left of a line when the client closed, or at a gap, is a command that never ended."""
        held = self._held
        if not held.length:
            return
        line, began, offset = bytes(held.data), held.began, held.offset
        end = offset + held.length
        held.drop()
        assert began is not None
        self._command(line.rstrip(b"\r"), UNTERMINATED | known, began, began, offset, end, held.acked, encrypted)
