"""One run: the clock, the nodes, and the two phases.

First faults and clients do what they like, and nothing unsafe may happen. Then faults end, and the
cluster has to come to life, see `liveness.py`.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from typing import Any, NoReturn

from hstore.node.raft import membership
from hstore.node.raft.entry import Entry, EntryKind, HardState
from hstore.node.raft.events import Event
from hstore.node.raft.membership import Configuration
from hstore.node.raft.messages import Message
from hstore.node.raft.update import Persist

from .alone import Alone
from .clients import Clients
from .commit_news import CommitNews
from .damage import Damages
from .disk import Image, SimDisk
from .disk_faults import DiskFaults
from .faults import Faults
from .hunts import Hunts
from .invariants import Checker, Violation
from .liveness import Awakening
from .machine import Content
from .network import SimNetwork
from .node import SimNode
from .operator import Operator
from .options import TICK, SimOptions, draw
from .snapshots import Snapshots
from .tables.nodes import Tables
from .tape import Tape


class Simulation:
    """One run.

    Attributes:
        now: Thousandths of nominal ticks since the beginning.
        nodes: Everybody, alive or not, by id.
        core_events: Given to all cores so far.
        counts: How often each thing worth counting has happened.
        digest: Of the run so far: equal runs have equal ones.
        deciders: Who owns decisions, see `tape`.
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
        self.hunts = Hunts(self, seed)
        self.clients = Clients(self, seed)
        self.news = CommitNews(self, seed)
        self.operator = Operator(self, seed)
        self.disks = DiskFaults(self, seed)
        self.damages = Damages(self, seed)
        self.snapshots = Snapshots(self, seed)
        self.awakening = Awakening(self, seed)
        self.tables = Tables(self, seed) if self.options.deletions_max else None
        self.deciders = (
            self.faults,
            self.network,
            self.clients,
            self.news,
            self.operator,
            self.disks,
            self.damages,
            self.snapshots,
        )
        if tape is not None:
            tape.install(self)

    def fail(self, text: str) -> NoReturn:
        """Report what is wrong.

        Raises:
            Violation: Always.
        """
        raise Violation(text)

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
                self.after(5 * TICK, self.retire, self.nodes[gone])

    def config_appended(self, config: Configuration) -> None:
        """Switch those on again whom a late change makes members once more."""
        for member in config.all_members():
            node = self.nodes.get(member)
            if node is not None and node.is_retired and not node.is_wiped:
                self.counts["members that came back"] += 1
                node.is_retired = False
                self.after(TICK, self._revive, node)

    def _revive(self, node: SimNode) -> None:
        if node.core is None and not node.is_retired:
            node.start()

    def retire(self, node: SimNode) -> None:
        """Switch a node off for ever."""
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
        self.hunts.begin()
        self.clients.begin()
        self.news.begin()
        self.operator.begin()
        self.disks.begin()
        self.run_until(self.options.ticks * TICK)
        self.awakening.run()
        self.checker.finished()
        Alone(self, self.seed).run()

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

    # -- the end of trouble -----------------------------------------------------------------

    def quieten(self) -> None:
        """Nothing new goes wrong from now on, and clients are gone."""
        self.is_healed = True
        self.apply_mean = min(self.apply_mean, 10)
        self.window = min(self.window, 20)
        for node in self.nodes.values():
            node.forget_unheard()
        self.disks.find_again()

    def possible_configs(self) -> list[Configuration]:
        """Return the last committed configuration, and whatever follows it in anybody's log."""
        index, config = self.checker.configs[-1] if self.checker.configs else (0, None)
        newer = [c for n in self.nodes.values() for i, c in n.disk.image.configs if i > index]
        return [config, *newer] if config is not None else newer

    def heal_some(self, core: list[int], *, is_outside_heard: bool) -> None:
        """End the faults among these; the others stay as they are, and are cut off."""
        self.network.heal()
        pairs = ((a, b) for a in self.nodes for b in self.nodes if (a in core) != (b in core))
        self.network.cut = {(a, b) for a, b in pairs if a in core or not is_outside_heard}
        for node in core:
            self.faults.mend(self.nodes[node])

    def heal_all(self) -> None:
        """End all faults; who was removed for good stays away."""
        self.network.heal()
        for node in self.nodes.values():
            self.faults.mend(node)

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
                f"voters {core.config.voters} of before {core.config.outgoing} "
                f"learners {core.config.learners} "
                + " ".join(
                    f"[{p}: {g.state.value} {g.match}<{g.next}]" for p, g in core.progress.items()
                )
            )
        return "\n  ".join(["", *lines])
