"""Replies to forwarded requests, kept for a while after they were sent.

A link that is lost, or silent and made anew, takes with it what was on its way. A message of consensus
is sent again by its rules; a reply that is lost would leave a client with an unknown outcome, though
this node knows it. So when a link to a peer has been made, the latest replies to that peer are sent
once more. That can do no harm: the peer drops a reply to a request that it does not wait for any more,
and it never uses an id twice.

Which of them have arrived is not known. A node waits for `MAX_WAITING` requests at most, and what a
connection loses is the end of what was sent on it: so as many replies are kept, if they are small.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from ..peers import wire

KEPT_BYTES = 4 * 1024 * 1024
"""For each peer; 16,384 replies to ordinary writes take two thirds of it, the largest one half."""

KEPT_S = 10.0
"""A client waits 5 s unless it says otherwise. A node that hears of no leader for an election timeout
waits for one more, and not until its clients' deadlines (`Waiting.hurry_forwarded`)."""

_OVERHEAD_BYTES = 150
"""Of a reply, beside its data."""

Frames = Iterable[wire.Forward | wire.ForwardReply]


class _Sent(NamedTuple):
    """Replies that were sent as one frame."""

    at: float
    size: int
    replies: list[wire.ForwardReply]


class _Kept:
    """The latest replies to one peer."""

    __slots__ = ("sent", "size")

    def __init__(self) -> None:
        self.sent: deque[_Sent] = deque()
        self.size = 0

    def drop_oldest(self) -> None:
        self.size -= self.sent.popleft().size


class Replies:
    """The replies that may have to be sent once more, by peer."""

    def __init__(self) -> None:
        """Start with none."""
        self._kept: dict[int, _Kept] = {}

    def sent(self, peer: int, frames: Frames, now: float) -> None:
        """Keep the replies among `frames`, which were sent, or could not be sent, at `now`."""
        replies = [frame for frame in frames if type(frame) is wire.ForwardReply]
        if not replies:
            return
        kept = self._kept.get(peer)
        if kept is None:
            kept = self._kept[peer] = _Kept()
        size = sum(len(reply.data) for reply in replies) + _OVERHEAD_BYTES * len(replies)
        kept.sent.append(_Sent(now, size, replies))
        kept.size += size
        while kept.size > KEPT_BYTES:
            kept.drop_oldest()

    def kept(self, peer: int) -> list[list[wire.ForwardReply]]:
        """Return the latest replies to a peer, oldest first, each list as it was sent."""
        kept = self._kept.get(peer)
        return [] if kept is None else [sent.replies for sent in kept.sent]

    def expire(self, now: float) -> None:
        """Forget those that nobody waits for any more."""
        for peer, kept in list(self._kept.items()):
            while kept.sent and kept.sent[0].at < now - KEPT_S:
                kept.drop_oldest()
            if not kept.sent:
                del self._kept[peer]
