"""Files for Wireshark: who may read them, and that the packets in them are those of the captures."""

from __future__ import annotations

import os
import stat
import struct
import subprocess
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smtpdebug.errors import CaptureError, SmtpDebugError
from smtpdebug.pcap.link import ETHERNET
from smtpdebug.pcap.writer import PcapWriter
from smtpdebug.sources.export import PrivateFile, keylog_text, read_twice, write_pcapng

CAPTURES = Path(__file__).parents[2] / "captures"
SLL2, RAW = 276, 101
SECRET = f"CLIENT_RANDOM {'ab' * 32} {'cd' * 48}"


class Block(NamedTuple):
    kind: int
    body: bytes


class Packet(NamedTuple):
    link: int
    ts_ns: int
    data: bytes
    wire: int


def blocks(data: bytes) -> Iterator[Block]:
    """The blocks of a little-endian pcapng file, by the draft: type, length, body padded to 32 bits, length again."""
    at = 0
    while at < len(data):
        kind, size = struct.unpack_from("<II", data, at)
        assert size % 4 == 0
        assert struct.unpack_from("<I", data, at + size - 4) == (size,)
        yield Block(kind, data[at + 8 : at + size - 4])
        at += size
    assert at == len(data)


def packets(data: bytes) -> list[Packet]:
    """Enhanced Packet Blocks with the link types of their interfaces; each interface says nanoseconds."""
    links: list[int] = []
    found = []
    for kind, body in blocks(data):
        if kind == 1:
            links.append(struct.unpack_from("<H", body)[0])
            assert b"\x09\x00\x01\x00\x09" in body[8:], "if_tsresol is not 10^-9"
        elif kind == 6:
            interface, high, low, captured, wire = struct.unpack_from("<5I", body)
            found.append(Packet(links[interface], high << 32 | low, body[20 : 20 + captured], wire))
    return found


def capture(path: Path, told: list[tuple[int, bytes]], link: int = ETHERNET, wire: int | None = None) -> str:
    with path.open("wb") as file:
        writer = PcapWriter(file, link)
        for ts_ns, data in told:
            writer.write(ts_ns, data, wire)
    return str(path)


def exported(captures: list[str], lines: list[str] | None = None) -> bytes:
    out = BytesIO()
    assert write_pcapng(out, captures, lines or []) == len(packets(out.getvalue()))
    return out.getvalue()


# -- pcapng


def test_the_secrets_come_before_the_packets_and_the_section_first(tmp_path: Path) -> None:
    data = exported([capture(tmp_path / "a.pcap", [(1, b"x")])], [SECRET])
    kinds = [block.kind for block in blocks(data)]
    assert kinds == [0x0A0D0D0A, 10, 1, 6]
    secrets = list(blocks(data))[1].body
    kind, length = struct.unpack_from("<II", secrets)
    assert kind == 0x544C534B
    assert secrets[8 : 8 + length] == SECRET.encode() + b"\n"


def test_without_secrets_there_is_no_secrets_block(tmp_path: Path) -> None:
    data = exported([capture(tmp_path / "a.pcap", [(1, b"x")])])
    assert 10 not in [block.kind for block in blocks(data)]


@given(
    told=st.lists(
        st.tuples(st.integers(0, 4_294_967_295 * 10**9), st.binary(min_size=1, max_size=90)), min_size=1, max_size=20
    )
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_one_capture_keeps_bytes_times_and_order(tmp_path: Path, told: list[tuple[int, bytes]]) -> None:
    data = exported([capture(tmp_path / "one.pcap", told)])
    assert [(packet.ts_ns, packet.data) for packet in packets(data)] == told


def test_lengths_on_the_wire_are_kept(tmp_path: Path) -> None:
    data = exported([capture(tmp_path / "short.pcap", [(5, b"abc")], wire=1514)])
    assert packets(data) == [Packet(ETHERNET, 5, b"abc", 1514)]


def test_several_captures_by_time_each_with_its_own_link_type(tmp_path: Path) -> None:
    one = capture(tmp_path / "one.pcap", [(10, b"a"), (40, b"b"), (90, b"c")])
    two = capture(tmp_path / "two.pcap", [(20, b"d"), (60, b"e")], SLL2)
    three = capture(tmp_path / "three.pcap", [(30, b"f")], RAW)
    told = packets(exported([one, two, three]))
    assert [packet.data for packet in told] == [b"a", b"d", b"f", b"b", b"e", b"c"]
    assert [packet.link for packet in told] == [1, SLL2, RAW, 1, SLL2, 1]
    (tmp_path / "all.pcapng").write_bytes(exported([one, two, three]))
    assert packets(exported([str(tmp_path / "all.pcapng")])) == told


def test_captures_of_the_same_link_type_keep_an_interface_each(tmp_path: Path) -> None:
    names = [capture(tmp_path / f"{number}.pcap", [(number, b"x")]) for number in range(3)]
    described = [block.body for block in blocks(exported(names)) if block.kind == 1]
    assert [body[12:18] for body in described] == [b"0.pcap", b"1.pcap", b"2.pcap"]


def test_an_export_can_be_exported_again(tmp_path: Path) -> None:
    first = exported([capture(tmp_path / "a.pcap", [(7, b"abcde"), (3, b"")], SLL2, 60)], [SECRET])
    (tmp_path / "first.pcapng").write_bytes(first)
    again = exported([str(tmp_path / "first.pcapng")])
    assert packets(again) == packets(first)
    assert SECRET.encode() not in again, "secrets of the input are not carried over unasked"


def test_more_packets_than_a_batch(tmp_path: Path) -> None:
    told = [(number, number.to_bytes(4)) for number in range(70_000)]
    assert [packet.data for packet in packets(exported([capture(tmp_path / "many.pcap", told)]))] == [
        data for _, data in told
    ]


@pytest.mark.parametrize("case", ["any-interface", "ipv6", "starttls-rsa"])
def test_capinfos_sees_the_same_packets(case: str, tmp_path: Path) -> None:
    source = CAPTURES / case / "capture.pcap"
    (tmp_path / "out.pcapng").write_bytes(exported([str(source)], [SECRET]))
    told = []
    for path in (source, tmp_path / "out.pcapng"):
        try:
            done = subprocess.run(
                ["capinfos", "-T", "-r", "-m", "-c", "-E", "-d", "-a", "-e", "-S", str(path)],
                capture_output=True,
                text=True,
                timeout=30,
                check=True,
            )
        except FileNotFoundError:
            pytest.skip("capinfos is not installed")
        told.append([float(word) if word[:1].isdigit() else word for word in done.stdout.strip().split(",")[1:]])
    assert told[0] == told[1]


def test_pipes_cannot_be_read_twice(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    read_twice([str(tmp_path), str(tmp_path / "nothing-here.pcap"), str(CAPTURES / "plain" / "capture.pcap")])
    for path in ("-", str(tmp_path / "pipe")):
        with pytest.raises(CaptureError, match="only once"):
            read_twice([path])


def test_a_capture_that_is_gone_is_an_error_in_words(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match=r"gone\.pcap"):
        write_pcapng(BytesIO(), [str(tmp_path / "gone.pcap")], [])


def test_key_log_text() -> None:
    assert keylog_text([SECRET, SECRET]) == f"{SECRET}\n{SECRET}\n".encode()
    assert keylog_text([]) == b""


# -- who may read it


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_never_wider_than_0600_not_even_while_it_is_written(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        with PrivateFile(tmp_path / "keys.log") as private:
            private.file.write(b"secret")
            private.file.flush()
            (written,) = tmp_path.iterdir()
            assert mode(written) == 0o600
            assert written.name != "keys.log", "it is at its place before it is complete"
            private.keep()
    finally:
        os.umask(before)
    assert [path.name for path in tmp_path.iterdir()] == ["keys.log"]
    assert mode(tmp_path / "keys.log") == 0o600
    assert (tmp_path / "keys.log").read_bytes() == b"secret"


def test_a_file_that_everybody_could_read_is_replaced_not_written_into(tmp_path: Path) -> None:
    target = tmp_path / "keys.log"
    target.write_bytes(b"old")
    target.chmod(0o644)
    with target.open("rb") as reader:
        with PrivateFile(target) as private:
            private.file.write(b"secret")
            private.keep()
        assert reader.read() == b"old", "who had it open sees the secrets"
    assert mode(target) == 0o600


def test_what_is_not_kept_leaves_nothing_behind(tmp_path: Path) -> None:
    with PrivateFile(tmp_path / "keys.log") as private:
        private.file.write(b"secret")
    assert list(tmp_path.iterdir()) == []


def test_symbolic_links_and_other_things_are_refused(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"as it was")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    before = sorted(tmp_path.iterdir())
    for name, why in (
        ("link", "symbolic link"),
        ("dangling", "symbolic link"),
        ("pipe", "not a regular"),
        (".", "not a regular"),
    ):
        with pytest.raises(SmtpDebugError, match=why):
            PrivateFile(tmp_path / name)
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "target").read_bytes() == b"as it was"


def test_a_link_put_there_meanwhile_is_refused(tmp_path: Path) -> None:
    with PrivateFile(tmp_path / "keys.log") as private:
        (tmp_path / "keys.log").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(SmtpDebugError, match="symbolic link"):
            private.keep()
    assert not (tmp_path / "elsewhere").exists()


def test_what_is_read_is_not_replaced(tmp_path: Path) -> None:
    source = tmp_path / "capture.pcap"
    source.write_bytes(b"packets")
    os.link(source, tmp_path / "same-file")
    for name in ("capture.pcap", "same-file"):
        with pytest.raises(SmtpDebugError, match="in use"):
            PrivateFile(tmp_path / name, apart_from=["-", str(source)])
    assert source.read_bytes() == b"packets"


def test_a_folder_that_is_not_there_is_told_in_words(tmp_path: Path) -> None:
    with pytest.raises(SmtpDebugError, match=r"keys\.log: cannot be written: No such file"):
        PrivateFile(tmp_path / "nowhere" / "keys.log")
