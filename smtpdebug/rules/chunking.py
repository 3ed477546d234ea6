"""BDAT and BINARYMIME (RFC 3030)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from smtpdebug.model.findings import Severity
from smtpdebug.model.smtp import AFTER_GAP, Exchange
from smtpdebug.rules.registry import CHUNKED, NO_RECIPIENT, PIPELINED, Said, rule
from smtpdebug.rules.state import State
from smtpdebug.rules.syntax import path
from smtpdebug.rules.table import KNOWN_VERBS

_ARGUMENT: Final = re.compile(r"\d{1,19}(?: LAST)?\s*\Z", re.IGNORECASE)


def _clear(exchange: Exchange, state: State) -> bool:
    command = exchange.command
    if command is None or command.oddities & AFTER_GAP or state.repeats(exchange):
        return False
    return not state.uncertain and not state.lossy


@rule(id="SC170", on=Exchange, severity=Severity.ERROR, since="0.1", refs=("RFC 3030 §2",), verbs=("BDAT",))
def bdat_not_offered(exchange: Exchange, state: State) -> Iterator[Said]:
    """BDAT although the server did not offer CHUNKING.

    ## Why it matters
    A server that does not know BDAT reads the chunk as commands.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 OK
    C: RCPT TO:<b@example.org>
    S: 250 OK
    C: BDAT 4 LAST                                <- SC170
    C! hi\\r\\n
    S: 502 not implemented
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 CHUNKING
    C: MAIL FROM:<a@example.net>
    S: 250 OK
    C: RCPT TO:<b@example.org>
    S: 250 OK
    C: BDAT 4 LAST
    C! hi\\r\\n
    S: 250 OK
    ```

    ## Innocent look-alikes
    A capture without the reply to EHLO.
    """
    if exchange.command is not None and _clear(exchange, state) and not state.offers("CHUNKING"):
        yield exchange.command.at, "BDAT, but CHUNKING was not offered"


@rule(id="SC171", on=Exchange, severity=Severity.ERROR, since="0.1", refs=("RFC 3030 §2",), verbs=("BDAT",))
def bdat_syntax_wrong(exchange: Exchange, state: State) -> Iterator[Said]:
    """BDAT that is not `BDAT size` or `BDAT size LAST`.

    ## Why it matters
    Without the size nobody knows where the chunk ends, and the conversation cannot be saved.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 CHUNKING
    C: BDAT LAST                                  <- SC171
    S: 501 syntax
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 CHUNKING
    C: MAIL FROM:<a@example.net>
    S: 250 OK
    C: RCPT TO:<b@example.org>
    S: 250 OK
    C: BDAT 0 LAST
    S: 250 OK
    ```

    ## Innocent look-alikes
    `BDAT 0 LAST` ends a message whose chunks have all been sent.
    """
    command = exchange.command
    if command is not None and _clear(exchange, state) and not _ARGUMENT.match(command.argument):
        yield command.at, f"BDAT {command.argument[:40]!r}: a size, or a size and LAST, is due"


@rule(
    id="SC172", on=Exchange, severity=Severity.ERROR, since="0.1", refs=("RFC 3030 §2",), verbs=("BDAT",), when=CHUNKED
)
def bdat_after_last(exchange: Exchange, state: State) -> Iterator[Said]:
    """A further chunk after BDAT LAST, without a new transaction.

    ## Why it matters
    LAST ended the message; what follows belongs to none and must be refused with 503.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 CHUNKING
    C: MAIL FROM:<a@example.net>
    S: 250 OK
    C: RCPT TO:<b@example.org>
    S: 250 OK
    C: BDAT 4 LAST
    C! hi\\r\\n
    S: 250 OK
    C: BDAT 4 LAST                                <- SC172
    C! ho\\r\\n
    S: 503 bad sequence
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 CHUNKING
    C: MAIL FROM:<a@example.net>
    S: 250 OK
    C: RCPT TO:<b@example.org>
    S: 250 OK
    C: BDAT 4
    C! hi\\r\\n
    S: 250 OK
    C: BDAT 4 LAST
    C! ho\\r\\n
    S: 250 OK
    ```

    ## Innocent look-alikes
    A new MAIL in between, also one that was pipelined and refused.
    """
    if exchange.command is not None and _clear(exchange, state) and state.bdat_last and not state.mail_refused:
        yield exchange.command.at, "BDAT after LAST, and no MAIL began another transaction"


@rule(
    id="SC173",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 3030 §2",),
    verbs=("DATA", "MAIL", "RCPT"),
    when=CHUNKED,
)
def command_between_chunks(exchange: Exchange, state: State) -> Iterator[Said]:
    """DATA, MAIL or RCPT between the first chunk and the last: the message is left half sent.

    ## Why it matters
    DATA and BDAT MUST NOT be used in the same transaction, and a transaction ends with LAST or RSET.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 CHUNKING
    C: MAIL FROM:<a@example.net>
    S: 250 OK
    C: RCPT TO:<b@example.org>
    S: 250 OK
    C: BDAT 4
    C! hi\\r\\n
    S: 250 OK
    C: DATA                                       <- SC173
    S: 503 BDAT is under way
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 CHUNKING
    C: MAIL FROM:<a@example.net>
    S: 250 OK
    C: RCPT TO:<b@example.org>
    S: 250 OK
    C: BDAT 4
    C! hi\\r\\n
    S: 250 OK
    C: RSET
    S: 250 OK
    ```

    ## Innocent look-alikes
    RSET, QUIT and NOOP may come between chunks.
    """
    command = exchange.command
    if command is not None and _clear(exchange, state) and state.bdat_open and not state.bdat_failed:
        yield command.at, f"{command.verb} before the last BDAT chunk"


@rule(
    id="SC174",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 3030 §2",),
    verbs=("BDAT", "DATA", "MAIL", "RCPT"),
    when=CHUNKED,
)
def no_reset_after_failed_chunk(exchange: Exchange, state: State) -> Iterator[Said]:
    """A further chunk, RCPT, DATA or a new MAIL, after BDAT failed and without RSET.

    ## Why it matters
    After a 4yz or 5yz to BDAT the transaction is undefined; "the client MUST issue a RSET before sending anything
    else".

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 CHUNKING
    C: MAIL FROM:<a@example.net>
    S: 250 OK
    C: RCPT TO:<b@example.org>
    S: 250 OK
    C: BDAT 4
    C! hi\\r\\n
    S: 452 disk full
    C: BDAT 4 LAST                                <- SC174
    C! ho\\r\\n
    S: 503 bad sequence
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 CHUNKING
    C: MAIL FROM:<a@example.net>
    S: 250 OK
    C: RCPT TO:<b@example.org>
    S: 250 OK
    C: BDAT 4
    C! hi\\r\\n
    S: 452 disk full
    C: RSET
    S: 250 OK
    ```

    ## Innocent look-alikes
    Chunks that were already on their way (pipelined) when the refusal came. MAIL after the last chunk was refused: the
    message is over then, and servers agree on that.
    """
    command = exchange.command
    if command is None or not _clear(exchange, state) or not state.bdat_failed or state.mail is None:
        return
    if not state.pipelined_with(exchange, "BDAT"):
        yield command.at, f"{command.verb} after a failed BDAT, without RSET"


@rule(
    id="SC177",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 3030 §2", "RFC 5321 §3.3"),
    verbs=("BDAT",),
    when=NO_RECIPIENT,
)
def bdat_without_recipient(exchange: Exchange, state: State) -> Iterator[Said]:
    """BDAT although the client knew that no recipient was accepted.

    ## Why it matters
    There is nobody to deliver to; the chunk has to be sent and thrown away all the same.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 CHUNKING
    C: MAIL FROM:<a@example.net>
    S: 250 OK
    C: BDAT 4 LAST                                <- SC177
    C! hi\\r\\n
    S: 554 no valid recipients
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 CHUNKING
    C: MAIL FROM:<a@example.net>
    S: 250 OK
    C: RCPT TO:<b@example.org>
    S: 250 OK
    C: BDAT 4 LAST
    C! hi\\r\\n
    S: 250 OK
    ```

    ## Innocent look-alikes
    BDAT in the same pipelined group as RCPT commands that were all refused.
    """
    command = exchange.command
    if command is None or not _clear(exchange, state) or state.rcpt_accepted or state.bdat_last or state.bdat_failed:
        return
    if not state.pipelined_with(exchange, "RCPT", "MAIL", "BDAT"):
        yield command.at, "BDAT without an accepted recipient"


@rule(id="SC178", on=Exchange, severity=Severity.ERROR, since="0.1", refs=("RFC 3030 §2",), when=PIPELINED)
def chunk_size_wrong(exchange: Exchange, state: State) -> Iterator[Said]:
    """What follows a BDAT chunk is no command: the chunk was longer than it said.

    ## Why it matters
    The rest of the message is read as commands.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 CHUNKING
    C: MAIL FROM:<a@example.net>
    S: 250 OK
    C: RCPT TO:<b@example.org>
    S: 250 OK
    C: BDAT 4 LAST
    C! hi\\r\\nho ho\\r\\n                        <- SC178
    S: 250 OK
    S: 500 unknown command
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 CHUNKING
    C: MAIL FROM:<a@example.net>
    S: 250 OK
    C: RCPT TO:<b@example.org>
    S: 250 OK
    C: BDAT 11 LAST
    C! hi\\r\\nho ho\\r\\n
    S: 250 OK
    ```

    ## Innocent look-alikes
    An unknown command that was sent after the reply to BDAT is only an unknown command (SC120).
    """
    command, previous = exchange.command, state.previous
    if command is None or previous is None or previous.command is None or previous.command.verb != "BDAT":
        return
    if command.outstanding and command.verb not in KNOWN_VERBS and _clear(exchange, state):
        yield command.at, "octets after the BDAT chunk that are no command"


@rule(id="SC179", on=Exchange, severity=Severity.ERROR, since="0.1", refs=("RFC 3030 §3",), verbs=("DATA",))
def data_for_binary_message(exchange: Exchange, state: State) -> Iterator[Said]:
    """DATA in a transaction that announced BODY=BINARYMIME.

    ## Why it matters
    Binary data has no lines: only BDAT can carry it. The server must answer 503.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250-CHUNKING
    S: 250 BINARYMIME
    C: MAIL FROM:<a@example.net> BODY=BINARYMIME
    S: 250 OK
    C: RCPT TO:<b@example.org>
    S: 250 OK
    C: DATA                                       <- SC179
    S: 503 use BDAT
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250-CHUNKING
    S: 250 BINARYMIME
    C: MAIL FROM:<a@example.net> BODY=BINARYMIME
    S: 250 OK
    C: RCPT TO:<b@example.org>
    S: 250 OK
    C: BDAT 4 LAST
    C! hi\\r\\n
    S: 250 OK
    ```

    ## Innocent look-alikes
    BODY=8BITMIME goes with DATA.
    """
    command, mail = exchange.command, state.mail
    if command is None or mail is None or "BINARYMIME" not in mail.argument.upper() or not _clear(exchange, state):
        return
    if (path(mail.argument, "FROM").value("BODY") or "").upper() == "BINARYMIME":
        yield command.at, "DATA for a message announced as BINARYMIME"
