"""One SMTP conversation out of the bytes of both directions: what was seen, in any order of feeding (sans I/O)."""

from __future__ import annotations

import re

from smtpdebug.model.smtp import (
    GREETING,
    Command,
    Exchange,
    ProxyPreface,
    Reply,
    TimelineItem,
    TlsStarted,
)
from smtpdebug.model.streams import CLIENT, SERVER, Chunk, Gap, Limits, Location
from smtpdebug.smtp.client import MAIL, TLS, ClientLexer
from smtpdebug.smtp.pairing import Pairing, Pending
from smtpdebug.smtp.replies import ReplyLexer
from smtpdebug.smtp.waiting import Hole

_READY_FOR_TLS = re.compile(rb"(?i)220 (?:\d\.\d\.\d |[^\r\n]*\btls\b)")
"""A 220 that is no greeting (RFC 2034 section 4: a greeting has no enhanced code) but the reply to STARTTLS."""
_TLS_HELD = 64 << 10
"""Octets of TLS held while the other direction's TLS is yet to begin."""


class ConversationParser:
    """Takes the bytes of one connection and says what was said.

    Args:
        limits: budgets.
        lmtp: replies to the end of mail data come one a recipient; found out from LHLO otherwise.
        implicit_tls: TLS from the first byte: only decrypted chunks will be fed.
        joined_late: the beginning of the conversation is not in the capture.
        established: when the connection was established; the greeting's wait begins there.

    ``exchanges``, ``messages`` and ``timeline`` are lists that grow in place, within the limits. Once ``tls`` is set,
    the caller takes what belongs to TLS from :meth:`take_tls` and feeds only decrypted chunks; this may also happen
    in :meth:`close`, which then has to be called again after the decrypted chunks.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        lmtp: bool = False,
        implicit_tls: bool = False,
        joined_late: bool = False,
        established: Location | None = None,
    ) -> None:
        self._limits = limits if limits is not None else Limits()
        self._established = established
        self._joined_late = joined_late
        self._greeted = False
        self._closed = self._closing = False
        self._server_tls: list[Chunk | Gap] = []
        self._encrypted = implicit_tls
        self.timeline: list[TimelineItem] = []
        self.tls: TlsStarted | None = None
        self._pairing = Pairing(self._limits, self.timeline, self._verdict, lmtp=lmtp)
        self._pairing.orphan = self._orphan
        self._pairing.lossy = joined_late
        self._client = ClientLexer(self._limits, self._pairing, self.timeline, lmtp=lmtp, lost=joined_late)
        self._pairing.passed = self._client.passed
        self._server = ReplyLexer(self._limits.line_bytes, after_gap=joined_late)
        self.exchanges = self._pairing.exchanges
        self.messages = self._pairing.envelopes.messages

    # -- what was found

    @property
    def protocol(self) -> str:
        """``smtp`` or ``lmtp``."""
        return "lmtp" if self._client.lmtp else "smtp"

    @property
    def proxy(self) -> ProxyPreface | None:
        """The PROXY preface, if there was one."""
        return self._client.proxy

    @property
    def truncated(self) -> bool:
        """A limit cut the record."""
        return self._pairing.truncated

    def take_tls(self) -> list[Chunk | Gap]:
        """Hand over, once, what was fed and belongs to TLS, in order of time."""
        items = self._client.tls.items + self._server_tls
        self._client.tls.items, self._server_tls = [], []
        items.sort(key=lambda item: (item.at.ts_ns, item.at.frame))
        return items

    # -- bytes in

    def feed(self, chunk: Chunk) -> None:
        """Take the next bytes of one direction."""
        if chunk.encrypted and not self._encrypted:
            self._enter_tls()
        if not self._greeted:
            self._expect_greeting(chunk)
        pairing = self._pairing
        if chunk.side == CLIENT:
            self._client.feed(chunk)
        else:
            self._feed_server(chunk)
        if pairing.replies:
            self._pump()
        if self._client.tls.offset >= 0 or self._server.tls_offset >= 0:
            self._tls_seen(final=False)

    def _feed_server(self, chunk: Chunk) -> None:
        server = self._server
        if server.tls_offset >= 0:
            self._server_tls.append(chunk)
            return
        taken = server.feed(chunk)
        self._take_replies()
        if server.tls_offset >= 0:
            data = server.tls_head + chunk.data[taken:]
            self._server_tls.append(
                Chunk(chunk.stream, SERVER, server.tls_offset, data, chunk.began, chunk.at, chunk.acked)
            )

    def _take_replies(self) -> None:
        server = self._server
        if server.found:
            self._pairing.replies.extend(server.found)
            server.found = []

    def _pump(self) -> None:
        """Pair replies and read on, turn about, until neither can go on."""
        pairing, client = self._pairing, self._client
        while True:
            if client.lost and pairing.replies:
                client.told_by(pairing.replies[0])
            before = len(self.exchanges)
            opened = pairing.run(client.fed, client.mode == MAIL)
            if client.lost and len(self.exchanges) > before:
                last = self.exchanges[-1]
                if last.command is None and last.reply is not None:
                    client.orphan(last.reply)
            if opened:
                client.run()
                continue
            if client.mode == MAIL and pairing.replies and (self._end_in_gap() or self._orphan(pairing.replies[0])):
                continue
            if client.retake is not None and client.retake.clear():
                client.let_go()
            return

    def _orphan(self, reply: Reply) -> bool:
        """A reply without a command: read the end of the mail data as the server did, if that explains it."""
        client = self._client
        if client.retake is None or (self._pairing.pending and client.mode == MAIL):
            return False
        if client.mode == MAIL and reply.acked < 0 and not self._closing:
            return False
        candidate = client.retake.choose(reply, client.fed, in_data=client.mode == MAIL)
        if candidate is None:
            return False
        client.read_again(candidate)
        return True

    def _end_in_gap(self) -> bool:
        """A reply in the midst of mail data with a gap in it: the end of the data was in the gap."""
        client, reply = self._client, self._pairing.replies[0]
        reader = client.reader
        if reader is None or not reader.body.broken or self._pairing.pending or reply.code == 421:
            return False
        if reply.acked < 0:
            # In TLS only time tells: the server had what came before.
            if reply.began.ts_ns < reader.data.at.ts_ns:
                return False
            client.end_mail_here(client.fed, reply.at)
            return True
        if not reader.data.offset < reply.acked <= client.fed:
            return False
        client.end_mail_here(reply.acked, reply.at)
        return True

    def _verdict(self, gate: str, reply: Reply | None) -> None:
        self._client.verdict(gate, reply)

    # -- the beginning

    def _expect_greeting(self, chunk: Chunk) -> None:
        """The server speaks first (RFC 5321 3.1): its greeting answers no command line."""
        self._greeted = True
        if self._joined_late:
            # In TLS there is no greeting after STARTTLS, which may be what the capture came too late for.
            early = chunk.side == SERVER and chunk.acked <= 0 and chunk.data[:3] in (b"220", b"554", b"521", b"421")
            if not early or _READY_FOR_TLS.match(chunk.data):
                return
            self._joined_late = False
        at = self._established or chunk.began
        command = Command(GREETING, "", b"", at, at, 0, 0, -1, 0, chunk.encrypted)
        self._pairing.add(Pending(Exchange(command, None, None, chunk.encrypted), -1))

    # -- TLS

    def _tls_seen(self, *, final: bool) -> None:
        """TLS began in one direction: start it when it began in the other too, or will not."""
        if self.tls is not None or self._encrypted:
            return
        client, server = self._client, self._server
        both = client.tls.offset >= 0 and server.tls_offset >= 0
        held = _span(client.tls.items) + _span(self._server_tls) + client.waiting.size
        if not both and not final and held < _TLS_HELD:
            return
        first = min(
            (items[0] for items in (client.tls.items, self._server_tls) if items), key=lambda item: item.at.ts_ns
        )
        client.mode = TLS
        self._pairing.flush()
        # Joined between the STARTTLS and its 220, which stands alone.
        agreed = self._pairing.tls_agreed is not None or (self._joined_late and self.exchanges)
        mode = "starttls" if agreed else client.tls.mode
        self.tls = TlsStarted(mode=mode, at=first.at, client_offset=client.tls.offset, server_offset=server.tls_offset)
        for injected in self._pairing.injected_replies(client.tls.offset):
            self._pairing.note(injected)
        self._pairing.note(self.tls)

    def _enter_tls(self) -> None:
        """The first decrypted bytes: everything starts again inside (RFC 3207 4.2)."""
        self._encrypted = True
        pairing = self._pairing
        pairing.flush()
        self._client.tls_unseen()
        if pairing.tls_agreed is not None or (self.tls is not None and self.tls.mode == "starttls"):
            pairing.skip(len(pairing.pending))
        proxy = self._client.proxy
        self._client = ClientLexer(self._limits, pairing, self.timeline, lmtp=self._client.lmtp, lost=False)
        self._client.proxy = proxy
        pairing.passed = self._client.passed
        self._server = ReplyLexer(self._limits.line_bytes)

    # -- losses and the end

    def gap(self, gap: Gap) -> None:
        """Bytes are missing, for good."""
        if gap.side == CLIENT:
            self._gap_client(gap)
        else:
            self._gap_server(gap)
        if self._pairing.replies:
            self._pump()

    def _gap_client(self, gap: Gap) -> None:
        client = self._client
        in_tls = client.mode == TLS
        client.let_go()  # a reply too many may answer what is lost
        client.gap(gap)
        if not in_tls:
            client.end_unsure()
            self._pairing.note_lost(gap, gap.reason)

    def _gap_server(self, gap: Gap) -> None:
        if self._server.tls_offset >= 0 and not gap.encrypted:
            self._server_tls.append(gap)
            return
        clean = self._server.between
        self._server.gap(gap)
        self._take_replies()
        if self._pairing.replies:
            self._pump()  # the gap comes behind what it cut
        self._pairing.note_lost(gap, gap.reason)
        self._pairing.lost_replies(Hole(gap.offset + gap.length, gap.at.ts_ns, clean))

    def close(self, at: Location) -> None:
        """No more will come. See the class about ``tls``."""
        if self._closed:
            return
        client, pairing, server = self._client, self._pairing, self._server
        self._closing = True
        server.close(self._encrypted)
        self._take_replies()
        for _ in range(self._limits.exchanges):
            self._pump()
            waiting = len(pairing.pending), len(pairing.replies), client.waiting.size
            client.guess()
            client.run()
            self._pump()
            if waiting == (len(pairing.pending), len(pairing.replies), client.waiting.size):
                break
        if self.tls is None and not self._encrypted and (client.tls.offset >= 0 or server.tls_offset >= 0):
            self._tls_seen(final=True)
            return
        self._closed = True
        client.close(at, self._encrypted)
        pairing.finish()
        client.let_go()


def _span(items: list[Chunk | Gap]) -> int:
    """Octets from the first of one direction's items to the last, those of gaps included."""
    if not items:
        return 0
    first, last = items[0], items[-1]
    return last.offset - first.offset + (len(last.data) if isinstance(last, Chunk) else last.length)
