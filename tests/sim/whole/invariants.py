"""What must hold of whole nodes: looked at after each turn of a driver, and where things leave it.

The numbers are those of `tests/sim/invariants.py`; some are rules of the driver itself:

- I1 election safety, I2 terms, votes, commit and applied index do not go back, I3 log matching,
  I4 state machine safety, I5 what is committed is durable on a majority, I6 a leader has all that is
  committed: after each turn. They are read off what is written, not off what a core says of it.
- D1 (I8): an answer leaves only when what it vouches for is durable on the disk below.
- D3, D6, D19: what a node starts with is what was written, and its commit index is within it.
- D5, D7: entries are applied once, in order, and only when they are durable here.
- I11, I13: equal applied indexes mean equal states, also after a snapshot.
- I9: who was removed or replaced is no member, and never will be.
- D17 (I14): a node ends by itself only when its disk was told to fail, and never by another error.
- P1: all connections of a node to one peer are to one process of it; see `impostors.py`.
- C1: a node names a leader only while its proof is younger than the lease, and so never one that was
  replaced longer ago than that.
- I7 and D15, D16: what clients see is judged in `clients.py`.
- K1, K2: what is in the tables of clients, and how the indexes of answers move, by `../tables/judge.py`;
  E1, E2, E3, E5: how long sessions live, and lock delays last, by `lifetimes.py`; E4: `healths.py`; W1, W2, W4: who waits for a change, by `waiters.py`;
  W3: nothing waits for a wake-up that is missing, by `promptness.py`.
- V1 to V14, about services: `catalogs.py`, `registrars.py`, `targets.py`, `watchers.py`, `resolvers.py`, `calm.py`,
  `onces.py`, `listers.py`, `retriers.py`, `strangers.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from hstore.node.model import commands
from hstore.node.model.commands import (
    Command,
    Delete,
    DeletePrefix,
    Denial,
    Keyed,
    Outcome,
    Put,
    Transaction,
)
from hstore.node.model.locks import Acquire, CreateSession, Release
from hstore.node.model.user_events import FireEvent
from hstore.node.peers import wire
from hstore.node.raft.entry import Entry, EntryKind, SnapshotMeta
from hstore.node.raft.messages import AppendResponse, PreVoteResponse, VoteRequest, VoteResponse
from hstore.node.raft.roles import Role
from hstore.node.storage.interface import APPLIED_KEY, unpack_applied

from ..tables.judge import Judge
from .disk import digest
from .lifetimes import Lifetimes
from .waiters import AppliedAt

if TYPE_CHECKING:
    from .member import SimMember
    from .simulation import WholeSimulation


def _names(command: Command) -> list[bytes]:
    """Return what a command brings that no other command has: values, and ids."""
    if isinstance(command, FireEvent):
        return [command.event.id]
    if isinstance(command, CreateSession):
        return [command.session.id]
    parts = command.operations if isinstance(command, Transaction) else (command,)
    return [part.value for part in parts if isinstance(part, (Put, Acquire, Release))]


class Life:
    """What is remembered of a node."""

    __slots__ = (
        "applied", "commit", "durable_term", "durable_vote", "lead_term", "term", "time_ms", "vote",
    )  # fmt: skip

    def __init__(self) -> None:
        self.term = self.vote = self.commit = self.applied = self.lead_term = self.time_ms = 0
        self.durable_term = self.durable_vote = 0


class Checker:
    """The watcher of one run.

    Attributes:
        committed: The highest index that is committed.
        commands: What is committed there, by index: commands of keys only.
        at: Index by the value that was written there.
        replaced: Ids of members whose place another has, as a client was told.
        judge: Of what is in the tables of clients.
        lifetimes: Of sessions.
        applied_at: When each life of a node had applied how much.
    """

    def __init__(self, sim: WholeSimulation) -> None:
        self.sim = sim
        self.replaced: set[int] = set()
        self.committed = 0
        self.commands: dict[int, Put | Delete | DeletePrefix] = {}
        self.at: dict[bytes, list[int]] = {}
        self._chains: dict[int, tuple[int, bytes]] = {}
        self._logs: dict[tuple[int, int], bytes] = {}
        self._leaders: dict[int, int] = {}
        self._elected_at: dict[int, float] = {}
        self._committed_in: dict[int, int] = {}
        self._states: dict[int, int] = {}
        self._lives: dict[int, Life] = {}
        self._outcomes: dict[int, Any] = {}
        self._answers: dict[bytes, Outcome] = {}
        self.judge = Judge(sim.fail, sim.counts, sim.options.deletions_max)
        self.lifetimes = Lifetimes(sim)
        self.applied_at = AppliedAt()

    def _fail(self, name: str, member: SimMember, text: str) -> None:
        self.sim.fail(f"{name}: node {member.id} {text}")

    # -- lives ------------------------------------------------------------------------------

    def started(self, member: SimMember) -> None:
        """A node has read its disk, and runs soon."""
        core, image = member.core, member.disk.durable
        life = self._lives.setdefault(member.id, Life())
        witness = member.disk.witness
        if (
            member.has_lost
            or image.loss
            or image.damaged
            or (witness is not None and witness.batch > image.end.batch)
        ):
            # It knows, or does not need it: I6 says whether what it does then is safe.
            self.sim.counts["starts after a loss"] += 1
            self.sim.counts["recovers lost log"] += core.is_recovering
            member.has_lost = False
        elif (core.term, core.vote) != (image.hard_state.term, image.hard_state.vote):
            self._fail("D19", member, f"starts in {core.term}/{core.vote}: {image.hard_state}")
        elif core.term < life.durable_term:
            self._fail("I2", member, f"comes back in term {core.term}, was {life.durable_term}")
        elif core.term == life.durable_term and life.durable_vote not in (0, core.vote):
            self._fail("I2", member, f"has forgotten its vote for {life.durable_vote}")
        if not core.log.applied <= core.log.commit <= core.log.last_index:
            self._fail("D19", member, f"{core.log.applied} <= {core.log.commit} does not hold")
        life.term, life.vote = core.term, core.vote
        life.commit = life.applied = life.lead_term = life.time_ms = 0

    def crashes(self, member: SimMember) -> None:
        """A node is about to die: what it dies in the middle of is counted."""
        storage = member.storage
        replica, node = member.node.replica, member.node
        config = replica.core.config
        found = {
            "while a flush is under way": storage.is_flushing,
            "between write and flush": bool(member.disk.unflushed) and not storage.is_flushing,
            "with answers that wait for a flush": bool(replica.flushes._then),
            "with requests passed on": bool(replica.waiting.forwarded),
            "with writes in the log": len(replica.waiting.in_log) > 0,
            "while a snapshot comes in": node.snapshot_receiver._staging is not None,
            "while a snapshot is sent": bool(node.snapshot_sender._sending),
            "of a leader": member.is_leader,
            "in a joint configuration": bool(config.outgoing),
        }
        self.sim.counts.update(f"crash {what}" for what, is_so in found.items() if is_so)

    # -- writing ----------------------------------------------------------------------------

    def written(self, member: SimMember, entries: Sequence[Entry]) -> None:
        """Entries have been written: the same index and term mean the same history (I3)."""
        if not entries:
            return
        self.lifetimes.written(entries)
        stored = member.disk.live.entries
        for entry, chain in stored[len(stored) - len(entries) :]:
            known = self._logs.setdefault((entry.index, entry.term), chain)
            if known != chain:
                self._fail("I3", member, f"({entry.index}, {entry.term}) has two histories")

    # -- turns ------------------------------------------------------------------------------

    def turned(self, member: SimMember) -> None:
        """A driver has taken a turn."""
        core, life = member.core, self._lives[member.id]
        if core.term != life.term or core.vote != life.vote:
            self._check_term(member, life)
        commit = core.log.commit
        if commit != life.commit:
            if commit < life.commit:
                self._fail("I2", member, f"commit fell from {life.commit} to {commit}")
            life.commit = commit
            self._check_commit(member, commit)
        if core.role is Role.LEADER and life.lead_term != core.term:
            life.lead_term = core.term
            self._check_leader(member)
        self._check_processes(member)
        self._check_named()
        hard = member.disk.durable.hard_state
        life.durable_term, life.durable_vote = hard.term, hard.vote
        self.sim.promptness.turned(member)

    def _check_named(self) -> None:
        newest = self.newest_term
        for member in self.sim.members.values():
            if not member.is_up or member.core.term >= newest:
                continue
            if not member.node.status.in_contact():
                continue
            self.sim.counts["names a leader that was just replaced"] += 1
            replaced_at = min(at for t, at in self._elected_at.items() if t > member.core.term)
            ago, lease = trio.current_time() - replaced_at, self._lease(member)
            if ago > lease:
                self._fail(
                    "C1",
                    member,
                    f"names {member.core.leader}, replaced {ago:.2f} s ago: {lease:.2f}",
                )

    def _lease(self, member: SimMember) -> float:
        """How long ago whom a node names may have been replaced.

        A frame is dated by the one before it, if that came at most half an election timeout sooner;
        in the network it may have waited as long. A leader that loses its majority says so at its
        next tick.
        """
        settings = member.node.replica.state.settings
        tick = settings.heartbeat_ms * self.sim.options.skew
        return (1.5 * settings.election_timeout_ms + tick) / 1000 + 0.1

    def _check_processes(self, member: SimMember) -> None:
        links = member.node.links
        for peer, (scope, incarnation) in links._accepted.items():
            link = links._links.get(peer, (None,))[0]
            if scope.cancel_called or link is None or link._current.cancel_called:
                continue
            if 0 not in (incarnation, link.incarnation) and incarnation != link.incarnation:
                self._fail("P1", member, f"is linked to two processes of {peer}")

    def _check_term(self, member: SimMember, life: Life) -> None:
        core = member.core
        hard = member.disk.live.hard_state
        if core.term < life.term:
            self._fail("I2", member, f"term fell from {life.term} to {core.term}")
        if core.term == life.term and life.vote:
            self._fail("I2", member, f"vote of {core.term}: from {life.vote} to {core.vote}")
        if (hard.term, hard.vote) != (core.term, core.vote):
            self._fail("D5", member, f"is in {core.term}/{core.vote}, has written {hard}")
        life.term, life.vote = core.term, core.vote

    def _check_commit(self, member: SimMember, commit: int) -> None:
        live = member.disk.live
        first, last = live.snapshot.index, live.snapshot.index + len(live.entries)
        if commit > last:
            self._fail("D6", member, f"commit {commit} is beyond its log, {last}")
            return
        low = min(commit, self.committed)
        if low > first and low in self._chains:
            entry, chain = live.entries[low - first - 1]
            if (entry.term, chain) != self._chains[low]:
                self._fail("I4", member, f"another history is committed at {low}")
        if commit <= self.committed:
            return
        self._check_quorum(member, commit)
        for entry, chain in live.entries[max(self.committed - first, 0) : commit - first]:
            self._chains[entry.index] = entry.term, chain
            if entry.kind == EntryKind.COMMAND:
                self._commit_command(entry)
        self.committed = commit
        self._committed_in[member.core.term] = commit

    def _commit_command(self, entry: Entry) -> None:
        try:
            command = commands.decode(entry.data)
        except msgspec.MsgspecError:
            return
        is_keyed = isinstance(command, Keyed)
        if isinstance(command, Keyed):
            command = command.command
        if isinstance(command, (Put, Delete, DeletePrefix)):
            self.commands[entry.index] = command
        for name in _names(command):
            places = self.at.setdefault(name, [])
            places.append(entry.index)
            if len(places) > 1 and not is_keyed:
                self.sim.fail(f"D15: {command} was asked for once, and is committed at {places}")

    def _check_quorum(self, member: SimMember, commit: int) -> None:
        """I5: in the durable logs of a majority, in the configuration of who says so."""
        live = member.disk.live
        at = commit - live.snapshot.index - 1
        if at < 0:
            return
        wanted = live.entries[at][1]
        config = member.core.config
        for voters in filter(None, (config.voters, config.outgoing)):
            have = sum(self._has_durably(voter, commit, wanted) for voter in voters)
            if have <= len(voters) // 2 and not self._had_quorum(member, commit, wanted):
                self._fail("I5", member, f"calls {commit} committed, {have} of {voters} have it")

    def _had_quorum(self, member: SimMember, commit: int, chain: bytes) -> bool:
        """The configuration may have moved on since: then any earlier one in the log will do."""
        for _, config in reversed(member.core.history.items()):
            groups = list(filter(None, (config.voters, config.outgoing)))
            if groups and all(
                sum(self._has_durably(v, commit, chain) for v in voters) > len(voters) // 2
                for voters in groups
            ):
                return True
        return False

    def _has_durably(self, node: int, index: int, chain: bytes) -> bool:
        member = self.sim.members.get(node)
        if member is None:
            return False
        image = member.disk.durable
        at = index - image.snapshot.index - 1
        if at < 0 or (at < len(image.entries) and image.entries[at][1] == chain):
            return True
        # A disk that has lost it meanwhile had it when that was said.
        return (index, chain) in member.lost

    def _check_leader(self, member: SimMember) -> None:
        core, sim = member.core, self.sim
        term = core.term
        sim.counts["leaders"] += 1
        self._elected_at.setdefault(term, trio.current_time())
        if self._leaders.setdefault(term, member.id) != member.id:
            self._fail("I1", member, f"leads term {term}, and so does {self._leaders[term]}")
        hard = member.disk.durable.hard_state
        if (hard.term, hard.vote) != (term, member.id):
            self._fail("D2", member, f"leads {term} before its own vote is durable: {hard}")
        index = max((i for t, i in self._committed_in.items() if t < term), default=0)
        live = member.disk.live
        at = index - live.snapshot.index - 1
        if at >= 0 and index in self._chains:
            found = live.entries[at][1] if at < len(live.entries) else None
            if found != self._chains[index][1]:
                self._fail("I6", member, f"leads {term} without what is committed at {index}")

    # -- leaving ----------------------------------------------------------------------------

    def leaves(self, member: SimMember, frame: wire.Frame) -> None:
        """A frame is handed over to a link (D1)."""
        kind = type(frame)
        if kind is AppendResponse:
            assert isinstance(frame, AppendResponse)
            image = self._vouches(member, frame.term, "answers an append")
            last = image.snapshot.index + len(image.entries)
            if not frame.rejected and frame.index > last and image.hard_state.term == frame.term:
                self._fail("D1", member, f"acknowledges {frame.index}, durable is {last}")
        elif kind is VoteResponse:
            assert isinstance(frame, VoteResponse)
            hard = self._vouches(member, frame.term, "answers a vote").hard_state
            if frame.granted and hard.term == frame.term and hard.vote != frame.to:
                self._fail("D1", member, f"grants {frame.to} its vote, durable is {hard}")
        elif kind is VoteRequest:
            assert isinstance(frame, VoteRequest)
            self._vouches(member, frame.term, "stands")
        elif kind is PreVoteResponse:
            assert isinstance(frame, PreVoteResponse)
            if not frame.granted:
                self._vouches(member, frame.term, "refuses a pre-vote")

    def _vouches(self, member: SimMember, term: int, what: str) -> Any:
        image = member.disk.durable
        if image.hard_state.term < term and not member.is_frozen:
            self._fail("D1", member, f"{what} of term {term}, durable is {image.hard_state}")
        return image

    # -- states -----------------------------------------------------------------------------

    def applies(self, member: SimMember) -> None:
        """A driver is about to apply entries: clients hear of them before the turn is over."""
        if not member.is_frozen:
            self._check_commit(member, member.core.log.commit)

    def applied(
        self, member: SimMember, entries: Sequence[Entry], outcomes: Sequence[Outcome | None]
    ) -> None:
        """A driver has applied entries (D7, I4, I13)."""
        if member.is_frozen:
            return
        life, durable = self._lives[member.id], member.disk.durable
        for entry, outcome in zip(entries, outcomes, strict=True):
            self._check_applied(member, entry, outcome)
        self.applied_at.note(member.id, member.lives, entries[-1].index)
        first, last = entries[0].index, entries[-1].index
        if life.applied and first != life.applied + 1:
            self._fail("D7", member, f"applies {first} after {life.applied}")
        if last - first + 1 != len(entries):
            self._fail("D7", member, f"applies {len(entries)} entries as {first} to {last}")
        if last > durable.snapshot.index + len(durable.entries):
            self._fail("D7", member, f"applies {last}, which is not durable here")
        life.applied = last
        time_ms = member.node.replica.state.time_ms
        if time_ms < life.time_ms:
            self._fail("I2", member, f"the cluster's time fell from {life.time_ms} to {time_ms}")
        life.time_ms = time_ms
        self._check_state(member, last)
        self._look(member, last)
        self.sim.catalogs.look(member)

    def told(
        self, member: SimMember, entries: Sequence[Entry], outcomes: Sequence[Outcome | None]
    ) -> None:
        """A driver tells clients of outcomes, perhaps before they are written (K1, E1)."""
        for entry, outcome in zip(entries, outcomes, strict=True):
            before = self.judge.book.last
            is_first = entry.index > before.index
            self.judge.applied(member.id, entry, outcome)
            if self.sim.options.lockers and entry.kind == EntryKind.COMMAND:
                self.lifetimes.made_on(member, commands.decode(entry.data))
            if not (is_first and outcome is not None and self.judge.book.last.is_open):
                continue
            command = commands.decode(entry.data)
            if self.sim.options.retriers:
                self.sim.onces.committed(command, outcome, entry.index)
            if outcome.ok:
                self.lifetimes.applied(command, entry.term)
                self.sim.catalogs.written(command, outcome, self.judge.book.last, before)

    def decides_end(self, member: SimMember, session: bytes, by_clock: object) -> None:
        """A leader decides the end of a session; by its clock, if not for another reason (E2)."""
        self.lifetimes.decided(member, session, by_clock=bool(by_clock))

    def renews(self, member: SimMember, session: bytes) -> None:
        """A leader has got a renewal (E2)."""
        self.lifetimes.renewed_on(member, session)

    def _look(self, member: SimMember, index: int) -> None:
        reader = member.node.replica.state.view()
        try:
            self.judge.look(member.id, reader, index)
        finally:
            reader.close()

    @property
    def last_election(self) -> float:
        """When a leader was elected last."""
        return max(self._elected_at.values(), default=0.0)

    def elected_at(self, term: int) -> float:
        """When the leader of a term was elected; 0: nobody was seen to be."""
        return self._elected_at.get(term, 0.0)

    @property
    def newest_term(self) -> int:
        """The last term in which a leader was elected."""
        return max(self._elected_at, default=0)

    def _check_applied(self, member: SimMember, entry: Entry, outcome: Outcome | None) -> None:
        known = self._chains.get(entry.index)
        if entry.index > self.committed or (known is not None and known[0] != entry.term):
            if entry.index > max(self.committed, member.core.log.commit):
                self._fail("I4", member, f"applies {entry.index}, which is not committed")
            elif known is not None:
                self._fail("I4", member, f"applies another entry at {entry.index}")
        if outcome is not None and entry.index not in self._outcomes:
            self._check_keyed(member, entry, outcome)
        told = self._outcomes.setdefault(entry.index, outcome)
        if told != outcome:
            self._fail("I13", member, f"{entry.index} has outcome {outcome}, had {told}")

    def _check_keyed(self, member: SimMember, entry: Entry, outcome: Outcome) -> None:
        """A keyed write takes effect once: all entries of a key have the first one's outcome."""
        command = commands.decode(entry.data)
        if not isinstance(command, Keyed) or outcome.denial != Denial.NONE:
            return
        first = self._answers.setdefault(command.key, outcome)
        if outcome != first:
            self._fail("I7", member, f"answers {command.key!r} by {outcome}, and did by {first}")

    def installed(self, member: SimMember, meta: SnapshotMeta) -> None:
        """A snapshot has taken the place of a state (I11)."""
        if member.is_frozen:
            return
        self._lives[member.id].applied = meta.index
        if meta.index > self.committed:
            self._fail("I11", member, f"installs {meta.index}, which is not committed")
        known = self._chains.get(meta.index)
        if known is not None and known != (meta.term, meta.chain):
            self._fail("I11", member, f"installs another history at {meta.index}")
        self._check_state(member, meta.index)
        self.applied_at.note(member.id, member.lives, meta.index)

    def _check_state(self, member: SimMember, index: int) -> None:
        state = member.disk.live.state
        at, _ = unpack_applied(state.get(APPLIED_KEY))
        if at != index:
            self._fail("D5", member, f"has applied {index}, its state says {at}")
        found = digest(state)
        if self._states.setdefault(index, found) != found:
            self._fail("I13", member, f"has another state than others at {index}")
        back = member.node.replica.state.members.keys() & member.node.replica.state.removed
        if back:
            self._fail("I9", member, f"has members that were removed: {sorted(back)}")

    def settled(self, member: SimMember) -> None:
        """A member has applied all there is: who was replaced is out for good."""
        state = member.node.replica.state
        if not self.replaced <= state.removed:
            back = sorted(self.replaced - state.removed)
            self._fail("I9", member, f"does not know that {back} were replaced")
