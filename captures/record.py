"""Record the captures that ship, from real servers and clients, with tcpdump on hosts made of network namespaces.

    sudo .venv/bin/python captures/record.py            # all
    sudo .venv/bin/python captures/record.py lmtp bdat  # some
    sudo .venv/bin/python captures/record.py --into /tmp/new pipelining

Needs root, iproute2, tcpdump, postfix and openssl, and for some cases swaks, curl, msmtp, perl and node; programs that
are not installed are downloaded with apt-get, npm and pip (``lab/machines.py``). Nothing recorded leaves the
machine: the hosts are joined to each other only. What is expected of a capture is read from the log of the client or
the server, never from smtpdebug.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from lab import cases as _cases  # noqa: F401 - registers the cases
from lab import clean as _clean  # noqa: F401 - more of them
from lab import clean_small as _clean_small  # noqa: F401 - and more
from lab import witness
from lab.bench import CASES, Bench, Case
from lab.network import Network

CAPTURES = Path(__file__).resolve().parent
PROGRAMS = ("ip", "ss", "tcpdump", "postfix", "openssl")


def toml(value: object) -> str:
    """A TOML value; ours are text, numbers, booleans and lists of them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml(each) for each in value) + "]"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return str(value)


def expectation(chosen: Case, bench: Bench) -> str:
    """The text of expect.toml."""
    said = witness.READERS[chosen.witness](bench.log.read_text(errors="replace"))
    conversations = witness.exchanges(said, lmtp=bench.facts.get("protocol") == "lmtp")
    if conversations:
        conversations[-1] += bench.unlogged
    if not conversations and "outcome" in bench.facts:
        conversations = [[]]
    if not conversations:
        raise RuntimeError(f"{chosen.name}: the client's log shows no conversation")
    lines = [f"why = {toml(chosen.why)}", f"recorded = {toml(chosen.how)}", f"witness = {toml(chosen.witness)}"]
    lines.append(f"clean = {toml(chosen.clean)}")
    lines += [f"{name} = {toml(value)}" for name, value in bench.facts.items()]
    lines += ["", "# Verb and reply code of each exchange, as client.log has them; code 0: no reply came."]
    for exchanges in conversations:
        lines += ["[[conversation]]", "exchanges = ["]
        lines += [f"    {toml(exchange)}," for exchange in exchanges]
        lines += ["]"]
    return "\n".join(lines) + "\n"


def record(chosen: Case, into: Path) -> None:
    """Record one case into its folder."""
    folder = into / chosen.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="smtpdebug-lab-") as scratch, Network(chosen.relay) as network:
        Path(scratch).chmod(0o755)
        bench = Bench(folder, Path(scratch), network)
        chosen.record(bench)
        text = bench.log.read_text(errors="replace").replace(scratch, "/tmp/lab").replace(str(CAPTURES), "captures")
        bench.log.write_text(text)
        (folder / "expect.toml").write_text(expectation(chosen, bench))
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    print(f"{chosen.name}: {sizes}")
    if any(size > 65536 for size in sizes.values()):
        raise RuntimeError(f"{chosen.name}: a file is larger than 64 KiB")


def index() -> str:
    """The table of captures/README.md."""
    rows = [f"| [{name}]({name}/) | {chosen.why} | {chosen.how} |" for name, chosen in CASES.items()]
    return "\n".join(["| case | what it shows | how it was recorded |", "|---|---|---|", *rows]) + "\n"


def main() -> int:
    """Record the cases named, or all."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("cases", nargs="*", metavar="CASE", help="default: all")
    arguments.add_argument("--into", type=Path, default=CAPTURES, help="default: here")
    chosen = arguments.parse_args()
    if unknown := [name for name in chosen.cases if name not in CASES]:
        arguments.error(f"no such case: {', '.join(unknown)}")
    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        arguments.error(f"not installed: {', '.join(missing)}")
    if os.geteuid() != 0:
        arguments.error("needs root, to make network namespaces and to capture")
    for name in chosen.cases or CASES:
        record(CASES[name], chosen.into)
    readme = chosen.into / "README.md"
    if readme.exists():
        head, mark, _ = readme.read_text().partition("<!-- written by record.py from here on -->\n")
        readme.write_text(head + mark + index())
    return 0


if __name__ == "__main__":
    sys.exit(main())
