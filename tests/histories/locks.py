"""Keys with locks, and transactions over several of them: one object, whose parts are its keys.

A lock is taken by a session and ends with it. When a session ends is often no client's doing: such
an end is an open action from the moment on when it may have come. After an end, a lock may be
refused for a while (the lock delay), and for how long the history does not say.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .models import ILLEGAL, Expectations, Illegal, Ready
from .operation import Operation


class LockKind(enum.Enum):
    """What a client may ask for, or what happens to a session."""

    READ = "read"
    WRITE = "write"
    DELETE = "delete"
    ACQUIRE = "acquire"
    RELEASE = "release"
    END = "end"
    """Of a session: every lock it holds becomes free."""
    END_AND_DELETE = "end and delete"
    """Of a session that takes its keys with it."""


@dataclass(frozen=True, slots=True)
class Step:
    """One part of an action.

    Attributes:
        kind: What.
        key: Which key; empty for the end of a session.
        session: Who acquires, releases or ends; of a read: who held the key then, empty: nobody.
        value: What is written, or was read; None: there was nothing.
        lock_index: What a read showed.
    """

    kind: LockKind
    key: str = ""
    session: str = ""
    value: str | None = None
    lock_index: int = 0

    def __str__(self) -> str:
        return f"{self.kind.value} {self.key} {self.session} {self.value!r} {self.lock_index}"


@dataclass(frozen=True, slots=True)
class Steps:
    """An action: steps that take effect together or not at all; a single one is the usual case.

    Attributes:
        steps: In order.
        is_done: What the answer said; None: there was none.
    """

    steps: tuple[Step, ...]
    is_done: bool | None = None

    def __str__(self) -> str:
        told = {None: "unknown", True: "done", False: "refused"}[self.is_done]
        return f"{'; '.join(map(str, self.steps))}: {told}"


class LockCell(NamedTuple):
    """A key.

    Attributes:
        value: None: it is absent.
        session: Who holds it; empty: nobody.
        lock_index: How often it was taken, or the last that is known of that.
        is_exact: False: it was made anew since, and may have taken up from a greater one.
        may_delay: A session ended that held it.
    """

    value: str | None = None
    session: str = ""
    lock_index: int = 0
    is_exact: bool = True
    may_delay: bool = False


Cells = tuple[tuple[str, LockCell], ...]

_ENDED = "\0"
"""Before the id of a session that has ended, as a key: such a one gets no lock any more."""


class LockedKeys:
    """All keys: what one transaction writes, everybody sees together."""

    initial: Cells = ()

    def apply(self, state: Cells, action: Steps) -> Cells | Illegal:
        """See `Model`."""
        if action.is_done is False:
            return state if _may_fail(state, action.steps) else ILLEGAL
        found = _after(dict(state), action.steps)
        if found is None:
            # It was asked for, and nobody knows what came of it: perhaps that it could not be.
            return state if action.is_done is None else ILLEGAL
        return tuple(sorted(found.items()))

    def only_reads(self, action: Steps) -> bool:
        """Who read, and who was refused."""
        return action.is_done is False or all(s.kind is LockKind.READ for s in action.steps)

    def outlook(self, operations: Sequence[Operation[Steps]]) -> Expectations[Cells, Steps]:
        """See `Model`."""
        return Expectations(self, operations)

    def ready(self, operations: Sequence[Operation[Steps]]) -> Ready:
        """See `Model`."""
        return operations, self

    def expects(self, action: Steps) -> bool:
        """Nobody: values come back here."""
        return False

    def fits(self, state: Cells, action: Steps) -> bool:
        """Not asked."""
        return True

    def provides(self, source: Steps, action: Steps) -> bool:
        """Not asked."""
        return True


def _after(cells: dict[str, LockCell], steps: Sequence[Step]) -> dict[str, LockCell] | None:
    """Return the keys after all steps; None: one of them cannot be done, or does not see that."""
    for step in steps:
        if step.kind in (LockKind.END, LockKind.END_AND_DELETE):
            cells = {key: _freed(cell, step) for key, cell in cells.items()}
            cells[_ENDED + step.session] = LockCell("ended")
            continue
        if step.kind is LockKind.ACQUIRE and _ENDED + step.session in cells:
            return None
        cell = _stepped(cells.get(step.key, LockCell()), step)
        if cell is None:
            return None
        cells[step.key] = cell
    return cells


def _freed(cell: LockCell, step: Step) -> LockCell:
    if not step.session or cell.session != step.session:
        return cell
    if step.kind is LockKind.END_AND_DELETE:
        return _deleted(cell)._replace(may_delay=True)
    return cell._replace(session="", may_delay=True)


def _deleted(cell: LockCell) -> LockCell:
    return cell._replace(value=None, session="", is_exact=False)


def _stepped(cell: LockCell, step: Step) -> LockCell | None:
    match step.kind:
        case LockKind.READ:
            return _read(cell, step)
        case LockKind.WRITE:
            return cell._replace(value=step.value)
        case LockKind.DELETE:
            return _deleted(cell)
        case LockKind.RELEASE:
            is_holder = bool(step.session) and cell.session == step.session
            return cell._replace(value=step.value, session="") if is_holder else None
        case _:
            return _acquired(cell, step)


def _acquired(cell: LockCell, step: Step) -> LockCell | None:
    if cell.session == step.session:
        return cell._replace(value=step.value)
    if cell.session:
        return None
    return cell._replace(
        value=step.value, session=step.session, lock_index=cell.lock_index + 1, may_delay=False
    )


def _read(cell: LockCell, step: Step) -> LockCell | None:
    if (cell.value, cell.session) != (step.value, step.session):
        return None
    if step.value is None:
        return cell
    if step.lock_index < cell.lock_index or (cell.is_exact and step.lock_index > cell.lock_index):
        return None
    return cell._replace(lock_index=step.lock_index, is_exact=True)


def _may_fail(state: Cells, steps: Sequence[Step]) -> bool:
    """Whether an answer may say that not all of this could be done."""
    cells = dict(state)
    if _after(dict(cells), steps) is None:
        return True
    taken = (cells.get(step.key) for step in steps if step.kind is LockKind.ACQUIRE)
    return any(cell is not None and cell.may_delay and not cell.session for cell in taken)
