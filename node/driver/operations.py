"""What callers have a replica do, and wait for: commands, reads, changes of the core.

Every one has a deadline, and gets its result or an error before that has passed by more than a tick.
"""

from __future__ import annotations

import abc
from collections.abc import Callable

from ..config import command_limits
from ..errors import Refused
from ..measure.histogram import Histogram
from ..model import commands
from ..model.commands import Command, Outcome, Put
from ..peers.wire import ForwardKind
from ..raft import events as happened
from .requests import READ, Answer, Request, Waiting


class Operations(abc.ABC):
    """The operations of a `Replica`, which has the turns in which they are carried out.

    Attributes:
        waiting: The requests that wait for an answer here.
        apply_seconds: How long it took to apply the entries of one turn, and to answer their requests.
    """

    def __init__(self) -> None:
        self.waiting = Waiting()
        self.apply_seconds = Histogram()

    @abc.abstractmethod
    def want_turn(self) -> None:
        """Have a turn taken soon, which takes up what waits."""

    @abc.abstractmethod
    def feed(self, event: happened.Event) -> None:
        """Queue an event for the next turn."""

    @abc.abstractmethod
    def new_id(self) -> int:
        """Return a number that this process has not used yet, for a proposal or a read."""

    async def propose(
        self, command: Command, deadline: float, *, applied_here: bool = False
    ) -> Outcome:
        """Have a command committed and applied, whichever node leads; return its outcome.

        The leader stamps it with the cluster's time if it is of a kind that needs it.

        Args:
            command: The command.
            deadline: Until when.
            applied_here: Return only when it has taken effect in this node's copy, too; at the deadline
                in any case, for it is committed.

        Raises:
            NoLeader, Overloaded, NotApplied, NoSpace: It certainly took no effect.
            OutcomeUnknown: It may or may not take effect.
            Refused: It is outside the limits of `config/command_limits.py`.

        Cancellation: the outcome is unknown.
        """
        request = self.begin_propose(command, deadline, None, applied_here=applied_here)
        outcome: Outcome = await request.wait()
        return outcome

    def begin_propose(
        self,
        command: Command,
        deadline: float,
        tell: Callable[[Answer], None] | None,
        *,
        applied_here: bool = False,
    ) -> Request:
        """As `propose`, without a task that waits: `tell` gets the outcome, or the error.

        Raises:
            Overloaded: It certainly took no effect; `tell` is not called.
        """
        data = commands.encode_unstamped(command)
        request = Request(ForwardKind.WRITE, data, deadline, tell)
        # Nearly all are plain writes: they need not be decoded to be looked at.
        request.is_checked = type(command) is Put and command_limits.is_sound(command)
        request.applied_here = applied_here
        self.waiting.submit(request)
        self.want_turn()
        return request

    async def agree(self, command: Command, deadline: float) -> Outcome:
        """As `propose`, for a command that must take effect.

        Raises:
            Refused: It took no effect; the text says why.
        """
        outcome = await self.propose(command, deadline)
        if not outcome.ok:
            raise Refused(outcome.text)
        return outcome

    async def request(self, kind: ForwardKind, data: bytes, deadline: float) -> Answer:
        """Have the leader carry out a request, whichever node leads; return its result.

        Raises:
            HstoreError: As `propose` says; Refused with the leader's words.

        Cancellation: the outcome is unknown.
        """
        request = Request(kind, data, deadline)
        self.submit(request)
        return await request.wait()

    def submit(self, request: Request) -> None:
        """Queue a request; raises Overloaded when too many wait."""
        self.waiting.submit(request)
        self.want_turn()

    async def read_barrier(self, deadline: float) -> None:
        """Wait until this node's state contains all that was answered before (linearizable).

        Raises:
            NoLeader, Overloaded: No majority confirmed it in time.

        Cancellation: nothing is left behind.
        """
        read = Request(READ, b"", deadline)
        self.waiting.submit_read(read)
        self.want_turn()
        await read.wait()

    def begin_read(self, deadline: float, tell: Callable[[Answer], None]) -> Request:
        """As `read_barrier`, without a task that waits: `tell` gets None, or the error.

        Raises:
            Overloaded: Too many wait; `tell` is not called.
        """
        read = Request(READ, b"", deadline, tell)
        self.waiting.submit_read(read)
        self.want_turn()
        return read

    async def ask_core(self, ask: Callable[[int], happened.Event], deadline: float) -> None:
        """Have this leader's core change the membership, or hand over; return when it is done.

        Args:
            ask: Makes the event, given the id that the core answers to.

        Raises:
            Refused, NoLeader: The core will not have it now; the text says why.
            Unavailable, OutcomeUnknown: It was begun, and given up or lost sight of.
        """
        request = Request(ForwardKind.WRITE, b"", deadline)
        rid = self.new_id()
        self.waiting.proposed[rid] = request
        self.feed(ask(rid))
        await request.wait()
