"""What can happen to a core. The counterpart of `update.py`, which says what the core wants done.

Ids of proposals and reads (`rid`) are drawn by the driver, which never uses one twice in the life
of a process (a late confirmation of an old round must not answer a new read: etcd#20418).
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
    """No entries have followed to carry the commit index: a leader tells of it without any."""


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
    """Append the configuration that results from these changes; none leave a joint one."""

    rid: int
    changes: tuple[ConfigChange, ...]
    transition: Transition = Transition.AUTO


@dataclass(frozen=True, slots=True)
class TransferLeader:
    """Hand leadership to the voter `to`; 0: to the one that is furthest."""

    rid: int
    to: int


@dataclass(frozen=True, slots=True)
class ReadIndex:
    """Find an index such that a read at or after it is linearizable."""

    rid: int


@dataclass(frozen=True, slots=True)
class Persisted:
    """Everything of every `Persist` up to and including `seq` is durable."""

    seq: int


@dataclass(frozen=True, slots=True)
class Applied:
    """The state machine has applied every entry up to `index`."""

    index: int


@dataclass(frozen=True, slots=True)
class Compact:
    """Entries up to `index`, all applied, are no longer wanted."""

    index: int


@dataclass(frozen=True, slots=True)
class PeerUnreachable:
    """A message to `peer` may have been lost: its link broke or its queue was full."""

    peer: int


@dataclass(frozen=True, slots=True)
class PeerDown:
    """`peer` is gone as far as this node can tell: its port refuses, or does not answer."""

    peer: int


@dataclass(frozen=True, slots=True)
class EarlyElection:
    """The delay asked for by `Update.early_election` is over; `token` is the one given there."""

    token: int


@dataclass(frozen=True, slots=True)
class SnapshotSent:
    """A snapshot for `peer` has been handed over, or has failed; `index` is the snapshot's."""

    peer: int
    index: int
    ok: bool


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
)
