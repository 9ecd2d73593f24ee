"""The alarms of a node: what an operator has to mend, and nothing in the cluster can.

Owns which alarms hold, and how often each is written to the log. An alarm is raised anew each time
that its cause is seen, and holds until that has not been seen for a while.
"""

from __future__ import annotations

from typing import Literal

import structlog
import trio

from ..config.log_limit import LogLimit

Kind = Literal["address_claimed"]

_HOLD_SECONDS = 60.0
"""After its cause was last seen. A peer that dials in vain does so twice a second."""

_log = structlog.get_logger()


class Alarms:
    """The alarms of one node."""

    def __init__(self) -> None:
        self._seen: dict[Kind, float] = {}
        self._log_limit = LogLimit()

    def sound(self, kind: Kind, about: str, **facts: str) -> None:
        """Raise an alarm.

        Args:
            kind: Its kind, which is the name of the log's event.
            about: Which of this kind; each has a line of its own, at most every ten minutes.
            facts: What is known, and what to do, for the log.
        """
        self._seen[kind] = trio.current_time()
        if self._log_limit.is_due(kind, about):
            _log.error(kind, **facts)

    def holding(self) -> list[Kind]:
        """Return the kinds of alarms that hold now."""
        oldest = trio.current_time() - _HOLD_SECONDS
        return [kind for kind, at in self._seen.items() if at > oldest]
