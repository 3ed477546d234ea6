"""The front door in Python: ``analyze`` for a report, ``read`` for conversations in constant memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from smtpdebug.engine import Engine, Event, Item, Judge
from smtpdebug.errors import CaptureError, KeyFileError, ToolError
from smtpdebug.model.report import Report
from smtpdebug.model.smtp import Conversation
from smtpdebug.model.streams import Limits
from smtpdebug.sources.files import CaptureSet, open_captures

if TYPE_CHECKING:
    from smtpdebug.engine import Decryptor
    from smtpdebug.tls.decrypt import NativeDecryptor
    from smtpdebug.tls.keys import KeyRing

PathName: TypeAlias = str | PathLike[str]
Password: TypeAlias = bytes | Callable[[], bytes | None] | None


STRAY = "TCP of no connection"
"""The reason for TCP packets of which no conversation can be made; see ``Engine.strays``."""


class Reading(Iterator[Conversation]):
    """Conversations as they finish, in order of their first packet; memory does not grow with the capture.

    After (and while) reading: ``packets``, ``skipped``, ``notes``, ``errors``, ``limits_hit``.
    """

    def __init__(self, captures: CaptureSet, engine: Engine, secrets: Secrets) -> None:
        self.captures, self.engine, self.secrets = captures, engine, secrets
        self._conversations = (event for event in self.events() if not isinstance(event, Item))

    def events(self) -> Iterator[Event]:
        """Everything the engine gives: with ``live=True`` each item as it is said, and the conversations."""
        for batch in self.captures:
            yield from self.engine.feed(batch)
        yield from self.engine.close()

    def __iter__(self) -> Reading:
        return self

    def __next__(self) -> Conversation:
        return next(self._conversations)

    @property
    def packets(self) -> int:
        """Packet records read so far."""
        return self.captures.packets

    @property
    def skipped(self) -> dict[str, int]:
        """Packets that carry no TCP, were not understood, or belong to no connection, by reason."""
        strays = self.engine.strays
        return {**self.captures.skipped, STRAY: strays} if strays else self.captures.skipped

    @property
    def notes(self) -> list[str]:
        """What a reader must know: cut records, limits hit; one sentence each."""
        limits = [f"limit {name} was hit {times} times" for name, times in self.engine.limits_hit.items()]
        return [*self.captures.notes, *limits, *self.secrets.problems]

    @property
    def differs(self) -> bool:
        """The two decryptors do not agree (``verify``); ``notes`` say where."""
        return self.secrets.differs

    @property
    def errors(self) -> list[CaptureError]:
        """Inputs that are no captures; the others were read."""
        return self.captures.errors

    @property
    def limits_hit(self) -> dict[str, int]:
        """How often each budget was hit."""
        return self.engine.limits_hit

    @property
    def keylog(self) -> list[str]:
        """The secrets that opened something so far, as lines of a key log; none where tshark alone decrypts."""
        return self.secrets.keylog


def read(
    *paths: PathName,
    rsa_key: PathName | Iterable[PathName] = (),
    key_password: Password = None,
    keylog: PathName | Iterable[PathName] = (),
    decrypt_with: str = "auto",
    verify_decryption: bool = False,
    ports: Iterable[int] = (),
    limits: Limits | None = None,
    judge: Judge | None = None,
    live: bool = False,
    shard: tuple[int, int] | None = None,
) -> Reading:
    """Read captures (files, folders, globs, ``"-"``) as one rotated set.

    Args:
        rsa_key: private key files of servers; see ``docs/howto/decrypt.md``.
        key_password: for encrypted keys: the password, or a function that asks for it.
        keylog: NSS key log files (``SSLKEYLOGFILE``).
        decrypt_with: ``auto``, ``native`` or ``tshark``.
        verify_decryption: run both and note every difference.
        ports: mail ports beside the known ones.
        judge: ``rules.verdicts.Verdicts()`` to have findings and diagnoses.
        live: give each item as it is said (:meth:`Reading.events`).
        shard: ``(k, n)``: follow only that n-th of the connections.

    Raises:
        KeyFileError: a key file cannot be used.
        ToolError: ``decrypt_with="tshark"`` and there is no usable tshark.
    """
    budgets = limits or Limits()
    secrets = Secrets(
        _names(rsa_key),
        _names(keylog),
        key_password,
        decrypt_with=decrypt_with,
        verify=verify_decryption,
        live=live,
        limits=budgets,
    )
    engine = Engine(
        budgets,
        ports=ports,
        decryptor=secrets.decryptor,
        keys=secrets.ring,
        judge=judge,
        live=live,
        shard=shard,
    )
    return Reading(open_captures([str(path) for path in paths], limits=budgets), engine, secrets)


def analyze(*paths: PathName, rules: bool = True, **options: object) -> Report:
    """Read captures whole and judge them against the reference model; options as for :func:`read`."""
    if rules and "judge" not in options:
        from smtpdebug.rules.verdicts import Verdicts  # a plain read does not pay for the rules' import

        options["judge"] = Verdicts()
    reading = read(*paths, **options)  # type: ignore[arg-type]  # same options, checked there
    conversations = list(reading)
    return Report(
        conversations=conversations,
        packets=reading.packets,
        skipped=reading.skipped,
        notes=reading.notes,
        errors=reading.errors,
        limits_hit=reading.limits_hit,
    )


def _names(paths: PathName | Iterable[PathName]) -> list[Path]:
    if isinstance(paths, str | PathLike):
        return [Path(paths)]
    return [Path(path) for path in paths]


class Secrets:
    """Keys and key logs, read once, and the decryptor made of them.

    Raises:
        KeyFileError: a file cannot be used; the message says why and what to give instead.
        ToolError: tshark was asked for by name and is not usable.
    """

    def __init__(
        self,
        rsa_keys: Sequence[Path] = (),
        keylogs: Sequence[Path] = (),
        password: Password = None,
        *,
        decrypt_with: str = "auto",
        verify: bool = False,
        live: bool = False,
        limits: Limits | None = None,
    ) -> None:
        self._limits = limits or Limits()
        self._keylogs = [_file(path) for path in keylogs]
        self._how = "native" if live else decrypt_with, verify
        self._native: NativeDecryptor | None = None
        self.ring: KeyRing | None = None
        self.made: Decryptor | None = None
        if rsa_keys or keylogs:
            from smtpdebug.tls.keys import KeyRing, load_private_keys

            loaded = [key for path in rsa_keys for key in load_private_keys(_file(path), str(path), password)]
            self.ring = KeyRing(loaded, keylog=bool(keylogs))
        if self.ring is not None or self._how not in (("auto", False), ("native", False)):
            self.decryptor()

    def decryptor(self) -> Decryptor:
        """The decryptor of the run, made when first asked for."""
        if self.made is None:
            self.made = self._decryptor(*self._how)
            for text in self._keylogs:
                self.made.add_keylog(text, "keylog")
        return self.made

    def _decryptor(self, decrypt_with: str, verify: bool) -> Decryptor:
        from smtpdebug.tls.decrypt import NativeDecryptor

        native = self._native = NativeDecryptor(self.ring, self._limits)
        if decrypt_with == "native" or (decrypt_with == "auto" and self.ring is None and not verify):
            return native
        from smtpdebug.sources.decryptors import BothDecryptor
        from smtpdebug.sources.tshark import TsharkDecryptor, find_tshark

        try:
            tshark = TsharkDecryptor(find_tshark(), [key.pem() for key in self.ring or ()], self._limits)
        except ToolError:
            if decrypt_with == "auto" and not verify:
                return native
            raise
        return tshark if decrypt_with == "tshark" and not verify else BothDecryptor(tshark, native, verify=verify)

    @property
    def keylog(self) -> list[str]:
        """Key log lines (NSS format, no line ends) of what the native decryptor opened."""
        return list(self._native.secrets()) if self._native is not None else []

    @property
    def differs(self) -> bool:
        """See ``Reading.differs``."""
        return bool(getattr(self.made, "differences", ()))

    @property
    def problems(self) -> list[str]:
        """What the decryptor has to complain of: one sentence each."""
        return list(getattr(self.made, "problems", ()))


def _file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise KeyFileError(f"{path}: cannot be read: {error.strerror}") from error
