"""Collects what clients do while they do it.

    asked = history.call("key", Action(Kind.WRITE, "a"), "client 3")
    ...                                  # the request, and its answer if one comes
    history.answered(asked, Action(Kind.WRITE, "a", 7, result=Result.DONE))

What is never answered stays open. Times are counts: a call is counted before its request leaves and
an answer after it has come, so what ended before something else was called is before it. That needs
no clock, and serves threads (a count and an append are one step each in CPython), Trio's tasks on a
clock of their own, and simulations alike.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Hashable
from dataclasses import replace
from typing import Generic, TypeVar

from .operation import Operation

A = TypeVar("A", bound=Hashable)


class History(Generic[A]):
    """What clients have done so far."""

    def __init__(self) -> None:
        self._count = itertools.count(1)
        self._places = itertools.count()
        self._asked: dict[int, Operation[A]] = {}
        self._done: list[Operation[A]] = []

    def call(self, key: str, action: A, client: str = "") -> int:
        """Count a call, before its request leaves; return what names it from now on.

        `action` is as it stands should no answer come.
        """
        place = next(self._places)
        self._asked[place] = Operation(next(self._count), None, action, key, client)
        return place

    def answered(self, asked: int, action: A) -> None:
        """Count an answer, after it has come."""
        end = next(self._count)
        self._done.append(replace(self._asked.pop(asked), end=end, action=action))

    def unknown(self, asked: int, *, is_harmless: bool = False) -> None:
        """There is no answer, or none that says something; a read can be forgotten."""
        operation = self._asked.pop(asked)
        if not is_harmless:
            self._done.append(operation)

    def never_was(self, asked: int) -> None:
        """The answer is that nothing was done, nor will be."""
        del self._asked[asked]

    def __len__(self) -> int:
        """Return how many are over, the open ones that will not be answered included."""
        return len(self._done)

    def operations(self) -> list[Operation[A]]:
        """Return all of them; what is still under way is open."""
        return self._done.copy() + list(self._asked.values())

    def counts(self) -> dict[str, int]:
        """Return how many were answered, and how many are open."""
        found = Counter("open" if one.is_open else "answered" for one in self.operations())
        return {"answered": found["answered"], "open": found["open"]}
