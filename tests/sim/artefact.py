"""What a failure leaves behind: enough to meet it again, also after the code has changed.

An artefact is JSON: the seed, the options, where it was run, what went wrong, and the tape. Those
of today's failures lie in `.sim/`, which git ignores; those worth keeping in `tests/regressions/`.
"""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import fields
from pathlib import Path
from typing import Any

import msgspec

from hstore.node.raft.options import Options

from .options import SimOptions, draw
from .tape import Tape

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".sim"


class Artefact(msgspec.Struct):
    """One failure.

    Attributes:
        seed: It was met with; streams that no tape replaces (a core's timeouts) still come from it.
        invariant: What did not hold: "I5", "liveness", or the kind of the exception.
        text: What was said about it.
        events: Core events until then.
        options: See `SimOptions`. What is missing here is drawn from the seed; of a core, the default.
        draws, strikes: The tape.
        mutant: The name of the mistake that was put in on purpose, if one was.
        about: What it shows, said by a person.
        python, hash_seed, revision: Where it was met.
    """

    seed: int
    invariant: str
    text: str
    events: int
    options: dict[str, Any]
    draws: dict[str, dict[int, Any]]
    strikes: dict[str, list[tuple[int, Any]]]
    mutant: str = ""
    about: str = ""
    python: str = platform.python_version()
    hash_seed: str = os.environ.get("PYTHONHASHSEED", "random")
    revision: str = ""

    @classmethod
    def load(cls, path: Path) -> Artefact:
        """Read one.

        Raises:
            OSError, msgspec.DecodeError: It is not there, or is none.
        """
        return msgspec.json.decode(path.read_bytes(), type=cls)

    def save(self, path: Path) -> Path:
        """Write it, a line for each thing that a person may look for, and return where."""
        path.parent.mkdir(exist_ok=True)
        path.write_text(_lines(msgspec.to_builtins(self), 2) + "\n")
        return path

    def sim_options(self) -> SimOptions:
        """Return the options; an option that did not exist yet has no part in the tape either.

        A core had the default of an option that was not drawn when the tape was written.
        """
        known = draw(self.seed)
        known.deletions_max = known.services_max = 0
        for name in {field.name for field in fields(known)} & set(self.options) - {"core"}:
            setattr(known, name, self.options[name])
        core: dict[str, Any] = self.options.get("core", {})
        names = {field.name for field in fields(Options)} & set(core)
        known.core = Options(**{name: core[name] for name in names})
        return known

    def tape(self, *, most_events: int = 0) -> Tape:
        """Return a tape to be followed."""
        return Tape(self.draws, dict(self.strikes), is_played=True, most_events=most_events)

    def decisions(self) -> int:
        """Return how many there are on the tape."""
        return sum(map(len, self.draws.values())) + sum(map(len, self.strikes.values()))


def _lines(value: Any, depth: int) -> str:
    if not depth or not isinstance(value, dict) or "nodes" in value:
        return msgspec.json.encode(value).decode()
    items = (
        f"{msgspec.json.encode(str(k)).decode()}: {_lines(v, depth - 1)}" for k, v in value.items()
    )
    return "{\n" + ",\n".join(items) + "\n}"


def describe_options(options: SimOptions) -> dict[str, Any]:
    """Return options as plain data."""
    plain: dict[str, Any] = msgspec.to_builtins(options)
    return plain


def revision() -> str:
    """Return the code's revision, or nothing where there is no git."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=ROOT, capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
