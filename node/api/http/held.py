"""A read that waits for a change, waited for by the task that serves its connection.

For connections without a poller, which are few; all others wait without a task (`parked.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from ...net.stream import TcpStream
from .answers import HttpError
from .dispatch import failed, finish
from .exchange import DEADLINE_SLACK_S
from .waiting import Due, Pending, Tell, Wait

if TYPE_CHECKING:
    from .answers import Answer
    from .connection import Request
    from .exchange import Exchange


class _Told:
    """What a read was told, once it was."""

    def __init__(self) -> None:
        self.found: Due | Exception | None = None
        self.event = trio.Event()

    def tell(self, found: Due | Exception) -> None:
        self.found = found
        self.event.set()


async def until_due(
    exchange: Exchange,
    request: Request,
    wait: Wait,
    begin: Callable[[Wait, Tell], Pending],
    stream: trio.abc.Stream,
) -> Answer:
    """Wait until a read is due, and return its answer; an error becomes an answer.

    Args:
        exchange: Of the connection; its deadline is moved behind the end of the wait.
        request: That asked.
        wait: What it waits for.
        begin: Notes the wait; may raise HttpError.
        stream: The connection.

    Raises:
        trio.BrokenResourceError: The client has gone.

    Cancellation: it waits no more.
    """
    while True:
        told = _Told()
        try:
            pending = begin(wait, told.tell)
        except HttpError as error:
            return failed(exchange, request, error)
        scope = exchange.scope
        scope.deadline = max(scope.deadline, wait.until + DEADLINE_SLACK_S)
        try:
            pending.start()
            await _wait(told.event, stream)
        finally:
            pending.give_up()
        found = told.found
        if found is None:
            raise trio.BrokenResourceError("the client has gone")
        if isinstance(found, Exception):
            return failed(exchange, request, found)
        answer = await finish(exchange, request, found)
        if not isinstance(answer, Wait):
            return answer
        wait = answer


async def _wait(event: trio.Event, stream: trio.abc.Stream) -> None:
    """Wait for an event, or until the client has gone."""
    if not isinstance(stream, TcpStream):
        await event.wait()
        return
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_call_when_ended, stream, nursery.cancel_scope.cancel)
        await event.wait()
        nursery.cancel_scope.cancel()


async def _call_when_ended(stream: TcpStream, call: Callable[[], object]) -> None:
    """Call when the client has gone; where it has sent more, that is not to be seen any more."""
    await trio.lowlevel.wait_readable(stream.sock)
    if stream.has_ended():
        call()
