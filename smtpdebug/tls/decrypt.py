"""The native decryptor: the engine's ``Decryptor`` on ``cryptography`` alone."""

from __future__ import annotations

from collections.abc import Iterator

from smtpdebug.model.streams import Limits, Side
from smtpdebug.model.tls import Decrypted, Record, TlsFacts, Verdict
from smtpdebug.tls.flow import Flow
from smtpdebug.tls.keys import KeyRing
from smtpdebug.tls.secrets import Clue, Secrets


class NativeDecryptor:
    """Opens TLS 1.0 to 1.3 with private keys and key logs, as records come.

    A flow whose secret is not known yet keeps its records, up to ``Limits.tls_spool_bytes`` for all flows; over that
    the flow that has waited longest is let go and counted in ``limits_hit``.

    Args:
        keys: private keys, matched to each connection by its certificate.
        limits: budgets.
        wait_for_keylog: secrets may come after the connections they open (a key log that is still being written,
            secrets blocks between packets): ended flows without a secret stay pending.
    """

    def __init__(
        self, keys: KeyRing | None = None, limits: Limits | None = None, *, wait_for_keylog: bool = False
    ) -> None:
        self.limits_hit: dict[str, int] = {}
        self._ring = keys if keys is not None else KeyRing()
        self._limits = limits or Limits()
        self._wait_for_keylog = wait_for_keylog
        self._secrets = Secrets()
        self._flows: dict[int, Flow] = {}
        self._held: dict[int, int] = {}
        self._held_bytes = 0
        self._ended: set[int] = set()
        self._waiting: dict[Clue, set[int]] = {}
        self._registered: dict[int, int] = {}

    @property
    def keylog_lines_ignored(self) -> int:
        """Lines of key logs that were no secrets."""
        return self._secrets.ignored

    def add_keylog(self, text: bytes, source: str) -> list[Decrypted]:
        """Take secrets in NSS format; ``source`` is ``keylog`` or ``dsb``. Opens what waited for them."""
        self._secrets.add_keylog(text, source)
        self._ring.keylog = True
        # Secrets blocks between packets: more may follow, also for connections that are over.
        self._wait_for_keylog = self._wait_for_keylog or (source == "dsb" and bool(self._flows))
        return self._wake([])

    def start(self, flow: int, facts: TlsFacts) -> None:
        """A TLS connection begins."""
        self._flows[flow] = Flow(flow, self._secrets, self._ring)

    def push(self, flow: int, record: Record) -> list[Decrypted]:
        """One record, in order within its direction."""
        state = self._flows[flow]
        out = state.push(record)
        if state.held or flow in self._held:
            self._account(flow, state)
        return self._wake(out) if self._secrets.fresh else out

    def gap(self, flow: int, side: Side, length: int) -> None:
        """Bytes of one direction are missing before the next record pushed."""
        self._flows[flow].gap(side, length)

    def end(self, flow: int) -> list[Decrypted]:
        """The connection closed; what cannot be opened any more is let go."""
        state = self._flows[flow]
        self._ended.add(flow)
        if state.holds and not self.pending(flow):
            state.give_up("no-secret")
            self._account(flow, state)
        return []

    def pending(self, flow: int) -> bool:
        """An ended flow may still give plaintext later: it resumes a session not opened yet, or waits for a key log."""
        state = self._flows.get(flow)
        if state is None or not state.holds or state.dead is not None:
            return False
        return self._wait_for_keylog or (state.waits_for_session and (bool(len(self._ring)) or self._ring.keylog))

    def flush(self) -> list[Decrypted]:
        """The capture ended: let go what still waits (everything that could be opened has been given)."""
        for flow, state in self._flows.items():
            if state.holds:
                state.give_up("no-secret")
                self._account(flow, state)
        return []

    def verdict(self, flow: int) -> Verdict:
        """What became of the flow; it is forgotten once it has ended."""
        state = self._flows[flow]
        if flow in self._ended:
            self._forget(flow)
        return state.verdict()

    def secrets(self) -> Iterator[str]:
        """Key log lines (NSS format, no line ends) of every secret that opened something."""
        return self._secrets.export()

    def _account(self, flow: int, state: Flow) -> None:
        """Keep the sum of what is held, who waits for what, and the limit."""
        self._held_bytes += state.held - self._held.get(flow, 0)
        if not state.held:
            self._held.pop(flow, None)
            return
        # A flow keeps its place in the dictionary: the one that has waited longest is first.
        self._held[flow] = state.held
        if self._registered.get(flow) != state.messages:
            self._registered[flow] = state.messages
            for clue in state.clues():
                self._waiting.setdefault(clue, set()).add(flow)
        while self._held_bytes > self._limits.tls_spool_bytes and self._held:
            oldest = next(iter(self._held))
            self.limits_hit["tls_spool_bytes"] = self.limits_hit.get("tls_spool_bytes", 0) + 1
            self._flows[oldest].give_up("spool-limit")
            self._held_bytes -= self._held.pop(oldest)

    def _wake(self, out: list[Decrypted]) -> list[Decrypted]:
        """Retry the flows that wait for the secrets just learnt, and those that these teach in turn."""
        fresh = self._secrets.fresh
        if not self._waiting:
            fresh.clear()
        while fresh:
            for flow in sorted(self._waiting.pop(fresh.pop(), ())):
                state = self._flows.get(flow)
                if state is not None and state.holds:
                    out = out + state.retry()
                    self._account(flow, state)
        return out

    def _forget(self, flow: int) -> None:
        self._ended.discard(flow)
        state = self._flows.pop(flow)
        self._held_bytes -= self._held.pop(flow, 0)
        if self._registered.pop(flow, None) is None:
            return
        for clue in state.clues():
            waiting = self._waiting.get(clue)
            if waiting is not None:
                waiting.discard(flow)
                if not waiting:
                    del self._waiting[clue]
