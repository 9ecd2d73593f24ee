"""A check that runs here: what it said last, by which thresholds, and until when its TTL lasts.

Pure: no I/O, no clock of its own (times are given, in seconds of one monotonic clock). Which checks run
here is decided in `runner.py`, what of it is committed in `results.py`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..model.checks import INTERVAL_NS_MIN, Check, CheckDefinition, CheckStatus
from .output import first_bytes, limit_of
from .schedule import GRAIN_S, on_grid

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
    """One check that runs here. A node may have 10,000 with a TTL: what they do not need is not kept.

    Attributes:
        node, id: Which.
        kind: As `CheckDefinition.kind`.
        definition: By which it runs; None: it has a TTL, and needs none.
        defined: The index of its definition; a result of an earlier one counts no more.
        told: The index at which a registration last gave a status.
        status, output: The newest.
        logged_status, logged_output: Those in the log, as far as this node has applied it.
        proposed: Those that are on their way into the log; None: nothing is.
        is_foreign: Of an external node whose TTL this node keeps because it leads.
        ttl_s: Of its definition; 0: it has none.
        limit: How many bytes of an output are kept.
        due: When the next run is due; with a TTL, nothing.
        word_at: When the TTL began.
        is_over: The TTL has passed since.
        output_due: When an output that is new is committed at the latest; infinity: it is not.
        is_under_way: A run has begun and not ended.
        scope: Of that run, to end it.
        is_gone: It does not run here any more.
    """

    __slots__ = (
        "_judge",
        "defined",
        "definition",
        "due",
        "id",
        "is_foreign",
        "is_gone",
        "is_over",
        "is_under_way",
        "kind",
        "limit",
        "logged_output",
        "logged_status",
        "node",
        "output",
        "output_due",
        "proposed",
        "scope",
        "status",
        "told",
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
        self.due = self.word_at = now
        self.is_over = False
        self.told = check.told
        self.definition: CheckDefinition | None = None
        self._judge: Judge | None = None
        self.logged(check)
        self._define(check, definition)
        self._take_over(check)

    def logged(self, check: Check) -> None:
        """Note what the log says."""
        self.logged_status, self.logged_output = check.status, check.output

    @property
    def is_reason_new(self) -> bool:
        """Whether it fails, and the log has no reason yet.

        A check is critical when it is registered. So the first run of one that fails changes only its
        output, which is the one thing that tells its owner what is wrong: Consul shows it minutes
        later (`agent/local/state.go`, `UpdateCheck`, puts off every output without a change of status).
        """
        return self.status != "passing" and bool(self.output) and not self.logged_output

    def _define(self, check: Check, definition: CheckDefinition) -> None:
        self.kind, self.defined = definition.kind, check.defined
        self.limit = limit_of(definition)
        self.ttl_s = definition.ttl_ns / 1e9 if definition.kind == "ttl" else 0.0
        self.definition, self._judge = None, None
        if not self.ttl_s:
            self.definition = definition
            is_first = check.modify_index <= check.defined
            self._judge = Judge(definition, check.status, is_first=is_first)

    def _take_over(self, check: Check) -> None:
        self._set(check.status, check.output)

    def _set(self, status: CheckStatus, output: str) -> None:
        self.status, self.output = status, output
        if self._judge is not None:
            self._judge.status = status

    def redefine(self, check: Check, definition: CheckDefinition, now: float) -> None:
        """Go on by another definition of the same check.

        What it says stays, unless the registration has given a status or the kind is another one. A
        TTL starts again only where it differs, or with a status (section 13.9 of the contract).
        """
        ttl_s = self.ttl_s
        is_told = check.told != self.told or definition.kind != self.kind
        self.told = check.told
        self._define(check, definition)
        if is_told or self.ttl_s != ttl_s:
            self.start(now)
        if is_told:
            self._take_over(check)
        else:
            self._set(self.status, self.output)

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
        grain = min(max(self.ttl_s / 20, TTL_GRAIN_S[0]), TTL_GRAIN_S[1])
        return on_grid(self.expires_at, grain)

    def say(self, status: CheckStatus, output: str, total: int = 0) -> None:
        """Take the word of a client, whose time is `word_at`; `total`: as of `first_bytes`."""
        self.is_over = False
        self._set(status, first_bytes(output, self.limit, total))

    def expire(self) -> None:
        """Its TTL is over."""
        if not self.is_over:
            self._set("critical", self.expired_output())
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

    @property
    def interval_s(self) -> float:
        """From one run to the next; 0: it has a TTL."""
        if self.definition is None:
            return 0.0
        return max(self.definition.interval_ns, INTERVAL_NS_MIN) / 1e9

    def found(self, status: CheckStatus, output: str) -> None:
        """Take the result of a run."""
        self.status = status if self._judge is None else self._judge.judge(status)
        self.output = output

    def next_due(self, now: float) -> float:
        """Move `due` to the next run: a whole number of intervals later, those missed left out.

        Returns:
            When that is, on the grid of all runs.
        """
        interval_s = self.interval_s
        missed = max(math.floor((now - self.due) / interval_s), 0)
        self.due += (missed + 1) * interval_s
        return on_grid(self.due, GRAIN_S)
