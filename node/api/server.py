"""The HTTP server: listeners, one task per connection, and the clock over each.

Owns sockets, deadlines, the number of connections, and closing. What bytes mean is decided in
`connection.py`, what is answered in `routes.py`.

Theory of operation. A connection's task receives a buffer, answers all requests that it completes,
one after the other, and sends the answers together; a handler that must wait has the earlier ones
sent first (`Exchange`). One at a time because a client may rely on the order of its writes (RFC
9112 section 9.3.2 allows overlap only for safe methods); while it answers, it does not read, so a
client that floods is held back by TCP.

One cancel scope bounds everything a connection waits for, and its deadline is moved as seldom as
possible, because moving it costs as much as parsing a request: an idle connection, and a client
that does not read its answer, have between `PATIENCE_S_MIN` and `PATIENCE_S_MAX`. Only a request
that is half here gets an exact deadline, and 408 when it passes.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

import structlog
import trio

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
from .backend import Backend
from .connection import RECEIVE_BYTES, BodyBudget, Connection, Phase, Request, RequestError
from .exchange import RETRY_AFTER_S, Exchange
from .guard import Guard, is_loopback
from .routes import respond
from .stream import TcpStream, accept

# Each takes a task, a file descriptor and some 10 KiB; the usual limit of descriptors is 1,024.
CONNECTIONS_MAX = 768
# Beside these, answers without end (watches, events): each is a connection that mostly waits.
STREAMS_MAX = 12_000
# So many more are told that there are too many; beyond that they are just closed.
REFUSALS_MAX = 64
# What all bodies together may take that are larger than most.
LARGE_BODIES_BYTES_MAX = 256 * 1024 * 1024
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
_GONE = (trio.BrokenResourceError, trio.ClosedResourceError)


class ApiServer:
    """The HTTP API of one node.

    Args:
        backend: The node.
        http_hosts: Further `Host` values to answer to (`http.hosts`).
        connections_max: Beyond this many connections a new one gets 503; those that have an answer
            without end are not among them.
        streams_max: Beyond this many answers without end, a request for one gets 503.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        http_hosts: tuple[str, ...] = (),
        connections_max: int = CONNECTIONS_MAX,
        streams_max: int = STREAMS_MAX,
    ) -> None:
        self._backend = backend
        self._guard = Guard(backend, http_hosts)
        self._connections_max = connections_max
        self._streams = _Streams(streams_max)
        self._connections: set[_Serving] = set()
        self._budget = BodyBudget(LARGE_BODIES_BYTES_MAX)
        self._accepting = trio.CancelScope()
        self._draining = trio.CancelScope()

    async def run(
        self,
        listeners: Sequence[socket.socket],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until `close` was called and the connections have ended, or until cancelled.

        Args:
            listeners: Listening TCP sockets; they stay the caller's to close.
            task_status: Started at once: what connects from now on is served.

        Cancellation: requests that are being answered get no answer.
        """
        for listener in listeners:
            listener.setblocking(False)
        with self._draining:
            async with trio.open_nursery() as serving:
                with self._accepting:
                    # Connections live in the outer nursery: they outlive the accepting.
                    async with trio.open_nursery() as accepting:
                        for listener in listeners:
                            accepting.start_soon(self._accept, listener, serving)
                        task_status.started()

    async def _accept(self, listener: socket.socket, nursery: trio.Nursery) -> None:
        while True:
            stream = await accept(listener)
            nursery.start_soon(self.serve_stream, stream)

    def close(self, grace_s: float = LAST_WORDS_S) -> None:
        """Stop accepting, end idle connections now, and the others within `grace_s` seconds."""
        self._accepting.cancel()
        self._draining.deadline = min(self._draining.deadline, trio.current_time() + grace_s)
        for serving in self._connections:
            serving.end_soon()

    async def serve_stream(self, stream: trio.abc.Stream, *, is_local: bool | None = None) -> None:
        """Serve one connection to its end; never raises an `Exception`.

        Args:
            stream: The connection.
            is_local: Whether the other end is on this machine; None: found out from the socket.

        Closes: the stream.

        Cancellation: the connection ends without an answer to what is under way.
        """
        if is_local is None:
            is_local = isinstance(stream, TcpStream) and is_loopback(stream.peer_host())
        serving = _Serving(
            stream,
            self._backend,
            self._guard,
            self._budget,
            self._streams,
            is_local=is_local,
        )
        self._connections.add(serving)
        excess = len(self._connections) - self._streams.count - self._connections_max
        try:
            if excess <= 0:
                await serving.run()
            elif excess <= REFUSALS_MAX:
                text = f"this node has {self._connections_max} connections already: close some"
                await serving.refuse(HttpError(503, text, retry_after_s=RETRY_AFTER_S))
        except _GONE:
            pass
        except Exception:  # noqa: BLE001 (the boundary of a connection; it is logged)
            _log.exception("connection failed")
        finally:
            self._connections.discard(serving)
            serving.close()
            with trio.move_on_after(LAST_WORDS_S, shield=True):
                await stream.aclose()


class _Streams:
    """How many answers without end are being sent, and how many may be."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.count = 0


def _as_http_error(bad: RequestError) -> HttpError:
    if bad.status != 503:
        return HttpError(bad.status, str(bad))
    return HttpError(503, str(bad), outcome="not applied", retry_after_s=RETRY_AFTER_S)


class _Serving:
    """One connection being served."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        backend: Backend,
        guard: Guard,
        budget: BodyBudget,
        streams: _Streams,
        *,
        is_local: bool,
    ) -> None:
        self._stream = stream
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

    def close(self) -> None:
        """Break reference cycles, so that memory comes back at once."""
        self._connection.close()

    def end_soon(self) -> None:
        """End now when nothing is under way, else after the answer to it."""
        self._is_ending = True
        if self._endless is not None:
            self._endless.cancel()
        elif self._is_idle:
            self._x.scope.cancel()

    async def run(self) -> None:
        """Serve until either side has had enough."""
        with self._x.scope:
            await self._serve()
        if self._x.scope.cancelled_caught and self._strict_phase is not None:
            part = self._strict_phase.value
            await self.refuse(HttpError(408, f"the {part} of the request did not come in time"))

    async def refuse(self, error: HttpError) -> None:
        """Answer with an error out of turn, and end."""
        whole = with_header(failure(self._backend.applied_index, error), b"Connection: close")
        with trio.move_on_after(LAST_WORDS_S):
            await self._stream.send_all(whole)
            await self._linger()

    async def _linger(self) -> None:
        """See that the last answer arrives, before the stream is closed."""
        if not isinstance(self._stream, trio.abc.HalfCloseableStream):
            return
        count = 0
        with trio.move_on_after(LAST_WORDS_S):
            await self._stream.send_eof()
            while count < LINGER_BYTES_MAX:
                data = await self._stream.receive_some(RECEIVE_BYTES)
                if not data:
                    return
                count += len(data)

    async def _serve(self) -> None:
        connection, x = self._connection, self._x
        receive_some = self._stream.receive_some
        while True:
            self._set_deadline()
            data = await receive_some(RECEIVE_BYTES)
            if not data:
                return
            x.is_fresh = False
            for request in connection.receive(data):
                self._is_idle = False
                if not await self._answer(request):
                    await self._flush()
                    await self._linger()
                    return
            if connection.take_continue():
                x.out.append(CONTINUE)
            if x.out:
                await self._flush()
            if connection.error is not None:
                await self.refuse(_as_http_error(connection.error))
                return
            self._is_idle = connection.phase is Phase.IDLE
            if self._is_idle and self._is_ending:
                return

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

    async def _answer(self, request: Request) -> bool:
        """Answer one request; return whether the connection goes on."""
        x = self._x
        self._lengthen()
        answer = await respond(x, request)
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
            await self._stream.send_all(whole)
            self._is_sending = False
