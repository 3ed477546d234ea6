"""``smtpdebug --version``: this program, and what it leans on, as tcpdump and tshark do."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import subprocess

import smtpdebug

_LIBRARIES = ("numpy", "msgspec", "cryptography", "scapy", "pyshark")
_TOOLS = ("tcpdump", "tshark")


def versions() -> list[str]:
    """One line each; tools that are not there are said to be missing."""
    libraries = ", ".join(f"{name} {_library(name)}" for name in _LIBRARIES)
    return [
        f"smtpdebug {smtpdebug.__version__}",
        f"Python {platform.python_version()} with {libraries}",
        *(f"{name}: {_tool(name)}" for name in _TOOLS),
    ]


def _library(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


def _tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        return "not found"
    try:
        done = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=10, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{path} does not answer ({error.__class__.__name__})"
    said = (done.stdout or done.stderr).strip().splitlines()
    return said[0] if said else f"{path} (no version given)"
