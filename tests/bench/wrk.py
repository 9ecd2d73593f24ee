"""Load by `wrk` with one thread: `load.lua` makes the requests, this runs it and reads its figures."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .processes import Failed, end, leash, output

SCRIPT = Path(__file__).parent / "load.lua"

_KINDS = ("connect", "read", "write", "status", "timeout")
_TIMEOUT_S = 5
"""As long as the systems themselves let a request wait."""
_FILL_CONNECTIONS = 256
_FILL_S_PER_KEY = 0.005


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked: see load.lua for the operations, and for what the keys and values are."""

    operation: str
    value_bytes: int = 256
    keys: int = 10_000
    prefix: str = "bench-"
    names: Mapping[str, str] = field(default_factory=dict)
    """By system, a file with the names of sessions, a line each, where the operation needs some."""


@dataclass(frozen=True, slots=True)
class Run:
    """What wrk counted in one run; `errors` by kind, those that are none left out."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    errors: dict[str, int]

    @property
    def per_second(self) -> float:
        """Answers per second."""
        return self.requests / self.seconds

    @property
    def void(self) -> str:
        """Why the run does not count; empty: it does."""
        if not self.requests:
            return "no answers"
        return ", ".join(f"{count:,} {kind} errors" for kind, count in self.errors.items())


def parse(text: str) -> Run:
    """Read the line of figures in what wrk wrote.

    Raises:
        Failed: there is none.
    """
    found = re.search(r"^figures (.+)$", text, re.MULTILINE)
    if found is None:
        raise Failed(f"wrk gave no figures: {text.strip()[-200:]}")
    requests, seconds, p50, p99, *counts = found[1].split()
    errors = {kind: int(count) for kind, count in zip(_KINDS, counts, strict=True) if int(count)}
    return Run(int(requests), float(seconds), float(p50), float(p99), errors)


def run(address: str, system: str, load: Load, connections: int, seconds: float) -> Run:
    """Send a load to one node for some whole seconds."""
    command = _command(address, connections, seconds, system, load)
    return parse(output(command, 3 * seconds + 60))


def fill(address: str, system: str, load: Load, first: int = 0) -> Run:
    """Write each key from `first` to the load's last once; return what was counted.

    A write that took too long is among its errors, and has been made all the same.

    Raises:
        Failed: a write failed, or all of them took too long.
    """
    filling = Load("fill", load.value_bytes, load.keys, load.prefix)
    # The bound is that of wrk itself, which ends then. It is interrupted when it is done.
    within = 60 + _FILL_S_PER_KEY * (load.keys - first)
    command = [*_command(address, _FILL_CONNECTIONS, within, system, filling), str(first)]
    process = subprocess.Popen(
        [*leash(), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    failed = None
    rest = ""
    try:
        assert process.stdout is not None
        for line in process.stdout:
            word, _, number = line.strip().partition(" ")
            if word == "progress":
                print(f"    {system}: {first + int(number):,} keys", flush=True)
            elif word == "filled":
                failed = int(number)
                process.send_signal(signal.SIGINT)
            else:
                rest += line
    finally:
        end(process)
        if process.stdout is not None:
            process.stdout.close()
    run = parse(rest)
    if failed is None:
        raise Failed(f"{load.keys - first:,} keys were not written within {within:.0f} s")
    if failed or run.errors.keys() - {"timeout"}:
        raise Failed(f"while writing keys: {failed} refused, {run.void}")
    return run


def _command(address: str, connections: int, seconds: float, system: str, load: Load) -> list[str]:
    return [
        *("wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s"),
        *("--timeout", f"{_TIMEOUT_S}s", "-s", str(SCRIPT), f"http://{address}", "--"),
        *(system, load.operation, str(load.value_bytes), str(load.keys), load.prefix),
        *(("0", load.names[system]) if load.names else ()),
    ]
