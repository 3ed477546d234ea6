"""What the other programs' logs say was said: verbs and reply codes in order, for ``expect.toml``."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator

Said = tuple[str, str]
"""``C`` or ``S``, and the line."""
Exchange = tuple[str, int]
"""Verb and reply code; 0 where no reply came, no verb where nobody asked."""
END = "(end of mail data)"
LAST = "BDAT LAST"


def smtplib(log: str) -> Iterator[Said]:
    """``send: 'ehlo client\\r\\n'`` and ``reply: retcode (250); Msg: b'...'``, as debug level 1 prints them."""
    for line in log.splitlines():
        if line.startswith("send: "):
            sent = ast.literal_eval(line[6:])
            text = sent.decode("latin-1") if isinstance(sent, bytes) else sent
            yield "C", text
        elif found := re.match(r"reply: retcode \((\d+)\)", line):
            yield "S", found[1]


def swaks(log: str) -> Iterator[Said]:
    """`` -> EHLO x``, ``<-  250 x``, with ``~>``, ``<~`` inside TLS and ``**`` for errors."""
    for line in log.splitlines():
        if found := re.match(r"(?: ->|\*\*>| ~>|~~>) (.*)", line):
            yield "C", found[1]
        elif found := re.match(r"(?:<- |<\*\*|<~ |<~\*) (.*)", line):
            yield "S", found[1]


def postfix(log: str) -> Iterator[Said]:
    """The client's ``> host[address]:25: EHLO x`` and ``< host[address]:25: 250 x`` for a debug peer."""
    for line in log.splitlines():
        if found := re.search(r"/[sl]mtp\[\d+\]: ([<>]) [^ ]+: (.*)", line):
            yield ("C" if found[1] == ">" else "S"), found[2]


def curl(log: str) -> Iterator[Said]:
    """``> EHLO x`` and ``< 250 x`` of ``--verbose``."""
    for line in log.splitlines():
        if line[:2] in ("> ", "< "):
            yield ("C" if line[0] == ">" else "S"), line[2:]


def msmtp(log: str) -> Iterator[Said]:
    """``--> EHLO x`` and ``<-- 250 x`` of ``--debug``."""
    for line in log.splitlines():
        if line[:4] in ("--> ", "<-- "):
            yield ("C" if line[0] == "-" else "S"), line[4:]


def talk(log: str) -> Iterator[Said]:
    """``C: EHLO x`` and ``S: 250 x`` of our own scripted client."""
    for line in log.splitlines():
        if line[:3] in ("C: ", "S: "):
            yield line[0], line[3:]


def exim(log: str) -> Iterator[Said]:
    """``SMTP>> EHLO x``, ``SMTP|> MAIL`` and ``SMTP+> DATA`` where pipelined, ``SMTP<< 250-x`` and indented lines."""
    for line in log.splitlines():
        if found := re.match(r" *SMTP[>|+]> (.*)", line):
            yield "C", found[1]
        elif found := re.match(r" *SMTP<< (.*)|^ {9}(\d{3}[ -].*)", line):
            yield "S", found[1] or found[2]


def opensmtpd(log: str) -> Iterator[Said]:
    """``mta: 0x5555: >>> EHLO x`` and ``<<< 250 x`` of ``-T mta``."""
    for line in log.splitlines():
        if found := re.match(r"mta: \w+: (>>>|<<<) (.*)", line):
            yield ("C" if found[1] == ">>>" else "S"), found[2]


def postfix_server(log: str) -> Iterator[Said]:
    """The server's ``< unknown[address]: EHLO x`` and ``> unknown[address]: 250 x`` for a debug peer."""
    for line in log.splitlines():
        if found := re.search(r"/smtpd\[\d+\]: ([<>]) [^ ]+: (.*)", line):
            yield ("C" if found[1] == "<" else "S"), found[2]


def nodemailer(log: str) -> Iterator[Said]:
    """``[time] DEBUG [id] C: EHLO x`` and ``S: 250 x``, the further lines of a reply with more blanks before."""
    for line in log.splitlines():
        if found := re.match(r"\[[^]]*\] \w+ +\[[^]]*\](?: \[[^]]*\])? ([CS]): (.*)", line):
            yield found[1], found[2]
        elif found := re.match(r"\[[^]]*\] \w+ +\[[^]]*\](?: \[[^]]*\])? {4,}(\d{3}[ -].*)", line):
            yield "S", found[1]


def net_smtp(log: str) -> Iterator[Said]:
    """``Net::SMTP=GLOB(0x55)>>> EHLO x`` and ``<<< 250 x`` of Perl's ``Debug``."""
    for line in log.splitlines():
        if found := re.match(r"Net::SMTP\w*=GLOB\(\w+\)(>>>|<<<) ?(.*)", line):
            yield ("C" if found[1] == ">>>" else "S"), found[2]


def sendmail(log: str) -> Iterator[Said]:
    """``>>> EHLO x`` and the bare reply of ``-v``."""
    for line in log.splitlines():
        if line.startswith(">>> "):
            yield "C", line[4:]
        elif re.match(r"\d{3}[ -]", line):
            yield "S", line


def aiosmtpd(log: str) -> Iterator[Said]:
    """The server's ``('address', port) >> b'EHLO x'`` and ``<< b'250 x\\r\\n'``."""
    for line in log.splitlines():
        if found := re.match(r"\('[^)]*\) (>>|<<) (b['\"].*)", line):
            yield ("C" if found[1] == ">>" else "S"), ast.literal_eval(found[2]).decode("latin-1")


READERS: dict[str, Callable[[str], Iterator[Said]]] = {
    "smtplib": smtplib,
    "swaks": swaks,
    "postfix": postfix,
    "curl": curl,
    "msmtp": msmtp,
    "talk": talk,
    "exim": exim,
    "opensmtpd": opensmtpd,
    "postfix-server": postfix_server,
    "nodemailer": nodemailer,
    "net-smtp": net_smtp,
    "sendmail": sendmail,
    "aiosmtpd": aiosmtpd,
}


def exchanges(said: Iterable[Said], *, lmtp: bool = False) -> list[list[Exchange]]:
    """Pair commands and replies, first come first served (RFC 2920); a 220 with nothing asked starts a conversation.

    After 354 and until the reply to it everything sent is mail data; after 334 the next line is an AUTH answer. LMTP
    has a reply to the mail data for each recipient that was accepted (RFC 2033 section 4.2); so has PRDR after 353, and
    a final one (draft-hall-prdr-00 section 4.5).
    """
    conversations: list[list[Exchange]] = []
    waiting: list[str] = []
    in_data = challenged = False
    accepted = 0
    for who, line in said:
        if who == "C":
            verb = line.split(maxsplit=1)[0].upper() if line.strip() else ""
            if challenged:
                waiting.append("(auth)")
            elif in_data and verb not in ("QUIT", "RSET"):
                continue
            else:
                waiting.append(LAST if verb == "BDAT" and line.upper().rstrip().endswith(" LAST") else verb)
            challenged = False
            continue
        found = re.match(r"(\d{3})(?!-)", line)
        if not found:
            continue
        code = int(found[1])
        if not waiting and code in (220, 554, 421):
            conversations.append([])
        verb = waiting.pop(0) if waiting else "" if conversations[-1] else "(greeting)"
        if verb == LAST:
            verb = "BDAT"
            waiting[:0] = [verb] * (accepted - 1 if lmtp else 0)
        if code == 353:
            waiting[:0] = [verb] * (accepted + 1)
        conversations[-1].append((verb, code))
        in_data = code == 354
        challenged = code == 334
        accepted = accepted + (code == 250) if verb == "RCPT" else 0 if verb == "MAIL" else accepted
        if in_data:
            waiting[:0] = [END] * (accepted if lmtp else 1)
    if conversations:
        conversations[-1] += [(verb, 0) for verb in waiting if verb != END]
    return conversations
