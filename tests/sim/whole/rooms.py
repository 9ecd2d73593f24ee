"""Disks with little room: whose has none for how long, and what must follow.

S2: no leader takes new values when the voters with room have been no majority for a while, or fills
its own disk. Looked at only where the leader can know (`is_calm`). A follower that is short alone
is filled, and ends; it comes back when there is room.
L7: what is deleted brings the room back: writes are taken again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import trio

from hstore.node.errors import HstoreError, NoSpace
from hstore.node.model import commands
from hstore.node.model.commands import DeletePrefix, Effect
from hstore.node.raft import quorum
from hstore.node.raft.entry import Entry, EntryKind
from hstore.node.raft.quorum import VoteResult
from hstore.node.raft.roles import Role

if TYPE_CHECKING:
    from .member import SimMember
    from .simulation import WholeSimulation

_KNOWN_S = 2.5
"""By then a leader knows of a disk without room: two looks at it, and a health-check interval."""

_BACK_S = 30.0
"""For the room to come back: two reclaims, and an election where nobody has room."""


class Rooms:
    """Watches the disks of one run."""

    def __init__(self, sim: WholeSimulation) -> None:
        self.sim = sim
        self._is_tended = False

    async def run(self) -> None:
        """Look at the disks again and again."""
        while self.sim.options.capacity:
            for member in self.sim.members.values():
                if not member.is_up or not member.node.replica.disk_space.is_short:
                    member.short_since = math.inf
                elif member.short_since == math.inf:
                    self.sim.counts["disks short of room"] += 1
                    member.short_since = trio.current_time()
            await trio.sleep(0.1)

    def written(self, member: SimMember, entries: Sequence[Entry]) -> None:
        """A node writes entries: does a leader take values that it had to refuse?"""
        if not (self.sim.options.is_calm and member.is_leader) or not any(map(_is_value, entries)):
            return
        long_ago = trio.current_time() - _KNOWN_S
        config, members = member.core.config, self.sim.members
        roomy = {voter: members[voter].short_since > long_ago for voter in config.all_voters()}
        if quorum.vote_result(config, roomy) is not VoteResult.WON:
            short = [voter for voter in roomy if not roomy[voter]]
            self.sim.fail(f"S2: node {member.id} takes values, and {short} have no room for them")

    def ended(self, member: SimMember) -> None:
        """A node has ended for lack of room: did it lead, and could have refused?"""
        if self.sim.options.is_calm and member.core.role is Role.LEADER:
            self.sim.fail(f"S2: node {member.id} fills its own disk")
        member.is_full = True
        if self._is_tended:
            self.make_room()

    def make_room(self) -> None:
        """From now on whoever runs the machines makes room where a node has ended for lack of it.

        The values that it lacks come before the deletion that would take them away again.
        """
        self._is_tended = True
        for member in self.sim.members.values():
            if member.is_full and member.disk.capacity is not None:
                member.disk.capacity *= 8
                member.is_full = False

    async def give_back(self) -> None:
        """Delete the large values, and see that writes are taken again."""
        if not self.sim.options.capacity:
            return
        await self._fill_up()
        with trio.move_on_after(_BACK_S):
            await self._until_deleted()
            while not self._is_back():
                self.make_room()
                await trio.sleep(0.2)
            self.sim.counts["rooms that came back"] += 1
            return
        self.sim.fail(f"L7: what is deleted brings no room back: {self.sim.describe()}")
        await trio.sleep_forever()

    async def _fill_up(self) -> None:
        """Write large values until they are refused, if that comes in time."""
        size = self.sim.options.capacity // 12
        with trio.move_on_after(10):
            for number in range(100):
                leader = self.sim.leader()
                if leader is None:
                    await trio.sleep(0.2)
                    continue
                put = commands.Put(b"fill/up%d" % number, (b"fill-up-%d" % number).ljust(size))
                with trio.move_on_after(3):
                    try:
                        await leader.node.keys.write(put, trio.current_time() + 2)
                    except NoSpace:
                        self.sim.counts["disks filled up at the end"] += 1
                        return
                    except HstoreError:
                        continue

    async def _until_deleted(self) -> None:
        while not await self._delete():
            self.make_room()
            await trio.sleep(0.2)

    async def _delete(self) -> bool:
        leader = self.sim.leader()
        if leader is None:
            return False
        # A life that ends just now answers nobody any more.
        with trio.move_on_after(3):
            try:
                wish = DeletePrefix(b"fill/")
                return (await leader.node.keys.write(wish, trio.current_time() + 2)).ok
            except HstoreError:
                return False
        return False

    def _is_back(self) -> bool:
        up = [member for member in self.sim.members.values() if member.is_up]
        spaces = [member.node.replica.disk_space for member in up]
        return not any(space.is_short or space.refusal for space in spaces)


def _is_value(entry: Entry) -> bool:
    is_command = entry.kind == EntryKind.COMMAND
    return is_command and commands.effect(entry.data) is Effect.TAKES
