"""Cores without a driver: one node with a disk of its own, and a cluster with a pool of messages.

Everything happens when a test says so. A node's disk answers at once, or holds every write back
until `flush`; committed entries are applied at once, or wait for `apply`. A cluster delivers,
drops and reorders the messages of its pool by predicate. Cores are brought into a state by their
constructor and by events only, never by setting an attribute.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Any, TypeVar

from hstore.node.raft import membership
from hstore.node.raft.core import Core
from hstore.node.raft.entry import Entry, EntryKind, HardState, SnapshotMeta
from hstore.node.raft.errors import Reason
from hstore.node.raft.events import (
    Applied,
    Event,
    Persisted,
    Propose,
    ProposeConfigChange,
    ReadIndex,
    Receive,
    Tick,
    TransferLeader,
)
from hstore.node.raft.membership import ConfigChange, Configuration, Transition
from hstore.node.raft.messages import (
    Append,
    AppendResponse,
    Message,
    PreVoteRequest,
    PreVoteResponse,
    VoteResponse,
)
from hstore.node.raft.options import Options
from hstore.node.raft.roles import Role
from hstore.node.raft.update import Persist, Update

PAPER = Options(pre_vote=False, check_quorum=False)
"""As the paper's sections 5 to 8 have it, before the additions of section 6 and the thesis."""

T = Options().election_ticks

M = TypeVar("M")


class Longest(Random):
    """Draws the longest election timeout, so that a test alone decides who times out first."""

    def randrange(self, *args: Any, **_kwargs: Any) -> int:
        return int(args[-1]) - 1


class Shortest(Random):
    """Draws the shortest election timeout: below what makes a held disk count as stuck."""

    def randrange(self, *_args: Any, **_kwargs: Any) -> int:
        return 0


def entries_of(terms: Iterable[int], first: int = 1) -> list[Entry]:
    """Return commands with these terms, the first one at index `first`."""
    return [
        Entry(index, term, EntryKind.COMMAND, b"%d.%d" % (term, index))
        for index, term in enumerate(terms, first)
    ]


def config_entry(index: int, term: int, config: Configuration) -> Entry:
    return Entry(index, term, EntryKind.CONFIG, membership.encode(config))


def terms_of(core: Core) -> list[int]:
    return [entry.term for entry in core.log.entries]


class Disk:
    """What survives: the writes that were flushed, in order."""

    def __init__(
        self, hard_state: HardState, snapshot: SnapshotMeta, entries: Sequence[Entry]
    ) -> None:
        self.hard_state = hard_state
        self.snapshot = snapshot
        self.entries = list(entries)

    def write(self, persist: Persist) -> None:
        if persist.hard_state is not None:
            self.hard_state = persist.hard_state
        if persist.snapshot is not None:
            self.snapshot, self.entries = persist.snapshot, []
        if persist.truncate_from is not None:
            keep = persist.truncate_from - self.snapshot.index - 1
            assert 0 <= keep <= len(self.entries)
            del self.entries[keep:]
        for entry in persist.entries:
            assert entry.index == self.last_index + 1
            self.entries.append(entry)
        assert self.hard_state.commit <= self.last_index  # rule D6

    @property
    def last_index(self) -> int:
        return self.snapshot.index + len(self.entries)


class Node:
    """One core, its disk, and what came out of it.

    Attributes:
        sent: Messages that have left the node, oldest first; `take` empties it.
        writes: Persists that are not durable yet, oldest first.
        batch: Entries handed out to be applied, and not yet applied.
        applied: Entries applied, in order.
        reads: By rid: the index, or why not.
        answers: By rid: the index of the proposal, or why not.
    """

    def __init__(self, core: Core, disk: Disk, *, is_disk_held: bool, is_apply_held: bool) -> None:
        self.core = core
        self.disk = disk
        self.is_disk_held = is_disk_held
        self.is_apply_held = is_apply_held
        self.sent: list[Message] = []
        self.writes: deque[Persist] = deque()
        self.batch: list[Entry] = []
        self.applied: list[Entry] = []
        self.reads: dict[int, int | Reason] = {}
        self.answers: dict[int, int | Reason] = {}
        self.transferred: list[int] = []
        self.wanted: list[int] = []
        self.early: list[tuple[int, int]] = []

    # -- events -----------------------------------------------------------------------------

    def step(self, *events: Event) -> Update:
        """Feed events as one group; return the update that they gave at once."""
        update = self.core.step_all(events)
        self._carry_out(update)
        if not self.is_disk_held:
            self.flush()
        if not self.is_apply_held:
            self.apply()
        return update

    def receive(self, *messages: Message) -> Update:
        return self.step(*map(Receive, messages))

    def tick(self, count: int = 1) -> None:
        for _ in range(count):
            self.step(Tick())

    def propose(self, *payloads: bytes, rid: int = 100) -> Update:
        return self.step(Propose(list(enumerate(payloads, rid))))

    def change(
        self, *changes: ConfigChange, rid: int = 500, transition: Transition = Transition.AUTO
    ) -> Update:
        return self.step(ProposeConfigChange(rid, changes, transition))

    def transfer(self, to: int, rid: int = 700) -> Update:
        return self.step(TransferLeader(rid, to))

    def read(self, rid: int) -> Update:
        return self.step(ReadIndex(rid))

    def flush(self, count: int | None = None) -> None:
        """Make the oldest `count` writes durable, or all, and say so."""
        for _ in range(1000):
            if not self.writes or count == 0:
                return
            persist = self.writes.popleft()
            self.disk.write(persist)
            self.sent += persist.then
            self._carry_out(self.core.step(Persisted(persist.seq)))
            if not self.is_apply_held:
                self.apply()
            count = None if count is None else count - 1
        raise AssertionError("writes without end")

    def apply(self) -> None:
        """Apply what was handed out, until nothing more is."""
        for _ in range(1000):
            if not self.batch:
                return
            batch, self.batch = self.batch, []
            self.applied += batch
            self._carry_out(self.core.step(Applied(batch[-1].index)))
        raise AssertionError("batches without end")

    def _carry_out(self, update: Update) -> None:
        if update.persist is not None:
            self.writes.append(update.persist)
        self.sent += update.messages
        if update.apply:
            assert not self.batch, "a batch is out already (rule D7)"
            self.batch = update.apply
        self.answers.update({rid: index for rid, _, index in update.appended})
        self.answers.update((rid, reason) for rid, reason, _ in update.rejected)
        reads: list[tuple[int, int | Reason]] = [*update.reads_ready, *update.reads_failed]
        for rid, read in reads:
            assert rid not in self.reads, "a read is answered once"
            self.reads[rid] = read
        self.transferred += update.transferred
        self.wanted += update.snapshots_wanted
        if update.early_election is not None:
            self.early.append(update.early_election)

    # -- what came out ----------------------------------------------------------------------

    def take(self, kind: type[M], to: int | None = None) -> list[M]:
        """Remove everything sent; return what is of this kind, and for this node."""
        sent, self.sent = self.sent, []
        return [m for m in sent if isinstance(m, kind) and (to is None or m.to == to)]

    def ask(self, message: Message, kind: type[M]) -> M:
        """Deliver one message and return its one answer of this kind."""
        self.sent.clear()
        self.receive(message)
        (answer,) = self.take(kind, message.frm)
        return answer

    def restart(self, *, options: Options | None = None) -> Node:
        """Return the node that comes back after a crash: what was not flushed is lost."""
        return make_node(
            self.core.id,
            hard_state=self.disk.hard_state,
            snapshot=self.disk.snapshot,
            entries=self.disk.entries,
            applied=min(self.core.log.applied, self.disk.last_index),
            options=options or self.core.options,
            is_disk_held=self.is_disk_held,
            is_apply_held=self.is_apply_held,
        )


def make_node(
    node_id: int = 1,
    *,
    voters: Sequence[int] = (1, 2, 3),
    learners: Sequence[int] = (),
    hard_state: HardState | None = None,
    snapshot: SnapshotMeta | None = None,
    entries: Sequence[Entry] = (),
    applied: int = 0,
    recover_to: int = 0,
    options: Options | None = None,
    rng: Random | None = None,
    is_disk_held: bool = False,
    is_apply_held: bool = False,
) -> Node:
    """Return a node as it starts with all this on its disk."""
    snapshot = snapshot or SnapshotMeta(0, 0, Configuration(tuple(voters), tuple(learners)))
    hard_state = hard_state or HardState(entries[-1].term if entries else 0)
    core = Core(
        node_id,
        options or Options(),
        rng or Longest(),
        hard_state=hard_state,
        snapshot=snapshot,
        entries=entries,
        applied=applied,
        recover_to=recover_to,
    )
    disk = Disk(hard_state, snapshot, entries)
    return Node(core, disk, is_disk_held=is_disk_held, is_apply_held=is_apply_held)


def make_follower(
    terms: Sequence[int] = (), *, term: int | None = None, commit: int = 0, **kwargs: Any
) -> Node:
    """Return node 1 with a log of these terms, in `term`, or else in that of its last entry."""
    log_term = terms[-1] if terms else 0
    hard_state = HardState(log_term if term is None else term, 0, commit)
    return make_node(entries=entries_of(terms), hard_state=hard_state, **kwargs)


def make_candidate(terms: Sequence[int] = (), *, term: int, **kwargs: Any) -> Node:
    """Return node 1 as a candidate in `term`, its own vote durable unless its disk is held.

    Alone, it has won by then.
    """
    node = make_follower(terms, term=term - 1, **kwargs)
    for _ in range(2 * T):
        node.tick()
        if node.core.role is not Role.FOLLOWER:
            break
    for peer in node.core.config.all_voters():
        if peer != 1 and node.core.role is Role.PRE_CANDIDATE:
            node.receive(PreVoteResponse(peer, 1, term, granted=True))
    node.sent = [m for m in node.sent if not isinstance(m, PreVoteRequest)]
    assert node.core.role in (Role.CANDIDATE, Role.LEADER)
    assert node.core.term == term
    return node


def make_leader(terms: Sequence[int] = (), *, term: int, **kwargs: Any) -> Node:
    """Return node 1 as the leader of `term`, its no-op appended, and nothing acknowledged.

    Its first appends are in `sent`; with a held disk its no-op is not durable yet.
    """
    node = make_candidate(terms, term=term, **kwargs)
    node.flush(1)
    node.sent.clear()
    for peer in node.core.config.all_voters():
        if peer != 1 and node.core.role is Role.CANDIDATE:
            node.receive(VoteResponse(peer, 1, term, granted=True))
    assert node.core.role is Role.LEADER
    return node


def acknowledge(node: Node, *peers: int, index: int | None = None) -> None:
    """Let peers confirm the leader's log, durably, up to `index` or to its end."""
    last = node.core.log.last_index if index is None else index
    for peer in peers:
        node.receive(AppendResponse(peer, node.core.id, node.core.term, last))


def append_from(
    leader: int,
    term: int,
    *,
    prev: tuple[int, int] = (0, 0),
    terms: Sequence[int] = (),
    commit: int = 0,
    to: int = 1,
) -> Append:
    """Return an append of commands with these terms behind `prev`, (index, term)."""
    return Append(leader, to, term, *prev, entries_of(terms, prev[0] + 1), commit)


Predicate = Callable[[Message], bool]


def anything(_message: Message) -> bool:
    return True


class Cluster:
    """Nodes and the messages between them, oldest first.

    Attributes:
        nodes: By id.
        pool: Messages sent and not delivered.
        cut: Links (from, to) that lose everything.
    """

    def __init__(self, nodes: Iterable[Node]) -> None:
        self.nodes = {node.core.id: node for node in nodes}
        self.pool: list[Message] = []
        self.cut: set[tuple[int, int]] = set()

    def __getitem__(self, node_id: int) -> Node:
        return self.nodes[node_id]

    def core(self, node_id: int) -> Core:
        return self.nodes[node_id].core

    def collect(self) -> None:
        """Move what the nodes have sent into the pool."""
        for node in self.nodes.values():
            self.pool += node.sent
            node.sent = []

    def deliver(self, select: Predicate = anything) -> int:
        """Deliver the messages that are in the pool now and selected; return how many."""
        self.collect()
        chosen = [m for m in self.pool if select(m)]
        self.pool = [m for m in self.pool if not select(m)]
        for message in chosen:
            if (message.frm, message.to) not in self.cut and message.to in self.nodes:
                self.nodes[message.to].receive(message)
        return len(chosen)

    def drop(self, select: Predicate = anything) -> None:
        self.collect()
        self.pool = [m for m in self.pool if not select(m)]

    def settle(self, select: Predicate = anything) -> None:
        """Deliver until nothing selected is left."""
        for _ in range(1000):
            if not self.deliver(select):
                return
        raise AssertionError("messages without end")

    def isolate(self, *group: int) -> None:
        """Cut a group off from everybody else."""
        for a in group:
            for b in self.nodes:
                if b not in group:
                    self.cut |= {(a, b), (b, a)}

    def heal(self) -> None:
        self.cut.clear()

    def tick(self, count: int = 1) -> None:
        """Let the time pass for all, delivering what is sent after each tick."""
        for _ in range(count):
            for node in self.nodes.values():
                node.tick()
            self.settle()

    def elect(self, node_id: int) -> None:
        """Make this node the leader: the others stop believing in theirs, and it asks first."""
        for other, node in self.nodes.items():
            if other != node_id and node.core.role is not Role.LEADER:
                node.tick(T)
        node = self.nodes[node_id]
        for _ in range(2 * T):
            node.tick()
            if node.core.role is not Role.FOLLOWER:
                break
        self.settle()
        assert node.core.role is Role.LEADER

    def replace(self, node: Node) -> None:
        self.nodes[node.core.id] = node


def make_cluster(size: int = 3, **kwargs: Any) -> Cluster:
    """Return nodes 1 to `size`, all voters, without a leader."""
    voters = tuple(range(1, size + 1))
    return Cluster(make_node(node, voters=voters, **kwargs) for node in voters)
