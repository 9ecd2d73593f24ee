"""What a handler may do while it answers: ask the node, under the rules of one connection.

Owns the deadlines of requests, the rule that nothing waits behind an answer that is not sent yet,
and the translation of the node's errors. Handlers get one `Exchange` per connection; the server
makes it. No parsing and no socket calls here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from ...errors import HstoreError, NoSpace, StorageError, Unavailable
from ...model.commands import Outcome
from .answers import HttpError
from .idempotency import IDEMPOTENCY_KEY, keyed
from .params import TIMEOUT_S_DEFAULT, timeout_s

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ...model.commands import Command
    from ..backend import Backend, Waiter
    from .connection import Request
    from .guard import Guard
    from .idempotency import Write
    from .params import Query

RETRY_AFTER_S = 1
# Trio's own deadline of a connection fires this much after the one the node was given, so it is
# only ever a net under a node that forgets.
DEADLINE_SLACK_S = 10.0

NO_OUTCOME = Outcome(ok=True, revision=0)


class Deferred:
    """What a handler has to wait for, and how its answer is made then.

    A handler that has nothing else to wait for returns this instead of waiting: so it is answered
    without a task of its own, wherever that is possible (`serving.py`).

    Attributes:
        command: To be committed and applied; None: reads have to become linearizable.
        query: Of the request.
        finish: Makes the answer from the outcome (None after a read's wait); may raise HttpError.
    """

    __slots__ = ("command", "finish", "query")

    def __init__(
        self, command: Write | None, query: Query, finish: Callable[[Outcome], bytes]
    ) -> None:
        self.command = command
        self.query = query
        self.finish = finish


class Exchange:
    """The node as the handlers of one connection see it.

    Attributes:
        backend: The node.
        guard: Checks where requests come from.
        is_local: The client is on this machine.
        scope: Bounds whatever the connection waits for; its deadline is moved, never removed.
        out: Answers that are not sent yet, in order.
        due_at: When the node tells at last what came of the request that `begin` began.
        is_fresh: Local reads already see all that was answered before these requests came.
    """

    __slots__ = ("_flush", "backend", "due_at", "guard", "is_fresh", "is_local", "out", "scope")

    def __init__(
        self,
        backend: Backend,
        guard: Guard,
        flush: Callable[[], Awaitable[None]],
        *,
        is_local: bool,
    ) -> None:
        self.backend = backend
        self.guard = guard
        self.is_local = is_local
        self.scope = trio.CancelScope()
        self.out: list[bytes] = []
        self.is_fresh = False
        self.due_at = 0.0
        self._flush = flush

    async def settle(self, deferred: Deferred, request: Request) -> bytes:
        """Wait for what a handler waits for, and return the answer.

        Raises:
            HttpError: As `barrier`, `write` and the handler have it.
        """
        if deferred.command is None:
            await self.barrier(deferred.query)
            return deferred.finish(NO_OUTCOME)
        return deferred.finish(await self.write(deferred.command, deferred.query, request))

    def begin(
        self, deferred: Deferred, request: Request, tell: Callable[[Outcome | HstoreError], None]
    ) -> Waiter | None:
        """Begin to wait without a task, if this can be done so; `tell` is called at the end.

        Raises:
            HttpError: 400 for a bad query, 503 when too many wait.
        """
        query, command = deferred.query, deferred.command
        deadline = trio.current_time() + (timeout_s(query) if query else TIMEOUT_S_DEFAULT)
        self.due_at = deadline
        try:
            if command is None:
                if query and "stale" in query:
                    return None  # The cluster waits for nodes.
                return self.backend.begin_read(deadline, tell)
            if IDEMPOTENCY_KEY in request.headers:
                return None
            return self.backend.begin_write(command, deadline, tell)
        except HstoreError as error:
            raise unavailable(error, is_write=command is not None) from error

    def is_stale(self, deferred: Deferred) -> bool:
        """Whether nothing has to be waited for: a read that may be stale.

        Raises:
            HttpError: 400 for a bad query.
        """
        query = deferred.query
        if deferred.command is not None or not query or "stale" not in query:
            return False
        timeout_s(query)  # Refused also where it is not needed.
        return not self.backend.waiting

    async def barrier(self, query: Query) -> None:
        """Return when local reads are linearizable for this request (`?stale`: at once).

        Requests that came in one piece share one confirmation: it began after all of them came.

        Raises:
            HttpError: 503, no majority confirmed it in time.
        """
        if self.is_fresh or "stale" in query:
            timeout_s(query)  # Refused also where it is not needed.
            if self.backend.waiting:
                raise HttpError(503, self.backend.waiting, retry_after_s=RETRY_AFTER_S)
            return
        deadline = await self._begin_wait(query)
        try:
            await self.backend.read_barrier(deadline)
        except HstoreError as error:
            raise unavailable(error) from error
        self.is_fresh = True

    async def write(self, command: Write, query: Query, request: Request) -> Outcome:
        """Have a command committed and applied; once for all requests with its `Idempotency-Key`.

        Raises:
            HttpError: 400 for a bad key, 422 for one of another request; 503 with the outcome:
                whether it may have taken effect.
        """
        if IDEMPOTENCY_KEY in request.headers:
            write: Command = keyed(request, command)
        else:
            write = command
        deadline = await self._begin_wait(query)
        try:
            return await self.backend.write(write, deadline)
        except HstoreError as error:
            raise unavailable(error, is_write=True) from error

    async def begin_change(self, query: Query) -> float:
        """Prepare for a wait on the cluster; return the absolute deadline to give to the node."""
        return await self._begin_wait(query)

    async def _begin_wait(self, query: Query) -> float:
        # An earlier answer must not wait for what this request waits for.
        if self.out:
            await self._flush()
        # A barrier of before does not cover the effects of this request.
        self.is_fresh = False
        deadline = trio.current_time() + timeout_s(query)
        # Seldom true, and setting a deadline costs microseconds even to what it is: not `max`.
        if self.scope.deadline < deadline + DEADLINE_SLACK_S:  # noqa: PLR1730
            self.scope.deadline = deadline + DEADLINE_SLACK_S
        return deadline


def unavailable(error: HstoreError, *, is_write: bool = False) -> HttpError:
    """Translate what the node raised into what the client is told."""
    if isinstance(error, Unavailable):
        return HttpError(
            error.http_status,
            str(error),
            outcome=error.outcome if is_write else None,
            # Waiting does not mend a disk.
            retry_after_s=None if isinstance(error, NoSpace) else RETRY_AFTER_S,
        )
    if isinstance(error, StorageError):
        return HttpError(503, str(error), outcome="unknown" if is_write else None)
    return HttpError(error.http_status, str(error))
