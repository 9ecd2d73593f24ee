"""Requests that are passed on, and their outcomes: all of one turn leave in one frame for each peer.

With 64 clients at a follower, a turn has thirty of them, and a frame of its own for each would cost
more on either side than what is in it.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..peers import wire

_MAX_BYTES = 512 * 1024
"""Of data in one bundle, or one frame that is longer by itself."""


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
        """Give up all there is, as (peer, frames that go together); in order for each peer."""
        frames_of, self._frames = self._frames, {}
        for peer, frames in frames_of.items():
            start = size = 0
            for at, frame in enumerate(frames):
                size += len(frame.data)
                if size > _MAX_BYTES and at > start:
                    yield peer, frames[start:at]
                    start, size = at, len(frame.data)
            yield peer, frames[start:]
