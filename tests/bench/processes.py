"""Programs that the benchmark runs: each in a group of its own, and none outlives the benchmark.

Also what the machine says of a process: its memory and its processor time.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

MIB = 1024 * 1024
_CPUCLOCK_SCHED = 2
"""Of the kernel's `posix-timers`: the time of all threads of a process, those that have ended too."""


class Failed(Exception):
    """A program, or what was asked of it, failed: the rows that need it are void."""


def leash() -> list[str]:
    """Return the words before a command that end it when the benchmark is gone, even by SIGKILL."""
    return ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []


def spawn(
    command: Sequence[str], log: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a program; what it says goes to the end of `log`."""
    with (log or Path(os.devnull)).open("ab") as out:
        return subprocess.Popen(
            [*leash(), *command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=None if env is None else dict(env),
            start_new_session=True,
        )


def end(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    """Kill a program and all that it started; return when it is gone."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)


@contextmanager
def running(command: Sequence[str], log: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the end of `with`."""
    process = spawn(command, log)
    try:
        yield process
    finally:
        end(process)


def output(
    command: Sequence[str],
    within: float,
    *,
    env: Mapping[str, str] | None = None,
    fails: bool = True,
) -> str:
    """Run a program to its end and return what it wrote to standard output.

    Raises:
        Failed: it took longer than `within` seconds, or `fails` and its status was not 0.
    """
    process = subprocess.Popen(
        [*leash(), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=None if env is None else dict(env),
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=within)
    except subprocess.TimeoutExpired:
        raise Failed(f"{command[0]} did not end within {within:g} s") from None
    finally:
        end(process)
    if fails and process.returncode:
        said = (err.strip() or out.strip()).splitlines()[-1:]
        raise Failed(f"{command[0]} ended with status {process.returncode}: {''.join(said)}")
    return out


def memory_mib(pid: int) -> tuple[float, float]:
    """Return the resident memory of a process, and that of it which is not mapped from files."""
    text = Path(f"/proc/{pid}/status").read_text()
    found = {
        name: int(kib) / 1024 for name, kib in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)
    }
    return found["VmRSS"], found["RssAnon"]


def forget_peak(pid: int) -> None:
    """Begin to measure the highest resident memory of a process anew (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_mib(pid: int) -> float:
    """Return the highest resident memory of a process, of all time or since `forget_peak`."""
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^VmHWM:\s+(\d+) kB", text, re.MULTILINE)
    assert found is not None, text
    return int(found[1]) / 1024


def open_files(pid: int) -> int:
    """Return how many descriptors a process has open, its connections among them."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used, in user and kernel mode, to the nanosecond.

    /proc counts in ticks of 10 ms, which is 1 % of a second: too coarse for a process at rest. The
    clock of a process is made of its number as clock_getcpuclockid(3) does it on Linux.
    """
    return time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)


def pin(pid: int, core: int) -> None:
    """Keep all threads of a process on one core; those it starts later stay there too."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), {core})
