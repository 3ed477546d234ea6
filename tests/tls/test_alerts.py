"""What alerts mean, by what libraries are known to send and what the handshake shows beside them."""

from __future__ import annotations

import ssl
from typing import Any

import pytest

from smtpdebug.model.streams import CLIENT, SERVER, Location, Side
from smtpdebug.model.tls import Alert, TlsFacts
from smtpdebug.tls.alerts import Closings, cause
from smtpdebug.tls.reasons import explain

AT = Location("", 9, 9_000_000)


def alert(sender: Side, code: int, description: str, phase: str = "handshake") -> Alert:
    return Alert(sender, "fatal", description, code, AT, phase=phase)


def met(**seen: Any) -> TlsFacts:
    facts = TlsFacts("implicit", Location("", 1, 0), version="TLS 1.2", server_hello=Location("", 2, 1_000_000))
    for name, value in seen.items():
        setattr(facts, name, value)
    return facts


@pytest.mark.parametrize(
    ("verify", "wanted", "fault"),
    [("name", "mail.example.net", "is not for mail.example.net"), ("trust", "mx.example.org", "")],
)
def test_a_certificate_is_refused_for_what_is_wrong_with_it(maker: Any, verify: str, wanted: str, fault: str) -> None:
    """OpenSSL sends bad_certificate for a wrong name; for one that it does not trust, unknown_ca."""
    contexts = maker.contexts()
    client = contexts[0]
    client.verify_mode = ssl.CERT_REQUIRED
    if verify == "name":
        client.load_verify_locations(cadata=maker.ca().cert_pem.decode())
        client.verify_flags &= ~ssl.VERIFY_X509_STRICT
        client.check_hostname = True
    recording = maker.talk(contexts=contexts, name=wanted)
    facts = maker.track(maker.chunks(recording.writes))[0].facts
    (sent,) = facts.alerts
    assert sent.description == ("bad_certificate" if verify == "name" else "unknown_ca")
    shown = cause(sent, facts)
    assert (shown.text if shown else "").endswith(fault + (", the name that the client asked for" if fault else ""))


def test_an_alert_about_a_connection_that_was_closed_blames_who_closed() -> None:
    sent = alert(CLIENT, 50, "decode_error")
    shown = cause(sent, met(), Closings(server=8_000_000))
    assert shown is not None
    assert shown.text.startswith("the server had closed the connection before")
    assert cause(sent, met(), Closings(server=10_000_000)) is None
    assert cause(alert(CLIENT, 48, "unknown_ca"), met(), Closings(server=8_000_000)) is None


def test_handshake_failure_before_and_after_the_server_hello() -> None:
    sent = alert(SERVER, 40, "handshake_failure")
    assert cause(sent, met(server_hello=None)) is None
    required = cause(sent, met(client_certificate_requested=True))
    assert required is not None
    assert "demands a certificate of the client" in required.text
    again = cause(alert(SERVER, 40, "handshake_failure", "application"), met())
    assert again is not None
    assert "negotiate again" in again.text
    later = cause(sent, met())
    assert later is not None
    assert "were agreed" in later.text


@pytest.mark.parametrize("writes", [1, 2, 3])
def test_a_handshake_that_one_side_left_is_not_a_matter_of_keys(maker: Any, writes: int) -> None:
    """Neither side sent an alert: nothing would open it, whatever the suite."""
    for version in ("TLSv1_2", "TLSv1_3"):
        recording = maker.talk(version=version)
        facts = maker.track(maker.chunks(recording.writes[: min(writes, 2 if version == "TLSv1_3" else 3)]))[0].facts
        reason = explain(facts, None, maker.ring(maker.server()), closings=Closings(client=maker.where(9).ts_ns))
        assert reason is not None
        assert reason.id == "incomplete"
        assert "the client closed after the" in reason.sentence
