"""Both decryptors at once: tshark first, native for what it left; and, on request, each as the other's witness."""

from __future__ import annotations

from smtpdebug.engine import Decryptor
from smtpdebug.model.streams import CLIENT, SERVER, Side
from smtpdebug.model.tls import APPLICATION_DATA, Decrypted, Record, TlsFacts, Verdict
from smtpdebug.sources.tshark import TsharkDecryptor


class BothDecryptor:
    """The engine's Decryptor, by tshark and by ourselves.

    The native one streams; its plaintext of a flow is held until tshark's pass over that flow is done, and given out
    where tshark opened less (a gap it cannot cross, a suite or policy it refuses).

    Args:
        verify: report every flow on which the two differ in ``problems``.
    """

    def __init__(self, tshark: TsharkDecryptor, native: Decryptor, *, verify: bool = False) -> None:
        self._tshark, self._native, self._verify = tshark, native, verify
        self._ours: dict[int, list[Decrypted]] = {}
        self._theirs: dict[int, list[Decrypted]] = {}
        self._chosen: dict[int, str] = {}
        self.differences: list[str] = []
        """With ``verify``: where the two differ, one sentence each."""

    @property
    def problems(self) -> list[str]:
        """tshark's complaints and, with ``verify``, the differences; one sentence each."""
        return self._tshark.problems + self.differences

    @property
    def limits_hit(self) -> dict[str, int]:
        """The native one's budgets: its plaintext is there where tshark's was not waited for."""
        return dict(getattr(self._native, "limits_hit", {}))

    def add_keylog(self, text: bytes, source: str) -> list[Decrypted]:
        """Secrets for both."""
        self._tshark.add_keylog(text, source)
        return self._hold(self._native.add_keylog(text, source))

    def start(self, flow: int, facts: TlsFacts) -> None:
        """A TLS connection begins."""
        self._ours[flow], self._theirs[flow] = [], []
        self._tshark.start(flow, facts)
        self._native.start(flow, facts)

    def push(self, flow: int, record: Record) -> list[Decrypted]:
        """One record for both."""
        held = self._hold(self._native.push(flow, record))
        return held + self._passed(self._tshark.push(flow, record))

    def gap(self, flow: int, side: Side, length: int) -> None:
        """Missing bytes, for both."""
        self._tshark.gap(flow, side, length)
        self._native.gap(flow, side, length)

    def end(self, flow: int) -> list[Decrypted]:
        """The connection closed."""
        held = self._hold(self._native.end(flow))
        return held + self._passed(self._tshark.end(flow))

    def pending(self, flow: int) -> bool:
        """Until tshark's pass over the flow, and while the native one waits for secrets."""
        return flow in self._ours or self._native.pending(flow)

    def flush(self) -> list[Decrypted]:
        """The capture ended."""
        self._hold(self._native.flush())
        return self._passed(self._tshark.flush())

    def verdict(self, flow: int) -> Verdict:
        """The native verdict knows the secret and the reason; who opened the flow is added. The flow is forgotten."""
        self._ours.pop(flow, None)
        self._theirs.pop(flow, None)
        verdict = self._native.verdict(flow)
        theirs = self._tshark.verdict(flow)
        if self._chosen.pop(flow, "native") == "tshark":
            verdict.decryptor = "tshark"
            if not verdict.decrypted:
                verdict.decrypted, verdict.reason, verdict.detail = True, theirs.reason, theirs.detail
            verdict.secret = verdict.secret or theirs.secret
        return verdict

    def _hold(self, opened: list[Decrypted]) -> list[Decrypted]:
        """Keep native plaintext of flows that tshark has yet to see; pass on what comes later."""
        late: list[Decrypted] = []
        for record in opened:
            self._ours.get(record.flow, late).append(record)
        return late

    def _passed(self, opened: list[Decrypted]) -> list[Decrypted]:
        """Settle the flows that tshark is done with."""
        for record in opened:
            self._theirs[record.flow].append(record)
        return [record for flow in self._tshark.take_done() for record in self._settle(flow)]

    def _settle(self, flow: int) -> list[Decrypted]:
        ours, theirs = self._ours.pop(flow), self._theirs.pop(flow)
        mine = [record for record in ours if record.content_type == APPLICATION_DATA]
        if self._verify:
            self._compare(flow, mine, theirs)
        if not theirs or _octets(theirs) < _octets(mine):
            return ours
        self._chosen[flow] = "tshark"
        rest = [record for record in ours if record.content_type != APPLICATION_DATA]
        return sorted(theirs + rest, key=_time)

    def _compare(self, flow: int, ours: list[Decrypted], theirs: list[Decrypted]) -> None:
        for side, name in ((CLIENT, "client"), (SERVER, "server")):
            one, two = (b"".join(r.data for r in records if r.side == side) for records in (ours, theirs))
            if one != two:
                common = _common(one, two)
                where = _at(ours if len(one) > common else theirs, side, common).began
                self.differences.append(
                    f"decryption differs: {where.capture}, frame {where.frame}: of the {name}'s plaintext native has "
                    f"{len(one)} bytes, tshark {len(two)}, the same up to byte {common}"
                )


def _at(records: list[Decrypted], side: int, octet: int) -> Decrypted:
    """The record of a side that holds an octet of its plaintext."""
    for record in records:
        if record.side == side:
            octet -= len(record.data)
            if octet < 0:
                break
    return record


def _octets(records: list[Decrypted]) -> int:
    return sum(len(record.data) for record in records)


def _common(one: bytes, two: bytes) -> int:
    return next((i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))


def _time(record: Decrypted) -> int:
    return record.at.ts_ns
