"""The cluster as the DNS server knows it: plain data, given by the caller."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Member:
    """One member of the cluster, as DNS shows it.

    Attributes:
        name: A DNS label in lower case.
        node_id: 16 hex digits.
        host: Its IP literal, without brackets.
        api_port: Its HTTP port.
        peer_port: Its port for other nodes.
        live: Whether it counts among the live (health `alive` or `suspect`).
        voter: Whether it votes.
    """

    name: str
    node_id: str
    host: str
    api_port: int
    peer_port: int
    live: bool
    voter: bool


@dataclass(frozen=True, slots=True)
class ClusterView:
    """The cluster at one moment. Equal views give equal answers.

    Attributes:
        zone: The domain, lower case, no final dot.
        ttl_s: TTL of answers and the SOA's minimum, in seconds.
        serial: Grows (mod 2**32) whenever the view changes.
        term: The Raft term, shown in TXT.
        leader: Name of the leader while this node is in current contact with it, else None;
            then questions for it are held, and the rest is answered with TTL 0.
        self_name: Name of the member that answers, for the SOA's MNAME.
        members: All members, sorted by name.
    """

    zone: str
    ttl_s: int
    serial: int
    term: int
    leader: str | None
    self_name: str
    members: tuple[Member, ...]
