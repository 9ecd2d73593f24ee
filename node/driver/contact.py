"""Whether this node is in current contact with a leader, and since when that is proven.

A node names a leader to clients and in DNS only while its proof is younger than
the lease, which is an election timeout. A proof is dated: at that time, or later, a majority of the
voters followed the leader of this node's term, or of an earlier one. So another leader can only have
been elected after it, and no answer names a leader that was replaced longer ago than the lease.

When something was read from a socket proves nothing: it may have waited in the buffer while this
process was stopped, or the machine suspended. So proofs are dated by what this node did before:

- A leader's proof is the answer of a majority to a round of heartbeats, dated when that was sent; of a
  new leader the votes, dated when it began to ask for them.
- A read index (`raft/reads.py`) is a round trip to the leader, which asks its majority: dated when the
  node asked.
- While frames of the leader come steadily, each is dated by the one before it, because this node had
  then read all there was. After a longer pause that does not hold: this node is in *doubt*, and only a
  read index that is asked for from then on counts.

A follower that is cut off together with its leader hears it all the same: that the leader has lost its
majority is in its bulletin (`cluster/health.py`).
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable

import trio

from ..raft import reads
from ..raft.core import Core
from ..raft.roles import Role

_NAP_S = 0.05
"""A suspended machine sleeps longer; the two clocks are not read in the same instant."""

_APART_S = 0.005
"""What is read within that time of other frames may have waited together with them."""


def seconds_asleep() -> float:
    """Return how long the machine was suspended since it was booted, but for a constant.

    Linux's monotonic clock, which Trio uses, stands still meanwhile (clock_gettime(2)).
    """
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()


class Contact:
    """The proofs of one node.

    Attributes:
        on_doubt: Called when a read index is needed as a proof, perhaps again and again.
        on_regained: Called when a read index has put this node in contact again.
    """

    def __init__(
        self,
        core: Core,
        lease_s: Callable[[], float],
        asleep: Callable[[], float] = seconds_asleep,
    ) -> None:
        """Begin without a proof.

        Args:
            core: Only read.
            lease_s: Returns the lease, in seconds.
            asleep: See `seconds_asleep`.
        """
        self.on_doubt: Callable[[], None] = lambda: None
        self.on_regained: Callable[[], None] = lambda: None
        self._core = core
        self._lease_s = lease_s
        self._asleep = asleep
        self._slept = asleep()
        self._proven_at = -math.inf
        self._is_doubted, self._doubted_at = True, -math.inf
        # The last frame of the leader, and whose it was.
        self._heard_at, self._leader = -math.inf, 0
        # Of this node's last candidacy, and of the rounds that it sent as the leader of a term: a
        # round, and a time before which neither it nor a later one was sent.
        self._stood_at, self._stood_in = -math.inf, 0
        self._rounds: deque[tuple[int, float]] = deque()
        self._rounds_of = 0

    def is_current(self) -> bool:
        """Whether a leader is known, and the proof is younger than the lease."""
        core = self._core
        if not core.leader or core.leader_gone:
            return False
        self._notice_sleep()
        oldest = trio.current_time() - self._lease_s()
        if self._proven_at < oldest and core.role is Role.LEADER:
            self._look_at_rounds()
        return self._proven_at >= oldest

    @property
    def proven_at(self) -> float:
        """The time of the latest proof, in seconds of `trio.current_time()`; infinite: none counts."""
        return self._proven_at

    def needs_read(self) -> bool:
        """Whether a read index is needed, because nothing else can be the next proof."""
        core = self._core
        if not core.leader or core.role is Role.LEADER:
            return False
        return self._is_doubted or not self.is_current()

    # -- what happens -----------------------------------------------------------------------

    def heard(self, peer: int, now: float) -> None:
        """Take note that frames of `peer` were read, at `now`."""
        if peer != self._core.leader:
            return
        before, lease = self._heard_at, self._lease_s()
        if now - before < min(_APART_S, lease / 50):
            return
        self._notice_sleep()
        if peer != self._leader or now - before > lease / 2:
            self._doubt(peer)
        elif not self._is_doubted:
            self._proven_at = max(self._proven_at, before)
        self._heard_at = now
        if self._is_doubted:
            self.on_doubt()

    def led_by(self, leader: int) -> None:
        """This node has learned that `leader` leads; 0: it knows no leader any more."""
        if leader not in (0, self._core.id):
            self._doubt(leader)
            self._heard_at = trio.current_time()
            self.on_doubt()

    def answered(self, asked_at: float) -> None:
        """Take note that the leader has answered a read index, for which this node asked at `asked_at`."""
        if asked_at >= self._doubted_at:
            self._is_doubted = False
        before = self._proven_at
        if asked_at > before:
            self._proven_at = asked_at
            if before < trio.current_time() - self._lease_s() and self.is_current():
                self.on_regained()

    def stood(self) -> None:
        """Take note that this node begins to ask for votes."""
        self._stood_at, self._stood_in = trio.current_time(), self._core.term

    def ticks(self) -> None:
        """Note a round before it is sent: with the tick that follows, a leader sends heartbeats."""
        core = self._core
        if core.role is not Role.LEADER:
            return
        if self._rounds_of != core.term:
            self._rounds.clear()
            self._rounds_of = core.term
        now = trio.current_time()
        self._rounds.append((core.round + 1, now))
        while self._rounds[0][1] < now - self._lease_s():
            self._rounds.popleft()

    # -- inside -----------------------------------------------------------------------------

    def _doubt(self, leader: int) -> None:
        self._leader = leader
        self._is_doubted, self._doubted_at = True, trio.current_time()

    def _look_at_rounds(self) -> None:
        """As the leader: take over what a majority has answered."""
        core = self._core
        if self._stood_in == core.term:
            self._proven_at = max(self._proven_at, self._stood_at)
        if self._rounds_of == core.term:
            confirmed = reads.confirmed_round(core)
            while self._rounds and self._rounds[0][0] <= confirmed:
                self._proven_at = max(self._proven_at, self._rounds.popleft()[1])

    def _notice_sleep(self) -> None:
        slept = self._asleep()
        if slept - self._slept > _NAP_S:
            self._slept = slept
            self._proven_at = self._heard_at = self._stood_at = -math.inf
            self._rounds.clear()
            self._doubt(self._leader)
