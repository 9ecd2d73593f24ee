"""A check that runs here: what it said last, by which thresholds, and until when its TTL lasts.

Pure: no I/O, no clock of its own (times are given, in seconds of one monotonic clock). Which checks run
here is decided in `runner.py`, what of it is committed in `results.py`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..model.checks import Check, CheckDefinition, CheckStatus
from .output import first_bytes, limit_of
from .schedule import GRAIN_S

if TYPE_CHECKING:
    import trio

TTL_GRAIN_S = (0.005, 0.05)
"""The end of a TTL is seen late by at most a twentieth of it, between these."""

EXPIRED = "TTL expired"


class Judge:
    """The thresholds of a check (section 4.3 of the contract).

    Consul's counters (`agent/checks/check.go`, `StatusHandler`) begin full, so there too the first
    result counts at once. But there a timeout of a script passes them by; here it counts like any
    other failure.

    Attributes:
        status: What the check says.
    """

    __slots__ = ("_bad", "_critical", "_good", "_is_first", "_successes", "_warning", "status")

    def __init__(self, definition: CheckDefinition, status: CheckStatus, *, is_first: bool) -> None:
        """Begin.

        Args:
            definition: Has the thresholds; 0 is the first result, and before a warning as many as
                before critical.
            status: What the check says so far.
            is_first: No result has come since it was registered.
        """
        self.status = status
        self._critical = max(definition.failures_critical, 1)
        self._warning = definition.failures_warning or self._critical
        self._successes = max(definition.successes, 1)
        self._good = self._bad = 0
        self._is_first = is_first

    def judge(self, found: CheckStatus) -> CheckStatus:
        """Take the result of a run; return what the check says from now on."""
        if found == "critical":
            self._good, self._bad = 0, self._bad + 1
            if self._is_first or self._bad >= self._critical:
                self.status = "critical"
            elif self._bad >= self._warning and self.status == "passing":
                self.status = "warning"
        else:
            self._good, self._bad = self._good + 1, 0
            if self._is_first or self.status != "critical" or self._good >= self._successes:
                self.status = found
        self._is_first = False
        return self.status


class Running:
    """One check that runs here.

    Attributes:
        node, id: Which.
        definition: By which it runs.
        defined: The index of that; a result of an earlier one counts no more.
        told: The index at which a registration last gave a status.
        status, output: The newest.
        committed: Status and output in the log, as far as this node has applied it.
        proposed: Those that are on their way into the log; None: nothing is.
        is_foreign: Of an external node whose TTL this node keeps because it leads.
        interval_s, ttl_s: Of its definition; 0: it has none.
        due: When the next run is due; of a TTL, nothing.
        word_at: When the TTL began.
        is_over: The TTL has passed since.
        output_due: When an output that is new is committed at the latest; infinity: it is not.
        is_under_way: A run has begun and not ended.
        scope: Of that run, to end it.
        is_gone: It does not run here any more.
    """

    __slots__ = (
        "committed",
        "defined",
        "definition",
        "due",
        "id",
        "interval_s",
        "is_foreign",
        "is_gone",
        "is_over",
        "is_under_way",
        "judge",
        "node",
        "output",
        "output_due",
        "proposed",
        "scope",
        "status",
        "told",
        "ttl_grain_s",
        "ttl_s",
        "word_at",
    )

    def __init__(self, check: Check, definition: CheckDefinition, now: float) -> None:
        """Begin with what the log says.

        Args:
            check: As committed.
            definition: Of it.
            now: A TTL begins now, in full.
        """
        self.node = check.node
        self.id = check.id
        self.is_foreign = self.is_gone = False
        self.output_due = math.inf
        self.proposed: tuple[CheckStatus, str] | None = None
        self.is_under_way = False
        self.scope: trio.CancelScope | None = None
        self.due = now
        self.word_at = now
        self.is_over = False
        self.committed = (check.status, check.output)
        self.told = check.told
        self._define(check, definition)
        self._take_over(check)

    def _define(self, check: Check, definition: CheckDefinition) -> None:
        self.definition = definition
        self.defined = check.defined
        self.interval_s = definition.interval_ns / 1e9
        self.ttl_s = definition.ttl_ns / 1e9 if definition.kind == "ttl" else 0.0
        self.ttl_grain_s = min(max(self.ttl_s / 20, TTL_GRAIN_S[0]), TTL_GRAIN_S[1])
        is_first = check.modify_index <= check.defined
        self.judge = Judge(definition, check.status, is_first=is_first)

    def _take_over(self, check: Check) -> None:
        self.status, self.output = check.status, check.output
        self.judge.status = check.status

    def redefine(self, check: Check, definition: CheckDefinition, now: float) -> None:
        """Go on by another definition of the same check.

        What it says stays, unless the registration has given a status or the kind is another one. A
        TTL starts again only where it differs, or with a status (section 13.9 of the contract).
        """
        ttl_s, kind = self.ttl_s, self.definition.kind
        is_told = check.told != self.told or definition.kind != kind
        self.told = check.told
        self._define(check, definition)
        if is_told or self.ttl_s != ttl_s:
            self.start(now)
        if is_told:
            self._take_over(check)
        self.judge.status = self.status

    def take_status(self, check: Check, now: float) -> None:
        """Take over the status that a registration has given; a TTL starts again with it."""
        self.told = check.told
        self._take_over(check)
        self.start(now)

    def start(self, now: float) -> None:
        """Start the TTL again."""
        self.word_at, self.is_over = now, False

    # -- a TTL ------------------------------------------------------------------------------

    @property
    def expires_at(self) -> float:
        """When its TTL is over, if no word comes."""
        return self.word_at + self.ttl_s

    @property
    def ttl_due(self) -> float:
        """When to look whether it is over: a little later, together with others."""
        grain = self.ttl_grain_s
        return math.ceil(self.expires_at / grain) * grain

    def say(self, status: CheckStatus, output: str) -> None:
        """Take the word of its owner, whose time is `word_at`."""
        self.is_over = False
        self.status = self.judge.status = status
        self.output = first_bytes(output, limit_of(self.definition))

    def expire(self) -> None:
        """Its TTL is over."""
        if not self.is_over:
            self.status, self.output = "critical", self.expired_output()
            self.judge.status = "critical"
            self.is_over = True

    def expired_output(self) -> str:
        """Return what it says once its TTL is over."""
        if not self.output:
            return EXPIRED
        last = self.output
        if last.startswith(EXPIRED):
            return last  # It was over before, and nobody has said anything since.
        return f"{EXPIRED} (last output before timeout follows): {last}"

    def newest(self, now: float) -> tuple[CheckStatus, str]:
        """Return status and output as of now, also between the end of its TTL and `expire`."""
        if self.ttl_s and not self.is_over and now >= self.expires_at:
            return "critical", self.expired_output()
        return self.status, self.output

    # -- runs -------------------------------------------------------------------------------

    def next_due(self, now: float) -> float:
        """Move `due` to the next run: a whole number of intervals later, those missed left out.

        Returns:
            When that is, on the grid of all runs.
        """
        missed = max(math.floor((now - self.due) / self.interval_s), 0)
        self.due += (missed + 1) * self.interval_s
        return math.ceil(self.due / GRAIN_S - 1e-6) * GRAIN_S
