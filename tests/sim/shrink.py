"""Makes a failure small enough to be understood.

A smaller run counts when it breaks the same invariant. In this order: whole kinds of decisions are
left to their defaults, options become simple, nodes leave, then single decisions are taken out
(ddmin: Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002), and
what is left of times becomes round. Every step is bounded by runs and by time; whatever has been
reached then is the result.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import Any

import msgspec

from hstore.node.raft.options import Options

from .artefact import Artefact
from .options import TICK
from .runner import play
from .tape import TooLong

Element = tuple[str, str, int]
"""A decision: "draw" or "strike", what about, the how-manieth."""

_SIMPLE: dict[str, Any] = {
    "is_mixed": False, "odd": 0.0, "replay": 0.0, "is_fifo": False, "peer_down": 0.0,
    "window": 0, "apply_mean": 0, "compact_above": 10_000, "payload": 0, "delay_min": 1,
}  # fmt: skip
"""Options that work without the tape, and their simplest values."""


class Shrinker:
    """One shrinking.

    Attributes:
        best: The smallest failure so far.
        runs: How many runs it took.
    """

    def __init__(
        self,
        artefact: Artefact,
        *,
        most_runs: int = 2000,
        most_seconds: float = 60.0,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.best = artefact
        self.runs = 0
        self._most_runs = most_runs
        self._deadline = time.monotonic() + most_seconds
        self._say = say

    def run(self) -> Artefact:
        """Shrink until nothing can be left out, or until runs or time are used up.

        Raises:
            ValueError: The tape does not bring the failure again.
        """
        if not self._holds(self.best):
            raise ValueError(f"the tape does not break {self.best.invariant} again")
        was = -1
        while was != self.best.decisions() and not self._is_over():
            was = self.best.decisions()
            self._shorten()
            self._leave_out_kinds()
            self._simplify_options()
            self._leave_out_nodes()
            self._leave_out_decisions()
        self._round_times()
        return self.best

    # -- trying -----------------------------------------------------------------------------

    def _is_over(self) -> bool:
        return self.runs >= self._most_runs or time.monotonic() > self._deadline

    def _holds(self, artefact: Artefact) -> bool:
        """Run something smaller; take it over if it breaks the same."""
        self.runs += 1
        try:
            _, failure = play(artefact, most_events=3 * self.best.events + 3000)
        except TooLong:
            return False
        if failure is None or failure.invariant != self.best.invariant:
            return False
        self.best = msgspec.structs.replace(artefact, events=failure.events, text=failure.text)
        return True

    def _try(self, **changes: Any) -> bool:
        return not self._is_over() and self._holds(msgspec.structs.replace(self.best, **changes))

    def _try_options(self, **changes: Any) -> bool:
        options = {**self.best.options, **changes}
        return options != self.best.options and self._try(options=options)

    def _try_elements(self, elements: Iterable[Element]) -> bool:
        kept = set(elements)
        draws = {
            about: some
            for about, values in self.best.draws.items()
            if (some := {n: v for n, v in values.items() if ("draw", about, n) in kept})
        }
        strikes = {
            kind: struck
            for kind, values in self.best.strikes.items()
            if (struck := [v for n, v in enumerate(values) if ("strike", kind, n) in kept])
        }
        return self._try(draws=draws, strikes=strikes)

    def _elements(self) -> list[Element]:
        draws = [("draw", about, n) for about, values in self.best.draws.items() for n in values]
        strikes = [
            ("strike", kind, n)
            for kind, values in self.best.strikes.items()
            for n in range(len(values))
        ]
        return [*strikes, *draws]

    # -- steps ------------------------------------------------------------------------------

    def _shorten(self) -> None:
        """Let faults end sooner: only what does not come to life afterwards needs it."""
        while self._try_options(ticks=self.best.options["ticks"] * 2 // 3):
            pass

    def _leave_out_kinds(self) -> None:
        """Leave whole kinds of decisions to their defaults, the most frequent first."""
        elements = self._elements()
        kinds: dict[tuple[str, str], int] = {}
        for kind, about, _ in elements:
            key = (kind, about.split(" ")[0] if kind == "draw" else about)
            kinds[key] = kinds.get(key, 0) + 1
        for name in sorted(kinds, key=lambda key: -kinds[key]):
            self._try_elements(
                (kind, about, n)
                for kind, about, n in self._elements()
                if (kind, about.split(" ")[0] if kind == "draw" else about) != name
            )
        self._say(f"{self.best.decisions()} decisions without whole kinds ({self.runs} runs)")

    def _simplify_options(self) -> None:
        for name, value in _SIMPLE.items():
            if name in self.best.options:
                self._try_options(**{name: value})
        for field in fields(Options):
            core = {**self.best.options["core"], field.name: field.default}
            if isinstance(field.default, int | float):
                self._try_options(core=core)

    def _leave_out_nodes(self) -> None:
        while self.best.options["nodes"] > 1:
            if not self._try_options(nodes=self.best.options["nodes"] - 1):
                break
        self._say(f"{self.best.options['nodes']} nodes at the beginning ({self.runs} runs)")

    def _leave_out_decisions(self) -> None:
        """Take out chunks, each half as large as the last, as long as anything can go (ddmin)."""
        size = max(len(self._elements()) // 2, 1)
        while not self._is_over():
            begin, elements = 0, self._elements()
            while begin < len(elements) and not self._is_over():
                rest = elements[:begin] + elements[begin + size :]
                if self._try_elements(rest):
                    # What follows has other numbers now where strikes were taken out before it.
                    elements = self._elements()
                else:
                    begin += size
            self._say(f"{self.best.decisions()} decisions, by {size} ({self.runs} runs)")
            if size == 1:
                break
            size = max(size // 4, 1) if size > 64 else size // 2

    def _round_times(self) -> None:
        """Let times be whole ticks, halves or tenths, wherever the failure does not mind."""
        for step in (TICK, TICK // 2, TICK // 10):
            for about in list(self.best.draws):
                rounded = {n: _rounded(v, step) for n, v in self.best.draws[about].items()}
                if rounded != self.best.draws[about]:
                    self._try(draws={**self.best.draws, about: rounded})
            for kind in list(self.best.strikes):
                times = [(_rounded(t, step), what) for t, what in self.best.strikes[kind]]
                if times != self.best.strikes[kind]:
                    self._try(strikes={**self.best.strikes, kind: times})


def _rounded(value: Any, step: int) -> Any:
    """Return a time, or a list of times, in whole steps; anything else, and 0, as it is."""
    if isinstance(value, list | tuple):
        return [_rounded(item, step) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and value >= TICK // 20:
        return max((value + step // 2) // step, 1) * step
    return value
