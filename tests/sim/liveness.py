"""What must happen at the end of a run, when nothing goes wrong any more.

First only a *core* is healed: a majority of the members, drawn at random. Whoever is outside stays
as it was, dead, cut off or paused: faults that end by themselves would hide who waits for them. The
core has to elect a leader, and everybody in it to apply all there is and something new (L1). Then
the others come back, and the whole cluster has to do the same; no term may rise for long (L2), a
leader that a majority hears may not lose its place, one that hears nobody must; every request has
its answer; and every node comes up from its disk as it went down (L5).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NoReturn

from hstore.node.raft.core import Core
from hstore.node.raft.events import ReadIndex
from hstore.node.raft.membership import Configuration, Transition
from hstore.node.raft.roles import Role

from .configurations import has_majority
from .invariants import Violation
from .machine import Content
from .options import TICK, stream

if TYPE_CHECKING:
    from .node import SimNode
    from .simulation import Simulation

_MOST_TERMS = 25
_MOST_TERMS_WITHOUT_PRE_VOTE = 75
"""Terms that elections may take until a leader lasts; nearly always it is one or two.

A core that is just a majority needs every vote, and short timeouts split them again and again.
"""


class Awakening:
    """The end of one run."""

    def __init__(self, sim: Simulation, seed: int) -> None:
        self.sim = sim
        self._rng = stream(seed, "core")
        self._outside: list[int] = []

    def run(self) -> None:
        """See the core come to life, then everybody.

        Raises:
            Violation: They do not.
        """
        sim = self.sim
        sim.quieten()
        before = self._highest_term()
        core = self._choose_core()
        self._keep_some_short()
        sound = [node.id for node in sim.nodes.values() if node.is_sound()]
        if not all(has_majority(config, sound) for config in sim.possible_configs()):
            # A change that was on its way has left a majority to those who have lost log.
            sim.counts["no majority was left"] += 1
            return
        self._outside = [node for node in sim.nodes if node not in core]
        if self._outside:
            sim.counts["cores healed alone"] += 1
            sim.heal_some(core, is_outside_heard=self._is_protected() and self._rng.random() < 0.5)
            self._come_to_life(core)
            self._check_terms(before, core)
            self._check_answers(core)
            if not self._is_protected():
                # Who is alone without PreVote raises its term with each timeout, as it should.
                before = self._highest_term()
        self._retire_strangers(self._possible_members())
        self._outside = []
        sim.heal_all()
        self._come_to_life(None)
        self._check_terms(before, None)
        self._see_room_lead()
        if not self._is_protected():
            # Meanwhile one whom the leader does not count any more, and who does not know it, may have stood.
            self._come_to_life(None)
        self._see_peace_last(self._check_terms(before, None))
        self._check_answers(list(sim.nodes))
        self._hand_over()
        self.see_restarts()

    # -- disks without room -------------------------------------------------------------------

    def _keep_some_short(self) -> None:
        """In half of the runs some disks are without room, perhaps all: a leader is found even so."""
        rng = stream(self.sim.seed, "short at the end")
        nodes = list(self.sim.nodes)
        if rng.random() < 0.5:
            short = rng.sample(nodes, rng.randint(1, len(nodes)))
            self.sim.counts["cores with disks without room"] += 1
            self.sim.disks.keep_short(short)
        else:
            self.sim.disks.keep_short(())

    def _see_room_lead(self) -> None:
        """L6: who has room leads in the end, if a leader without room hands over as the driver does."""
        sim, disks = self.sim, self.sim.disks
        for _ in range(20):
            for node in sim.nodes.values():
                disks.tell(
                    node
                )  # What it was told as the faults ended may have waited for its turn.
            leader = self._leader(None)
            if leader is not None and (
                not disks.is_told_short(leader) or not disks.successor(leader)
            ):
                break
            if leader is not None and leader.core is not None and leader.core.transfer is None:
                sim.counts["leaders without room hand over"] += 1
                sim.operator.hand_over(leader, disks.successor(leader))
            self._pass_timeouts(1)
        else:
            self._fail(f"L6: nobody with room leads, short are {sorted(disks.kept_short)}")
        disks.keep_short(())
        self._pass_timeouts(1)

    def _highest_term(self) -> int:
        return max(node.disk.image.hard.term for node in self.sim.nodes.values())

    def _check_terms(self, before: int, core: list[int] | None) -> SimNode:
        """Return the leader, who must have come to lead without a race of terms (L2)."""
        most = _MOST_TERMS if self._is_protected() else _MOST_TERMS_WITHOUT_PRE_VOTE
        leader = self._leader(core)
        if leader is None or leader.core is None or leader.core.term > before + most:
            self._fail(f"L2: terms rose from {before}")
        return leader

    def is_outside(self, node: int) -> bool:
        """Whether a node stays as it was for now."""
        return node in self._outside

    # -- the core -----------------------------------------------------------------------------

    def _choose_core(self) -> list[int]:
        """Return some who are a majority of every configuration that may count."""
        sim, rng = self.sim, self._rng
        configs = self.sim.possible_configs()
        members = sorted({m for config in configs for m in config.all_members()})
        core = [member for member in members if not sim.nodes[member].is_wiped]
        for member in rng.sample(core, rng.randint(0, len(core))):
            rest = [m for m in core if m != member]
            sound = [m for m in rest if sim.nodes[m].is_sound()]
            if all(has_majority(config, sound) for config in configs):
                core = rest
        return core

    def _possible_members(self) -> set[int]:
        return {m for config in self.sim.possible_configs() for m in config.all_members()}

    # -- coming to life -----------------------------------------------------------------------

    def _come_to_life(self, core: list[int] | None) -> None:
        """See a leader emerge, and everybody catch up; `core`: among these only."""
        sim, options = self.sim, self.sim.options
        lag = sim.checker.committed + max(n.disk.image.last_index for n in sim.nodes.values())
        deadline = sim.now + (80 * options.core.election_ticks + 2 * lag + 100) * TICK
        term = rid = 0
        # Until the last late message is lost, and the slowest clock has ticked.
        sim.run_until(sim.now + int((2 + max(options.skew, options.hunt_slow)) * TICK))
        while not self._is_settled(rid, core):
            if sim.now > deadline:
                self._fail(f"L1: no progress by {sim.now // TICK} of {core or 'all'}")
            leader = self._leader(core)
            is_refused = rid in sim.clients.refused
            if leader is not None and (is_refused or leader.seen.term != term):
                term = leader.seen.term
                self._leave_joint(leader)
                (rid,) = sim.clients.propose_at(leader, 1)
            sim.run_until(sim.now + TICK // 4)

    def _leader(self, core: list[int] | None) -> SimNode | None:
        leader = self.sim.clients.leader(core)
        return leader if leader is not None and leader.core is not None else None

    def _leave_joint(self, leader: SimNode) -> None:
        """Sometimes an operator ends an explicit joint configuration; it may last as well."""
        assert leader.core is not None
        config = leader.core.config
        if config.outgoing and not config.auto_leave and self._rng.random() < 0.5:
            self.sim.operator.ask(leader, (), Transition.AUTO)

    def _is_settled(self, rid: int, core: list[int] | None) -> bool:
        """Whether a leader has taken a proposal, and all members have applied all there is."""
        leader = self._leader(core)
        if leader is None or leader.core is None or rid not in self.sim.clients.acked:
            return False
        log = leader.core.log
        if log.commit != log.last_index or leader.core.config.auto_leave:
            return False
        nodes = self.sim.nodes
        return all(
            _is_up(nodes[member]) and nodes[member].content.applied == log.last_index
            for member in leader.core.config.all_members()
            if (core is None or member in core) and not nodes[member].is_wiped
        )

    # -- peace --------------------------------------------------------------------------------

    def _is_protected(self) -> bool:
        """Whether nobody can disturb a leader that a majority hears (6.2, 9.6)."""
        options = self.sim.options
        return options.core.pre_vote and options.core.check_quorum and not options.is_mixed

    def _retire_strangers(self, members: set[int]) -> None:
        """Without both protections, who does not know of its removal would disturb for ever."""
        if not self._is_protected():
            for node in self.sim.nodes.values():
                if node.id not in members:
                    self.sim.retire(node)

    def _see_peace_last(self, leader: SimNode) -> None:
        """Nobody disturbs a leader when nothing goes wrong, and every read gets an answer."""
        sim, core = self.sim, leader.core
        assert core is not None
        term, config = core.term, core.config
        self._retire_strangers(set(config.all_members()))
        for node in sim.nodes.values():
            node.give(ReadIndex(sim.clients.next_rid()))
        self._pass_timeouts(6)
        gone = [node.id for node in sim.nodes.values() if not node.is_sound()]
        others = [voter for voter in config.all_voters() if voter != leader.id]
        spare = [other for other in others if has_majority(config, _without(config, other, gone))]
        if spare and self._is_protected():
            sim.counts["a deaf member disturbs nobody"] += 1
            sim.network.cut = {(leader.id, spare[sim.seed % len(spare)])}
            self._pass_timeouts(6)
            sim.network.cut = set()
            self._pass_timeouts(2)
        if core.term != term or core.role is not Role.LEADER:
            self._fail(f"L2: term {term} did not last")
        if has_majority(config, _without(config, leader.id, gone)) and self._is_protected():
            self._replace_a_deaf_leader(leader)

    def _replace_a_deaf_leader(self, leader: SimNode) -> None:
        """Section 6.2 of the thesis: who cannot hear a majority does not go on in its way."""
        sim, config = self.sim, leader.seen.config
        sim.counts["a deaf leader is replaced"] += 1
        # What learners say is no reason to go on.
        others = [*config.all_voters()] if sim.seed % 2 else [*sim.nodes]
        sim.network.cut = {(other, leader.id) for other in others if other != leader.id}
        self._pass_timeouts(40)
        new = sim.clients.leader()
        if new is None or new is leader:
            self._fail(f"L1: deaf {leader.id} leads on")
        sim.network.cut = set()
        self._pass_timeouts(2)

    def _hand_over(self) -> None:
        """Leadership goes elsewhere when it is asked to, and nothing is in the way (thesis 3.10)."""
        sim, leader = self.sim, self.sim.clients.leader()
        if leader is None or leader.core is None or not self._is_protected():
            return
        config, term = leader.core.config, leader.core.term
        voters = [sim.nodes[voter] for voter in config.all_voters()]
        if config.outgoing or len(voters) < 2 or not all(v.is_sound() and v.core for v in voters):
            return
        sim.operator.hand_over(leader, 0)
        self._pass_timeouts(2)
        new = sim.clients.leader()
        if new is None or new is leader or new.seen.term > term + 1:
            self._fail(f"L1: {leader.id} cannot hand leadership over in term {term}")
        sim.counts["leadership handed over in peace"] += 1

    def _pass_timeouts(self, count: int) -> None:
        self.sim.run_until(self.sim.now + count * self.sim.options.core.election_ticks * TICK)

    # -- answers ------------------------------------------------------------------------------

    def _check_answers(self, ids: Iterable[int]) -> None:
        """L1: whoever asked a node that still runs has been told something."""
        self._pass_timeouts(3)
        unanswered = self.sim.operator.unanswered()
        members = self.sim.checker.configs[-1][1].all_members()
        for node in map(self.sim.nodes.__getitem__, ids):
            if node.core is None:
                continue
            due = [rid for _, rid in node.due]
            if node.reads.keys() - due:
                self._fail(f"L1: node {node.id} never answers reads {node.reads}")
            late = [index for index in node.waiting if index <= node.content.applied]
            if late or (due and node.id in members):
                self._fail(f"L1: node {node.id} never answers for {late} {node.due}")
            for rid, asked in unanswered:
                if asked == node.id:
                    self._fail(f"L1: node {node.id} never says what became of transfer {rid}")

    # -- disks --------------------------------------------------------------------------------

    def see_restarts(self) -> None:
        """L5: what is durable makes the same node each time, and no other than the one before."""
        checker = self.sim.checker
        for member in checker.configs[-1][1].all_members():
            node = self.sim.nodes[member]
            if node.is_wiped:
                continue
            image = node.disk.durable
            found = [self._replayed(node), self._replayed(node)]
            applied = found[0][0].applied
            if found[0] != found[1] or found[0][0].bare() != checker.states[applied]:
                self._fail(f"L5: node {node.id} comes up differently: {found}")
            if applied != min(image.last_index, checker.committed):
                self._fail(f"L5: node {node.id} replays to {applied}, not all of {image.base}")

    def _replayed(self, node: SimNode) -> tuple[Content, tuple[object, ...]]:
        core = node.made_core(node.disk.durable, stream(self.sim.seed, "restart"))
        content = node.disk.durable.content
        last = min(core.log.last_index, self.sim.checker.committed)
        for entry in core.log.entries[content.applied - core.log.snapshot_index :]:
            if entry.index <= last:
                content = content.after(entry)[0]
        return content, _summary(core)

    def _fail(self, text: str) -> NoReturn:
        raise Violation(f"{text}: {self.sim.describe()}")


def _is_up(node: SimNode) -> bool:
    """Whether a node runs, and counts: whoever has an entry of the present leader has its vote."""
    return node.core is not None and not node.core.is_recovering


def _summary(core: Core) -> tuple[object, ...]:
    log = core.log
    return core.term, core.vote, log.snapshot_index, log.last_index, log.last_term, core.config


def _without(config: Configuration, node: int, gone: list[int]) -> list[int]:
    return [member for member in config.all_members() if member not in (node, *gone)]
