"""One operation of a client: when it was called, when its answer came, and what both said.

Times are numbers of one clock, or line numbers, or counts: they are only compared. An operation
without an end is open: nobody knows whether it took effect, nor when, but not before its call. What
certainly did not take effect is no operation at all, and is left out.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

A = TypeVar("A", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Operation(Generic[A]):
    """What one client did to one object.

    Attributes:
        call: When the client began; of equal times nobody can say which was first.
        end: When it had its answer; None: it never had one, or one that says nothing.
        action: What was asked and what was answered, as the model of the object has it.
        key: Which object.
        client: Who; for people.
    """

    call: float
    end: float | None
    action: A
    key: str = ""
    client: str = ""

    @property
    def is_open(self) -> bool:
        """Whether its outcome is unknown."""
        return self.end is None

    def __str__(self) -> str:
        end = "" if self.end is None else f"{self.end:g}"
        return f"[{self.call:g}..{end}] {self.client} {self.action}"


def by_key(operations: Iterable[Operation[A]]) -> dict[str, list[Operation[A]]]:
    """Return the operations of each object: a history is linearizable if that of each object is."""
    found: dict[str, list[Operation[A]]] = {}
    for operation in operations:
        found.setdefault(operation.key, []).append(operation)
    return found
