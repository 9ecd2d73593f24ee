"""What the figures are read from: the rooms of one node, as far as they count something."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ..driver.replica import Replica
from ..measure.histogram import Histogram
from ..peers.links import Links


class Snapshots(Protocol):
    """The part of `cluster.snapshot_sender.SnapshotSender` that is read here."""

    @property
    def sent_total(self) -> int:
        """How many snapshots were sent."""
        ...

    @property
    def seconds(self) -> Histogram:
        """How long each took."""
        ...


class Sessions(Protocol):
    """The part of `cluster.session_clocks.SessionClocks` that is read here."""

    @property
    def expired_total(self) -> int:
        """How many sessions this node has ended because nobody renewed them in time."""
        ...


class Checks(Protocol):
    """The part of `checks.runner.CheckRunner` that is read here."""

    @property
    def run_results(self) -> Mapping[tuple[str, str], int]:
        """Runs that have ended, by kind and by what they said."""
        ...

    @property
    def late_seconds(self) -> Histogram:
        """How long after they were due runs began."""
        ...

    @property
    def descriptors(self) -> int:
        """How many files are open for runs that are under way."""
        ...

    def by_kind(self) -> Mapping[tuple[str, str], int]:
        """Return how many checks run here, by kind and status."""
        ...


class Status(Protocol):
    """The part of `cluster.status.Status` that is read here."""

    def in_contact(self) -> bool:
        """Whether this node is in current contact with a leader."""
        ...

    def live_members(self) -> set[int]:
        """Return the ids of the members that count among the live."""
        ...


class Alarms(Protocol):
    """The part of `cluster.alarms.Alarms` that is read here."""

    def now(self, margin: int, *, is_voter_missing: bool) -> Mapping[str, bool]:
        """Return each kind of alarm, and whether it holds; see there."""
        ...


@dataclass(frozen=True, slots=True)
class Sources:
    """The rooms of a node.

    Attributes:
        replica: Its copy of the state, and what drives it.
        links: Its links to other members.
        loop_lag: The waits of its event loop.
        snapshots, sessions, checks: What these have counted.
        status: Knows who is live.
        alarms: What an operator has to mend.
    """

    replica: Replica
    links: Links
    loop_lag: Histogram
    snapshots: Snapshots
    sessions: Sessions
    checks: Checks
    status: Status
    alarms: Alarms
