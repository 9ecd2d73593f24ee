"""Searches for an order of operations that explains what every client saw.

A history is linearizable when each operation can be given one moment between its call and its end
at which it takes effect, such that the object, used by one client after the other in that order,
gives the same answers (Herlihy and Wing, 1990). An open operation may have such a moment after its
call, or none.

Theory of operation. The search is that of Wing and Gong (1993) with the memory of Lowe (2017). All
calls and ends stand in one list by time. Whatever is called before the first end in the list may
come next: one such operation is taken, both its marks are lifted out of the list, and the search
begins again at the front. When the first end is reached and nothing before it can be taken, the
last choice is taken back. When no end is left, the order is found. A set of operations in
whatever order leaves one of few states; what was tried once from the same set and state is not
tried again.

What makes it fast enough for Python, and why nothing is lost by it:

- A completed operation that only reads is taken as soon as it is legal, without a choice: any order from here
  on stays one when it is moved to the front.
- An open operation that would change nothing is not taken.
- Of equal open operations the one that was called first is taken first.
- Who has used fewer open operations for the same can do all that another can: a set is not tried
  when a smaller one failed.
- When an answer that somebody got cannot come about any more (`Outlook.settle`), the search turns
  back at once; and states between which nobody left can tell are one state.

Deciding this is NP-complete, so there is a bound on steps and a third verdict.
"""

from __future__ import annotations

import enum
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from .models import ILLEGAL, Model
from .operation import Operation, by_key

S = TypeVar("S", bound=Hashable)
A = TypeVar("A", bound=Hashable)

MOST_STEPS = 5_000_000
"""Of one object. One takes 5 to 20 microseconds; histories that are any use take some thousand."""


class Verdict(enum.Enum):
    """What the search says."""

    LINEARIZABLE = "linearizable"
    NOT_LINEARIZABLE = "not-linearizable"
    UNDECIDED = "undecided"
    """The bound on steps was reached."""


@dataclass(frozen=True, slots=True)
class Result(Generic[A]):
    """The verdict on one history.

    Attributes:
        verdict: The verdict; what follows is of the object that decided it.
        operations: How many there were, in all objects.
        steps: How many were tried, in all objects.
        key: The first object that is not linearizable or not decided.
        order: The longest order that was found.
        stuck: What is completed and has no place behind it, by time of its end.
    """

    verdict: Verdict
    operations: int
    steps: int
    key: str = ""
    order: Sequence[Operation[A]] = ()
    stuck: Sequence[Operation[A]] = field(default=())

    def __str__(self) -> str:
        head = f"{self.verdict.value}: {self.operations} operations, {self.steps} steps"
        if self.verdict is Verdict.LINEARIZABLE:
            return head
        lines = [f"{head}; key {self.key!r}; the longest order that was found ends:"]
        lines += [f"  {operation}" for operation in self.order[-12:]]
        lines += ["and none of these can follow, of which the first ended first:"]
        lines += [f"  {operation}" for operation in self.stuck[:12]]
        return "\n".join(lines)


def check(
    operations: Iterable[Operation[A]], model: Model[S, A], most_steps: int = MOST_STEPS
) -> Result[A]:
    """Judge the history of many objects, each by itself.

    Args:
        operations: In any order.
        model: Of every object.
        most_steps: After so many for one object it is undecided.
    """
    count = steps = 0
    undecided: Result[A] | None = None
    for key, own in sorted(by_key(operations).items()):
        search = _Search(*model.ready(own))
        verdict = search.run(most_steps)
        count += len(own)
        steps += search.steps
        if verdict is not Verdict.LINEARIZABLE and undecided is None:
            undecided = Result(verdict, count, steps, key, search.longest(), search.stuck())
        if verdict is Verdict.NOT_LINEARIZABLE:
            return Result(verdict, count, steps, key, search.longest(), search.stuck())
    if undecided is not None:
        return undecided
    return Result(Verdict.LINEARIZABLE, count, steps)


class _Search(Generic[S, A]):
    """One object. Completed operations are numbered by their end, the open ones follow by call.

    A set of operations is an integer with one bit each. In the list the call of operation `k` is
    mark `k`, its end is mark `count + k`, and the last mark is both front and back.
    """

    def __init__(self, operations: Sequence[Operation[A]], model: Model[S, A]) -> None:
        closed = [o for o in operations if o.end is not None]
        closed.sort(key=lambda o: (o.end, o.call))
        opened = sorted((o for o in operations if o.end is None), key=lambda o: o.call)
        self.operations = [*closed, *opened]
        self.steps = 0
        self._model = model
        self._apply = model.apply
        self._actions = [o.action for o in self.operations]
        self._count = len(self.operations)
        self._closed = len(closed)
        self._edge = 2 * self._count
        self._next, self._prev = self._marks()
        self._twin = self._twins()
        self._settle = model.outlook(self.operations).settle
        self._reads = [model.only_reads(action) for action in self._actions[: self._closed]]
        self._all = (1 << self._count) - 1
        self._taken = 0
        self._state = model.initial
        self._seen: dict[tuple[int, S], list[int]] = {}
        # Of each choice: the operation, the state before it, and the reads taken along with it.
        self._choices: list[tuple[int, S, list[int]]] = []
        self._most_choices: list[tuple[int, S, list[int]]] = []
        self._first: list[int] = []

    # -- before the search ------------------------------------------------------------------

    def _marks(self) -> tuple[list[int], list[int]]:
        # At equal times calls come first: then the two overlap, and either may be first.
        marks: list[tuple[float, int, int]] = []
        for number, operation in enumerate(self.operations):
            marks.append((operation.call, 0, number))
            if operation.end is not None:
                if operation.end < operation.call:
                    raise ValueError(f"ends before it is called: {operation}")
                marks.append((operation.end, 1, self._count + number))
        marks.sort()
        ring = [self._edge, *(mark for _, _, mark in marks)]
        following, before = [0] * (self._edge + 1), [0] * (self._edge + 1)
        for place, mark in enumerate(ring):
            following[mark] = ring[(place + 1) % len(ring)]
            before[mark] = ring[place - 1]
        return following, before

    def _twins(self) -> list[int]:
        """Return for each open operation the set of the equal one before it."""
        twins = [0] * self._count
        last: dict[tuple[type, A], int] = {}
        for number in range(self._closed, self._count):
            # Actions may be tuples, and those of two types may have the same content.
            what = (type(self._actions[number]), self._actions[number])
            twins[number] = last.get(what, 0)
            last[what] = 1 << number
        return twins

    # -- the search -------------------------------------------------------------------------

    def run(self, most_steps: int) -> Verdict:
        """Search until an order is found, or all is tried, or the bound is reached."""
        following, apply, edge, count = self._next, self._apply, self._edge, self._count
        self._first = self._take_reads()
        settled = self._settle(self._state, -1, self._state, self._all & ~self._taken)
        if settled is ILLEGAL:
            return Verdict.NOT_LINEARIZABLE
        self._state = settled
        self._first += self._take_reads()
        mark = following[edge]
        while mark != edge:
            if mark < count:
                state = self._state
                twin = self._twin[mark]
                if not twin or self._taken & twin:
                    after = apply(state, self._actions[mark])
                    if after is not ILLEGAL and (mark < self._closed or after != state):
                        if self.steps >= most_steps:
                            return Verdict.UNDECIDED
                        if self._choose(mark, after):
                            mark = following[edge]
                            continue
                        self._undo()
                mark = following[mark]
            elif not self._choices:
                return Verdict.NOT_LINEARIZABLE
            else:
                mark = following[self._undo()]
        return Verdict.LINEARIZABLE

    def _choose(self, number: int, after: S) -> bool:
        """Take an operation; tell whether it makes sense to go on from there."""
        self.steps += 1
        before = self._state
        self._lift(number)
        self._state = after
        reads = self._take_reads()
        self._choices.append((number, before, reads))
        settled = self._settle(before, number, after, self._all & ~self._taken)
        if settled is ILLEGAL:
            return False
        if settled != after:
            self._state = settled
            reads += self._take_reads()
        if len(self._choices) > len(self._most_choices):
            self._most_choices = self._choices.copy()
        return self._is_new()

    def _undo(self) -> int:
        """Take the last choice back; return it."""
        number, self._state, along = self._choices.pop()
        for other in reversed(along):
            self._put_back(other)
        self._put_back(number)
        return number

    def _take_reads(self) -> list[int]:
        """Take every read that is legal; return them."""
        following, apply, state, closed = self._next, self._apply, self._state, self._closed
        taken: list[int] = []
        mark = following[self._edge]
        # Up to the first end; open operations are passed over.
        while mark < self._count:
            if mark < closed and self._reads[mark] and apply(state, self._actions[mark]) == state:
                self._lift(mark)
                taken.append(mark)
            mark = following[mark]
        return taken

    def _is_new(self) -> bool:
        """Remember where the search stands; False when it cannot find more here than before."""
        closed = self._taken & ((1 << self._closed) - 1)
        used = self._taken >> self._closed
        tried = self._seen.setdefault((closed, self._state), [])
        if any(less & used == less for less in tried):
            return False
        tried.append(used)
        return True

    def _lift(self, number: int) -> None:
        following, before = self._next, self._prev
        self._taken |= 1 << number
        marks = (number, self._count + number) if number < self._closed else (number,)
        for mark in marks:
            following[before[mark]] = following[mark]
            before[following[mark]] = before[mark]

    def _put_back(self, number: int) -> None:
        following, before = self._next, self._prev
        self._taken ^= 1 << number
        marks = (self._count + number, number) if number < self._closed else (number,)
        for mark in marks:
            following[before[mark]] = mark
            before[following[mark]] = mark

    # -- after it ---------------------------------------------------------------------------

    def longest(self) -> list[Operation[A]]:
        """Return the longest order that was found."""
        taken = [one for number, _, reads in self._most_choices for one in (number, *reads)]
        return [self.operations[one] for one in (*self._first, *taken)]

    def stuck(self) -> list[Operation[A]]:
        """Return what is completed and not in the longest order."""
        placed = {id(operation) for operation in self.longest()}
        return [o for o in self.operations[: self._closed] if id(o) not in placed]
