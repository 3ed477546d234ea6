"""``tls -f text``: facts made by hand, and the words that come of them."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest

from smtpdebug.model.smtp import Conversation
from smtpdebug.model.streams import CLIENT, SERVER, Location, Side
from smtpdebug.model.tls import Alert, Certificate, Flight, TlsFacts
from smtpdebug.render.tls_alerts import alert_text
from smtpdebug.render.tls_text import TlsText, remark
from smtpdebug.render.tls_words import certificates, flights, name_match, suites, validity, waits
from smtpdebug.testing import dialogue

NOW = 1_704_067_200_000_000_000
"""2024-01-01T00:00:00Z"""
MS, HOUR = 1_000_000, 3_600 * 10**9
DAY = 24 * HOUR


def at(ms: float = 0, frame: int = 5) -> Location:
    return Location("a.pcap", frame, NOW + round(ms * MS))


def certificate(**more: Any) -> Certificate:
    told = {
        "subject": "CN=mx.example.org",
        "issuer": "CN=Issuing CA",
        "names": ["mx.example.org", "*.mail.example.org"],
        "not_before_ns": NOW - 30 * DAY,
        "not_after_ns": NOW + 60 * DAY,
        "sha256": more.get("subject", "leaf"),
        "spki_sha256": "22",
        "key": "RSA 2048",
    }
    return Certificate(**{**told, **more})


def facts(**more: Any) -> TlsFacts:
    return TlsFacts(**{"mode": "starttls", "started": at(), "client_hello": at(), "server_hello": at(4), **more})


def shown(*tls: TlsFacts, columns: int = 80, color: bool = False) -> str:
    out = io.StringIO()
    text = TlsText(out, columns=columns, color=color)
    for one in tls:
        conversation = dialogue("S: 220 mx.example.org")
        conversation.tls = one
        text.conversation(conversation)
    text.close()
    return out.getvalue()


def flat(text: str) -> str:
    return re.sub(r"\s+", " ", text)


# -- certificates


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (-DAY, 60 * DAY, "60 days left (until 2024-03-01)"),
        (-DAY, 2 * DAY - 1, "1 day left (until 2024-01-02)"),
        (-DAY, 5 * HOUR, "5 hours left (until 2024-01-01)"),
        (-90 * DAY, -DAY, "EXPIRED 2023-12-31, 1 day before the capture"),
        (-90 * DAY, -(DAY - 1), "EXPIRED 2023-12-31, 23 hours before the capture"),
        (3 * DAY, 90 * DAY, "NOT YET VALID: from 2024-01-04, 3 days after the capture"),
    ],
)
def test_days_are_counted_from_the_packets(before: int, after: int, said: str) -> None:
    assert validity(certificate(not_before_ns=NOW + before, not_after_ns=NOW + after), NOW) == said


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("mx.example.org", "among them"),
        ("MX.Example.Org.", "among them"),
        ("a.mail.example.org", "among them"),
        ("a.b.mail.example.org", "MISMATCH: the client asked for a.b.mail.example.org"),  # RFC 6125 6.4.3: one label
        ("mail.example.org", "MISMATCH"),
        (None, "asked for no name"),
    ],
)
def test_names_against_the_name_asked_for(wanted: str | None, said: str) -> None:
    assert said in name_match(certificate(), wanted)


def test_a_certificate_without_names_is_said() -> None:
    assert "no DNS name or address in a subjectAltName" in name_match(certificate(names=[]), "mx.example.org")


def test_the_chains_order() -> None:
    upper = certificate(subject="CN=Issuing CA", issuer="CN=Root", names=[])
    root = certificate(subject="CN=Root", issuer="CN=Root", names=[], self_signed=True)
    good = " ".join(certificates(facts(certificates=[certificate(), upper, root])))
    assert "chain" not in good
    wrong = " ".join(certificates(facts(certificates=[certificate(), root, upper])))
    assert "chain out of order: CN=mx.example.org is issued by CN=Issuing CA, next comes CN=Root" in wrong
    twice = " ".join(certificates(facts(certificates=[certificate(), certificate(), upper])))
    assert "CN=mx.example.org is sent twice" in twice
    assert "sent alone" in " ".join(certificates(facts(certificates=[certificate()])))
    alone = certificate(issuer="CN=mx.example.org", self_signed=True)
    said = " ".join(certificates(facts(certificates=[alone])))
    assert "self-signed" in said
    assert "sent alone" not in said


def test_a_certificate_that_cannot_be_read() -> None:
    broken = Certificate("", "", [], 0, 0, "ab" * 32, "", "unreadable")
    assert list(certificates(facts(certificates=[broken]))) == [f"cannot be read (SHA-256 {'ab' * 32})"]


# -- offered and agreed


def test_suites_are_counted_by_what_opens_them() -> None:
    said = suites(
        [
            "TLS_AES_128_GCM_SHA256",
            "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            "TLS_DHE_RSA_WITH_AES_128_CBC_SHA",
            "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
            "TLS_DH_anon_WITH_AES_128_CBC_SHA",
            "TLS_EMPTY_RENEGOTIATION_INFO_SCSV",
        ]
    )
    assert said.startswith(
        "5 cipher suites (1 of TLS 1.3, 2 with forward secrecy, 1 with RSA key exchange, 1 other), weak: "
    )
    assert "TLS_RSA_WITH_3DES_EDE_CBC_SHA, TLS_DH_anon_WITH_AES_128_CBC_SHA" in said


def test_what_was_agreed() -> None:
    text = flat(
        shown(
            facts(
                version="TLS 1.2",
                cipher_suite="TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
                group="x25519",
                alpn="smtp",
                resumed=True,
                client_certificate_requested=True,
            )
        )
    )
    assert (
        "agreed TLS 1.2; TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256; group x25519; ALPN smtp; a resumed session; "
        "client certificate asked for, none sent" in text
    )


def test_hello_retry_and_a_client_certificate() -> None:
    text = flat(
        shown(
            facts(
                version="TLS 1.3",
                cipher_suite="TLS_AES_128_GCM_SHA256",
                hello_retry=True,
                resumed=False,
                client_certificates=[certificate(subject="CN=client")],
            )
        )
    )
    assert "after a HelloRetryRequest" in text
    assert "client certificate CN=client (RSA 2048)" in text


def test_nothing_agreed_and_nothing_seen() -> None:
    assert "agreed nothing: no ServerHello" in flat(shown(facts(server_hello=None)))
    late = flat(shown(facts(client_hello=None, server_hello=None)))
    assert "agreed unknown: the handshake is not in the capture" in late
    assert "offered" not in late
    assert "agreed nothing: what came is no TLS" in flat(shown(facts(reason="not-tls", reason_text="not TLS")))


# -- times


def test_who_waited_for_whom() -> None:
    tls = facts(
        flights=[
            Flight(CLIENT, ["ClientHello"], NOW, NOW),
            Flight(SERVER, ["ServerHello", "Certificate"], NOW + 4 * MS, NOW + 5 * MS),
            Flight(CLIENT, ["Finished"], NOW + 305 * MS, NOW + 305 * MS),
            Flight(SERVER, ["Finished"], NOW + 306 * MS, NOW + 306 * MS),
        ],
        handshake_ns=306 * MS,
    )
    assert [waited // MS for waited, _ in flights(tls)] == [0, 4, 300, 1]
    assert waits(tls) == [300 * MS, 5 * MS]
    text = flat(shown(tls))
    assert "+4.0 ms server: ServerHello, Certificate" in text
    assert "306.0 ms: the client waited 5.0 ms for the server, the server 300.0 ms for the client" in text


# -- alerts

NOTHING = TlsFacts("implicit", at())


def alert(sender: Side, code: int, description: str, **more: Any) -> Alert:
    return Alert(sender, more.pop("level", "fatal"), description, code, at(6, 9), **more)


def test_alerts_say_who_and_why() -> None:
    said = alert_text(alert(CLIENT, 48, "unknown_ca"), NOTHING) or ""
    assert said.startswith("the client sent fatal unknown_ca (48) in the handshake")
    assert "the client does not trust the issuer of the server's certificate" in said
    said = alert_text(alert(SERVER, 70, "protocol_version"), TlsFacts("implicit", at(), ["TLS 1.0"])) or ""
    assert "the client offered TLS 1.0" in said
    assert "only a key can tell why" in (alert_text(alert(CLIENT, -1, "encrypted", encrypted=True), NOTHING) or "")
    assert alert_text(alert(CLIENT, 255, "255"), NOTHING) == "the client sent fatal 255 (255) in the handshake"


def test_an_orderly_end_is_no_alert() -> None:
    assert alert_text(alert(CLIENT, 0, "close_notify", level="warning", phase="application"), NOTHING) is None
    assert alert_text(alert(CLIENT, -1, "encrypted", encrypted=True, phase="application"), NOTHING) is None
    assert "broke the handshake off" in (alert_text(alert(CLIENT, 0, "close_notify", level="warning"), NOTHING) or "")


def test_a_failed_handshake_has_its_alert_its_frame_and_advice() -> None:
    text = flat(
        shown(
            facts(
                server_hello=None,
                alerts=[alert(SERVER, 40, "handshake_failure")],
                reason="handshake-failed",
                reason_text="the handshake failed: the server sent alert 40",
                advice="compare the cipher suites",
            )
        )
    )
    assert "alert the server sent fatal handshake_failure (40)" in text
    assert "#9" in text
    assert "advice compare the cipher suites" in text
    assert "closed" not in text


# -- opened or not


def test_opened_in_part() -> None:
    text = flat(
        shown(
            facts(decrypted=True, decryptor="native", secret="rsa-key", reason="partial", reason_text="opened in part")
        )
    )
    assert "decrypted by native with the RSA key opened in part" in text


def test_nothing_of_the_wire_drives_the_terminal() -> None:
    evil = "mx\x1b[2J\u202e\r\n.example.org"
    tls = facts(
        version="TLS 1.3",
        server_name=evil,
        alpn_offered=[evil],
        alpn=evil,
        certificates=[certificate(subject=f"CN={evil}", issuer=evil, names=[evil])],
        client_certificates=[certificate(subject=evil)],
        reason_text=evil,
        advice=evil,
    )
    text = shown(tls, columns=200)
    assert text.count("\\x1b[2J") >= 6
    assert all(char.isprintable() or char == "\n" for char in text)


def test_lines_fit_and_colours_are_only_paint() -> None:
    tls = facts(
        version="TLS 1.2",
        server_name="other.example.net",
        certificates=[certificate()],
        alerts=[alert(CLIENT, 46, "certificate_unknown")],
        flights=[Flight(CLIENT, [f"Message{number}" for number in range(20)], NOW, NOW)],
    )
    plain, painted = shown(tls), shown(tls, color=True)
    assert max(len(line) for line in plain.splitlines()[2:]) <= 80
    assert "\x1b[1;91m" in painted
    assert re.sub(r"\x1b\[[0-9;]*m", "", painted).split() == plain.split()


# -- without a handshake


def said_of(text: str, **how: Any) -> str | None:
    return remark(dialogue(text, **how))


OFFER = """
S: 220 mx.example.org
C: EHLO a.example.net
S: 250-mx.example.org
S: 250 STARTTLS
"""


def test_starttls_offered_and_not_used() -> None:
    said = said_of(OFFER + "C: MAIL FROM:<a@example.net>\nS: 250 ok")
    assert said == "STARTTLS offered (#4) and not used; everything was said in clear"


def test_starttls_refused_unanswered_or_without_a_handshake() -> None:
    said = said_of(OFFER + "C: STARTTLS\nS: 454 4.7.0 TLS not available due to local problem")
    assert said == "STARTTLS refused: 454 4.7.0 TLS not available due to local problem  #6"
    assert said_of(OFFER + "C: STARTTLS") == "STARTTLS asked for (#5) and not answered"


def test_plain_text_where_tls_belongs() -> None:
    server = "S: 220 mx.example.org"
    assert said_of(server, port=465) == (
        "plain text on port 465, where TLS starts with the first byte: only the server speaks it"
    )
    both = said_of(f"{server}\nC: QUIT\nS: 221 bye", port=465) or ""
    assert both.endswith("both speak it")
    assert (said_of("C: EHLO oops", port=465) or "").endswith("only the client speaks it")


def test_what_has_nothing_to_do_with_tls_is_only_counted() -> None:
    plain = dialogue("S: 220 mx.example.org\nC: HELO a\nS: 250 mx")
    assert remark(plain) is None
    out = io.StringIO()
    text = TlsText(out)
    others: list[Conversation] = [plain, dialogue(OFFER), plain]
    for conversation in others:
        text.conversation(conversation)
    text.close()
    lines = out.getvalue().splitlines()
    assert "STARTTLS offered" in lines[0]
    assert lines[-1] == "3 conversations: 1 that could have had TLS; 2 without TLS"
    assert len(lines) == 3
