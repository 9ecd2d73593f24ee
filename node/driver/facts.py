"""What the other rooms of a node may know of its core and its replicated state, and may not change.

Rooms above the driver ask here, and hold neither a `Core` nor a `State`: what those are made of can
change without them. Every answer is as of now, and may be another after the next turn.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from ..model.commands import ClusterSettings, Member
from ..raft.core import Core
from ..raft.entry import Entry
from ..raft.membership import Configuration
from ..raft.progress import ProgressState
from ..raft.roles import Role
from ..state.catalog.index import CatalogIndex
from ..state.machine import State


class Facts:
    """The facts of one node. Properties are looked up, never computed at length."""

    __slots__ = ("_core", "_lost_log", "_state")

    def __init__(self, core: Core, state: State, lost_log: str = "") -> None:
        self._core = core
        self._state = state
        self._lost_log = lost_log

    # -- who leads --------------------------------------------------------------------------

    @property
    def id(self) -> int:
        """The id of this node."""
        return self._core.id

    @property
    def term(self) -> int:
        """The term this node is in."""
        return self._core.term

    @property
    def leader(self) -> int:
        """The id of the leader of `term` as far as this node knows it; 0: none is known."""
        return self._core.leader

    @property
    def is_leader(self) -> bool:
        """Whether this node leads."""
        return self._core.role is Role.LEADER

    @property
    def is_transferring(self) -> bool:
        """Whether this node leads, and is handing the leadership over."""
        return self._core.transfer is not None

    @property
    def pre_votes_refused(self) -> int:
        """How many nodes asked whether this one would vote for them, and were told that it would not."""
        return self._core.pre_votes_refused

    # -- the log ----------------------------------------------------------------------------

    @property
    def lost_log(self) -> str:
        """A text about the acknowledged log that this node lacks after a loss; empty: it lacks nothing."""
        return self._lost_log if self._core.is_recovering else ""

    @property
    def commit_index(self) -> int:
        """The index of the last entry that this node knows to be committed."""
        return self._core.log.commit

    @property
    def last_index(self) -> int:
        """The index of the last entry of this node's log, durable or not."""
        return self._core.log.last_index

    @property
    def compacted_index(self) -> int:
        """The index up to which the log in memory has been cut off; 0: it is whole."""
        return self._core.log.snapshot_index

    @property
    def applied_index(self) -> int:
        """The index of the last entry whose effect is in the state."""
        return self._state.applied

    @property
    def is_own_term_applied(self) -> bool:
        """Whether this leader has applied its first entry, and so all that it took over."""
        return self._state.applied >= self._core.noop_index

    # -- membership -------------------------------------------------------------------------

    @property
    def config(self) -> Configuration:
        """The configuration in force: the newest in the log, committed or not (rule D9)."""
        return self._core.config

    @property
    def is_config_committed(self) -> bool:
        """Whether `config` is committed."""
        return self._core.log.commit >= self._core.history.index

    def whole_log(self) -> Sequence[Entry] | None:
        """Return all entries there ever were; None: the first ones are compacted away."""
        log = self._core.log
        return None if log.snapshot_index else log.entries

    def config_at(self, index: int) -> Configuration:
        """Return the configuration in force at an index that is not compacted."""
        return self._core.history.at(index)

    @property
    def peers(self) -> list[int]:
        """The other members of `config`, in the order of `all_members`."""
        own = self._core.id
        return [member for member in self._core.config.all_members() if member != own]

    @property
    def followers(self) -> Collection[int]:
        """At the leader, the members it replicates to, in the order of ids; elsewhere none."""
        return self._core.progress.keys()

    def match_of(self, follower: int) -> int | None:
        """At the leader, the index up to which a follower surely has the log; None: it is none."""
        progress = self._core.progress.get(follower)
        return None if progress is None else progress.match

    def lag_of(self, follower: int) -> int | None:
        """At the leader, how many entries a follower lacks; None: it has not said since this one leads."""
        progress = self._core.progress.get(follower)
        if progress is None or (not progress.match and progress.state is ProgressState.PROBE):
            return None
        return self.last_index - progress.match

    def has_own_term(self, voter: int) -> bool:
        """Whether `voter` durably has the first entry of this leader; this leader counts as having it."""
        match = self.match_of(voter)
        return voter == self._core.id or (match is not None and match >= self._core.noop_index)

    def learners_caught_up(self) -> list[int]:
        """At the leader, the learners that could become voters now; elsewhere none."""
        return self._core.learners_caught_up()

    # -- what is agreed ---------------------------------------------------------------------

    @property
    def members(self) -> Mapping[int, Member]:
        """All members by id, as the log wants them. Replaced whole by every change."""
        return self._state.members

    def name_of(self, member: int) -> str:
        """Return the name of a member, from any thread; empty: it is none that this node knows."""
        known = self._state.members.get(member)
        return known.name if known is not None else ""

    @property
    def node_numbers(self) -> frozenset[int]:
        """The catalog numbers of all nodes, members or not. Replaced whole by every change."""
        return self._state.node_numbers

    @property
    def removed(self) -> frozenset[int]:
        """The ids of members that were removed for good."""
        return self._state.removed

    @property
    def cluster_id(self) -> str:
        """The id of the cluster; empty until its creation is applied here."""
        return self._state.cluster.cluster_id

    @property
    def settings(self) -> ClusterSettings:
        """The settings of the cluster; defaults until its creation is applied here."""
        return self._state.cluster.settings

    @property
    def time_ms(self) -> int:
        """The cluster's time that the log has seen here, in milliseconds; see `ClusterClock.ms`."""
        return self._state.time_ms

    @property
    def expect(self) -> int:
        """How many voters the cluster waits for before it serves clients; 0: it does not wait."""
        return self._state.cluster.expect

    @property
    def catalog(self) -> CatalogIndex:
        """What is in memory of the catalog. Changed in place: only to be read."""
        return self._state.catalog

    @property
    def session_count(self) -> int:
        """How many sessions there are."""
        return self._state.session_count

    @property
    def lock_count(self) -> int:
        """How many keys are held by sessions."""
        return self._state.lock_count

    @property
    def key_count(self) -> int | None:
        """How many keys users have; None: they are being counted, after a start or a large deletion."""
        return self._state.key_count.number

    def keys_held(self, session_id: bytes) -> int:
        """How many keys a session holds."""
        return self._state.keys_held(session_id)

    def setting_changed_at(self, field: str) -> int:
        """Return the index of the entry that last changed a setting; 0: it never was changed."""
        return self._state.cluster.changed.get(field, 0)
