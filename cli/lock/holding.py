"""`hstore lock`: waits for the lock, runs the command, ends it before the lock may be lost, frees it.

In this order. A session is created, and renewed from then on. The lock is taken, or its key is read
until it is free (a blocking read). The key is read once more, for the fencing token. The command runs.
Three things end that: the command itself; the time, when renewals have failed for too long; and the key
or the session, when they say that another may hold the lock. Then the key is released and the session
destroyed, as far as a member can be reached.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

import trio

from hstore.node.errors import HstoreError, Refused
from hstore.node.model.values import duration_text

from ..client import sessions
from ..client.plain import plain
from .keeping import CREATE_S, Session

if TYPE_CHECKING:
    from ..client.replies import KeyRow
    from .members import Members, Request

T = TypeVar("T")

EXIT_LOST = 125
"""The lock may have been lost, and the command was ended."""

_FLAGS = 0x2DDCCBC058A50C18
"""What locks of Consul's clients have as flags (api/lock.go: LockFlagValue): they exclude each other."""

_READ_S = 15.0
"""One blocking read. Each ends, so that a member that has fallen silent is noticed."""

_MORE_S = 4.0
"""What its answer may take beyond that: the node adds a sixteenth."""

_ATTEMPT_S = 3.0
_AGAIN_S = 1.0
"""Between two tries while the lock delay of the last holder lasts, the end of which wakes nobody."""

_FREE_S = 5.0
"""How long the end tries to free the lock, which is free in time without that, too."""

_TICK_S = 0.1

_KILLED_S = 5.0
"""How long a killed process may take to be gone; one that waits for a dead disk is not waited for."""


_NAME_MAX = 100
"""Letters of a value that are shown as the name of a holder."""


class Asked(NamedTuple):
    """What the user wants.

    Attributes:
        key: Whose lock.
        command: The words of the command.
        ttl_s, delay_s: TTL and lock delay of the session, in seconds.
        wait_s: How long to wait for the lock; None: for ever; 0: one try.
        name: Of the session, and the value of the key while it is held.
    """

    key: str
    command: tuple[str, ...]
    ttl_s: float
    delay_s: float
    wait_s: float | None
    name: str


class Runs(Protocol):
    """A command that runs (`child.py`)."""

    status: int | None

    def signal(self, number: int) -> None:
        """See `child.py`, as for the others."""

    def look(self) -> bool:
        """See there."""

    def stop_with_it(self) -> None:
        """See there."""

    def go_on(self) -> None:
        """See there."""

    def bury(self) -> None:
        """See there."""


class Holder:
    """Runs one command under one lock.

    Args:
        asked: What the user wants.
        members: The cluster.
        run: Starts the command with an environment.
        tell: Called with what the user must know.
        note: Called with what a user who waits at a terminal likes to know.
    """

    def __init__(
        self,
        asked: Asked,
        members: Members,
        run: Callable[[tuple[str, ...], Mapping[str, str]], Runs],
        tell: Callable[[str], None],
        note: Callable[[str], None],
    ) -> None:
        self._asked = asked
        self._members = members
        self._run = run
        self._tell = tell
        self._note = note
        self._patience_s = CREATE_S if asked.wait_s == 0 else None
        self._session: Session | None = None
        self._child: Runs | None = None
        self._ended = trio.Event()
        self._interrupt: int | None = None
        self._waiting = trio.CancelScope()
        self._seen: KeyRow | None = None
        self._was_seen = False  # whether any member has said who holds the lock

    async def hold(self, signals: AsyncIterable[int]) -> int:
        """Wait for the lock, run the command, and return the exit status.

        Args:
            signals: The numbers of signals as they arrive, SIGCHLD among them.

        Raises:
            Refused: The lock was not free in time, or the cluster refuses the session.
            NotRunnable: The command cannot be started.
            HstoreError: The cluster cannot be reached.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._take_signals, signals)
            try:
                return await self._hold(nursery)
            finally:
                nursery.cancel_scope.cancel()

    async def _hold(self, nursery: trio.Nursery) -> int:
        index: int | None = None
        limit = self._asked.wait_s
        # One try is not cut short by the time that it takes.
        with self._waiting, trio.move_on_after(limit) if limit else trio.CancelScope():
            while index is None:
                self._session = await self._create()
                nursery.start_soon(self._session.keep)
                index = await _until_ended(self._session, self._acquire)
                if limit == 0:
                    break
        session = self._session
        try:
            if session is None or index is None or self._interrupt is not None:
                return self._not_held()
            return await self._run_command(session, index)
        finally:
            if session is not None:
                await self._free(session)

    async def _create(self) -> Session:
        asked: dict[str, object] = {
            "Name": self._asked.name,
            "TTL": _duration(self._asked.ttl_s),
            "LockDelay": _duration(self._asked.delay_s),
            "NodeChecks": [],  # it depends on no node, but on its renewals
        }
        return await Session.create(self._members, asked, self._asked.ttl_s)

    # --- waiting for the lock ---------------------------------------------------------------------

    async def _acquire(self, session: Session) -> int | None:
        """Take the lock, and return its index; None: it is held, and there is to be one try only."""
        key, value = self._asked.key, self._asked.name.encode()
        while True:
            try:
                await self._ask(
                    lambda client: sessions.acquire(client, key, value, session.id, _FLAGS)
                )
            except Refused:
                await session.renew()  # does it say that because the session has ended?
                if session.ended.is_set():
                    return None
                raise
            sight = await self._look()
            if sight.row is not None and sight.row.session == session.id:
                # By now most of the TTL may be over. The command shall begin with all of it.
                await session.renew()
                return None if session.ended.is_set() else sight.row.lock_index
            if self._asked.wait_s == 0:
                return None
            if sight.row is None or not sight.row.session:
                await trio.sleep(_AGAIN_S)
            while sight.row is not None and sight.row.session:
                sight = await self._look(sight)

    async def _look(self, before: sessions.Sight | None = None) -> sessions.Sight:
        """Return the key; where it was seen before, when it has changed since, or after a while."""
        key = self._asked.key
        if before is None:
            sight = await self._ask(lambda client: sessions.look(client, key))
        else:
            sight, _ = await self._members.ask(
                lambda client: sessions.look(client, key, before.at, _READ_S), _READ_S + _MORE_S
            )
            if sight.at <= before.at:
                await trio.sleep(_AGAIN_S)  # a member that does not wait must not be asked at once
        self._see(sight.row)
        return sight

    async def _ask(self, request: Request[T]) -> T:
        answer, _ = await self._members.ask(request, _ATTEMPT_S, self._patience_s)
        return answer

    def _see(self, row: KeyRow | None) -> None:
        """Keep who holds the lock; while it is waited for, say so when that is another than before."""
        before, self._seen, self._was_seen = self._seen, row, True
        if row is None or not row.session or self._child is not None or self._asked.wait_s == 0:
            return
        is_own = self._session is not None and row.session == self._session.id
        if not is_own and (before is None or before.session != row.session):
            self._note(f"waiting for {self._what()}: {_holder(row)} holds it")

    def _not_held(self) -> int:
        if self._interrupt is not None:
            return 128 + self._interrupt
        row = self._seen
        why = f"{_holder(row)} holds it" if row and row.session else "its lock delay is not over"
        time = f" within {self._asked.wait_s:g} s" if self._asked.wait_s else ""
        if not self._was_seen:
            raise Refused(
                f"{self._what()} was not taken{time}: no member answered for the cluster; "
                "`hstore list` shows why"
            )
        raise Refused(f"{self._what()} was not free{time}: {why}")

    def _what(self) -> str:
        return f"the lock {plain(self._asked.key)}"

    # --- holding it -------------------------------------------------------------------------------

    async def _run_command(self, session: Session, index: int) -> int:
        env = {
            **os.environ,
            "HSTORE_LOCK_KEY": self._asked.key,
            "HSTORE_LOCK_INDEX": str(index),
            "HSTORE_LOCK_SESSION": session.id,
        }
        child = self._child = self._run(self._asked.command, env)
        is_lost = False
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch_key, session)
                nursery.start_soon(_cancel_after, self._ended, nursery.cancel_scope)
                while not session.may_be_lost():  # noqa: ASYNC110 - a clock that is not Trio's
                    await trio.sleep(_TICK_S)
                is_lost = not self._ended.is_set()
                if is_lost:
                    await self._end(session, child)
                nursery.cancel_scope.cancel()
        finally:
            if is_lost or not self._ended.is_set():
                child.signal(signal.SIGKILL)  # whoever is left of its group
                with trio.move_on_after(_KILLED_S, shield=True):
                    await self._ended.wait()
            if self._ended.is_set():
                child.bury()
        return EXIT_LOST if is_lost else child.status or 0

    async def _watch_key(self, session: Session) -> None:
        """Take note when the key says that this session does not hold it any more."""
        sight: sessions.Sight | None = None
        while not session.ended.is_set():
            try:
                sight = await self._look(sight)
            except HstoreError:
                await trio.sleep(_AGAIN_S)  # renewals tell whether the session lives
                continue
            if sight.row is None or sight.row.session != session.id:
                how = "deleted" if sight.row is None else "released or taken"
                session.end(f"its key was {how}")

    async def _end(self, session: Session, child: Runs) -> None:
        """Ask the command to end, and return when its time is over."""
        now = self._members.now()
        why = session.why or "no renewal has succeeded for too long"
        self._tell(f"{self._what()} may be lost: {why}; ending the command")
        child.signal(signal.SIGTERM)
        grace_s = session.lease.grace_s
        if session.ended.is_set():
            # Another session may take the lock now, if the lock delay does not keep it out.
            kill_at = now + min(grace_s, self._asked.delay_s)
        else:
            kill_at = min(now + grace_s, session.lease.kill_at)
        await self._members.sleep_until(kill_at)

    async def _free(self, session: Session) -> None:
        """Release the lock and destroy the session, where a member can be reached."""
        key, is_done = self._asked.key, False
        # Without a release the lock delay would keep the next holder waiting.
        with trio.move_on_after(_FREE_S, shield=True), contextlib.suppress(HstoreError):
            await self._ask(lambda client: sessions.release(client, key, b"", session.id, _FLAGS))
            is_done = True
        with trio.move_on_after(_FREE_S if is_done else 0, shield=True):
            with contextlib.suppress(HstoreError):
                await self._ask(lambda client: sessions.destroy(client, session.id))
        if not is_done and not session.ended.is_set():
            most = 2 * self._asked.ttl_s + self._asked.delay_s
            self._tell(f"{self._what()} could not be freed; it will be free in {most:g} s")

    # --- signals ----------------------------------------------------------------------------------

    async def _take_signals(self, signals: AsyncIterable[int]) -> None:
        """Pass signals on to the command; before it runs, they end the waiting."""
        async for number in signals:
            if number == signal.SIGCHLD:
                self._look_at_child()
            elif self._child is not None:
                self._child.signal(number)
            else:
                self._interrupt = number
                self._waiting.cancel()

    def _look_at_child(self) -> None:
        child, session = self._child, self._session
        if child is None or session is None:
            return
        if child.look():
            child.stop_with_it()
            # Much time may have passed. It must not go on when the lock may be another's by now.
            if not session.may_be_lost():
                child.go_on()
        if child.status is not None:
            self._ended.set()


async def _until_ended(
    session: Session, do: Callable[[Session], Awaitable[int | None]]
) -> int | None:
    """Return what `do` returns; None as soon as the session has ended."""
    result = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_cancel_after, session.ended, nursery.cancel_scope)
        result = await do(session)
        nursery.cancel_scope.cancel()
    return None if session.ended.is_set() else result


async def _cancel_after(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


def _duration(seconds: float) -> str:
    return duration_text(round(seconds * 1000))


def _holder(row: KeyRow) -> str:
    """Name a holder: by the value of the key, where that is a short text, as locks of ours write it."""
    try:
        name = row.data().decode()
    except ValueError:
        name = ""
    return plain(name) if 0 < len(name) <= _NAME_MAX else f"session {plain(row.session)}"
