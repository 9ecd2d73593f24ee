"""Batches forwarded requests and replies: one frame per peer per turn.

With 64 clients at a follower, a turn has thirty of them, and a frame of its own for each would cost
more on either side than its content.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..peers import wire

_MAX_BYTES = 512 * 1024
"""Bytes of data in one bundle; a frame that is longer by itself leaves alone."""


class Bundles:
    """Frames that wait for the end of the turn, by peer."""

    def __init__(self) -> None:
        """Start with none."""
        self._frames: dict[int, list[wire.Forward | wire.ForwardReply]] = {}

    def add(self, peer: int, frame: wire.Forward | wire.ForwardReply) -> None:
        """Keep a frame for `peer` until `take`."""
        frames = self._frames.get(peer)
        if frames is None:
            self._frames[peer] = [frame]
        else:
            frames.append(frame)

    def take(self) -> Iterator[tuple[int, list[wire.Forward | wire.ForwardReply]]]:
        """Hand over all frames, as (peer, frames of one bundle); in order for each peer."""
        frames_of, self._frames = self._frames, {}
        for peer, frames in frames_of.items():
            start = size = 0
            for at, frame in enumerate(frames):
                size += len(frame.data)
                if size > _MAX_BYTES and at > start:
                    yield peer, frames[start:at]
                    start, size = at, len(frame.data)
            yield peer, frames[start:]
