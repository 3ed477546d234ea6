"""AUTH (RFC 4954): offered, in its place, well-formed. Nothing of what the client sent is ever quoted."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Final

from smtpdebug.model.findings import Severity
from smtpdebug.model.smtp import AFTER_GAP, AUTH_ANSWER, Exchange
from smtpdebug.rules.registry import Said, rule
from smtpdebug.rules.state import State

_MECHANISM: Final = re.compile(r"[A-Za-z0-9_-]{1,20}\Z")
_SERVER_FIRST: Final = frozenset({"CRAM-MD5", "DIGEST-MD5"})
_LINE: Final = 510
"""Octets of a command line without its CRLF (RFC 5321 4.5.3.1.4)."""


def _is_base64(text: str) -> bool:
    if text in ("", "=", "*"):
        return True
    try:
        base64.b64decode(text.encode("ascii", "strict"), validate=True)
    except (binascii.Error, UnicodeEncodeError, ValueError):
        return False
    return True


def _sure(exchange: Exchange, state: State) -> bool:
    command = exchange.command
    return command is not None and not state.uncertain and not command.oddities & AFTER_GAP


@rule(
    id="SC150",
    on=Exchange,
    severity=Severity.WARNING,
    since="0.1",
    refs=("RFC 4954 §3", "RFC 4954 §4"),
    verbs=("AUTH",),
)
def auth_not_offered(exchange: Exchange, state: State) -> Iterator[Said]:
    """AUTH, or a mechanism of it, that the reply to EHLO did not offer.

    ## Why it matters
    The server refuses (502, 503, 504); credentials may already have been sent in vain, and in clear.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 AUTH PLAIN
    C: AUTH CRAM-MD5                              <- SC150
    S: 504 5.5.4 unknown mechanism
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 AUTH PLAIN
    C: AUTH PLAIN AGFsaWNlAHllcw==
    S: 235 2.7.0 OK
    ```

    ## Innocent look-alikes
    A capture without the reply to EHLO. Mechanisms offered by the old form `AUTH=LOGIN`.
    """
    command = exchange.command
    if command is None or not _sure(exchange, state) or state.helo is None:
        return
    if not state.offers("AUTH"):
        yield command.at, "AUTH was not offered"
        return
    mechanism = command.argument.split(" ", 1)[0].upper()
    offered = state.extensions["AUTH"].upper().split()
    if mechanism and mechanism not in offered and _MECHANISM.match(mechanism):
        yield command.at, f"mechanism {mechanism} was not offered"


@rule(id="SC152", on=Exchange, severity=Severity.ERROR, since="0.1", refs=("RFC 4954 §4",), verbs=("AUTH",))
def auth_in_wrong_place(exchange: Exchange, state: State) -> Iterator[Said]:
    """AUTH a second time after it succeeded, or inside a mail transaction.

    ## Why it matters
    "After an AUTH command has been successfully completed, no more AUTH commands may be issued in the same session",
    and AUTH "is not permitted during a mail transaction". The server must answer 503.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 AUTH PLAIN
    C: AUTH PLAIN AGFsaWNlAHllcw==
    S: 235 2.7.0 OK
    C: AUTH PLAIN AGFsaWNlAHllcw==                <- SC152
    S: 503 already authenticated
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 AUTH PLAIN
    C: AUTH PLAIN AGFsaWNlAG5v
    S: 535 5.7.8 wrong
    C: AUTH PLAIN AGFsaWNlAHllcw==
    S: 235 2.7.0 OK
    ```

    ## Innocent look-alikes
    Another try after 535. AUTH again after STARTTLS, which forgets everything.
    """
    command = exchange.command
    if command is None or not _sure(exchange, state):
        return
    if state.authenticated:
        yield command.at, "AUTH although authenticated already"
    elif state.mail is not None and not state.lossy:
        yield command.at, "AUTH inside a mail transaction"


@rule(
    id="SR194",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 4954 §4",),
    verbs=("AUTH",),
    replies=(2, 3),
)
def auth_accepted_in_wrong_place(exchange: Exchange, state: State) -> Iterator[Said]:
    """AUTH served although the client was authenticated already, or a mail transaction was open.

    ## Why it matters
    "A server MUST reject … with a 503 reply." Whose rights count for the rest is undefined.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 AUTH PLAIN
    C: AUTH PLAIN AGFsaWNlAHllcw==
    S: 235 2.7.0 OK
    C: AUTH PLAIN AGFsaWNlAHllcw==
    S: 235 2.7.0 OK                               <- SR194
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 AUTH PLAIN
    C: AUTH PLAIN AGFsaWNlAHllcw==
    S: 235 2.7.0 OK
    ```

    ## Innocent look-alikes
    AUTH again after STARTTLS.
    """
    reply = exchange.reply
    if reply is None or not _sure(exchange, state) or state.lossy:
        return
    if state.authenticated or state.mail is not None:
        yield reply.at, f"{reply.code} to AUTH: the server must answer 503 here"


@rule(
    id="SC154",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 4954 §4", "RFC 4648 §4"),
    verbs=("AUTH", AUTH_ANSWER),
)
def auth_data_not_base64(exchange: Exchange, state: State) -> Iterator[Said]:
    """An initial response or an answer during AUTH that is not base64.

    ## Why it matters
    The server must answer 501. Often a password sent as it is, by hand or by a program that forgot to encode.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 AUTH LOGIN
    C: AUTH LOGIN
    S: 334 VXNlcm5hbWU6
    C: alice!                                     <- SC154
    S: 501 5.5.2 cannot decode
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 AUTH LOGIN
    C: AUTH LOGIN
    S: 334 VXNlcm5hbWU6
    C: YWxpY2U=
    S: 334 UGFzc3dvcmQ6
    C: c2VjcmV0
    S: 235 2.7.0 OK
    ```

    ## Innocent look-alikes
    `*` cancels, `=` is an empty initial response, an empty line an empty answer.
    """
    command = exchange.command
    if command is None or not _sure(exchange, state):
        return
    text = command.argument.strip()
    if command.verb == "AUTH":
        text = text.partition(" ")[2].strip()
    if not _is_base64(text):
        yield command.at, "the client's AUTH data is not base64"


@rule(id="SC156", on=Exchange, severity=Severity.WARNING, since="0.1", refs=("RFC 4954 §4",), verbs=("AUTH",))
def initial_response_too_long(exchange: Exchange, state: State) -> Iterator[Said]:
    """An initial response that makes the AUTH line longer than 512 octets.

    ## Why it matters
    The client is to send it as an answer to `334 ` then, where 12288 octets are allowed. Servers with a buffer of 512
    octets answer 500. A warning, not an error, since the servers that take such tokens all allow it.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 AUTH XOAUTH2
    C! AUTH XOAUTH2 dXNlcj1hQGV4YW1wbGUubmV0AWF1dGg9QmVhcmVyIDAxMjM0NTY3ODkwMTIzNDU2
    C! dXNlcj1hQGV4YW1wbGUubmV0AWF1dGg9QmVhcmVyIDAxMjM0NTY3ODkwMTIzNDU2
    C! dXNlcj1hQGV4YW1wbGUubmV0AWF1dGg9QmVhcmVyIDAxMjM0NTY3ODkwMTIzNDU2
    C! dXNlcj1hQGV4YW1wbGUubmV0AWF1dGg9QmVhcmVyIDAxMjM0NTY3ODkwMTIzNDU2
    C! dXNlcj1hQGV4YW1wbGUubmV0AWF1dGg9QmVhcmVyIDAxMjM0NTY3ODkwMTIzNDU2
    C! dXNlcj1hQGV4YW1wbGUubmV0AWF1dGg9QmVhcmVyIDAxMjM0NTY3ODkwMTIzNDU2
    C! dXNlcj1hQGV4YW1wbGUubmV0AWF1dGg9QmVhcmVyIDAxMjM0NTY3ODkwMTIzNDU2
    C! dXNlcj1hQGV4YW1wbGUubmV0AWF1dGg9QmVhcmVyIDAxMjM0NTY3ODkwMTIzNDU2
    C! dXNlcj1hQGV4YW1wbGUubmV0AWF1dGg9QmVhcmVyIDAxMjM0NTY3ODkwMTIzNDU2\\r\\n                <- SC156
    S: 500 line too long
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 AUTH XOAUTH2
    C: AUTH XOAUTH2 dXNlcj1hQGV4YW1wbGUubmV0AQE=
    S: 235 2.7.0 OK
    ```

    ## Innocent look-alikes
    Long answers to 334.
    """
    command = exchange.command
    if command is not None and len(command.line) > _LINE and _sure(exchange, state):
        yield command.at, f"an AUTH line of {len(command.line) + 2} octets; above 512 the answer to 334 is the place"


@rule(
    id="SR190",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 4954 §4",),
    verbs=("AUTH", AUTH_ANSWER),
    replies=(3,),
)
def challenge_not_base64(exchange: Exchange) -> Iterator[Said]:
    """A 334 reply whose text is not base64.

    ## Why it matters
    Clients decode it and give up if they cannot; for LOGIN many ignore it, for CRAM-MD5 none can.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 AUTH LOGIN
    C: AUTH LOGIN
    S: 334 your name?                             <- SR190
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 AUTH LOGIN
    C: AUTH LOGIN
    S: 334 VXNlcm5hbWU6
    ```

    ## Innocent look-alikes
    An empty challenge. For GSSAPI and NTLM some servers say `334 NTLM supported` first: let pass for those two.
    """
    command, reply = exchange.command, exchange.reply
    if command is None or reply is None or reply.code != 334 or reply.oddities & AFTER_GAP:
        return
    text = reply.texts[0].strip()
    if not _is_base64(text) and "supported" not in text.lower():
        yield reply.at, "the challenge after 334 is not base64"


@rule(
    id="SR192",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 4954 §4",),
    verbs=(AUTH_ANSWER,),
)
def cancellation_not_answered_501(exchange: Exchange) -> Iterator[Said]:
    """`*`, with which the client cancels AUTH, answered with another code than 501.

    ## Why it matters
    "The server MUST reject the AUTH command by sending a 501 reply": a client told 535 reports a wrong password.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 AUTH LOGIN
    C: AUTH LOGIN
    S: 334 VXNlcm5hbWU6
    C: *
    S: 535 5.7.8 failed                           <- SR192
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 AUTH LOGIN
    C: AUTH LOGIN
    S: 334 VXNlcm5hbWU6
    C: *
    S: 501 5.7.0 cancelled
    ```

    ## Innocent look-alikes
    421, when the server has had enough.
    """
    command, reply = exchange.command, exchange.reply
    if command is None or reply is None or command.argument.strip() != "*" or command.oddities & AFTER_GAP:
        return
    if reply.code not in (501, 421) and not reply.oddities & AFTER_GAP:
        yield reply.at, f"{reply.code} to the cancellation of AUTH: only 501 is allowed"


@rule(
    id="SR193",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 4954 §4",),
    verbs=("AUTH",),
    replies=(2, 3),
)
def initial_response_to_server_first_mechanism(exchange: Exchange, state: State) -> Iterator[Said]:
    """An initial response accepted for a mechanism in which the server speaks first.

    ## Why it matters
    For CRAM-MD5 and DIGEST-MD5 the client can have nothing to say yet; the server MUST answer 501.

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 AUTH CRAM-MD5
    C: AUTH CRAM-MD5 YWxpY2U=
    S: 334 PDE4OTZAbXg+                           <- SR193
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 AUTH CRAM-MD5
    C: AUTH CRAM-MD5
    S: 334 PDE4OTZAbXg+
    ```

    ## Innocent look-alikes
    LOGIN with the user's name: in no standard, and everybody does it.
    """
    command, reply = exchange.command, exchange.reply
    if command is None or reply is None or not _sure(exchange, state):
        return
    mechanism, _, initial = command.argument.strip().partition(" ")
    if mechanism.upper() in _SERVER_FIRST and initial.strip():
        yield reply.at, f"{reply.code} to {mechanism.upper()} with an initial response: 501 is due"


@rule(
    id="SR197",
    on=Exchange,
    severity=Severity.ERROR,
    since="0.1",
    refs=("RFC 4954 §4",),
    verbs=("AUTH", AUTH_ANSWER),
    replies=(2, 3),
)
def undecodable_auth_data_accepted(exchange: Exchange, state: State) -> Iterator[Said]:
    """AUTH data that is not base64 accepted by the server.

    ## Why it matters
    "If the server cannot [BASE64] decode any client response, it MUST reject the AUTH command with a 501 reply".

    ## Example
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 AUTH LOGIN
    C: AUTH LOGIN
    S: 334 VXNlcm5hbWU6
    C: alice!
    S: 334 UGFzc3dvcmQ6                           <- SR197
    ```

    ## Instead
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 AUTH LOGIN
    C: AUTH LOGIN
    S: 334 VXNlcm5hbWU6
    C: YWxpY2U=
    S: 334 UGFzc3dvcmQ6
    ```

    ## Innocent look-alikes
    Servers that read all of a LOGIN exchange before they decode it are still late.
    """
    command, reply = exchange.command, exchange.reply
    if command is None or reply is None or not _sure(exchange, state):
        return
    text = command.argument.strip()
    if command.verb == "AUTH":
        text = text.partition(" ")[2].strip()
    if not _is_base64(text):
        yield reply.at, f"{reply.code} to AUTH data that is not base64"
