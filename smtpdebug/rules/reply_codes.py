"""Reply codes against the table: which code may answer which command (RFC 5321 section 4.3.2)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from smtpdebug.model.findings import Severity
from smtpdebug.model.smtp import AFTER_GAP, END_OF_DATA, GREETING, MALFORMED, Command, Exchange
from smtpdebug.rules import providers
from smtpdebug.rules.registry import OFF_TABLE, UNKNOWN_VERB, Said, rule
from smtpdebug.rules.state import State
from smtpdebug.rules.syntax import path
from smtpdebug.rules.table import EXPECTED, PER_RECIPIENT, REQUIRED_VERBS, VERB_EXTENSION, listed

_ELSEWHERE: Final = 512
"""Octets of a command line that must be accepted (RFC 5321 4.5.3.1.4): beyond it 500 is legitimate."""

_WANTED: Final[dict[str, frozenset[int]]] = {"DATA": frozenset({3, 4, 5}), "BURL": frozenset({2, 3, 4, 5})}
_WIDESPREAD: Final = frozenset({("RCPT", 554), ("RCPT", 454), ("VRFY", 554), ("VRFY", 454), ("MAIL", 450)})
"""Refusals for policy and for a rate; Postfix sends these where nobody asked it to."""
_WITH_CHALLENGE: Final = frozenset({"AUTH", "(auth)", "X-EXPS", "XAUTH", "XEXCH50"})


_SECURITY: Final = re.compile(r"secur|\btls\b|starttls|\bssl\b|encrypt|certificate|cipher", re.IGNORECASE)


def _lacks_security(exchange: Exchange) -> bool:
    """RFC 3207: in clear 530 to every command but a few (4), in TLS that does not please the server 554 (4.1)."""
    reply = exchange.reply
    if reply is None or reply.code != (554 if exchange.encrypted else 530):
        return False
    return _SECURITY.search(" ".join(reply.texts)) is not None


def _asked_for_prdr(state: State) -> bool:
    return state.mail is not None and path(state.mail.argument, "FROM").value("PRDR") is not None


def _malformed(command: Command) -> bool:
    """A path or a name is due and there is none: 500 is "syntax error" then, not "unknown"."""
    if command.verb in ("MAIL", "RCPT"):
        found = path(command.argument, "FROM" if command.verb == "MAIL" else "TO")
        return found.address is None or not found.bracketed or found.spaced
    return command.verb in ("EHLO", "HELO", "VRFY") and not command.argument


def _wrong_class(verb: str, code: int) -> bool:
    digit = code // 100
    if verb in _WITH_CHALLENGE or verb not in EXPECTED or not 2 <= digit <= 5:
        return False
    return digit not in _WANTED.get(verb, frozenset({2, 4, 5}))


@rule(
    id="SR103",
    on=Exchange,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 5321 §4.3.2", "RFC 7504 §5.1"),
    when=OFF_TABLE,
)
def reply_code_not_listed(exchange: Exchange, state: State) -> Iterator[Said]:
    """A reply code that §4.3.2, RFC 7504 or the command's own extension does not list for this command.

    ## Why it matters
    Clients must cope by the first digit, and most do; but logs, dashboards and retry policies are keyed on whole
    codes, and an unlisted one is where two implementations start to disagree. The table SHOULD be "strictly adhered
    to" (§4.3.1), so this is a warning and never an error.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 554 not today                              <- SR103
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 550 not today
    ```

    ## Innocent look-alikes
    421, 500 and 501 may answer any command, 530 any that needs TLS or authentication first. Codes that a known
    provider uses on purpose are silent with that provider (Amazon SES throttles with 454; see `docs/providers/`). 554
    and 454 to RCPT and VRFY, refusals for policy, and 450 to MAIL, a limit of rate, are so widespread that they are let
    pass. 554 inside TLS whose text speaks of security (RFC 3207 §4.1), and to a second STARTTLS.
    """
    command, reply = exchange.command, exchange.reply
    if command is None or reply is None or listed(command.verb, reply.code):
        return
    verb, code = command.verb, reply.code
    if reply.oddities & (AFTER_GAP | MALFORMED) or state.uncertain or not 200 <= code < 600 or _wrong_class(verb, code):
        return
    if (verb, code) in _WIDESPREAD or _lacks_security(exchange):
        return
    if verb == "STARTTLS" and exchange.encrypted:
        return  # RFC 3207 names no code for it
    if verb == GREETING or (code == 502 and verb in REQUIRED_VERBS) or code == 521:
        return  # SR120, SR125, SR113
    if state.greeting is not None and state.greeting.code in (554, 521) and code in (503, 521, 554):
        return  # RFC 5321 3.1, RFC 7504 3: a server that said so at the greeting
    if code in (503, 504) and verb not in ("HELP", "QUIT", "NOOP", "RSET"):
        return  # 4.1.4: bad sequence of commands; 4.2.2: parameter not implemented
    if providers.meant(state.conversation, exchange) is not None:
        return
    yield reply.at, f"{code} is not listed as a reply to {_name(verb)}"


def _name(verb: str) -> str:
    return {GREETING: "a new connection", END_OF_DATA: "the end of mail data"}.get(verb, verb)


@rule(
    id="SR112",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 5321 §4.2.1", "RFC 5321 §4.3.2"),
    replies=(2, 3),
    when=OFF_TABLE,
)
def reply_class_impossible(exchange: Exchange, state: State) -> Iterator[Said]:
    """A first digit that cannot answer this command: 2yz to DATA, 3yz where nothing is left to send.

    ## Why it matters
    The first digit is what clients act on. After 250 to DATA the client does not know whether to send the message;
    after 354 to RCPT it may start sending it among the commands.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 354 go ahead                               <- SR112
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 OK
    ```

    ## Innocent look-alikes
    334 during AUTH. 353 to a message whose MAIL asked for PRDR: a reply for each recipient follows. Commands of
    extensions that are not known here. Anything after a gap, where reply and command may not belong together.
    """
    command, reply = exchange.command, exchange.reply
    if command is None or reply is None or state.uncertain or reply.oddities & AFTER_GAP:
        return
    if reply.code in PER_RECIPIENT and exchange.data is not None and _asked_for_prdr(state):
        return
    if command.verb != GREETING and _wrong_class(command.verb, reply.code):
        yield reply.at, f"{reply.code} cannot answer {_name(command.verb)}"


@rule(
    id="SR113",
    on=Exchange,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 7504 §3",),
    replies=(5,),
    when=OFF_TABLE | UNKNOWN_VERB,
)
def code_521_after_the_greeting(exchange: Exchange, state: State) -> Iterator[Said]:
    """521 ("host does not accept mail") given later than at the greeting.

    ## Why it matters
    521 says that the whole host never takes mail. Given in mid-conversation, a client may give up the domain for good.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 521 we take no mail                        <- SR113
    ```

    ## Instead
    ```smtp
    S: 521 mx.example.org takes no mail
    C: QUIT
    S: 221 mx.example.org bye
    ```

    ## Innocent look-alikes
    521 to every command after a 521 greeting is what RFC 7504 §3 allows.
    """
    command, reply = exchange.command, exchange.reply
    if reply is None or reply.code != 521 or command is None or command.verb == GREETING or state.lossy:
        return
    if state.greeting is not None and state.greeting.code not in (521, 554):
        yield reply.at, "521 belongs at the greeting only"


@rule(
    id="SR124",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 5321 §4.2.4",),
    verbs=VERB_EXTENSION,
    replies=(5,),
)
def offered_command_not_recognised(exchange: Exchange, state: State) -> Iterator[Said]:
    """500 or 502 to a command that the server's own EHLO reply offered.

    ## Why it matters
    "Extended SMTP systems MUST NOT list capabilities in response to EHLO for which they will return 502 (or 500)
    replies." Also the trace of a middlebox that rewrites commands but not the list.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 STARTTLS
    C: STARTTLS
    S: 502 not implemented                        <- SR124
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 STARTTLS
    C: STARTTLS
    S: 454 TLS not available due to temporary reason
    ```

    ## Innocent look-alikes
    500 to a line longer than 512 octets. 501 or 503 to a command in the wrong place.
    """
    command, reply = exchange.command, exchange.reply
    if command is None or reply is None or reply.code not in (500, 502) or state.uncertain:
        return
    keyword = VERB_EXTENSION[command.verb]
    if state.offers(keyword) and len(command.line) <= _ELSEWHERE and not reply.oddities & AFTER_GAP:
        yield reply.at, f"{reply.code} to {command.verb}, although EHLO offered {keyword}"


@rule(
    id="SR125",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 5321 §4.3.2", "RFC 5321 §4.5.1"),
    verbs=("HELO", "MAIL", "RCPT", "DATA", "RSET", "NOOP", "QUIT"),
    replies=(5,),
)
def required_command_not_implemented(exchange: Exchange, state: State) -> Iterator[Said]:
    """ "Not recognised" or "not implemented" to a command that every server must have.

    ## Why it matters
    §4.5.1 lists the minimum; §4.3.2 calls 500 to one of them "a violation of this specification". Often the server
    means something else (authenticate first, use TLS first), and the client cannot know.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 502 must use TLS first                     <- SR125
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 530 must issue a STARTTLS command first
    ```

    ## Innocent look-alikes
    500 for a line above 512 octets, or for one with control characters, arguments it must not have or no path where one
    is due: 500 says "syntax error" too. 502 to VRFY is
    in its row of the table. 500 to HELO on LMTP is right (RFC 2033 §4.1).
    """
    command, reply = exchange.command, exchange.reply
    if command is None or reply is None or reply.code not in (500, 502) or state.uncertain or state.lmtp:
        return
    if reply.oddities & AFTER_GAP or command.oddities or len(command.line) > _ELSEWHERE:
        return
    if command.verb in ("DATA", "RSET", "QUIT") and command.argument:
        return
    if command.outstanding and command.verb not in ("MAIL", "RCPT"):
        return
    if reply.code == 500 and _malformed(command):
        return
    yield reply.at, f"{reply.code} to {command.verb}, which every server must implement"


@rule(
    id="SR128",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 5321 §4.1.1.5",),
    verbs=("RSET",),
    replies=(2, 4, 5),
    when=OFF_TABLE,
)
def rset_not_answered_250(exchange: Exchange, state: State) -> Iterator[Said]:
    """RSET without an argument that is not answered 250.

    ## Why it matters
    "The receiver MUST send a 250 OK reply to a RSET command with no arguments." A client that recovers with RSET has
    no way left but to close.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: RSET
    S: 450 busy                                   <- SR128
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: RSET
    S: 250 flushed
    ```

    ## Innocent look-alikes
    421 (the server shuts down). 501 to RSET with an argument. 503 or 521 after a greeting that refused service.
    500 and 502 are SR125's. 530 before TLS and 554 in TLS whose texts speak of security (RFC 3207 §4, §4.1).
    """
    command, reply = exchange.command, exchange.reply
    if command is None or reply is None or reply.code in (250, 421, 500, 502) or state.uncertain:
        return
    refused = state.greeting is not None and state.greeting.code != 220
    if _lacks_security(exchange):
        return
    if not command.argument and not command.oddities and not refused and not reply.oddities & AFTER_GAP:
        yield reply.at, f"{reply.code} to RSET: only 250 is allowed"


@rule(
    id="SR129",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 5321 §4.1.1.10",),
    verbs=("QUIT",),
    replies=(2, 4, 5),
    when=OFF_TABLE,
)
def quit_not_answered_221(exchange: Exchange, state: State) -> Iterator[Said]:
    """QUIT that is not answered 221.

    ## Why it matters
    "The receiver MUST send a 221 OK reply, and then close". Another code leaves open whether the conversation is over.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: QUIT
    S: 250 bye                                    <- SR129
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: QUIT
    S: 221 mx.example.org bye
    ```

    ## Innocent look-alikes
    421 (the server was closing anyway), 501 to QUIT with an argument, 521 after a 521 greeting.
    """
    command, reply = exchange.command, exchange.reply
    if command is None or reply is None or reply.code in (221, 421, 500, 502) or state.uncertain:
        return
    refused = state.greeting is not None and state.greeting.code == 521
    if not command.argument and not command.oddities and not refused and not reply.oddities & AFTER_GAP:
        yield reply.at, f"{reply.code} to QUIT: only 221 is allowed"
