"""Files for other programs: the secrets as a key log, and the captures as pcapng with the secrets in front.

Both open the conversations for whoever has them, so both are written with mode 0600 from their first moment, and are at
their place only when they are complete.
"""

from __future__ import annotations

import os
import stat
import struct
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from smtpdebug.errors import CaptureError, SmtpDebugError
from smtpdebug.pcap.records import Records
from smtpdebug.sources.files import BATCH_BYTES, BATCH_PACKETS, CaptureFile
from smtpdebug.sources.rotated import WINDOW_BYTES, WINDOW_PACKETS, Reorder, Waiting, merge

_MODE: Final = 0o600
_USER_LINK: Final = 147
"""LINKTYPE_USER0, for packets whose own link type no file can say (of an interface that is described nowhere)."""


class PrivateFile:
    """A file that only its owner may read, written beside its place and moved there by :meth:`keep`.

    A context manager; what is not kept (a failure, an interruption) leaves nothing behind.

    Args:
        path: where it will be; a regular file there is replaced.
        apart_from: files that it must not replace, the captures above all.

    Raises:
        SmtpDebugError: it cannot be made there: there is something else than a regular file (a symbolic link may lead
            anywhere), or one of ``apart_from``.
    """

    def __init__(self, path: str | Path, apart_from: Iterable[str | Path] = ()) -> None:
        self.path = Path(path)
        self._refuse(apart_from)
        try:
            # Mode 0600, exclusive, from the first moment; a umask cannot make it wider.
            handle, name = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=self.path.parent)
        except OSError as error:
            raise SmtpDebugError(f"{self.path}: cannot be written: {error.strerror}") from error
        self._written = Path(name)
        self.file: BinaryIO = os.fdopen(handle, "wb")
        """Where to write."""

    def __enter__(self) -> PrivateFile:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.file.close()
        self._written.unlink(missing_ok=True)

    def keep(self) -> None:
        """It is complete: put it at its place."""
        self.file.close()
        self._refuse(())
        os.replace(self._written, self.path)

    def _refuse(self, apart_from: Iterable[str | Path]) -> None:
        try:
            status = os.lstat(self.path)
        except OSError:
            return  # nothing there, or nowhere to write: making the file will tell
        if stat.S_ISLNK(status.st_mode):
            raise SmtpDebugError(f"{self.path}: a symbolic link; secrets are not written through one")
        if not stat.S_ISREG(status.st_mode):
            raise SmtpDebugError(f"{self.path}: not a regular file; secrets are written to files only")
        for other in apart_from:
            if os.path.exists(other) and os.path.samestat(status, os.stat(other)):
                raise SmtpDebugError(f"{self.path}: would replace {other}, which is in use")


def keylog_text(lines: Sequence[str]) -> bytes:
    """Secrets (lines in NSS key log format) as the text of a key log."""
    return "".join(f"{line}\n" for line in lines).encode("ascii")


def raw_packets(captures: Sequence[str]) -> Iterator[Records]:
    """Every packet of these files as captured: of one file in its order, of several in order of time.

    Raises:
        CaptureError: a file is gone, or is no capture any more.
    """
    if len(captures) == 1:
        for records in CaptureFile(captures[0], 0).records(BATCH_PACKETS, BATCH_BYTES):
            if records is not None:
                yield records
        return
    for records in merge([_waiting(path, index) for index, path in enumerate(captures)]):
        if records is not None:
            yield records


def _waiting(path: str, index: int) -> Waiting:
    file = CaptureFile(path, index)
    first = file.first_ns()
    file.close()  # a set may have more files than a process may have open
    return Waiting(first or 0, lambda active: _in_order(path, index, active))


def _in_order(path: str, index: int, active: int) -> Iterator[Records | None]:
    share = max(1, active)
    reorder = Reorder(max(1024, WINDOW_PACKETS // share), max(1 << 16, WINDOW_BYTES // share))
    for records in CaptureFile(path, index).records(BATCH_PACKETS, max(1 << 16, BATCH_BYTES // share)):
        if records is not None:
            yield from reorder.push(records)
    yield from reorder.flush()


def read_twice(captures: Iterable[str]) -> None:
    """Check that each input can be read twice: first for the secrets, then for the packets.

    Raises:
        CaptureError: it is a pipe.
    """
    for path in captures:
        special = os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path))
        if path == "-" or special:
            name = "standard input" if path == "-" else path
            raise CaptureError(
                "can be read only once, and --export-pcapng reads it twice", path=name, advice="save it to a file first"
            )


class PcapngWriter:
    """Writes one section of pcapng (draft-ietf-opsawg-pcapng), little-endian, times in nanoseconds.

    Args:
        file: where to.
        secrets: key log text for a Decryption Secrets Block before all packets; none where it is empty.
        captures: the names of the inputs, for the descriptions of the interfaces.
    """

    def __init__(self, file: BinaryIO, secrets: bytes, captures: Sequence[str]) -> None:
        self._file, self._captures = file, captures
        self._interfaces: dict[tuple[int, int], int] = {}
        self.packets = 0
        # Section 4.1: byte-order magic, version 1.0, section length not given; shb_userappl says who wrote it.
        self._block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1) + _option(4, b"smtpdebug") + _END)
        if secrets:
            # Section 4.7: secrets type "TLSK", a TLS key log.
            self._block(0x0A, struct.pack("<II", 0x544C534B, len(secrets)) + _padded(secrets))

    def write(self, records: Records) -> None:
        """Write packets: bytes, times and lengths as they were captured."""
        buf = records.buf
        out = bytearray()
        pack, padding = _PACKET.pack, (b"", b"\0\0\0", b"\0\0", b"\0")
        columns = (records.ts_ns, records.offset, records.captured, records.wire, records.link, records.capture)
        for ts_ns, at, captured, wire, link, capture in zip(*(column.tolist() for column in columns), strict=True):
            number = self._interfaces.get((capture, link))
            if number is None:
                self._file.write(out)
                out.clear()
                number = self._interface(capture, link)
            padded = (captured + 3) & ~3
            size = 32 + padded
            unsigned = ts_ns & 0xFFFFFFFFFFFFFFFF
            out += pack(6, size, number, unsigned >> 32, unsigned & 0xFFFFFFFF, captured, wire)
            out += buf[at : at + captured] + padding[captured & 3] + size.to_bytes(4, "little")
        self._file.write(out)
        self.packets += len(records)

    def _interface(self, capture: int, link: int) -> int:
        number = self._interfaces[capture, link] = len(self._interfaces)
        name = os.path.basename(self._captures[capture]).encode("utf-8", "surrogateescape")
        # Section 4.2: no snap length; if_description (3), if_tsresol (9) = 10^-9 s.
        options = _option(3, name) + _option(9, b"\x09") + _END
        self._block(1, struct.pack("<HHI", link if 0 <= link <= 0xFFFF else _USER_LINK, 0, 0) + options)
        return number

    def _block(self, kind: int, body: bytes) -> None:
        size = struct.pack("<I", 12 + len(body))
        self._file.write(struct.pack("<I", kind) + size + body + size)


_PACKET: Final = struct.Struct("<7I")
"""Section 4.3, Enhanced Packet Block: type, length, interface, time (high, low), captured and original length."""
_END: Final = bytes(4)
"""opt_endofopt"""


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + _padded(value)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def write_pcapng(file: BinaryIO, captures: Sequence[str], lines: Sequence[str]) -> int:
    """Write the packets of these captures with the secrets in front; gives how many packets.

    What other blocks a pcapng input has (comments, names, statistics, its own secrets) is left behind.

    Args:
        file: where to.
        captures: names of capture files.
        lines: key log lines.

    Raises:
        CaptureError: see :func:`raw_packets`.
    """
    writer = PcapngWriter(file, keylog_text(lines), captures)
    for records in raw_packets(captures):
        writer.write(records)
    return writer.packets
