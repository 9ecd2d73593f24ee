"""One run: the clock, the nodes, and the two phases.

First faults and clients do what they like, and nothing unsafe may happen. Then all faults end, and
the cluster has to come to life: a leader that stays, and every member of its configuration with
everything committed, and something new.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from typing import Any

from hstore.node.raft import membership
from hstore.node.raft.entry import Entry, EntryKind, HardState
from hstore.node.raft.events import Event, ReadIndex
from hstore.node.raft.membership import Configuration
from hstore.node.raft.messages import Message
from hstore.node.raft.roles import Role
from hstore.node.raft.update import Persist

from .clients import Clients
from .disk import Content, Image, SimDisk
from .faults import Faults
from .invariants import Checker, Violation
from .network import SimNetwork
from .node import SimNode
from .options import TICK, SimOptions, draw
from .tape import Tape


class Simulation:
    """One run.

    Attributes:
        now: Thousandths of nominal ticks since the beginning.
        nodes: Everybody, alive or not, by id.
        core_events: Given to all cores so far.
        counts: How often each thing worth counting has happened.
        digest: Of the run so far: equal runs have equal ones.
        is_healed: Whether faults and requests are over.
        apply_mean, window: See `SimOptions`; smaller once faults are over.
    """

    def __init__(
        self, seed: int, options: SimOptions | None = None, tape: Tape | None = None
    ) -> None:
        """Without a tape all is drawn from the seed; `tape` is written, or followed."""
        self.seed = seed
        self.tape = tape
        self.is_healed = False
        self.options = options or draw(seed)
        self.now = 0
        self.core_events = 0
        self.digest = 0
        self.counts: Counter[str] = Counter()
        self.nodes: dict[int, SimNode] = {}
        self.apply_mean = self.options.apply_mean
        self.window = self.options.window
        self._heap: list[tuple[int, int, Callable[[Any], None], Any]] = []
        self._planned = 0
        self.checker = Checker(self)
        self.network = SimNetwork(self, seed, self.options, self.counts)
        self.faults = Faults(self, seed)
        self.clients = Clients(self, seed)
        if tape is not None:
            tape.install(self)

    # -- the clock --------------------------------------------------------------------------

    def after(self, delay: int, action: Callable[[Any], None], argument: Any) -> None:
        """Plan something."""
        self.at(self.now + delay, action, argument)

    def at(self, time: int, action: Callable[[Any], None], argument: Any) -> None:
        """Plan something; what is planned for the same moment happens in the order of planning."""
        self._planned += 1
        heapq.heappush(self._heap, (time, self._planned, action, argument))

    def run_until(self, end: int) -> None:
        """Let time pass."""
        heap, pop = self._heap, heapq.heappop
        while heap and heap[0][0] <= end:
            self.now, _, action, argument = pop(heap)
            action(argument)
        self.now = end

    # -- nodes ------------------------------------------------------------------------------

    def give(self, node: int, event: Event) -> None:
        """Let something happen to a node, soon: never within a step of another."""
        self.after(0, self._give, (node, event))

    def _give(self, planned: tuple[int, Event]) -> None:
        self.nodes[planned[0]].give(planned[1])

    def deliver(self, message: Message, content: tuple[Content, int] | None) -> None:
        """Let a message arrive."""
        node = self.nodes.get(message.to)
        if node is not None:
            node.receive(message, content)

    def add_node(self) -> SimNode:
        """Start a node that knows nothing."""
        return self._add_node(SimDisk())

    def _add_node(self, disk: SimDisk) -> SimNode:
        node = SimNode(self, len(self.nodes) + 1, disk)
        self.nodes[node.id] = node
        node.start()
        return node

    def crashed(self, node: SimNode) -> None:
        """A node has died."""
        self.faults.crashed(node)

    def config_committed(self, before: Configuration, config: Configuration) -> None:
        """Switch some of those off for ever who are no members any more."""
        for gone in set(before.all_members()) - set(config.all_members()):
            self.counts["members removed"] += 1
            if gone % 2 == 0:
                self.after(5 * TICK, self._retire, self.nodes[gone])

    def config_appended(self, config: Configuration) -> None:
        """Switch those on again whom a late change makes members once more."""
        for member in config.all_members():
            node = self.nodes.get(member)
            if node is not None and node.is_retired:
                self.counts["members that came back"] += 1
                node.is_retired = False
                self.after(TICK, self._revive, node)

    def _revive(self, node: SimNode) -> None:
        if node.core is None and not node.is_retired:
            node.start()

    def _retire(self, node: SimNode) -> None:
        node.is_retired = True
        if node.core is not None:
            node.crash()

    # -- the run ----------------------------------------------------------------------------

    def run(self) -> None:
        """Run both phases.

        Raises:
            Violation: Something unsafe has happened, or the cluster does not come to life.
            CoreBug: A core has found its own invariants broken.
        """
        self._bootstrap()
        self.faults.begin()
        self.clients.begin()
        self.run_until(self.options.ticks * TICK)
        self.heal()
        self.come_to_life()
        self.checker.finished()

    def _bootstrap(self) -> None:
        """Give every first member the same first entry: the configuration."""
        ids = tuple(range(1, self.options.nodes + 1))
        first = Entry(1, 1, EntryKind.CONFIG, membership.encode(Configuration(voters=ids)))
        for _ in ids:
            image = Image()
            image.persist(0, Persist(0, HardState(1, 0, 1), None, None, [first], []), None)
            self._add_disk(image)
        for node in self.nodes.values():
            node.start()

    def _add_disk(self, image: Image) -> None:
        node = SimNode(self, len(self.nodes) + 1, SimDisk(image))
        self.nodes[node.id] = node

    # -- coming to life ---------------------------------------------------------------------

    def heal(self) -> None:
        """End all faults and all requests; who was removed for good stays away."""
        self.is_healed = True
        self.apply_mean = min(self.apply_mean, 10)
        self.window = min(self.window, 20)
        self._retire_strangers(self._possible_members())
        self.faults.stop()

    def _is_protected(self) -> bool:
        """Whether nobody can disturb a leader that a majority hears (6.2, 9.6)."""
        options = self.options
        return options.core.pre_vote and options.core.check_quorum and not options.is_mixed

    def _retire_strangers(self, members: set[int]) -> None:
        """Without both protections, who does not know of its removal would disturb for ever."""
        if not self._is_protected():
            for node in self.nodes.values():
                if node.id not in members:
                    self._retire(node)

    def _possible_members(self) -> set[int]:
        """Return who belongs to the last committed configuration, or to a newer one anywhere."""
        index, config = self.checker.configs[-1]
        newer = [c for n in self.nodes.values() for i, c in n.disk.image.configs if i > index]
        return {member for c in (config, *newer) for member in c.all_members()}

    def come_to_life(self) -> None:
        """See a leader emerge, everybody catch up, and the peace last."""
        core = self.options.core
        lag = self.checker.committed + max(n.disk.image.last_index for n in self.nodes.values())
        deadline = self.now + (80 * core.election_ticks + 2 * lag + 100) * TICK
        term = rid = 0
        # Until the last late message is lost, and the slowest clock has ticked.
        self.run_until(self.now + int((2 + self.options.skew) * TICK))
        while not self._is_settled(rid):
            if self.now > deadline:
                raise Violation(f"liveness: no progress by {self.now // TICK}: {self.describe()}")
            leader = self.clients.leader()
            is_refused = rid in self.clients.refused
            if leader is not None and (is_refused or leader.seen.term != term):
                term = leader.seen.term
                (rid,) = self.clients.propose_at(leader, 1, 0)
            self.run_until(self.now + TICK // 4)
        self._see_peace_last()

    def _is_settled(self, rid: int) -> bool:
        """Whether a leader has taken a proposal, and all members have applied all there is."""
        leader = self.clients.leader()
        if leader is None or leader.core is None or rid not in self.clients.acked:
            return False
        core = leader.core
        last = core.log.last_index
        if core.log.commit != last:
            return False
        return all(
            (node := self.nodes[member]).core is not None and node.content.applied == last
            for member in core.config.all_members()
        )

    def _see_peace_last(self) -> None:
        """Nobody disturbs a leader when nothing goes wrong, and every read gets an answer."""
        leader = self.clients.leader()
        assert leader is not None
        assert leader.core is not None
        term = leader.core.term
        self._retire_strangers(set(leader.core.config.all_members()))
        for node in self.nodes.values():
            node.give(ReadIndex(self.clients.next_rid()))
        self._pass_timeouts(6)
        others = [voter for voter in leader.core.config.voters if voter != leader.id]
        if len(others) >= 2 and self._is_protected():
            self.counts["a deaf member disturbs nobody"] += 1
            self.network.cut = {(leader.id, others[self.seed % len(others)])}
            self._pass_timeouts(6)
            self.network.cut = set()
            self._pass_timeouts(2)
        if leader.core.term != term or leader.core.role is not Role.LEADER:
            raise Violation(f"liveness: term {term} did not last: {self.describe()}")
        for node in self.nodes.values():
            if node.core is not None and node.reads:
                raise Violation(f"liveness: node {node.id} never answers reads {node.reads}")
        if len(others) >= 2 and self._is_protected():
            self._replace_a_deaf_leader(leader)

    def _replace_a_deaf_leader(self, leader: SimNode) -> None:
        """Section 6.2 of the thesis: who cannot hear a majority does not go on in its way."""
        self.counts["a deaf leader is replaced"] += 1
        self.network.cut = {(other, leader.id) for other in self.nodes if other != leader.id}
        self._pass_timeouts(40)
        new = self.clients.leader()
        if new is None or new is leader:
            raise Violation(f"liveness: deaf {leader.id} leads on: {self.describe()}")
        self.network.cut = set()

    def _pass_timeouts(self, count: int) -> None:
        self.run_until(self.now + count * self.options.core.election_ticks * TICK)

    def describe(self) -> str:
        """Return where everybody stands, for a report."""
        lines = []
        for node in self.nodes.values():
            core = node.core
            if core is None:
                lines.append(f"{node.id} down")
                continue
            log = core.log
            lines.append(
                f"{node.id} {core.role.value} term {core.term} leader {core.leader} "
                f"log {log.snapshot_index}..{log.last_index}/{log.last_term} "
                f"persisted {log.persisted} commit {log.commit} applied {log.applied} "
                f"voters {core.config.voters} learners {core.config.learners} "
                + " ".join(
                    f"[{p}: {g.state.value} {g.match}<{g.next}]" for p, g in core.progress.items()
                )
            )
        return "\n  ".join(["", *lines])
