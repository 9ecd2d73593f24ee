"""At the end of a run: what `hstore recover` would make of the disks, whoever is lost.

Of some nodes the disk, perhaps with fresh damage, is given to the product's own decision
(`node/process/only_voter.py`), and a core is started on the result. I15: with nobody to talk to it
leads, in a term of its own and with itself as the only member, has all that was whole on that disk,
and gives no index again that the disk had shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hstore.node.errors import StorageError
from hstore.node.process import only_voter
from hstore.node.raft.core import Core
from hstore.node.raft.events import Applied, Event, Persisted, Tick
from hstore.node.raft.membership import Configuration
from hstore.node.raft.options import Options
from hstore.node.raft.roles import Role
from hstore.node.storage import recovery
from hstore.node.storage.interface import Identity, Recovered

from . import damage
from .options import stream

if TYPE_CHECKING:
    from .node import SimNode
    from .simulation import Simulation

_NODES = 2
"""Looked at in a run: there are thousands of runs."""

_TICKS = 50


class Alone:
    """The clusters of one that could be made at the end of one run."""

    def __init__(self, sim: Simulation, seed: int) -> None:
        self.sim = sim
        self._rng = stream(seed, "alone")

    def run(self) -> None:
        """Recover some of the disks.

        Raises:
            Violation: What is made of one does not lead, or does not have what it must have.
        """
        nodes = [node for node in self.sim.nodes.values() if node.disk.durable.last_index]
        for node in self._rng.sample(nodes, min(len(nodes), _NODES)):
            self._recover(node)

    def _recover(self, node: SimNode) -> None:
        disk, rng, counts = node.disk, self._rng, self.sim.counts
        harm: damage.Damage | None = None
        if rng.random() < 0.5:
            harm = rng.choice(damage.KINDS), rng.randrange(12)
        image = disk.durable
        if harm is not None and harm[0] == "tail":
            image = disk.lose_batches(harm[1])
        try:
            found = recovery.recover(damage.on_disk(image, disk.witness, harm)).recovered
        except StorageError:
            counts["disks of no use to an operator"] += 1
            return
        if not found.entries and not found.snapshot.index:
            return
        counts["disks recovered"] += 1
        counts["disks recovered that had lost log"] += found.recover_to > 0
        self._lead(node, found)

    def _lead(self, node: SimNode, found: Recovered) -> None:
        hard, entries = only_voter.plan(found, (), Identity("ee" * 8, node.id))
        core = Core(
            node.id,
            Options(),
            self._rng,
            hard_state=hard,
            snapshot=found.snapshot,
            entries=[*found.entries, *entries],
            applied=found.applied,
        )
        fail = self.sim.checker.fail
        for _ in range(_TICKS):
            said = self._step(core, Tick())
            if said:
                fail("I15", node, f"speaks to {said} after its recovery")
        last = core.log.last_index
        if core.role is not Role.LEADER or core.config != Configuration(voters=(node.id,)):
            fail("I15", node, f"is {core.role.value} of {core.config} after its recovery")
        if core.log.commit != last or core.log.applied != last:
            fail("I15", node, f"has {last}, and {core.log.applied} of it applied")
        if entries[-1].index <= found.recover_to:
            fail("I15", node, f"goes on at {entries[-1].index}, and has lost {found.recover_to}")
        if min(entry.term for entry in entries) <= found.hard_state.term:
            # Another leader of that term may have written other entries at these indexes.
            fail("I15", node, f"writes entries of term {entries[0].term}, which is not its own")

    def _step(self, core: Core, event: Event) -> list[int]:
        """Carry out what follows from an event, with a disk and a state that do it at once."""
        events, said = [event], list[int]()
        while events:
            update = core.step(events.pop(0))
            said += [message.to for message in update.messages]
            if update.persist is not None:
                said += [message.to for message in update.persist.then]
                events.append(Persisted(update.persist.seq))
            if update.apply:
                events.append(Applied(update.apply[-1].index))
        return said
