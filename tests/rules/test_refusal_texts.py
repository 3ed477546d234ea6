"""What real servers say when they refuse, and what it means. Texts: the programs' sources and documentation, and the
providers' own lists of error messages; the meaning is theirs."""

from __future__ import annotations

import pytest

from smtpdebug.rules.verdicts import Verdicts
from smtpdebug.testing import dialogue

EHLO = "C: EHLO client.example.net\nS: 250-mx.example.org\nS: 250 AUTH PLAIN LOGIN\n"
BEFORE = {
    "greeting": "",
    "EHLO": "",
    "STARTTLS": EHLO.replace("S: 250 AUTH", "S: 250-STARTTLS\nS: 250 AUTH"),
    "AUTH": EHLO,
    "MAIL": EHLO,
    "RCPT": EHLO + "C: MAIL FROM:<a@example.net>\nS: 250 2.1.0 Ok\n",
    "DATA": EHLO + "C: MAIL FROM:<a@example.net>\nS: 250 2.1.0 Ok\nC: RCPT TO:<b@example.org>\nS: 250 2.1.5 Ok\n",
}
BEFORE["dot"] = BEFORE["DATA"] + "C: DATA\nS: 354 go\nC: Subject: x\n"
LINE = {
    "EHLO": "EHLO client.example.net",
    "STARTTLS": "STARTTLS",
    "AUTH": "AUTH PLAIN AGFsaWNlAHNlY3JldA==",
    "MAIL": "MAIL FROM:<a@example.net>",
    "RCPT": "RCPT TO:<b@example.org>",
    "DATA": "DATA",
    "dot": ".",
}
POSTFIX, EXIM = "220 mx.example.org ESMTP Postfix", "220 mx.example.org ESMTP Exim 4.96"
GMAIL, M365 = (
    "220 mx.google.com ESMTP x - gsmtp",
    "220 AM0.mail.protection.outlook.com Microsoft ESMTP MAIL Service ready",
)
ANY = "220 mx.example.org ESMTP"
TEXTS = [
    # Postfix: smtpd_check.c, smtpd.c, postscreen, milters, anvil
    (POSTFIX, "RCPT", "550 5.7.1 Service unavailable; client [192.0.2.7] blocked using zen.spamhaus.org", "D56"),
    (POSTFIX, "RCPT", "554 5.7.1 Service unavailable; Client host [192.0.2.7] blocked using bl.spamcop.net", "D56"),
    (ANY, "greeting", "521 5.7.1 Service unavailable; client [192.0.2.7] blocked using zen.spamhaus.org", "D56"),
    (POSTFIX, "MAIL", "451 4.7.1 Service unavailable - try again later", "D87"),
    (POSTFIX, "dot", "451 4.7.1 Service unavailable - try again later", "D87"),
    (POSTFIX, "RCPT", "450 4.3.2 Service currently unavailable", "D55"),
    (POSTFIX, "RCPT", "450 4.2.0 <b@example.org>: Recipient address rejected: Greylisted", "D55"),
    (POSTFIX, "RCPT", "452 4.5.3 Error: too many recipients", "D79"),
    (POSTFIX, "RCPT", "450 4.7.1 Error: too much mail from 192.0.2.7", "D52"),
    (POSTFIX, "RCPT", "450 4.7.1 Error: too many recipients from 192.0.2.7", "D52"),
    (POSTFIX, "greeting", "421 4.7.0 mx.example.org Error: too many connections from 192.0.2.7", "D52"),
    (POSTFIX, "STARTTLS", "454 4.7.0 Error: too many new TLS sessions from 192.0.2.7", "D52"),
    (POSTFIX, "AUTH", "450 4.7.1 Error: too many AUTH commands from 192.0.2.7", "D52"),
    (POSTFIX, "STARTTLS", "454 4.7.0 TLS not available due to local problem", "D31"),
    (POSTFIX, "AUTH", "538 5.7.11 Encryption required for requested authentication mechanism", "D46"),
    (POSTFIX, "MAIL", "530 5.7.0 Must issue a STARTTLS command first", "D46"),
    (POSTFIX, "RCPT", "550 5.1.1 <b@example.org>: Recipient address rejected: User unknown", "D76"),
    (POSTFIX, "RCPT", "554 5.7.1 <b@example.org>: Relay access denied", "D78"),
    (POSTFIX, "RCPT", "450 4.7.25 Client host rejected: cannot find your hostname, [192.0.2.7]", "D69"),
    (POSTFIX, "RCPT", "451 4.3.0 <b@example.org>: Temporary lookup failure", "D87"),
    (POSTFIX, "MAIL", "452 4.3.1 Insufficient system storage", "D82"),
    (POSTFIX, "MAIL", "421 4.3.2 Service shutting down, try again later", "D81"),
    (POSTFIX, "RCPT", "504 5.5.2 <client>: Helo command rejected: need fully-qualified hostname", "D68"),
    (POSTFIX, "MAIL", "552 5.3.4 Message size exceeds fixed limit", "D54"),
    (POSTFIX, "dot", "554 5.7.0 Reject, id=04711-01 - BANNED: application/octet-stream,.exe,x.exe", "D83"),
    (POSTFIX, "dot", "550 5.7.1 id=04711-01 - Rejected by next-hop MTA on relaying, INFECTED: Eicar-Signature", "D83"),
    (POSTFIX, "dot", "554 5.6.0 Message contains NUL characters", "D83"),
    # Exim: default configuration and src/receive.c, smtp_in.c
    (EXIM, "RCPT", "550 Unrouteable address", "D76"),
    (EXIM, "RCPT", "550 relay not permitted", "D78"),
    (EXIM, "RCPT", "451 Temporary local problem - please try later", "D87"),
    (EXIM, "RCPT", "550-Verification failed for <a@example.net>", "D84"),
    (EXIM, "RCPT", "451 Could not complete sender verify callout", "D84"),
    (EXIM, "greeting", "421 Too many concurrent SMTP connections; please try again later", "D52"),
    # sendmail: cf/README, srvrsmtp.c
    (ANY, "MAIL", "452 4.4.5 Insufficient disk space; try again later", "D82"),
    (ANY, "RCPT", "550 5.1.1 <b@example.org>... User unknown", "D76"),
    (ANY, "RCPT", "550 5.7.1 <b@example.org>... Relaying denied. Proper authentication required.", "D78"),
    (ANY, "MAIL", "553 5.1.8 <a@example.net>... Domain of sender address a@example.net does not exist", "D84"),
    (ANY, "MAIL", "451 4.1.8 Domain of sender address a@example.net does not resolve", "D84"),
    (ANY, "greeting", "421 4.3.2 Connection rate limit exceeded.", "D52"),
    # qmail, netqmail with chkuser, vpopmail
    (ANY, "RCPT", "553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)", "D78"),
    (ANY, "RCPT", "550 sorry, no mailbox here by that name (#5.1.1 - chkuser)", "D76"),
    (ANY, "RCPT", "511 sorry, no mailbox here by that name (#5.1.1 - chkuser)", "D76"),
    # Dovecot, Cyrus
    (ANY, "RCPT", "452 4.2.2 <b@example.org> Quota exceeded (mailbox for user is full)", "D77"),
    (ANY, "dot", "452 4.2.2 <b@example.org> Quota exceeded (mailbox for user is full)", "D77"),
    (ANY, "dot", "552 5.2.2 Over quota", "D77"),
    (ANY, "RCPT", "550 5.1.1 <b@example.org> User doesn't exist: b@example.org", "D76"),
    # texts with an address in the middle
    (ANY, "RCPT", "550 5.1.1 user b.c@example.org unknown", "D76"),
    (ANY, "RCPT", "550 Mailbox b@example.org does not exist", "D76"),
    (ANY, "RCPT", "550 Recipient <b@example.org> not found", "D76"),
    (ANY, "RCPT", "550 5.1.1 <b@example.org> No such user here", "D76"),
    (ANY, "RCPT", "550 5.2.1 The email account that you tried to reach is disabled", "D76"),
    # Exchange and Microsoft 365
    (M365, "AUTH", "535 5.7.139 Authentication unsuccessful, the user credentials were incorrect.", "D43"),
    (M365, "AUTH", "535 5.7.139 SmtpClientAuthentication is disabled for the Tenant.", "D49"),
    (M365, "AUTH", "535 5.7.139 Authentication unsuccessful, basic authentication is disabled.", "D49"),
    (M365, "RCPT", "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup", "D76"),
    (ANY, "dot", "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient b@example.org not found by lookup", "D76"),
    (M365, "RCPT", "550 5.4.1 Recipient address rejected: Access denied. AS(201806281)", "D76"),
    (M365, "MAIL", "451 4.7.500 Server busy. Please try again later from [192.0.2.7]. (S77714)", "D52"),
    (M365, "RCPT", "550 5.7.606 Access denied, banned sending IP [192.0.2.7].", "D56"),
    (ANY, "RCPT", "550 5.7.1 Unable to relay", "D78"),
    (ANY, "MAIL", "530 5.7.57 Client not authenticated to send mail.", "D45"),
    # Gmail
    (GMAIL, "AUTH", "454 4.7.0 Too many login attempts, please try again later. x - gsmtp", "D52"),
    (GMAIL, "AUTH", "535-5.7.8 Username and Password not accepted.", "D49"),
    (GMAIL, "AUTH", "534-5.7.9 Application-specific password required.", "D49"),
    (GMAIL, "RCPT", "450-4.2.1 The user you are trying to contact is receiving mail at a rate that", "D52"),
    (GMAIL, "RCPT", "552-5.2.2 The recipient's inbox is out of storage space.", "D77"),
    (GMAIL, "RCPT", "550-5.1.1 The email account that you tried to reach does not exist.", "D76"),
    (GMAIL, "dot", "421-4.7.28 Gmail has detected an unusual rate of unsolicited mail originating from your IP", "D52"),
    (GMAIL, "dot", "550-5.7.26 This mail has been blocked because the sender is unauthenticated.", "D69"),
    (GMAIL, "MAIL", "530-5.7.0 Must issue a STARTTLS command first.", "D46"),
    # Yahoo, from its list of SMTP error codes
    (ANY, "MAIL", "421 4.7.0 [TSS04] Messages from 192.0.2.7 temporarily deferred due to unexpected volume", "D52"),
    (ANY, "greeting", "421 4.7.0 [TSS04] Messages from 192.0.2.7 temporarily deferred due to unexpected volume", "D52"),
    (ANY, "MAIL", "553 5.7.1 [BL21] Connections not accepted from 192.0.2.7: the ip is in Spamhaus's list", "D56"),
    # others
    (ANY, "RCPT", "451 4.7.1 Greylisting in action, please come back in 00:05:00", "D55"),
    (ANY, "RCPT", "421 4.3.2 System not accepting network messages", "D81"),
    (ANY, "RCPT", "451 4.4.3 DNS lookup timeout", "D87"),
    (ANY, "dot", "451 4.3.0 Filter timed out", "D87"),
]  # fmt: skip

BESIDES = {"D58", "D57"}
"""Consequences: what they say of the conversation holds beside the cause."""


@pytest.mark.parametrize(("greeting", "step", "reply", "expected"), TEXTS, ids=[text[2][:60] for text in TEXTS])
def test_a_refusal_has_one_meaning(greeting: str, step: str, reply: str, expected: str) -> None:
    if step == "greeting":
        said = f"S: {reply}\nS closes"
    else:
        code = reply[:3]
        lines = f"S: {reply}" if reply[3] == " " else f"S: {reply}\nS: {code} {reply[4:].split(' ')[0]} more"
        said = f"S: {greeting}\n{BEFORE[step]}C: {LINE[step]}\n{lines}\nC: QUIT\nS: 221 2.0.0 Bye"
    conversation = dialogue(said)
    Verdicts().judge(conversation)
    about = [one for one in conversation.diagnoses if one.id not in BESIDES]
    assert [one.id for one in about] == [expected], [(one.id, one.says) for one in about]
