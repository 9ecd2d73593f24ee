"""Reconciles the configuration with what the log wants, at the leader.

Which nodes belong to the cluster, and which of them vote, is wished for in the replicated state
(`PutMember`, `RemoveMember`, `ChangeMember`). The leader compares these wishes with the
configuration, and takes one step after another until they agree. A leader that dies half-way leaves
nothing undone, because the next one compares too.

No protocol decision is taken here: whether a step is possible now is the core's to say.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog
import trio

from ..driver.replica import Replica
from ..errors import HstoreError, Unavailable
from ..model.commands import Member
from ..net.change_counter import ChangeCounter
from ..net.flag import Flag
from ..raft.events import ProposeConfigChange
from ..raft.membership import ConfigChange, ConfigChangeKind, Configuration
from .status import Status

_STEP_SECONDS = 5.0
"""For one membership change to be committed before it is looked at again."""

_log = structlog.get_logger()


class Reconciler:
    """Brings the configuration to the wishes, whenever this node leads.

    Attributes:
        changes: Counts the calls of `look`. A task that waits until something holds of the
            configuration, the members or the followers looks again after each.
    """

    def __init__(self, replica: Replica, status: Status) -> None:
        """Nothing happens before `run`."""
        self._replica = replica
        self._facts = replica.facts
        self._status = status
        self._wake = Flag()
        self.changes = ChangeCounter()

    async def run(self) -> None:
        """Take the steps that are due, until cancelled."""
        while True:
            await self._wake.wait()
            if self._facts.is_leader:
                await self._step()

    def look(self) -> None:
        """Something may have changed: compare again."""
        self._wake.set()
        self.changes.add()

    def is_one_open(self) -> bool:
        """Whether a wish is not yet true: else nothing can be due, whatever has changed."""
        config, wished = self._facts.config, self._facts.members
        return set(config.all_members()) != wished.keys() or any(
            config.is_voter(node) is (member.learner or member.stopped)
            for node, member in wished.items()
        )

    async def wait_until(self, holds: Callable[[Configuration], bool], deadline: float) -> None:
        """Wait until something holds of the configuration, and that is committed.

        Raises:
            Unavailable: It does not hold at the deadline.
        """
        facts = self._facts
        with trio.move_on_at(deadline):
            while True:
                seen = self.changes.count
                if facts.is_config_committed and holds(facts.config):
                    return
                self._wake.set()
                await self.changes.wait(seen)
        raise Unavailable("the membership change is agreed, but not in force yet: see hstore list")

    # -- what would be left -----------------------------------------------------------------

    def is_going(self, voter: int) -> bool:
        """Whether it is agreed that `voter` shall not vote any more, done or not."""
        wished = self._facts.members.get(voter)
        return wished is None or wished.stopped or wished.learner

    def rest(self, member: Member) -> list[int]:
        """Voters left once this member and all departing ones are gone."""
        voters = self._facts.config.all_voters()
        return [voter for voter in voters if voter != member.id and not self.is_going(voter)]

    # -- steps ------------------------------------------------------------------------------

    async def _step(self) -> None:
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
        for change in changes:
            _log.info("membership changed", member=change.node, change=change.kind.name.lower())
        self.look()

    def _due(self) -> tuple[ConfigChange, ...]:
        """Return the changes that bring the configuration to the wishes, as far as it can be now.

        All of them are proposed as one: the core goes through a joint configuration where several
        voters change, so that to replace a node is one step.
        """
        facts = self._facts
        config, wished = facts.config, facts.members
        if not wished or not facts.is_own_term_applied:
            # A configuration holds from its append on, a wish from its apply: a new leader that
            # has not yet applied all it took over knows members before it knows their wishes.
            return ()
        present = config.all_members()
        # Since a wish was agreed to, one of the voters that stay may have lost log.
        staying = [voter for voter in config.all_voters() if not self.is_going(voter)]
        may_go = 2 * sum(map(facts.has_own_term, staying)) > len(staying)
        changes = [
            ConfigChange(ConfigChangeKind.REMOVE, node)
            for node in present
            if node not in wished and (may_go or not config.is_voter(node))
        ]
        ready = facts.learners_caught_up()
        for node, member in sorted(wished.items()):
            votes = not (member.learner or member.stopped)
            if node not in present or (config.is_voter(node) and not votes and may_go):
                changes.append(ConfigChange(ConfigChangeKind.ADD_LEARNER, node))
            elif node in ready and votes and self._status.is_live(node):
                changes.append(ConfigChange(ConfigChangeKind.ADD_VOTER, node))
        return tuple(changes)
