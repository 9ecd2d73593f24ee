"""The events that a driver feeds to a core. `update.py` is the other direction.

The driver numbers proposals and reads (`rid`) and never uses a number twice in the life of a
process: else the late confirmation of an old read could answer a new one (etcd#20418).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .membership import ConfigChange, Transition
from .messages import Message


@dataclass(frozen=True, slots=True)
class Tick:
    """One heartbeat interval has passed. Ticks drive liveness only (rule D18)."""


@dataclass(frozen=True, slots=True)
class TellCommit:
    """Send the commit index to followers, because no entries followed that could carry it.

    Attributes:
        at_once: Also to followers that have not answered all entries yet.
    """

    at_once: bool = False


@dataclass(frozen=True, slots=True)
class Receive:
    """A message has arrived."""

    message: Message


@dataclass(frozen=True, slots=True)
class Propose:
    """Append these payloads, in this order. Each is (rid, data)."""

    items: Sequence[tuple[int, bytes]]


@dataclass(frozen=True, slots=True)
class ProposeConfigChange:
    """Append the configuration that results from `changes`; without changes, leave a joint one."""

    rid: int
    changes: tuple[ConfigChange, ...]
    transition: Transition = Transition.AUTO


@dataclass(frozen=True, slots=True)
class TransferLeader:
    """Hand leadership to the voter `to`; 0: to the voter whose log is most complete."""

    rid: int
    to: int


@dataclass(frozen=True, slots=True)
class ReadIndex:
    """Find an index such that a read at or after it is linearizable."""

    rid: int


@dataclass(frozen=True, slots=True)
class Persisted:
    """Everything in each `Persist` up to and including number `seq` is durable."""

    seq: int


@dataclass(frozen=True, slots=True)
class Applied:
    """The state machine has applied every entry up to `index`."""

    index: int


@dataclass(frozen=True, slots=True)
class Compact:
    """Drop the log entries up to `index`, all of which are applied."""

    index: int


@dataclass(frozen=True, slots=True)
class PeerUnreachable:
    """A message to `peer` may be lost: its connection broke, or its outbox was full."""

    peer: int


@dataclass(frozen=True, slots=True)
class PeerDown:
    """`peer` cannot be reached: its port refuses connections, or does not answer."""

    peer: int


@dataclass(frozen=True, slots=True)
class EarlyElection:
    """The delay that `Update.early_election` asked for is over; `token` is the one from there."""

    token: int


@dataclass(frozen=True, slots=True)
class SnapshotSent:
    """The snapshot at `index` was delivered to `peer`, or could not be (`ok` is False)."""

    peer: int
    index: int
    ok: bool


@dataclass(frozen=True, slots=True)
class DiskShort:
    """The disk of this node has become short of room, or has room again (`is_short` is False)."""

    is_short: bool


Event = (
    Tick
    | Receive
    | Propose
    | ProposeConfigChange
    | TransferLeader
    | ReadIndex
    | Persisted
    | Applied
    | Compact
    | PeerUnreachable
    | PeerDown
    | EarlyElection
    | SnapshotSent
    | TellCommit
    | DiskShort
)
