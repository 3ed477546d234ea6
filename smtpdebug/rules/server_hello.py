"""The server's greeting and its reply to EHLO or HELO (RFC 5321 sections 3.1, 3.2, 4.1.1.1 and 4.2)."""

from __future__ import annotations

from collections.abc import Iterator

from smtpdebug.model.findings import Severity
from smtpdebug.model.smtp import AFTER_GAP, GREETING, MALFORMED, Conversation, Exchange, Reply
from smtpdebug.rules.closing import SERVER_TIMEOUT_NS, idle_ns
from smtpdebug.rules.registry import MULTILINE, OFF_TABLE, REFUSED_GREETING, UNFINISHED, Said, rule
from smtpdebug.rules.state import HELLOS, State
from smtpdebug.rules.syntax import is_domain, is_keyword, is_literal
from smtpdebug.rules.table import MULTILINE_KEYWORDS, shown_verb


def _first_word(reply: Reply) -> str:
    if not reply.lines:
        return ""
    words = reply.lines[0][4:].decode("utf-8", "backslashreplace").split(None, 1)
    return words[0] if words else ""


def _spoke_early(exchange: Exchange, greeting: Reply) -> bool:
    return exchange.command is not None and 0 <= exchange.command.acked < greeting.end


def _whole(reply: Reply) -> bool:
    return not reply.oddities & (AFTER_GAP | MALFORMED)


@rule(
    id="SR120",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    when=OFF_TABLE,
    refs=("RFC 5321 §4.3.2", "RFC 5321 §3.1", "RFC 7504 §3"),
    verbs=(GREETING,),
)
def greeting_code_wrong(exchange: Exchange, state: State) -> Iterator[Said]:
    """A first reply that is not 220, nor one of the refusals 554, 521 and 421.

    ## Why it matters
    Clients that see anything else at the greeting give up the host; what they then tell the sender differs.

    ## Example
    ```smtp
    S: 250 mx.example.org ready                   <- SR120
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ready
    ```

    ## Innocent look-alikes
    A capture that begins in mid-conversation. Other 4yz and 5yz codes: they mean refusal all the same (§4.2.1) and
    are widespread (450 and 550 from filters), so that they are reported as a refusal (SR164) only.
    """
    reply = exchange.reply
    if reply is None or state.lossy or not _whole(reply):
        return
    if 200 <= reply.code < 400 and reply.code != 220:
        yield reply.at, f"greeting with {reply.code}: only 220 opens a conversation"


@rule(
    id="SR121",
    on=Exchange,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 5321 §4.2", "RFC 5321 §4.3.1"),
    verbs=(GREETING,),
    replies=(2,),
    pure=True,
)
def greeting_without_domain(exchange: Exchange) -> Iterator[Said]:
    """A 220 greeting whose first word is no domain and no address literal.

    ## Why it matters
    Clients use the name to detect that they talk to themselves (mail loops), and logs use it. A greeting of stars is
    the mark of a firewall that edits SMTP.

    ## Example
    ```smtp
    S: 220 *************************              <- SR121
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    ```

    ## Innocent look-alikes
    A single label (`220 mail ESMTP`) is a domain by the grammar, as is a name with an underscore in practice: let pass.
    """
    reply = exchange.reply
    if reply is None or reply.code != 220 or not _whole(reply):
        return
    word = _first_word(reply)
    if not is_domain(word.replace("_", "x").rstrip(".,")) and not is_literal(word):
        yield reply.at, f"the greeting begins with {word!r}, not with the server's domain"


@rule(
    id="SR122",
    on=Conversation,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 5321 §3.1",),
    when=UNFINISHED,
)
def greeting_554_closed_at_once(conversation: Conversation, state: State) -> Iterator[Said]:
    """A server that greets with 554 and closes without waiting for the client's QUIT.

    ## Why it matters
    "A server taking this approach MUST still wait for the client to send a QUIT." A client whose QUIT meets a closed
    connection may see a reset instead of the text that explains the refusal.

    ## Example
    ```smtp
    S: 554 mx.example.org takes no mail from you  <- SR122
    S closes
    ```

    ## Instead
    ```smtp
    S: 554 mx.example.org takes no mail from you
    C: QUIT
    S: 221 mx.example.org bye
    S closes
    ```

    ## Innocent look-alikes
    521 and 421 greetings: there the server may close at once (RFC 7504 §3, §3.8). A server that waited five minutes
    for the QUIT, or that said 421 in the end. 554 as the answer to a client that spoke before the greeting.
    """
    reply = state.greeting
    if reply is None or reply.code != 554 or state.lossy or state.quit_sent or not _whole(reply):
        return
    if state.closing is not None or any(_spoke_early(exchange, reply) for exchange in conversation.exchanges[1:]):
        return
    stream = conversation.stream
    if stream.closed_by in ("server-fin", "server-rst") and idle_ns(conversation) < SERVER_TIMEOUT_NS:
        yield reply.at, "the server closed after its 554 greeting without waiting for QUIT"


@rule(
    id="SR123",
    on=Exchange,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 5321 §3.1",),
    replies=(2, 3, 4),
    when=REFUSED_GREETING,
)
def command_served_after_554_greeting(exchange: Exchange, state: State) -> Iterator[Said]:
    """A command other than QUIT that is not answered 503 after a 554 greeting.

    ## Why it matters
    The greeting refused the whole conversation; §3.1 wants 503 to everything until QUIT, so that no client goes on.

    ## Example
    ```smtp
    S: 554 no mail here
    C: EHLO client.example.net
    S: 250 mx.example.org                         <- SR123
    ```

    ## Instead
    ```smtp
    S: 554 no mail here
    C: EHLO client.example.net
    S: 503 bad sequence of commands
    ```

    ## Innocent look-alikes
    Other 5yz replies: refusing is what matters. 421, and 221 to QUIT.
    """
    command, reply = exchange.command, exchange.reply
    if command is None or reply is None or state.greeting is None or state.greeting.code != 554 or state.encrypted:
        return
    if command.verb not in ("QUIT", GREETING) and reply.code != 421 and not state.lossy:
        yield reply.at, f"{reply.code} to {shown_verb(command)} after a 554 greeting"


@rule(
    id="SR135",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 5321 §3.2", "RFC 5321 Appendix F.3"),
    verbs=("HELO",),
    replies=(2,),
    when=MULTILINE,
    pure=True,
)
def extensions_listed_to_helo(exchange: Exchange) -> Iterator[Said]:
    """A reply to HELO that lists extensions as one to EHLO does.

    ## Why it matters
    "Servers MUST NOT return the extended EHLO-style response to a HELO command": a client that says HELO cannot
    use them, and a simple one may not read more than one line.

    ## Example
    ```smtp
    S: 220 mx.example.org
    C: HELO client.example.net
    S: 250-mx.example.org
    S: 250 PIPELINING                             <- SR135
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org
    C: HELO client.example.net
    S: 250 mx.example.org
    ```

    ## Innocent look-alikes
    Several lines of free text (a notice about use of the service): legal, no keyword of an extension begins them
    in capitals.
    """
    reply = exchange.reply
    if reply is None or len(reply.lines) < 2 or not _whole(reply):
        return
    words = [text.split(None, 1)[0] for text in reply.texts[1:] if text.strip()]
    found = [word for word in words if word in MULTILINE_KEYWORDS and word != "HELP"]
    if found:
        yield reply.at, f"the reply to HELO lists {', '.join(found[:4])}"


@rule(
    id="SR136",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 5321 §4.1.1.1",),
    verbs=HELLOS,
    replies=(2,),
    pure=True,
)
def keyword_on_first_ehlo_line(exchange: Exchange) -> Iterator[Said]:
    """A reply to EHLO whose first line is an extension's keyword instead of the server's domain.

    ## Why it matters
    Clients skip the first line: the extension named there is never seen. Known from a server whose STARTTLS came
    before its name, so that mail went out in clear.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-STARTTLS
    S: 250 PIPELINING                             <- SR136
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250-STARTTLS
    S: 250 PIPELINING
    ```

    ## Innocent look-alikes
    A host that is really called `help` or `size`: not seen yet.
    """
    reply = exchange.reply
    if reply is not None and _whole(reply):
        word = _first_word(reply)
        if word.upper() in MULTILINE_KEYWORDS:
            yield reply.at, f"the first line names the extension {word} where the server's domain belongs"


@rule(
    id="SR137",
    on=Exchange,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 5321 §4.1.1.1",),
    verbs=("EHLO", "HELO", "LHLO"),
    replies=(2,),
    pure=True,
)
def hello_reply_without_domain(exchange: Exchange) -> Iterator[Said]:
    """A 250 reply to EHLO or HELO whose first word cannot be a domain.

    ## Why it matters
    The reply is where the server says who it is; loop detection and logs read the name here.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 /127.0.0.1                             <- SR137
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    ```

    ## Innocent look-alikes
    `250-Hello client` is a domain by the grammar, and address literals are common here: both let pass.
    """
    reply = exchange.reply
    if reply is None or not _whole(reply) or not reply.lines[0][4:].strip():
        return
    word = _first_word(reply).rstrip(".,")
    if not is_domain(word.replace("_", "x")) and not is_literal(word):
        yield reply.at, f"the reply begins with {word!r}, not with the server's domain"


@rule(
    id="SR138",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 5321 §4.1.1.1",),
    verbs=("EHLO", "LHLO"),
    replies=(2,),
    when=MULTILINE,
    pure=True,
)
def ehlo_keyword_malformed(exchange: Exchange) -> Iterator[Said]:
    """A line of the reply to EHLO that does not begin with a keyword of letters, digits and hyphens.

    ## Why it matters
    The list is read by programs; a line that is none of theirs is skipped at best.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 *SIZE* 100000                          <- SR138
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 SIZE 100000
    ```

    ## Innocent look-alikes
    `AUTH=LOGIN` (and Exchange's `X-EXPS=LOGIN`), which clients of the last century look for, stands beside AUTH on many
    servers: let pass. A bare last line is SR107's business.
    """
    reply = exchange.reply
    if reply is None or len(reply.lines) < 2 or not _whole(reply):
        return
    for line in reply.lines[1:]:
        word = line[4:].split(b" ", 1)[0].decode("utf-8", "backslashreplace")
        if not is_keyword(word) and line[4:].strip() and not word.upper().startswith(("AUTH=", "X-EXPS=")):
            yield reply.at, f"{word[:40]!r} is no EHLO keyword"
            return


@rule(
    id="SR139",
    on=Exchange,
    severity=Severity.NOTE,
    since="0.1",
    refs=("RFC 5321 §4.1.1.1",),
    verbs=("EHLO", "LHLO"),
    replies=(2,),
    when=MULTILINE,
    pure=True,
)
def ehlo_keyword_repeated(exchange: Exchange) -> Iterator[Said]:
    """The same keyword twice in one reply to EHLO.

    ## Why it matters
    Some clients take the first, some the last: with different parameters they see different servers.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250-SIZE 1000
    S: 250 SIZE 2000                              <- SR139
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 SIZE 2000
    ```

    ## Innocent look-alikes
    `AUTH` and `AUTH=` together are one keyword in two forms.
    """
    reply = exchange.reply
    if reply is None or len(reply.lines) < 3 or not _whole(reply):
        return
    words = [line[4:].split(b" ", 1)[0].upper() for line in reply.lines[1:]]
    if len(set(words)) != len(words):
        twice = next(word for word in words if words.count(word) > 1)
        yield reply.at, f"{twice.decode('utf-8', 'backslashreplace')} is listed twice"
