"""The cluster as one node sees it, in the shape that users get (contract, section 4).

Plain data: who computes it is the driver's business, who shows it is the API's and the DNS zone's.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

PROTOCOL = 8
"""Version of what nodes send each other. Nodes of different versions refuse each other's hello."""


LIVE = ("alive", "suspect")
"""The healths of a live node (contract, section 1)."""


class NodeInfo(msgspec.Struct, frozen=True):
    """One member, as in `/v1/cluster`. What is not known is None.

    Attributes:
        name: Its name.
        id: 16 hex digits.
        address: `HOST:PORT` of its API; likewise `peer_address` and `dns_address`.
        type: `leader`, `follower` or `learner`.
        voter: Whether it votes.
        health: `alive`, `suspect`, `failed`, `stopped`, `joining` or `recovering`: the leader's
            view; of a node that has not had one yet, what it sees itself.
        last_contact_ms: Since the leader last heard of it; 0 for the leader.
        uptime_s: Seconds since it began; None also of a node that runs no more, as its speed.
        reason: Why it is not alive, in words that stay the same while that does; None: it is.
        disk_free, disk_needed: Bytes of its disk that are free, and that are needed free.
        writes_per_s: Entries of the log that it has applied, per second of the last five.
        fsync_ms: Median of its flushes in the last ten seconds; None: there was none.
        alarms: The kinds of alarms that hold at it, of `cluster/alarms.py`, but for the cluster's margin.
    """

    name: str
    id: str
    address: str
    peer_address: str
    dns_address: str
    type: str
    voter: bool
    health: str
    term: int | None
    commit_index: int | None
    applied_index: int | None
    last_contact_ms: int | None
    version: str | None
    uptime_s: int | None
    reason: str | None = None
    disk_free: int | None = None
    disk_needed: int | None = None
    writes_per_s: float | None = None
    fsync_ms: float | None = None
    alarms: tuple[str, ...] = ()

    @property
    def is_live(self) -> bool:
        """Whether the node counts among the live."""
        return self.health in LIVE


class ClusterInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """The `/v1/cluster` object. `nodes` are sorted by name (n2 before n10).

    `waiting_for` is there only while the cluster waits for so many voters (`start --expect`).
    """

    cluster_id: str
    leader: str | None
    term: int
    quorum: int
    failure_tolerance: int
    zone: str
    nodes: list[NodeInfo]
    waiting_for: int = 0


class ConfigValue(msgspec.Struct, frozen=True, omit_defaults=True):
    """A setting as it is shown.

    Attributes:
        value: As a user writes it.
        source: Where it comes from, in words.
        note: A remark for the user who has just changed it; mostly empty.
    """

    value: str
    source: str
    note: str = ""


class JoinRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a newcomer says of itself (`POST /v1/cluster/join`, JSON).

    `name` is empty to be given one; `id` is 16 hex digits that the newcomer drew. `replace` is the
    name, API address or id of the member whose place it takes; empty: of none. `cluster_id` is that
    of the cluster that it means, because an address may be another cluster's by now; empty: any.
    """

    id: str
    address: str
    peer_address: str
    dns_address: str
    protocol: int
    name: str = ""
    learner: bool = False
    replace: str = ""
    cluster_id: str = ""


class JoinReply(msgspec.Struct, frozen=True):
    """What a newcomer must know before it starts; it is a learner when it gets this."""

    cluster_id: str
    name: str
    zone: str
    peers: dict[str, str]
    """Peer addresses of the members by their id (16 hex digits)."""


Text = Annotated[str, msgspec.Meta(max_length=64)]
Reason = Annotated[str, msgspec.Meta(max_length=2000)]
Figure = Annotated[int, msgspec.Meta(ge=0)]
Kinds = Annotated[tuple[Text, ...], msgspec.Meta(max_length=32)]
"""What a peer says is bounded where it is decoded: it is kept, sent on, and shown."""


class NodeFigures(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a node says of itself to the others, once in a health-check interval.

    Attributes:
        state: `running`; `stopping` in the last report of a node that stops on purpose, `restarting`
            if its process starts it again at once; `recovering` while it lacks log that it had acknowledged.
        reason: Of a node that is recovering: what it lost, and when it votes again.
        disk_free, disk_needed: Bytes of its disk that are free, and that are needed free.
        is_disk_short: Whether its disk is short of room.
        is_disk_tight: Whether it is so short of it that not even deletions are taken.
        writes_per_s: Entries that it has applied, per second; None: it began just now.
        fsync_ms: Median of its last flushes; None: there was none for some seconds.
        clock_ms: What its machine's clock showed then, in milliseconds since the epoch; 0: it does not say.
        alarms: The kinds of alarms that hold at it; of a newer version there may be others.
    """

    state: Text
    term: Figure
    commit_index: Figure
    applied_index: Figure
    version: Text
    uptime_s: Figure
    reason: Reason = ""
    disk_free: Figure = 0
    disk_needed: Figure = 0
    is_disk_short: bool = False
    is_disk_tight: bool = False
    writes_per_s: float | None = None
    fsync_ms: float | None = None
    clock_ms: Figure = 0
    alarms: Kinds = ()
