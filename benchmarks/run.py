"""Time smtpdebug beside tcpflow and tshark on the same captures, in one go, and print the ratios and peak memory.

    make bench
    python benchmarks/run.py --rounds 5 --skip-long

The programs take turns, round after round, so that a busy moment of the machine does not fall on one of them; the
table gives each one's best round. Output goes to /dev/null. Peak memory is the operating system's (`ru_maxrss`).
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
DATA = HERE / "data"
SMTPDEBUG = str(Path(sys.executable).with_name("smtpdebug"))
FIELDS = ["frame.time_epoch", "tcp.stream", "smtp.req.command", "smtp.req.parameter", "smtp.response.code"]
NEEDED = "needed: apt-get install tcpflow tshark"


class Cost(NamedTuple):
    """What one run took: seconds of wall clock, seconds of processor in user mode and all, peak memory in MB."""

    wall: float
    user: float
    cpu: float
    peak_mb: float
    status: int


def run(command: list[str]) -> Cost:
    """Run a command with its output thrown away."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    return Cost(wall, usage.ru_utime, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, process.returncode)


def capture(name: str, conversations: int, *extra: str) -> Path:
    """The capture of that name, generated if it is not there yet."""
    path = DATA / name
    if not path.exists():
        partial = path.with_suffix(".partial")
        arguments = [str(partial), "--conversations", str(conversations), *extra]
        subprocess.run([sys.executable, str(HERE / "generate.py"), *arguments], check=True)
        partial.rename(path)
    return path


def compare(title: str, commands: dict[str, list[str]], rounds: int, against: str) -> dict[str, Cost]:
    """Run all commands ``rounds`` times in turn; print and return the best round of each."""
    best: dict[str, Cost] = {}
    for turn in range(rounds):
        for name, command in commands.items():
            print(f"\r{title}: round {turn + 1} of {rounds}, {name:<40}", end="", file=sys.stderr, flush=True)
            cost = run(command)
            if name not in best or cost.wall < best[name].wall:
                best[name] = cost
    print("\r" + " " * 100 + "\r", end="", file=sys.stderr)
    base = best[against].wall if against in best else None
    print(f"\n{title} (best of {rounds})")
    print(f"  {'':<34}{'wall s':>9}{'user s':>9}{'cpu s':>9}{'peak MB':>9}{'x ' + against:>12}")
    for name, cost in best.items():
        ratio = f"{cost.wall / base:.2f}" if base else "-"
        failed = "" if cost.status in (0, 1) else f"   exit code {cost.status}"
        figures = f"{cost.wall:>9.2f}{cost.user:>9.2f}{cost.cpu:>9.2f}{cost.peak_mb:>9.0f}{ratio:>12}"
        print(f"  {name:<34}{figures}{failed}", flush=True)
    return best


def show(path: Path) -> list[str]:
    """The command under test."""
    return [SMTPDEBUG, "show", "-f", "jsonl", str(path)]


def tcpflow(path: Path) -> list[str]:
    """What people use today; no report.xml, which it would write in the current folder."""
    return ["tcpflow", "-c", "-S", "enable_report=NO", "-r", str(path)]


def tshark(path: Path, *options: str) -> list[str]:
    """The dissector, asked for as little as a transcript needs."""
    return ["tshark", "-r", str(path), *options, "-Y", "smtp", "-T", "fields", *(f"-e{field}" for field in FIELDS)]


def goal(what: str, value: float, limit: float, unit: str = "x", *, of: Cost) -> bool:
    """Print a target and whether it was reached; a run that failed has reached nothing."""
    reached = value <= limit and of.status in (0, 1)
    print(f"  {'reached' if reached else 'MISSED '}  {what}: {value:.2f}{unit} (at most {limit:g}{unit})")
    return reached


def clear_text(rounds: int) -> tuple[dict[str, Cost], list[bool]]:
    """10,000 conversations in clear text."""
    path = capture("plain.pcap", 10_000)
    commands = {
        "smtpdebug show -f jsonl": show(path),
        "tcpflow": tcpflow(path),
        "tshark": tshark(path),
        "smtpdebug check -f jsonl": [SMTPDEBUG, "check", "-f", "jsonl", str(path)],
    }
    best = compare("10,000 conversations, 340,000 packets, clear text", commands, rounds, "tcpflow")
    ours, check = best["smtpdebug show -f jsonl"], best["smtpdebug check -f jsonl"]
    print()
    return best, [
        goal("show, wall time beside tcpflow", ours.wall / best["tcpflow"].wall, 2.0, of=ours),
        goal("show, wall time beside tshark", ours.wall / best["tshark"].wall, 0.2, of=ours),
        goal("show, peak memory", ours.peak_mb, 300, " MB", of=ours),
        goal("check, wall time beside show", check.wall / ours.wall, 1.5, of=check),
    ]


def long_capture(short: Cost) -> list[bool]:
    """Ten times as long: the time may grow tenfold, the memory may not."""
    path = capture("long.pcap", 100_000)
    commands = {"smtpdebug show -f jsonl": show(path), "tcpflow": tcpflow(path)}
    best = compare("100,000 conversations, 3,400,000 packets, clear text", commands, 1, "tcpflow")
    ours = best["smtpdebug show -f jsonl"]
    print()
    return [
        goal("show, peak memory", ours.peak_mb, 300, " MB", of=ours),
        goal("show, peak memory beside the short capture", ours.peak_mb / short.peak_mb, 1.5, of=ours),
    ]


def tls(rounds: int) -> list[bool]:
    """500 conversations inside TLS 1.2, opened with the server's RSA key."""
    conversations = 500
    key = DATA / "tls.key"
    if not key.exists():
        (DATA / "tls.pcap").unlink(missing_ok=True)
    path = capture("tls.pcap", conversations, "--tls", str(key))
    ours = [*show(path), "--rsa-key", str(key)]
    names = {"native": "smtpdebug, native", "auto": "smtpdebug, auto (tshark)", "closed": "smtpdebug, no key"}
    commands = {
        names["native"]: [*ours, "--decrypt-with", "native"],
        names["auto"]: [*ours, "--decrypt-with", "auto"],
        names["closed"]: show(path),
        "tshark": tshark(path, "-o", f'uat:rsa_keys:"{key}",""'),
    }
    best = compare("500 conversations in TLS 1.2, opened with the server's key", commands, rounds, "tshark")
    print()
    native, auto, closed = (best[names[kind]] for kind in ("native", "auto", "closed"))
    added = (native.wall - closed.wall) * 1000 / conversations
    return [
        goal("native, a conversation, beside no key", added, 1.0, " ms", of=native),
        goal("native, a conversation, start-up included", native.wall * 1000 / conversations, 1.0, " ms", of=native),
        goal("auto, a conversation, start-up included", auto.wall * 1000 / conversations, 8.0, " ms", of=auto),
    ]


def main() -> int:
    """Run the benchmark; exit code 1 if a target was missed, 3 if a program to compare with is not there."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--skip-long", action="store_true", help="leave out the capture ten times as long")
    arguments.add_argument("--skip-tls", action="store_true")
    chosen = arguments.parse_args()
    missing = [name for name in ("tcpflow", "tshark") if shutil.which(name) is None]
    if missing:
        print(f"{' and '.join(missing)} not found; {NEEDED}", file=sys.stderr)
        return 3
    best, reached = clear_text(chosen.rounds)
    if not chosen.skip_long:
        reached += long_capture(best["smtpdebug show -f jsonl"])
    if not chosen.skip_tls:
        reached += tls(chosen.rounds)
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
