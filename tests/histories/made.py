"""Histories that are linearizable because they were made so, from a seed; and how to spoil one.

Clients call, take effect at a moment of their own, and are answered later; some are never answered,
and of those some never take effect. Only the call, the answer and what was seen are in the history.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, TypeVar

from .models import Cas, Read, Write
from .operation import Operation
from .texts import Append, Get, Put

A = TypeVar("A", bound=Hashable)

Answered = Callable[[Any, Any], tuple[Any, Any]]
"""(state, what is asked) to (state after it, the action with its answer)."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a history is like.

    Attributes:
        clients: How many, each with one operation at a time.
        operations: How many in all.
        keys: How many objects.
        lost: Chance that there is no answer; half of those had no effect.
        slow: Of how many clients the operations overlap, on average; at most `clients`.
    """

    clients: int
    operations: int
    keys: int = 1
    lost: float = 0.0
    slow: float = 1.0


def make(
    rng: Random,
    shape: Shape,
    initial: Hashable,
    ask: Callable[[Random, int], Any],
    answered: Answered,
) -> list[Operation[Any]]:
    """Return a history by its calls. `ask` is given how many were asked before."""
    states: dict[str, Any] = {}
    done: list[Operation[Any]] = []
    # Of each client: its operation, and whether it has taken effect.
    busy: dict[int, tuple[Operation[Any], bool, bool]] = {}
    asked = now = names = 0
    while asked < shape.operations or busy:
        now += 1
        client = rng.randrange(shape.clients)
        if client not in busy:
            if asked < shape.operations and len(busy) < max(1, shape.slow * shape.clients):
                key = str(rng.randrange(shape.keys))
                called = Operation(now, None, ask(rng, asked), key, f"{client}.{names}")
                busy[client] = (called, False, rng.random() < shape.lost)
                asked += 1
            continue
        operation, is_effective, is_lost = busy[client]
        if not is_effective and not (is_lost and rng.random() < 0.5):
            state = states.get(operation.key, initial)
            states[operation.key], action = answered(state, operation.action)
            told = operation if is_lost else replace(operation, action=action)
            busy[client] = (told, True, is_lost)
        else:
            done.append(operation if is_lost else replace(operation, end=now))
            del busy[client]
            names += 1
    return sorted(done, key=lambda operation: operation.call)


def ask_register(rng: Random, number: int, values: int = 5) -> Read | Write | Cas:
    """Ask a register for something; `values` 0: every value is written once only."""
    kind = rng.randrange(3)
    if kind == 0:
        return Read(None)
    new = rng.randrange(values) if values else number
    if kind == 1:
        return Write(new)
    return Cas(rng.randrange(values) if values else rng.randrange(number + 1), new)


def answered_register(
    state: int | str | None, action: Read | Write | Cas
) -> tuple[int | str | None, Read | Write | Cas]:
    """Do it."""
    if isinstance(action, Read):
        return state, Read(state)
    if isinstance(action, Write):
        return action.value, action
    is_done = state == action.old
    return (action.new if is_done else state), action._replace(is_done=is_done)


def ask_text(rng: Random, number: int, puts: float = 0.05) -> Get | Put | Append:
    """Ask a text for something."""
    if rng.random() < 0.45:
        return Get("")
    make = Put if rng.random() < puts else Append
    return make(f"x {number} y")


def answered_text(state: str, action: Get | Put | Append) -> tuple[str, Get | Put | Append]:
    """Do it."""
    if isinstance(action, Get):
        return state, Get(state)
    return (action.value if isinstance(action, Put) else state + action.value), action


def spoil(
    rng: Random, history: Sequence[Operation[A]], other: Callable[[A], A]
) -> list[Operation[A]]:
    """Change what one completed operation says; most often no order explains that any more."""
    places = [place for place, operation in enumerate(history) if operation.end is not None]
    spoilt = list(history)
    for place in rng.sample(places, len(places)):
        changed = other(history[place].action)
        if changed != history[place].action:
            spoilt[place] = replace(history[place], action=changed)
            break
    return spoilt
