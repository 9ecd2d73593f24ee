"""The checker against small histories, against a slow and simple one, and against large ones."""

from __future__ import annotations

import itertools
import os
from collections.abc import Hashable, Sequence
from random import Random
from typing import Any

import pytest

from . import made
from .checker import Verdict, check
from .made import Shape, make, spoil
from .models import (
    ILLEGAL,
    Action,
    Cas,
    Cell,
    Key,
    Kind,
    Model,
    Read,
    Register,
    Result,
    Write,
)
from .operation import Operation
from .recorder import History
from .texts import Append, Get, Put, Text

# The same in each run of CI, others at each run of a user's; a red test prints its seed.
_FIRST = 0 if os.environ.get("CI") else Random().randrange(1 << 32)


def op(call: float, end: float | None, action: Any, key: str = "") -> Operation[Any]:
    return Operation(call, end, action, key)


def is_linearizable(history: Sequence[Operation[Any]], model: Model[Any, Any]) -> bool:
    verdict = check(history, model).verdict
    assert verdict is not Verdict.UNDECIDED
    return verdict is Verdict.LINEARIZABLE


# --- small ones -------------------------------------------------------------------------------

W1, W2, R1, R2, R0 = Write(1), Write(2), Read(1), Read(2), Read(None)

REGISTERS: list[tuple[str, bool, list[Operation[Any]]]] = [
    ("nothing", True, []),
    ("an empty register", True, [op(1, 2, R0)]),
    ("out of nowhere", False, [op(1, 2, R1)]),
    ("a stale read", False, [op(1, 2, W1), op(3, 4, W2), op(5, 6, R1)]),
    ("a read of either of two", True, [op(1, 4, W1), op(2, 3, W2), op(5, 6, R1)]),
    ("two reads turn back", False, [op(1, 9, W1), op(2, 3, R1), op(4, 5, R0)]),
    ("a read before its write", False, [op(1, 2, R1), op(3, 4, W1)]),
    ("a read while it is written", True, [op(1, 4, R1), op(2, 5, W1)]),
    ("at the same moment", True, [op(1, 2, W1), op(2, 3, R0)]),
    ("an open write is seen", True, [op(1, None, W1), op(5, 6, R1)]),
    ("an open write is not seen", True, [op(1, None, W1), op(5, 6, R0)]),
    ("an open write is seen late", True, [op(1, None, W1), op(2, 3, R0), op(4, 5, R1)]),
    ("an open write is seen once", False, [op(1, None, W1), op(2, 3, R1), op(4, 5, R0)]),
    ("an open write comes too late", False, [op(1, 2, R1), op(3, None, W1)]),
    (
        "one open write takes effect once",
        False,
        [op(1, None, W1), op(2, 3, R1), op(4, 5, W2), op(6, 7, R2), op(8, 9, R1)],
    ),
    (
        "two open writes take effect twice",
        True,
        [op(1, None, W1), op(1, None, W1), op(2, 3, R1), op(4, 5, W2), op(6, 7, R1)],
    ),
    ("a write of what is there, later", True, [op(1, 2, W1), op(3, 9, W1), op(4, 5, W2), op(6, 10, R1)]),
    ("a match", True, [op(1, 2, W1), op(3, 4, Cas(1, 2, is_done=True)), op(5, 6, R2)]),
    ("a match that is none", False, [op(1, 2, W1), op(3, 4, Cas(2, 1, is_done=True))]),
    ("a mismatch that is none", False, [op(1, 2, W1), op(3, 4, Cas(1, 2, is_done=False))]),
    ("an open match", True, [op(1, 2, W1), op(3, None, Cas(1, 2)), op(4, 5, R1), op(6, 7, R2)]),
    ("an open mismatch", False, [op(1, 2, W1), op(3, None, Cas(2, 1)), op(4, 5, R2)]),
]  # fmt: skip

TEXTS: list[tuple[str, bool, list[Operation[Any]]]] = [
    ("an empty text", True, [op(1, 2, Get(""))]),
    ("in order", True, [op(1, 2, Append("a")), op(3, 4, Append("b")), op(5, 6, Get("ab"))]),
    ("out of order", False, [op(1, 2, Append("a")), op(3, 4, Append("b")), op(5, 6, Get("ba"))]),
    ("at once", True, [op(1, 4, Append("a")), op(2, 3, Append("b")), op(5, 6, Get("ba"))]),
    ("lost", False, [op(1, 2, Append("a")), op(3, 4, Append("b")), op(5, 6, Get("b"))]),
    ("twice", False, [op(1, None, Append("a")), op(5, 6, Get("aa"))]),
    ("anew", True, [op(1, 2, Append("a")), op(3, 4, Put("b")), op(5, 6, Get("b"))]),
    ("anew in vain", False, [op(1, 2, Append("a")), op(3, 4, Put("b")), op(5, 6, Get("ab"))]),
    ("a lost put is no lost append", True, [op(1, None, Put("b")), op(2, None, Append("b")), op(3, 4, Append("a")), op(5, 6, Get("ab"))]),
    ("a put is at the beginning", False, [op(1, 2, Append("a")), op(1, None, Put("b")), op(3, 4, Get("ab"))]),
    ("two texts at once", False, [op(1, 9, Put("a")), op(1, 9, Put("b")), op(2, 3, Get("a")), op(4, 5, Get("b")), op(6, 7, Get("a"))]),
    ("read before it is written", False, [op(1, 2, Get("a")), op(3, None, Append("a"))]),
    ("seen before another is called", False, [op(1, 9, Append("a")), op(2, 3, Get("a")), op(4, 5, Append("b")), op(6, 7, Get("ba"))]),
    ("values that can be split in two ways", True, [op(1, 2, Append("a")), op(3, 4, Append("aa")), op(5, 6, Get("aaa"))]),
    ("another key", False, [op(1, 2, Append("a"), "x"), op(3, 4, Get("a"), "y")]),
    ("its key", True, [op(1, 2, Append("a"), "x"), op(3, 4, Get("a"), "x"), op(5, 6, Get(""), "y")]),
]  # fmt: skip


def read(value: str | None, revision: int | None = None) -> Action:
    return Action(
        Kind.READ, value, revision, result=Result.ABSENT if value is None else Result.DONE
    )


def write(value: str, revision: int | None) -> Action:
    return Action(Kind.WRITE, value, revision, result=Result.DONE)


def cas(expected: int, value: str, result: Result | None) -> Action:
    return Action(Kind.CAS, value, None, expected, result)


LOST_WRITE = Action(Kind.WRITE, "a")
UPDATE_ABSENT = Action(Kind.UPDATE, "u", result=Result.ABSENT)
UPDATED = Action(Kind.UPDATE, "u", 5, result=Result.DONE)
DELETED = Action(Kind.DELETE, None, 6, result=Result.DONE)
LOST_DELETE = Action(Kind.DELETE)

KEYS: list[tuple[str, bool, list[Operation[Any]]]] = [
    ("absent", True, [op(1, 2, read(None))]),
    ("written", True, [op(1, 2, write("a", 3)), op(3, 4, read("a", 3))]),
    ("another revision", False, [op(1, 2, write("a", 3)), op(3, 4, read("a", 4))]),
    ("revisions turn back", False, [op(1, 2, write("a", 4)), op(3, 4, write("b", 3))]),
    ("revisions say the order", False, [op(1, 9, write("a", 4)), op(2, 8, write("b", 3)), op(10, 11, read("b", 3))]),
    ("a lost write is seen", True, [op(1, None, LOST_WRITE), op(2, 3, read("a", 7)), op(4, 5, read("a", 7))]),
    ("a lost write is seen twice", False, [op(1, None, LOST_WRITE), op(2, 3, read("a", 7)), op(4, 5, read("a", 8))]),
    ("a lost write has a later revision", False, [op(1, 2, write("b", 9)), op(3, None, LOST_WRITE), op(4, 5, read("a", 8))]),
    ("an update of nothing", True, [op(1, 2, UPDATE_ABSENT)]),
    ("an update of something", False, [op(1, 2, write("a", 1)), op(3, 4, UPDATE_ABSENT)]),
    ("an update out of nothing", False, [op(1, 2, UPDATED)]),
    ("an update of a lost write", True, [op(1, None, LOST_WRITE), op(2, 3, UPDATED), op(4, 5, read("u", 5))]),
    ("deleted", True, [op(1, 2, write("a", 1)), op(3, 4, DELETED), op(5, 6, read(None))]),
    ("deleted and there", False, [op(1, 2, write("a", 1)), op(3, 4, DELETED), op(5, 6, read("a", 1))]),
    ("perhaps deleted", True, [op(1, 2, write("a", 1)), op(3, None, LOST_DELETE), op(5, 6, read(None))]),
    ("perhaps not", True, [op(1, 2, write("a", 1)), op(3, None, LOST_DELETE), op(5, 6, read("a", 1))]),
    ("nothing to delete", False, [op(1, 2, write("a", 1)), op(3, 4, Action(Kind.DELETE, result=Result.ABSENT))]),
    ("if absent", True, [op(1, 2, cas(0, "a", Result.DONE)), op(3, 4, read("a", 2))]),
    ("if absent, twice", False, [op(1, 2, cas(0, "a", Result.DONE)), op(3, 4, cas(0, "b", Result.DONE))]),
    ("at its revision", True, [op(1, 2, write("a", 3)), op(3, 4, cas(3, "b", Result.DONE)), op(5, 6, read("b", 4))]),
    ("at another revision", False, [op(1, 2, write("a", 3)), op(3, 4, cas(4, "b", Result.DONE))]),
    ("twice at its revision", False, [op(1, 2, write("a", 3)), op(3, 4, cas(3, "b", Result.DONE)), op(5, 6, cas(3, "c", Result.DONE))]),
    ("not at its revision", False, [op(1, 2, write("a", 3)), op(3, 4, cas(3, "b", Result.MISMATCH))]),
    ("at a revision nobody knows", True, [op(1, None, LOST_WRITE), op(3, 4, cas(5, "b", Result.DONE)), op(5, 6, read("b", 6))]),
    ("a lost match", True, [op(1, 2, write("a", 3)), op(3, None, cas(3, "b", None)), op(5, 6, read("b", 4))]),
    ("a lost mismatch", False, [op(1, 2, write("a", 3)), op(3, None, cas(2, "b", None)), op(5, 6, read("b", 4))]),
]  # fmt: skip

SMALL = [
    *[(Register(), *case) for case in REGISTERS],
    *[(Text(), *case) for case in TEXTS],
    *[(Key(), *case) for case in KEYS],
]


@pytest.mark.parametrize(
    ("model", "is_fine", "history"),
    [(model, is_fine, history) for model, _, is_fine, history in SMALL],
    ids=[f"{type(model).__name__}: {name}".replace(" ", "_") for model, name, _, _ in SMALL],
)
def test_a_small_history(
    model: Model[Any, Any], is_fine: bool, history: list[Operation[Any]]
) -> None:
    assert is_linearizable(history, model) is is_fine
    assert by_trying_everything(history, model) is is_fine


def test_the_report_shows_how_far_an_order_goes_and_what_has_no_place_in_it() -> None:
    result = check([op(1, 2, W1, "k"), op(3, 4, W2, "k"), op(5, 6, R1, "k")], Register())

    assert (result.verdict, result.key) == (Verdict.NOT_LINEARIZABLE, "k")
    assert [o.action for o in result.stuck][-1] == R1
    assert str(result).startswith("not-linearizable: 3 operations")
    assert str(R1) in str(result)


def test_a_search_that_takes_too_long_is_given_up() -> None:
    history = [op(1, 9, W1), op(2, 8, W2), op(3, 7, R2), op(10, 11, R1)]

    assert check(history, Register(), most_steps=1).verdict is Verdict.UNDECIDED
    assert check(history, Register()).verdict is Verdict.LINEARIZABLE


def test_an_undecided_key_does_not_hide_one_that_is_not_linearizable() -> None:
    hard = [op(1, 9, W1, "a"), op(2, 8, W2, "a"), op(3, 7, R2, "a"), op(10, 11, R1, "a")]

    assert check([*hard, op(1, 2, R1, "b")], Register(), most_steps=1).key == "b"


def test_an_operation_that_ends_before_it_is_called_is_no_history() -> None:
    with pytest.raises(ValueError, match="ends before it is called"):
        check([op(2, 1, W1)], Register())


# --- against a checker that tries everything ----------------------------------------------------


def by_trying_everything(history: Sequence[Operation[Any]], model: Model[Any, Any]) -> bool:
    keys = {operation.key for operation in history}
    return all(
        _tries(tuple(o for o in history if o.key == key), model.initial, model) for key in keys
    )


def _tries(left: tuple[Operation[Any], ...], state: Hashable, model: Model[Any, Any]) -> bool:
    """Any operation may be next before which no other has ended."""
    if all(operation.is_open for operation in left):
        return True
    ends = [operation.end for operation in left if operation.end is not None]
    for place, operation in enumerate(left):
        if operation.call > min(ends):
            continue
        after = model.apply(state, operation.action)
        if after is not ILLEGAL and _tries(left[:place] + left[place + 1 :], after, model):
            return True
    return False


def spoilt_register(action: Any) -> Any:
    if isinstance(action, Read):
        return Read(0 if action.value is None else (int(action.value) + 1) % 3)
    if isinstance(action, Cas):
        return action._replace(is_done=not action.is_done)
    return action


def spoilt_text(action: Any) -> Any:
    return Get(action.value[:-5] or "x 1 y") if isinstance(action, Get) else action


def spoilt_chain(action: Any) -> Any:
    """Leave out the first piece, or exchange two, as may well have been if that was the order."""
    if not isinstance(action, Get) or action.value.count("y") < 2:
        return spoilt_text(action)
    first, second, rest = action.value.split("y", 2)
    return Get(f"{second}y{rest}" if len(rest) % 4 else f"{second}y{first}y{rest}")


def answered_key(state: Cell, action: Action) -> tuple[Cell, Action]:
    """Do it, at a revision that nobody else had."""
    revision = state.revision + 1
    is_there = state.value is not None
    if action.kind is Kind.READ:
        return state, read(state.value, state.revision if is_there else None)
    if action.kind in (Kind.UPDATE, Kind.DELETE) and not is_there:
        return state, Action(action.kind, action.value, result=Result.ABSENT)
    if action.kind is Kind.CAS and action.expected != (state.revision if is_there else 0):
        return state, cas(action.expected, action.value or "", Result.MISMATCH)
    value = None if action.kind is Kind.DELETE else action.value
    told = None if action.kind is Kind.CAS else revision
    done = Action(action.kind, action.value, told, action.expected, Result.DONE)
    return Cell(value, revision), done


def ask_key(rng: Random, number: int) -> Action:
    kind = rng.choice(list(Kind))
    value = None if kind in (Kind.READ, Kind.DELETE) else str(number % 4)
    return Action(kind, value, None, rng.randrange(4) if kind is Kind.CAS else 0)


def spoilt_key(action: Any) -> Any:
    if action.revision is not None:
        return Action(action.kind, action.value, action.revision + 1, 0, action.result)
    if action.kind is Kind.CAS:
        is_done = action.result is Result.DONE
        return cas(action.expected, action.value, Result.MISMATCH if is_done else Result.DONE)
    return action


KINDS: list[tuple[Model[Any, Any], Any, Any, Any]] = [
    (Register(), lambda r, n: made.ask_register(r, n, 3), made.answered_register, spoilt_register),
    (Text(), lambda r, n: made.ask_text(r, n % 3, 0.3), made.answered_text, spoilt_text),
    (Text(), lambda r, n: made.ask_text(r, n, 0.3), made.answered_text, spoilt_chain),
    (Key(), ask_key, answered_key, spoilt_key),
]


@pytest.mark.parametrize("kind", KINDS, ids=["register", "text", "chained_text", "key"])
def test_tiny_histories_get_the_verdict_of_trying_everything(kind: tuple[Any, ...]) -> None:
    model, ask, answered, spoilt = kind
    said = {True: 0, False: 0}
    for seed in range(_FIRST, _FIRST + 600):
        rng = Random(seed)
        shape = Shape(rng.randint(2, 4), rng.randint(1, 7), lost=rng.choice([0, 0.3, 0.7]))
        history = make(rng, shape, model.initial, ask, answered)
        if rng.random() < 0.6:
            history = spoil(rng, history, spoilt)
            if rng.random() < 0.3:
                history = spoil(rng, history, spoilt)
        expected = by_trying_everything(history, model)
        assert is_linearizable(history, model) is expected, f"seed {seed}: {history}"
        said[expected] += 1
    assert min(said.values()) > 50


# --- large ones -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS, ids=["register", "text", "chained_text", "key"])
@pytest.mark.parametrize("lost", [0.0, 0.1], ids=["all_answered", "some_lost"])
def test_a_large_history_that_was_made_linearizable_is_found_to_be_so(
    kind: tuple[Any, ...], lost: float
) -> None:
    model, ask, answered, _ = kind
    for seed in range(3):
        shape = Shape(clients=10, operations=600, keys=4, lost=lost)
        history = make(Random(seed), shape, model.initial, ask, answered)
        assert is_linearizable(history, model), f"seed {seed}"


def test_fifty_clients_at_ten_texts_are_judged_either_way() -> None:
    for seed in range(2):
        rng = Random(seed)
        shape = Shape(clients=50, operations=4000, keys=10)
        history = make(rng, shape, "", made.ask_text, made.answered_text)
        assert is_linearizable(history, Text()), f"seed {seed}"
        spoilt = spoil(rng, history, _two_exchanged)
        assert not is_linearizable(spoilt, Text()), f"seed {seed}"


def _two_exchanged(action: Any) -> Any:
    pieces = action.value.split("y")
    if isinstance(action, Get) and len(pieces) > 2:
        pieces[-3], pieces[-2] = pieces[-2], pieces[-3]
        return Get("y".join(pieces))
    return action


def test_unknown_outcomes_do_not_multiply() -> None:
    """Sixty open writes of two values beside each other: sets of them are as good as their size."""
    opened = [op(number, None, Write(number % 2)) for number in range(60)]
    reads = [op(100 + 2 * n, 101 + 2 * n, Read(n % 2)) for n in range(40)]
    result = check([*opened, *reads, op(900, 901, Read(5))], Register())

    assert result.verdict is Verdict.NOT_LINEARIZABLE
    assert result.steps < 10_000


def test_the_order_of_the_list_does_not_matter() -> None:
    history = make(Random(5), Shape(4, 40), None, made.ask_register, made.answered_register)
    spoilt = spoil(Random(5), history, spoilt_register)

    for one in itertools.chain([history[::-1]], [sorted(history, key=str)]):
        assert is_linearizable(one, Register())
    assert is_linearizable(spoilt[::-1], Register()) is is_linearizable(spoilt, Register())


# --- as it is recorded ------------------------------------------------------------------------


def test_what_was_recorded_has_its_calls_before_its_answers_and_leaves_out_what_never_was() -> None:
    history: History[Any] = History()
    write, other, lost, refused = (history.call("k", one) for one in (W1, R0, W2, W2))
    history.answered(write, W1)
    history.unknown(other, is_harmless=True)
    history.unknown(lost)
    history.never_was(refused)
    late = history.call("k", R2)
    history.answered(late, R2)
    history.call("k", Cas(2, 1))

    found = sorted(history.operations(), key=lambda o: o.call)
    assert [(o.call, o.end, o.action) for o in found] == [
        (1, 5, W1),
        (3, None, W2),
        (6, 7, R2),
        (8, None, Cas(2, 1)),
    ]
    assert history.counts() == {"answered": 2, "open": 2}
    assert is_linearizable(found, Register())
