"""The flushing thread of a node that is simulated: a task that takes virtual time.

Which ends the event loop hears of is decided by the real bookkeeping (`Ends` of
`node/storage/flusher.py`). Here are drawn how long each flush takes, and whether it ends just while
the driver says whether it wants to hear of it, as a thread may. What waits for a flush leaves at its
end without the driver, unless its link has no room.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from hstore.node.errors import StorageError
from hstore.node.peers import wire
from hstore.node.raft.messages import Message
from hstore.node.storage.flusher import Done, Ends, Then

if TYPE_CHECKING:
    from .disk import WatchedStorage


class FlushThread:
    """The thread of one life of a node. Works off what it was given, one after another."""

    def __init__(self, storage: WatchedStorage) -> None:
        self.storage = storage
        self.member = storage.member
        self.sim = storage.sim
        self._ends = Ends(self._wake)
        self._jobs: deque[Then] = deque()
        self._is_running = self._is_told = False
        self._finish_now: Callable[[], None] | None = None

    def begin(self, done: Done, then: Then) -> None:
        """Begin a flush."""
        self._ends.begun(done)
        self._jobs.append(then)
        if not self._is_running:
            self._is_running = True
            self.member.start_soon(self._run)

    async def flush(self) -> None:
        """Flush, and wait for the end of it."""
        over = trio.Event()
        self._ends.awaited += 1
        try:
            self.begin(lambda _: over.set(), lambda: False)
            await over.wait()
        finally:
            self._ends.awaited -= 1
        if self._ends.error is not None:
            raise self._ends.error

    def want(self, *, is_wanted: bool) -> None:
        """Whether the driver wants to hear of an end; the flush may end at this very moment."""
        finish = self._finish_now if self.member.disk.flush_gate is None else None
        if finish is not None and self.sim.faults.draw_race():
            self.sim.counts["flushes that end while they are asked for"] += 1
            finish()
        self._ends.want(is_wanted=is_wanted)

    def take(self) -> None:
        """Have the driver hear of ends now."""
        if self.has_untaken and not self._is_told:
            self.sim.counts["ends of flushes that nobody was woken for"] += 1
        self._ends.take()

    @property
    def has_untaken(self) -> bool:
        """Whether a flush has ended that the driver does not know of."""
        return self._ends._reported < self._ends._finished

    async def _run(self) -> None:
        while self._jobs:
            await self._work(self._jobs.popleft())
        self._is_running = False

    async def _work(self, then: Then) -> None:
        storage, over = self.storage, trio.Event()
        storage.before("flush")
        finish = storage.inner.begin_flush()
        storage.is_flushing = True

        def finish_now() -> None:
            self._finish_now = None
            storage.is_flushing = False
            over.set()
            self._end(finish, then)

        self._finish_now = finish_now
        with trio.move_on_after(self.sim.faults.draw_flush()):
            await over.wait()
        gate = self.member.disk.flush_gate
        if gate is not None:
            await gate.wait()
        await trio.lowlevel.checkpoint()
        if not over.is_set():
            finish_now()
        storage.after("flush")

    def _end(self, finish: Callable[[], None], then: Then) -> None:
        try:
            finish()
            must_tell = then() if self._ends.error is None else False
        except StorageError as error:
            self._ends.ended(error)
        else:
            self._ends.ended(must_tell=must_tell)
            self.sim.promptness.flushed(self.member)

    def _wake(self) -> None:
        if not self._is_told:
            self._is_told = True
            self.member.start_soon(self._tell)

    async def _tell(self) -> None:
        """What the poller does: rule 2 of `node/net/poller.py`."""
        await trio.lowlevel.checkpoint()
        self._is_told = False
        replica = self.member.node.replica
        replica.hold()
        self._ends.take()
        replica.take_turns()

    def send_now(self, message: Message) -> bool:
        """Send what has waited for a flush, in place of `Replica._send_now`."""
        links = self.member.node.replica._links
        if links is None or self.sim.faults.draw_full_link():
            return False
        self.sim.checker.leaves(self.member, message)
        if not links.post(message.to, wire.encode(message)):
            return False
        links.flush()
        self.sim.counts["sent by the thread that has flushed"] += 1
        return True
