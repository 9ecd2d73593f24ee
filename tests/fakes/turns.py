"""Counts the turns of Trio's loop, so that a test can tell what was done in one of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import trio


class Turns(trio.abc.Instrument):
    """Which turn it is, and what was added to each.

    Attributes:
        number: Of the turn that is under way.
        done: By turn, what `add` was given in it, all together.
    """

    def __init__(self) -> None:
        self.number = 0
        self.done: Counter[int] = Counter()

    def after_io_wait(self, timeout: float) -> None:
        """A turn begins (`trio.abc.Instrument`)."""
        self.number += 1

    def add(self, count: int) -> None:
        """Count something that is done now."""
        self.done[self.number] += count


@contextmanager
def counting_turns() -> Iterator[Turns]:
    """Count turns as long as the context lasts."""
    turns = Turns()
    trio.lowlevel.add_instrument(turns)
    try:
        yield turns
    finally:
        trio.lowlevel.remove_instrument(turns)
