"""ESMTP parameters of MAIL and RCPT and the extensions behind them (RFC 5321 4.1.1.3, 1870, 3461, 6152, 8689, 9422)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from smtpdebug.model.findings import Severity
from smtpdebug.model.smtp import Exchange
from smtpdebug.rules.envelope import envelope
from smtpdebug.rules.registry import WITH_PARAMETERS, Said, rule
from smtpdebug.rules.state import State
from smtpdebug.rules.syntax import is_xtext
from smtpdebug.rules.table import EXTENSION_KEYWORDS, PARAMETER_EXTENSION

_BODIES: Final = frozenset({"7BIT", "8BITMIME", "BINARYMIME"})
_NOTIFY: Final = frozenset({"NEVER", "SUCCESS", "FAILURE", "DELAY"})


@rule(
    id="SC128",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 5321 §4.1.1.3", "RFC 5321 §4.1.1.11"),
    verbs=("MAIL", "RCPT"),
    when=WITH_PARAMETERS,
)
def parameter_not_offered(exchange: Exchange, state: State) -> Iterator[Said]:
    """A parameter of MAIL or RCPT whose extension the server did not offer.

    ## Why it matters
    "The client MUST NOT transmit parameters other than those associated with a service extension offered by the
    server." The server answers 555 and the transaction stops.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 PIPELINING
    C: MAIL FROM:<a@example.net> SIZE=100         <- SC128
    S: 555 unsupported option
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 SIZE 1000000
    C: MAIL FROM:<a@example.net> SIZE=100
    S: 250 OK
    ```

    ## Innocent look-alikes
    A parameter unknown here where the server offers an extension unknown here. Private parameters (X…). A capture
    without the reply to EHLO. Parameters after HELO are SC131.
    """
    found, command = envelope(exchange), exchange.command
    if found is None or not found.parameters or command is None or state.uncertain or not state.esmtp:
        return
    for name, _ in found.parameters:
        keywords = PARAMETER_EXTENSION.get(name, (name,))
        if name.startswith("X") or any(keyword in state.extensions for keyword in keywords):
            continue
        if name in PARAMETER_EXTENSION or state.extensions.keys() <= EXTENSION_KEYWORDS:
            yield command.at, f"parameter {name[:40]} without the extension {' or '.join(keywords)[:60]}"


@rule(
    id="SC129",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 5321 §4.1.2",),
    verbs=("MAIL", "RCPT"),
    when=WITH_PARAMETERS,
)
def parameter_malformed(exchange: Exchange, state: State) -> Iterator[Said]:
    """A parameter of MAIL or RCPT that is not `keyword` or `keyword=value`.

    ## Why it matters
    A value must not be empty and holds no space, no control character and no `=`; servers answer 501 or 555.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 SIZE 1000000
    C: MAIL FROM:<a@example.net> SIZE=            <- SC129
    S: 501 bad SIZE
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 SIZE 1000000
    C: MAIL FROM:<a@example.net> SIZE=100
    S: 250 OK
    ```

    ## Innocent look-alikes
    Trailing spaces. Two spaces between parameters are let pass.
    """
    found, command = envelope(exchange), exchange.command
    if found is None or command is None or not found.bracketed or state.uncertain:
        return
    bad = [word for word in found.bad_parameters if word.strip()]
    if bad:
        yield command.at, f"{bad[0]!r} is no parameter"


@rule(
    id="SC130",
    on=Exchange,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 5321 §4.1.1.11", "RFC 3461 §4"),
    verbs=("MAIL", "RCPT"),
    when=WITH_PARAMETERS,
)
def parameter_repeated(exchange: Exchange) -> Iterator[Said]:
    """The same parameter twice in one MAIL or RCPT.

    ## Why it matters
    Which of the two counts is up to the server; several answer 501.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 SIZE 1000000
    C: MAIL FROM:<a@example.net> SIZE=1 SIZE=2    <- SC130
    S: 250 OK
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 SIZE 1000000
    C: MAIL FROM:<a@example.net> SIZE=2
    S: 250 OK
    ```

    ## Innocent look-alikes
    None.
    """
    found, command = envelope(exchange), exchange.command
    if found is None or command is None or len(found.parameters) < 2:
        return
    names = [name for name, _ in found.parameters]
    if len(set(names)) < len(names):
        yield command.at, f"parameter {next(n for n in names if names.count(n) > 1)} twice"


@rule(
    id="SC131",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 5321 §2.2.1", "RFC 5321 §3.2"),
    verbs=("MAIL", "RCPT"),
    when=WITH_PARAMETERS,
)
def parameter_after_helo(exchange: Exchange, state: State) -> Iterator[Said]:
    """A parameter of MAIL or RCPT after HELO.

    ## Why it matters
    HELO means: no extensions. The server has no reason to understand the parameter.

    ## Example
    ```smtp
    S: 220 mx.example.org
    C: HELO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net> SIZE=100         <- SC131
    S: 555 unsupported option
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org
    C: HELO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 250 OK
    ```

    ## Innocent look-alikes
    A capture that begins after EHLO.
    """
    found, command = envelope(exchange), exchange.command
    if found is None or not found.parameters or command is None or state.uncertain:
        return
    if state.helo is not None and not state.esmtp:
        yield command.at, f"parameter {found.parameters[0][0][:40]} after HELO"


@rule(
    id="SC162",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 6152 §2", "RFC 3030 §3"),
    verbs=("MAIL",),
    when=WITH_PARAMETERS,
)
def body_value_unknown(exchange: Exchange, state: State) -> Iterator[Said]:
    """A BODY parameter other than 7BIT, 8BITMIME or BINARYMIME, or BINARYMIME where it was not offered.

    ## Why it matters
    The server cannot tell what it will get, and answers 501 or 555.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 8BITMIME
    C: MAIL FROM:<a@example.net> BODY=8BIT        <- SC162
    S: 501 bad BODY
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 8BITMIME
    C: MAIL FROM:<a@example.net> BODY=8BITMIME
    S: 250 OK
    ```

    ## Innocent look-alikes
    Lower case.
    """
    found, command = envelope(exchange), exchange.command
    if found is None or command is None or not found.parameters or state.uncertain:
        return
    body = found.value("BODY")
    if body is not None and body.upper() not in _BODIES:
        yield command.at, f"BODY={body[:40]}"
    elif body is not None and body.upper() == "BINARYMIME" and state.esmtp and not state.offers("BINARYMIME"):
        yield command.at, "BODY=BINARYMIME was not offered"


@rule(
    id="SC190",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 3461 §4.1", "RFC 3461 §4.2", "RFC 3461 §4.3"),
    verbs=("MAIL", "RCPT"),
    when=WITH_PARAMETERS,
)
def dsn_parameter_wrong(exchange: Exchange, state: State) -> Iterator[Said]:
    """A DSN parameter with a wrong value: NOTIFY=NEVER with others, RET not FULL or HDRS, ENVID or ORCPT not in xtext.

    ## Why it matters
    The server answers 501, or the sender gets reports it did not ask for.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 DSN
    C: MAIL FROM:<a@example.net> RET=ALL          <- SC190
    S: 501 bad RET
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 DSN
    C: MAIL FROM:<a@example.net> RET=HDRS ENVID=QQ314159
    S: 250 OK
    C: RCPT TO:<b@example.org> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;b@example.org
    S: 250 OK
    ```

    ## Innocent look-alikes
    ORCPT with UTF-8 (`utf-8;`), which RFC 6533 defines.
    """
    found, command = envelope(exchange), exchange.command
    if found is None or command is None or not found.parameters or state.uncertain:
        return
    for name, value in found.parameters:
        fault = _dsn_fault(name, value or "")
        if fault:
            yield command.at, fault


def _dsn_fault(name: str, value: str) -> str | None:
    if name == "RET" and value.upper() not in ("FULL", "HDRS"):
        return f"RET={value[:40]}: only FULL and HDRS are defined"
    if name == "NOTIFY":
        words = value.upper().split(",")
        if not set(words) <= _NOTIFY:
            return f"NOTIFY={value[:60]}: only NEVER, SUCCESS, FAILURE and DELAY are defined"
        return "NOTIFY=NEVER stands alone" if "NEVER" in words and len(words) > 1 else None
    if name == "ENVID" and not is_xtext(value):
        return "ENVID is not xtext"
    if name == "ORCPT" and not value.lower().startswith("utf-8;"):
        kind, semicolon, address = value.partition(";")
        if not semicolon or not kind or not is_xtext(address):
            return "ORCPT is not address-type;xtext"
    return None


@rule(
    id="SC195",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 8689 §4.1", "RFC 8689 §2"),
    verbs=("MAIL",),
    security=True,
    when=WITH_PARAMETERS,
)
def requiretls_in_clear(exchange: Exchange, state: State) -> Iterator[Said]:
    """MAIL with REQUIRETLS outside TLS.

    ## Why it matters
    The sender demands that the message is never sent in clear; this hop just did.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 REQUIRETLS
    C: MAIL FROM:<a@example.net> REQUIRETLS       <- SC195
    S: 550 5.7.30 not here
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 STARTTLS
    C: STARTTLS
    S: 220 go ahead
    -- tls --
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 REQUIRETLS
    C: MAIL FROM:<a@example.net> REQUIRETLS
    S: 250 OK
    ```

    ## Innocent look-alikes
    A TLS proxy in front of the capture point: the inner leg is in clear by design, and is still a leg.
    """
    found, command = envelope(exchange), exchange.command
    if found is None or not found.parameters or command is None or exchange.encrypted:
        return
    if found.value("REQUIRETLS") is not None:
        yield command.at, "REQUIRETLS outside TLS"
