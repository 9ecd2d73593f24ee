"""What a DNS server counts of its queries, in plain numbers that are read when somebody asks.

Owns the labels: what kind of name, type, rcode and transport a reply is counted under. They are few,
whatever is asked: names and types that are rare share one. The counter of a reply that is kept is kept
beside it (`cache.py`), so that it costs one addition.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from .records import Rcode, RRType

OTHER = "other"

_HEADER_SIZE = 12
_RECENT_MAX = 1024

_TYPES = {
    int(rtype).to_bytes(2, "big"): rtype.name
    for rtype in RRType
    if rtype not in {RRType.OPT, RRType.HINFO, RRType.IXFR, RRType.AXFR}
}
_RCODES = {int(rcode): rcode.name.lower() for rcode in Rcode}
_REFUSED = int(Rcode.REFUSED)
_TC = 2  # In the third byte of a reply.


class Labels(NamedTuple):
    """What replies are counted under.

    Attributes:
        name_kind: `service`, `node` or `addr`: a name of what is registered, told by the label below the
            domain (`services.py`); `cluster`: of the cluster itself, or one that does not exist;
            `outside`: one that is not ours; `other`: none.
        type: The type that was asked for.
        rcode: The reply's.
        transport: `udp` or `tcp`.
    """

    name_kind: str
    type: str
    rcode: str
    transport: str


class Count:
    """How many replies there were of one kind.

    Attributes:
        n: The number.
    """

    __slots__ = ("n",)

    def __init__(self) -> None:
        self.n = 0


class Times(Protocol):
    """What notes how long queries took."""

    def observe_all(self, value: float, count: int) -> None:
        """Note that so many queries took so many seconds each."""
        ...


class _NoTimes:
    def observe_all(self, value: float, count: int) -> None:
        """Note nothing."""


class Counts:
    """The replies of one server.

    Attributes:
        truncated: Replies with TC: the client shall ask again by TCP.
        times: Notes how long queries took that were answered at once.
    """

    def __init__(self) -> None:
        self.truncated = 0
        self.times: Times = _NoTimes()
        # By kind, the two bytes of a type that has a name, rcode, and whether by TCP.
        self._counts: dict[tuple[str, bytes, int, bool], Count] = {}
        # By the query behind its header, and the flags of the reply: most names are asked for again.
        self._recent: dict[bytes, Count] = {}

    def by_labels(self) -> dict[Labels, int]:
        """Return how many replies there were, by what they are counted under."""
        return {
            Labels(
                kind,
                _TYPES.get(rtype, OTHER),
                _RCODES.get(rcode, OTHER),
                "tcp" if over_tcp else "udp",
            ): count.n
            for (kind, rtype, rcode, over_tcp), count in self._counts.items()
            if count.n
        }

    def of(
        self, packet: bytes, reply: bytes, *, over_tcp: bool = False, is_outside: bool = False
    ) -> Count:
        """Return what counts such replies.

        Args:
            packet: The query; what is no question is counted as such.
            reply: The whole reply.
            over_tcp: How the query came.
            is_outside: The name is not ours: a recursor was asked.
        """
        end = packet.find(0, _HEADER_SIZE)
        rtype, rcode = packet[end + 1 : end + 3], reply[3] & 15
        if rtype not in _TYPES:
            rtype = b""
        if end <= _HEADER_SIZE and not rtype:
            kind = OTHER
        elif is_outside or rcode == _REFUSED:
            kind = "outside"
        else:
            name = packet[_HEADER_SIZE:end].lower()
            if b"\7service" in name:
                kind = "service"
            elif b"\4node" in name:
                kind = "node"
            else:
                kind = "addr" if b"\4addr" in name else "cluster"
        key = kind, rtype, rcode, over_tcp
        count = self._counts.get(key)
        if count is None:
            count = self._counts[key] = Count()
        return count

    def replied(self, packet: bytes, reply: bytes) -> None:
        """Count a reply by UDP to a query; the arguments are those of `of`."""
        key = packet[_HEADER_SIZE:] + reply[2:4]
        count = self._recent.get(key)
        if count is None:
            if len(self._recent) >= _RECENT_MAX:
                self._recent.clear()
            count = self._recent[key] = self.of(packet, reply)
        count.n += 1
        if reply[2] & _TC:
            self.truncated += 1

    def replied_by_tcp(self, packet: bytes, reply: bytes) -> None:
        """As `replied`, of a query by TCP."""
        self.of(packet, reply, over_tcp=True).n += 1

    def replied_later(
        self, question: bytes, reply: bytes, *, over_tcp: bool, is_outside: bool = False
    ) -> None:
        """As `replied`, of a query of which only the question section is kept."""
        packet = bytes(_HEADER_SIZE) + question
        self.of(packet, reply, over_tcp=over_tcp, is_outside=is_outside).n += 1
        if reply[2] & _TC:
            self.truncated += 1
