"""Feeds a member from the leader's disk what follows the snapshot that it has taken.

These are appends like any other: the core counts the answers, and goes on by itself as soon as the
log in memory reaches back to where the member is.
"""

from __future__ import annotations

from collections import deque

import trio

from ..driver.facts import Facts
from ..driver.replica import Replica
from ..errors import PeerError
from ..peers import wire
from ..peers.links import Links
from ..raft.log import entry_size
from ..raft.messages import Append

_FEED_BYTES = 256 * 1024
_FEED_WINDOW_BYTES = 4 * 1024 * 1024
"""Of entries read from the disk: in one message, and sent without an answer."""

_FEED_PAUSE_SECONDS = 0.01
_FEED_LOST_SECONDS = 2.0
_FEED_PATIENCE_SECONDS = 10.0
"""Between two looks at the answers; until entries without an answer are sent again; until the feed
is given up."""


class Feed:
    """The feed of one peer, from the entry after `index` on."""

    def __init__(self, replica: Replica, links: Links, peer: int, index: int) -> None:
        self._replica = replica
        self._facts = replica.facts
        self._links = links
        self._peer = peer
        self._index = index

    async def run(self) -> None:
        """Send entries until the log in memory reaches back far enough.

        Raises:
            PeerError: The peer does not get on, or is no member any more; this node does not lead
                any more; or the disk does not have what follows any more.
        """
        facts, peer = self._facts, self._peer
        term = facts.term
        window = _Window(self._index, trio.current_time())
        while self._index < facts.compacted_index:
            check_leading(facts, term)
            match = facts.match_of(peer)
            if match is None:
                raise PeerError("the peer is not a member any more")
            if match >= facts.compacted_index:
                return
            window.heard(match, trio.current_time())
            if window.next <= facts.compacted_index and self._send_some(window):
                await trio.lowlevel.checkpoint()
            else:
                await trio.sleep(_FEED_PAUSE_SECONDS)

    def _send_some(self, window: _Window) -> bool:
        """Send one append; return whether that was possible now."""
        if window.unanswered_bytes >= _FEED_WINDOW_BYTES:
            return False
        found = self._replica.storage.read(window.next, _FEED_BYTES)
        if found is None:
            raise PeerError("what follows the snapshot is compacted: the disk holds only so much")
        (term, entries), facts = found, self._facts
        message = Append(
            facts.id, self._peer, facts.term, window.next - 1, term, entries, facts.commit_index
        )
        if not self._links.send(self._peer, wire.encode(message)):
            return False
        window.sent(entries[-1].index, sum(map(entry_size, entries)))
        return True


def check_leading(facts: Facts, term: int | None = None) -> None:
    """Refuse to send, unless this node leads: in each term, a node follows one leader only.

    Raises:
        PeerError: This node does not lead, or not in `term`.
    """
    if not facts.is_leader or term not in (None, facts.term):
        raise PeerError("this node does not lead any more")


class _Window:
    """Entries that were sent to one peer, and not yet answered.

    Attributes:
        next: Index of the entry to send next.
        unanswered_bytes: Of what was sent, as far as no answer says that it is there.
    """

    def __init__(self, index: int, now: float) -> None:
        """Begin after `index`."""
        self.next = index + 1
        self.unanswered_bytes = 0
        self._match = index
        self._moved_at = self._sent_again_at = now
        self._unanswered: deque[tuple[int, int]] = deque()

    def sent(self, last: int, size: int) -> None:
        """Take note of entries up to `last`."""
        self._unanswered.append((last, size))
        self.unanswered_bytes += size
        self.next = last + 1

    def heard(self, match: int, now: float) -> None:
        """Take note of how far the peer is; go back to there when what was sent seems lost.

        Raises:
            PeerError: It has not got any further for too long.
        """
        if match > self._match:
            self._match, self._moved_at = match, now
            self.next = max(self.next, match + 1)
            while self._unanswered and self._unanswered[0][0] <= match:
                self.unanswered_bytes -= self._unanswered.popleft()[1]
        elif now - self._moved_at > _FEED_PATIENCE_SECONDS:
            raise PeerError("the peer does not take what follows the snapshot")
        elif now - max(self._moved_at, self._sent_again_at) > _FEED_LOST_SECONDS:
            self._sent_again_at = now
            self._unanswered.clear()
            self.unanswered_bytes, self.next = 0, self._match + 1
