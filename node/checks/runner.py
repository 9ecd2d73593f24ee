"""The checks that run on this node, as the log has them: it follows the log, runs them and takes words.

Owns which checks run here (contract of services, section 4.5). What a check says is worked out in
`running.py`, what of it is committed when in `results.py`.

Theory of operation. The definitions are in the log, and the log always wins. Whenever an entry has
changed a check, its node or its owner, this node reads the record, in the same turn, and makes what runs
here the same: so a word that a client sends after its registration was answered finds the check. One
schedule has all of them; only a run that is under way has a task.

Who runs what: a member its own checks; the owner that the leader has named those of an external node;
the leader the TTLs of all external nodes, begun anew with each leader.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from random import Random

import msgspec
import trio

from ..driver.keys import Keys
from ..driver.replica import Replica
from ..driver.requests import Request
from ..measure.histogram import Histogram
from ..model.checks import SERF_HEALTH, Check, CheckStatus, Word
from ..net.flag import Flag
from ..state.watching.changes import CHECKS, NODES, OWNERS, Table
from .probes import CheckSettings, NodeProbes
from .proposals import Proposals
from .results import Results
from .running import Running
from .runs import Runs
from .schedule import Schedule
from .verdict import Verdict
from .words import PassedWords

SPREAD_ABOVE = 20
"""With more checks than these, a member that starts spreads their first runs over their intervals."""

COMPARE_S = 60.0
"""All checks are compared with their records so often, if nothing makes it be done earlier."""

_SCANNED_AT_ONCE = 256
"""Checks that are looked at before other tasks have their turn."""

_RUN = frozenset({"http", "tcp", "script"})


class CheckRunner:
    """Runs the checks of one node. The HTTP API serves it as `Checks` of `api/backend.py`."""

    def __init__(self, replica: Replica, keys: Keys, settings: CheckSettings, rng: Random) -> None:
        """Nothing runs before `run`; words are taken all the same.

        Args:
            replica: The way into the log, and what this node knows of leader and members.
            keys: The local copy, and what happens to it.
            settings: Of this node, and what runs its checks.
            rng: When outputs are committed.
        """
        self._facts = replica.facts
        self._keys = keys
        self._runs = Runs(settings.probes or NodeProbes(settings), self._ended)
        self._settings = settings
        self._proposals = Proposals(replica)
        self._passing = PassedWords(replica, keys, self)
        self._results = Results(self._proposals, rng)
        self._schedule: Schedule[Running] = Schedule(self._due)
        self._by_node: dict[int, dict[str, Running]] = {}
        # Of this member in the catalog, 0: not known yet; the term in which it leads, 0: it does not.
        self._number = self._lead = 0
        self._seen: tuple[int, int, bool] | None = None
        # Nodes whose checks have to be looked at, all of them.
        self._to_scan: dict[int, None] = {}
        self._changed = Flag()
        self._compare_at = 0.0
        self._is_starting = True

    def __len__(self) -> int:
        """How many checks run here."""
        return sum(map(len, self._by_node.values()))

    @property
    def late_total(self) -> int:
        """Runs that began late, because too many were under way."""
        return self._runs.late_total

    @property
    def descriptors(self) -> int:
        """How many files are open for runs that are under way."""
        return self._runs.descriptors

    @property
    def run_results(self) -> Mapping[tuple[str, str], int]:
        """Runs that have ended, by kind and by what they said."""
        return self._runs.by_result

    @property
    def late_seconds(self) -> Histogram:
        """How long after they were due runs began."""
        return self._runs.late_seconds

    def by_kind(self) -> Counter[tuple[str, str]]:
        """Return how many checks run here, by kind and status."""
        return Counter(
            (running.kind, running.status)
            for checks in self._by_node.values()
            for running in checks.values()
        )

    # -- as `Checks` of the API -------------------------------------------------------------

    @property
    def scripts(self) -> bool:
        """Whether this node runs scripts (setting `checks.script`)."""
        return self._settings.scripts

    def word(
        self, number: int, check: str, status: CheckStatus, output: str, total: int = 0
    ) -> Word:
        """Take a client's word about a TTL check that this node keeps: its time starts again.

        Args:
            number: Of the node of the check.
            check: Its ID.
            status: What it says from now on.
            output: Why.
            total: How many bytes the whole output has, if this is its beginning.
        """
        checks = self._by_node.get(number)
        running = None if checks is None else checks.get(check)
        if running is None:
            running = self._look_at(number, check)
            if running is None:
                return self._why_unknown(number, check)
        if not running.ttl_s:
            return Word.NOT_TTL
        running.word_at = trio.current_time()
        if running.is_over or running.status != status or running.output != output:
            self._say(running, status, output, total)
        return Word.TAKEN

    async def word_elsewhere(
        self, number: int, check: str, status: CheckStatus, output: str, deadline: float
    ) -> Word:
        """As `word`, of a check that another member keeps: see `PassedWords.say`."""
        return await self._passing.say(number, check, status, output, deadline)

    def handle(self, request: Request) -> None:
        """Take a word that another member has sent here, or that waited here for a leader."""
        self._passing.handle(request)

    def newest(self, check: Check) -> Check:
        """Return the check with its newest status and output, if this node runs it; else as it is."""
        running = self._find(check.node, check.id)
        if running is None:
            return check
        status, output = running.newest(trio.current_time())
        if (status, output) == (check.status, check.output):
            return check
        return msgspec.structs.replace(check, status=status, output=output)

    # -- running ----------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run checks until cancelled.

        Cancellation: no run is left, nor a process of one.
        """
        tables = (CHECKS, NODES, OWNERS)
        listener = self._keys.watches.listen(tables, self._wake, self._restarted)
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(self._runs.run)
                await nursery.start(self._schedule.run)
                await nursery.start(self._results.run)
                self.look()
                self._scan_soon(self._keys.external_numbers())
                await self._scan_all()
                self._is_starting = False
                task_status.started()
                await self._follow()
        finally:
            listener.close()

    def look(self) -> None:
        """Leader, contact or this member's number may be others: called with each change and tick."""
        facts, number = self._facts, self._keys.own_number
        if number != self._number:
            former, self._number = self._number, number
            self._scan_soon([one for one in (former, number) if one])
        lead = facts.term if facts.is_leader and facts.is_own_term_applied else 0
        if lead != self._lead:
            self._lead = lead
            self._drop_foreign()
            if lead:
                self._scan_soon(self._keys.external_numbers())
        self._passing.look()
        seen = (facts.term, facts.leader, self._proposals.is_reachable)
        if seen != self._seen:
            self._seen = seen
            if seen[2]:
                self._results.hurry()
                self._compare_at = 0.0
                self._changed.set()

    def flush(self) -> None:
        """Have what was said since the last call proposed in the turn that the driver takes now."""
        self._results.flush()

    async def _follow(self) -> None:
        """Look at nodes as a whole, and compare everything now and then."""
        self._compare_at = trio.current_time() + COMPARE_S
        while True:
            with trio.move_on_at(self._compare_at):
                await self._changed.wait()
            await self._scan_all()
            if trio.current_time() >= self._compare_at:
                self._compare_at = trio.current_time() + COMPARE_S
                every = [one for same in self._by_node.values() for one in same.values()]
                await self._results.compare(every, self._compare)

    # -- what the log says ------------------------------------------------------------------

    def _wake(self, table: Table, key: bytes) -> None:
        """An entry has changed a check, a node or an owner. Takes some microseconds."""
        number = int.from_bytes(key[:8], "big")
        if table == CHECKS:
            if number in self._by_node or self._is_ours(number):
                self._take(number, key[8:].decode())
        elif number in self._by_node or self._is_ours(number):
            self._scan_soon([number])
        if table == NODES and self._keys.own_number != self._number:
            self.look()

    def _restarted(self) -> None:
        """A snapshot was installed: everything may be different."""
        self._scan_soon([*self._by_node, self._number, *self._keys.external_numbers()])

    def _scan_soon(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self._to_scan[number] = None
        self._changed.set()

    def _is_ours(self, number: int) -> bool:
        """Whether this node runs checks of a node of the catalog, perhaps."""
        if number == self._number:
            return number != 0
        if not self._keys.is_external(number):
            return False
        return self._lead != 0 or self._keys.owner_of(number) == self._facts.id

    def _runs_here(self, check: Check) -> bool:
        """Whether this node runs this check."""
        definition = check.definition
        if definition is None:
            return False
        is_ttl = definition.kind == "ttl" and definition.ttl_ns > 0
        if not is_ttl and (definition.kind not in _RUN or definition.interval_ns <= 0):
            return False
        if check.node == self._number:
            return True
        if not self._keys.is_external(check.node):
            return False
        if is_ttl:
            return self._lead != 0
        if definition.is_shown and not self._keys.is_marked(check.node):
            return False  # Its status is what the catalog was told last, as in Consul.
        return definition.kind != "script" and self._keys.owner_of(check.node) == self._facts.id

    async def _scan_all(self) -> None:
        """Look at all checks of the nodes that have to be looked at as a whole."""
        begun: list[Running] = []
        at = 0
        while self._to_scan:
            number = next(iter(self._to_scan))
            del self._to_scan[number]
            known = self._by_node.get(number, {})
            there = self._keys.check_ids(number) if self._is_ours(number) else ()
            for check_id in dict.fromkeys([*there, *known]):
                self._take(number, check_id, begun)
                at += 1
                if at % _SCANNED_AT_ONCE == 0:
                    await trio.lowlevel.checkpoint()
            at += 1
            if at % _SCANNED_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
        self._begin(begun)

    def _take(self, number: int, check_id: str, begun: list[Running] | None = None) -> None:
        """Make what runs here what the record of a check says.

        Args:
            number: Of its node.
            check_id: Its ID.
            begun: Gets the check if it is new here, so that the caller begins it; None: at once.
        """
        check, running = self._keys.check(number, check_id), self._find(number, check_id)
        if check is None or check.definition is None or not self._runs_here(check):
            if running is not None:
                self._drop(running)
            return
        now = trio.current_time()
        if running is None:
            running = Running(check, check.definition, now)
            running.is_foreign = number != self._number and running.ttl_s > 0
            self._by_node.setdefault(number, {})[check_id] = running
            if begun is None:
                self._begin([running])
            else:
                begun.append(running)
        elif running.defined != check.defined:
            running.redefine(check, check.definition, now)
            running.is_foreign = number != self._number and running.ttl_s > 0
            self._begin_anew(running)
        elif running.told != check.told:
            running.take_status(check, now)
            if running.ttl_s:
                self._schedule.at(running.ttl_due, running)
        running.logged(check)
        self._results.said(running)

    def _compare(self, running: Running) -> None:
        if not running.is_gone:
            self._take(running.node, running.id)

    def _begin(self, begun: list[Running]) -> None:
        """Have checks run from now on; their first runs at once, unless they are many at a start."""
        now = trio.current_time()
        runs = [one for one in begun if not one.ttl_s and not one.is_gone]
        is_spread = self._is_starting and len(runs) > SPREAD_ABOVE
        for at, one in enumerate(runs):
            one.due = now + one.interval_s * at / len(runs) if is_spread else now
            self._schedule.at(one.due, one)
        for one in begun:
            if one.ttl_s and not one.is_gone:
                self._schedule.at(one.ttl_due, one)

    def _begin_anew(self, running: Running) -> None:
        """Have a check run by its new definition; a run by the earlier one ends first."""
        self._schedule.forget(running)
        if running.ttl_s:
            self._schedule.at(running.ttl_due, running)
        else:
            running.due = trio.current_time()
            self._schedule.at(running.due, running)
        self._runs.end(running)

    def _drop(self, running: Running) -> None:
        """A check does not run here any more."""
        running.is_gone = True
        checks = self._by_node.get(running.node, {})
        checks.pop(running.id, None)
        if not checks:
            self._by_node.pop(running.node, None)
        self._schedule.forget(running)
        self._results.forget(running)
        self._runs.end(running)

    def _drop_foreign(self) -> None:
        """Forget the TTLs of external nodes: another leader has begun them anew, or this one does."""
        for one in list(self._every()):
            if one.is_foreign:
                self._drop(one)

    def _every(self) -> Iterator[Running]:
        return (one for same in self._by_node.values() for one in same.values())

    def _find(self, number: int, check_id: str) -> Running | None:
        checks = self._by_node.get(number)
        return None if checks is None else checks.get(check_id)

    # -- words ------------------------------------------------------------------------------

    def _look_at(self, number: int, check: str) -> Running | None:
        """Look at a check that does not run here, perhaps because nobody has looked at it yet."""
        self._take(number, check)
        return self._find(number, check)

    def _why_unknown(self, number: int, check: str) -> Word:
        record = self._keys.check(number, check)
        if (
            record is None or check == SERF_HEALTH
        ):  # The agent of Consul does not know that one, either.
            return Word.UNKNOWN
        is_ttl = record.definition is not None and record.definition.kind == "ttl"
        return Word.UNKNOWN if is_ttl else Word.NOT_TTL

    def _say(self, running: Running, status: CheckStatus, output: str, total: int) -> None:
        was_over = running.is_over
        running.say(status, output, total)
        if was_over:
            self._schedule.at(running.ttl_due, running)
        self._results.said(running)

    # -- runs -------------------------------------------------------------------------------

    def _due(self, running: Running) -> float | None:
        """A check is due: begin its run, or end its TTL; return when it is due again."""
        now = trio.current_time()
        if not running.ttl_s:
            self._runs.begin(running)
            return running.next_due(now)
        if running.is_over:
            return None
        if now < running.expires_at:
            return running.ttl_due
        running.expire()
        self._results.said(running)
        return None

    def _ended(self, running: Running, defined: int, verdict: Verdict) -> None:
        """Take the result of a run: it counts only for the definition by which it was found."""
        if running.defined == defined:
            running.found(verdict.status, verdict.output)
            self._results.said(running)
        else:
            running.due = trio.current_time()
            self._schedule.at(running.due, running)
