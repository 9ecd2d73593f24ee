"""Judges the members' health, and whether this node is in contact with a leader.

The leader judges by what it hears (contract, section 1); every other node believes the leader's last
bulletin, but for its own contact with the leader, and for log that it has lost itself. A node that
has had no bulletin yet, since it was started while no leader can be elected, judges the others by
its links to them. Decides nothing, sends nothing, and wakes no task: `status.py` asks it.
"""

from __future__ import annotations

import math

import trio

from ..driver.replica import Replica
from ..model.cluster_info import NodeFigures
from ..peers import wire
from ..raft import quorum
from ..raft.membership import MEMBERS_MAX
from ..raft.quorum import VoteResult

_SUSPECT_INTERVALS = 2
_FAILED_INTERVALS = 5
"""Health-check intervals without contact after which a node is suspect, and failed."""

_UNANSWERED_ELECTIONS = 4
"""Election timeouts without an answer to requests for votes after which a connected voter hangs."""

Judgement = tuple[wire.Health, int | None, NodeFigures | None, str]
"""Health, milliseconds since the last contact, figures, and why it is not alive; as in a bulletin."""

RESTARTING = "restarting"
"""The state in the last report of a node whose process starts it again at once."""

_STOPPED = "stopped on purpose"
_JOINING = "has not caught up with the log yet"
_REFUSES = "refuses connections: no node runs there"
_SILENT = "does not answer"
_LATE = "answers late"
STRANGER = "another cluster's node answers at its address"

UNKNOWN: Judgement = ("joining", None, None, _JOINING)
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
        self._judged: tuple[object, object, bool] = (None, None, False)
        self._leading_since = 0.0
        self._leading_term = 0
        # By member: since when its port refuses.
        self._refused: dict[int, float] = {}
        self._strangers: set[int] = set()
        self._figures: dict[int, NodeFigures] = {}
        self._reported_at: dict[int, float] = {}
        self._caught_up: set[int] = set()
        self._started_at = trio.current_time()
        # Whether it had applied entries before this start. If not it is new, so it is `joining` until
        # a leader says otherwise.
        self._was_member = replica.facts.applied_index > 0

    # -- what is heard ----------------------------------------------------------------------

    def answered(self, peer: int) -> None:
        """`peer` takes connections, or has sent a frame: it runs."""
        self._refused.pop(peer, None)
        self._strangers.discard(peer)

    def welcomed(self, peer: int) -> None:
        """`peer` has welcomed a new connection: it runs, whatever it said before of stopping."""
        self.answered(peer)
        if self.is_ending(peer):
            # It reports to the leader only, which this node may yet become.
            del self._figures[peer]

    def port_refused(self, peer: int) -> None:
        """The port of `peer` refuses connections: it is not running."""
        self._refused.setdefault(peer, trio.current_time())

    def stranger_answered(self, peer: int) -> None:
        """A node of another cluster answers at the address of `peer`."""
        self._strangers.add(peer)

    def reported(self, peer: int, figures: NodeFigures) -> None:
        """Take the figures of a member."""
        facts = self._facts
        if len(self._figures) > MEMBERS_MAX:  # A hello may have any id.
            known = {*facts.members, *facts.config.all_members()}
            self._figures = {n: said for n, said in self._figures.items() if n in known}
            self._reported_at = {n: at for n, at in self._reported_at.items() if n in known}
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

    def is_heard(self, node: int) -> bool:
        """Whether a member was heard of within the time before it would be suspect, and has not stopped."""
        silent = trio.current_time() - self._replica.heard.get(node, -1e9)
        is_gone = node in self._refused or self.is_ending(node)
        return not is_gone and silent < _SUSPECT_INTERVALS * self.interval_s()

    # -- contact ----------------------------------------------------------------------------

    def in_contact(self) -> bool:
        """Whether this node is in current contact with a leader; a leader: with its majority."""
        is_current = self._replica.contact.is_current()
        return is_current and (self._facts.is_leader or self._had_leader_its_majority())

    def _had_leader_its_majority(self) -> bool:
        """Whether the leader heard a majority when it sent its last bulletin.

        It sends one at once when it does not. A node that is cut off together with the leader hears
        it all the same, and would name it as the leader while the majority has another.
        """
        if self.bulletin.term != self._facts.term:
            return True
        bulletin, config, had = self._judged
        if bulletin is not self.bulletin or config is not self._facts.config:
            had = self._judge_bulletin()
            self._judged = self.bulletin, self._facts.config, had
        return had

    def _judge_bulletin(self) -> bool:
        told, config = self.bulletin.members, self._facts.config
        patience_ms = self.patience_s() * 1000
        heard = {
            voter: voter not in told or (told[voter][1] or 0) < patience_ms
            for voter in config.all_voters()
        }
        return quorum.vote_result(config, heard) is VoteResult.WON

    # -- judgements -------------------------------------------------------------------------

    def is_ending(self, node: int) -> bool:
        """Whether `node` has said that it is about to stop, or to start again."""
        figures = self._figures.get(node)
        return figures is not None and figures.state in ("stopping", RESTARTING)

    def may_be_back_soon(self, node: int) -> float | None:
        """Since when `node` is a machine that runs without its process, which may be restarting.

        Returns: seconds of `trio.current_time()`; None: it runs, is silent, or was stopped.
        """
        figures = self._figures.get(node)
        if figures is not None and figures.state == RESTARTING:
            return self._reported_at[node]
        return None if self.is_ending(node) else self._refused.get(node)

    def figures(self, node: int) -> NodeFigures | None:
        """Return what `node` last reported to this one."""
        return self._figures.get(node)

    def reported_at(self, node: int) -> float:
        """When `node` last reported, in seconds of `trio.current_time()`; minus infinity: never."""
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
            members = self.bulletin.members if self.bulletin.term else self.seen_alone()
            health, contact_ms, _, reason = members.get(facts.id, UNKNOWN)
            if own_figures.reason:
                health, reason = "recovering", own_figures.reason
            return {**members, facts.id: (health, contact_ms, own_figures, reason)}
        now = trio.current_time()
        judged = {member: self._judge(member, now) for member in facts.members}
        if facts.id in judged:
            judged[facts.id] = ("alive", 0, own_figures, "")
        return judged

    def seen_alone(self, alone_since: float = math.inf) -> dict[int, Judgement]:
        """Return the health of each member as this node sees it itself, without any leader's bulletin.

        Args:
            alone_since: Since when this node is without a leader, in seconds of `trio.current_time()`.
        """
        facts, now = self._facts, trio.current_time()
        known = {*facts.members, *facts.config.all_members()}
        return {member: self._look_at(member, now, alone_since) for member in sorted(known)}

    def _look_at(self, member: int, now: float, alone_since: float) -> Judgement:
        """Judge a member by the link to it; without a leader little else is sent regularly."""
        facts = self._facts
        if member == facts.id:
            if facts.lost_log:
                return "recovering", 0, None, facts.lost_log
            is_new = not self._was_member and not facts.config.is_voter(member)
            return ("joining", 0, None, _JOINING) if is_new else ("alive", 0, None, "")
        heard = self._replica.heard.get(member)
        contact_ms = None if heard is None else int((now - heard) * 1000)
        figures = self._figures.get(member)
        silent = (now - max(heard or 0.0, self._started_at)) / self.interval_s()
        if self._replica.is_connected(member):
            contact_ms = contact_ms or 0
            said_ago = now - self._reported_at.get(member, -math.inf)
            if figures and figures.reason and said_ago <= _FAILED_INTERVALS * self.interval_s():
                return "recovering", contact_ms, figures, figures.reason
            if self._hangs(member, now, alone_since):
                return "failed", contact_ms, figures, _SILENT
            return "alive", contact_ms, figures, ""
        if member in facts.members and facts.members[member].stopped:
            return "stopped", contact_ms, figures, self._why_stopped(member)
        if member in self._strangers:
            return "failed", contact_ms, figures, STRANGER
        if member in self._refused:
            return "failed", contact_ms, figures, _REFUSES
        if silent >= _FAILED_INTERVALS:
            return "failed", contact_ms, figures, _SILENT
        return "suspect", contact_ms, figures, _SILENT

    def _why_stopped(self, member: int) -> str:
        """Return the reason of a member that is stopped, and what of its vote."""
        if self._facts.config.is_voter(member):
            return f"{_STOPPED}, and still a voter"
        is_learner = member in self._facts.members and self._facts.members[member].learner
        return _STOPPED if is_learner else f"{_STOPPED}, and votes again once it runs"

    def _hangs(self, member: int, now: float, alone_since: float) -> bool:
        """Whether a member whose connection is there does not answer: its process hangs.

        A voter without a leader asks all others for their votes, in each election timeout, and every
        one that runs answers, also with a no.
        """
        config, own = self._facts.config, self._facts.id
        if not config.is_voter(own) or not config.is_voter(member) or self._facts.lost_log:
            return False
        begun = max(self._replica.heard.get(member, 0.0), self._started_at, alone_since)
        patience = max(
            _UNANSWERED_ELECTIONS * self.patience_s(), _FAILED_INTERVALS * self.interval_s()
        )
        return now - begun >= patience

    def _judge(self, member: int, now: float) -> Judgement:
        figures = self._figures.get(member)
        silent = now - self._last_heard(member)
        contact_ms = int(silent * 1000) if member in self._replica.heard else None
        intervals = silent / self.interval_s()
        is_refused = member in self._refused
        is_stopped = self._facts.members[member].stopped or self.is_ending(member)
        if is_stopped and (is_refused or intervals >= 1):
            return "stopped", contact_ms, figures, self._why_stopped(member)
        is_gone = is_refused or intervals >= _FAILED_INTERVALS
        if figures is not None and figures.reason and not is_gone:
            return "recovering", contact_ms, figures, figures.reason
        if member not in self._facts.config.voters and member not in self._caught_up:
            return "joining", contact_ms, figures, _JOINING
        if is_gone:
            why = STRANGER if member in self._strangers else _REFUSES if is_refused else _SILENT
            return "failed", contact_ms, figures, why
        if intervals >= _SUSPECT_INTERVALS:
            return "suspect", contact_ms, figures, _LATE
        return "alive", contact_ms, figures, ""
