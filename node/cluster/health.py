"""Judges the members' health, and whether this node is in contact with a leader.

The leader judges by what it hears (contract, section 1); every other node believes the leader's last
bulletin, but for its own contact with the leader, which it judges by itself. Decides nothing, sends
nothing, and wakes no task: `status.py` asks it.
"""

from __future__ import annotations

import math

import trio

from ..driver.replica import Replica
from ..model.cluster_info import NodeFigures
from ..peers import wire
from ..raft import quorum
from ..raft.quorum import VoteResult

_SUSPECT_INTERVALS = 2
_FAILED_INTERVALS = 5
"""Health-check intervals without contact after which a node is suspect, and failed."""

Judgement = tuple[str, int | None, NodeFigures | None]
"""Health, milliseconds since the last contact, figures; as in a bulletin."""

UNKNOWN: Judgement = ("joining", None, None)
"""Of a member that the last bulletin does not have."""


class Health:
    """What one node has heard of the others, and how it judges them.

    Attributes:
        bulletin: The last bulletin: this leader's own, or the one of the leader it follows.
    """

    def __init__(self, replica: Replica) -> None:
        """Begin with nothing heard."""
        self.bulletin = wire.Bulletin(0, {})
        self._replica = replica
        self._facts = replica.facts
        self._leading_since = 0.0
        self._leading_term = 0
        self._refused: set[int] = set()
        self._figures: dict[int, NodeFigures] = {}
        self._reported_at: dict[int, float] = {}
        self._caught_up: set[int] = set()

    # -- what is heard ----------------------------------------------------------------------

    def answered(self, peer: int) -> None:
        """`peer` takes connections, or has sent a frame: it runs."""
        self._refused.discard(peer)

    def welcomed(self, peer: int) -> None:
        """`peer` has welcomed a new connection: it runs, whatever it said before of stopping."""
        self.answered(peer)
        if self.is_ending(peer):
            # It reports to the leader only, which this node may yet become.
            del self._figures[peer]

    def port_refused(self, peer: int) -> None:
        """The port of `peer` refuses connections: it is not running."""
        self._refused.add(peer)

    def reported(self, peer: int, figures: NodeFigures) -> None:
        """Take the figures of a member."""
        self._figures[peer] = figures
        self._reported_at[peer] = trio.current_time()

    # -- times ------------------------------------------------------------------------------

    def interval_s(self) -> float:
        """Return the health-check interval, in seconds."""
        return self._facts.settings.health_interval_ms / 1000

    def patience_s(self) -> float:
        """Return after how long without a sign of the leader contact has lapsed: an election timeout."""
        return self._facts.settings.election_timeout_ms / 1000

    def _last_heard(self, node: int) -> float:
        """When `node` was last heard; a new leader gives everyone the time since its election."""
        return max(self._replica.heard.get(node, 0.0), self._leading_since)

    def is_one_silent(self) -> bool:
        """Whether a member has been silent for so long that it may show: health, or contact."""
        oldest = trio.current_time() - min(self.interval_s(), self.patience_s())
        own = self._facts.id
        return any(m != own and self._last_heard(m) < oldest for m in self._facts.members)

    # -- contact ----------------------------------------------------------------------------

    def in_contact(self) -> bool:
        """Whether this node is in current contact with a leader; a leader: with its majority."""
        facts, now = self._facts, trio.current_time()
        if facts.is_leader:
            oldest, config = now - self.patience_s(), facts.config
            heard = {
                voter: voter == facts.id or self._last_heard(voter) >= oldest
                for voter in config.all_voters()
            }
            return quorum.vote_result(config, heard) is VoteResult.WON
        if not facts.leader or facts.is_leader_unreachable:
            return False
        is_heard = now - self._replica.heard.get(facts.leader, -1e9) <= self.patience_s()
        return is_heard and self._had_leader_its_majority()

    def _had_leader_its_majority(self) -> bool:
        """Whether the leader heard a majority when it sent its last bulletin.

        It sends one at once when it does not. A node that is cut off together with the leader hears
        it all the same, and would name it as the leader while the majority has another.
        """
        if self.bulletin.term != self._facts.term:
            return True
        told, config = self.bulletin.members, self._facts.config
        patience_ms = self.patience_s() * 1000
        heard = {
            voter: voter not in told or (told[voter][1] or 0) < patience_ms
            for voter in config.all_voters()
        }
        return quorum.vote_result(config, heard) is VoteResult.WON

    # -- judgements -------------------------------------------------------------------------

    def is_ending(self, node: int) -> bool:
        """Whether `node` has said that it is about to stop."""
        figures = self._figures.get(node)
        return figures is not None and figures.state == "stopping"

    def figures(self, node: int) -> NodeFigures | None:
        """Return what `node` last reported to this one."""
        return self._figures.get(node)

    def reported_at(self, node: int) -> float:
        """When it did; long ago: never."""
        return self._reported_at.get(node, -math.inf)

    def note_progress(self) -> None:
        """At the leader: note when it began to lead, and which learners are past joining."""
        facts = self._facts
        if facts.term != self._leading_term:
            self._leading_term, self._leading_since = facts.term, trio.current_time()
            # A learner that was past joining is not joining again because another node leads.
            known = self.bulletin.members.items()
            self._caught_up.update(member for member, seen in known if seen[0] != "joining")
        self._caught_up.update(facts.config.voters, facts.learners_caught_up())

    def judgements(self, own_figures: NodeFigures) -> dict[int, Judgement]:
        """Return the judgement of each member: the leader's of now, elsewhere those of its bulletin.

        Args:
            own_figures: The figures of this node, for which it gets no report.
        """
        facts = self._facts
        if not facts.is_leader:
            own = self.bulletin.members.get(facts.id, UNKNOWN)
            return {**self.bulletin.members, facts.id: (own[0], own[1], own_figures)}
        now = trio.current_time()
        judged = {member: self._judge(member, now) for member in facts.members}
        if facts.id in judged:
            judged[facts.id] = ("alive", 0, own_figures)
        return judged

    def _judge(self, member: int, now: float) -> Judgement:
        figures = self._figures.get(member)
        silent = now - self._last_heard(member)
        contact_ms = int(silent * 1000) if member in self._replica.heard else None
        intervals = silent / self.interval_s()
        is_refused = member in self._refused
        is_stopped = self._facts.members[member].stopped or self.is_ending(member)
        if is_stopped and (is_refused or intervals >= 1):
            return "stopped", contact_ms, figures
        if member not in self._facts.config.voters and member not in self._caught_up:
            return "joining", contact_ms, figures
        if is_refused or intervals >= _FAILED_INTERVALS:
            return "failed", contact_ms, figures
        health = "suspect" if intervals >= _SUSPECT_INTERVALS else "alive"
        return health, contact_ms, figures
