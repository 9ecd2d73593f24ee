"""What this node knows of its checks and the log does not: when it is committed, and what is mended.

Owns the proposals of results. A status that differs from the log's is proposed at once, the results of
one moment together; another output alone when `check_update_interval` says, but the first reason of a
check that fails at once. Whatever fails, or was refused, or is lost with a leader, is still known here
and still differs from the log: so it is proposed again, and `compare` finds what nobody noticed
(contract of services, section 9.3).

One proposal of a check is under way at a time: the next one says what is newest then.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import islice
from random import Random
from typing import Protocol

import trio

from ..driver.requests import Answer
from ..errors import HstoreError, Overloaded
from ..model.services import RESULTS_MAX, CheckResult
from ..net.flag import Flag
from .running import Running
from .schedule import Schedule

AGAIN_S = 0.2
"""After this, what has failed is proposed again; also what waits for contact with a leader is tried."""

BATCH_BYTES_MAX = 256 * 1024
"""Of the outputs of one proposal: an output has some 8 KiB at most."""

PROPOSED_AT_ONCE = 4 * RESULTS_MAX
"""Results that are proposed before other tasks have their turn."""

COMPARED_AT_ONCE = 256
"""Checks that are compared with their records before other tasks have their turn: some 2 ms."""

_SPREAD = (0.5, 1.5)
"""An output is committed after the interval times a number between these, so that those of many checks
do not come together (Consul: `agent/local/state.go`, `UpdateCheck`)."""

Tell = Callable[[Answer], None]


class Log(Protocol):
    """The way into the log, as `Results` uses it."""

    @property
    def is_reachable(self) -> bool:
        """Whether this node is in contact with a leader: else proposing would only make a queue."""
        ...

    @property
    def update_interval_s(self) -> float:
        """The cluster's `check_update_interval`; 0: outputs are committed at once."""
        ...

    def propose(self, results: tuple[CheckResult, ...], tell: Tell, *, is_foreign: bool) -> None:
        """Propose `UpdateChecks`; `tell` gets the outcome or the error.

        Args:
            results: Of checks that run here.
            tell: May be called while entries are applied: it must not read the state.
            is_foreign: Of TTL checks that this node keeps because it leads: never for another leader.

        Raises:
            Overloaded: It took no effect; `tell` is not called.
        """
        ...


class Results:
    """Has the log told what the checks of this node say."""

    def __init__(self, log: Log, rng: Random) -> None:
        """Nothing is proposed before `run`."""
        self._log = log
        self._rng = rng
        # Those that are to be proposed, in order.
        self._wanted: dict[Running, None] = {}
        self._changed = Flag()
        self._not_before = 0.0
        self._outputs: Schedule[Running] = Schedule(self._output_is_due)

    def __len__(self) -> int:
        """How many checks wait for their proposal."""
        return len(self._wanted)

    def said(self, running: Running) -> None:
        """A check may say something else than the log has: propose it when that is due."""
        if running.proposed is not None:
            return  # Looked at again when that is answered.
        if running.status != running.logged_status or running.is_reason_new:
            self._want(running)
        elif running.output != running.logged_output and running.output_due == math.inf:
            interval_s = self._log.update_interval_s
            if interval_s:
                wait_s = interval_s * self._rng.uniform(*_SPREAD)
                running.output_due = trio.current_time() + wait_s
                self._outputs.at(running.output_due, running)
            else:
                self._want(running)

    def forget(self, running: Running) -> None:
        """A check does not run here any more."""
        self._wanted.pop(running, None)
        self._outputs.forget(running)

    def hurry(self) -> None:
        """There is contact with a leader again, or another leader: propose what waits now."""
        self._not_before = 0.0
        self._changed.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Propose what is due, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._outputs.run)
            task_status.started()
            while True:
                with trio.move_on_at(self._not_before if self._wanted else math.inf):
                    await self._changed.wait()
                self.flush()

    def flush(self) -> None:
        """Propose what is due now, if anything: called when all words of one moment have been taken."""
        if self._wanted and trio.current_time() >= self._not_before:
            self._propose()

    async def compare(self, running: Iterable[Running], look: Callable[[Running], None]) -> None:
        """Have each check compared with its record, a bounded number at a time.

        Args:
            running: Those that run here.
            look: Reads the record of one, takes it over, and calls `said`.
        """
        for at, one in enumerate(list(running), 1):
            look(one)
            if at % COMPARED_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()

    def _want(self, running: Running) -> None:
        self._wanted[running] = None
        self._changed.set()

    def _output_is_due(self, running: Running) -> None:
        running.output_due = math.inf
        if running.proposed is None and running.output != running.logged_output:
            self._want(running)

    def _propose(self) -> None:
        """Propose what waits, unless that is in vain now: then it goes on waiting."""
        if not self._log.is_reachable:
            self._not_before = trio.current_time() + AGAIN_S
            return
        batches: dict[bool, list[Running]] = {False: [], True: []}
        sizes = {False: 0, True: 0}
        for one in list(islice(self._wanted, PROPOSED_AT_ONCE)):
            del self._wanted[one]
            if one.proposed is not None or self._is_settled(one):
                continue
            kind = one.is_foreign
            batches[kind].append(one)
            sizes[kind] += len(one.output)
            if len(batches[kind]) == RESULTS_MAX or sizes[kind] >= BATCH_BYTES_MAX:
                self._submit(batches[kind], is_foreign=kind)
                batches[kind], sizes[kind] = [], 0
        for kind, batch in batches.items():
            if batch:
                self._submit(batch, is_foreign=kind)
        if self._wanted:
            self._changed.set()

    @staticmethod
    def _is_settled(running: Running) -> bool:
        """Whether the log says the same by now, but perhaps for an output that has its time yet."""
        has_time = running.output_due != math.inf and not running.is_reason_new
        is_same = running.output == running.logged_output
        return running.status == running.logged_status and (is_same or has_time)

    def _submit(self, batch: list[Running], *, is_foreign: bool) -> None:
        results = tuple(
            CheckResult(one.node, one.id, one.defined, one.status, one.output) for one in batch
        )
        for one in batch:
            one.proposed = (one.status, one.output)

        def tell(answer: Answer) -> None:
            self._told(batch, results, answer)

        try:
            self._log.propose(results, tell, is_foreign=is_foreign)
        except Overloaded as error:
            tell(error)

    def _told(self, batch: list[Running], results: tuple[CheckResult, ...], answer: Answer) -> None:
        """Take the outcome of a proposal. The state must not be read here: see `Log.propose`."""
        has_failed = isinstance(answer, HstoreError)
        if has_failed:
            self._not_before = trio.current_time() + AGAIN_S
        for one, result in zip(batch, results, strict=True):
            said, one.proposed = one.proposed, None
            if one.is_gone or said is None:
                continue
            # Of a definition that was replaced meanwhile, a result has had no effect.
            if not has_failed and result.defined == one.defined:
                # As far as anybody here knows. Where it had no effect (another owner, a definition
                # that is to be seen yet), the record says so when it is looked at.
                one.logged_status, one.logged_output = said
            self.said(one)
