"""The runs that are under way: how many at a time, until when, and what comes of each.

Owns the tasks of runs. When a check is due is not known here (`schedule.py`), nor what a result means
for it (`runner.py`).
"""

from __future__ import annotations

from collections.abc import Callable

import structlog
import trio

from ..config.log_limit import LogLimit
from ..measure.histogram import Histogram
from .probes import Probes
from .running import Running
from .timeouts import timeout_s
from .verdict import Progress, Verdict

_log = structlog.get_logger()

RUNS_MAX = 2000
"""Runs of http and tcp under way at one time; more of them begin late, when others have ended."""

SCRIPTS_MAX = 64
"""Scripts under way at one time: each is a process of this machine, or several."""

LATE_S = 1.0
"""A run that begins so long after it was due is counted as late."""

Ended = Callable[[Running, int, Verdict], None]
"""Called when a run has ended, with `Running.defined` of the definition that ran, and its verdict. Not
called when the check has gone meanwhile."""


class _Room:
    """How many runs of one sort are under way, and which wait until there are fewer."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.under_way = 0
        # In the order in which they were due, with the time of that.
        self.late: dict[Running, float] = {}


class Runs:
    """Begins runs and ends them.

    Args:
        probes: Carry them out.
        ended: See `Ended`. The run is over by then, so that the next may begin.

    Attributes:
        late_total: Runs that began late, since the node started.
        total: Runs that have ended.
        by_result: Of these, by kind and by what they said.
        late_seconds: How long after they were due runs began.
    """

    def __init__(self, probes: Probes, ended: Ended) -> None:
        self.late_total = self.total = 0
        self.by_result: dict[tuple[str, str], int] = {}
        self.late_seconds = Histogram()
        self._probes = probes
        self._ended = ended
        self._rooms = (_Room(RUNS_MAX), _Room(SCRIPTS_MAX))
        self._nursery: trio.Nursery | None = None
        self._log_limit = LogLimit(60.0)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Let runs be begun until cancelled; then none is left."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                task_status.started()
                await trio.sleep_forever()
            finally:
                # Before the nursery is closed: in that step of the loop, a check may become due.
                self._nursery = None

    @property
    def descriptors(self) -> int:
        """How many files are open for runs: a socket each; for a script a pipe, and its process."""
        others, scripts = self._rooms
        return others.under_way + 2 * scripts.under_way

    def begin(self, running: Running) -> None:
        """Begin a run of a check that is due, as soon as there is room; unless one is under way."""
        if running.is_under_way:
            return
        room = self._room_of(running)
        if room.under_way < room.limit:
            self._start(running, room, trio.current_time() - running.due)
        else:
            room.late.setdefault(running, running.due)

    def end(self, running: Running) -> None:
        """End the run of a check that is under way, if one is, and begin none that waits."""
        for room in self._rooms:
            room.late.pop(running, None)
        if running.scope is not None:
            running.scope.cancel()

    def _room_of(self, running: Running) -> _Room:
        return self._rooms[running.kind == "script"]

    def _start(self, running: Running, room: _Room, late_s: float) -> None:
        if self._nursery is None:
            return
        self.late_seconds.observe(max(late_s, 0.0))
        if late_s > LATE_S:
            self.late_total += 1
            if self._log_limit.is_due("late"):
                why = "too many of them, or their targets are too slow"
                total = self.late_total
                _log.warning("checks run late", why=why, late_s=round(late_s, 1), late_total=total)
        running.is_under_way = True
        room.under_way += 1
        self._nursery.start_soon(self._run, running, room)

    async def _run(self, running: Running, room: _Room) -> None:
        # Read here: since the task was made, the check may have another definition, or be gone.
        definition, defined = running.definition, running.defined
        progress, verdict = Progress(), None
        try:
            if definition is not None and not running.is_gone:
                deadline = trio.current_time() + timeout_s(definition)
                with trio.CancelScope(deadline=deadline) as running.scope:
                    verdict = await self._probes.run(definition, progress)
        except Exception as error:  # noqa: BLE001 (the boundary of one check: the node goes on)
            if self._log_limit.is_due("broken", running.id):
                _log.exception("a check could not be run", check=running.id)
            verdict = Verdict("critical", f"the check could not be run: {type(error).__name__}")
        running.scope = None
        running.is_under_way = False
        room.under_way -= 1
        self.total += 1
        if definition is not None and not running.is_gone:
            verdict = verdict or progress.timed_out()
            key = definition.kind, verdict.status
            self.by_result[key] = self.by_result.get(key, 0) + 1
            self._ended(running, defined, verdict)
        self._start_late(room)

    def _start_late(self, room: _Room) -> None:
        """Begin runs that waited for room."""
        now = trio.current_time()
        while room.late and room.under_way < room.limit:
            running = next(iter(room.late))
            due = room.late.pop(running)
            if not running.is_under_way:
                self._start(running, room, now - due)
