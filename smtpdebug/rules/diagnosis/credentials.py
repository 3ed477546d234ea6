"""Diagnoses of refused credentials, by their shape: they are never printed, and no copy is kept."""

from __future__ import annotations

import re
from collections.abc import Iterator

from smtpdebug.rules.diagnosis.authentication import AUTH, attempts
from smtpdebug.rules.diagnosis.facts import Facts
from smtpdebug.rules.diagnosis.registry import Confidence, Seen, Trigger, diagnosis
from smtpdebug.rules.diagnosis.words import Refusals, refusals, words

AWS_KEY_ID = re.compile(rb"(AKIA|ASIA)[A-Z0-9]{12,124}$")


AWS_SECRET = re.compile(rb"[A-Za-z0-9/+]{40}$")
"""An AWS secret access key: 40 characters."""


SES_PASSWORD = re.compile(rb"(B[A-P]|A[g-v])[A-Za-z0-9+/]{41}[A-Za-z0-9+/=]$")
"""An SES SMTP password: base64 of a version octet (0x04 since 2019, 0x02 before) and 32 octets: 44 characters."""


REJECTED = words("credential", "authentication", "password", "username", "login", "auth", "5\\.7\\.8")


def name_and_password(mechanism: str, answers: list[bytes]) -> tuple[bytes, bytes]:
    """Name and password of PLAIN (RFC 4616) or LOGIN; empty where not seen."""
    if mechanism == "PLAIN" and answers:
        parts = answers[-1].split(b"\0")
        return (parts[1], parts[2]) if len(parts) == 3 else (b"", b"")
    if mechanism == "LOGIN":
        return [*answers, b"", b""][0], [*answers, b"", b""][1]
    return b"", b""


def _rejected(facts: Facts) -> Refusals:
    for exchange in facts.failed:
        if exchange.command is not None and exchange.command.line.strip() == b"*":
            facts.claimed.add(id(exchange))  # the client cancelled (RFC 4954 section 4)
    return refusals(facts, "D43", REJECTED, verbs=AUTH, codes={535, 530, 550, 554, 501, 534}, enhanced={"5.7.8"})


@diagnosis("D44", name="ses-credentials-of-another-region", on=Trigger.FAILED)
def another_region(facts: Facts) -> Iterator[Seen]:
    """Well-formed Amazon SES credentials are refused: they may belong to another region.

    ## Evidence
    535 from Amazon SES, a user name of the right shape and a password of the shape of an SES SMTP password (44
    characters). Such passwords are made for one region.

    ## What to do
    Make SMTP credentials in the SES console of the region whose endpoint is used, or use the endpoint of their region.

    ## Otherwise
    The credentials were deleted, or the password belongs to another user name.

    ## Example
    ```smtp
    S: 220 email-smtp.amazonaws.com ESMTP SimpleEmailService-1
    C: EHLO client.example.net
    S: 250-email-smtp.amazonaws.com
    S: 250 AUTH PLAIN LOGIN
    C: AUTH LOGIN
    S: 334 VXNlcm5hbWU6
    C: QUtJQUlPU0ZPRE5ON0VYQU1QTEU=
    S: 334 UGFzc3dvcmQ6
    C: QkFFQ0F3UUZCZ2NJQ1FvTERBME9EeEFSRWhNVUZSWVhHQmthR3h3ZEhoOGc=
    S: 535 Authentication Credentials Invalid
    C: QUIT
    S: 221 Bye
    ```

    ## Silent
    ```smtp
    S: 220 email-smtp.amazonaws.com ESMTP SimpleEmailService-1
    C: EHLO client.example.net
    S: 250-email-smtp.amazonaws.com
    S: 250 AUTH PLAIN LOGIN
    C: AUTH PLAIN AGEAYg==
    S: 535 Authentication Credentials Invalid
    C: QUIT
    S: 221 Bye
    ```
    """
    if facts.provider is None or facts.provider.id != "amazon-ses":
        return
    for _, used, answers in attempts(facts):
        name, password = name_and_password(used, answers)
        if AWS_KEY_ID.match(name) and SES_PASSWORD.match(password) and not name.startswith(b"ASIA"):
            found = _rejected(facts)
            if found:
                yield Seen(
                    "Amazon SES refuses well-formed credentials: they belong to another region or were deleted.",
                    Confidence.MEDIUM,
                    found.evidence,
                )
            return


@diagnosis("D43", name="credentials-rejected", on=Trigger.FAILED)
def rejected(facts: Facts) -> Iterator[Seen]:
    """Name and password were refused.

    ## Evidence
    535 to AUTH. For Amazon SES the shape of the credentials is looked at: a password of 40 characters is an AWS secret
    key and no SMTP password; a user name that begins with ASIA belongs to temporary credentials, which SES does not
    take.

    ## What to do
    Check name and password in the client's settings; copy them anew, without spaces or line ends.

    ## Otherwise
    The account is locked, or the server's password check is broken and says so wrongly.

    ## Example
    ```smtp
    S: 220 email-smtp.amazonaws.com ESMTP SimpleEmailService-1
    C: EHLO client.example.net
    S: 250-email-smtp.amazonaws.com
    S: 250 AUTH PLAIN LOGIN
    C: AUTH LOGIN
    S: 334 VXNlcm5hbWU6
    C: QUtJQUlPU0ZPRE5ON0VYQU1QTEU=
    S: 334 UGFzc3dvcmQ6
    C: d0phbHJYVXRuRkVNSS9LN01ERU5HL2JQeFJmaUNZRVhBTVBMRUtF
    S: 535 Authentication Credentials Invalid
    C: QUIT
    S: 221 Bye
    ```

    ## Silent
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250-mx.example.org
    S: 250 AUTH PLAIN
    C: AUTH PLAIN AGEAYg==
    S: 235 2.7.0 Authentication successful
    C: QUIT
    S: 221 2.0.0 Bye
    ```
    """
    shape = None
    for _, used, answers in attempts(facts):
        name, password = name_and_password(used, answers)
        key_id = AWS_KEY_ID.match(name)
        if key_id is not None and key_id[1] == b"ASIA":
            shape = "the user name is that of temporary AWS credentials (ASIA…), which SES does not take"
        elif key_id is not None and AWS_SECRET.match(password):
            shape = "the password has the shape of an AWS secret access key, not of an SES SMTP password"
    found = _rejected(facts)
    if not found:
        return
    if shape is not None:
        yield Seen(
            f"AWS keys were used in place of SMTP credentials: {shape}.",
            Confidence.HIGH,
            found.evidence,
            "Make SMTP credentials in the SES console (they are derived from an IAM user's key for one region), and "
            "put them in the client.",
        )
        return
    yield Seen(f"The server refuses name and password: {found.quoted}.", Confidence.HIGH, found.evidence, found.advice)
