"""The objects whose histories are checked, each as what an action makes of a state.

A model is told an action together with its answer, and says which state is left, or `ILLEGAL` when
that answer cannot be given in that state. An open action has no answer; it does what it would do if
it took effect.

`only_reads` and `outlook` are there for speed alone: they spare the checker choices, and tell it
early that an answer somebody got cannot come about any more. A model that says less is slower and
not wrong.
"""

from __future__ import annotations

import enum
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

from .operation import Operation

S = TypeVar("S", bound=Hashable)
A = TypeVar("A", bound=Hashable)
S_contra = TypeVar("S_contra", bound=Hashable, contravariant=True)
A_contra = TypeVar("A_contra", bound=Hashable, contravariant=True)


class Illegal(enum.Enum):
    """The type of `ILLEGAL`."""

    ILLEGAL = "illegal"


ILLEGAL: Final = Illegal.ILLEGAL


class Outlook(Protocol[S]):
    """What one history says of the future of its object."""

    def settle(self, before: S, number: int, after: S, left: int) -> S | Illegal:
        """Return a state that is as good as `after` for all that is left, if only that state itself.

        `ILLEGAL`: something that is left, and has to be placed, cannot be any more.

        Args:
            before: The state to which operation `number` was applied; -1: none was.
            number: Its place in the sequence that the outlook was made of.
            after: The state it left.
            left: The set of operations that are not yet placed: the bits of their numbers.
        """


Ready = tuple[Sequence[Operation[Any]], "Model[Any, Any]"]


class Model(Protocol[S, A]):
    """An object."""

    @property
    def initial(self) -> S:
        """The state before everything."""

    def apply(self, state: S, action: A) -> S | Illegal:
        """Return the state after an action, or `ILLEGAL`."""

    def only_reads(self, action: A) -> bool:
        """Tell whether an action, where it is legal and changes nothing, may be taken at once."""

    def outlook(self, operations: Sequence[Operation[A]]) -> Outlook[S]:
        """Return what all operations of one object say of its future."""

    def ready(self, operations: Sequence[Operation[A]]) -> Ready:
        """Return the operations and the model to search with: often these, or equivalent ones."""


class Expecting(Protocol[S_contra, A_contra]):
    """A model that can say of single actions what they wait for."""

    def expects(self, action: A_contra) -> bool:
        """Tell whether `fits` and `provides` have to be asked about an action."""

    def fits(self, state: S_contra, action: A_contra) -> bool:
        """Tell whether an action may become legal after `state` without one that provides for it."""

    def provides(self, source: A_contra, action: A_contra) -> bool:
        """Tell whether `source` may make `action` legal, though the state before did not fit."""


class Expectations(Generic[S, A]):
    """The outlook for who expects something, of whom the next to end is looked at."""

    def __init__(self, model: Expecting[S, A], operations: Sequence[Operation[A]]) -> None:
        self._model = model
        self._actions = [operation.action for operation in operations]
        self._expecting = 0
        self._sources = [0] * len(operations)
        for number, one in enumerate(operations):
            if one.end is None or not model.expects(one.action):
                continue
            self._expecting |= 1 << number
            for place, other in enumerate(operations):
                if other.call <= one.end and place != number:
                    self._sources[number] |= model.provides(other.action, one.action) << place

    def settle(self, before: S, number: int, after: S, left: int) -> S | Illegal:
        """See `Outlook`."""
        waiting = self._expecting & left
        if not waiting:
            return after
        first = (waiting & -waiting).bit_length() - 1
        if self._sources[first] & left or self._model.fits(after, self._actions[first]):
            return after
        return ILLEGAL


# --- a register -------------------------------------------------------------------------------


class Read(NamedTuple):
    """What a reader saw; None: nothing was ever written."""

    value: int | str | None


class Write(NamedTuple):
    """A value for whatever was there."""

    value: int | str


class Cas(NamedTuple):
    """Compare and set. `is_done`: whether it matched, None where nobody knows."""

    old: int | str
    new: int | str
    is_done: bool | None = None


class Register:
    """One value, empty at first."""

    initial: int | str | None = None

    def apply(
        self, state: int | str | None, action: Read | Write | Cas
    ) -> int | str | Illegal | None:
        """See `Model`."""
        if isinstance(action, Write):
            return action.value
        if isinstance(action, Read):
            return state if state == action.value else ILLEGAL
        matches = state == action.old
        if action.is_done is not None and action.is_done is not matches:
            return ILLEGAL
        return action.new if matches else state

    def only_reads(self, action: Read | Write | Cas) -> bool:
        """Who read, or was told that the value did not match."""
        return isinstance(action, Read) or (isinstance(action, Cas) and action.is_done is False)

    def outlook(
        self, operations: Sequence[Operation[Read | Write | Cas]]
    ) -> Expectations[int | str | None, Read | Write | Cas]:
        """See `Model`."""
        return Expectations(self, operations)

    def ready(self, operations: Sequence[Operation[Read | Write | Cas]]) -> Ready:
        """See `Model`."""
        return operations, self

    def expects(self, action: Read | Write | Cas) -> bool:
        """Who read, or was told that the value matched."""
        return isinstance(action, Read) or (isinstance(action, Cas) and action.is_done is True)

    def fits(self, state: int | str | None, action: Read | Write | Cas) -> bool:
        """The value is there."""
        return state == _wanted(action)

    def provides(self, source: Read | Write | Cas, action: Read | Write | Cas) -> bool:
        """It writes that value, or may."""
        if isinstance(source, Write):
            return source.value == _wanted(action)
        return (
            isinstance(source, Cas)
            and source.is_done is not False
            and (source.new == _wanted(action))
        )


def _wanted(action: Read | Write | Cas) -> int | str | None:
    return action.old if isinstance(action, Cas) else action.value


# --- a key of hstore --------------------------------------------------------------------------


class Kind(enum.Enum):
    """What a client of hstore may ask for."""

    READ = "read"
    WRITE = "write"
    UPDATE = "update"
    DELETE = "delete"
    CAS = "cas"


class Result(enum.Enum):
    """What it may be told, beside nothing."""

    DONE = "done"
    ABSENT = "absent"
    """404: a read, update or delete of a key that is not there."""
    MISMATCH = "mismatch"
    """`false`: another revision than the `cas` named."""


@dataclass(frozen=True, slots=True)
class Action:
    """A request to hstore, and its answer.

    Attributes:
        kind: The request.
        value: What is written, or what was read.
        revision: The answer's; None where it has none.
        expected: The revision that a `cas` names; 0: the key shall be absent.
        result: What the answer says; None where there was none.
    """

    kind: Kind
    value: str | None = None
    revision: int | None = None
    expected: int = 0
    result: Result | None = None

    def __str__(self) -> str:
        asked = self.kind.value
        if self.kind is Kind.CAS:
            asked += f" at {self.expected}"
        if self.value is not None:
            asked += f" {self.value!r}"
        told = "unknown" if self.result is None else self.result.value
        return f"{asked}: {told}" + (f" at {self.revision}" if self.revision is not None else "")


class Cell(NamedTuple):
    """A key of hstore.

    Attributes:
        value: None: it is absent.
        revision: Of the write or delete that left it so, or the last one known before that.
        is_exact: Whether `revision` is its own; else its own is greater.
    """

    value: str | None = None
    revision: int = 0
    is_exact: bool = True


class Key:
    """One key of hstore: revisions grow, and a reader sees that of the write it sees."""

    initial: Cell = Cell()

    def apply(self, state: Cell, action: Action) -> Cell | Illegal:
        """See `Model`."""
        kind, result = action.kind, action.result
        if kind is Kind.READ:
            return _read(state, action)
        if kind is Kind.CAS:
            return _cas(state, action)
        is_there = kind is Kind.WRITE or state.value is not None
        if result is Result.ABSENT or (result is None and not is_there):
            return ILLEGAL if is_there else state
        if not is_there:
            return ILLEGAL
        return _changed(state, action)

    def only_reads(self, action: Action) -> bool:
        """Who read, and who was told that there was nothing to do."""
        return action.kind is Kind.READ or action.result in (Result.ABSENT, Result.MISMATCH)

    def outlook(self, operations: Sequence[Operation[Action]]) -> Expectations[Cell, Action]:
        """See `Model`."""
        return Expectations(self, operations)

    def ready(self, operations: Sequence[Operation[Action]]) -> Ready:
        """See `Model`."""
        return operations, self

    def expects(self, action: Action) -> bool:
        """Who was told a revision, or was the first after one."""
        return action.revision is not None or _is_done_at(action) > 0

    def fits(self, state: Cell, action: Action) -> bool:
        """That revision is not past."""
        seen = action.revision if action.kind is Kind.READ else _is_done_at(action)
        if seen and state.is_exact and seen == state.revision:
            return True
        return (seen or action.revision or 0) > state.revision

    def provides(self, source: Action, action: Action) -> bool:
        """Nobody brings back a revision that is past."""
        return False


def _is_done_at(action: Action) -> int:
    is_done = action.kind is Kind.CAS and action.result is Result.DONE
    return action.expected if is_done else 0


def _read(state: Cell, action: Action) -> Cell | Illegal:
    if action.result is Result.ABSENT:
        return state if state.value is None else ILLEGAL
    if action.revision is None or state.value is None or state.value != action.value:
        return ILLEGAL
    if state.is_exact:
        return state if state.revision == action.revision else ILLEGAL
    if action.revision <= state.revision:
        return ILLEGAL
    return Cell(state.value, action.revision)


def _cas(state: Cell, action: Action) -> Cell | Illegal:
    if action.expected == 0:
        can_match, must_match = state.value is None, state.value is None
    elif state.value is None:
        can_match, must_match = False, False
    elif state.is_exact:
        can_match = must_match = state.revision == action.expected
    else:
        # Its revision is not known: it may have been the one that was named, or another.
        can_match, must_match = action.expected > state.revision, False
    if action.result is Result.MISMATCH:
        return ILLEGAL if must_match else state
    if not can_match:
        return state if action.result is None else ILLEGAL
    return _changed(state._replace(revision=max(state.revision, action.expected)), action)


def _changed(state: Cell, action: Action) -> Cell | Illegal:
    value = None if action.kind is Kind.DELETE else action.value
    if action.revision is None:
        return Cell(value, state.revision, is_exact=False)
    if action.revision <= state.revision:
        return ILLEGAL
    return Cell(value, action.revision)
