"""What one run has to say about its input."""

from __future__ import annotations

import msgspec

from smtpdebug.errors import CaptureError
from smtpdebug.model.smtp import Conversation


class Report(msgspec.Struct, gc=False):
    """Conversations, and everything a reader must know about how they were read."""

    conversations: list[Conversation] = []
    packets: int = 0
    skipped: dict[str, int] = {}
    """Packets without TCP in them or not understood, by reason."""
    notes: list[str] = []
    """Cut records, limits hit: one sentence each."""
    errors: list[CaptureError] = []
    """Inputs that are no captures."""
    limits_hit: dict[str, int] = {}
