"""The HTTP server: listeners, connections from their beginning to their end, and closing.

`room.py` says whether there is a place for one, `connection.py` reads the bytes, `serving.py` and
`parked.py` serve a connection, and the routes that the server is given answer the requests.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

import structlog
import trio

from hstore.dns.ip_literals import is_loopback

from ...measure.answered import Answered, Served
from ...net.flag import Flag
from ...net.poller import Poller
from ...net.stream import Listener, TcpStream
from ...net.turn import Turn
from ..backend import Backend
from ..rendered import Rendered
from .connection import BodyBudget
from .exchange import Kept, Router
from .guard import Guard
from .known_heads import KnownHeads
from .looks import Looks
from .parked import Parked, Parking
from .room import Place, Room
from .serving import LAST_WORDS_S, PATIENCE_S_MAX, PATIENCE_S_MIN, Serving, Shared
from .trial import Trial, no_place
from .unsent import KERNEL_BYTES, Unsent
from .waiting import Waits

# Each takes a task, a file descriptor and some 10 KiB; the usual limit of descriptors is 1,024.
CONNECTIONS_MAX = 768
# Beside these, connections that mostly wait: they have an answer without end (watches, events), or their
# reads wait for changes.
STREAMS_MAX = 20_000
# So many more get 503; beyond that they are closed without an answer. It is also how many are
# accepted at once, before the first of them is served or refused.
REFUSALS_MAX = 64
# What all large bodies together may take.
LARGE_BODIES_BYTES_MAX = 256 * 1024 * 1024
# How often parked connections are looked through for those that have been idle for too long.
_SWEEP_S = (PATIENCE_S_MAX - PATIENCE_S_MIN) / 2

_log = structlog.get_logger(__name__)
# Ends of a connection that are no defect: the client has gone, or has read a listing for too long.
_GONE = (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError)


class ApiServer:
    """The HTTP API of one node.

    Args:
        backend: The node.
        router: Its routes.
        http_hosts: Further `Host` values to answer to (`http.hosts`).
        connections_max: Connections that are served at once, beside those that have an answer without
            end; which one makes room for another, and who gets 503: `room.py`.
        streams_max: Beyond this many answers without end, a request for one gets 503.
        refusals_max: Connections that are being refused at the same time; those beyond it are closed
            without an answer.
        poller: Watches connections, so that most requests need no task; None: each has its own.

    Attributes:
        answered: What it counts of its answers.
    """

    def __init__(
        self,
        backend: Backend,
        router: Router,
        *,
        http_hosts: tuple[str, ...] = (),
        connections_max: int = CONNECTIONS_MAX,
        streams_max: int = STREAMS_MAX,
        refusals_max: int = REFUSALS_MAX,
        poller: Poller | None = None,
    ) -> None:
        self._room = Room(connections_max, streams_max)
        self.answered = Answered(router.make_tallies())
        turn = poller.turn if poller is not None else Turn()
        self._shared = Shared(
            backend,
            router,
            Guard(backend.process, http_hosts),
            BodyBudget(LARGE_BODIES_BYTES_MAX),
            KnownHeads(),
            self._room,
            turn,
            Unsent(),
            Waits(turn),
            Kept(Looks(), Rendered(backend), self.answered),
        )
        self.answered.served = self._served
        self._refusals_max = refusals_max
        self._connections: set[Serving] = set()
        self._refused = 0
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

    def _served(self) -> Served:
        room = self._room
        waiting = len(self._shared.waits)
        return Served(len(self._connections), waiting, room.streams, room.evicted)

    async def _accept(self, listener: socket.socket, nursery: trio.Nursery) -> None:
        listening = Listener(listener)
        while True:
            # Take all that wait at once: while many are served, this task runs seldom.
            first = await listening.accept()
            for stream in (first, *listening.waiting(self._refusals_max - 1)):
                stream.limit_unsent(KERNEL_BYTES)
                if self._poller is None:
                    nursery.start_soon(self.serve_stream, stream)
                else:
                    self.serve_parked(stream, nursery)

    def serve_parked(
        self, stream: TcpStream, nursery: trio.Nursery, *, is_local: bool | None = None
    ) -> None:
        """Begin to serve a connection, without a task as long as it needs none; or to refuse it.

        Args:
            stream: The connection.
            nursery: For the task that it needs at times.
            is_local: As in `serve_stream`.

        Closes: the stream.
        """
        if self._poller is None:
            raise RuntimeError("a server without a poller cannot park connections")

        if is_local is None:
            is_local = _is_local(stream)
        place = self._room.find_place(is_local=is_local)
        if place is not Place.WHOLE:
            serving = self._begin(stream, place, is_local=is_local)
            nursery.start_soon(self._serve, serving, place)
            return

        def start(parked: Parked) -> None:
            nursery.start_soon(self._run_task, parked)

        parking = Parking(self._poller, start, self._gone)
        parked = Parked(stream, self._shared, parking, is_local=is_local)
        self._connections.add(parked)
        self._room.enter(parked)
        parked.watch()

    def _gone(self, serving: Serving) -> None:
        self._connections.discard(serving)
        self._room.leave(serving)
        self._ended.set()

    async def _run_task(self, parked: Parked) -> None:
        """Serve a connection that was parked until it is parked again, or ends."""
        is_parked = False
        try:
            is_parked = await parked.run()
        except _GONE:
            pass
        except Exception:  # noqa: BLE001 (the boundary of a connection; it is logged)
            _log.exception("connection failed")
        finally:
            if not is_parked:
                parked.leave()
                with trio.move_on_after(LAST_WORDS_S, shield=True):
                    await parked.stream.aclose()
        if is_parked:
            parked.park()

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
        self._shared.waits.stop()

    async def serve_stream(self, stream: trio.abc.Stream, *, is_local: bool | None = None) -> None:
        """Serve one connection to its end; never raises an `Exception`.

        Args:
            stream: The connection.
            is_local: Whether the other end is on this machine; None: found out from the socket.

        Closes: the stream.

        Cancellation: the connection ends without an answer to what is under way.
        """
        if is_local is None:
            is_local = _is_local(stream)
        place = self._room.find_place(is_local=is_local)
        await self._serve(self._begin(stream, place, is_local=is_local), place)

    def _begin(self, stream: trio.abc.Stream, place: Place, *, is_local: bool) -> Serving:
        """Note a new connection, which a task is to serve."""
        if place is Place.TRIAL:
            trial = Trial(stream, self._shared)
            self._room.enter_on_trial(trial)
            self._connections.add(trial)
            return trial
        serving = Serving(stream, self._shared, is_local=is_local)
        if place is Place.WHOLE:
            self._room.enter(serving)
        self._connections.add(serving)
        return serving

    async def _serve(self, serving: Serving, place: Place) -> None:
        """Serve or refuse a connection to its end, by this task; never raises an `Exception`."""
        try:
            if place is not Place.NONE:
                await serving.run()
            elif self._refused < self._refusals_max:
                self._refused += 1
                try:
                    await serving.refuse(no_place(self._room.most))
                finally:
                    self._refused -= 1
        except _GONE:
            pass
        except Exception:  # noqa: BLE001 (the boundary of a connection; it is logged)
            _log.exception("connection failed")
        finally:
            self._gone(serving)
            serving.close()
            with trio.move_on_after(LAST_WORDS_S, shield=True):
                await serving.stream.aclose()


def _is_local(stream: trio.abc.Stream) -> bool:
    """Whether the other end is on this machine, as far as the socket tells.

    Its address is loopback, or the one that it has dialled. Another machine cannot use either: the
    kernel drops packets from outside whose source is an address of its own (accept_local of
    ip-sysctl).
    """
    if not isinstance(stream, TcpStream):
        return False
    peer = stream.peer_host()
    return is_loopback(peer) or (peer != "" and peer == stream.own_host())
