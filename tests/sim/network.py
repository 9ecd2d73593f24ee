"""A network that loses, repeats, delays, overtakes and cuts (rule D13).

What becomes of a message is decided when it is sent; cuts are asked once more on its arrival. The
content of a snapshot travels beside its message.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING

from hstore.node.raft.events import PeerUnreachable
from hstore.node.raft.messages import (
    Message,
    PreVoteRequest,
    PreVoteResponse,
    VoteRequest,
    VoteResponse,
)

from . import truths
from .disk import Content
from .options import TICK, SimOptions, stream

if TYPE_CHECKING:
    from .simulation import Simulation

Parcel = tuple[Message, tuple[Content, int] | None]

_REMEMBERED = 300
"""Old messages that may come back: enough to reach back over several terms."""

_VOTES = frozenset((PreVoteRequest, PreVoteResponse, VoteRequest, VoteResponse))


class SimNetwork:
    """All links of a cluster.

    Attributes:
        cut: (from, to) pairs that lose everything.
        clogged: (from, to) pairs that hold everything back until the given time.
        counts: How often each fault has struck.
    """

    def __init__(
        self, sim: Simulation, seed: int, options: SimOptions, counts: Counter[str]
    ) -> None:
        self.sim = sim
        self.options = options
        self.counts = counts
        self.cut: set[tuple[int, int]] = set()
        self.clogged: dict[tuple[int, int], int] = {}
        self.is_calm = False
        self._calm_since = 0
        self._old: deque[Parcel] = deque(maxlen=_REMEMBERED)
        self._old_votes: deque[Parcel] = deque(maxlen=_REMEMBERED // 5)
        self._last_arrival: dict[tuple[int, int], int] = {}
        self._delays = stream(seed, "delay")
        self._drops = stream(seed, "drop")
        self._duplicates = stream(seed, "duplicate")
        self._replays = stream(seed, "replay")
        self._odds = stream(seed, "odd")

    def send(self, message: Message, content: tuple[Content, int] | None = None) -> None:
        """Let a message go its way."""
        parcel = (message, content)
        if self.is_calm:
            self.sim.after(self._delays.randrange(20, 100), self._arrive_in_peace, parcel)
            return
        options = self.options
        if options.odd and self._odds.random() < options.odd:
            odd = truths.draw(self.sim.nodes[message.frm], message.to, self._odds)
            if odd is not None:
                self.counts["odd, but true"] += 1
                self._arrive_at(odd, self._delay())
        if options.replay:
            old = self._old_votes if type(message) in _VOTES else self._old
            old.append(parcel)
            if self._replays.random() < options.replay:
                # Ballots are few, and what is late of them does the most harm.
                is_vote = self._old_votes and self._replays.random() < 0.3
                self._replay(self._replays.choice(self._old_votes if is_vote else old))
        if (message.frm, message.to) in self.cut:
            self.counts["cut off"] += 1
            self._lost(message)
        elif options.drop and self._drops.random() < options.drop:
            self.counts["dropped"] += 1
            self._lost(message)
        else:
            self._arrive_at(parcel, self._delay())
            if options.duplicate and self._duplicates.random() < options.duplicate:
                self.counts["duplicated"] += 1
                self._arrive_at(parcel, self._delay())

    def replay_to(self, node: int, most: int) -> None:
        """Let old messages to a node that has just come back arrive once more."""
        old = [parcel for parcel in (*self._old, *self._old_votes) if parcel[0].to == node]
        for parcel in self._replays.sample(old, min(most, len(old))):
            self._replay(parcel)

    def heal(self) -> None:
        """From now on deliver everything, soon."""
        self.is_calm = True
        self._calm_since = self.sim.now
        self.cut.clear()
        self.clogged.clear()

    def _replay(self, parcel: Parcel) -> None:
        self.counts["replayed"] += 1
        self._arrive_at(parcel, self._delay())

    def _delay(self) -> int:
        options, rng = self.options, self._delays
        mean = options.delay_mean
        if options.tail and rng.random() < options.tail:
            self.counts["very late"] += 1
            mean = options.tail_mean
        return options.delay_min + int(rng.expovariate(1 / mean))

    def _lost(self, message: Message) -> None:
        if self.options.peer_down and self._drops.random() < self.options.peer_down / 4:
            self.sim.give(message.frm, PeerUnreachable(message.to))

    def _arrive_at(self, parcel: Parcel, delay: int) -> None:
        message = parcel[0]
        time = self.sim.now + delay
        link = (message.frm, message.to)
        if link in self.clogged:
            self.counts["clogged"] += 1
            time = max(time, self.clogged[link])
        if self.options.is_fifo:
            time = max(time, self._last_arrival.get(link, 0))
            self._last_arrival[link] = time
        self.sim.at(time, self._arrive, parcel)

    def _arrive(self, parcel: Parcel) -> None:
        if self.is_calm and self.sim.now > self._calm_since + TICK:
            # What was sent among faults and is this late could still depose a leader.
            self.counts["too late"] += 1
        else:
            self._arrive_in_peace(parcel)

    def _arrive_in_peace(self, parcel: Parcel) -> None:
        message, content = parcel
        if (message.frm, message.to) in self.cut:
            self.counts["cut off"] += 1
        else:
            self.sim.deliver(message, content)
