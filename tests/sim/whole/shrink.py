"""What a failing run of whole nodes leaves behind, and how it is made smaller.

There is no tape here: the order of all steps follows from the seed and the options. So a run is
made smaller by its options: kinds of faults are switched off one by one (each has a stream of its
own, so the others stay), then there are fewer nodes, clients and keys, and less time. What still
breaks the same invariant is kept as JSON, and replayed by `--replay FILE`.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from ..artefact import FOLDER, revision
from .options import WholeOptions, known
from .runner import WholeFailure, run_seed

_OFF = (
    "clock_every", "lose_every", "fail_every", "hang_every", "crash_every", "crash_at_boundary", "pause_every",
    "partition_every", "refuse_every", "cut_every", "replay_every", "tail", "split", "stop_every", "stall_every",
    "change_every", "hostile_every", "configure_every", "keyed", "payload", "flush_mean",
)  # fmt: skip
"""Each of these at 0 is a kind of fault or request that does not occur."""

_LESS: tuple[tuple[str, Any], ...] = (
    ("skew", 1.0), ("nodes", 1), ("nodes", 2), ("nodes", 3), ("clients", 1), ("clients", 2),
    ("keys", 1), ("seconds", 1.0), ("seconds", 2.0), ("seconds", 4.0),
)  # fmt: skip


class WholeArtefact(msgspec.Struct):
    """One failure: `options` and `seed` are the whole run; the rest says what and where it was.

    Attributes:
        options: `WholeOptions` as plain data.
        mutant: The mistake that was put in, if any.
        about: What went wrong, in words; for those that are kept.
        test: The test that fails with the mistake, whatever becomes of the seed.
    """

    seed: int
    invariant: str
    text: str
    steps: int
    options: dict[str, Any]
    mutant: str = ""
    about: str = ""
    test: str = ""
    python: str = platform.python_version()
    hash_seed: str = os.environ.get("PYTHONHASHSEED", "random")
    revision: str = ""

    @classmethod
    def of(cls, failure: WholeFailure, options: WholeOptions, mutant: str = "") -> WholeArtefact:
        """Return what is to be kept of a failure."""
        what = failure.seed, failure.invariant, failure.text, failure.events
        return cls(*what, msgspec.to_builtins(options), mutant, revision=revision())

    @classmethod
    def load(cls, path: Path) -> WholeArtefact:
        """Read one; raises OSError or msgspec.DecodeError when it is not there, or is none."""
        return msgspec.json.decode(path.read_bytes(), type=cls)

    def whole_options(self) -> WholeOptions:
        """Return the options of the run."""
        return known(self.seed, self.options)

    def save(self) -> Path:
        """Write it where today's failures lie, and return where."""
        FOLDER.mkdir(exist_ok=True)
        path = FOLDER / f"{self.mutant or 'whole'}-{self.seed}.json"
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self)) + b"\n")
        return path


def shrink(
    failure: WholeFailure, options: WholeOptions, *, most_runs: int = 40
) -> tuple[WholeFailure, WholeOptions]:
    """Return a smaller run that breaks the same invariant, after `most_runs` runs at most."""
    for smaller in _candidates(options):
        if not most_runs:
            break
        name, value = smaller
        if getattr(options, name) <= value:
            continue
        most_runs -= 1
        tried = replace(options, **{name: value})
        again = run_seed(failure.seed, tried)[1]
        if again is not None and again.invariant == failure.invariant:
            failure, options = again, tried
    return failure, options


def _candidates(options: WholeOptions) -> Iterator[tuple[str, Any]]:
    for name in _OFF:
        yield name, type(getattr(options, name))(0)
    yield from _LESS
