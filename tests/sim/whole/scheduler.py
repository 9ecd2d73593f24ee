"""Trio, made to repeat itself: the same seed gives the same steps in the same order.

Trio shuffles what is ready on purpose. Here the shuffling comes from the seed, so that seeds explore
orders; and everything that runs leaves a trace: the name of each task that takes a step and what
the world around notes go into a digest. Equal runs have equal digests, so a digest that differs
says that something took its decisions from outside: a clock, a hash, an address in memory.
Threads would, so none may be started (`Trace.thread`).

The names in Trio that this uses are private: `test_whole.py` fails when they are gone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from random import Random
from typing import Any, NoReturn
from zlib import crc32

import trio
import trio.testing

OWNER: ContextVar[int] = ContextVar("owner", default=0)
"""Whose task it is: the id of a node, 0 for the world. Tasks inherit it from who starts them."""

_FACTOR, _MASK = 6364136223846793005, (1 << 64) - 1


class Trace(trio.abc.Instrument):
    """What has run so far.

    Attributes:
        digest: Of all steps and notes.
        steps: How many steps all tasks have taken.
        steps_of: Likewise, by owner.
        recorded: When it is a list, steps and notes are kept in it, too: to compare two runs.
    """

    def __init__(self, most_steps: int, fail: Callable[[str], None]) -> None:
        """Call `fail` when there are more than so many steps: a loop that waits for nothing."""
        self._most_steps = most_steps
        self._fail = fail
        self.digest = 0
        self.steps = 0
        self.steps_of: Counter[int] = Counter()
        self.recorded: list[str] | None = None
        self._fuses: dict[int, tuple[int, Callable[[], None]]] = {}
        self._names: dict[str, int] = {}

    def burn(self, owner: int, steps: int, end: Callable[[], None]) -> None:
        """Call `end` once, right after the step that is so many of the owner's from now."""
        self._fuses[owner] = self.steps_of[owner] + steps, end

    def quench(self) -> None:
        """Let nobody die by steps any more."""
        self._fuses.clear()

    async def thread(self, call: Callable[..., Any], *_args: Any, **_options: Any) -> NoReturn:
        """Fail, in place of `trio.to_thread.run_sync`: when a thread ends, no seed decides."""
        self._fail(f"a thread was to run {call.__qualname__}")
        await trio.sleep_forever()
        raise AssertionError("unreachable")

    def note(self, what: str, data: bytes = b"") -> None:
        """Mix something that has happened into the digest."""
        self.digest = (self.digest * _FACTOR + crc32(data, crc32(what.encode()))) & _MASK
        if self.recorded is not None:
            self.recorded.append(f"{trio.current_time():.6f} {what} {data!r:.100}")

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Count it; the fuse of its owner may have burnt down."""
        owner = task.context.get(OWNER, 0)
        code = self._names.get(task.name)
        if code is None:
            # Without its module, whose name depends on who imported it.
            name = ".".join(task.name.split(".")[-2:])
            code = self._names[task.name] = crc32(name.encode())
        self.digest = (self.digest * _FACTOR + code + owner) & _MASK
        self.steps += 1
        self.steps_of[owner] += 1
        if self.recorded is not None:
            self.recorded.append(f"{trio.current_time():.6f} step {owner} {task.name}")
        if self.steps == self._most_steps:
            self._fail(f"I14: more than {self.steps} steps, the last in {task.name}")
        if owner in self._fuses:
            at, end = self._fuses[owner]
            if self.steps_of[owner] >= at:
                del self._fuses[owner]
                end()


def run(seed: int, main: Callable[[], Awaitable[Any]], trace: Trace) -> Any:
    """Run `main` in Trio, in the order of steps that the seed stands for, on a virtual clock."""
    inside: Any = trio._core._run
    before = inside._ALLOW_DETERMINISTIC_SCHEDULING, inside._r
    inside._ALLOW_DETERMINISTIC_SCHEDULING, inside._r = True, Random(f"{seed}/scheduler")
    clock = trio.testing.MockClock(autojump_threshold=0)
    try:
        return trio.run(main, clock=clock, instruments=[trace])
    finally:
        inside._ALLOW_DETERMINISTIC_SCHEDULING, inside._r = before
