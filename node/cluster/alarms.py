"""The alarms of a node: conditions that only an operator can mend.

Owns which alarms hold, and how often each is written to the log. Each time its cause is seen, an
alarm is raised again; it holds until the cause was not seen for a minute (`clock_jump`: ten).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, get_args

import structlog
import trio

from ..config.log_limit import LogLimit
from ..driver.replica import Replica
from .replica_check import ReplicaCheck

Kind = Literal["address_claimed", "clock_jump", "clock_skew", "term_jump"]

Condition = Literal[
    "replica_differs",
    "disk_short",
    "lost_log",
    "no_quorum_margin",
    "certificate",
    "ca_key",
]
"""Alarms that hold while something is so. There are no certificates yet."""

ALARMS: tuple[str, ...] = (*get_args(Kind), *get_args(Condition))
"""Every kind of alarm."""

_HOLD_SECONDS = 60.0
"""After its cause was last seen. A peer that is refused, for instance, dials twice a second."""

_HOLD_SECONDS_OF: Mapping[Kind, float] = {"clock_jump": 600.0}
"""Likewise, of those whose cause is one moment and not seen again: as long as `replica_differs`."""

_log = structlog.get_logger()


class Alarms:
    """The alarms of one node.

    Args:
        replica: Knows whether its disk is short, and whether log was lost.
        check: Knows whether replicas differ.

    Attributes:
        on_line: Called with each line that is written to the log: its kind and its facts.
    """

    def __init__(self, replica: Replica, check: ReplicaCheck) -> None:
        self._replica = replica
        self._check = check
        self._seen: dict[Kind, float] = {}
        self._log_limit = LogLimit()
        self.on_line: Callable[[Kind, Mapping[str, str | int]], None] = lambda _kind, _facts: None

    def sound(self, kind: Kind, about: str | int, **facts: str | int) -> None:
        """Raise an alarm.

        Args:
            kind: Its kind, which is the name of the log's event, too.
            about: What it concerns, such as the id of a cluster or of a member; each has a line of
                its own in the log, at most every ten minutes.
            facts: What is known, and what to do, for the log.
        """
        self._seen[kind] = trio.current_time()
        if self._log_limit.is_due(kind, about):
            _log.error(kind, **facts)
            self.on_line(kind, facts)

    def holding(self) -> list[Kind]:
        """Return the kinds of alarms that hold now."""
        now, hold_s = trio.current_time(), _HOLD_SECONDS_OF
        return [
            kind for kind, at in self._seen.items() if at > now - hold_s.get(kind, _HOLD_SECONDS)
        ]

    def now(self, margin: int, *, is_voter_missing: bool) -> dict[str, bool]:
        """Return each kind of alarm, and whether it holds.

        Args:
            margin: Live voters less those that a quorum needs.
            is_voter_missing: Whether a voter is not live: a cluster of one has no margin, and is well.
        """
        found = dict.fromkeys(ALARMS, False)
        found |= dict.fromkeys(self.holding(), True)
        found["replica_differs"] = self._check.differs
        found["disk_short"] = self._replica.disk_space.is_short
        found["lost_log"] = bool(self._replica.facts.lost_log)
        found["no_quorum_margin"] = margin <= 0 and is_voter_missing
        return found
