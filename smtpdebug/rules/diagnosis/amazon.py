"""Diagnoses that only Amazon SES gives rise to."""

from __future__ import annotations

import re
from collections.abc import Iterator

from smtpdebug.rules.diagnosis.facts import Facts
from smtpdebug.rules.diagnosis.registry import Confidence, Seen, Trigger, diagnosis
from smtpdebug.rules.diagnosis.words import refusals, words

REGION = re.compile(r"region ([A-Z]{2}(?:-[A-Z]+)+-\d)", re.IGNORECASE)


@diagnosis("D50", name="ses-identity-not-verified", on=Trigger.FAILED)
def not_verified(facts: Facts) -> Iterator[Seen]:
    """Amazon SES does not know the sender, or in the sandbox the recipient, as a verified identity.

    ## Evidence
    554 "Message rejected: Email address is not verified", which names the identities and the region.

    ## What to do
    Verify the named addresses or their domains in the named region, or connect to the endpoint of the region where they
    are verified. In the sandbox recipients have to be verified too: ask for production access.

    ## Otherwise
    The From header field, not the envelope, holds the address that is not verified.

    ## Example
    ```smtp
    S: 220 email-smtp.amazonaws.com ESMTP SimpleEmailService-1
    C: EHLO client.example.net
    S: 250 email-smtp.amazonaws.com
    C: MAIL FROM:<a@example.net>
    S: 250 Ok
    C: RCPT TO:<b@example.org>
    S: 250 Ok
    C: DATA
    S: 354 End data with <CR><LF>.<CR><LF>
    C: Subject: x
    C: .
    S: 554 Message rejected: Email address is not verified. The following identities failed the check in region EU-WEST-1: a@example.net
    C: QUIT
    S: 221 Bye
    ```

    ## Silent
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 550 5.1.8 Sender unknown
    C: QUIT
    S: 221 2.0.0 Bye
    ```
    """  # noqa: E501 - the reply is one line
    found = refusals(facts, "D50", words("Email address is not verified"))
    if not found:
        return
    text = " ".join(found.first.texts)
    region = REGION.search(text)
    where = f" in {region[1].lower()}" if region else ""
    tls = facts.conversation.tls
    asked = tls.server_name if tls is not None and tls.server_name else ""
    elsewhere = region is not None and asked.startswith("email-smtp") and region[1].lower() not in asked
    also = f"; the client connected to {asked}" if elsewhere else ""
    yield Seen(
        f"Identities are not verified{where}{also}: {found.quoted}.", Confidence.HIGH, found.evidence, found.advice
    )


@diagnosis("D51", name="ses-policy-denies-sending", on=Trigger.FAILED)
def policy_denies(facts: Facts) -> Iterator[Seen]:
    """The IAM user behind the SMTP credentials may not send with Amazon SES.

    ## Evidence
    554 "Access denied: User … is not authorized to perform ses:SendRawEmail".

    ## What to do
    Give the IAM user a policy that allows ses:SendRawEmail on the named identity; look for conditions on the sender.

    ## Otherwise
    The identity belongs to another account whose sending authorization is missing.

    ## Example
    ```smtp
    S: 220 email-smtp.amazonaws.com ESMTP SimpleEmailService-1
    C: EHLO client.example.net
    S: 250 email-smtp.amazonaws.com
    C: MAIL FROM:<a@example.net>
    S: 554 Access denied: User `arn:aws:iam::1:user/x' is not authorized to perform `ses:SendRawEmail' on resource
    C: QUIT
    S: 221 Bye
    ```

    ## Silent
    ```smtp
    S: 220 mx.example.org ESMTP
    C: EHLO client.example.net
    S: 250 mx.example.org
    C: MAIL FROM:<a@example.net>
    S: 554 5.7.1 Access denied
    C: QUIT
    S: 221 2.0.0 Bye
    ```
    """
    found = refusals(facts, "D51", words("not authorized to perform.{0,3}ses:SendRawEmail"))
    if found:
        yield Seen(f"IAM does not allow the sending: {found.quoted}.", Confidence.HIGH, found.evidence, found.advice)
