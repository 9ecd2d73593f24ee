"""What a handler may do while it answers: ask the node, under the rules of one connection.

Owns the deadlines of requests, and the rule that an answer that is ready is sent before the next
request of its connection waits for anything. Handlers get one `Exchange` per connection; the server
makes it. Errors of the node pass through here as they are (`dispatch.py` translates them). No
parsing and no socket calls here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import trio

from ...errors import NoLeader
from ...measure.answered import NOT_TIMED, Answered, Tally
from ...model.commands import Outcome
from ...net.turn import SLICE_BYTES, Turn
from .answers import RETRY_AFTER_S, Answer, HttpError, failure
from .idempotency import IDEMPOTENCY_KEY, keyed
from .looks import Looks
from .params import TIMEOUT_S_DEFAULT, timeout_s
from .unsent import Unsent
from .waiting import Wait

if TYPE_CHECKING:
    from ...errors import HstoreError
    from ...model.commands import Command
    from ..backend import Backend, Waiter
    from ..rendered import Rendered
    from .connection import Request, RequestError
    from .guard import Guard
    from .idempotency import Write
    from .params import Query

# How long a large answer waits until there is room to begin it.
ROOM_S = 20.0
# The deadline of a connection is this much after the one that the node was given, so it only counts
# where the node has forgotten a request.
DEADLINE_SLACK_S = 10.0

NO_OUTCOME = Outcome(ok=True, revision=0)

Finished = bytes | Awaitable[Answer | Wait] | Wait
"""A whole answer; or, where it is large, the work that makes it once it is the connection's turn; or a
wait, where it is not due yet."""


class Renewal(NamedTuple):
    """A session whose time is to start again, in place of a command: no entry of the log does that."""

    session_id: bytes


class Deferred:
    """The one thing that a handler has to wait for, and how it makes its answer after that.

    A handler that waits for nothing else returns this instead of waiting itself. So its request can
    be answered without a task (`parked.py`).

    Attributes:
        command: The wait is for this to be committed and applied; None: for a read barrier; a
            `Renewal`: for the leader to do it.
        query: Of the request.
        park: Of a read that waits for a change: begins the wait before the leader is asked, or returns
            None where that will not do; None: it does not wait.
        finish: Makes the answer from the outcome (None after a read's wait, a session or None after
            a renewal), or the rest of the work where the answer is large; may raise HttpError.
        known_by: What tells the request from another one under its `Idempotency-Key`, where the
            command says which node was asked: its client may send it again to another one. None: the
            command itself.
        applied_here: A write is answered only when it has taken effect in the copy of this node, too.
    """

    __slots__ = ("applied_here", "command", "finish", "known_by", "park", "query")

    def __init__(
        self,
        command: Write | Renewal | None,
        query: Query,
        finish: Callable[[Any], Finished],
        known_by: Write | None = None,
        park: Callable[[], Wait | None] | None = None,
        *,
        applied_here: bool = False,
    ) -> None:
        self.command = command
        self.query = query
        self.finish = finish
        self.known_by = known_by
        self.park = park
        self.applied_here = applied_here


Found = Answer | Deferred | Awaitable[Answer | Wait]
"""What a handler gives: its answer, what it waits for to give it, or the rest of its work."""


class Form(Protocol):
    """How errors look on some paths."""

    def __call__(self, exchange: Exchange, error: HttpError, *, is_change: bool) -> bytes:
        """Build the answer to a request that failed.

        Args:
            exchange: Of the connection.
            error: Why.
            is_change: The request was to change something.
        """
        ...


def json_form(exchange: Exchange, error: HttpError, *, is_change: bool) -> bytes:
    """The form of all paths that have none of their own: an object with `error`."""
    return failure(exchange.keys.applied_index, error)


class Router(Protocol):
    """The routes of a server."""

    def form(self, path: bytes) -> Form:
        """Return how errors look on a path, which need not be one of a route; asked only on errors."""
        ...

    def begin(self, exchange: Exchange, request: Request) -> Found:
        """Let the handler of a request begin; an error it raises becomes an answer."""
        ...

    def is_change(self, request: Request | RequestError) -> bool:
        """Whether a request changes something; asked only when it failed."""
        ...

    def body_bytes_max(self, request: Request | RequestError) -> int:
        """Return how large the body of a request may be; asked only when it is too large."""
        ...

    def is_vital(self, request: Request) -> bool:
        """Whether a request must be possible however many clients there are."""
        ...

    def make_tallies(self) -> list[Tally]:
        """Make what a server counts its answers with; `begin` chooses among them by its position."""
        ...


class Kept(NamedTuple):
    """What is kept of answers, and counted of them, for all connections; as in `Exchange`."""

    looks: Looks
    rendered: Rendered
    answered: Answered


class Client(NamedTuple):
    """The client of a connection; as in `Exchange`."""

    is_local: bool
    host: Callable[[], str]


class Exchange:
    """The node as the handlers of one connection see it.

    Attributes:
        backend: The node.
        keys: Its keys (`Backend.keys`, which nearly every request asks for).
        router: Leads to the handlers.
        guard: Checks where requests come from.
        is_local: The client is on this machine.
        client_host: Returns the IP address of the client; empty: it has none.
        scope: Bounds whatever the connection waits for; its deadline is moved, never removed.
        out: Answers that are not sent yet, in order.
        answered: What the server counts of its answers.
        tallies: Those of `answered`, by number of the route.
        tally: That of the request under way.
        began: When that request was whole, in seconds of `trio.current_time()`; or `NOT_TIMED`.
        due_at: The deadline that the node was given for the request that `begin` began.
        is_fresh: Local reads already see all that was answered before these requests came.
        has_waited: The last read of this connection that waited for a change did so for a while.
        turn: What clients may still be served in this turn of the event loop.
        unsent: What all clients have not taken yet.
        looks: Small listings that readers who wait share.
        rendered: Bodies of answers that are asked for often.
    """

    __slots__ = (
        "_flush",
        "answered",
        "backend",
        "began",
        "client_host",
        "due_at",
        "guard",
        "has_waited",
        "is_fresh",
        "is_local",
        "keys",
        "looks",
        "out",
        "rendered",
        "router",
        "scope",
        "tallies",
        "tally",
        "turn",
        "unsent",
    )

    def __init__(
        self,
        backend: Backend,
        router: Router,
        guard: Guard,
        flush: Callable[[], Awaitable[None]],
        *,
        turn: Turn,
        unsent: Unsent,
        kept: Kept,
        client: Client,
    ) -> None:
        self.backend = backend
        self.keys = backend.keys
        self.router = router
        self.guard = guard
        self.is_local, self.client_host = client
        self.scope = trio.CancelScope()
        self.out: list[bytes] = []
        self.is_fresh = self.has_waited = False
        self.due_at, self.began = 0.0, NOT_TIMED
        self._flush = flush
        self.turn = turn
        self.unsent = unsent
        self.looks, self.rendered, self.answered = kept
        self.tallies = self.answered.tallies
        self.tally = self.tallies[0]

    async def slice(self, size: int = SLICE_BYTES) -> None:
        """Wait for this connection's turn to begin a large answer, which reads `size` at first.

        After it there is room for one large value, until the caller waits for something else.

        Raises:
            HttpError: 503, there is no room: clients that are slow hold too much.

        Cancellation: nothing is held; answers that were ready may be sent in part.
        """
        if self.out:
            await self._flush()
        await self.turn.slice(size)
        if self.unsent.has_room:
            return
        with trio.move_on_after(ROOM_S):
            await self.unsent.room()
            return
        text = "too much is unsent to clients that read slowly; try again in a moment"
        raise HttpError(503, text, retry_after_s=RETRY_AFTER_S, shed="unsent")

    async def settle(self, deferred: Deferred, request: Request) -> Answer | Wait:
        """Wait for what a handler waits for, and return the answer, or that it is not due yet.

        Raises:
            HttpError, HstoreError: As of `barrier`, of `write` and of the handler.
        """
        outcome: Any = NO_OUTCOME
        wait = self.park(deferred) if deferred.park is not None else None
        if wait is not None:
            return wait
        if deferred.command is None:
            await self.barrier(deferred.query)
        elif isinstance(deferred.command, Renewal):
            deadline = await self.begin_wait(deferred.query)
            outcome = await self.backend.sessions.renew(deferred.command.session_id, deadline)
        else:
            outcome = await self.write(
                deferred.command,
                deferred.query,
                request,
                deferred.known_by,
                applied_here=deferred.applied_here,
            )
        if self.turn.bytes_left <= 0:
            await self.turn.small()  # The node tells thousands of outcomes at once.
        finished = deferred.finish(outcome)
        return await finished if isinstance(finished, Awaitable) else finished

    def park(self, deferred: Deferred) -> Wait | None:
        """Begin a read that is likely to wait before the leader is asked; None: ask first.

        Raises:
            HttpError: 400 for a bad query.
        """
        is_likely = self.has_waited and not self.is_fresh and deferred.park is not None
        return deferred.park() if is_likely else None  # type: ignore[misc]  # is_likely says so

    def begin(
        self, deferred: Deferred, request: Request, tell: Callable[[Outcome | HstoreError], None]
    ) -> Waiter | None:
        """Begin to wait without a task, if that is possible; `tell` is called at the end.

        Returns:
            The request under way; None: a task has to wait, by `settle`.

        Raises:
            HttpError: 400 for a bad query.
            Overloaded: Too many wait.
        """
        query, command = deferred.query, deferred.command
        deadline = self.turn.now + (timeout_s(query) if query else TIMEOUT_S_DEFAULT)
        self.due_at = deadline
        if command is None:
            if query and "stale" in query:
                return None  # The cluster waits for nodes.
            return self.keys.begin_read(deadline, tell)
        if isinstance(command, Renewal):
            return self.backend.sessions.begin_renew(command.session_id, deadline, tell)
        if IDEMPOTENCY_KEY in request.headers:
            return None
        return self.keys.begin_write(command, deadline, tell, applied_here=deferred.applied_here)

    def is_stale(self, deferred: Deferred) -> bool:
        """Whether nothing has to be waited for: a read that may be stale.

        Raises:
            HttpError: 400 for a bad query.
        """
        query = deferred.query
        if deferred.command is not None or not query or "stale" not in query:
            return False
        timeout_s(query)  # Refused also where it is not needed.
        return not self.keys.waiting

    async def barrier(self, query: Query) -> None:
        """Return when local reads are linearizable for this request (`?stale`: at once).

        Requests that came in one piece share one confirmation: it began after all of them came.

        Raises:
            HttpError: 400 for a bad query.
            Unavailable: No majority confirmed it in time, or the cluster waits for nodes.
        """
        if self.is_fresh or "stale" in query:
            timeout_s(query)  # Refused also where it is not needed.
            if self.keys.waiting:
                raise NoLeader(self.keys.waiting)
            return
        deadline = await self.begin_wait(query)
        await self.keys.read_barrier(deadline)
        self.is_fresh = True

    async def write(
        self,
        command: Write,
        query: Query,
        request: Request,
        known_by: Write | None = None,
        *,
        applied_here: bool = False,
    ) -> Outcome:
        """Have a command committed and applied; once for all requests with its `Idempotency-Key`.

        Args:
            command: The command.
            query: Of the request.
            request: The request.
            known_by, applied_here: As in `Deferred`.

        Raises:
            HttpError: 400 for a bad key or query.
            KeyReused, Unavailable: As of `Keys.write`.
        """
        if IDEMPOTENCY_KEY in request.headers:
            write: Command = keyed(request, command, known_by or command)
        else:
            write = command
        deadline = await self.begin_wait(query)
        return await self.keys.write(write, deadline, applied_here=applied_here)

    async def begin_wait(self, query: Query) -> float:
        """Prepare for a wait on the cluster; return the absolute deadline to give to the node.

        Raises:
            HttpError: 400 for a bad `?timeout=`.
        """
        # An answer that is ready must not wait for what this request waits for.
        if self.out:
            await self._flush()
        # An earlier barrier does not cover the effects of this request.
        self.is_fresh = False
        deadline = trio.current_time() + timeout_s(query)
        # LogLimit true, and setting a deadline costs microseconds even to what it is: not `max`.
        if self.scope.deadline < deadline + DEADLINE_SLACK_S:  # noqa: PLR1730
            self.scope.deadline = deadline + DEADLINE_SLACK_S
        return deadline
