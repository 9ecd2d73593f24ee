"""What must hold after every event. Only the node that was touched is looked at.

The checker believes no core: logs are compared by the chain hashes of what was written, durability
is what the disk says, and what is committed is remembered here from the first time that anybody
calls it so. The numbers are those of the plan: I1 election safety, I2 nothing goes back, I3 log
matching, I4 state machine safety, I5 commit on a durable quorum, I6 leader completeness, I7 no
acknowledged proposal is lost, I8 answers only of what is durable, I9 configurations, I10 progress,
I11 snapshots, I12 reads, I13 equal states; S1 who has no room stands late; W3 nobody
sleeps through the end of a flush that something follows from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from hstore.node.raft.core import Core
from hstore.node.raft.entry import Entry, EntryKind, SnapshotMeta
from hstore.node.raft.events import DiskShort, Event
from hstore.node.raft.membership import Configuration
from hstore.node.raft.messages import (
    Append,
    AppendResponse,
    Heartbeat,
    InstallSnapshot,
    Message,
    PreVoteRequest,
    PreVoteResponse,
    VoteRequest,
    VoteResponse,
)
from hstore.node.raft.roles import Role
from hstore.node.raft.update import Persist, Update

from . import bounds, configurations, rare
from .disk import Image, Received, SimDisk
from .machine import EMPTY, content_of, link, register_of, rid_of

if TYPE_CHECKING:
    from .node import SimNode
    from .simulation import Simulation


_STANDING = (Role.PRE_CANDIDATE, Role.CANDIDATE)


class Violation(Exception):
    """An invariant does not hold."""


class Life:
    """What is remembered of one node between its start and its crash."""

    __slots__ = (
        "applied",
        "commit",
        "config",
        "is_leader",
        "matches",
        "persisted",
        "shown",
        "term",
        "vote",
    )

    def __init__(self) -> None:
        self.term = 0
        self.vote = 0
        self.commit = 0
        self.applied = 0
        self.persisted = 0
        self.shown = 0
        self.is_leader = False
        self.config = Configuration()
        self.matches: dict[int, int] = {}


class Checker:
    """The watcher of one run.

    Attributes:
        committed: The highest index that anybody has called committed.
        chains: The chain hash of the committed log, by index.
        states: The state machine, by index.
        configs: (index, configuration) of the committed log.
        leaders: Leader by term.
        ever_members: Whoever was in some configuration in some log.
    """

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim
        self.committed = 0
        self.chains = [0]
        self.states = [EMPTY]
        self._undone: set[int] = set()
        self.configs: list[tuple[int, Configuration]] = []
        self.leaders: dict[int, int] = {}
        self.ever_members: set[int] = set()
        self._entries: dict[tuple[int, int], int] = {}
        self._committed_in: dict[int, int] = {}
        self._votes: dict[tuple[int, int], int] = {}
        self._rids: set[int] = set()
        self._refused: set[int] = set()

    # -- lives ------------------------------------------------------------------------------

    def new_life(self) -> Life:
        """Return the memory of a node that is about to start."""
        return Life()

    def started(self, node: SimNode) -> None:
        """A node has come up with what was durable."""
        core, seen, image = node.core, node.seen, node.disk.image
        assert core is not None
        seen.term, seen.vote = core.term, core.vote
        seen.persisted = core.log.last_index
        seen.applied = core.log.applied
        seen.shown = node.content.applied
        if (core.term, core.vote) < (image.hard.term, image.hard.vote):
            self._fail("I2", node, f"starts in {core.term}/{core.vote}, but wrote {image.hard}")
        self._advance_commit(node, core)
        if self.states[node.content.applied] != node.content.bare():
            self._fail("I13", node, f"starts with a state that never was at {seen.shown}")
        seen.commit = core.log.commit
        seen.config = image.config
        self.ever_members.update(image.config.all_members())

    # -- each step --------------------------------------------------------------------------

    def writing(self, node: SimNode, persist: Persist) -> None:
        """A core wants something written; called before it is (I3, and the rules of changes)."""
        image = node.disk.image
        if persist.snapshot is not None or not persist.entries:
            return
        base, cut = persist.entries[0].index - 1, persist.truncate_from
        chain = image.chain_at(base)
        if chain is None or base != (image.last_index if cut is None else cut - 1):
            self._fail("I3", node, f"writes {base + 1} after {image.last_index}, cut at {cut}")
        for entry in persist.entries:
            chain = link(chain, entry)
            known = self._entries.setdefault((entry.index, entry.term), chain)
            if known != chain:
                self._fail("I3", node, f"({entry.index}, {entry.term}) has two histories")

    def stands(
        self, node: SimNode, core: Core, was: tuple[Role, bool], events: Sequence[Event]
    ) -> None:
        """S1: who has no room on its disk asks for votes only after four timeouts without a leader."""
        if not (was[1] and core.is_short) or core.role not in _STANDING or was[0] in _STANDING:
            return
        self.sim.counts["nodes without room stand"] += 1
        least = 4 * self.sim.options.core.election_ticks
        is_alone = core.config.all_voters() == (node.id,)
        is_told = any(type(event) is DiskShort for event in events)
        if core.leaderless < least and not is_alone and not is_told:
            self._fail("S1", node, f"stands without room after {core.leaderless} ticks")

    def stepped(self, node: SimNode, core: Core) -> None:
        """A core has taken a step, and what it wants written is written, but not yet flushed."""
        log, seen, image = core.log, node.seen, node.disk.image
        if (
            log.last_index != image.last_index
            or log.last_term != image.last_term
            or log.snapshot_index != image.base.index
        ):
            self._fail("I9", node, f"log ends at {log.last_index}, written is {image.last_index}")
        if core.term != seen.term or core.vote != seen.vote:
            self._check_term(node, core)
        if log.commit != seen.commit:
            self._advance_commit(node, core)
            seen.commit = log.commit
        if log.applied < seen.applied or log.applied > log.commit:
            self._fail("I2", node, f"applied {log.applied}, was {seen.applied}")
        seen.applied = log.applied
        config = core.config
        if config != image.configs[-1][1]:
            self._fail("I9", node, f"{config} is in force, the log says {image.config}")
        if config != seen.config:
            self._check_config(node, core)
            seen.config = config
        if log.persisted != seen.persisted:
            self._check_persisted(node, log.persisted)
            seen.persisted = log.persisted
        if core.role is Role.LEADER:
            self._check_leader(node, core)
        elif seen.is_leader:
            rare.deposed(self.sim.counts, node, core)
        seen.is_leader = core.role is Role.LEADER

    def not_told(self, node: SimNode, core: Core) -> None:
        """A flush has ended, and the core hears of it with its next event only (W3)."""
        if core.role is not Role.FOLLOWER:
            self.fail("W3", node, f"is {core.role.value}, and is not told of the end of a flush")
        due = min(core.log.commit, node.disk.durable.last_index)
        if core.log.handed_out < due:
            self.fail("W3", node, f"has {due} durable and committed, and does not apply it")

    def ticked(self, node: SimNode, core: Core) -> None:
        """A tick has passed: who cannot write does not lead (R3), and nothing grows (I14)."""
        options = self.sim.options.core
        since = node.flushing_since()
        if since is not None and core.ticks - since > 2 * options.election_ticks:
            self.sim.counts["disks stuck for two election timeouts"] += 1
            if core.role is Role.LEADER:
                self._fail("R3", node, f"leads, and its flush hangs since {since}")
        bounds.check(self, node, core)

    def _check_term(self, node: SimNode, core: Core) -> None:
        seen, hard = node.seen, node.disk.image.hard
        if core.term < seen.term:
            self._fail("I2", node, f"term fell from {seen.term} to {core.term}")
        if core.term == seen.term and seen.vote:
            self._fail("I2", node, f"vote of {core.term} turned from {seen.vote} to {core.vote}")
        if (hard.term, hard.vote) != (core.term, core.vote):
            self._fail("I8", node, f"{core.term}/{core.vote} is not written: {hard}")
        seen.term, seen.vote = core.term, core.vote

    def _advance_commit(self, node: SimNode, core: Core) -> None:
        commit, seen, image = core.log.commit, node.seen, node.disk.image
        if commit < seen.commit:
            self._fail("I2", node, f"commit fell from {seen.commit} to {commit}")
        if commit > image.last_index:
            self._fail("I4", node, f"commit {commit} is beyond the log")
        both = min(commit, self.committed)
        if both >= image.base.index and image.chain_at(both) != self.chains[both]:
            self._fail("I4", node, f"another history is committed at {both}")
        if commit > self.committed:
            self._commit_first(node, core)

    def _commit_first(self, node: SimNode, core: Core) -> None:
        """Take note of what nobody has called committed before (I5)."""
        image, commit = node.disk.image, core.log.commit
        if core.role is Role.LEADER and core.log.term_at(commit) != core.term:
            self._fail("I5", node, f"commits {commit}, of an older term, by counting (Figure 8)")
        configs = {image.config: None, node.seen.config: None}
        if not any(self._is_durable_on_quorum(c, image, commit) for c in configs if c.voters):
            self._fail("I5", node, f"{commit} is committed, but not on a durable quorum")
        first = self.committed + 1 - image.base.index - 1
        for entry in image.entries[first : commit - image.base.index]:
            state, is_done = self.states[-1].after(entry)
            self.states.append(state)
            self.chains.append(state.digest)
            if not is_done:
                self._undone.add(entry.index)
            if entry.kind == EntryKind.CONFIG:
                config = image.config_at(entry.index)
                before = self.configs[-1][1] if self.configs else config
                self.configs.append((entry.index, config))
                configurations.count(self.sim.counts, before, config)
                self.sim.config_committed(before, config)
            elif entry.kind == EntryKind.COMMAND:
                self._commit_command(node, entry)
        self.committed = commit
        self.sim.clients.committed(node)
        term = image.last_term if commit == image.last_index else core.log.term_at(commit) or 0
        self._committed_in[term] = commit

    def _commit_command(self, node: SimNode, entry: Entry) -> None:
        rid = rid_of(entry)
        if rid in self._rids:
            self._fail("I7", node, f"proposal {rid} is committed twice")
        if rid in self._refused:
            self._fail("I7", node, f"proposal {rid} was refused, and is committed")
        self._rids.add(rid)

    def _is_durable_on_quorum(self, config: Configuration, image: Image, index: int) -> bool:
        chain = image.chain_at(index)
        for voters in filter(None, (config.voters, config.outgoing)):
            have = sum(
                voter in self.sim.nodes and _counts(self.sim.nodes[voter].disk, index, chain)
                for voter in voters
            )
            if have <= len(voters) // 2:
                return False
        return True

    def _check_config(self, node: SimNode, core: Core) -> None:
        """I9: what is in force is the fold of what is written; changes come one at a time."""
        image = node.disk.image
        self.ever_members.update(image.config.all_members())
        self.sim.config_appended(image.config)
        after = image.configs[-1]
        if wrong := configurations.fault_of(after[1]):
            self._fail("I9", node, f"{after} {wrong}")
        if core.role is not Role.LEADER or core.log.term_at(after[0]) != core.term:
            return
        if len(image.configs) < 2:
            return
        before = image.configs[-2]
        if before[0] > core.log.commit:
            self._fail("I9", node, f"two changes are under way: {before} and {after}")
        if wrong := configurations.fault_between(before[1], after[1]):
            self._fail("I9", node, f"{after} {wrong}, {before}")
        if core.log.term_at(core.log.commit) != core.term:
            self._fail("I9", node, f"{after} is proposed before anything of the term is committed")
        if before[1].outgoing and core.log.term_at(before[0]) != core.term:
            self.sim.counts["joint configurations left by another leader"] += 1

    def _check_persisted(self, node: SimNode, persisted: int) -> None:
        """What a core takes for durable here, is (the ABA of a rewritten entry)."""
        image, durable = node.disk.image, node.disk.durable
        if persisted < max(durable.base.index, image.base.index):
            return
        if durable.chain_at(persisted) != image.chain_at(persisted):
            self._fail("I8", node, f"takes {persisted} for durable, which it is not")

    # -- leaders ----------------------------------------------------------------------------

    def _check_leader(self, node: SimNode, core: Core) -> None:
        known = self.leaders.get(core.term)
        if known is None:
            self._new_leader(node, core)
        elif known != node.id:
            self._fail("I1", node, f"{known} leads term {core.term} already")
        if not core.config.is_voter(node.id) and core.log.commit >= core.history.index:
            self._fail("I9", node, f"leads on, and is out since {core.history.index}")
        last, seen = core.log.last_index, node.seen.matches
        for peer, progress in core.progress.items():
            match = progress.match
            if not match < progress.next <= last + 1:
                self._fail("I10", node, f"{peer}: match {match}, next {progress.next}, last {last}")
            if match != seen.get(peer, 0):
                if match < seen.get(peer, 0) and core.config == node.seen.config:
                    self._fail("I10", node, f"match of {peer} fell to {match}")
                seen[peer] = match
                self._check_match(node, core.term, peer, match)
        if core.uncommitted_bytes < 0:
            self._fail("I10", node, f"{core.uncommitted_bytes} uncommitted bytes")
        most = self.sim.options.core.max_pending_reads
        if len(core.pending_reads) + len(core.waiting_reads) > most:
            self._fail("I10", node, f"more than {most} reads are pending")

    def _new_leader(self, node: SimNode, core: Core) -> None:
        self.leaders[core.term] = node.id
        rare.elected(self.sim.counts, core)
        self.sim.operator.elected(node)
        self.sim.clients.elected(node)
        node.seen.matches = {}
        durable = node.disk.durable.hard
        if (durable.term, durable.vote) != (core.term, node.id):
            self._fail("I8", node, f"leads {core.term} before its own vote is durable")
        self._vote(node, core.term, node.id)
        given = [v for v in core.config.all_voters() if self._votes.get((core.term, v)) == node.id]
        if not configurations.has_majority(core.config, given):
            self._fail("I1", node, f"leads {core.term} by the votes of {given}: {core.config}")
        image = node.disk.image
        if not any(config.is_voter(node.id) for _, config in image.configs[-2:]):
            self._fail("I9", node, f"leads {core.term} and is no voter: {core.config}")
        index = max((i for t, i in self._committed_in.items() if t < core.term), default=0)
        if index >= image.base.index and image.chain_at(index) != self.chains[index]:
            self._fail("I6", node, f"leads {core.term} without what is committed at {index}")

    def _check_match(self, node: SimNode, term: int, peer: int, match: int) -> None:
        other = self.sim.nodes.get(peer)
        if other is None or not match or match in other.disk.owed:
            return
        durable, image = other.disk.durable, node.disk.image
        if durable.hard.term > term:
            # It has gone on to another leader, who may have cut off what it had.
            return
        if durable.hard.term < term or match > durable.last_index:
            self._fail("I10", node, f"{peer} is said to match {match}, has {durable.last_index}")
        is_known = match >= max(image.base.index, durable.base.index)
        if is_known and image.chain_at(match) != durable.chain_at(match):
            self._fail("I10", node, f"the log of {peer} does not match at {match}")

    # -- messages ---------------------------------------------------------------------------

    def promised(self, node: SimNode, message: Message) -> None:
        """A message waits for the write that has just been made (I8)."""
        if self._vouches_for(node, message) > node.disk.position:
            self._fail("I8", node, f"waits for too little: {message}")

    def leaving(self, node: SimNode, message: Message) -> None:
        """A message leaves without waiting for anything (I8)."""
        if self._vouches_for(node, message) > node.disk.synced:
            self._fail("I8", node, f"vouches for what is not durable: {message}")
        self.answered(node, message)

    def answered(self, node: SimNode, message: Message) -> None:
        """A message leaves; votes are remembered for ever (I2)."""
        if node.core is not None and node.core.is_recovering and _is_ballot(message):
            self._fail("R11", node, f"has lost log, and takes part in an election: {message}")
        if message.frm != node.id:
            self._fail("I8", node, f"speaks for another: {message}")
        if type(message) is VoteResponse and message.granted:
            self._vote(node, message.term, message.to)

    def _vote(self, node: SimNode, term: int, candidate: int) -> None:
        known = self._votes.setdefault((term, node.id), candidate)
        if known != candidate:
            self._fail("I2", node, f"votes for {candidate} in {term}, and did for {known}")

    def _vouches_for(self, node: SimNode, message: Message) -> int:
        """Return the number of the write that must be durable before a message leaves."""
        kind, image = type(message), node.disk.image
        if kind not in _VOUCHING or (type(message) is PreVoteResponse and message.granted):
            return 0
        if image.hard.term < message.term:
            self._fail("I8", node, f"speaks in a term that it has not written: {message}")
        if image.hard.term > message.term:
            # What waits is good once the later term is durable: nothing can come of it then that
            # an answer given in time could not have brought. A leader's vote was durable before.
            return 0 if kind in _OF_LEADERS else image.hard_written_at
        if type(message) is VoteResponse and message.granted and image.hard.vote != message.to:
            self._fail("I8", node, f"grants a vote that it has not written: {message}")
        is_standing = node.core is not None and node.core.role is Role.CANDIDATE
        if type(message) is VoteRequest and is_standing:
            # The log it speaks of, too: votes won by it must not elect a shorter one.
            return max(image.hard_written_at, image.written_before(message.last_index))
        if type(message) is AppendResponse and not message.rejected:
            if message.index > image.last_index:
                self._fail("I8", node, f"acknowledges what it does not have: {message}")
            self._check_agreement(node, message)
            return max(image.hard_written_at, image.written_before(message.index))
        return image.hard_written_at

    def _check_agreement(self, node: SimNode, message: AppendResponse) -> None:
        leader = self.sim.nodes[message.to]
        if leader.core is None or leader.core.term != message.term:
            return
        if leader.core.role is not Role.LEADER:
            # It was, and has forgotten what was not durable; nobody can lead this term again.
            return
        theirs, ours = leader.disk.image, node.disk.image
        index = message.index
        is_known = index >= max(theirs.base.index, ours.base.index)
        if is_known and theirs.chain_at(index) != ours.chain_at(index):
            self._fail("I8", node, f"acknowledges what the leader does not have: {message}")

    def recovered(self, node: SimNode) -> None:
        """A node says that it has again all that it had lost (R11)."""
        durable = node.disk.durable
        for index, chain in node.disk.owed.items():
            if index > self.committed or self.chains[index] != chain:
                continue
            if index > durable.base.index and durable.chain_at(index) != chain:
                self._fail("R11", node, f"counts again without what is committed at {index}")

    # -- states and clients -----------------------------------------------------------------

    def handed_out(self, node: SimNode, entries: list[Entry]) -> None:
        """A core wants entries applied: they must be durable here (rule D7)."""
        index, durable = entries[-1].index, node.disk.durable
        if durable.chain_at(index) != node.disk.image.chain_at(index):
            self._fail("I8", node, f"wants {index} applied, which is not durable")

    def applying(self, node: SimNode, applied: int, entry: Entry) -> None:
        """A state machine takes one more entry: each once, and in order (rule D7, L4)."""
        if entry.index != applied + 1:
            self._fail("L4", node, f"applies {entry.index} after {applied}")

    def applied(self, node: SimNode) -> None:
        """A state machine has come to some index (I4, I13)."""
        content, seen = node.content.bare(), node.seen
        index = content.applied
        if index > self.committed or self.states[index] != content:
            self._fail("I13", node, f"has applied something else up to {index}")
        if index <= seen.shown:
            self._fail("L4", node, f"shows {index} to those who watch, after {seen.shown}")
        seen.shown = index

    def snapshot_taken(self, node: SimNode, meta: SnapshotMeta, chain: int) -> None:
        """A leader offers its state (I11)."""
        if meta.index > self.committed or self.chains[meta.index] != chain:
            self._fail("I11", node, f"offers a state that was never committed: {meta}")
        config = next(c for i, c in reversed(self.configs) if i <= meta.index)
        if config != meta.config:
            self._fail("I11", node, f"says {meta.config} at {meta.index}, it was {config}")

    def installing(self, node: SimNode, received: Received) -> None:
        """A snapshot is about to take the place of log and state (I11)."""
        staged = node.disk.image.staged
        if received is None:
            self._fail("I11", node, "installs a snapshot that never arrived")
        if isinstance(received, int) and content_of(staged.get(received, {})) is None:
            self._fail("I11", node, f"installs half a state: {staged.get(received)}")

    def installed(self, node: SimNode) -> None:
        """A snapshot has taken the place of log and state (I11)."""
        content, image = node.content.bare(), node.disk.image
        index = content.applied
        if index != image.base.index or index > self.committed or self.states[index] != content:
            self._fail("I11", node, f"installs a state that never was at {image.base}")
        if self.chains[index] != image.base_chain:
            self._fail("I11", node, f"installs another history up to {index}")

    def hung_up(self, node: SimNode, update: Update) -> None:
        """I14: nobody here breaks the protocol, so nothing may be refused as if somebody did."""
        for peer, why in update.refused:
            raise Violation(f"I14: node {node.id} refuses a message of node {peer}: {why}")

    def read_ready(self, node: SimNode, rid: int, index: int) -> None:
        """A read has got its index (I12)."""
        expected = node.reads[rid]
        if index < expected:
            self._fail("I12", node, f"read {rid} gets {index}, {expected} was committed before")
        if index > self.committed:
            self._fail("I12", node, f"read {rid} gets {index}, which is not committed")

    def read_served(self, node: SimNode, rid: int) -> int:
        """A client is told what a register holds; return it (L3).

        The order of commits is the witness of linearizability: every write stands in it behind all
        that had been answered when it was asked for, and so does every read, which sees just what
        stands before it.
        """
        state, expected = node.content, node.reads.pop(rid)
        register = register_of(rid)
        value = state.values[register]
        self.sim.counts["reads answered"] += 1
        if state.applied < expected:
            self._fail("L3", node, f"reads at {state.applied}, {expected} was committed before")
        if value != self.states[state.applied].values[register]:
            self._fail("L3", node, f"reads {value} at {state.applied}")
        return value

    def acknowledged(self, rid: int, entry: Entry, began: int, *, is_done: bool) -> None:
        """A client is told that its proposal is done (I7), or that what it expected was not so."""
        if rid_of(entry) != rid or rid not in self._rids:
            raise Violation(f"I7: {rid} is acknowledged by the entry at {entry.index}")
        if entry.index <= began:
            raise Violation(f"L3: {rid} takes effect at {entry.index}, asked for after {began}")
        if is_done == (entry.index in self._undone):
            raise Violation(f"L3: {rid} at {entry.index} is said to be done: {is_done}")

    def refused(self, rid: int) -> None:
        """A client is told that its proposal will never be done (I7)."""
        self._refused.add(rid)
        if rid in self._rids:
            raise Violation(f"I7: {rid} is refused, and was committed")

    def finished(self) -> None:
        """At the end: all that was acknowledged is in the log of the leader (I7)."""
        leader = self.sim.clients.leader()
        if leader is None:
            return
        image = leader.disk.image
        if image.chain_at(self.committed) != self.chains[self.committed]:
            self._fail("I7", leader, f"leads without what is committed at {self.committed}")
        for node in self.sim.nodes.values():
            if node.core is not None and node.core.log.entries != node.disk.image.entries:
                self._fail("I3", node, "holds in memory what it has not written")

    def fail(self, name: str, node: SimNode, text: str) -> NoReturn:
        """Report that an invariant is broken.

        Raises:
            Violation: Always.
        """
        self._fail(name, node, text)

    def _fail(self, name: str, node: SimNode, text: str) -> NoReturn:
        raise Violation(f"{name}: node {node.id} {text}")


def _is_ballot(message: Message) -> bool:
    kind = type(message)
    if type(message) is VoteResponse or type(message) is PreVoteResponse:
        return message.granted
    return kind is VoteRequest or kind is PreVoteRequest


def _counts(disk: SimDisk, index: int, chain: int | None) -> bool:
    """Whether a disk has an entry, or owes it: then its node cannot elect anybody without it."""
    return disk.durable.chain_at(index) == chain or disk.owed.get(index) == chain


_OF_LEADERS = frozenset((Append, Heartbeat, InstallSnapshot))
_VOUCHING = _OF_LEADERS | {AppendResponse, VoteResponse, PreVoteResponse, VoteRequest}
