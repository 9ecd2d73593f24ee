"""How results of checks get into the log: as requests of this node to whichever node leads."""

from __future__ import annotations

from collections.abc import Callable

import trio

from ..driver.decisions import submit_decision
from ..driver.replica import Replica
from ..driver.requests import Answer, Request
from ..model import commands
from ..model.services import CheckResult, UpdateChecks
from ..peers.wire import ForwardKind

DEADLINE_S = 30.0
"""Of a proposal; when it has passed, the newest result is proposed in its place."""


class Proposals:
    """The `Log` of `results.py` on a replica."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._facts = replica.facts

    @property
    def is_reachable(self) -> bool:
        """Whether this node is in contact with a leader."""
        return self._replica.contact.is_current()

    @property
    def update_interval_s(self) -> float:
        """The cluster's `check_update_interval`."""
        return self._facts.settings.check_update_interval_ms / 1000

    def propose(
        self,
        results: tuple[CheckResult, ...],
        tell: Callable[[Answer], None],
        *,
        is_foreign: bool,
    ) -> None:
        """Propose `UpdateChecks`; `tell` gets the outcome or the error.

        Raises:
            Overloaded: It took no effect; `tell` is not called.
        """
        command = UpdateChecks(self._facts.id, results)
        if is_foreign:
            submit_decision(self._replica, command, self._facts.term, tell)
            return
        deadline = trio.current_time() + DEADLINE_S
        data = commands.encode(command)
        self._replica.submit(Request(ForwardKind.WRITE, data, deadline, tell))
