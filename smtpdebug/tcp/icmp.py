"""ICMP errors of a batch, by the connection whose segment they quote."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import ip_address

from smtpdebug.model.packets import Unreachable
from smtpdebug.tcp.flows import Key, key_of, shard_of

_LOW64 = (1 << 64) - 1


class Errors:
    """What ICMP said, each error to be taken once."""

    def __init__(self, errors: Sequence[Unreachable], shard: tuple[int, int] | None = None) -> None:
        self._by_key: dict[Key, list[Unreachable]] = {}
        for error in errors:
            key = quoted_key(error)
            if key is not None and (shard is None or shard_of(key[0], shard[1]) == shard[0]):
                self._by_key.setdefault(key[0], []).append(error)

    def __len__(self) -> int:
        return len(self._by_key)

    def __contains__(self, key: object) -> bool:
        return key in self._by_key

    def take(self, key: Key) -> list[Unreachable]:
        """Those of one connection, oldest first."""
        return sorted(self._by_key.pop(key), key=lambda error: error.ts_ns)

    def rest(self) -> Iterator[tuple[Key, Unreachable]]:
        """Those not taken."""
        for key, errors in self._by_key.items():
            for error in errors:
                yield key, error


def quoted_key(error: Unreachable) -> tuple[Key, bool] | None:
    """The connection of the quoted segment, and whether its sender is the lower endpoint; ``None`` for nonsense."""
    try:
        source, target = ip_address(error.src), ip_address(error.dst)
    except ValueError:
        return None
    if source.version != target.version:
        return None
    a, b = int(source), int(target)
    return key_of(source.version, (a >> 64, a & _LOW64, error.sport), (b >> 64, b & _LOW64, error.dport))


def in_words(error: Unreachable) -> str:
    """What the note of the event says."""
    family = "ICMP" if error.version == 4 else "ICMPv6"
    words = f"{family} type {error.type} code {error.code} from {error.reporter}"
    return words if error.mtu is None else f"{words}, next-hop MTU {error.mtu}"
