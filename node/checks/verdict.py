"""What a run of a check says, and what it would say if its time were over."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ..model.checks import CheckStatus


class Verdict(NamedTuple):
    """A status, and why.

    Attributes:
        status: As of this run alone: no threshold has been looked at.
        output: Cut to what is kept (`output.py`).
    """

    status: CheckStatus
    output: str


class Progress:
    """How far a run has come.

    Attributes:
        so_far: Set by the probe: returns the verdict if the time of the run is over now. None: that it
            has not answered in time.
    """

    __slots__ = ("so_far",)

    def __init__(self) -> None:
        self.so_far: Callable[[], Verdict] | None = None

    def timed_out(self) -> Verdict:
        """Return the verdict of a run whose time is over."""
        if self.so_far is None:
            return Verdict("critical", "no answer in time")
        return self.so_far()
