"""Who runs the cluster: changes its members, one or several at a time, and moves its leadership.

Whoever leads is asked, also one that leads no more without knowing it: that is where old
majorities are counted. A node that was removed never comes back under its id (rule D14).
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from hstore.node.raft.errors import Reason
from hstore.node.raft.events import ProposeConfigChange, TransferLeader
from hstore.node.raft.membership import ConfigChange, ConfigChangeKind, Configuration, Transition
from hstore.node.raft.progress import ProgressState
from hstore.node.raft.roles import Role

from .options import TICK, stream
from .tape import Strikes, What, decision

if TYPE_CHECKING:
    from .node import SimNode
    from .simulation import Simulation

_MOST_MEMBERS = 7
_MOST_NODES = 12

Step = tuple[str, int]
"""Name of a `ConfigChangeKind`, and the node."""

Wish = tuple[list[Step], str]
"""The steps of one change, and the name of a `Transition`; no steps leave a joint configuration."""


class Operator:
    """The operator of one run.

    Attributes:
        changes: rids of membership changes ever asked for.
        transfers: Node and life of transfers that have no answer yet, by rid.
    """

    def __init__(self, sim: Simulation, seed: int) -> None:
        self.sim = sim
        self.changes: set[int] = set()
        self.transfers: dict[int, tuple[int, int]] = {}
        self._changes = stream(seed, "change")
        self._late_changes = stream(seed, "late change")
        self._haste = stream(seed, "haste")
        self._transfers = stream(seed, "transfer")

    def begin(self) -> None:
        """Start to run the cluster."""
        sim, options = self.sim, self.sim.options
        Strikes(sim, "change", self._changes, self._draw_change, self._change).begin(
            options.change_every
        )
        Strikes(sim, "transfer", self._transfers, self._draw_transfer, self._transfer).begin(
            options.transfer_every
        )

    # -- changes of the membership ------------------------------------------------------------

    def elected(self, leader: SimNode) -> None:
        """Somebody leads now: perhaps its members are changed at once."""
        if self.sim.options.change_every and not self.sim.is_healed:
            haste = self.draw_haste(leader.id)
            if haste is not None:
                self.sim.counts["changes just after an election"] += 1
                self.sim.after(haste, self._change_soon, (leader, leader.boot))

    def _change_soon(self, planned: tuple[SimNode, int]) -> None:
        node, boot = planned
        if node.is_alive(boot):
            self.change_at(node)

    def change_at(self, node: SimNode) -> None:
        """Change something at a node now, if it takes itself for the leader."""
        is_leader = node.core is not None and node.core.role is Role.LEADER
        if is_leader and self.sim.options.change_every and not self.sim.is_healed:
            wish = self.draw_change_at(node.id)
            if wish is not None:
                self._change(node.id, *wish)

    @decision(lambda _, node: node, lambda *_: None)
    def draw_haste(self, node: int) -> int | None:
        """Return how soon after an election the members are changed, if they are."""
        rng = self._haste
        return rng.randrange(2 * TICK) if rng.random() < self.sim.options.change_soon else None

    @decision(lambda _, node: node, lambda *_: None)
    def draw_change_at(self, node: int) -> Wish | None:
        """Return what is changed at this leader now."""
        return self._choose(self.sim.nodes[node], self._late_changes)

    def _draw_change(self) -> What | None:
        leaders = self._leaders()
        if not leaders:
            return None
        node = self._changes.choice(leaders)
        wish = self._choose(node, self._changes)
        return (node.id, *wish) if wish is not None else None

    def _change(self, node_id: int, steps: list[Step], transition: str) -> None:
        node = self.sim.nodes.get(node_id)
        if node is None or node.core is None:
            return
        for kind, member in steps:
            self.sim.counts[f"change: {kind.lower()}"] += 1
            while member > len(self.sim.nodes):
                self.sim.add_node()
        if not steps:
            self.sim.counts["change: leave"] += 1
        changes = tuple(ConfigChange(ConfigChangeKind[kind], member) for kind, member in steps)
        self.ask(node, changes, Transition[transition])

    def ask(self, node: SimNode, changes: tuple[ConfigChange, ...], transition: Transition) -> int:
        """Ask a node for a change; return its rid."""
        rid = self.sim.clients.next_rid()
        self.changes.add(rid)
        node.give(ProposeConfigChange(rid, changes, transition))
        return rid

    def _leaders(self) -> list[SimNode]:
        return [
            node
            for node in self.sim.nodes.values()
            if node.core is not None and node.core.role is Role.LEADER
        ]

    def _choose(self, node: SimNode, rng: Random) -> Wish | None:
        assert node.core is not None
        config, options = node.core.config, self.sim.options
        if config.outgoing and not config.auto_leave and rng.random() < 0.7:
            return [], Transition.AUTO.name
        is_joint = rng.random() < options.joint
        transition = Transition.AUTO
        if is_joint and rng.random() < 0.5:
            transition = rng.choice((Transition.JOINT_EXPLICIT, Transition.JOINT_IMPLICIT))
        steps: list[Step] = []
        if not all(self.sim.nodes[member].is_sound() for member in config.all_members()):
            # First of all whoever is gone for good is replaced: see `disk_faults.py`. And who has
            # lost log cannot vote: to shrink the cluster around it could leave no majority.
            return None
        if is_joint and rng.random() < 0.3:
            # A node is replaced in one step.
            new = self.newcomer([])
            if new is not None:
                kind = (
                    ConfigChangeKind.ADD_VOTER
                    if rng.random() < 0.8
                    else ConfigChangeKind.ADD_LEARNER
                )
                old = node.id if rng.random() < 0.3 else rng.choice(config.all_members())
                return [(ConfigChangeKind.REMOVE.name, old), (kind.name, new)], transition.name
        for _ in range(rng.randint(2, 4) if is_joint else 1):
            step = self._choose_step(config, rng, [member for _, member in steps])
            if step is not None:
                steps.append(step)
        return (steps, transition.name) if steps else None

    def _choose_step(self, config: Configuration, rng: Random, taken: list[int]) -> Step | None:
        kinds = ["promote", "promote", "demote", "remove", "remove", "learner", "learner", "voter"]
        kind = rng.choice(kinds)
        if kind in ("learner", "voter"):
            new = self.newcomer(taken)
            if new is None or len(config.all_members()) + len(taken) >= _MOST_MEMBERS:
                return None
            return "ADD_LEARNER" if kind == "learner" else "ADD_VOTER", new
        among = {"promote": config.learners, "demote": config.voters}.get(kind)
        free = [m for m in (config.all_members() if among is None else among) if m not in taken]
        if not free:
            return None
        name = {"promote": "ADD_VOTER", "demote": "ADD_LEARNER"}.get(kind, "REMOVE")
        return name, rng.choice(free)

    def newcomer(self, taken: list[int]) -> int | None:
        """Return a node that was never a member, perhaps one still to be started (rule D14)."""
        ever, nodes = self.sim.checker.ever_members, self.sim.nodes
        for node_id, node in nodes.items():
            if node_id not in ever and node_id not in taken and not node.is_retired:
                return node_id
        new = max([len(nodes), *taken]) + 1
        return new if new <= _MOST_NODES else None

    # -- leadership ---------------------------------------------------------------------------

    def _draw_transfer(self) -> What | None:
        leaders, rng = self._leaders(), self._transfers
        if not leaders:
            return None
        node = rng.choice(leaders)
        core = node.core
        assert core is not None
        kind = rng.choice(("any", "any", "furthest", "voter", "slow", "member", "node"))
        match kind:
            case "furthest":
                return node.id, 0
            case "slow" if core.progress:
                return node.id, min(core.progress, key=lambda peer: core.progress[peer].match)
            case "member":
                return node.id, rng.choice(core.config.all_members())
            case "node":
                return node.id, rng.choice(list(self.sim.nodes))
            case _:
                return node.id, rng.choice(core.config.voters)

    def _transfer(self, node_id: int, to: int) -> None:
        node = self.sim.nodes.get(node_id)
        if node is not None and node.core is not None:
            self.hand_over(node, to)

    def hand_over(self, node: SimNode, to: int) -> None:
        """Ask a node to hand its leadership over."""
        self.count_transfer(node, to)
        rid = self.sim.clients.next_rid()
        self.transfers[rid] = (node.id, node.boot)
        node.give(TransferLeader(rid, to))

    def count_transfer(self, node: SimNode, to: int) -> None:
        """Take note of what kind of node leadership is asked to go to."""
        core, counts = node.core, self.sim.counts
        assert core is not None
        counts["transfers"] += 1
        progress = core.progress.get(to)
        if to in core.config.learners or to in core.config.learners_next:
            counts["transfers to a learner"] += 1
        elif progress is None and to not in (0, node.id):
            counts["transfers to a stranger"] += 1
        elif progress is not None and progress.state is not ProgressState.REPLICATE:
            counts["transfers to one that is far behind"] += 1

    # -- answers ------------------------------------------------------------------------------

    def acknowledged(self, rid: int) -> bool:
        """A node says that something is committed; return whether that was a change of members."""
        is_change = rid in self.changes
        self.sim.counts["changes acknowledged"] += is_change
        return is_change

    def transferred(self, rid: int) -> None:
        """A node says that it has handed its leadership over, or has lost it meanwhile."""
        del self.transfers[rid]
        self.sim.counts["transfers completed"] += 1

    def rejected(self, rid: int, reason: Reason) -> None:
        """A node refuses something, perhaps a transfer."""
        if self.transfers.pop(rid, None) is not None and reason is Reason.TRANSFER_ABORTED:
            self.sim.counts["transfers aborted"] += 1

    def unanswered(self) -> list[tuple[int, int]]:
        """Return rid and node of the transfers of which a node that still runs never spoke."""
        nodes = self.sim.nodes
        return [
            (rid, node)
            for rid, (node, boot) in self.transfers.items()
            if nodes[node].is_alive(boot)
        ]
