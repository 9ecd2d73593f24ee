"""The clocks on the wall: whether this machine's was set, and whether a member's differs from it.

Nothing that the cluster promises hangs on these clocks (`driver/cluster_clock.py`, `driver/contact.py`).
But people compare the logs, the timelines and the statistics of several nodes by them, and certificates
and resolvers are judged by them. So a wrong one is an alarm.

Theory of operation. *Set*: at each tick the clock has to have gone on as far as the time since boot has,
which no one can set and which goes on while the machine is suspended. *Differs*: reports and bulletins
say what their sender's clock shows. The leader compares each member's with its own, and each member the
leader's. A frame shows an older time the longer it was under way, or waited for a process that was
halted. So a difference counts after it was there in several frames over some seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import trio

from ..driver.facts import Facts

JUMP_S = 1.0
"""A clock that moved by more, against the time that has passed, was set."""

SKEW_S = 1.0
"""Clocks that differ by more are an alarm; so etcd warns of it (`rafthttp/probing_status.go`)."""

SKEW_HOLD_S = 5.0
"""For so long they have to differ."""

_FRAMES = 3
"""In so many frames one after the other."""

_READ_S = 0.1
"""Two clocks between whose readings more time has passed were read by a process that was halted."""

_SLEW = (
    "have a time service (chrony, systemd-timesyncd) slew the clock: after a step, times in logs and"
    " statistics are not those of other nodes"
)
_SYNC = "have all machines keep their time by NTP (chrony, systemd-timesyncd)"


def seconds_since_boot() -> float:
    """Return the time since boot; nobody sets it, and it counts while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Clocks:
    """Compares the clocks of one node and of those that it hears from.

    Args:
        facts: What this node knows.

    Attributes:
        sound: Raises an alarm; see `Alarms.sound`.
        wall: Returns what this machine's clock shows, in seconds since the epoch.
        steady: See `seconds_since_boot`.
    """

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self.sound: Callable[..., None] = lambda *_args, **_facts: None
        self.wall: Callable[[], float] = time.time
        self.steady: Callable[[], float] = seconds_since_boot
        self._ahead: float | None = None
        # By member: since when its clock differs, and in how many frames.
        self._differ: dict[int, tuple[float, int]] = {}

    def now_ms(self) -> int:
        """Return what this machine's clock shows, in milliseconds since the epoch."""
        return max(int(self.wall() * 1000), 0)

    def look(self) -> None:
        """See whether the clock was set since the last look; called with each tick."""
        before = self.steady()
        wall = self.wall()
        after = self.steady()
        if after - before > _READ_S:
            return
        ahead, last = wall - after, self._ahead
        self._ahead = ahead
        if last is not None and abs(ahead - last) > JUMP_S:
            moved = f"{ahead - last:+.1f}"
            why = f"the clock of this machine was set by {moved} s"
            self.sound("clock_jump", moved, member=self._facts.id, why=why, hint=_SLEW)

    def heard(self, peer: int, clock_ms: int) -> None:
        """Compare the clock of a member, as a frame that was just read shows it.

        Args:
            peer: The member.
            clock_ms: In milliseconds since the epoch; 0: it does not say.
        """
        ahead_s = clock_ms / 1000 - self.wall()
        if not clock_ms or abs(ahead_s) <= SKEW_S or peer not in self._facts.members:
            self._differ.pop(peer, None)
            return
        now = trio.current_time()
        since, frames = self._differ.get(peer, (now, 0))
        self._differ[peer] = since, frames + 1
        if frames + 1 < _FRAMES or now - since < SKEW_HOLD_S:
            return
        how = "ahead of" if ahead_s > 0 else "behind"
        why = f"its clock is {abs(ahead_s):.1f} s {how} this node's"
        self.sound("clock_skew", peer, member=peer, why=why, hint=_SYNC)
