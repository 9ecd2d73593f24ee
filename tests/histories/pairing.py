"""Brings calls and their answers together, for files that log them as separate lines."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Generic, TypeVar

from .operation import Operation

A = TypeVar("A", bound=Hashable)


class FormatError(Exception):
    """A file is not what it should be; the message says where."""


class Calls(Generic[A]):
    """What processes have begun and ended, at the line that is read."""

    def __init__(self) -> None:
        self._line = 0
        self._under_way: dict[str, Operation[A]] = {}
        self._done: list[Operation[A]] = []

    @contextmanager
    def at_line(self, number: int) -> Iterator[None]:
        """Take the number of a line as the time, and put it before what is wrong there."""
        self._line = number
        try:
            yield
        except FormatError as error:
            raise FormatError(f"line {number}: {error}") from None

    def begin(self, process: str, action: A, key: str = "") -> None:
        """A process calls. What it has called before, if that had no end, stays open."""
        before = self._under_way.pop(process, None)
        if before is not None:
            self._done.append(before)
        self._under_way[process] = Operation(self._line, None, action, key, process)

    def action(self, process: str) -> A:
        """Return what a process has begun."""
        return self._begun(process).action

    def key(self, process: str) -> str:
        """Return the object that a process is at work on."""
        return self._begun(process).key

    def end(self, process: str, action: A) -> None:
        """A process has an answer."""
        begun = self._begun(process)
        self._done.append(replace(begun, end=self._line, action=action))
        del self._under_way[process]

    def end_unknown(self, process: str, *, is_harmless: bool) -> None:
        """A process has an answer that says nothing; what is harmless can be forgotten."""
        begun = self._begun(process)
        if not is_harmless:
            self._done.append(begun)
        del self._under_way[process]

    def never_was(self, process: str) -> None:
        """A process is told that nothing has happened."""
        self._begun(process)
        del self._under_way[process]

    def operations(self) -> list[Operation[A]]:
        """Return all operations, by their calls; what was not answered is open."""
        found = [*self._done, *self._under_way.values()]
        return sorted(found, key=lambda operation: operation.call)

    def _begun(self, process: str) -> Operation[A]:
        if process not in self._under_way:
            raise FormatError(f"process {process} is answered and has not called")
        return self._under_way[process]
