"""One connection being served: requests in, answers out, by whom and for how long.

Theory of operation. A connection is served by a *task*, which receives a buffer, answers all
requests that it completes, one after the other, and sends the answers together; a handler that must
wait has the earlier ones sent first (`Exchange`). One at a time because a client may rely on the
order of its writes (RFC 9112 section 9.3.2 allows overlap only for safe methods); while it answers,
it does not read, so a client that floods is held back by TCP.

Most connections bring one small whole request at a time, which asks for one key. With a `Poller`
those need no task: the connection is *parked*, what comes is handled where the poller calls, and
the answer leaves from where the node tells the outcome. Whatever is not so plain (half a request,
several at once, a handler that does more than wait for one thing, a client that does not read its
answer) gets a task, until the connection is idle again and is parked. Both ways go through the same
handlers (`routes.py`).

One cancel scope bounds everything a task waits for, and its deadline is moved as seldom as
possible, because moving it costs as much as parsing a request: an idle connection, and a client
that does not read its answer, have between `PATIENCE_S_MIN` and `PATIENCE_S_MAX`. Only a request
that is half here gets an exact deadline, and 408 when it passes. Parked connections that are idle
for too long are looked for by the server; requests under way have the node's deadlines.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import structlog
import trio

from ...errors import HstoreError
from ...net.poller import Poller
from ...net.stream import TcpStream
from ..backend import Backend, Waiter
from ..routes import Found, begin, failed, finish
from .answers import (
    CONTINUE,
    Answer,
    HttpError,
    Send,
    Streaming,
    failure,
    with_header,
    without_body,
)
from .connection import RECEIVE_BYTES, BodyBudget, Connection, Phase, Request, RequestError
from .exchange import DEADLINE_SLACK_S, NO_OUTCOME, RETRY_AFTER_S, Deferred, Exchange, unavailable
from .guard import Guard

PATIENCE_S_MIN = 30.0
PATIENCE_S_MAX = 75.0  # nginx's keepalive_timeout
HEADERS_S = 10.0
BODY_S = 30.0
LAST_WORDS_S = 2.0
# A client that is still sending when it is refused must be read on for a while: closing with
# unread data resets the connection, and the reset can overtake the answer (RFC 9112 section 9.6).
LINGER_BYTES_MAX = 8 * 1024 * 1024
# Answers are collected up to this size, then sent.
OUT_BYTES_MAX = 256 * 1024

_log = structlog.get_logger(__name__)


class Streams:
    """How many answers without end are being sent, and how many may be."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.count = 0


class Begun(NamedTuple):
    """A request whose handler has begun; its task goes on from there."""

    request: Request
    found: Found


class Parking(NamedTuple):
    """What a connection without a task needs.

    Attributes:
        poller: Calls when something has come.
        start: Starts the task of a connection.
        gone: Told of each connection that has ended.
    """

    poller: Poller
    start: Callable[[Serving], None]
    gone: Callable[[Serving], None]


def _as_http_error(bad: RequestError) -> HttpError:
    if bad.status != 503:
        return HttpError(bad.status, str(bad))
    return HttpError(503, str(bad), outcome="not applied", retry_after_s=RETRY_AFTER_S)


class Serving:
    """One connection being served.

    Attributes:
        stream: The connection.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        backend: Backend,
        guard: Guard,
        budget: BodyBudget,
        streams: Streams,
        *,
        is_local: bool,
        parking: Parking | None = None,
    ) -> None:
        self.stream = stream
        self._backend = backend
        self._connection = Connection(budget)
        self._x = Exchange(backend, guard, self._flush, is_local=is_local)
        self._out_bytes = 0
        self._is_idle = True
        self._streams = streams
        self._endless: trio.CancelScope | None = None
        self._is_sending = False
        self._is_ending = False
        self._strict_phase: Phase | None = None
        self._parking = parking
        self._has_task = parking is None
        self._is_closed = False
        self._is_readable = False
        self._todo: list[Request | Begun] = []
        self._waiter: Waiter | None = None
        self._waits_for: tuple[Request, Deferred] | None = None
        self._received_at = trio.current_time()

    def close(self) -> None:
        """Break reference cycles, so that memory comes back at once."""
        self._is_closed = True
        self._connection.close()
        if self._waiter is not None:
            self._waiter.give_up()

    def end_soon(self) -> None:
        """End now when nothing is under way, else after the answer to it."""
        self._is_ending = True
        if self._endless is not None:
            self._endless.cancel()
        elif self._is_idle:
            if self._has_task:
                self._x.scope.cancel()
            else:
                self.leave()

    async def run(self) -> bool:
        """Serve until either side has had enough; return whether it is parked instead."""
        self._x.scope = trio.CancelScope()
        self._strict_phase = None
        is_parked = False
        with self._x.scope:
            is_parked = await self._serve()
        if self._x.scope.cancelled_caught and self._strict_phase is not None:
            part = self._strict_phase.value
            await self.refuse(HttpError(408, f"the {part} of the request did not come in time"))
        return is_parked

    async def refuse(self, error: HttpError) -> None:
        """Answer with an error out of turn, and end."""
        whole = with_header(failure(self._backend.applied_index, error), b"Connection: close")
        with trio.move_on_after(LAST_WORDS_S):
            await self.stream.send_all(whole)
            await self._linger()

    async def _linger(self) -> None:
        """See that the last answer arrives, before the stream is closed."""
        if not isinstance(self.stream, trio.abc.HalfCloseableStream):
            return
        count = 0
        with trio.move_on_after(LAST_WORDS_S):
            await self.stream.send_eof()
            while count < LINGER_BYTES_MAX:
                data = await self.stream.receive_some(RECEIVE_BYTES)
                if not data:
                    return
                count += len(data)

    async def _serve(self) -> bool:
        """Serve until the connection shall end, or can be parked; return whether it can."""
        connection = self._connection
        todo: Sequence[Request | Begun]
        todo, self._todo = self._todo, []
        is_begun = self._parking is not None
        while True:
            if not is_begun:
                self._set_deadline()
                data = await self.stream.receive_some(RECEIVE_BYTES)
                if not data:
                    return False
                self._x.is_fresh = False
                todo = connection.receive(data)
            is_begun = False
            if not await self._answer_all(todo):
                return False
            self._is_idle = connection.phase is Phase.IDLE
            if self._is_idle and (self._is_ending or self._parking is not None):
                return not self._is_ending

    async def _answer_all(self, todo: Sequence[Request | Begun]) -> bool:
        """Answer what one receive has brought; return whether the connection goes on."""
        connection, x = self._connection, self._x
        for request in todo:
            self._is_idle = False
            if not await self._answer(request):
                await self._flush()
                await self._linger()
                return False
        if connection.take_continue():
            x.out.append(CONTINUE)
        if x.out:
            await self._flush()
        if connection.error is not None:
            await self.refuse(_as_http_error(connection.error))
            return False
        return True

    def _set_deadline(self) -> None:
        """Bound the wait for the client's next bytes."""
        scope = self._x.scope
        phase = self._connection.phase
        if phase is Phase.IDLE:
            left = scope.deadline - trio.current_time()
            if not PATIENCE_S_MIN <= left <= PATIENCE_S_MAX or self._strict_phase is not None:
                self._strict_phase = None
                scope.deadline = trio.current_time() + PATIENCE_S_MAX
        elif phase is not self._strict_phase:
            self._strict_phase = phase
            seconds = HEADERS_S if phase is Phase.HEADERS else BODY_S
            scope.deadline = trio.current_time() + seconds

    async def _answer(self, todo: Request | Begun) -> bool:
        """Answer one request; return whether the connection goes on."""
        x = self._x
        self._lengthen()
        if isinstance(todo, Begun):
            request, found = todo
        else:
            request, found = todo, begin(x, todo)
        answer = await finish(x, request, found)
        goes_on = request.keep_alive and not self._is_ending
        if not isinstance(answer, bytes) and answer.is_endless:
            answer = self._within_bounds(answer)
        if not isinstance(answer, bytes):
            return await self._stream_answer(request, answer, goes_on=goes_on)
        if request.method == b"HEAD":
            answer = without_body(answer)
        if not goes_on:
            answer = with_header(answer, b"Connection: close")
        elif request.is_http10:
            answer = with_header(answer, b"Connection: keep-alive")
        x.out.append(answer)
        self._out_bytes += len(answer)
        if self._out_bytes > OUT_BYTES_MAX:
            await self._flush()
        return goes_on

    def _within_bounds(self, endless: Streaming) -> Answer:
        """Return an answer without end, or a refusal in its place."""
        if self._streams.count < self._streams.most:
            return endless
        endless.close()
        text = f"{self._streams.most} clients watch this node already: ask another one"
        error = HttpError(503, text, retry_after_s=RETRY_AFTER_S)
        return failure(self._backend.applied_index, error)

    async def _stream_answer(
        self, request: Request, streaming: Streaming, *, goes_on: bool
    ) -> bool:
        """Send an answer while it is made; return whether the connection goes on."""
        is_chunked = not request.is_http10
        # HTTP/1.0 has no chunks: there the body ends with the connection.
        goes_on = goes_on and is_chunked
        framing = b"Transfer-Encoding: chunked\r\n" if is_chunked else b""
        if not goes_on:
            framing += b"Connection: close\r\n"
        try:
            self._x.out.append(streaming.head + framing + b"\r\n")
            if request.method != b"HEAD":
                send = self._send_chunk if is_chunked else self._send_plain
                if streaming.is_endless:
                    await self._run_endless(streaming, send)
                else:
                    await streaming.run(send)
                if is_chunked:
                    self._x.out.append(b"0\r\n\r\n")
        finally:
            streaming.close()
        return goes_on

    async def _run_endless(self, streaming: Streaming, send: Send) -> None:
        """Send an answer that goes on until it ends itself, or the node does."""
        self._streams.count += 1
        try:
            with trio.CancelScope() as self._endless:
                await streaming.run(send)
            if self._endless.cancelled_caught and self._is_sending:
                # The client has a part of a chunk, after which nothing can be said.
                self._x.scope.cancel()
                await trio.lowlevel.checkpoint()
        finally:
            self._endless = None
            self._streams.count -= 1

    async def _send_chunk(self, piece: bytes) -> None:
        self._x.out.append(b"%x\r\n%b\r\n" % (len(piece), piece))
        await self._flush()

    async def _send_plain(self, piece: bytes) -> None:
        self._x.out.append(piece)
        await self._flush()

    def _lengthen(self) -> None:
        """Leave the exact deadline of a request that was coming; it is here."""
        now = trio.current_time()
        if self._strict_phase is not None or self._x.scope.deadline < now + PATIENCE_S_MIN:
            self._strict_phase = None
            self._x.scope.deadline = now + PATIENCE_S_MAX

    async def _flush(self) -> None:
        x = self._x
        if x.out:
            whole = x.out[0] if len(x.out) == 1 else b"".join(x.out)
            x.out.clear()
            self._out_bytes = 0
            self._lengthen()
            self._is_sending = True
            await self.stream.send_all(whole)
            self._is_sending = False

    # -- without a task ---------------------------------------------------------------------

    def park(self) -> None:
        """Have no task, until there is something to do that takes one."""
        self._has_task = False
        if self._is_readable:
            self._is_readable = False
            self.ready()

    def watch(self) -> None:
        """Begin, without a task."""
        if self._parking is not None and isinstance(self.stream, TcpStream):
            self._parking.poller.watch(self.stream.sock.fileno(), self.ready)

    def is_overdue(self, now: float) -> bool:
        """Whether it is parked, and idle for too long, or the node has forgotten its request."""
        if self._has_task:
            return False
        if self._waits_for is not None:
            return now > self._x.due_at + DEADLINE_SLACK_S
        return now > self._received_at + PATIENCE_S_MIN

    def leave(self) -> None:
        """End it now, without an answer to what is under way. Idempotent."""
        if self._parking is None or self._is_closed:
            return
        stream = self.stream
        if isinstance(stream, TcpStream) and stream.sock.fileno() != -1:
            self._parking.poller.forget(stream.sock.fileno())
            if not self._has_task:
                stream.sock.close()
        self.close()
        self._parking.gone(self)

    def ready(self) -> None:
        """Something has come, or the client has gone (`poller.Ready`)."""
        if self._is_closed:
            return
        if self._has_task or self._waits_for is not None:
            self._is_readable = True
            stream = self.stream
            if self._endless is not None and isinstance(stream, TcpStream) and stream.has_ended():
                self._endless.cancel()  # Else it would be found out by the next keepalive only.
            return
        try:
            self._receive()
        except trio.BrokenResourceError:
            self.leave()
        except Exception:  # noqa: BLE001 (the boundary of a connection; it is logged)
            _log.exception("connection failed")
            self.leave()

    def _receive(self) -> None:
        stream, connection = self.stream, self._connection
        assert isinstance(stream, TcpStream)
        data = stream.receive_now(RECEIVE_BYTES)
        if data is None:
            return
        if not data:
            self.leave()
            return
        self._received_at = trio.current_time()
        self._is_readable = len(data) == RECEIVE_BYTES
        requests = connection.receive(data)
        self._x.is_fresh = False
        if len(requests) != 1 or connection.phase is not Phase.IDLE or connection.error is not None:
            self._todo += requests
            self._take_task()
            return
        request = requests[0]
        self._is_idle = False
        found: Found | None = begin(self._x, request)
        if type(found) is Deferred:
            found = self._ask(request, found)
        if found is None:
            return
        if type(found) is bytes:
            self._say(request, found)
        else:
            self._todo.append(Begun(request, found))
            self._take_task()

    def _ask(self, request: Request, deferred: Deferred) -> bytes | Deferred | None:
        """Ask the node; return the answer if it is there, None if it will be told."""
        x = self._x
        try:
            if x.is_stale(deferred):
                return deferred.finish(NO_OUTCOME)
            self._waits_for = request, deferred
            self._waiter = x.begin(deferred, request, self._told)
        except Exception as error:  # noqa: BLE001 (the boundary)
            self._waits_for = None
            return failed(x, request, error)
        if self._waiter is not None:
            return None
        self._waits_for = None
        return deferred

    def _told(self, outcome: Any) -> None:
        """Answer the request that the node was asked for; called in the node's turn."""
        waits_for, self._waits_for, self._waiter = self._waits_for, None, None
        if self._is_closed or waits_for is None:
            return
        try:
            self._say(waits_for[0], self._outcome_answer(*waits_for, outcome))
        except trio.BrokenResourceError:
            self.leave()
        except Exception:  # noqa: BLE001 (the boundary of a connection; it is logged)
            _log.exception("connection failed")
            self.leave()

    def _outcome_answer(self, request: Request, deferred: Deferred, outcome: Any) -> bytes:
        if isinstance(outcome, HstoreError):
            outcome = unavailable(outcome, is_write=deferred.command is not None)
        if isinstance(outcome, Exception):
            return failed(self._x, request, outcome)
        try:
            return deferred.finish(outcome)
        except Exception as error:  # noqa: BLE001 (the boundary)
            return failed(self._x, request, error)

    def _say(self, request: Request, whole: bytes) -> None:
        """Send the answer to the one request that is here."""
        if request.is_http10 or not request.keep_alive or self._is_ending or self._is_readable:
            self._todo.append(Begun(request, whole))
            self._take_task()
            return
        if request.method == b"HEAD":
            whole = without_body(whole)
        stream = self.stream
        assert isinstance(stream, TcpStream)
        sent = stream.send_now(whole)
        if sent < len(whole):
            self._x.out.append(whole[sent:])
            self._take_task()
        else:
            self._is_idle = True

    def _take_task(self) -> None:
        self._has_task = True
        assert self._parking is not None
        self._parking.start(self)
