"""One connection served by a task: requests in, answers out, and for how long each may take.

Theory of operation. A task receives a buffer, answers all requests that it completes, one after the
other, and sends the answers together; before a handler waits, the answers that are ready are sent
(`Exchange`). One at a time because a client may rely on the order of its writes (RFC 9112 section
9.3.2 allows overlap only for safe methods); while the task answers, it does not read, so a client
that floods is held back by TCP. Where there is a `Poller`, most connections need a task only at
times: `parked.py`.

One cancel scope bounds everything the task waits for, and its deadline is moved as seldom as
possible, because moving it costs as much as parsing a request: an idle connection, and a client
that does not read its answer, have between `PATIENCE_S_MIN` and `PATIENCE_S_MAX`. Only a request of
which a part has come gets an exact deadline, and 408 when it passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

import trio

from ...measure.answered import NOT_TIMED
from ...net.stream import TcpStream
from ...net.turn import SHARE, SLICE_BYTES, SMALL_BYTES, Turn
from ..backend import Backend
from .answers import (
    CONTINUE,
    RETRY_AFTER_S,
    Answer,
    HttpError,
    Streaming,
    with_header,
    without_body,
)
from .connection import (
    RECEIVE_BYTES,
    REQUESTS_BYTES,
    BodyBudget,
    Connection,
    Phase,
    Request,
    RequestError,
)
from .dispatch import as_http_error, finish, with_end
from .exchange import Client, Exchange, Found, Kept, Router, json_form
from .guard import Guard
from .held import until_due
from .known_heads import SMALL_BODY_BYTES, KnownHeads
from .room import STALLED_S, Room, Silence
from .sending import Sending
from .unsent import Holder, Unsent
from .waiting import Pending, Tell, Wait, Waits

PATIENCE_S_MIN = 30.0
PATIENCE_S_MAX = 75.0  # nginx's keepalive_timeout
HEADERS_S = 10.0
BODY_S = 30.0
LAST_WORDS_S = 2.0
# A client that is still sending when it is refused must be read on for a while: closing with
# unread data resets the connection, and the reset can overtake the answer (RFC 9112 section 9.6).
LINGER_BYTES_MAX = 8 * 1024 * 1024
# Answers are collected up to this size, then sent.
OUT_BYTES_MAX = SLICE_BYTES


def cost_of(data: bytes | bytearray) -> int:
    """Return what received bytes take of a turn: a request costs calls, however short it is."""
    if len(data) > REQUESTS_BYTES:
        return len(data)  # All of it belongs to one body.
    return len(data) + SMALL_BYTES * data.count(b"\r\n\r\n")


class Begun(NamedTuple):
    """A request whose handler has begun; its task goes on from there."""

    request: Request
    found: Found


class Shared(NamedTuple):
    """What all connections of a server have in common.

    Attributes:
        backend: The node.
        router: The routes.
        guard: Checks where requests come from.
        budget: What all connections may hold of large bodies.
        heads: The header lines that are known.
        room: How many connections there may be.
        turn: What clients may still be served in this turn of the event loop.
        unsent: What all clients have not taken yet.
        waits: The reads that wait for a change.
        kept: What is kept of answers.
    """

    backend: Backend
    router: Router
    guard: Guard
    budget: BodyBudget
    heads: KnownHeads
    room: Room
    turn: Turn
    unsent: Unsent
    waits: Waits
    kept: Kept


class Serving:
    """One connection being served by a task, from its first request to its end.

    Attributes:
        stream: The connection.
    """

    stream: trio.abc.Stream
    _can_park = False
    """Whether the task ends each time the connection is idle."""

    def __init__(self, stream: trio.abc.Stream, shared: Shared, *, is_local: bool) -> None:
        """Prepare to serve `stream`; nothing is read before `run`.

        Args:
            stream: The connection; the caller closes it after `run`.
            shared: What all connections have in common.
            is_local: The other end is on this machine.
        """
        self.stream = stream
        self._connection = Connection(shared.budget, shared.heads)
        self._turn = shared.turn
        self._unsent = shared.unsent
        self._holder = Holder(self._cut_off, self._client)
        self._exchange = Exchange(
            shared.backend,
            shared.router,
            shared.guard,
            self._flush,
            turn=shared.turn,
            unsent=shared.unsent,
            kept=shared.kept,
            client=Client(is_local, self._client),
        )
        self._room = shared.room
        self._waits = shared.waits
        self._silent_since = trio.current_time()
        self._is_evicted = False
        self._is_lingering = False
        self._has_spoken = False  # What was received waits for its turn to be parsed.
        self._out_bytes = 0
        self._is_idle = True
        self._endless: trio.CancelScope | None = None
        self._is_sending = False
        self._is_ending = False
        self._strict_phase: Phase | None = None

    def close(self) -> None:
        """Break reference cycles, so that memory comes back at once."""
        self._connection.close()

    def end_soon(self) -> None:
        """End now when no request is under way, else after the answer to it."""
        self._is_ending = True
        if self._endless is not None:
            self._endless.cancel()
        elif self._is_idle:
            self._exchange.scope.cancel()

    def silence(self, now: float) -> Silence | None:
        """How long the client is silent already, where it has the word (`room.Occupant`)."""
        if self._has_spoken:
            return None
        if self._strict_phase is not None:
            return (1, self._silent_since) if now >= self._silent_since + STALLED_S else None
        return (0, self._silent_since) if self._is_idle or self._is_lingering else None

    def has_input(self) -> bool:
        """Whether something has come that is not read yet, and may be a request."""
        stream = self.stream
        return not self._is_lingering and isinstance(stream, TcpStream) and stream.has_input()

    def evict(self) -> None:
        """End now, without an answer: another connection needs the place."""
        self._is_evicted = True
        self._strict_phase = None
        self._exchange.scope.cancel()

    def _cut_off(self) -> None:
        """End now: too much is unsent, and this client is the slowest."""
        self._exchange.answered.shed["unsent"] += 1
        if isinstance(self.stream, TcpStream):
            self.stream.drop_unsent()
        self._exchange.scope.cancel()

    def _client(self) -> str:
        return self.stream.peer_host() if isinstance(self.stream, TcpStream) else ""

    def is_overdue(self, now: float) -> bool:
        """Whether the server has to end it: never, for the task has a deadline."""
        return False

    def leave(self) -> None:
        """End what no task would end: nothing here."""

    async def run(self) -> bool:
        """Serve until either side ends it; return whether it can go on without a task instead."""
        if self._is_evicted:
            return False
        # Never without a deadline: its first answer may be for a client that does not read.
        self._exchange.scope = trio.CancelScope(deadline=trio.current_time() + PATIENCE_S_MAX)
        self._strict_phase = None
        is_parked = False
        with self._exchange.scope:
            is_parked = await self._serve()
        if self._exchange.scope.cancelled_caught and self._strict_phase is not None:
            part, self._strict_phase = self._strict_phase.value, None
            with trio.CancelScope() as self._exchange.scope:
                await self.refuse(HttpError(408, f"the {part} of the request did not come in time"))
        return is_parked

    async def refuse(self, error: HttpError, bad: RequestError | None = None) -> None:
        """Send an error that answers no request, and end.

        Args:
            error: Why.
            bad: What was to become a request, as far as it is known: it decides the form.
        """
        exchange = self._exchange
        router = exchange.router
        is_change = bad is not None and router.is_change(bad)
        form = router.form(b"" if bad is None else bad.path)
        whole = form(exchange, error, is_change=is_change)
        whole = with_header(whole, b"Connection: close")
        if error.shed is not None:
            exchange.answered.shed[error.shed] += 1
        exchange.tallies[0].answered(whole, NOT_TIMED, 0.0)
        with trio.move_on_after(LAST_WORDS_S):
            await self.stream.send_all(whole)
            await self._linger()

    async def _linger(self) -> None:
        """Wait until the last answer has arrived, before the stream is closed."""
        if not isinstance(self.stream, trio.abc.HalfCloseableStream):
            return
        count = 0
        self._is_lingering = True
        self._silent_since = trio.current_time()
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
        todo = self._take_todo()
        while True:
            if todo is None:
                self._silent_since = trio.current_time()
                self._set_deadline()
                data = await self.stream.receive_some(connection.receive_bytes)
                if not data:
                    return False
                self._has_spoken = True
                await self._turn.receive(cost_of(data))
                self._has_spoken = False
                self._exchange.is_fresh = False
                todo = connection.receive(data)
            if not await self._answer_all(todo):
                return False
            if self._is_held():
                return True
            todo = None
            self._is_idle = connection.phase is Phase.IDLE
            if self._is_idle and (self._is_ending or self._can_park):
                return not self._is_ending

    def _take_todo(self) -> Sequence[Request | Begun] | None:
        """Take what was left for the task to answer first; None: the client speaks first."""
        return None

    async def _answer_all(self, todo: Sequence[Request | Begun]) -> bool:
        """Answer what one receive has brought; return whether the connection goes on."""
        connection, exchange = self._connection, self._exchange
        share = 0  # How many more requests of this turn are for this connection.
        for at, request in enumerate(todo):
            self._is_idle = False
            if isinstance(request, Request):
                wanted = min(len(todo) - at, SHARE)
                share = (
                    share or self._turn.take_share(wanted) or await self._turn.wait_share(wanted)
                )
                share -= 1
            if not await self._answer(request):
                await self._flush()
                await self._linger()
                return False
            if self._is_held():
                self._keep_for_later(todo[at + 1 :])
                await self._flush()
                return True
        if connection.take_continue():
            exchange.out.append(CONTINUE)
        if exchange.out:
            await self._flush()
        bad = connection.error
        if bad is not None:
            most = exchange.router.body_bytes_max(bad)
            await self.refuse(as_http_error(bad, most), bad)
            return False
        return True

    def _set_deadline(self) -> None:
        """Bound the wait for the client's next bytes."""
        scope = self._exchange.scope
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
        exchange = self._exchange
        self._lengthen()
        if isinstance(todo, Begun):
            request, found = todo
        else:
            request = todo
            if len(request.body) > SMALL_BODY_BYTES:  # Its handler decodes all of it.
                await self._flush()
                await self._turn.slice(len(request.body))
            exchange.began = trio.current_time()
            found = exchange.router.begin(exchange, request)
        answer = await finish(exchange, request, found)
        if isinstance(answer, Wait):
            exchange.began = NOT_TIMED
            held = await self._hold(request, answer)
            if held is None:
                return True
            answer = held
        goes_on = request.keep_alive and not self._is_ending
        if not isinstance(answer, bytes) and answer.is_endless:
            answer = self._within_bounds(answer)
        if not isinstance(answer, bytes):
            return await self._stream_answer(request, answer, goes_on=goes_on)
        if request.method == b"HEAD":
            answer = without_body(answer)
        answer = with_end(answer, request, goes_on=goes_on)
        exchange.tally.answered(answer, exchange.began, trio.current_time())
        exchange.out.append(answer)
        self._turn.bytes_left -= len(answer) + SMALL_BYTES
        self._out_bytes += len(answer)
        if self._out_bytes > OUT_BYTES_MAX:
            await self._flush()
        return goes_on

    def _is_held(self) -> bool:
        """Whether the connection goes on without a task, with the read that `_hold` took."""
        return False

    def _keep_for_later(self, todo: Sequence[Request | Begun]) -> None:
        """Keep what comes behind that read."""

    async def _hold(self, request: Request, wait: Wait) -> Answer | None:
        """Wait until a read is due, and return its answer; None: it is waited for without this task."""
        await self._flush()
        return await until_due(self._exchange, request, wait, self._begin_wait, self.stream)

    def _begin_wait(self, wait: Wait, tell: Tell) -> Pending:
        """Note that this connection waits for a change.

        Raises:
            HttpError: 503, too many do; 500, the node stops.
        """
        if not self._room.begin_wait(self):
            wait.give_up()
            raise HttpError(
                503,
                f"{self._room.streams_most} clients wait on this node already: ask another one",
                retry_after_s=RETRY_AFTER_S,
                shed="waits",
            )
        return self._waits.add(wait, tell)

    def _within_bounds(self, endless: Streaming) -> Answer:
        """Return an answer without end, or a refusal in its place."""
        if self._room.has_stream_place:
            return endless
        endless.close()
        text = f"{self._room.streams_most} clients watch this node already: ask another one"
        error = HttpError(503, text, retry_after_s=RETRY_AFTER_S)
        self._exchange.answered.shed["streams"] += 1
        return json_form(self._exchange, error, is_change=False)

    async def _stream_answer(
        self, request: Request, streaming: Streaming, *, goes_on: bool
    ) -> bool:
        """Send an answer while it is made; return whether the connection goes on."""
        is_chunked = streaming.length is None and not request.is_http10
        if streaming.length is None:
            # HTTP/1.0 has no chunks: there the body ends with the connection.
            goes_on = goes_on and is_chunked
            framing = b"Transfer-Encoding: chunked\r\n" if is_chunked else b""
            framing += b"" if goes_on else b"Connection: close\r\n"
            start = streaming.head + framing + b"\r\n"
        else:
            start = b"%bContent-Length: %d\r\n\r\n" % (streaming.head, streaming.length)
            start = with_end(start, request, goes_on=goes_on)
        try:
            self._exchange.out.append(start)
            if request.method != b"HEAD":
                send = Sending(
                    self.send_piece, self.piece_ready, self.holding, is_chunked=is_chunked
                )
                if streaming.is_endless:
                    await self._run_endless(streaming, send)
                else:
                    await streaming.run(send)
                if is_chunked:
                    self._exchange.out.append(b"0\r\n\r\n")
        finally:
            streaming.close()
            began = NOT_TIMED if streaming.is_endless else self._exchange.began
            self._exchange.tally.answered(start, began, trio.current_time())
        return goes_on

    async def _run_endless(self, streaming: Streaming, send: Sending) -> None:
        """Send an answer that goes on until it ends itself, or the node does."""
        self._room.begin_stream(self)
        try:
            with trio.CancelScope() as self._endless:
                await streaming.run(send)
            if self._endless.cancelled_caught and (self._is_sending or not send.is_between):
                # The client has a part of a chunk, or of an event: it is not to take that for all.
                self._exchange.scope.cancel()
                await trio.lowlevel.checkpoint()
        finally:
            self._endless = None
            self._room.end_stream(self)

    async def send_piece(self, piece: bytes) -> None:
        """Send what is ready, and a piece of a streamed body."""
        self._turn.bytes_left -= SMALL_BYTES  # For a larger one, it had waited for its turn.
        self._exchange.out.append(piece)
        await self._flush()

    async def piece_ready(self) -> None:
        """Wait until the next piece of a streamed body may be made (`answers.Send.ready`)."""
        self._lengthen()
        self._is_sending = True
        self._unsent.wait_begins(self._holder)
        try:
            await self.stream.wait_send_all_might_not_block()
        finally:
            self._unsent.wait_ends(self._holder)
        self._is_sending = False
        await self._turn.slice()
        # A connection that holds something goes on, so that there is room again.
        if not self._unsent.has_room and not self._holder.holds:
            await self._unsent.room()

    def holding(self, values: Sequence[bytes], beside: int = 0) -> AbstractContextManager[None]:
        """Count values as unsent by this connection (`answers.Send.holding`)."""
        return self._unsent.holding(self._holder, values, beside)

    def _lengthen(self) -> None:
        """End the exact deadline of a request on its way, which has come now."""
        now = trio.current_time()
        if self._strict_phase is not None or self._exchange.scope.deadline < now + PATIENCE_S_MIN:
            self._strict_phase = None
            self._exchange.scope.deadline = now + PATIENCE_S_MAX

    async def _flush(self) -> None:
        exchange = self._exchange
        if exchange.out:
            whole = exchange.out[0] if len(exchange.out) == 1 else b"".join(exchange.out)
            exchange.out.clear()
            self._out_bytes = 0
            self._lengthen()
            self._is_sending = True
            size = len(whole)
            unsent, holder = self._unsent, self._holder
            unsent.take(holder, size)
            unsent.wait_begins(holder)
            try:
                await self.stream.send_all(whole)
            finally:
                unsent.wait_ends(holder)
                unsent.give_back(holder, size)
            self._is_sending = False
