"""Replies as text: codes, separators, lines of one reply (RFC 5321 section 4.2 and 4.2.1)."""

from __future__ import annotations

from collections.abc import Iterator

from smtpdebug.model.findings import Severity
from smtpdebug.model.smtp import AFTER_GAP, END_OF_DATA, MALFORMED, UNTERMINATED, Exchange, Reply
from smtpdebug.rules import providers
from smtpdebug.rules.registry import BARE, OFF_TABLE, UNASKED, UNKNOWN_VERB, Said, rule
from smtpdebug.rules.scope import one_direction
from smtpdebug.rules.state import State
from smtpdebug.rules.table import shown_verb


def _whole(reply: Reply) -> bool:
    """No gap hides a part of it."""
    return not reply.oddities & AFTER_GAP


def _shown(line: bytes) -> str:
    return repr(line[:40].decode("utf-8", "backslashreplace"))


def _coded(line: bytes) -> bool:
    return line[:3].isdigit() and line[3:4] in (b" ", b"-", b"")


@rule(
    id="SR101",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 5321 §4.2", "RFC 5321 §4.3.2"),
    oddities=MALFORMED,
)
def reply_line_malformed(exchange: Exchange, state: State) -> Iterator[Said]:
    """A reply line that is not three digits and then a space, a hyphen or the line's end.

    ## Why it matters
    Clients go by the three digits alone. A line without them ends the conversation at best; at worst the client takes
    a line of explanation for the next command's reply, and everything after it is one off.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: OK, hello                                  <- SR101
    C: QUIT
    S: 221 bye
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    ```

    ## Innocent look-alikes
    A code with nothing after it is legal to receive and has its own rule (SR107). A line whose start was lost in a
    gap is not judged.
    """
    reply = exchange.reply
    if reply is None or not _whole(reply):
        return
    bad = next((line for line in reply.lines if not _coded(line)), None)
    cut = reply.oddities & UNTERMINATED and exchange is state.conversation.exchanges[-1]
    if bad is not None and b"\0" not in bad and not (cut and bad is reply.lines[-1]):
        yield reply.at, f"reply line {_shown(bad)} does not begin with three digits and a space or hyphen"


@rule(
    id="SR102",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 5321 §4.2", "RFC 5321 §4.3.2"),
    replies=(0, 1, 6),
)
def reply_code_out_of_range(exchange: Exchange) -> Iterator[Said]:
    """A reply code whose first digit is not 2, 3, 4 or 5.

    ## Why it matters
    §4.2 forbids it, and tells clients to treat it as a fatal error and to end the transaction.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: NOOP
    S: 100 thinking                               <- SR102
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: NOOP
    S: 250 OK
    ```

    ## Innocent look-alikes
    None: RFC 821 had no 1yz replies in use either. Lines without a code are SR101's.
    """
    reply = exchange.reply
    if reply is not None and reply.code and _whole(reply):
        yield reply.at, f"reply code {reply.code:03d}: the first digit must be 2, 3, 4 or 5"


@rule(
    id="SR104",
    on=Exchange,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 5321 §4.2", "RFC 5321 §4.2.1"),
    replies=(2, 3, 4, 5),
    when=OFF_TABLE | UNKNOWN_VERB,
)
def second_digit_out_of_range(exchange: Exchange) -> Iterator[Said]:
    """A reply code whose second digit is 6 to 9, which the grammar does not have.

    ## Why it matters
    The second digit says what the reply is about (§4.2.1). The grammar of §4.2 ends at 5; strict parsers refuse the
    rest. It is a warning only, since the MUST NOT of §4.3.2 covers the first digit.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: FROB
    S: 599 never heard of it                      <- SR104
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: FROB
    S: 500 never heard of it
    ```

    ## Innocent look-alikes
    None.
    """
    reply = exchange.reply
    if reply is not None and reply.code // 10 % 10 > 5 and _whole(reply):
        yield reply.at, f"reply code {reply.code}: the second digit must be 0 to 5"


@rule(
    id="SR105",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 5321 §4.2.1",),
    oddities=MALFORMED,
)
def codes_differ_in_one_reply(exchange: Exchange) -> Iterator[Said]:
    """The lines of one reply carry different codes.

    ## Why it matters
    "The reply code on each of the lines MUST be the same." A client may act on the first line or on the last, so two
    clients may understand two things. It is also the trace of a teaser (`220-`) followed by another program's reply.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 220 SIZE 1000000                           <- SR105
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 SIZE 1000000
    ```

    ## Innocent look-alikes
    Two replies in one packet are two replies. A reply with a hole in it is not judged.
    """
    reply = exchange.reply
    if reply is not None and _whole(reply):
        codes = list(dict.fromkeys(line[:3].decode() for line in reply.lines if _coded(line)))
        if len(codes) > 1:
            yield reply.at, f"one reply with the codes {', '.join(codes)}"


@rule(
    id="SR106",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 5321 §4.2.1",),
    oddities=MALFORMED | UNTERMINATED,
)
def reply_never_finished(exchange: Exchange, state: State) -> Iterator[Said]:
    """A reply whose last line still has the hyphen that promises another.

    ## Why it matters
    The client waits for the line without a hyphen, up to its time-out, and then gives up the connection.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250-PIPELINING                             <- SR106
    S closes
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 PIPELINING
    ```

    ## Innocent look-alikes
    A capture that stops, or loses bytes, in the middle of a reply: not judged.
    """
    reply, conversation = exchange.reply, state.conversation
    if reply is None or not reply.lines or not _whole(reply) or state.lossy:
        return
    last = reply.lines[-1]
    is_end = exchange is conversation.exchanges[-1]
    if _coded(last) and last[3:4] == b"-" and (not is_end or conversation.stream.closed_by is not None):
        following = None if is_end else conversation.exchanges[state.index + 1].reply
        changed = f", the next line has the code {following.code}" if following is not None else ""
        yield reply.at, f"the reply ends with {_shown(last)}: its last line never came{changed}"


@rule(
    id="SR107",
    on=Exchange,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 5321 §4.2", "RFC 5321 §4.2.1"),
    replies=(2, 3, 4, 5),
    when=BARE,
)
def bare_reply_code(exchange: Exchange) -> Iterator[Said]:
    """A reply that is its code and nothing else.

    ## Why it matters
    "Senders SHOULD NOT send bare codes": the person who reads the log learns nothing, and strict clients that want the
    space after the code have failed on it.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: NOOP
    S: 250                                        <- SR107
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: NOOP
    S: 250 OK
    ```

    ## Innocent look-alikes
    A multi-line reply whose last line is bare, as long as one of its lines has text. `334 ` with an empty challenge
    is RFC 4954's own form.
    """
    reply = exchange.reply
    if reply is None or reply.code == 334 or not reply.lines or not _whole(reply):
        return
    if all(len(line) <= 4 for line in reply.lines) and _coded(reply.lines[-1]):
        yield reply.at, f"{reply.code} without any text"


@rule(
    id="SR111",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 5321 §4.2",),
    verbs=("QUIT",),
    replies=(2,),
)
def command_never_answered(exchange: Exchange, state: State) -> Iterator[Said]:
    """A command without a reply, although the server answered a later one.

    ## Why it matters
    "Every command MUST generate exactly one reply." A client that got one reply too few takes each later reply for the
    one before: it is as wrong about its messages as after one too many.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: NOOP
    -- 10s --
    C: RSET                                       <- SR111
    S: 250 OK
    C: QUIT
    S: 221 bye
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: NOOP
    S: 250 OK
    C: QUIT
    S: 221 bye
    ```

    ## Innocent look-alikes
    Which of the commands before it got none cannot be seen where their replies look alike: the last one is named.
    Captures with gaps, of one direction, or of the middle of a conversation are not judged; nor is what follows 421.
    """
    previous = state.previous
    if previous is None or previous.reply is not None or state.lossy or state.lmtp or state.closing is not None:
        return
    command, stream = previous.command, state.conversation.stream
    if command is None or any(stream.missing) or one_direction(stream):
        return
    name = "the end of mail data" if command.verb == END_OF_DATA else shown_verb(command)
    yield command.at, f"no reply to {name}, or to a command before it, although QUIT was answered"


@rule(
    id="SR110",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 5321 §4.2", "RFC 5321 §3.8"),
    verbs=(UNASKED,),
)
def reply_nobody_asked_for(exchange: Exchange, state: State) -> Iterator[Said]:
    """A reply that answers no command.

    ## Why it matters
    "Every command MUST generate exactly one reply." A client takes the surplus reply for the answer to its next
    command: a 250 too many and it believes a recipient, or a message, accepted that was not.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    S: 250 and another thing                      <- SR110
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 and another thing
    ```

    ## Innocent look-alikes
    421 may come at any time (§3.8). One reply per recipient after the mail data is LMTP. Replies after a gap, in
    captures of one direction or of the middle of a conversation are not judged. A reply in the middle of the mail data
    is SD210's. What a known provider sends on purpose (`docs/providers/`). A server without TLS answers a
    ClientHello as if it were a line.
    """
    reply = exchange.reply
    if reply is None or reply.code == 421 or state.lossy or state.uncertain or not _whole(reply):
        return
    stream, tls = state.conversation.stream, state.conversation.tls
    if tls is not None and tls.client_hello is not None and tls.server_hello is None:
        return  # the server took the ClientHello for a command line
    if one_direction(stream) or (not stream.bytes[0] and state.index == 0):
        return  # nothing of the client is in the capture
    entry = providers.meant(state.conversation, exchange)
    if state.data_open or (entry is not None and entry.off_table):
        return  # SD210: it waits for the end of the mail data, and the client for nothing
    yield reply.at, f"{reply.code} although no command was waiting for a reply"
