"""Connections that need a task only at times, because a poller watches them.

Theory of operation. Most connections bring one small whole request at a time, which asks for one
key. Such a connection is *parked*: it has no task. The poller calls `ready` when something has
come; the request is handled right there, and its answer is sent from where the node reports the
outcome. Whatever is not so plain (half a request, several at once, a handler that does more than
wait for one thing, a client that does not read its answer) gets a task, until the connection is
idle again and is parked. Both ways go through the same handlers.

A parked connection has no deadline of its own: the server looks for those that have been idle for
too long, and the node answers each request by its deadline.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import structlog
import trio

from ...measure.answered import NOT_TIMED
from ...net.poller import Poller
from ...net.stream import TcpStream
from ...net.turn import SMALL_BYTES
from ..backend import Waiter
from .answers import Answer, HttpError, without_body
from .connection import REQUESTS_BYTES, Request
from .dispatch import failed
from .exchange import DEADLINE_SLACK_S, NO_OUTCOME, Deferred, Finished, Found
from .room import Silence
from .serving import PATIENCE_S_MIN, Begun, Serving, Shared, cost_of
from .waiting import Due, Wait

# What is received up to this size is handled even where the turn has served enough: so who asks for
# little does not wait behind those who send much.
SMALL_REQUEST_BYTES = 512
# What it takes of a turn to find out that a value is large, by reading it.
LARGE_READ_BYTES = 16 * 1024

_log = structlog.get_logger(__name__)


class Parking(NamedTuple):
    """What a connection without a task needs.

    Attributes:
        poller: Calls when something has come.
        start: Starts the task of a connection.
        gone: Called with each connection that has ended.
    """

    poller: Poller
    start: Callable[[Parked], None]
    gone: Callable[[Serving], None]


class Parked(Serving):
    """One connection that has a task only while it needs one."""

    stream: TcpStream
    _can_park = True

    def __init__(
        self, stream: TcpStream, shared: Shared, parking: Parking, *, is_local: bool
    ) -> None:
        super().__init__(stream, shared, is_local=is_local)
        self._parking = parking
        self._has_task = False
        self._is_closed = False
        self._is_readable = False
        self._todo: list[Request | Begun] = []
        self._waiter: Waiter | None = None
        self._waits_for: tuple[Request, Deferred | Wait] | None = None
        # A read that the task has left to be waited for without it, and whether more came behind it.
        self._held: tuple[Request, Wait] | None = None
        self._has_more = False
        self._unparsed = b""

    def close(self) -> None:
        """Break reference cycles, so that memory comes back at once."""
        self._is_closed = True
        super().close()
        if self._waiter is not None:
            self._waiter.give_up()

    def end_soon(self) -> None:
        """End now when no request is under way, else after the answer to it."""
        if self._has_task:
            super().end_soon()
            return
        self._is_ending = True
        if self._is_idle:
            self.leave()

    def _take_todo(self) -> Sequence[Request | Begun]:
        todo, self._todo = self._todo, []
        return todo

    def park(self) -> None:
        """Go on without a task, until something comes that needs one."""
        self._has_task = False
        if self._held is not None:
            (request, wait), self._held = self._held, None
            self._has_more = True
            self._begin_to_wait(request, wait)
            return
        # What comes next may have been waiting since long before.
        self._silent_since = self._turn.now = trio.current_time()
        if self._is_readable:
            self._is_readable = False
            self.ready()

    def watch(self) -> None:
        """Have the poller call `ready` from now on."""
        self._parking.poller.watch(self.stream.sock.fileno(), self.ready)

    def is_overdue(self, now: float) -> bool:
        """Whether it is parked and idle for too long, or the node has forgotten its request."""
        if self._has_task:
            return False
        if self._waits_for is not None:
            return now > self._exchange.due_at + DEADLINE_SLACK_S
        return now > self._silent_since + PATIENCE_S_MIN

    def silence(self, now: float) -> Silence | None:
        """Return since when the client is silent, if it is the client's turn to send (`room.Occupant`)."""
        if self._has_task:
            # It has one because the client is not silent, unless it owes the rest of a request, or
            # has its last answer.
            is_silent = self._strict_phase is not None or self._is_lingering
            return super().silence(now) if is_silent and not self._unparsed else None
        return (0, self._silent_since) if self._waits_for is None else None

    def evict(self) -> None:
        """End now, without an answer: another connection needs the place."""
        if self._has_task:
            super().evict()
        else:
            self.leave()

    def leave(self) -> None:
        """End it now, without an answer to the request under way. Idempotent."""
        if self._is_closed:
            return
        sock = self.stream.sock
        if sock.fileno() != -1:
            self._parking.poller.forget(sock.fileno())
            if not self._has_task or self._unparsed:
                sock.close()
        self.close()
        self._parking.gone(self)

    def ready(self) -> None:
        """Handle what has come, or that the client has gone (`poller.Ready`)."""
        if self._has_task or self._waits_for is not None or self._is_closed:
            self._notice()
            return
        try:
            data = self.stream.receive_now(REQUESTS_BYTES)
            if data is None:
                return
            if not data:
                self.leave()
                return
            size, turn = len(data), self._turn
            self._is_readable = size == REQUESTS_BYTES
            if turn.bytes_left <= 0 and size > SMALL_REQUEST_BYTES:
                self._has_task = True  # In place of one, the turn goes on with it.
                self._unparsed = data
                turn.later(self._parse_late)
                return
            turn.bytes_left -= size if size <= SMALL_REQUEST_BYTES else cost_of(data)
            self._parse(data)
        except trio.BrokenResourceError:
            self.leave()
        except Exception:  # noqa: BLE001 (the boundary of a connection; it is logged)
            _log.exception("connection failed")
            self.leave()

    def _notice(self) -> None:
        """Something has come that has to wait, or the client has gone."""
        self._is_readable = True
        if self._waits_for is not None and isinstance(self._waits_for[1], Wait):
            if self.stream.has_ended():
                self.leave()
        elif self._endless is not None and self.stream.has_ended():
            self._endless.cancel()  # Else only the next keepalive would notice it.

    def _parse_late(self) -> None:
        """Parse what has waited for its turn."""
        data, self._unparsed = self._unparsed, b""
        if self._is_closed:
            return
        self._has_task = False
        self._turn.bytes_left -= cost_of(data)
        try:
            self._parse(data)
        except trio.BrokenResourceError:
            self.leave()
        except Exception:  # noqa: BLE001 (the boundary of a connection; it is logged)
            _log.exception("connection failed")
            self.leave()

    def _parse(self, data: bytes) -> None:
        connection = self._connection
        requests = connection.receive(data)
        self._exchange.is_fresh = False
        if len(requests) != 1 or connection.is_begun or connection.error is not None:
            self._todo += requests
            self._take_task()
            return
        request = requests[0]
        self._is_idle = False
        exchange = self._exchange
        exchange.began = self._turn.now
        found: Found | Finished | None = exchange.router.begin(exchange, request)
        if type(found) is Deferred:
            found = self._ask(request, found)
        if found is None:
            return
        if type(found) is bytes:
            self._say(request, found)
        elif isinstance(found, Wait):
            self._begin_to_wait(request, found)
        else:
            self._todo.append(Begun(request, found))
            self._take_task()

    def _ask(self, request: Request, deferred: Deferred) -> Finished | Deferred | None:
        """Ask the node.

        Returns:
            The answer, if it is there at once; None: `_told` will be called; else what a task has
            to wait for.
        """
        exchange = self._exchange
        try:
            wait = exchange.park(deferred) if deferred.park is not None else None
            if wait is not None:
                return wait
            is_stale = bool(deferred.query) and exchange.is_stale(deferred)
            if is_stale and self._turn.bytes_left > 0:
                return deferred.finish(NO_OUTCOME)
            self._waits_for = request, deferred
            if is_stale:
                self._turn.later(partial(self._told, NO_OUTCOME))
                return None
            self._waiter = exchange.begin(deferred, request, self._told)
        except Exception as error:  # noqa: BLE001 (the boundary)
            self._waits_for = None
            return failed(exchange, request, error)
        if self._waiter is not None:
            return None
        self._waits_for = None
        return deferred

    def _told(self, outcome: Any) -> None:
        """Answer the request under way, whose outcome is known; called in the node's turn."""
        if self._turn.bytes_left <= 0:
            self._turn.later(partial(self._told, outcome))
            return
        waits_for, self._waits_for, self._waiter = self._waits_for, None, None
        if self._is_closed or waits_for is None:
            return
        request, deferred = waits_for
        try:
            if isinstance(outcome, Exception):
                answer: Finished = failed(self._exchange, request, outcome)
            else:
                try:
                    answer = deferred.finish(outcome)  # type: ignore[union-attr]  # a wait is told by `_due`
                except Exception as error:  # noqa: BLE001 (the boundary)
                    answer = failed(self._exchange, request, error)
            if type(answer) is bytes:
                self._say(request, answer)
            elif isinstance(answer, Wait):
                self._begin_to_wait(request, answer)
            else:
                self._work(request, answer)
        except trio.BrokenResourceError:
            self.leave()
        except Exception:  # noqa: BLE001 (the boundary of a connection; it is logged)
            _log.exception("connection failed")
            self.leave()

    def _work(self, request: Request, answer: Awaitable[Answer | Wait] | bytes) -> None:
        """Have a task make the answer, or send it."""
        self._turn.bytes_left -= LARGE_READ_BYTES
        self._todo.insert(0, Begun(request, answer))
        self._take_task()

    def _begin_to_wait(self, request: Request, wait: Wait) -> None:
        """Wait for a change, without a task."""
        self._exchange.began = NOT_TIMED
        self._waits_for = request, wait
        self._exchange.due_at = wait.until
        try:
            pending = self._begin_wait(wait, self._due)
        except HttpError as error:
            self._due(error)
            return
        self._waiter = pending
        pending.start()

    def _due(self, found: Due | Exception) -> None:
        """Answer the read that has waited; never raises (`waiting.Tell`)."""
        waits_for, self._waits_for, self._waiter = self._waits_for, None, None
        if self._is_closed or waits_for is None:
            return
        request = waits_for[0]
        has_more, self._has_more = self._has_more, False
        try:
            answer = (
                failed(self._exchange, request, found) if isinstance(found, Exception) else found
            )
            if type(answer) is bytes and not has_more:
                self._say(request, answer)
            else:
                self._work(request, answer)
        except trio.BrokenResourceError:
            self.leave()
        except Exception:  # noqa: BLE001 (the boundary of a connection; it is logged)
            _log.exception("connection failed")
            self.leave()

    def _is_held(self) -> bool:
        return self._held is not None

    def _keep_for_later(self, todo: Sequence[Request | Begun]) -> None:
        self._todo += todo

    async def _hold(self, request: Request, wait: Wait) -> Answer | None:
        self._held = request, wait
        return None

    def _say(self, request: Request, whole: bytes) -> None:
        """Send the answer to the one request that has come."""
        if request.is_http10 or not request.keep_alive or self._is_ending or self._is_readable:
            self._todo.append(Begun(request, whole))
            self._take_task()
            return
        if request.method == b"HEAD":
            whole = without_body(whole)
        exchange = self._exchange
        # Not the turn's time: the node may tell an outcome long after the poller ran.
        now = trio.current_time()
        exchange.tally.answered(whole, exchange.began, now)
        size = len(whole)
        self._turn.bytes_left -= size + SMALL_BYTES
        sent = self.stream.send_now(whole)
        if sent < size:
            exchange.out.append(whole[sent:])
            self._take_task()
        else:
            self._is_idle = True
            self._silent_since = now

    def _take_task(self) -> None:
        self._has_task = True
        self._parking.start(self)
