"""How long and how often everything is measured: the whole benchmark, and the quick one.

What a section needs to run is in its `Plan`: it starts and ends clusters of its own below the
folder, and leaves nothing to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from .rows import Row


@dataclass(frozen=True, slots=True)
class Plan:
    """The extent of a run.

    Attributes:
        folder: Where all data goes.
        is_quick: Whether what takes minutes is left out.
        pairs: Timed pairs of a row; one more before them warms up and is thrown away.
        seconds: How long each run of a load takes.
        outages: How often a leader is lost in each way, of each system.
        watches: How many there are at once.
        watch_seconds: How long each run with them takes.
        rest_seconds: How long an idle node is looked at.
        settle_seconds: How long nothing is done before that, and before memory is looked at.
        keys: The numbers of keys with which memory is looked at; the last is the largest store.
        restarts, joins: How often, of each system, with the largest store.
        abuses: How often each attack is made.
        hold_seconds: How long an attack that holds something holds it.
        other: Another checkout, to be attacked beside this one.
        etcd: The binary of the etcd that is measured beside hstore.
    """

    folder: Path
    is_quick: bool = False
    pairs: int = 7
    seconds: float = 5
    outages: int = 20
    watches: int = 10_000
    watch_seconds: float = 20
    rest_seconds: float = 10
    settle_seconds: float = 5
    keys: tuple[int, ...] = (100_000, 1_000_000)
    restarts: int = 5
    joins: int = 5
    abuses: int = 3
    hold_seconds: float = 10
    other: Path | None = None
    etcd: str = "etcd"


def quick(folder: Path) -> Plan:
    """Return the plan that takes about ten minutes."""
    return Plan(
        folder,
        is_quick=True,
        pairs=2,
        seconds=1,
        outages=5,
        watches=1_000,
        watch_seconds=3,
        rest_seconds=3,
        settle_seconds=2,
        keys=(20_000,),
        restarts=0,
        joins=0,
        abuses=1,
        hold_seconds=4,
    )


Rows = Generator[Row, None, None]
Section = Callable[[Plan], Rows]
"""Measures some rows, and gives each as soon as it is known."""


def guarded(name: str, rows: Rows) -> Rows:
    """Give the rows; where making them fails, a void one that says why, and nothing is raised."""
    with closing(rows):
        try:
            yield from rows
        except Exception as error:  # noqa: BLE001 - whatever it was: it is said, others go on
            cause = _innermost(error)
            said = f"{type(cause).__name__}: {cause}".splitlines()[0][:300]
            yield Row(f"{name}, the rest", void=said)


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
