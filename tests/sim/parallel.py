"""Runs seeds on all cores: the same result whatever the number of processes and their speed.

Seeds are dealt out in small chunks, and results are taken in the order of the chunks, so that the
first failure is the lowest failing seed. Only sums come back, and only a few chunks are out at a
time: memory does not grow with the number of seeds.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager

from .runner import Failure, Summary, run_seeds

_AHEAD = 4
"""Chunks per process that are dealt out before the first one's result is taken."""


class Progress:
    """A line that is rewritten on a terminal, and one line every ten seconds elsewhere."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._is_terminal = sys.stderr.isatty()
        self._every = 0.5 if self._is_terminal else 10.0
        self._next = time.monotonic() + self._every

    def show(self, summary: Summary) -> None:
        """Show how far it is, if that was not shown just now."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self._every
        text = f"{summary.seeds}/{self._total}: {summary.headline()}"
        sys.stderr.write(f"\r\x1b[K{text}" if self._is_terminal else f"{text}\n")
        sys.stderr.flush()

    def end(self) -> None:
        """Leave an empty line to what follows."""
        if self._is_terminal:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def cores() -> int:
    """Return how many processes can run at once here."""
    return len(os.sched_getaffinity(0))


def _ignore_interrupts() -> None:
    # Ctrl-C reaches the whole group; whoever started us decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def workers(processes: int) -> Iterator[ProcessPoolExecutor]:
    """Give processes to work in, and end them whatever happens."""
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, context, _ignore_interrupts)
    try:
        yield pool
    except BaseException:
        children = list((pool._processes or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for child in children:
            child.terminate()
        raise
    pool.shutdown()


def run_everywhere(
    seeds: range,
    *,
    processes: int,
    most_failures: int = 1,
    on_failure: Callable[[Failure], None] = lambda _: None,
    run: Callable[..., Summary] = run_seeds,
    chunk_size: int = 20,
    unit: str = "core events",
) -> Summary:
    """Run seeds until some have failed, or somebody interrupts.

    `run` is called with some of the seeds and `most_failures`, in another process.
    """
    summary, begin = Summary(unit=unit), time.perf_counter()
    progress = Progress(len(seeds))
    chunks = (seeds[i : i + chunk_size] for i in range(0, len(seeds), chunk_size))
    out: deque[Future[Summary]] = deque()
    try:
        with workers(processes) as pool:
            while len(summary.failures) < most_failures:
                while len(out) < _AHEAD * processes and (chunk := next(chunks, None)) is not None:
                    out.append(pool.submit(run, chunk, most_failures=most_failures))
                if not out:
                    break
                part = out.popleft().result()
                summary.add(part)
                summary.elapsed = time.perf_counter() - begin
                for failure in part.failures:
                    on_failure(failure)
                progress.show(summary)
            for future in out:
                future.cancel()
    except KeyboardInterrupt:
        pass
    finally:
        progress.end()
    summary.elapsed = time.perf_counter() - begin
    return summary
