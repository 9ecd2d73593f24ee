"""Reads of the state in the dialect, which wait for a change where the client asks for that.

Owns the way from a question to its answer: the mode of the read, its wait, its index, its headers. A
handler says what its question is (`Question`), and nothing else.

Theory of operation. A read that waits is first linearizable on its arrival, as any other, and from
then on looks at the local copy: each time that one of the keys changes on which its result depends,
until the index of the result has passed the one that the client has named. Which changes those are is
exact, so a change wakes those reads whose result it has changed, and no other. It does not matter who
leads meanwhile, since the changes come from this node's own state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import trio

from ...errors import NoLeader
from ..http.exchange import Deferred
from ..http.params import parse_query
from ..http.waiting import Wait
from .heads import Mode, read
from .queries import AT_ONCE, Blocking, blocking, mode_of, with_jitter

if TYPE_CHECKING:
    from ...model.commands import Outcome
    from ...state.changes import Table
    from ...state.machine import Reader
    from ..backend import Keys, Waiter
    from ..http.connection import Request
    from ..http.exchange import Exchange
    from ..http.waiting import Found


class Target(NamedTuple):
    """What a result depends on.

    Attributes:
        table: Of `state/changes.py`.
        key: As that table names it.
        is_prefix: Every key that starts with it.
    """

    table: Table
    key: bytes
    is_prefix: bool = False


class Question(NamedTuple):
    """What a read asks.

    Attributes:
        on: All that its result depends on: each change of the index must be among them.
        index_of: Returns the index of the result; whatever is below 1 counts as 1.
        render: Returns the body as JSON; None: there is nothing, which is 404 with an empty body.
    """

    on: Sequence[Target]
    index_of: Callable[[Reader], int]
    render: Callable[[Reader], bytes | None]


def ask(exchange: Exchange, request: Request, question: Question) -> Deferred:
    """Begin to answer a question, by `?index=` and `?wait=` where the client sends them.

    Both callables are called in one turn with the same reader; they must be quick.

    Raises:
        HttpError: 400 for a bad query.
    """
    query = parse_query(request.query)
    mode, query = mode_of(exchange, query)
    wanted = blocking(query) if query else AT_ONCE

    def look(after: int | None) -> bytes | None:
        """Return the answer if the index has passed `after`, or in any case."""
        reader = exchange.keys.view()
        try:
            index = max(question.index_of(reader), 1)
            if after is not None and index <= after:
                return None
            body = question.render(reader)
        finally:
            reader.close()
        return read(exchange, mode, index, body)

    def finish(_: Outcome) -> Found | Wait:
        answer = look(wanted.after or None)
        if answer is not None:
            return answer
        return LocalWait(exchange, mode, wanted, question.on, look)

    return Deferred(None, query, finish)


class Signal:
    """Tells of the first change of several keys or prefixes.

    Attributes:
        call: Called once, at that change; it may be set later.
        has_come: It has come.
    """

    __slots__ = ("_waiters", "call", "has_come")

    def __init__(self, keys: Keys, on: Sequence[Target]) -> None:
        """Begin to wait for it."""
        self.call: Callable[[], None] | None = None
        self.has_come = False
        self._waiters: tuple[Waiter, ...] = tuple(
            keys.wait_once(table, key, self._come, is_prefix=is_prefix)
            for table, key, is_prefix in on
        )

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
        waiters, self._waiters = self._waiters, ()
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
    """

    __slots__ = ("_after", "_exchange", "_look", "_looked_at", "_mode", "_on", "_signal")

    def __init__(
        self,
        exchange: Exchange,
        mode: Mode,
        wanted: Blocking,
        on: Sequence[Target],
        look: Callable[[int | None], Found | None],
    ) -> None:
        self.until = trio.current_time() + with_jitter(wanted.wait_s)
        self._exchange = exchange
        self._mode = mode
        self._on = on
        self._after = wanted.after
        self._look = look
        self._looked_at = exchange.keys.applied_index
        self._signal: Signal | None = None

    def begin(self, call: Callable[[], None]) -> bool:
        """Wait for the next change (`Wait`)."""
        keys = self._exchange.keys
        if keys.applied_index != self._looked_at:
            return False
        self._signal = Signal(keys, self._on)
        self._signal.call = call
        return True

    def look(self) -> Found | None:
        """Look whether the index has passed (`Wait`)."""
        self._looked_at = self._exchange.keys.applied_index
        return self._look(self._after)

    def over(self) -> Found:
        """Answer with what is true now (`Wait`)."""
        refuse_without_leader(self._exchange, self._mode)
        answer = self._look(None)
        assert answer is not None
        return answer

    def give_up(self) -> None:
        """Wait no more (`Wait`)."""
        if self._signal is not None:
            self._signal.give_up()


def refuse_without_leader(exchange: Exchange, mode: Mode) -> None:
    """Refuse to answer a read whose time is over while nobody can say what is true now.

    Raises:
        NoLeader: The read is not to be stale, and this node knows no leader.
    """
    if mode is not Mode.STALE and not exchange.backend.process.knows_leader:
        raise NoLeader("the wait is over, and this node is in contact with no leader")
