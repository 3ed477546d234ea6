"""tshark as a decryptor: the plaintext is what OpenSSL was given to send."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from smtpdebug.errors import ToolError
from smtpdebug.model.streams import CLIENT, SERVER, Limits, Location, Side
from smtpdebug.model.tls import APPLICATION_DATA, Decrypted, Record, TlsFacts
from smtpdebug.sources.tshark import TsharkDecryptor, find_tshark

sys.path.insert(0, str(Path(__file__).parent))
from tls_traffic import PLAIN_SECRET, TlsTraffic, make_key, pem, talk

KEY = make_key()
TURNS: list[tuple[Side, bytes]] = [
    (SERVER, b"220 mx.example.org ESMTP\r\n"),
    (CLIENT, b"EHLO client.example.net\r\n"),
    (SERVER, b"250-mx.example.org\r\n250 PIPELINING\r\n"),
    (CLIENT, b"GET / HTTP/1.1\r\nHost: not.http\r\n" * 900),
]


def opened(decryptor: TsharkDecryptor, flows: list[TlsTraffic]) -> list[Decrypted]:
    found: list[Decrypted] = []
    for flow, traffic in enumerate(flows):
        decryptor.start(flow, TlsFacts("implicit", Location("made", 1, 0)))
        for record in traffic.records:
            found += decryptor.push(flow, record)
        found += decryptor.end(flow)
        assert decryptor.pending(flow)
    return found + decryptor.flush()


def said(found: list[Decrypted], flow: int) -> tuple[bytes, bytes]:
    mine = [record for record in found if record.flow == flow]
    client, server = (b"".join(record.data for record in mine if record.side == side) for side in (0, 1))
    return client, server


@pytest.mark.parametrize("ciphers", ["AES128-GCM-SHA256", "AES256-SHA256", "AES128-SHA"])
def test_a_server_key_opens_rsa_key_exchange_byte_by_byte(ciphers: str) -> None:
    flows = [talk(KEY, TURNS, ciphers) for _ in range(3)]
    decryptor = TsharkDecryptor(find_tshark(), [pem(make_key()), pem(KEY)], Limits())

    found = opened(decryptor, flows)

    assert [said(found, flow) for flow in range(3)] == [traffic.said for traffic in flows]
    assert decryptor.problems == []
    assert all(decryptor.verdict(flow).decrypted for flow in range(3))


def test_a_key_log_opens_tls_1_3_and_times_are_those_of_the_records() -> None:
    traffic = talk(KEY, TURNS)
    decryptor = TsharkDecryptor(find_tshark(), [], Limits())
    decryptor.add_keylog(traffic.keylog, "keylog")

    found = opened(decryptor, [traffic])

    assert said(found, 0) == traffic.said
    times = {record.at.ts_ns for record in traffic.records}
    assert {record.at.ts_ns for record in found} <= times


def test_the_wrong_key_opens_nothing_and_says_so() -> None:
    traffic = talk(KEY, TURNS, "AES128-GCM-SHA256")
    decryptor = TsharkDecryptor(find_tshark(), [pem(make_key())], Limits())

    assert opened(decryptor, [traffic]) == []
    assert not decryptor.verdict(0).decrypted


def test_neither_config_ini_nor_lua_nor_preferences_of_the_user_are_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pyshark runs what ./config.ini names; tshark runs Lua plugins from the home folder, as root too."""
    marks = tmp_path / "marks"
    marks.mkdir(mode=0o777)
    marks.chmod(0o777)
    tmp_path.chmod(0o755)
    evil = tmp_path / "tshark"
    evil.write_text(f"#!/bin/sh\ntouch {marks}/config-ini\n")
    evil.chmod(0o755)
    (tmp_path / "config.ini").write_text(f"[tshark]\ntshark_path = {evil}\n[dumpcap]\ndumpcap_path = {evil}\n")
    for folder in (".local/lib/wireshark/plugins", ".config/wireshark", ".config/wireshark/plugins"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "evil.lua").write_text(f'io.open("{marks}/lua", "w"):close()\n')
    (tmp_path / ".config/wireshark/init.lua").write_text(f'io.open("{marks}/init-lua", "w"):close()\n')
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / ".config"))
    monkeypatch.chdir(tmp_path)
    # The trap works: a plain tshark with this home does run the Lua script.
    os.spawnlp(os.P_WAIT, "tshark", "tshark", "-v")
    os.spawnlp(os.P_WAIT, "sh", "sh", "-c", "tshark -G protocols >/dev/null 2>&1")
    assert (marks / "lua").exists()
    for mark in marks.iterdir():
        mark.unlink()

    traffic = talk(KEY, TURNS, "AES128-GCM-SHA256")
    decryptor = TsharkDecryptor(find_tshark(), [pem(KEY)], Limits())
    found = opened(decryptor, [traffic])

    assert said(found, 0) == traffic.said
    assert list(marks.iterdir()) == []


def test_the_spool_is_bounded() -> None:
    traffic = talk(KEY, TURNS, "AES128-GCM-SHA256")
    decryptor = TsharkDecryptor(find_tshark(), [pem(KEY)], Limits(tls_spool_bytes=4096))
    decryptor.start(7, TlsFacts("implicit", Location("made", 1, 0)))
    for record in traffic.records:
        decryptor.push(7, record)

    assert not decryptor.pending(7)
    assert "more TLS than may be held" in decryptor.verdict(7).detail


@pytest.mark.parametrize(
    ("says", "wanted"),
    [
        ("TShark (Wireshark) 2.6.20 (Git)\nwith GnuTLS 3.6\n", "3.4 or newer"),
        ("TShark (Wireshark) 4.0.17\nwithout GnuTLS\n", "without GnuTLS"),
        ("hello\n", "is it tshark"),
    ],
)
def test_an_unusable_tshark_is_refused_in_words(tmp_path: Path, says: str, wanted: str) -> None:
    fake = tmp_path / "tshark"
    fake.write_text(f"#!/bin/sh\ncat <<'E'\n{says}E\n")
    fake.chmod(0o755)

    with pytest.raises(ToolError, match=wanted):
        find_tshark(str(fake))


def test_a_missing_tshark_is_refused_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ToolError, match="apt-get install tshark"):
        find_tshark()


def test_a_client_hello_in_the_format_of_ssl2_is_handed_on_in_that_format() -> None:
    """RFC 5246 appendix E.2; the same random, so the same keys."""
    traffic = talk(KEY, TURNS, "AES128-SHA", PLAIN_SECRET)
    hello = traffic.records[0]
    told = b"\x01\x03\x03" + b"\x00\x03\x00\x00\x00\x20" + b"\x00\x00\x2f" + hello.payload[6:38]
    traffic.records[0] = Record(CLIENT, hello.content_type, 2, told, 0, hello.began, hello.at)
    decryptor = TsharkDecryptor(find_tshark(), [pem(KEY)], Limits())

    assert said(opened(decryptor, [traffic]), 0) == traffic.said


def test_packages_in_a_folder_that_only_root_can_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in /root on most hosts: nothing may be read of them once the rights are dropped."""
    import pyshark

    hidden = tmp_path / "hidden"
    shutil.copytree(Path(pyshark.__file__).parent, hidden / "pyshark")
    hidden.chmod(0o700)
    monkeypatch.setattr("smtpdebug.sources.tshark_process._PACKAGE_ROOT", f"{hidden}:{Path(__file__).parents[2]}")
    traffic = talk(KEY, TURNS, "AES128-GCM-SHA256")
    decryptor = TsharkDecryptor(find_tshark(), [pem(KEY)], Limits())

    assert said(opened(decryptor, [traffic]), 0) == traffic.said
    assert decryptor.problems == []


def test_what_tshark_leaves_closed_is_noticed() -> None:
    """tshark itself says nothing when a record of the middle is missing: it opens no more of that direction."""
    traffic = talk(KEY, [(CLIENT, b"line %d\r\n" % number) for number in range(6)], "AES128-GCM-SHA256")
    mail = [record for record in traffic.records if record.content_type == APPLICATION_DATA]
    traffic.records.remove(mail[2])
    decryptor = TsharkDecryptor(find_tshark(), [pem(KEY)], Limits())
    decryptor.start(0, TlsFacts("implicit", Location("made", 1, 0), version="TLS 1.2", cipher_suite="TLS_RSA_AES_GCM"))
    for record in traffic.records:
        decryptor.push(0, record)
    decryptor.end(0)

    found = decryptor.flush()

    assert b"".join(record.data for record in found) == b"line 0\r\nline 1\r\n"
    verdict = decryptor.verdict(0)
    assert (verdict.decrypted, verdict.reason) == (True, "partial")
    assert "3 of 5 records" in verdict.detail
