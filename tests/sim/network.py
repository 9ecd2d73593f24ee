"""A network that loses, repeats, delays, overtakes and cuts (rule D13).

What becomes of a message is decided when it is sent; cuts are asked once more on its arrival. The
content of a snapshot travels beside its message.
"""

from __future__ import annotations

from collections import Counter, deque
from random import Random
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
from .machine import Content
from .options import TICK, SimOptions, stream
from .tape import decision, link

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
        self._calm_since = 0
        self._old: deque[Parcel] = deque(maxlen=_REMEMBERED)
        self._old_votes: deque[Parcel] = deque(maxlen=_REMEMBERED // 5)
        self._last_arrival: dict[tuple[int, int], int] = {}
        self._on_the_way: Counter[tuple[int, int]] = Counter()
        self._delays = stream(seed, "delay")
        self._drops = stream(seed, "drop")
        self._duplicates = stream(seed, "duplicate")
        self._replays = stream(seed, "replay")
        self._odds = stream(seed, "odd")
        self._alarms = stream(seed, "lost alarm")
        self._calm = stream(seed, "calm network")

    def send(self, message: Message, content: tuple[Content, int] | None = None) -> None:
        """Let a message go its way."""
        parcel = (message, content)
        if self.sim.is_healed:
            self.sim.after(self._calm.randrange(20, 100), self._arrive_in_peace, parcel)
            return
        options = self.options
        if options.odd:
            odd = self.draw_odd(message)
            if odd is not None:
                self._send_odd(message, odd)
        if options.replay:
            (self._old_votes if type(message) in _VOTES else self._old).append(parcel)
            for old, delay in self.draw_replays(message):
                self._replay(old, delay)
        if (message.frm, message.to) in self.cut:
            self.counts["cut off"] += 1
            self._lost(message)
            return
        delays = self.draw_arrivals(message)
        if not delays:
            self.counts["dropped"] += 1
            self._lost(message)
        for delay in delays:
            self._arrive_at(parcel, delay)

    def replay_to(self, node: int) -> None:
        """Let old messages to a node that has just come back arrive once more."""
        for parcel, delay in self.draw_replays_to(node):
            self._replay(parcel, delay)

    # -- decisions --------------------------------------------------------------------------

    @decision(lambda _, message: link(message), lambda self, _: (self.options.delay_min,))
    def draw_arrivals(self, message: Message) -> tuple[int, ...]:
        """Return after which times a message arrives: mostly once."""
        options = self.options
        if options.drop and self._drops.random() < options.drop:
            return ()
        delay = self.draw_lateness(self._delays)
        if options.duplicate and self._duplicates.random() < options.duplicate:
            self.counts["duplicated"] += 1
            return delay, self.draw_lateness(self._duplicates)
        return (delay,)

    @decision(lambda _, message: link(message), lambda *_: None)
    def draw_odd(self, message: Message) -> truths.Odd | None:
        """Return what else that is true leaves by the way of a message, mostly nothing."""
        if self._odds.random() >= self.options.odd:
            return None
        return truths.draw(self.sim.nodes[message.frm], message.to, self._odds)

    @decision(lambda _, message: link(message), lambda *_: [], is_of_parcels=True)
    def draw_replays(self, message: Message) -> list[tuple[Parcel, int]]:
        """Return what arrives once more, and when, as a message leaves."""
        rng = self._replays
        if rng.random() >= self.options.replay:
            return []
        # Ballots are few, and what is late of them does the most harm.
        is_vote = self._old_votes and rng.random() < 0.3
        kind = self._old_votes if is_vote or not self._old else self._old
        return [(rng.choice(kind), self.draw_lateness(rng))]

    @decision(lambda _, node: node, lambda *_: [], is_of_parcels=True)
    def draw_replays_to(self, node: int) -> list[tuple[Parcel, int]]:
        """Return what arrives once more, and when, at a node that has come back."""
        rng = self._replays
        old = [parcel for parcel in (*self._old, *self._old_votes) if parcel[0].to == node]
        return [(parcel, self.draw_lateness(rng)) for parcel in rng.sample(old, min(5, len(old)))]

    @decision(lambda _, message: link(message), lambda *_: False)
    def draw_alarm(self, message: Message) -> bool:
        """Whether the sender hears that a message was lost."""
        return self._alarms.random() < self.options.peer_down / 4

    def draw_lateness(self, rng: Random) -> int:
        """Return how long something takes that leaves now."""
        options = self.options
        mean = options.delay_mean
        if options.tail and rng.random() < options.tail:
            self.counts["very late"] += 1
            mean = options.tail_mean
        return options.delay_min + int(rng.expovariate(1 / mean))

    # -- on the way -------------------------------------------------------------------------

    def heal(self) -> None:
        """From now on deliver everything, soon."""
        self._calm_since = self.sim.now
        self.cut.clear()
        self.clogged.clear()

    def _replay(self, parcel: Parcel, delay: int) -> None:
        self.counts["replayed"] += 1
        if type(parcel[0]) is VoteResponse and parcel[0].granted:
            self.counts["old votes replayed"] += 1
        self._arrive_at(parcel, delay)

    def _send_odd(self, message: Message, odd: truths.Odd) -> None:
        parcel = truths.make(self.sim.nodes[message.frm], message.to, odd)
        if parcel is not None:
            self.counts["odd, but true"] += 1
            self._arrive_at(parcel, odd[-1])

    def _lost(self, message: Message) -> None:
        if self.options.peer_down and self.draw_alarm(message):
            self.sim.give(message.frm, PeerUnreachable(message.to))

    def _arrive_at(self, parcel: Parcel, delay: int) -> None:
        message = parcel[0]
        time = self.sim.now + delay
        link = (message.frm, message.to)
        if self.options.capacity:
            if self._on_the_way[link] >= self.options.capacity:
                self.counts["queue overflow"] += 1
                self._lost(message)
                return
            self._on_the_way[link] += 1
        if link in self.clogged:
            self.counts["clogged"] += 1
            time = max(time, self.clogged[link])
        if self.options.is_fifo:
            time = max(time, self._last_arrival.get(link, 0))
            self._last_arrival[link] = time
        self.sim.at(time, self._arrive, parcel)

    def _arrive(self, parcel: Parcel) -> None:
        if self.options.capacity:
            self._on_the_way[parcel[0].frm, parcel[0].to] -= 1
        if self.sim.is_healed and self.sim.now > self._calm_since + TICK:
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
