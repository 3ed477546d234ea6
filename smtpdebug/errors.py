"""What may go wrong with the tool or its input. A bad peer is a finding, never one of these (DESIGN principle 3)."""

from __future__ import annotations


class SmtpDebugError(Exception):
    """Anything a user is told in one sentence; the doors turn it into exit code 3."""


class CaptureError(SmtpDebugError):
    """A capture that cannot be read (further): says what, where (file, frame, offset) and what to do.

    Args:
        what: the fault in a few words, e.g. ``"the last packet is cut short"``.
        path: the file's name as the user gave it; ``"-"`` for standard input.
        frame: the number of the packet record at fault, from 1, or ``None`` before the first.
        offset: the byte offset of the fault in the (decompressed) file, or ``None``.
        advice: what to do, in one clause, or ``""``.
    """

    def __init__(
        self, what: str, *, path: str, frame: int | None = None, offset: int | None = None, advice: str = ""
    ) -> None:
        self.what, self.path, self.frame, self.offset, self.advice = what, path, frame, offset, advice
        where = path
        if frame is not None:
            where += f", frame {frame}"
        if offset is not None:
            where += f", offset {offset}"
        super().__init__(f"{where}: {what}" + (f"; {advice}" if advice else ""))


class KeyFileError(SmtpDebugError):
    """A key or key log file that cannot be used; the message says why and what to give instead."""


class ToolError(SmtpDebugError):
    """An outside program (tcpdump, tshark) is missing, too old or failed; the message has the remedy."""
