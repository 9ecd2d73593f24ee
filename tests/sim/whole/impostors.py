"""Processes that should not be there: a copied directory beside its original, and a wiped seed.

They come in the peace at the end of a run. While messages may take longer than a probe, a copy may
be taken for a node that moved (`peers/incarnations.py`); then it votes for a second time, and
nothing that is looked for here holds any more.

- P1: a node has connections to one process of each peer only (looked at after each turn).
- P2: a copy that comes while its original runs and answers ends by itself, and the original stays;
  but for a copy of the only voter: it leads by its own vote, and what a learner says does not end it.
- P3: a seed at the address of a member that is down founds no cluster that anybody writes to, as
  long as the others dial it; one that has acknowledged a write keeps it, and raises the alarm.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import trio

from hstore.node.checks.probes import CheckSettings
from hstore.node.errors import AddressClaimed, DuplicateProcess, HstoreError, Unavailable
from hstore.node.model.commands import Put
from hstore.node.node import Life, Node
from hstore.node.process.announcing import keep_announced
from hstore.node.process.first_start import LISTEN_SECONDS, Greetings
from hstore.node.process.main import _cause
from hstore.node.raft import membership
from hstore.node.raft.entry import Entry, EntryKind, HardState
from hstore.node.raft.membership import Configuration
from hstore.node.storage.interface import Identity
from tests.fakes.storage import MemoryDisk

from ..options import stream
from .scheduler import OWNER

if TYPE_CHECKING:
    from .member import SimMember
    from .simulation import WholeSimulation
    from .wires import Serve

_OTHER_CLUSTER = "ffffffffffffffff"
_HOST = 100
"""Added to the id of a member for the host of its copy."""

_PATIENCE_S = 5.0


class Impostors:
    """What comes at the end of one run."""

    def __init__(self, sim: WholeSimulation) -> None:
        self.sim = sim
        self.counts = sim.counts
        self._rng = stream(sim.seed, "whole impostors")

    async def come(self, members: list[SimMember]) -> None:
        """Start a copy, and a wiped seed, of some members; a node alone has nobody to tell it."""
        if len(members) < 2:
            return
        original = self._rng.choice(members)
        await self._copy(original)
        await self._wiped(self._rng.choice(members))

    # -- a copied directory -------------------------------------------------------------------

    async def _copy(self, original: SimMember) -> None:
        process = _Process(self.sim, original, original.disk.image(), _HOST + original.id)
        before = original.node
        is_only_voter = original.core.config.all_voters() == (original.id,)
        with trio.move_on_after(_PATIENCE_S):
            await process.run(Life(1 << 60 | original.id))
        self.counts["a copy was started"] += 1
        if is_only_voter and process.error is None:
            # It has elected itself before a learner refused it: then no learner's word ends it
            # (`Node.refused`). It is alone, and goes when its time is over.
            self.counts["a copy of the only voter led by itself"] += 1
        elif not isinstance(process.error, DuplicateProcess):
            self.sim.fail(f"P2: a copy of node {original.id} ends by {process.error!r}")
        if not original.is_up or original.node is not before:
            self.sim.fail(f"P2: node {original.id} has ended for a copy of it")

    # -- a wiped seed -------------------------------------------------------------------------

    async def _wiped(self, lost: SimMember) -> None:
        """Start it at the addresses of a member that is down, with a disk of its own."""
        rng, sim = self._rng, self.sim
        lost.is_held = True
        lost.crash("of a wiped disk")
        await lost.ended.wait()
        await trio.sleep(rng.uniform(0.0, 1.0))
        seed = _Process(sim, lost, _founders_disk(rng), lost.id)
        if rng.random() < 0.5:
            self.counts["a wiped seed looks around"] += 1
            if not await seed.listen():
                sim.fail(f"P3: nobody greets the wiped seed at node {lost.id}")
        else:
            await self._founded(seed, rng)
        seed.close()
        lost.is_held = False
        lost.start()

    async def _founded(self, seed: _Process, rng: Random) -> None:
        """It did not look, such as for want of time; somebody writes to it, or not."""
        after = rng.choice((0.0, rng.uniform(0.0, 0.3), None))
        acknowledged = False

        async def write() -> None:
            nonlocal acknowledged
            await seed.has_begun.wait()
            if after is None:
                return
            await trio.sleep(after)
            try:
                put = Put(b"k", b"v")
                acknowledged = (await seed.node.keys.write(put, trio.current_time() + 2)).ok
            except Unavailable:
                pass

        with trio.move_on_after(_PATIENCE_S + 2):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(write)
                await seed.run(Life(1 << 61, is_founder=True))
                nursery.cancel_scope.cancel()
        if acknowledged:
            self.counts["a wiped seed was written to"] += 1
            if seed.error is not None:
                self.sim.fail(f"P3: a write was acknowledged, and is given up: {seed.error!r}")
            elif seed.node.alarms.holding() != ["address_claimed"]:
                self.sim.fail("P3: no alarm where two clusters have one address")
        elif isinstance(seed.error, AddressClaimed):
            self.counts["a wiped seed gave up"] += 1
        elif after is None and seed.node.replica.core.log.snapshot_index:
            # What it compacted away may have been anything: it does not give up without knowing.
            self.counts["a wiped seed does not know its whole log any more"] += 1
        elif seed.error is not None or after is None:
            self.sim.fail(f"P3: a second cluster goes on at {seed.address}: {seed.error!r}")


def _founders_disk(rng: Random) -> MemoryDisk:
    node = 1000 + rng.randrange(1000)
    first = Entry(1, 1, EntryKind.CONFIG, membership.encode(Configuration(voters=(node,))))
    identity = Identity(_OTHER_CLUSTER, node)
    return MemoryDisk(identity, hard_state=HardState(1, node, 1), entries=[first])


class _Process:
    """A process that is no member's: it runs beside what the checker watches.

    Attributes:
        node: Once it runs.
        error: What it has ended with.
    """

    node: Node

    def __init__(self, sim: WholeSimulation, of: SimMember, disk: MemoryDisk, host: int) -> None:
        self.sim = sim
        self.error: BaseException | None = None
        self._of = of
        self._disk = disk
        self._host = host
        self._serve: Serve | None = None
        self.has_begun = trio.Event()
        peer = of.settings.peer_address
        self.address = peer if host == of.id else f"10.0.1.{of.id}:8300"
        self._before = sim.wires.listeners.get(self.address)
        sim.wires.listeners[self.address] = host, self._port

    def _port(self) -> Serve | None:
        return self._serve

    def close(self) -> None:
        """Give the address back."""
        if self._before is None:
            del self.sim.wires.listeners[self.address]
        else:
            self.sim.wires.listeners[self.address] = self._before

    async def listen(self) -> bool:
        """Do what a new seed does before it founds a cluster; return whether it was greeted."""
        greetings = Greetings()
        async with trio.open_nursery() as nursery:
            self._serve = lambda stream: nursery.start_soon(greetings.serve, stream)
            with trio.move_on_after(LISTEN_SECONDS):
                await greetings.heard.wait()
            self._serve = None
            nursery.cancel_scope.cancel()
        return greetings.hello is not None

    async def run(self, life: Life) -> None:
        """Run until it ends, or is cancelled."""
        OWNER.set(self._host)
        storage = self._disk.open()
        checks = CheckSettings(probes=self.sim.targets.strange_probes())
        try:
            self.node = Node(
                storage,
                address=self._of.settings.api_address,
                dial=self.sim.wires.dialler(self._host),
                rng=Random(f"{self.sim.seed}/impostor/{self._host}"),
                life=life._replace(checks=checks),
                peer_address=self.address,
            )
            async with trio.open_nursery() as nursery:
                await nursery.start(self.node.run)
                serve = self.node.links.serve
                self._serve = lambda stream: nursery.start_soon(serve, stream)
                self.has_begun.set()
                nursery.start_soon(keep_announced, self.node, self._of.settings)
        except BaseExceptionGroup as group:
            error = _cause(group)
            if not isinstance(error, HstoreError):
                raise
            self.error = error
        finally:
            self._serve = None
            OWNER.set(0)
            self.sim.wires.crash(self._host, self.sim.faults.cuts)
