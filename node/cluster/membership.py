"""Membership as the leader keeps it: the configuration follows what the log wants.

Who belongs to the cluster is wished for in the replicated state (`PutMember`, `RemoveMember`), and
made true here: the leader compares wishes and configuration, and takes one step after the other
until they agree. A leader that dies half-way leaves nothing undone, because the next one compares too.

No protocol decision is taken here: whether a step is possible now is the core's to say.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import msgspec
import structlog
import trio

from ..driver.replica import Replica
from ..driver.requests import Request
from ..errors import HstoreError, NoLeader, Overloaded, Refused, Unavailable
from ..model import commands, values
from ..model.cluster_info import PROTOCOL, JoinReply, JoinRequest
from ..model.commands import ChangeMember, Member, PutMember, RemoveMember
from ..net.flag import Flag
from ..peers.link import is_address
from ..peers.wire import ForwardKind
from ..raft.events import ProposeConfigChange, TransferLeader
from ..raft.membership import ConfigChange, ConfigChangeKind, Configuration
from ..raft.roles import Role
from .status import Status

_STEP_SECONDS = 5.0
"""For one membership change to be committed before it is looked at again."""

_ABREAST_SECONDS = 1.0
"""For the voters that a removal leaves to have the leader's first entry, before it is refused."""

_MAX_REQUESTS = 256
"""Joins and removals that may wait at once; one more is refused as overload."""

_log = structlog.get_logger()


class Membership:
    """Joins, removals, promotions, demotions, transfers; at the leader only."""

    def __init__(self, replica: Replica, status: Status) -> None:
        """Nothing happens before `run`."""
        self._replica = replica
        self._status = status
        self._look = Flag()
        self._settled = trio.Event()
        self._nursery: trio.Nursery | None = None
        self._requests = 0
        self._wishing = trio.Lock()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the configuration as it is wished for, whenever this node leads."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            try:
                while True:
                    await self._look.wait()
                    if self._replica.core.role is Role.LEADER:
                        await self._reconcile()
            finally:
                self._nursery = None  # the driver may take one more turn while all is ended

    def look(self) -> None:
        """Something may have changed: compare again."""
        self._look.set()
        settled, self._settled = self._settled, trio.Event()
        settled.set()

    def tick(self) -> None:
        """Time has passed, and somebody may be ready by now: compare again if it can matter."""
        # Who waits here may do so since this node led.
        if self._requests or (self._replica.core.role is Role.LEADER and self._is_one_open()):
            self.look()

    def _is_one_open(self) -> bool:
        """Whether a wish is not yet true: else nothing can be due, whatever has changed."""
        config, wished = self._replica.core.config, self._replica.state.members
        return set(config.all_members()) != wished.keys() or any(
            config.is_voter(node) is (member.learner or member.stopped)
            for node, member in wished.items()
        )

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
        node = member.id
        command = commands.encode(PutMember(member))
        await self._until_founded(deadline)
        outcome = await self._replica.request(ForwardKind.WRITE, command, deadline)
        if not outcome.ok:
            raise Refused(outcome.text)
        await self._wait_until(lambda config: node in config.all_members(), deadline)
        state = self._replica.state
        peers = {f"{m.id:016x}": m.peer_address for m in state.members.values()}
        return JoinReply(state.cluster_id, outcome.text, state.settings.zone, peers)

    async def _until_founded(self, deadline: float) -> None:
        """Wait until the founder is a member: who came before it could have its name.

        The founder would be refused then, and the cluster could only wish its one voter away.
        """
        with trio.move_on_at(deadline):
            while not self._replica.state.members:
                await self._settled.wait()
            return
        raise NoLeader("the cluster is only just being founded; try again in a moment")

    async def _remove(self, name: str, deadline: float) -> None:
        """Wish a member away, and wait until it is out of the configuration."""
        async with self._one_at_a_time(deadline):
            member = self._find(name)
            if not self._rest(member):
                raise Refused(
                    f"{member.name} is the only voter: to end the cluster, stop it "
                    f"(hstore stop -h {member.address})"
                )
            await self._check_majority(member, deadline)
            command = commands.encode(RemoveMember(member.id))
            await self._replica.request(ForwardKind.WRITE, command, deadline)
        await self._wait_until(lambda config: member.id not in config.all_members(), deadline)

    async def _stop(self, name: str, deadline: float) -> None:
        """Take a member that is about to stop out of the quorum, so that the others keep one.

        The only voter just stops. Who is to be the last one waits until the others are out: that
        takes its vote.
        """
        async with self._one_at_a_time(deadline):
            member = self._find(name)
            is_last = not self._rest(member)
            if not is_last:
                await self._check_majority(member, deadline)
                await self._change(ChangeMember(member.id, stopped=True), deadline)
        if is_last:
            await self._wait_until(lambda config: config.all_voters() == (member.id,), deadline)
        else:
            await self._wait_until(lambda config: not config.is_voter(member.id), deadline)

    async def _demote(self, name: str, deadline: float) -> None:
        """Have a member be a learner for good, and wait until it is one.

        A leader first has another one lead, which then does it: else there would be none for an
        election timeout.
        """
        async with self._one_at_a_time(deadline):
            member = self._find(name)
            is_leading = member.id == self._replica.core.id
            if not member.learner:
                if not self._rest(member):
                    raise Refused(
                        f"{member.name} is the only voter: a cluster needs one; let another node "
                        "join and become a voter first"
                    )
                await self._check_majority(member, deadline)
                if not is_leading:
                    await self._change(ChangeMember(member.id, learner=True), deadline)
        if is_leading and self._rest(member):
            await self.hand_over("", deadline)
            await self._replica.request(ForwardKind.DEMOTE, name.encode(), deadline)
        else:
            await self._wait_until(lambda config: not config.is_voter(member.id), deadline)

    async def _promote(self, name: str, deadline: float) -> None:
        """Have a member be a voter again, as soon as it has caught up and runs."""
        member = self._find(name)
        if member.learner:
            await self._change(ChangeMember(member.id, learner=False), deadline)

    async def _change(self, command: ChangeMember, deadline: float) -> None:
        data = commands.encode(command)
        outcome = await self._replica.request(ForwardKind.WRITE, data, deadline)
        if not outcome.ok:
            raise Refused(outcome.text)

    @contextlib.asynccontextmanager
    async def _one_at_a_time(self, deadline: float) -> AsyncIterator[None]:
        """Look at who would be left, and make the wish, before the next one looks.

        Else each of two would count on the other, and nobody be left.
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
        core = self._replica.core
        if name:
            member = self._find(name)
            if member.id == core.id:
                return
            if not core.config.is_voter(member.id):
                raise Refused(f"{member.name} is a learner: only a voter can lead")
            if not self._status.is_live(member.id):
                raise Refused(f"{member.name} is not live: it could not lead")
            to = member.id
        else:
            to = self._successor()
        await self._replica.ask_core(lambda rid: TransferLeader(rid, to), deadline)

    def _successor(self) -> int:
        """Return the voter that could lead soonest, of those that run and are to go on running."""
        core, status = self._replica.core, self._status
        ready = [
            (core.progress[node].match, -node)
            for node in core.config.voters
            if node in core.progress
            and status.is_live(node)
            and not (status.is_ending(node) or self._is_going(node))
        ]
        if not ready:
            raise Refused("there is no other live voter that could lead")
        return -max(ready)[1]

    def _rest(self, member: Member) -> list[int]:
        """Return the voters that stay when `member` is none any more, and nobody who goes is."""
        voters = self._replica.core.config.all_voters()
        return [voter for voter in voters if voter != member.id and not self._is_going(voter)]

    def _is_going(self, voter: int) -> bool:
        """Whether it is agreed that `voter` shall be none any more, done or not."""
        wished = self._replica.state.members.get(voter)
        return wished is None or wished.stopped or wished.learner

    async def _check_majority(self, member: Member, deadline: float) -> None:
        """Refuse what would leave no live majority, or none that has what this leader has.

        Who lacks the first entry of this leader may have lost log, and have no vote until it has
        that entry: if it were needed for the next election, there would be none. A new leader
        gives it a moment.
        """
        rest = self._rest(member)
        live = [voter for voter in rest if self._status.is_live(voter)]
        needed = len(rest) // 2 + 1
        if len(live) < needed:
            raise Refused(
                f"without {member.name} only {len(live)} of {len(rest)} voters would be live, "
                "which is no majority: bring another node back first"
            )
        with trio.move_on_at(min(deadline, trio.current_time() + _ABREAST_SECONDS)):
            while sum(map(self._is_abreast, live)) < needed:
                await self._settled.wait()
            return
        raise Refused(
            f"without {member.name} too few of the live voters would be up to date: wait until "
            "they have caught up"
        )

    def _is_abreast(self, voter: int) -> bool:
        """Whether `voter` has, durably, the first entry of this leader."""
        core = self._replica.core
        progress = core.progress.get(voter)
        return voter == core.id or (progress is not None and progress.match >= core.noop_index)

    def _find(self, name: str) -> Member:
        return find(self._replica.state.members, name)

    async def _wait_until(self, holds: Callable[[Configuration], bool], deadline: float) -> None:
        """Wait until something holds of the configuration, and that is committed."""
        core = self._replica.core
        with trio.move_on_at(deadline):
            while True:
                committed = core.log.commit >= core.history.index
                if committed and holds(core.config):
                    return
                settled = self._settled
                self._look.set()
                await settled.wait()
        raise Unavailable("the membership change is agreed, but not in force yet: see hstore list")

    # -- making them true -------------------------------------------------------------------

    async def _reconcile(self) -> None:
        """Take one step, if one is due."""
        if not self._due():
            return
        deadline = trio.current_time() + _STEP_SECONDS
        try:
            # Nothing may be proposed before the no-op of the term is committed (rule D10).
            await self._replica.read_barrier(deadline)
            changes = self._due()
            if not changes:
                return
            await self._replica.ask_core(lambda rid: ProposeConfigChange(rid, changes), deadline)
        except HstoreError as error:
            _log.info("membership change put off", why=str(error))
            return
        done = ", ".join(f"{change.kind.name} {change.node:016x}" for change in changes)
        _log.info("membership changed", changes=done)
        self.look()

    def _due(self) -> tuple[ConfigChange, ...]:
        """Return the changes that bring the configuration to the wishes, as far as it can be now.

        All of them are proposed as one: the core goes through a joint configuration where several
        voters change, so that to replace a node is one step.
        """
        replica = self._replica
        config, wished = replica.core.config, replica.state.members
        if not wished or replica.state.applied < replica.core.noop_index:
            # A configuration holds from its append on, a wish from its apply: a new leader that
            # has not yet applied all it took over knows members before it knows their wishes.
            return ()
        present = config.all_members()
        # Since a wish was agreed to, one of those who stay may have lost log.
        staying = [voter for voter in config.all_voters() if not self._is_going(voter)]
        may_go = 2 * sum(map(self._is_abreast, staying)) > len(staying)
        changes = [
            ConfigChange(ConfigChangeKind.REMOVE, node)
            for node in present
            if node not in wished and (may_go or not config.is_voter(node))
        ]
        ready = replica.core.learners_caught_up()
        for node, member in sorted(wished.items()):
            votes = not (member.learner or member.stopped)
            if node not in present or (config.is_voter(node) and not votes and may_go):
                changes.append(ConfigChange(ConfigChangeKind.ADD_LEARNER, node))
            elif node in ready and votes and self._status.is_live(node):
                changes.append(ConfigChange(ConfigChangeKind.ADD_VOTER, node))
        return tuple(changes)


def find(members: Mapping[int, Member], name: str) -> Member:
    """Return the member with a name, an API address or an id (16 hex digits).

    Raises:
        Refused: There is none.
    """
    for member in members.values():
        if name in (member.name, member.address, f"{member.id:016x}"):
            return member
    names = ", ".join(sorted(member.name for member in members.values()))
    raise Refused(f"no member is called {name}; the members are {names}")


def _member_of(join: JoinRequest) -> Member:
    """Return the member that a newcomer asks to be.

    Every node acts on what is in the log, so nothing gets there that some node would fall over.

    Raises:
        Refused: The id is none, an address is not `HOST:PORT` with an IP literal, or the name is not
            a DNS label.
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
