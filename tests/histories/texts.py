"""A text that grows, and what is special about it: who reads it tells how it came about.

In a history where every value is written once, a reader that saw "abc" saw the last put, if there was one, and every append since, in order: its
chain. Nothing else may have changed the text between two links of a chain. So the search need not
try orders that no reader saw:

- A completed reader's chain, once begun, has to be gone along until that reader is served.
- A text that no reader waits for is as good as any other such text: all of them are None here.
- Writes that no reader ever saw can stand wherever the text is None; open ones never were.
- Open writes that a reader saw took effect before its answer came.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from .models import ILLEGAL, Expectations, Illegal, Ready
from .operation import Operation


class Get(NamedTuple):
    """What a reader saw."""

    value: str


class Put(NamedTuple):
    """A text for whatever was there."""

    value: str


class Append(NamedTuple):
    """A text behind what was there."""

    value: str


Action = Get | Put | Append


class Text:
    """One text, empty at first."""

    initial: str = ""

    def apply(self, state: str, action: Action) -> str | Illegal:
        """See `Model`."""
        if isinstance(action, Append):
            return state + action.value
        if isinstance(action, Put):
            return action.value
        return state if state == action.value else ILLEGAL

    def only_reads(self, action: Action) -> bool:
        """Who read."""
        return isinstance(action, Get)

    def outlook(self, operations: Sequence[Operation[Action]]) -> Expectations[str, Action]:
        """See `Model`."""
        return Expectations(self, operations)

    def ready(self, operations: Sequence[Operation[Action]]) -> Ready:
        """See `Model`; chains are searched much faster, where they can be told."""
        try:
            chained = ChainedText(operations)
        except Ambiguous:
            return operations, self
        return chained.operations, chained

    def expects(self, action: Action) -> bool:
        """Who read."""
        return isinstance(action, Get)

    def fits(self, state: str, action: Action) -> bool:
        """What was seen begins with what is there: the rest can still be appended."""
        return action.value.startswith(state)

    def provides(self, source: Get | Put | Append, action: Action) -> bool:
        """It begins anew, with what was seen at the beginning."""
        return isinstance(source, Put) and action.value.startswith(source.value)


class Unseen(NamedTuple):
    """A put or an append that no reader saw."""

    value: str


class Ambiguous(Exception):
    """What readers saw could have come about in more than one way."""


class ChainedText:
    """One text. See `models.Model`; None is a text that nobody waits for.

    Attributes:
        operations: Those of the history as they have to be checked.
    """

    initial: str | None = ""

    def __init__(self, operations: Sequence[Operation[Action]]) -> None:
        """Raise `Ambiguous` when this model is not for this history."""
        writes = _Writes(operations)
        self._chains: dict[str, list[str] | None] = {}
        seen: dict[str, float] = {}
        for one in operations:
            if isinstance(one.action, Get) and one.end is not None:
                text = one.action.value
                if text not in self._chains:
                    self._chains[text] = writes.chain(text)
                for value in self._chains[text] or ():
                    seen[value] = min(seen.get(value, one.end), one.end)
        self.operations: list[Operation[Any]] = [
            found for one in operations if (found := _as_seen(one, seen))
        ]

    def apply(self, state: str | None, action: Action | Unseen) -> str | Illegal | None:
        """See `Model`."""
        if isinstance(action, Get):
            return state if state == action.value else ILLEGAL
        if isinstance(action, Put):
            return action.value
        if state is None or isinstance(action, Unseen):
            return None
        return state + action.value

    def only_reads(self, action: Action | Unseen) -> bool:
        """Who read, and where nobody waits for the text, who wrote what nobody saw."""
        return isinstance(action, Get | Unseen)

    def outlook(self, operations: Sequence[Operation[Action | Unseen]]) -> _Outlook:
        """See `Model`."""
        return _Outlook(operations, self._chains)

    def ready(self, operations: Sequence[Operation[Action | Unseen]]) -> Ready:
        """See `Model`."""
        return operations, self


class _Outlook:
    """See `models.Outlook`. A set of readers is an integer with the bits of their numbers."""

    def __init__(
        self,
        operations: Sequence[Operation[Action | Unseen]],
        chains: dict[str, list[str] | None],
    ) -> None:
        calls = {o.action.value: o.call for o in operations if not isinstance(o.action, Get)}
        puts = {o.action.value for o in operations if isinstance(o.action, Put)}
        self._values = [None if isinstance(o.action, Get) else o.action.value for o in operations]
        self._along: dict[str | None, int] = {}
        """Whose chain leads through a text."""
        self._with: dict[str | None, int] = {}
        """Whose chain has a write in it."""
        self._never = 0
        """Who saw what cannot be."""
        for number, one in enumerate(operations):
            if not isinstance(one.action, Get):
                continue
            bit = 1 << number
            chain = chains[one.action.value]
            assert one.end is not None
            if chain is None or any(calls[value] > one.end for value in chain):
                self._never |= bit
                continue
            if not chain or chain[0] not in puts:
                self._along[""] = self._along.get("", 0) | bit
            length = 0
            for value in chain:
                length += len(value)
                text = one.action.value[:length]
                self._along[text] = self._along.get(text, 0) | bit
                self._with[value] = self._with.get(value, 0) | bit

    def settle(
        self, before: str | None, number: int, after: str | None, left: int
    ) -> str | Illegal | None:
        """See `models.Outlook`."""
        along = self._along.get(after, 0)
        engaged = self._along.get(before, 0)
        if number >= 0:
            engaged |= self._with.get(self._values[number], 0)
        if (engaged & ~along | self._never) & left:
            return ILLEGAL
        return after if along & left else None


class _Writes:
    """What was written, and how a text is made of it."""

    def __init__(self, operations: Sequence[Operation[Action]]) -> None:
        self._is_put: dict[str, bool] = {}
        for one in operations:
            if isinstance(one.action, Get):
                continue
            if not one.action.value or one.action.value in self._is_put:
                raise Ambiguous
            self._is_put[one.action.value] = isinstance(one.action, Put)
        self._lengths = sorted({len(value) for value in self._is_put})

    def chain(self, text: str) -> list[str] | None:
        """Return the writes that lead to a text; None when none do."""
        chain: dict[str, None] = {}
        place = 0
        while place < len(text):
            pieces = {text[place : place + length] for length in self._lengths}
            fitting = [piece for piece in pieces if piece in self._is_put]
            if len(fitting) > 1:
                raise Ambiguous
            if not fitting or fitting[0] in chain or (chain and self._is_put[fitting[0]]):
                return None
            chain[fitting[0]] = None
            place += len(fitting[0])
        return list(chain)


def _as_seen(one: Operation[Action], seen: dict[str, float]) -> Operation[Any] | None:
    if isinstance(one.action, Get):
        return one if one.end is not None else None
    end = seen.get(one.action.value)
    if end is None:
        unseen = Operation(one.call, one.end, Unseen(one.action.value), one.key, one.client)
        return unseen if one.end is not None else None
    # It took effect before the answer of whoever saw it: to say so loses nothing.
    if one.end is None or end < one.end:
        return replace(one, end=max(end, one.call))
    return one
