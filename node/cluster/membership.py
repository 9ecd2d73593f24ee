"""Requests to change the membership, as the leader answers them.

A node joins, leaves, stops, becomes a voter or a learner, or is to lead. Each request is checked
against the cluster as it is, written into the log as a wish, and answered when the configuration has
followed: `reconciler.py` brings it about.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import msgspec
import trio

from ..driver.replica import Replica
from ..driver.requests import Request
from ..errors import HstoreError, NoLeader, Overloaded, Refused
from ..model import values
from ..model.cluster_info import PROTOCOL, JoinReply, JoinRequest
from ..model.commands import ChangeMember, Member, PutMember, RemoveMember, ReplaceMember
from ..model.values import is_address, split_address
from ..peers.wire import ForwardKind
from ..raft.events import TransferLeader
from .reconciler import Reconciler
from .status import Status

_ABREAST_SECONDS = 1.0
"""For the voters that a removal leaves to have the leader's first entry, before it is refused."""

_NAMED_MAX = 64
"""Characters of a name, an address or an id: a DNS label, or an IPv6 literal with its port."""

_MAX_REQUESTS = 256
"""Joins and removals that may wait at once; one more is refused as overload."""


class Membership:
    """Joins, removals, promotions, demotions, transfers; at the leader only."""

    def __init__(self, replica: Replica, status: Status) -> None:
        """Nothing happens before `run`."""
        self._replica = replica
        self._facts = replica.facts
        self._status = status
        self._reconciler = Reconciler(replica, status)
        self._nursery: trio.Nursery | None = None
        self._requests = 0
        self._wishing = trio.Lock()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Answer requests, and keep the configuration as it is wished for, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            try:
                await self._reconciler.run()
            finally:
                self._nursery = None  # the driver may take one more turn while all is ended

    def look(self) -> None:
        """Something may have changed: compare again."""
        self._reconciler.look()

    def tick(self) -> None:
        """Time has passed, and a node may be ready by now: compare again if it can matter."""
        # A request may have waited here since this node led.
        if self._requests or (self._facts.is_leader and self._reconciler.is_one_open()):
            self.look()

    def handle(self, request: Request) -> None:
        """Take a request of another node or of this one's API; answers it in its own time."""
        if self._requests >= _MAX_REQUESTS:
            request.finish(Overloaded("too many wait to join or to leave; try again in a moment"))
        elif self._nursery is not None:
            self._requests += 1
            self._nursery.start_soon(self._handle, request)

    async def _handle(self, request: Request) -> None:
        try:
            if request.kind == ForwardKind.JOIN:
                join = msgspec.json.decode(request.data, type=JoinRequest)
                request.finish(await self._join(join, request.deadline))
            else:
                do = _HANDLERS[ForwardKind(request.kind)]
                await do(self, request.data.decode(), request.deadline)
                request.finish(None)
        except HstoreError as error:
            request.finish(error)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            request.finish(Refused(f"the request is not understood: {error}"))
        finally:
            self._requests -= 1

    # -- wishes -----------------------------------------------------------------------------

    async def _join(self, join: JoinRequest, deadline: float) -> JoinReply:
        """Wish for a member, and wait until it is a learner."""
        if join.protocol != PROTOCOL:
            raise Refused(
                f"this cluster speaks protocol {PROTOCOL}, the node speaks {join.protocol}: "
                "install the same version of hstore on both"
            )
        member = _member_of(join)
        await self._until_founded(deadline)
        if join.replace:
            name = await self._replace(member, join.replace, deadline)
        else:
            name = (await self._replica.agree(PutMember(member), deadline)).text
        node, facts = member.id, self._facts
        await self._reconciler.wait_until(lambda config: node in config.all_members(), deadline)
        peers = {f"{m.id:016x}": m.peer_address for m in facts.members.values()}
        return JoinReply(facts.cluster_id, name, facts.settings.zone, peers)

    async def _replace(self, member: Member, which: str, deadline: float) -> str:
        """Wish for a member in the place of another that is gone, and return its name.

        Both are one entry: no moment is left in which the name is free and the newcomer unknown. The
        configuration follows in one step too.
        """
        async with self._one_at_a_time(deadline):
            gone = self._replaced(member, which)
            if gone is None:
                return (await self._replica.agree(PutMember(member), deadline)).text
            self._refuse_running(gone)
            await self._check_majority(gone, deadline)
            self._refuse_running(gone)  # that may have taken a moment
            outcome = await self._replica.agree(ReplaceMember(member, gone.id), deadline)
        return outcome.text

    def _refuse_running(self, gone: Member) -> None:
        if self._status.is_running(gone.id):
            raise Refused(
                f"{gone.name} at {gone.address} is alive, so it cannot be replaced; "
                f"`hstore stop -h {gone.name}` stops it, on its own machine"
            )

    def _replaced(self, member: Member, which: str) -> Member | None:
        """Return the member whose place this one is to take; None: it has it already.

        Then the answer to the same request was lost: the newcomer is a member, and the other one is
        none any more. The newcomer may have its name and its address by now.

        Raises:
            Refused: There is no such member.
        """
        try:
            gone = self._find(which)
        except Refused:
            if member.id in self._facts.members:
                return None
            raise
        return None if gone.id == member.id else gone

    async def _until_founded(self, deadline: float) -> None:
        """Wait until the founder is a member: a node that joined before it could have its name.

        The founder would be refused then, and the cluster could only wish its one voter away.
        """
        with trio.move_on_at(deadline):
            seen = self._reconciler.changes.count
            while not self._facts.members:
                seen = await self._reconciler.changes.wait(seen)
            return
        raise NoLeader("the cluster is only just being founded; try again in a moment")

    async def _remove(self, name: str, deadline: float) -> None:
        """Wish a member away, and wait until it is out of the configuration."""
        async with self._one_at_a_time(deadline):
            member = self._find(name)
            if not self._reconciler.rest(member):
                raise Refused(
                    f"{member.name} is the only voter: to end the cluster, stop it "
                    f"(hstore stop -h {member.address})"
                )
            await self._check_majority(member, deadline)
            await self._replica.propose(RemoveMember(member.id), deadline)
        await self._reconciler.wait_until(
            lambda config: member.id not in config.all_members(), deadline
        )

    async def _stop(self, name: str, deadline: float) -> None:
        """Take a member that is about to stop out of the quorum, so that the others keep one.

        The only voter just stops. The one that is to be the last waits until the others are out:
        that takes its vote.
        """
        async with self._one_at_a_time(deadline):
            member = self._find(name)
            is_last = not self._reconciler.rest(member)
            if not is_last:
                await self._check_majority(member, deadline)
                await self._replica.agree(ChangeMember(member.id, stopped=True), deadline)
        if is_last:
            await self._reconciler.wait_until(
                lambda config: config.all_voters() == (member.id,), deadline
            )
        else:
            await self._until_no_voter(member, deadline)

    async def _until_no_voter(self, member: Member, deadline: float) -> None:
        await self._reconciler.wait_until(lambda config: not config.is_voter(member.id), deadline)

    async def _demote(self, name: str, deadline: float) -> None:
        """Have a member be a learner for good, and wait until it is one.

        A leader first has another one lead, which then does it: else there would be none for an
        election timeout.
        """
        async with self._one_at_a_time(deadline):
            member = self._find(name)
            is_leading = member.id == self._facts.id
            if not member.learner:
                if not self._reconciler.rest(member):
                    raise Refused(
                        f"{member.name} is the only voter: a cluster needs one; let another node "
                        "join and become a voter first"
                    )
                await self._check_majority(member, deadline)
                if not is_leading:
                    await self._replica.agree(ChangeMember(member.id, learner=True), deadline)
        if is_leading and self._reconciler.rest(member):
            await self.hand_over("", deadline)
            await self._replica.request(ForwardKind.DEMOTE, name.encode(), deadline)
        else:
            await self._until_no_voter(member, deadline)

    async def _promote(self, name: str, deadline: float) -> None:
        """Have a member be a voter again, as soon as it has caught up and runs."""
        member = self._find(name)
        if member.learner:
            await self._replica.agree(ChangeMember(member.id, learner=False), deadline)

    @contextlib.asynccontextmanager
    async def _one_at_a_time(self, deadline: float) -> AsyncIterator[None]:
        """Have one request look at which voters would be left, and make its wish, before the next.

        Else each of two would count on the voter that the other takes away.
        """
        with trio.move_on_at(deadline) as waiting:
            await self._wishing.acquire()
        if waiting.cancelled_caught:
            raise NoLeader("other members are being removed or stopped; try again")
        try:
            # What earlier leaders have agreed to is in the state then.
            await self._replica.read_barrier(deadline)
            yield
        finally:
            self._wishing.release()

    async def hand_over(self, name: str, deadline: float) -> None:
        """Hand leadership to a member, or to the one that is furthest, if this node leads.

        Raises:
            Refused, NoLeader: It cannot be.
            Unavailable, OutcomeUnknown: It was begun, and given up or lost sight of.
        """
        facts = self._facts
        if name:
            member = self._find(name)
            if member.id == facts.id:
                return
            if not facts.config.is_voter(member.id):
                raise Refused(f"{member.name} is a learner: only a voter can lead")
            if not self._status.is_live(member.id):
                raise Refused(f"{member.name} is not live: it could not lead")
            if self._status.is_short(member.id):
                shortage = self._status.shortage_of(member.id)
                raise Refused(f"{shortage}: as the leader it would refuse every write")
            to = member.id
        else:
            to = self._successor()
        await self._replica.ask_core(lambda rid: TransferLeader(rid, to), deadline)

    def _successor(self) -> int:
        """Return the voter that could lead soonest."""
        ready = self.successors()
        if not ready:
            raise Refused("there is no other live voter with room on its disk that could lead")
        return -max(ready)[1]

    def successors(self) -> list[tuple[int, int]]:
        """Return the voters that could lead, each as (how far its log surely is, -id).

        Those that run, are to go on running, and have room on their disks.
        """
        facts, status = self._facts, self._status
        return [
            (match, -node)
            for node in facts.config.voters
            if (match := facts.match_of(node)) is not None
            and status.is_live(node)
            and not (status.is_ending(node) or self._reconciler.is_going(node))
            and not status.is_short(node)
        ]

    async def _check_majority(self, member: Member, deadline: float) -> None:
        """Refuse what would leave no live majority, or none that has what this leader has.

        A voter without the first entry of this leader may have lost log, and has no vote until it
        has that entry: if it were needed for the next election, nobody could win. A new leader gives
        it a moment.
        """
        rest = self._reconciler.rest(member)
        live = [voter for voter in rest if self._status.is_live(voter)]
        needed = len(rest) // 2 + 1
        if len(live) < needed:
            raise Refused(
                f"without {member.name} only {len(live)} of {len(rest)} voters would be live, "
                "which is no majority: bring another node back first"
            )
        with trio.move_on_at(min(deadline, trio.current_time() + _ABREAST_SECONDS)):
            seen = self._reconciler.changes.count
            while sum(map(self._facts.has_own_term, live)) < needed:
                seen = await self._reconciler.changes.wait(seen)
            return
        raise Refused(
            f"without {member.name} too few of the live voters would be up to date: wait until "
            "they have caught up"
        )

    def _find(self, name: str) -> Member:
        return find(self._facts.members, name)


def find(members: Mapping[int, Member], name: str) -> Member:
    """Return the member with a name, an API address (a host alone: port 8500) or an id (16 hex digits).

    Raises:
        Refused: There is none.
    """
    try:
        address = str(split_address(name))
    except ValueError:
        address = name
    for member in members.values():
        if name in (member.name, f"{member.id:016x}") or address == member.address:
            return member
    names = ", ".join(sorted(member.name for member in members.values()))
    raise Refused(f"no member is called {name}; the members are {names}")


def _member_of(join: JoinRequest) -> Member:
    """Return the member that a newcomer asks to be.

    Every node acts on what is in the log, so nothing gets there that some node would fall over.

    Raises:
        Refused: The id is none, an address is not `HOST:PORT` with an IP literal, the name is not a
            DNS label, or what it replaces can be no member.
    """
    if not re.fullmatch("[0-9a-f]{16}", join.id) or int(join.id, 16) == 0:
        raise Refused(f"{join.id[:32]!r} is not the id of a node: 16 hex digits, not all 0")
    for address in (join.address, join.peer_address, join.dns_address):
        if not is_address(address):
            raise Refused(f"{address[:64]!r} is not an address: HOST:PORT with an IP literal")
    if join.name:
        try:
            values.label(join.name)
        except ValueError as error:
            raise Refused(f"{join.name[:64]!r} is not a node's name; allowed: {error}") from None
    if len(join.replace) > _NAMED_MAX:
        raise Refused(f"{join.replace[:64]!r} is neither a node's name, nor its address or id")
    return Member(
        int(join.id, 16),
        join.name,
        join.address,
        join.peer_address,
        join.dns_address,
        join.learner,
    )


_HANDLERS: dict[ForwardKind, Callable[[Membership, str, float], Awaitable[None]]] = {
    ForwardKind.REMOVE: Membership._remove,  # noqa: SLF001 - it is the class's own table
    ForwardKind.STOP: Membership._stop,  # noqa: SLF001
    ForwardKind.TRANSFER: Membership.hand_over,
    ForwardKind.DEMOTE: Membership._demote,  # noqa: SLF001
    ForwardKind.PROMOTE: Membership._promote,  # noqa: SLF001
}
