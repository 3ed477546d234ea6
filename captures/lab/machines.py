"""A host with programs that are not installed: an overlay over this machine's root, gone with the recording.

Debian's mail servers exclude each other, and none shall replace the one that is installed. So their packages are
downloaded with apt-get and unpacked into the overlay, nothing of them is ever run outside of it.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from lab.network import SERVER4, Network

STORE = Path.home() / ".cache" / "smtpdebug-lab"
"""Downloads are kept here."""
_FIRST_USER = 61000


def packages(*names: str) -> list[Path]:
    """Debian packages of these names, downloaded unless we have them."""
    STORE.mkdir(parents=True, exist_ok=True)
    found = []
    for name in names:
        if not list(STORE.glob(f"{name}_*.deb")):
            subprocess.run(["apt-get", "download", name], cwd=STORE, check=True, capture_output=True, timeout=120)
        found.append(max(STORE.glob(f"{name}_*.deb")))
    return found


def node_modules(*names: str) -> Path:
    """A folder with these npm packages, for NODE_PATH."""
    folder = STORE / "node"
    if not all((folder / "node_modules" / name).exists() for name in names):
        folder.mkdir(parents=True, exist_ok=True)
        command = [
            "npm",
            "install",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
            "--omit=optional",
            "--prefix",
            str(folder),
            *names,
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=180)
    return folder / "node_modules"


def python_packages(*names: str) -> Path:
    """A folder with these Python packages, for PYTHONPATH."""
    folder = STORE / "python"
    if not all((folder / name).exists() for name in names):
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder), *names]
        subprocess.run(command, check=True, capture_output=True, timeout=180)
    return folder


class Machine:
    """One of the two hosts with an overlay as its root.

    Args:
        network: the network; it takes the overlay away when it ends.
        space: which of its hosts.
        scratch: the folder of the recording, the same inside and outside.
        name: host name.
        debs: Debian packages to unpack.
        users: accounts to make, each with a group of its own.
    """

    def __init__(
        self, network: Network, space: str, scratch: Path, name: str, debs: tuple[str, ...], users: tuple[str, ...] = ()
    ) -> None:
        self.network, self.space, self.scratch = network, space, scratch
        kept = scratch / f"overlay-{space}"
        kept.mkdir()
        self._mount("-t", "tmpfs", "lab", at=kept)
        self.root = kept / "root"
        for part in ("upper", "work", "root"):
            (kept / part).mkdir()
        layers = f"lowerdir=/,upperdir={kept / 'upper'},workdir={kept / 'work'}"
        self._mount("-t", "overlay", "lab", "-o", layers, at=self.root)
        for part in ("/dev", "/proc"):
            self._mount("--bind", part, at=self.root / part.lstrip("/"))
        self.shared = scratch / f"shared-{space}"
        self.shared.mkdir()
        self.shared.chmod(0o777)
        inside = self.root / str(self.shared).lstrip("/")
        inside.mkdir(parents=True, exist_ok=True)
        self._mount("--bind", str(self.shared), at=inside)
        self._furnish(name, users)
        for deb in packages(*debs):
            content = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(deb)], check=True, capture_output=True).stdout
            unpack = ["tar", "-x", "--keep-directory-symlink", "-C", str(self.root)]  # /lib is a link, keep it so
            subprocess.run(unpack, input=content, check=True)

    def _mount(self, *words: str, at: Path) -> None:
        subprocess.run(["mount", *words, str(at)], check=True)
        self.network.at_end(lambda: subprocess.run(["umount", "-l", str(at)], check=True))

    def _furnish(self, name: str, users: tuple[str, ...]) -> None:
        hosts = f"127.0.0.1 {name} localhost\n" + ("" if name == "mx.example.org" else f"{SERVER4} mx.example.org\n")
        self.write("/etc/hosts", hosts)
        self.write("/etc/resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
        self.write("/etc/mailname", name + "\n")
        for number, user in enumerate(users, _FIRST_USER):
            with (self.root / "etc/passwd").open("a") as accounts:
                accounts.write(f"{user}:x:{number}:{number}::/home/{user}:/bin/sh\n")
            with (self.root / "etc/group").open("a") as groups:
                groups.write(f"{user}:x:{number}:\n")
            home = self.root / "home" / user
            home.mkdir(parents=True)
            subprocess.run(["chown", f"{number}:{number}", str(home)], check=True)

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file inside."""
        there = self.root / path.lstrip("/")
        there.parent.mkdir(parents=True, exist_ok=True)
        there.unlink(missing_ok=True)
        there.write_text(text)
        there.chmod(mode)

    def folder(self, path: str, owner: str = "root:root", mode: int = 0o755) -> None:
        """Make a folder inside."""
        (self.root / path.lstrip("/")).mkdir(parents=True, exist_ok=True)
        self.run("chown", owner, path)
        self.run("chmod", f"{mode:o}", path)

    def run(self, *command: str, stdin: bytes = b"", timeout: float = 40) -> str:
        """Run a command inside; return what it printed, errors too."""
        whole = ["ip", "netns", "exec", self.space, "chroot", str(self.root), *command]
        done = subprocess.run(whole, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout)
        return done.stdout.decode(errors="replace")

    def start(self, *command: str) -> Path:
        """Start a daemon inside, to be ended with the network; return the file of what it prints."""
        log = self.shared / f"{Path(command[0]).name}.log"
        with log.open("ab") as output:
            self.network.start(
                self.space,
                ["chroot", str(self.root), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        return log
