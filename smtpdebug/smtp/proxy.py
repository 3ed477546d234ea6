"""The PROXY protocol's preface, versions 1 and 2 (HAProxy, doc/proxy-protocol.txt)."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final

from smtpdebug.model.smtp import ProxyPreface
from smtpdebug.model.streams import Location

SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_V1: Final = b"PROXY "
_V1_LONGEST: Final = 107
"""Octets of a version 1 line, line end included (section 2.1)."""


def preface_length(data: bytes) -> int | None:
    """How many octets at the beginning of ``data`` are a preface; 0 for none, ``None`` where more octets must tell."""
    if data.startswith(_V1):
        end = data.find(b"\n", 0, _V1_LONGEST + 1)
        if end >= 0:
            return end + 1
        return None if len(data) <= _V1_LONGEST else 0
    if data.startswith(SIGNATURE):
        if len(data) < 16:
            return None
        total = 16 + int.from_bytes(data[14:16], "big")
        return total if len(data) >= total else None
    if _V1.startswith(data) or SIGNATURE.startswith(data):
        return None
    return 0


def read_preface(data: bytes, at: Location) -> ProxyPreface:
    """Take a whole preface apart; ``valid`` is false where it breaks the format."""
    if data.startswith(_V1):
        return _version_1(data, at)
    return _version_2(data, at)


def _version_1(data: bytes, at: Location) -> ProxyPreface:
    line = data.rstrip(b"\r\n")
    words = line.decode("ascii", "backslashreplace").split(" ")
    preface = ProxyPreface(version=1, at=at, line=line, valid=data.endswith(b"\r\n"))
    if len(words) >= 2 and words[1] == "UNKNOWN":
        return preface
    if len(words) != 6 or words[1] not in ("TCP4", "TCP6"):
        preface.valid = False
        return preface
    try:
        version = {ip_address(words[2]).version, ip_address(words[3]).version}
        ports = [int(words[4]), int(words[5])]
    except ValueError:
        preface.valid = False
        return preface
    preface.source = _endpoint(words[2], ports[0])
    preface.destination = _endpoint(words[3], ports[1])
    preface.valid = preface.valid and version == {int(words[1][3])} and all(0 <= port < 65536 for port in ports)
    return preface


def _version_2(data: bytes, at: Location) -> ProxyPreface:
    preface = ProxyPreface(version=2, at=at, line=data, valid=data[12] >> 4 == 2)
    command, family = data[12] & 15, data[13] >> 4
    if command not in (0, 1):
        preface.valid = False
    size = {1: 4, 2: 16}.get(family, 0)
    if command != 1 or not size:
        return preface  # LOCAL, UNSPEC or a socket path: no addresses that mean anything here
    if len(data) < 16 + 2 * size + 4:
        preface.valid = False
        return preface
    ports = 16 + 2 * size
    source, destination = ip_address(data[16 : 16 + size]), ip_address(data[16 + size : ports])
    preface.source = _endpoint(str(source), int.from_bytes(data[ports : ports + 2], "big"))
    preface.destination = _endpoint(str(destination), int.from_bytes(data[ports + 2 : ports + 4], "big"))
    return preface


def _endpoint(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
