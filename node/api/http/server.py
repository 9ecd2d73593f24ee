"""The HTTP server: listeners, the number of connections, and closing.

What bytes mean is decided in `connection.py`, what is answered in `routes.py`, and how a connection
is served in `serving.py`.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

import structlog
import trio

from hstore.dns.ip_literals import is_loopback

from ...net.flag import Flag
from ...net.poller import Poller
from ...net.stream import TcpStream, accept, accept_waiting
from ..backend import Backend
from .answers import HttpError
from .connection import BodyBudget
from .exchange import RETRY_AFTER_S
from .guard import Guard
from .serving import LAST_WORDS_S, PATIENCE_S_MAX, PATIENCE_S_MIN, Parking, Serving, Streams

# Each takes a task, a file descriptor and some 10 KiB; the usual limit of descriptors is 1,024.
CONNECTIONS_MAX = 768
# Beside these, answers without end (watches, events): each is a connection that mostly waits.
STREAMS_MAX = 12_000
# So many more are told that there are too many; beyond that they are just closed.
REFUSALS_MAX = 64
# What all bodies together may take that are larger than most.
LARGE_BODIES_BYTES_MAX = 256 * 1024 * 1024
_ACCEPTED_AT_ONCE = 64
# How often parked connections are looked through for those that have been idle for too long.
_SWEEP_S = (PATIENCE_S_MAX - PATIENCE_S_MIN) / 2

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
        poller: Watches connections, so that most requests need no task; None: each has its own.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        http_hosts: tuple[str, ...] = (),
        connections_max: int = CONNECTIONS_MAX,
        streams_max: int = STREAMS_MAX,
        poller: Poller | None = None,
    ) -> None:
        self._backend = backend
        self._guard = Guard(backend, http_hosts)
        self._connections_max = connections_max
        self._streams = Streams(streams_max)
        self._connections: set[Serving] = set()
        self._budget = BodyBudget(LARGE_BODIES_BYTES_MAX)
        self._accepting = trio.CancelScope()
        self._draining = trio.CancelScope()
        self._poller = poller
        self._ended = Flag()

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
        try:
            with self._draining:
                async with trio.open_nursery() as serving:
                    with self._accepting:
                        # Connections live in the outer nursery: they outlive the accepting.
                        async with trio.open_nursery() as accepting:
                            accepting.start_soon(self.sweep)
                            for listener in listeners:
                                accepting.start_soon(self._accept, listener, serving)
                            task_status.started()
                    while self._connections:
                        await self._ended.wait()
        finally:
            for connection in list(self._connections):
                connection.leave()

    async def _accept(self, listener: socket.socket, nursery: trio.Nursery) -> None:
        while True:
            # All that wait at once: while many are served, this task has its go seldom.
            first = await accept(listener)
            for stream in (first, *accept_waiting(listener, _ACCEPTED_AT_ONCE - 1)):
                if self._poller is None or self._excess() >= 0:
                    nursery.start_soon(self.serve_stream, stream)
                else:
                    self.serve_parked(stream, nursery)

    def serve_parked(
        self, stream: TcpStream, nursery: trio.Nursery, *, is_local: bool | None = None
    ) -> None:
        """Begin to serve a connection as long as possible without a task; see `serve_stream`.

        Args:
            stream: The connection.
            nursery: For the task that it takes at times.
            is_local: As in `serve_stream`.

        Closes: the stream.
        """
        if self._poller is None:
            raise RuntimeError("a server without a poller cannot park connections")

        def start(serving: Serving) -> None:
            nursery.start_soon(self._run_task, serving)

        parking = Parking(self._poller, start, self._gone)
        serving = self._serving(stream, parking, is_local=is_local)
        self._connections.add(serving)
        serving.watch()

    def _excess(self) -> int:
        """Return how many connections there are beyond what is served; negative: room for more."""
        return len(self._connections) - self._streams.count - self._connections_max

    def _serving(
        self, stream: trio.abc.Stream, parking: Parking | None, *, is_local: bool | None = None
    ) -> Serving:
        if is_local is None:
            is_local = isinstance(stream, TcpStream) and is_loopback(stream.peer_host())
        return Serving(
            stream,
            self._backend,
            self._guard,
            self._budget,
            self._streams,
            is_local=is_local,
            parking=parking,
        )

    def _gone(self, serving: Serving) -> None:
        self._connections.discard(serving)
        self._ended.set()

    async def _run_task(self, serving: Serving) -> None:
        """Serve a connection that was parked until it is parked again, or ends."""
        is_parked = False
        try:
            is_parked = await serving.run()
        except _GONE:
            pass
        except Exception:  # noqa: BLE001 (the boundary of a connection; it is logged)
            _log.exception("connection failed")
        finally:
            if not is_parked:
                serving.leave()
                with trio.move_on_after(LAST_WORDS_S, shield=True):
                    await serving.stream.aclose()
        if is_parked:
            serving.park()

    async def sweep(self) -> None:
        """End what is parked and has been idle for too long."""
        while self._poller is not None:
            await trio.sleep(_SWEEP_S)
            now = trio.current_time()
            for serving in list(self._connections):
                if serving.is_overdue(now):
                    serving.leave()

    def close(self, grace_s: float = LAST_WORDS_S) -> None:
        """Stop accepting, end idle connections now, and the others within `grace_s` seconds."""
        self._accepting.cancel()
        self._draining.deadline = min(self._draining.deadline, trio.current_time() + grace_s)
        for serving in list(self._connections):
            serving.end_soon()

    async def serve_stream(self, stream: trio.abc.Stream, *, is_local: bool | None = None) -> None:
        """Serve one connection to its end; never raises an `Exception`.

        Args:
            stream: The connection.
            is_local: Whether the other end is on this machine; None: found out from the socket.

        Closes: the stream.

        Cancellation: the connection ends without an answer to what is under way.
        """
        serving = self._serving(stream, None, is_local=is_local)
        self._connections.add(serving)
        excess = self._excess()
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
            self._gone(serving)
            serving.close()
            with trio.move_on_after(LAST_WORDS_S, shield=True):
                await stream.aclose()
