"""smtpdebug: SMTP and TLS conversations out of packet captures, judged against RFC 5321.

>>> report = smtpdebug.analyze("traces/", rsa_key="server.pem")
>>> report.conversations[0].exchanges[3].wait_ns
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Engine", "Limits", "Reading", "Report", "analyze", "read"]

if TYPE_CHECKING:
    from smtpdebug.api import Reading, analyze, read
    from smtpdebug.engine import Engine
    from smtpdebug.model.report import Report
    from smtpdebug.model.streams import Limits


def __getattr__(name: str) -> Any:
    """Import on first use: ``smtpdebug --help`` needs no NumPy."""
    from importlib import import_module

    homes = {
        "Engine": "smtpdebug.engine",
        "Limits": "smtpdebug.model.streams",
        "Report": "smtpdebug.model.report",
        "Reading": "smtpdebug.api",
        "analyze": "smtpdebug.api",
        "read": "smtpdebug.api",
    }
    if name not in homes:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(homes[name]), name)
