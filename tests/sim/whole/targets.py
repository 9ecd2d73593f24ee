"""What the checks of nodes ask: services in memory that are up, down, slow or change all the time.

Each version of a check has a target of its own, by its URL or address, which keeps a log of its runs.

- V3: a run begins when it is due, never two of one check at once; and by the log of the target, what the
  node that runs the check says of it is exactly what its thresholds make of the results (contract of
  services, 4.2 and 4.3). The first result of a definition counts at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import trio

from hstore.node.checks.verdict import Progress, Verdict
from hstore.node.errors import StorageError
from hstore.node.model.checks import Check, CheckDefinition, CheckStatus

from ..options import stream

if TYPE_CHECKING:
    from .member import SimMember
    from .simulation import WholeSimulation

_STATES: tuple[str, ...] = ("up", "up", "up", "busy", "down", "down", "slow")
_VERDICTS: dict[str, CheckStatus] = {"up": "passing", "busy": "warning", "down": "critical"}

_GRID_S = 0.05
"""Runs are due on a grid, so that those of one moment share a wake."""

_LITTLE_S = 0.002


class _Counted(NamedTuple):
    """What the results of a target so far may have come to.

    Attributes:
        status: What the check says.
        bad, good: Results in a row.
        is_first: None has come since the definition.
    """

    status: CheckStatus
    bad: int = 0
    good: int = 0
    is_first: bool = False


def _judged(before: _Counted, found: CheckStatus, thresholds: tuple[int, int, int]) -> _Counted:
    """Return what one more result comes to; `thresholds`: successes, failures before warning, critical."""
    successes, to_warning, to_critical = thresholds
    if found != "critical":
        good = before.good + 1
        leaves = before.status != "critical" or good >= successes or before.is_first
        return _Counted(found if leaves else "critical", 0, good)
    bad = before.bad + 1
    if before.is_first or bad >= to_critical:
        return _Counted("critical", bad)
    if bad >= to_warning and before.status == "passing":
        return _Counted("warning", bad)
    return _Counted(before.status, bad)


@dataclass(slots=True)
class Target:
    """What one version of one check asks.

    Attributes:
        url: Where it is: a URL, or host and port.
        check: The ID of the check.
        state: What it is now.
        flaps: How often it changes: a mean interval, infinity: never.
        since: Since when it is so.
        runs: How many there were.
        running: Who has a run under way: members by id, with the life of each.
        last: Who began the last run.
        begun_at: When the last run of a life of a member began.
        begun_after: Likewise, the last entry that was applied there then.
        counted: Likewise, what the results came to.
        defined: Likewise, the index of the definition that ran.
        told: Likewise, the index of the last registration that gave a status.
    """

    url: str
    check: str
    state: str
    flaps: float
    since: float
    runs: int = 0
    running: set[tuple[int, int]] = field(default_factory=set)
    last: tuple[int, int] | None = None
    begun_at: dict[tuple[int, int], float] = field(default_factory=dict)
    begun_after: dict[tuple[int, int], int] = field(default_factory=dict)
    counted: dict[tuple[int, int], set[_Counted]] = field(default_factory=dict)
    defined: dict[tuple[int, int], int] = field(default_factory=dict)
    told: dict[tuple[int, int], int] = field(default_factory=dict)


class Targets:
    """All targets of a run.

    Attributes:
        by_url: All there ever were.
        are_still: None of them changes any more by itself.
    """

    def __init__(self, sim: WholeSimulation) -> None:
        self.sim = sim
        self.by_url: dict[str, Target] = {}
        self._rng = stream(sim.seed, "targets")
        self._ports = 1000
        self.are_still = False

    def make(self, check: str, *, is_http: bool) -> Target:
        """Make a target for a new version of a check, and let it change from time to time."""
        where = f"t{len(self.by_url)}.test:80"
        url = f"http://{where}/" if is_http else where
        rng = self._rng
        flaps = rng.choice((0.3, 1.0, 3.0, 1e9))
        target = Target(url, check, rng.choice(_STATES), flaps, trio.current_time())
        self.by_url[url] = target
        self.sim.nursery.start_soon(self._change, target)
        return target

    def turn(self, target: Target, state: str) -> None:
        """Let a target be something else from now on."""
        target.state, target.since = state, trio.current_time()

    async def _change(self, target: Target) -> None:
        while not self.are_still:
            await trio.sleep(self._rng.expovariate(1 / target.flaps))
            if not self.are_still:
                self.turn(target, self._rng.choice(_STATES))

    def probes(self, member: SimMember) -> SimProbes:
        """Return what runs the checks of a life of a node."""
        return SimProbes(self, member)

    def strange_probes(self) -> StrangeProbes:
        """Return what runs the checks of a process that is no member's."""
        return StrangeProbes(self)

    def new_port(self) -> int:
        """Return a port that no other registration has."""
        self._ports += 1
        return self._ports

    # -- runs -------------------------------------------------------------------------------

    def begin(self, target: Target, member: SimMember, definition: CheckDefinition) -> None:
        """A run begins."""
        sim, life, now = self.sim, (member.id, member.lives), trio.current_time()
        about = f"V3: node {member.id} runs {target.check} ({target.url})"
        target.runs += 1
        sim.counts[f"runs of {definition.kind} checks"] += 1
        if life in target.running:
            sim.fail(f"{about} twice at once")
        target.running.add(life)
        check = self._found(target, member)
        is_other = target.last is not None and target.last != life
        applied = member.node.replica.state.applied
        if check is not None and not is_other:
            # Or it was to be run by another, who began no run.
            since = target.begun_after.get(life, applied)
            is_other = sim.catalogs.was_anothers(check.node, member.id, since, applied)
        target.begun_after[life] = applied
        target.last = life
        if is_other or check is None or check.defined != target.defined.get(life):
            # Registered anew, or run by another member meanwhile: all begins again.
            had = any(one == check.defined for one in target.defined.values()) if check else True
            target.begun_at.pop(life, None)
            target.defined[life] = 0 if check is None else check.defined
            firsts = (True, False) if had else (True,)
            target.counted[life] = {
                _Counted(self._status(member, check), is_first=one) for one in firsts
            }
        self._take_told(target, member, check)
        interval_s = definition.interval_ns / 1e9
        after_s = now - target.begun_at.get(life, now - interval_s)
        # A run that is under way when the next one is due takes that one's place.
        if after_s < interval_s - _GRID_S - _LITTLE_S:
            sim.fail(f"{about} again after {after_s:.3f} s, not {interval_s:.3f} s")
        target.begun_at[life] = now

    def end(
        self,
        target: Target,
        member: SimMember,
        definition: CheckDefinition,
        found: CheckStatus | None,
    ) -> None:
        """A run ends, with what it found; None: nothing, it was cut short."""
        life = (member.id, member.lives)
        target.running.discard(life)
        check = self._found(target, member)
        if found is None or check is None or check.defined != target.defined.get(life):
            return
        self._take_told(target, member, check)
        to_critical = max(definition.failures_critical, 1)
        thresholds = (
            max(definition.successes, 1),
            definition.failures_warning or to_critical,
            to_critical,
        )
        target.counted[life] = {_judged(one, found, thresholds) for one in target.counted[life]}
        self.sim.nursery.start_soon(self._compare, target, member, life, target.runs)

    async def _compare(
        self, target: Target, member: SimMember, life: tuple[int, int], runs: int
    ) -> None:
        """See that the node says of a check what its last run makes of it."""
        await trio.sleep(_LITTLE_S)
        if not member.is_up or (member.id, member.lives) != life or target.runs != runs:
            return
        check, known = self._found(target, member), target.counted[life]
        if check is None or check.defined != target.defined.get(life):
            return
        if check.told != target.told.get(life):
            return
        status = self._status(member, check)
        self.sim.counts["results of runs compared"] += 1
        fits = {one for one in known if one.status == status}
        if not fits:
            self.sim.fail(
                f"V3: node {member.id} says that {target.check} is {status}; by the log of "
                f"{target.url} it is {sorted(one.status for one in known)}"
            )
        target.counted[life] = fits

    def _take_told(self, target: Target, member: SimMember, check: Check | None) -> None:
        """A registration that gives a status changes that, and not what has been counted."""
        life = (member.id, member.lives)
        before = target.told.get(life)
        if check is None or check.told == before:
            return
        target.told[life] = check.told
        if before is not None:
            status = self._status(member, check)
            target.counted[life] = {one._replace(status=status) for one in target.counted[life]}

    def _found(self, target: Target, member: SimMember) -> Check | None:
        """Return the check of a target as a node's copy of the catalog has it, in this version."""
        keys = member.node.keys
        for number in (keys.own_number, *keys.external_numbers()):
            try:
                check = keys.check(number, target.check)
            except StorageError:
                return None
            if check is not None and check.definition is not None:
                definition = check.definition
                if target.url in (definition.http, definition.tcp):
                    return check
        return None

    def _status(self, member: SimMember, check: Check | None) -> CheckStatus:
        return "critical" if check is None else member.node.checks.newest(check).status


class SimProbes:
    """Runs the checks of one life of a node: a `Probes`."""

    def __init__(self, targets: Targets, member: SimMember) -> None:
        self._targets = targets
        self._member = member

    async def run(self, definition: CheckDefinition, progress: Progress) -> Verdict:
        """See `Probes`."""
        targets, member = self._targets, self._member
        target = targets.by_url[definition.http or definition.tcp]
        until = trio.current_time() + definition.timeout_ns / 1e9
        targets.begin(target, member, definition)
        found: CheckStatus | None = None
        try:
            await trio.sleep(targets._rng.uniform(0.0, 0.05))
            if target.state == "slow":
                await trio.sleep_forever()
            found = _VERDICTS[target.state]
        finally:
            if found is None and trio.current_time() >= until and not member.is_frozen:
                found = "critical"
            targets.end(target, member, definition, found)
        return Verdict(found, f"{definition.kind}: {target.state}")


class StrangeProbes:
    """Runs the checks of a copy of a node: it asks the same targets, and the log of these is not its.

    Without it the copy would look names up in the network of this machine, in a thread.
    """

    def __init__(self, targets: Targets) -> None:
        self._targets = targets
        self._rng = stream(targets.sim.seed, "strange probes")

    async def run(self, definition: CheckDefinition, progress: Progress) -> Verdict:
        """See `Probes`."""
        self._targets.sim.counts["runs of checks by a process that is no member's"] += 1
        state = self._targets.by_url[definition.http or definition.tcp].state
        await trio.sleep(self._rng.uniform(0.0, 0.05))
        if state == "slow":
            await trio.sleep_forever()
        return Verdict(_VERDICTS[state], f"{definition.kind}: {state}")
