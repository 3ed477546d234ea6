"""Packet records to TCP columns: the vectorised part of reading a capture.

What the columns do not know how to enter (rare link types, tunnels) is asked of ``exotic`` packet by packet and then
read here like the rest. Every packet without a row is counted by reason, but for those whose content went elsewhere:
pieces of a fragmented packet and ICMP errors that quote TCP.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from smtpdebug.model.packets import PacketBatch, Unreachable
from smtpdebug.model.streams import Limits
from smtpdebug.pcap import exotic
from smtpdebug.pcap.fragments import Fragments
from smtpdebug.pcap.icmp import read_error
from smtpdebug.pcap.link import COMMON, IPV4, IPV6, PAD, be16, by_version, name_of, network_layer
from smtpdebug.pcap.network import Network, count, join_networks, read_ip
from smtpdebug.pcap.records import I64, U8, Records

_ICMP, _TCP, _UDP, _ICMP6 = 1, 6, 17, 58
_PROTOCOLS: Final = {
    0: "IPv6 hop-by-hop only", 2: "IGMP", 4: "IP in IP", 17: "UDP", 41: "IPv6 in IP", 47: "GRE", 50: "ESP (encrypted)",
    51: "AH", 58: "ICMPv6", 59: "IPv6 without payload", 1: "ICMP", 88: "EIGRP", 89: "OSPF", 103: "PIM", 112: "VRRP",
    132: "SCTP", 136: "UDP-Lite",
}  # fmt: skip
_UNBOUNDED: Final = 1 << 40
_DEEPEST: Final = 4
"""Tunnels within tunnels that are followed."""

LOST_FRAGMENTS: Final = "fragment without the rest of its packet"
CUT_FRAGMENT: Final = "fragment cut short"
CUT_TCP: Final = "TCP header cut"
BAD_TCP: Final = "bad TCP header"


class Decoder:
    """Decodes the records of one set of captures; holds only fragments between calls.

    Args:
        limits: ``limits.fragments`` bounds the fragments held.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self._fragments = Fragments((limits or Limits()).fragments)

    def decode(
        self, records: Records, captures: tuple[str, ...] = ("-",), secrets: tuple[bytes, ...] = ()
    ) -> PacketBatch:
        """One batch from these records, in their order."""
        work = _Work(records, captures, self._fragments)
        work.enter()
        batch = work.batch()
        batch.secrets = secrets
        return batch

    def close(self) -> dict[str, int]:
        """What was still waited for, by reason, when no more packets come."""
        lost = self._fragments.close()
        return {LOST_FRAGMENTS: lost} if lost else {}


def decode(records: Records, captures: tuple[str, ...] = ("-",)) -> PacketBatch:
    """The TCP segments of these records, on their own (no fragment is waited for beyond them)."""
    decoder = Decoder()
    batch = decoder.decode(records, captures)
    for reason, number in decoder.close().items():
        count(batch.skipped, reason, number)
    return batch


class _Work:
    """One batch on its way."""

    def __init__(self, records: Records, captures: tuple[str, ...], fragments: Fragments) -> None:
        self.records = records
        self.captures = captures
        self.fragments = fragments
        self.skipped: dict[str, int] = {}
        self.unreachable: list[Unreachable] = []
        self.tcp: list[Network] = []
        self.buf = records.buf
        # Packets put together from fragments, and the row of the piece that completed each.
        self.extra: list[bytes] = []
        self._wholes: list[int] = []
        self.data = _padded(self.buf)
        self.end = records.offset + records.captured
        self.wire_end = records.offset + records.wire

    # -- from the link layer inwards

    def enter(self) -> None:
        """Finds every TCP segment."""
        records = self.records
        links = records.link
        if not len(records):
            return
        if bool((links == links[0]).all()):
            self._link(int(links[0]), np.arange(len(records)), records.offset)
        else:
            for link in np.unique(links).tolist():
                rows = np.flatnonzero(links == link)
                self._link(link, rows, records.offset[rows])
        while self.extra:
            self._whole_packets()

    def _link(self, link: int, rows: I64, at: I64, depth: int = 0) -> None:
        if link not in COMMON:
            self._rare(link, rows, at, depth)
            return
        place, kind = network_layer(link, self.data, at, self.end[rows])
        is_ip = (kind == IPV4) | (kind == IPV6)
        if not bool(is_ip.all()):
            for other in np.unique(kind[~is_ip]).tolist():
                mine = kind == other
                if other in exotic.ETHERTYPES and depth < _DEEPEST:
                    self._inside(rows[mine], place[mine], other, depth)
                else:
                    count(self.skipped, name_of(other), int(mine.sum()))
            rows, place, kind = rows[is_ip], place[is_ip], kind[is_ip]
        self._ip(rows, place, kind, depth)

    def _rare(self, link: int, rows: I64, at: I64, depth: int) -> None:
        if depth >= _DEEPEST or not exotic.known_link(link):
            count(self.skipped, f"unknown link type {link}" if link >= 0 else "unknown interface", len(rows))
            return
        found = [exotic.within_link(link, self._bytes(row, place)) for row, place in _pairs(rows, at)]
        self._found(found, rows, at, f"no IP found in link type {link}", depth)

    def _inside(self, rows: I64, at: I64, kind: int, depth: int) -> None:
        found = [exotic.within_type(kind, self._bytes(row, place)) for row, place in _pairs(rows, at)]
        self._found(found, rows, at, name_of(kind), depth)

    def _found(self, found: list[exotic.Inner | None], rows: I64, at: I64, reason: str, depth: int) -> None:
        count(self.skipped, reason, found.count(None))
        direct = [i for i, inner in enumerate(found) if inner is not None and inner.link is None]
        if direct:
            inner = [one for one in found if one is not None and one.link is None]
            place = at[direct] + np.array([one.offset for one in inner], np.int64)
            kind = np.array([one.kind for one in inner], np.int64)
            is_ip = (kind == IPV4) | (kind == IPV6)
            count(self.skipped, reason, len(kind) - int(is_ip.sum()))
            most = np.array([_UNBOUNDED if one.size is None else one.size for one in inner], np.int64)
            self._ip(rows[direct][is_ip], place[is_ip], kind[is_ip], depth + 1, (place + most)[is_ip])
        for link in sorted({one.link for one in found if one is not None and one.link is not None}):
            mine = [i for i, one in enumerate(found) if one is not None and one.link == link]
            place = at[mine] + np.array([one.offset for one in found if one and one.link == link], np.int64)
            self._link(link, rows[mine], place, depth + 1)

    def _bytes(self, row: int, at: int) -> bytes:
        return self.buf[at : int(self.end[row])]

    # -- IP

    def _ip(self, rows: I64, at: I64, kind: I64, depth: int, outer_end: I64 | None = None) -> None:
        if not len(rows):
            return
        if outer_end is not None:
            self.end[rows] = np.minimum(self.end[rows], outer_end)
            self.wire_end[rows] = np.minimum(self.wire_end[rows], outer_end)
        for packets in read_ip(self.data, rows, at, kind, self.end[rows], self.wire_end[rows], self.skipped):
            if outer_end is not None:
                packets.length = np.minimum(packets.length, self.wire_end[packets.row] - packets.transport)
            self._transport(packets, depth)

    def _transport(self, packets: Network, depth: int) -> None:
        if bool(packets.fragment.any()):
            self._hold(packets.take(packets.fragment))
            packets = packets.take(~packets.fragment)
        is_tcp = packets.protocol == _TCP
        if bool(is_tcp.all()):
            self.tcp.append(packets)
            return
        if bool(is_tcp.any()):
            self.tcp.append(packets.take(is_tcp))
        others = packets.take(~is_tcp)
        for protocol in np.unique(others.protocol).tolist():
            self._other(protocol, others.take(others.protocol == protocol), depth)

    def _other(self, protocol: int, packets: Network, depth: int) -> None:
        reason = _PROTOCOLS.get(protocol) or f"IP protocol {protocol}"
        if depth < _DEEPEST and protocol in exotic.IP_IN_IP:
            kind = np.full(len(packets), exotic.IP_IN_IP[protocol], np.int64)
            self._ip(packets.row, packets.transport, kind, depth + 1)
            return
        tunnel = np.zeros(len(packets), np.bool_)
        if depth < _DEEPEST and protocol == exotic.GRE:
            tunnel[:] = True
        elif depth < _DEEPEST and protocol == _UDP:
            ports = (be16(self.data, packets.transport + 2), packets.transport + 4 <= packets.end)
            tunnel = np.isin(ports[0], tuple(exotic.TUNNEL_PORTS)) & ports[1]
        elif protocol in (_ICMP, _ICMP6):
            self._errors(packets, reason)
            return
        if bool(tunnel.any()):
            inside = packets.take(tunnel)
            found = [
                exotic.within_ip(version, self.buf[at:end])
                for version, at, end in zip(
                    inside.version.tolist(), inside.at.tolist(), inside.end.tolist(), strict=True
                )
            ]
            self._found(found, inside.row, inside.at, reason, depth)
        count(self.skipped, reason, len(packets) - int(tunnel.sum()))

    def _errors(self, packets: Network, reason: str) -> None:
        records = self.records
        unread = 0
        for i, row in enumerate(packets.row.tolist()):
            at, version = int(packets.at[i]), int(packets.version[i])
            error = read_error(
                self.buf[int(packets.transport[i]) : int(packets.end[i])],
                version=version,
                reporter=self.buf[at + 12 : at + 16] if version == 4 else self.buf[at + 8 : at + 24],
                capture=self.captures[int(records.capture[row])],
                frame=int(records.frame[row]),
                ts_ns=int(records.ts_ns[row]),
            )
            if error is None:
                unread += 1
            else:
                self.unreachable.append(error)
        count(self.skipped, reason, unread)

    def _hold(self, pieces: Network) -> None:
        cut = pieces.end < pieces.transport + pieces.length
        count(self.skipped, CUT_FRAGMENT, int(cut.sum()))
        pieces = pieces.take(~cut)
        for i, row in enumerate(pieces.row.tolist()):
            at, transport = int(pieces.at[i]), int(pieces.transport[i])
            header = transport - at + (8 if pieces.version[i] == 6 else 0)
            packet = self.buf[at : int(pieces.end[i])]
            whole, lost = self.fragments.add(packet, header, int(self.records.ts_ns[row]))
            count(self.skipped, LOST_FRAGMENTS, lost)
            if whole is not None:
                self.extra.append(whole)
                self._wholes.append(row)

    def _whole_packets(self) -> None:
        """Reads the packets that this batch's fragments completed, each in the place of its last piece."""
        rows = np.array(self._wholes, np.int64)
        sizes = np.array([len(packet) for packet in self.extra], np.int64)
        ends = len(self.buf) + np.cumsum(sizes)
        self.buf += b"".join(self.extra)
        self.data = _padded(self.buf)
        self.end, self.wire_end = self.end.copy(), self.wire_end.copy()
        self.end[rows] = self.wire_end[rows] = ends
        self.extra, self._wholes = [], []
        at = ends - sizes
        self._ip(rows, at, by_version(self.data, at, ends), 0)

    # -- TCP

    def batch(self) -> PacketBatch:
        """The batch of what was found."""
        packets = join_networks(self.tcp) if self.tcp else _NOTHING
        if len(self.tcp) > 1:
            packets = packets.take(np.argsort(packets.row, kind="stable"))
        have = packets.end - packets.transport
        head_at = packets.transport
        whole = have >= 20
        if not bool(whole.all()):
            count(self.skipped, CUT_TCP, len(have) - int(whole.sum()))
            packets, head_at = packets.take(whole), head_at[whole]
        head = sliding_window_view(self.data, 20)[head_at]
        header = (head[:, 12] >> 4).astype(np.int64) * 4
        good = (header >= 20) & (header <= packets.length)
        if not bool(good.all()):
            count(self.skipped, BAD_TCP, len(good) - int(good.sum()))
            packets, head, header = packets.take(good), head[good], header[good]
        return self._finish(packets, head, header)

    def _finish(self, packets: Network, head: U8, header: I64) -> PacketBatch:
        records, row = self.records, packets.row
        start = packets.transport + header
        length = packets.length - header
        captured = np.minimum(np.maximum(packets.end - start, 0), length)
        words = head.view(">u4").reshape(-1, 5)
        halves = head.view(">u2").reshape(-1, 10)
        n = len(records)
        every = len(row) == n
        return PacketBatch(
            buf=self.buf,
            captures=self.captures,
            capture=records.capture if every else records.capture[row],
            frame=records.frame if every else records.frame[row],
            ts_ns=records.ts_ns if every else records.ts_ns[row],
            version=packets.version,
            src_hi=packets.src_hi,
            src_lo=packets.src_lo,
            dst_hi=packets.dst_hi,
            dst_lo=packets.dst_lo,
            sport=halves[:, 0].astype(np.uint16),
            dport=halves[:, 1].astype(np.uint16),
            seq=words[:, 1].astype(np.uint32),
            ack=words[:, 2].astype(np.uint32),
            flags=head[:, 13].copy(),
            window=halves[:, 7].astype(np.uint16),
            ttl=packets.ttl.copy(),
            dont_fragment=packets.dont_fragment,
            start=start,
            captured=captured.astype(np.int32),
            length=length.astype(np.int32),
            unreachable=tuple(sorted(self.unreachable, key=lambda error: error.ts_ns)),
            packets=n,
            first_ns=int(records.ts_ns[0]) if n else 0,
            last_ns=int(records.ts_ns[-1]) if n else 0,
            skipped=self.skipped,
        )


def _padded(buf: bytes) -> U8:
    data = np.zeros(len(buf) + PAD, np.uint8)
    data[: len(buf)] = np.frombuffer(buf, np.uint8)
    return data


def _pairs(rows: I64, at: I64) -> zip[tuple[int, int]]:
    return zip(rows.tolist(), at.tolist(), strict=True)


def _nothing() -> Network:
    none, bytes_, wide = np.zeros(0, np.int64), np.zeros(0, np.uint8), np.zeros(0, np.uint64)
    flags: npt.NDArray[np.bool_] = np.zeros(0, np.bool_)
    return Network(none, none, bytes_, wide, wide, wide, wide, bytes_, bytes_, flags, none, none, none, flags)


_NOTHING: Final = _nothing()
