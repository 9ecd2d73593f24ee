"""A majority is lost for good, and the operator goes on with what one or two directories hold.

It strikes after the peace at the end of a run, in the middle of a last burst of writes: everybody
loses power, some disks lose what they had flushed, and `hstore recover` makes clusters of one, itself
cut short now and then. Then all start again at their old addresses: those that were recovered, and
the members of the old cluster that were not.

I15, of what follows:

- A recovered node leads its cluster of one, alone in the configuration and among the members, with
  everything that its disk still had; no revision is given again that this disk ever showed.
- Nothing passes between two clusters: no link between them is up, nobody is removed or ends, and
  neither holds what the other was written.
- A disk whose recovery was cut short is the old node's, or no node starts on it before it is finished.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

import trio

from hstore.node.errors import HstoreError, StorageError
from hstore.node.model.commands import Put
from hstore.node.process import only_voter
from hstore.node.state import records
from hstore.node.storage.interface import Use
from tests.fakes.storage import MemoryDisk, MemoryStorage

from ..options import stream
from .lockers import KEYS
from .member import CLUSTER_ID, SimMember

if TYPE_CHECKING:
    from .simulation import WholeSimulation

_BURST = 20
_LEADS_S = 60.0
_APART_S = 5.0
_REMEMBERED = 40


class Apart:
    """In place of the checker, whose rules are those of one cluster: there are several now."""

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return lambda *_: None


class Had:
    """What a disk had before its node was recovered: revisions by key, and the last index of all."""

    def __init__(self, disk: MemoryDisk, last: int) -> None:
        image = disk.durable
        self.last = max(last, image.snapshot.index + len(image.entries))
        self.revisions = {
            key[1:]: records.record_head(key, value)[2]
            for key, value in image.state.items()
            if key.startswith(records.USER)
        }


class Disaster:
    """The end of a run in which a majority is lost."""

    def __init__(self, sim: WholeSimulation) -> None:
        self.sim = sim
        self.counts = sim.counts
        self._rng = stream(sim.seed, "whole disaster")
        self._had: dict[int, Had] = {}

    async def run(self) -> None:
        """Let it happen, and see what becomes of it."""
        sim, rng = self.sim, self._rng
        members = [m for m in sim.members.values() if m.is_up]
        for member in members:
            member.disk.remember_from_now(_REMEMBERED)
        await self._burst(rng)
        last = max(m.core.log.last_index for m in members)
        for member in sim.members.values():
            member.is_gone = True  # until it is started below, nobody else starts it
            member.crash("of everybody, for good")
            await member.ended.wait()
        recovered = rng.sample(members, min(len(members), rng.choice((1, 2, 2))))
        for member in recovered:
            await self._recover(member, rng, last)
        sim.checker = Apart()  # type: ignore[assignment]
        for member in members:
            member.is_gone = False
            member.start()
        for member in recovered:
            await self._leads(member)
        await trio.sleep(_APART_S)
        self._stay_apart(members, recovered)

    def _fail(self, member: SimMember, text: str) -> None:
        self.sim.fail(f"I15: node {member.id} {text}")

    async def _burst(self, rng: Random) -> None:
        """Have writes under way, which are never answered."""
        leader = self.sim.leader()
        if leader is None:
            return
        for number in range(_BURST):
            put = Put(b"burst", b"%d" % number)
            self.sim.nursery.start_soon(self._write, leader, put, 1.0)
            await trio.sleep(rng.uniform(0.0, 0.01))

    async def _write(self, member: SimMember, put: Put, within_s: float) -> int:
        try:
            outcome = await member.node.keys.write(put, trio.current_time() + within_s)
        except HstoreError:
            return 0
        return outcome.revision

    # -- recovering ---------------------------------------------------------------------------

    async def _recover(self, member: SimMember, rng: Random, last: int) -> None:
        """Do what the operator does, once more after each time that it was cut short."""
        disk = member.disk
        shown = disk.durable.snapshot.index + len(disk.durable.entries)
        if rng.random() < 0.5:
            if disk.witness is not None:
                # What the crash has left of unflushed writes was shown to nobody, and may go again.
                shown = min(shown, disk.witness.index)
            disk.lose_flushed(rng.randint(1, 6))
            self.counts["recovered from a disk that lost log"] += 1
        self._had[member.id] = Had(disk, shown)
        for attempt in range(3):
            cut = rng.choice(("batch", "flush", "")) if attempt < 2 else ""
            storage = disk.open(Use.RECOVER)
            try:
                if cut:
                    _cut_short(storage, cut)
                await only_voter.take_over(storage, f"{attempt:08x}{member.id:08x}")
            except StorageError:
                if not cut:
                    raise
                self.counts[f"recover is cut short before the {cut}"] += 1
                disk.crash(rng.randint(0, 1))
                self._check_cut_short(member)
                continue
            disk.crash()
            break
        self.counts["recovered as the only voter"] += 1

    def _check_cut_short(self, member: SimMember) -> None:
        """What was cut short is not served under a name that does not fit its log."""
        disk = member.disk
        is_old = disk.identity.cluster_id == disk.durable.cluster_id == CLUSTER_ID
        is_new = disk.identity.cluster_id == disk.durable.cluster_id != CLUSTER_ID
        try:
            disk.open(Use.SERVE)
            is_served = True
        except StorageError:
            is_served = False
        disk.detach()
        if is_served and not (is_old or is_new):
            self._fail(member, "starts on a disk whose recovery was cut short")

    # -- what must be true then ---------------------------------------------------------------

    async def _leads(self, member: SimMember) -> None:
        """It is a cluster of one that serves, with what its disk had."""
        with trio.move_on_after(_LEADS_S) as scope:
            while not (member.is_leader and member.node.status.in_contact()):
                if member.ended.is_set():
                    self._fail(member, "does not run after its recovery")
                    await trio.sleep_forever()
                await trio.sleep(0.05)
            revision = await self._write(member, Put(b"half", b"%d" % member.id), 20.0)
        if scope.cancelled_caught or not revision:
            self._fail(member, f"does not lead after its recovery: {self.sim.describe()}")
            return
        had = self._had[member.id]
        if revision <= had.last:
            self._fail(member, f"gives revision {revision}, and has shown {had.last} before")
        for key, before in had.revisions.items():
            item = member.node.keys.get(key)
            if item is None and _may_have_gone(member, key, before):
                self.counts["keys gone with their session after a recovery"] += 1
            elif item is None or item.revision < before:
                self._fail(member, f"has lost {key!r} of revision {before}")
        self.counts["recovered nodes lead"] += 1

    def _stay_apart(self, members: list[SimMember], recovered: list[SimMember]) -> None:
        """Nothing has passed between the clusters, and each has only its own."""
        for member in members:
            if not member.is_up:
                self._fail(member, "has ended beside a recovered node")
                return  # there is nothing left to ask it
        for member in recovered:
            facts = member.node.replica.facts
            if facts.config.all_members() != (member.id,) or set(facts.members) != {member.id}:
                self._fail(member, f"has others: {facts.config}, {sorted(facts.members)}")
            if any(member.node.links.is_connected(other.id) for other in members):
                self._fail(member, "is linked to a node of another cluster")
            mine = member.node.keys.get(b"half")
            if mine is None or mine.value != b"%d" % member.id:
                self._fail(member, "holds what another cluster was written")
        for member in set(members) - set(recovered):
            if any(member.node.links.is_connected(other.id) for other in recovered):
                self._fail(member, "is linked to a node that was recovered")
            if member.node.keys.get(b"half") is not None:
                self._fail(member, "holds what a recovered node was written")
            self.counts["old members beside a recovered node"] += 1


def _may_have_gone(member: SimMember, key: bytes, before: int) -> bool:
    """Whether a key was deleted since this revision: by the end of a session, for no client is left."""
    reader = member.node.keys.view()
    try:
        return key in KEYS and reader.absent_index(key) > before
    finally:
        reader.close()


def _cut_short(storage: MemoryStorage, before: str) -> None:
    """Have the power fail before the batch of `become`, or before the flush after it."""

    def cut(*_: Any) -> None:
        raise StorageError("the power was cut")

    async def cut_later() -> None:
        raise StorageError("the power was cut")

    if before == "batch":
        storage._commit_log = cut  # type: ignore[method-assign,assignment]
    else:
        storage.flush = cut_later  # type: ignore[method-assign]
