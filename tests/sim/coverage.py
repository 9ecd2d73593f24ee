"""What must have happened somewhere for a run of many seeds to show what it claims to show."""

from __future__ import annotations

from collections import Counter

HAPPENS = (
    "a deaf leader is replaced", "a deaf member disturbs nobody", "acknowledged",
    "changes acknowledged", "clogged", "compactions", "crash", "crash at a boundary",
    "crash noticed", "crash of everybody", "cut off", "dropped", "duplicated",
    "early elections planned", "false alarm", "leaders", "members removed", "odd, but true",
    "one-way partition", "partition", "pause", "reads answered", "reads behind a commit",
    "reads failed", "replayed", "restart", "slow flushes", "snapshots installed",
    "snapshots refused", "very late",
)  # fmt: skip
"""Met by any hundred seeds."""

RARE: tuple[str, ...] = ("members that came back",)
"""Met by any `FULL` seeds."""

FULL = 2000
"""Seeds from which on a run must have met the rare things, too."""


def missed(counts: Counter[str], seeds: int) -> list[str]:
    """Return what should have happened in so many seeds, and has not."""
    names = (HAPPENS if seeds >= 100 else ()) + (RARE if seeds >= FULL else ())
    return [name for name in names if not counts[name]]
