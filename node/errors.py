"""Every error that a user or an operator can meet.

    HstoreError
      ConfigError            a flag, a variable or a file is wrong            exit 2
      Refused                understood, and not done                         exit 1, HTTP 409
        AddressClaimed       another cluster has a member at this node's address
        DuplicateProcess     another process runs this node: the later one ends
      KeyReused              an idempotency key of another request        exit 1, HTTP 422
      Compacted              changes that are not kept any more           exit 1, HTTP 410
      Unavailable            cannot be done now; later it may                 exit 1, HTTP 503
        NoLeader             no leader, or no majority, within the time
        Overloaded           a queue or a quota is full
        NoSpace              too little room on the disks
        NotApplied           a write that certainly took no effect
        OutcomeUnknown       a write that may or may not take effect
      StorageError           the disk or its data failed: the node stops      exit 1
        StateDiverged        this replica is not what the majority has
      PeerError              the other end broke the peer protocol

Messages say what happened, where, and what to do. Nobody parses them.
"""

from __future__ import annotations

from typing import ClassVar


class HstoreError(Exception):
    """Root of all errors of hstore."""

    http_status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1


class ConfigError(HstoreError):
    """A setting is wrong; the message names the key, the value and what is allowed."""

    http_status: ClassVar[int] = 400
    exit_code: ClassVar[int] = 2


class Refused(HstoreError):
    """The request was understood and will not be done; the message says why."""

    http_status: ClassVar[int] = 409


class AddressClaimed(Refused):
    """A new seed node's address is that of a member of another cluster: it founds no second one.

    Attributes:
        cluster_id: That cluster.
        said_by: `HOST:PORT` for other nodes of the member that said so; empty: unknown.
    """

    def __init__(self, message: str, cluster_id: str = "", said_by: str = "") -> None:
        """Keep what is known of the cluster."""
        super().__init__(message)
        self.cluster_id = cluster_id
        self.said_by = said_by


class DuplicateProcess(Refused):
    """Another process with this node's id runs, such as of a copied data directory. This one ends."""


class KeyReused(HstoreError):
    """The idempotency key was used before, with another request; nothing was changed."""

    http_status: ClassVar[int] = 422


class Compacted(HstoreError):
    """The changes that were asked for are not kept any more; the message says from where on."""

    http_status: ClassVar[int] = 410


class Unavailable(HstoreError):
    """It cannot be done now. `outcome` is what is known of a write: see contract section 4."""

    http_status: ClassVar[int] = 503
    outcome: ClassVar[str | None] = "not applied"


class NoLeader(Unavailable):
    """There is no leader, or it has no majority; nothing was written."""


class Overloaded(Unavailable):
    """A queue or a quota is full; nothing was written."""


class NoSpace(Unavailable):
    """Too little room on the disks; nothing was written. Waiting does not mend it, deleting does."""


class NotApplied(Unavailable):
    """A write was dropped for certain: another leader's entry took its place."""


class OutcomeUnknown(Unavailable):
    """A write may yet take effect, or may have: nobody re-sends it on the client's behalf."""

    outcome: ClassVar[str | None] = "unknown"


class StorageError(HstoreError):
    """The disk or what is on it failed. The node stops (rule D17)."""


class StateDiverged(StorageError):
    """What this node holds differs from what the majority holds at the same entry."""


class PeerError(HstoreError):
    """A peer sent what the protocol does not allow, or is not one of this cluster."""


class BadFrame(PeerError):
    """A member sent a frame that no node may use; nothing of it was used."""


class BadNumber(BadFrame):
    """It holds a term, an index or another number that no cluster can have reached."""
