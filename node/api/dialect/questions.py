"""Reads of the state in the dialect, which wait for a change where the client asks for that.

Owns the way from a question to its answer: the mode of the read, its wait, its index, its headers. A
handler says what its question is (`Question`), and nothing else.

Theory of operation. A read that waits is first linearizable on its arrival, as any other, and from
then on looks at the local copy: each time that one of the keys changes on which its result depends,
until the index of the result has passed the one that the client has named. Which changes those are is
exact, so a change wakes those reads whose result it has changed, and no other. It does not matter who
leads meanwhile, since the changes come from this node's own state.

A client that follows something asks again as soon as it is answered, and mostly waits for long. To ask
the leader for each of those at once would cost this node two more wake-ups, and the others as many. So
where the last read of a connection has waited for a while, and the next has to wait as far as this node
knows, it begins to wait at once (`UnaskedWait`), and the leader is asked with the next tick, once for all
of these reads. A read that is due before that has been answered asks by itself, as any other does: so
each answer has seen all that was answered before its request.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import trio

from ...errors import NoLeader
from ...net.turn import BYTES_MAX, SLICE_BYTES
from ...raft.errors import CoreBug
from ..http.exchange import Deferred
from ..http.listing import KEYS_PER_SLICE, Listing
from ..http.params import parse_query, timeout_s
from ..http.waiting import Wait
from .crowds import CROWD_MIN, Crowd, Member
from .heads import Mode, read, read_head
from .queries import AT_ONCE, Blocking, blocking, mode_of, with_jitter

if TYPE_CHECKING:
    from ...model.commands import Outcome
    from ...state.machine import Reader
    from ...state.watching.changes import Table
    from ..backend import Keys, Waiter
    from ..http.answers import Answer
    from ..http.connection import Request
    from ..http.exchange import Exchange
    from ..http.params import Query
    from ..http.waiting import Due


WHILE_S = 1.0
"""A read that has waited for so long is likely to be followed by one that waits as long."""


class Target(NamedTuple):
    """What a result depends on.

    Attributes:
        table: Of `state/watching/changes.py`.
        key: As that table names it.
        is_prefix: Every key that starts with it.
    """

    table: Table
    key: bytes
    is_prefix: bool = False


On = Sequence[Target] | Callable[[], Sequence[Target]]
"""All that a result depends on: each change of its index must be among them.

Of a result that comes to depend on others, such as the nodes that a service is on: what returns them,
which is called each time a read begins to wait. One that has been woken for nothing begins anew."""


class Long(NamedTuple):
    """A body that is made while it is sent.

    Attributes:
        elements: Each as JSON, or None for one that is left out; it reads on in the reader.
        opening, closing: What is before the first of them and after the last.
    """

    elements: Iterator[bytes | None]
    opening: bytes = b"["
    closing: bytes = b"]"


Body = bytes | Long | Iterator[bytes | None] | None
"""JSON; or, where it is long, what makes it: an iterator is that of a list. None: there is nothing, which
is 404 with an empty body."""


class Question(NamedTuple):
    """What a read asks.

    Attributes:
        on: All that its result depends on.
        index_of: Returns the index of the result; whatever is below 1 counts as 1.
        render: Returns the body.
        per_slice: How many elements of a long body one turn may make.
    """

    on: On
    index_of: Callable[[Reader], int]
    render: Callable[[Reader], Body]
    per_slice: int = KEYS_PER_SLICE


def gathered(
    elements: Iterator[bytes | None],
    opening: bytes = b"[",
    closing: bytes = b"]",
    *,
    most: int = KEYS_PER_SLICE,
) -> bytes | Long:
    """Return a body in one piece, where it is short, else what makes it while it is sent.

    Args:
        elements, opening, closing: As of `Long`.
        most: How many elements may be looked at in one go.
    """
    pieces: list[bytes] = []
    size = 0
    for count, piece in enumerate(elements, 1):
        if piece is not None:
            pieces.append(piece)
            size += len(piece)
        if count > most or size > SLICE_BYTES:
            return Long(itertools.chain(pieces, elements), opening, closing)
    return opening + b",".join(pieces) + closing


def ask(exchange: Exchange, request: Request, question: Question) -> Deferred:
    """Begin to answer a question, by `?index=` and `?wait=` where the client sends them.

    Both callables are called in one turn with the same reader; they must be quick.

    Raises:
        HttpError: 400 for a bad query.
    """
    query = parse_query(request.query)
    mode, query = mode_of(exchange, query)
    wanted = blocking(query) if query else AT_ONCE

    def look(after: int | None) -> Due | None:
        """Return the answer if the index has passed `after`, or in any case."""
        reader = exchange.keys.view()
        try:
            index = max(question.index_of(reader), 1)
            if after is not None and index <= after:
                return None
            body = question.render(reader)
        finally:
            reader.close()
        if body is None or isinstance(body, bytes):
            return read(exchange, mode, index, body)
        return LongBody(exchange, mode, question.index_of, question.render, question.per_slice)

    def finish(_: Outcome) -> Due | Wait:
        answer = look(wanted.after or None)
        if answer is not None:
            return answer
        return LocalWait(exchange, mode, wanted, question.on, look)

    def park() -> Wait | None:
        return UnaskedWait(exchange, mode, wanted, question.on, look).begun(query)

    return Deferred(None, query, finish, park=park if wanted.after else None)


async def ask_checked(
    exchange: Exchange, request: Request, check: Callable[[], object], question: Question
) -> Answer | Wait:
    """Answer a question, after a check that may take much of a turn.

    Raises:
        HttpError: As of `check`, `ask` and `Exchange.slice`.
    """
    return await settle_checked(exchange, request, check, ask(exchange, request, question))


async def settle_checked(
    exchange: Exchange, request: Request, check: Callable[[], object], deferred: Deferred
) -> Answer | Wait:
    """Wait for what a handler waits for, after a check that may take much of a turn.

    Raises:
        HttpError: As of `check` and `Exchange.slice`.
    """
    await exchange.slice(BYTES_MAX)
    check()
    return await exchange.settle(deferred, request)


class LongBody:
    """The work that answers with a long body, begun when it is awaited: the client may have gone.

    Args:
        exchange: Of the connection.
        mode: Of the read.
        index_of, render, per_slice: As of `Question`.
    """

    __slots__ = ("_exchange", "_index_of", "_mode", "_per_slice", "_render")

    def __init__(
        self,
        exchange: Exchange,
        mode: Mode,
        index_of: Callable[[Reader], int],
        render: Callable[[Reader], Body],
        per_slice: int,
    ) -> None:
        self._exchange = exchange
        self._mode = mode
        self._index_of = index_of
        self._render = render
        self._per_slice = per_slice

    def __await__(self) -> Generator[Any, Any, Answer]:
        return self._run().__await__()

    async def _run(self) -> Answer:
        """Read it once more when it is this connection's turn, and send it slice by slice."""
        exchange = self._exchange
        await exchange.slice()
        is_taken = False
        reader = exchange.keys.view()
        try:
            index = max(self._index_of(reader), 1)
            body = self._render(reader)
            if body is None or isinstance(body, bytes):  # It has become short.
                return read(exchange, self._mode, index, body)
            if not isinstance(body, Long):
                body = Long(body)
            elements = body.elements
            listing = Listing(
                read_head(exchange, self._mode, index),
                reader,
                b"",
                lambda _keys: elements,
                ends=(body.opening, body.closing),
                per_slice=self._per_slice,
            )
            is_taken = True
            return listing
        finally:
            if not is_taken:
                reader.close()


class Signal:
    """Tells of the first change of several keys or prefixes.

    Attributes:
        call: Called once, at that change; it may be set later.
        has_come: It has come.
    """

    __slots__ = ("_waiters", "call", "has_come")

    def __init__(
        self, keys: Keys, on: Sequence[Target], call: Callable[[], None] | None = None
    ) -> None:
        """Begin to wait for it."""
        self.call = call
        self.has_come = False
        come = self._come
        self._waiters: list[Waiter] = [
            keys.wait_once(table, key, come, is_prefix=is_prefix) for table, key, is_prefix in on
        ]

    def _come(self) -> None:
        if self.has_come:
            return
        self.has_come = True
        call, self.call = self.call, None
        self.give_up()
        if call is not None:
            call()

    def give_up(self) -> None:
        """Wait no more. Idempotent."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.give_up()
        self.call = None


class LocalWait(Wait):
    """A read that waits for the local copy, and can look at it in one turn.

    Args:
        exchange: Of the connection.
        mode: Of the read.
        wanted: What it waits for.
        on: What its result depends on.
        look: Returns the answer if the index has passed the one it is called with, or, called with
            None, in any case.
        crowd: A name that all reads with the same `on` have; empty: it has none.
    """

    __slots__ = (
        "_after", "_began_at", "_crowd", "_exchange", "_look", "_looked_at", "_mode", "_on", "_signal",
        "_wait_s",
    )  # fmt: skip

    def __init__(
        self,
        exchange: Exchange,
        mode: Mode,
        wanted: Blocking,
        on: On,
        look: Callable[[int | None], Due | None],
        *,
        crowd: bytes = b"",
    ) -> None:
        self._began_at = trio.current_time()
        self._wait_s = wanted.wait_s
        self.until = self._began_at + with_jitter(wanted.wait_s)
        self._exchange = exchange
        self._mode = mode
        self._on = on
        self._after = wanted.after
        self._look = look
        self._looked_at = exchange.keys.applied_index
        self._crowd = crowd
        self._signal: Signal | Member | None = None

    def begin(self, call: Callable[[], None]) -> bool:
        """Wait for the next change (`Wait`)."""
        keys = self._exchange.keys
        if keys.applied_index != self._looked_at:
            return False
        crowd = self._exchange.rendered.crowds.get(self._crowd) if self._crowd else None
        if crowd is None:
            on = self._on() if callable(self._on) else self._on
            if not self._crowd or len(on) < CROWD_MIN:
                self._signal = Signal(keys, on, call)
                return True
            crowd = Crowd(self._exchange, self._crowd, lambda call: Signal(keys, on, call))
        self._signal = crowd.join(call)
        return True

    def look(self) -> Due | None:
        """Look whether the index has passed (`Wait`)."""
        self._looked_at = self._exchange.keys.applied_index
        found = self._look(self._after)
        if found is not None:
            self._has_waited()
        return found

    def over(self) -> Due:
        """Answer with what is true now (`Wait`)."""
        self._has_waited()
        refuse_without_leader(self._exchange, self._mode)
        return self._answer()

    def _has_waited(self) -> None:
        self._exchange.has_waited = trio.current_time() - self._began_at >= WHILE_S

    def _answer(self) -> Due:
        answer = self._look(None)
        if answer is None:
            raise CoreBug("a look that asks for any answer has none")
        return answer

    def give_up(self) -> None:
        """Wait no more (`Wait`)."""
        if self._signal is not None:
            self._signal.give_up()


class UnaskedWait(LocalWait):
    """A read that has begun to wait before the leader was asked."""

    __slots__ = ("_query",)

    _query: Query

    def begun(self, query: Query) -> Wait | None:
        """Return this wait, or None where the leader has to be asked first.

        Raises:
            HttpError: 400 for a bad query.
        """
        exchange = self._exchange
        timeout_s(query)  # Refused also where it is not needed.
        # Who waits shortly would have to ask at the end of the wait.
        if self._mode is Mode.STALE or self._wait_s < WHILE_S:
            return None
        if not exchange.backend.process.knows_leader or self._look(self._after) is not None:
            return None
        self._query = query
        exchange.keys.freshen()
        return self

    def look(self) -> Due | None:
        """Look whether the index has passed, and ask the leader if nobody has (`Wait`)."""
        found = super().look()
        return self._asked(found) if found is not None else None

    def over(self) -> Due:
        """Answer with what is true now (`Wait`)."""
        return self._asked(super().over())

    def _asked(self, found: Due) -> Due:
        if self._exchange.keys.is_fresh_since(self._began_at):
            return found
        return _Asking(self._exchange, self._query, self._answer)


class _Asking:
    """The work that asks the leader, then answers; begun when it is awaited: the client may have gone."""

    __slots__ = ("_answer", "_exchange", "_query")

    def __init__(self, exchange: Exchange, query: Query, answer: Callable[[], Due]) -> None:
        self._exchange = exchange
        self._query = query
        self._answer = answer

    def __await__(self) -> Generator[Any, Any, Answer | Wait]:
        return self._run().__await__()

    async def _run(self) -> Answer | Wait:
        exchange = self._exchange
        await exchange.barrier(self._query)
        if exchange.turn.bytes_left <= 0:
            await exchange.turn.small()  # The node tells thousands of outcomes at once.
        found = self._answer()
        return found if isinstance(found, bytes) else await found


def refuse_without_leader(exchange: Exchange, mode: Mode) -> None:
    """Refuse to answer a read whose time is over while nobody can say what is true now.

    Raises:
        NoLeader: The read is not to be stale, and this node knows no leader.
    """
    if mode is not Mode.STALE and not exchange.backend.process.knows_leader:
        raise NoLeader("the wait is over, and this node is in contact with no leader")
