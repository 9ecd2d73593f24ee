"""Who runs the cluster: nodes join, leave, are stopped and replaced, and the lead is moved about.

All of it over HTTP, as the command line does it. What is refused or not answered is no failure: the
checker, and the peace at the end, say whether the cluster has come through.
"""

from __future__ import annotations

import json
from random import Random
from typing import TYPE_CHECKING

import trio

from hstore.node.model.cluster_info import PROTOCOL

from .clients import LOST, Answer, Connection
from .lockers import Keeper
from .member import SimMember
from .wires import CLIENTS

if TYPE_CHECKING:
    from .simulation import WholeSimulation

_MOST_MEMBERS = 6
_MOST_REPLACED = 8
"""Beyond what joins make: a member that is replaced is among them until it has run once more."""

_ATTEMPTS = 6
_ATTEMPT_PAUSE_S = 0.2

_PATIENCE_S = 4.0

_NEWCOMER_S = 10.0
"""For a newcomer to catch up, to vote and to lead, in peace; or for those that are back to elect."""

_SNAPSHOT_S = 0.5
"""For a snapshot to begin, if there is to be one."""


class Operator:
    """Does one thing after the other."""

    def __init__(self, sim: WholeSimulation) -> None:
        self.sim = sim
        self.counts = sim.counts

    async def act(self, rng: Random) -> None:
        """Do something."""
        members = [m for m in self.sim.members.values() if not m.is_gone]
        up = [m for m in members if m.is_up]
        if not up:
            return
        at, whom = rng.choice(up), rng.choice(members)
        kind = rng.choice(("join", "join learner", "remove", "leave", "transfer", "transfer to"))
        if kind.startswith("join") and len(members) < _MOST_MEMBERS:
            await self._join(at, is_learner=kind == "join learner")
        elif kind == "remove" and len(members) > 1:
            await self._tell(kind, at, "/v1/leader/remove", {"node": f"{whom.id:016x}"})
        elif kind == "leave" and len(members) > 1:
            await self._tell(kind, at, "/v1/node/leave", {})
        elif kind.startswith("transfer"):
            to = f"{whom.id:016x}" if kind == "transfer to" else ""
            await self._tell(kind, at, "/v1/leader/transfer", {"to": to})

    async def replace(self, rng: Random) -> None:
        """Have a newcomer take the place of a member, mostly of one that stays down meanwhile.

        Whoever has been answered may have lost the answer, and ask once more.
        """
        members = [m for m in self.sim.members.values() if m.lives and not m.is_gone]
        up = [m for m in members if m.is_up]
        down = [m for m in members if not m.is_up]
        if not up or len(members) >= _MOST_REPLACED:
            return
        whom = rng.choice(down if down and rng.random() < 0.8 else members)
        at, again = rng.choice(up), rng.random() < 0.3
        gate = trio.Event()
        if rng.random() < 0.8:
            self.sim.faults.held[whom.id] = gate
            whom.crash("of one that is to be replaced")
        await self._join(at, is_learner=False, whom=whom, again=again)
        gate.set()
        self.sim.faults.held.pop(whom.id, None)

    async def configure(self, rng: Random) -> None:
        """Change a setting of the cluster, or the name or the type of a node."""
        members = [m for m in self.sim.members.values() if not m.is_gone]
        up = [m for m in members if m.is_up]
        if not up:
            return
        at, whom = rng.choice(up), rng.choice(members)
        kind = rng.choice(("rename", "type", "heartbeat", "election_timeout", "health_interval"))
        if kind == "rename":
            # Few names, so that two nodes want the same one.
            name = rng.choice(("a", "b", f"n{len(members)}"))
            await self._tell(kind, at, "/v1/node/rename", {"node": f"{whom.id:016x}", "name": name})
            return
        # Never slower than at the beginning: what is owed to clients is counted in that.
        settings = self.sim.options.settings
        heartbeat = settings.heartbeat_ms
        values: dict[str, tuple[str, ...]] = {
            "type": ("learner", "voter", "voter"),
            "heartbeat": (f"{heartbeat // 2}ms", f"{heartbeat}ms"),
            "election_timeout": tuple(f"{heartbeat * factor}ms" for factor in (4, 10)),
            "health_interval": ("50ms", "100ms", "500ms"),
        }
        if not self.sim.options.pre_vote:
            # Who is behind keeps to the old timeout. Should that be the shorter one, nothing but a
            # pre-vote, which every real node has, keeps it from deposing all that are elected.
            values["heartbeat"] = (f"{heartbeat}ms",) * 2
            values["election_timeout"] = (f"{settings.election_timeout_ms}ms",) * 2
        key = f"{whom.id:016x}.type" if kind == "type" else kind
        value = rng.choice(values[kind])
        await self._tell(f"config {kind}", at, f"/v1/config/{key}", {"value": value}, "PUT")

    async def clear_up(self) -> None:
        """At the end: start who was let in without being told, remove whose disk is of no use."""
        self.sim.faults.start_strangers()
        leader = self.sim.leader()
        for node in leader.core.config.all_members() if leader is not None else ():
            member = self.sim.members[node]
            if leader is not None and member.is_gone and not member.was_removed:
                await self._tell("clear up", leader, "/v1/leader/remove", {"node": f"{node:016x}"})

    async def stop(self, rng: Random) -> None:
        """Stop a node cleanly; it is started again some time."""
        up = [m for m in self.sim.members.values() if m.is_up]
        if up:
            await self._tell("stop", rng.choice(up), "/v1/node/stop", {})

    async def end_all(self, rng: Random) -> None:
        """Stop all nodes cleanly through one of them; each is started again some time."""
        up = [m for m in self.sim.members.values() if m.is_up]
        if up:
            await self._tell("stop all", rng.choice(up), "/v1/cluster/stop", {})

    async def hand_over(self, rng: Random) -> None:
        """Have the leader hand over, to whom it likes, while what it sends is late."""
        leader = self.sim.leader()
        if leader is not None and not self.sim.is_healed:
            self.sim.nursery.start_soon(self.sim.faults.hold_back, leader, rng.uniform(0.0, 0.2))
            await self.transfer(leader)

    async def transfer(self, leader: SimMember) -> None:
        """Have a leader hand over, to whom it likes."""
        await self._tell("transfer", leader, "/v1/leader/transfer", {"to": ""})

    async def let_go(self, rng: Random, but: SimMember) -> None:
        """Remove or stop somebody else than one that may be missed already."""
        up = [m for m in self.sim.members.values() if m.is_up and m is not but]
        if not up:
            return
        whom, self_asked = rng.choice(up), rng.random() < 0.5
        self.counts["let go while another has lost log"] += 1
        if self_asked:
            await self._tell("stop", whom, "/v1/node/stop", {})
        else:
            node: dict[str, object] = {"node": f"{whom.id:016x}"}
            await self._tell("remove", rng.choice(up), "/v1/leader/remove", node)

    async def have_a_newcomer_lead(self) -> None:
        """In peace: somebody joins, and leads, while a follower is down, which has never heard of it."""
        leader = self.sim.leader()
        if leader is None:
            return
        followers = [v for v in leader.core.config.voters if v != leader.id]
        if len(followers) < 2:
            return
        absent = self.sim.members[followers[0]]
        absent.is_held = True
        absent.crash("of one that a newcomer leads later")
        await self._join(leader, is_learner=False)
        newest = self.sim.members[max(self.sim.members)]
        with trio.move_on_after(_NEWCOMER_S):
            while not newest.is_leader:
                await trio.sleep(_ATTEMPT_PAUSE_S)
                now = self.sim.leader()
                if now is not None and now.core.config.is_voter(newest.id):
                    to: dict[str, object] = {"to": f"{newest.id:016x}"}
                    await self._tell("transfer to a newcomer", now, "/v1/leader/transfer", to)
            self.counts["a newcomer leads one that was down"] += 1
        absent.is_held = False
        absent.start()
        await self._cut_a_snapshot_short(absent)

    async def _cut_a_snapshot_short(self, member: SimMember) -> None:
        """If a snapshot comes in soon, have the member die in the middle of it; it is started again."""
        with trio.move_on_after(_SNAPSHOT_S):
            while not (  # noqa: ASYNC110 - nothing says that one begins
                member.is_up and member.node.snapshot_receiver._staging is not None
            ):
                await trio.sleep(0.001)
            self.counts["a snapshot is cut short in peace"] += 1
            member.crash("in the middle of a snapshot, in peace")

    async def cut_a_removal_short(self) -> None:
        """In peace: all die while a member goes, and its vote is needed once more when they are back.

        Its record has gone, but the configuration without it is not committed.
        """
        leader = self.sim.leader()
        voters = leader.core.config.voters if leader is not None else ()
        if leader is None or len(voters) < 2:
            return
        gone = next(v for v in voters if v != leader.id)
        caught: list[SimMember] = []
        async with trio.open_nursery() as nursery:
            node: dict[str, object] = {"node": f"{gone:016x}"}
            nursery.start_soon(self._tell, "remove in peace", leader, "/v1/leader/remove", node)
            with trio.move_on_after(_PATIENCE_S):
                while not caught:
                    await trio.lowlevel.checkpoint()
                    caught = [m for m in self.sim.members.values() if _misses_record_of(m, gone)]
                    if not caught:
                        await trio.sleep(0.0005)
                for member in self.sim.members.values():
                    member.crash("of everybody, while a member goes")
            nursery.cancel_scope.cancel()
        if not caught:
            return
        self.counts["a removal is cut short"] += 1
        needed = [caught[0].id, gone, *(v for v in voters if v not in (caught[0].id, gone))]
        for node_id in needed[len(voters) // 2 + 1 :]:
            self.sim.members[node_id].is_held = True
        with trio.move_on_after(_NEWCOMER_S) as scope:
            while self.sim.leader() is None:  # noqa: ASYNC110 - as in `_settle`
                await trio.sleep(0.05)
        if scope.cancelled_caught:
            self.sim.fail(f"L1: without the vote of {gone}, which goes: {self.sim.describe()}")
        for member in self.sim.members.values():
            member.is_held = False
            member.start()

    async def lose_the_leader_as_a_member_goes(self) -> None:
        """In peace: it dies before it has ended all sessions of that member; the next one has to (E2)."""
        leader = self.sim.leader()
        voters = leader.core.config.voters if leader is not None else ()
        if leader is None or len(voters) < 3:
            return
        gone, *others = (self.sim.members[v] for v in voters if v != leader.id)
        keepers = [Keeper(self.sim.clients, 2007 + n, Random(n)) for n in range(3)]
        for keeper in keepers:
            await keeper.make_on_node(gone, has_check=False)
            keeper.close()
        async with trio.open_nursery() as nursery:
            node: dict[str, object] = {"node": f"{gone.id:016x}"}
            nursery.start_soon(self._tell, "remove in peace", leader, "/v1/leader/remove", node)
            with trio.move_on_after(_PATIENCE_S):
                while not any(  # noqa: ASYNC110 - looked at from outside
                    _misses_record_of(one, gone.id) for one in others
                ):
                    await trio.sleep(0.0005)
                self.counts["leaders lost as a member goes"] += 1
                leader.is_held = True
                leader.crash("of a leader, while a member goes")
            nursery.cancel_scope.cancel()
        with trio.move_on_after(_NEWCOMER_S):
            while self.sim.leader() is None:  # noqa: ASYNC110 - as in `_settle`
                await trio.sleep(0.05)
        leader.is_held = False
        leader.start()

    async def _join(
        self, at: SimMember, *, is_learner: bool, whom: SimMember | None = None, again: bool = False
    ) -> None:
        newcomer = SimMember(self.sim, max(self.sim.members) + 1)
        self.sim.members[newcomer.id] = newcomer
        settings = newcomer.settings
        kind = "replace" if whom else "join a learner" if is_learner else "join"
        request: dict[str, object] = {
            "id": f"{newcomer.id:016x}",
            "address": settings.api_address,
            "peer_address": settings.peer_address,
            "dns_address": settings.dns_address,
            "protocol": PROTOCOL,
            "learner": is_learner,
            "replace": f"{whom.id:016x}" if whom else "",
        }
        answer = await self._tell(kind, at, "/v1/cluster/join", request)
        for _ in range(_ATTEMPTS if whom else 0):
            if answer is not None and answer.status == 200 and not again:
                break
            again = again and (answer is None or answer.status != 200)
            await trio.sleep(_ATTEMPT_PAUSE_S)
            others = [m for m in self.sim.members.values() if m.is_up and m is not whom]
            at = others[0] if others else at
            answer = await self._tell(kind, at, "/v1/cluster/join", request) or answer
        if answer is not None and answer.status == 200:
            if whom is not None:
                self.sim.checker.replaced.add(whom.id)
            peers = answer.json()["peers"]
            newcomer.hints = {int(node, 16): address for node, address in peers.items()}
            newcomer.start()

    async def _tell(
        self, kind: str, at: SimMember, path: str, body: dict[str, object], method: str = "POST"
    ) -> Answer | None:
        self.counts[kind] += 1
        answer = None
        with trio.move_on_after(_PATIENCE_S + 2):
            try:
                end = await self.sim.wires.dial(CLIENTS, at.settings.api_address)
                target = f"{path}?timeout={int(_PATIENCE_S)}s"
                headers = ("Content-Type: application/json",)
                answer = await Connection(at, end).ask(
                    method, target, json.dumps(body).encode(), headers
                )
                end.close()
            except LOST:
                pass
        if answer is None:
            self.counts[f"{kind}: no answer"] += 1
        elif answer.status == 200:
            self.counts[f"{kind}: done"] += 1
        elif answer.status not in ((400, 409, 503) if method == "PUT" else (409, 503)):
            self.sim.fail(f"I14: {kind} gets HTTP {answer.status}: {answer.body!r:.300}")
        return answer


def _misses_record_of(member: SimMember, gone: int) -> bool:
    """Whether a node knows that a member goes, which is a voter there still."""
    if not member.is_up or member.id == gone or not member.core.config.is_voter(member.id):
        return False
    return gone not in member.node.replica.state.members and gone in member.core.config.all_voters()
