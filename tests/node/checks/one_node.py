"""A node with nothing but its checks: a log that applies results as the state does, probes of a test.

    async with running_checks() as node:
        node.register("web", http(interval=10))
        node.targets["web"] = "passing"
        await trio.sleep(1)
        assert node.status("web") == "passing"

Time is virtual (`autojump_clock`). What the state does with `UpdateChecks` is repeated here in a few
lines; the real state is in the tests of whole nodes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random
from types import SimpleNamespace
from typing import Any

import msgspec
import trio

from hstore.node.checks.probes import CheckSettings
from hstore.node.checks.runner import CheckRunner
from hstore.node.checks.verdict import Progress, Verdict
from hstore.node.driver.requests import Request
from hstore.node.errors import HstoreError
from hstore.node.model import commands
from hstore.node.model.checks import Check, CheckDefinition, CheckStatus
from hstore.node.model.commands import ClusterSettings, Outcome
from hstore.node.model.services import UpdateChecks
from hstore.node.state.watching.changes import CHECKS, NODES, OWNERS, Table

OWN = 1
"""The number of the member, which is its id, too."""
FAR = 1 << 63
"""The number of an external node."""


def http(interval: float = 10, url: str = "", **more: Any) -> CheckDefinition:
    return CheckDefinition(kind="http", http=url, interval_ns=int(interval * 1e9), **more)


def ttl(seconds: float, **more: Any) -> CheckDefinition:
    return CheckDefinition(kind="ttl", ttl_ns=int(seconds * 1e9), **more)


class Run:
    """One run: when it began, and when and how it ended."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.began = trio.current_time()
        self.ended: float | None = None


class OneNode:
    """The log, the targets and the runner.

    Attributes:
        targets: By URL: what a run says; or a function that is awaited for it. Passing else.
        runs: All runs, in the order in which they began.
        proposals: All that was proposed, in order.
        error: Proposals fail with it; None: they are applied.
        held: Proposals that are not answered yet; None: they are answered at once.
        behind: Barriers that are not answered yet, see `catch_up`; None: they are answered at once.
        unconnected: Members that nothing can be sent to.
        passed: Words that were passed on to other members: to whom, and the request.
    """

    def __init__(self, seed: int = 1) -> None:
        self.targets: dict[str, CheckStatus | Callable[[], Awaitable[Verdict]]] = {}
        self.runs: list[Run] = []
        self.proposals: list[UpdateChecks] = []
        self.error: HstoreError | None = None
        self.held: list[Callable[[], None]] | None = None
        self.behind: list[Callable[[HstoreError | None], None]] | None = None
        self.unconnected: set[int] = set()
        self.passed: list[tuple[int, Request]] = []
        self.index = 10
        self.records: dict[tuple[int, str], Check] = {}
        self.externals: dict[int, None] = {}
        self.marked: set[int] = set()
        self.owners: dict[int, int] = {}
        self.is_current = True
        self.facts = SimpleNamespace(
            id=OWN,
            term=1,
            leader=2,
            is_leader=False,
            is_own_term_applied=False,
            settings=ClusterSettings(),
        )
        replica: Any = SimpleNamespace(
            facts=self.facts,
            contact=SimpleNamespace(is_current=lambda: self.is_current),
            submit=self._submit,
            is_connected=lambda member: member not in self.unconnected,
            intake=SimpleNamespace(
                forward_to=lambda member, request: self.passed.append((member, request))
            ),
        )
        self.own_number = OWN
        self.watches = self
        keys: Any = self
        settings = CheckSettings(scripts=True, probes=self)
        self.runner = CheckRunner(replica, keys, settings, Random(seed))
        self._listeners: list[tuple[set[Table], Any, Any]] = []

    # -- what the cluster does ----------------------------------------------------------------

    def register(
        self,
        check_id: str,
        definition: CheckDefinition,
        *,
        node: int = OWN,
        status: CheckStatus | None = None,
        wakes: bool = True,
    ) -> None:
        """Register a check as the state does; again: what is there stays."""
        self.index += 1
        before = self.records.get((node, check_id))
        check = before or Check(
            node, check_id, check_id, "critical", create_index=self.index, modify_index=self.index
        )
        if definition.kind == "http" and not definition.http:
            definition = msgspec.structs.replace(definition, http=check_id)
        if before is None or before.definition != definition:
            check = msgspec.structs.replace(
                check, definition=definition, defined=self.index, modify_index=self.index
            )
        if status is not None:
            check = msgspec.structs.replace(
                check, status=status, told=self.index, modify_index=self.index
            )
        self.records[node, check_id] = check
        if wakes:
            self.tell(CHECKS, node, check_id)

    def deregister(self, check_id: str, node: int = OWN) -> None:
        del self.records[node, check_id]
        self.tell(CHECKS, node, check_id)

    def add_external(self, number: int, owner: int = 0) -> None:
        self.externals[number] = None
        self.assign(number, owner)
        self.tell(NODES, number)

    def mark(self, number: int, *, is_marked: bool = True) -> None:
        (self.marked.add if is_marked else self.marked.discard)(number)
        self.tell(NODES, number)

    def remove_external(self, number: int) -> None:
        del self.externals[number]
        self.records = {key: one for key, one in self.records.items() if key[0] != number}
        self.tell(NODES, number)

    def assign(self, number: int, owner: int) -> None:
        self.owners[number] = owner
        self.tell(OWNERS, number)

    def tell(self, table: Table, number: int, check_id: str = "") -> None:
        for tables, call, _ in self._listeners:
            if table in tables:
                call(table, number.to_bytes(8, "big") + check_id.encode())

    def snapshot(self) -> None:
        """A snapshot was installed: nobody is told of single changes."""
        for _, _, restarted in self._listeners:
            restarted()

    def lead(self) -> None:
        self.facts.term += 1
        self.facts.leader = OWN
        self.facts.is_leader = self.facts.is_own_term_applied = True
        self.runner.look()

    def follow(self, leader: int) -> None:
        self.facts.term += 1
        self.facts.leader = leader
        self.facts.is_leader = self.facts.is_own_term_applied = False
        self.runner.look()

    def status(self, check_id: str, node: int = OWN) -> CheckStatus:
        """What the log says."""
        return self.records[node, check_id].status

    def newest(self, check_id: str, node: int = OWN) -> tuple[CheckStatus, str]:
        """What this node says."""
        check = self.runner.newest(self.records[node, check_id])
        return check.status, check.output

    # -- as `Keys` and `Watches` ----------------------------------------------------------------

    def check(self, node: int, check_id: str) -> Check | None:
        return self.records.get((node, check_id))

    def external_numbers(self) -> list[int]:
        return list(self.externals)

    def is_external(self, number: int) -> bool:
        return number in self.externals

    def is_marked(self, number: int) -> bool:
        return number in self.marked

    def member_of(self, number: int) -> int:
        return 0 if number >= FAR else number

    def owner_of(self, number: int) -> int:
        return self.owners.get(number, 0)

    def check_ids(self, number: int) -> list[str]:
        return sorted(check_id for node, check_id in self.records if node == number)

    def listen(self, tables: Any, call: Any, restarted: Any) -> Any:
        listener = (set(tables), call, restarted)
        self._listeners.append(listener)
        return SimpleNamespace(close=lambda: self._listeners.remove(listener))

    # -- as `Replica` and `Probes` --------------------------------------------------------------

    def begin_read(self, _deadline: float, tell: Callable[[HstoreError | None], None]) -> object:
        if self.behind is None:
            tell(None)
        else:
            self.behind.append(tell)
        return tell

    def catch_up(self, error: HstoreError | None = None) -> None:
        """Answer the barriers."""
        told, self.behind = self.behind or [], None
        for tell in told:
            tell(error)

    def _submit(self, request: Request) -> None:
        command = commands.decode(request.data)
        assert isinstance(command, UpdateChecks)
        self.proposals.append(command)
        if request.is_foreign and not self.facts.is_leader:
            request.finish(HstoreError("not leading"))
        elif self.held is not None:
            self.held.append(lambda: self._answer(request, command))
        else:
            self._answer(request, command)

    def _answer(self, request: Request, command: UpdateChecks) -> None:
        if self.error is not None:
            request.finish(self.error)
            return
        self.index += 1
        for one in command.results:
            before = self.records.get((one.node, one.id))
            if before is None or before.defined != one.defined:
                continue
            if (before.status, before.output) != (one.status, one.output):
                self.records[one.node, one.id] = msgspec.structs.replace(
                    before, status=one.status, output=one.output, modify_index=self.index
                )
                self.tell(CHECKS, one.node, one.id)
        request.finish(Outcome(True, self.index))

    def release(self) -> None:
        """Answer what was held, and all that comes."""
        held, self.held = self.held or [], None
        for answer in held:
            answer()

    async def run(self, definition: CheckDefinition, progress: Progress) -> Verdict:
        one = Run(definition.http)
        self.runs.append(one)
        try:
            await trio.lowlevel.checkpoint()
            said = self.targets.get(definition.http, "passing")
            return await said() if callable(said) else Verdict(said, f"it is {said}")
        finally:
            one.ended = trio.current_time()

    def began(self, url: str) -> list[float]:
        return [run.began for run in self.runs if run.url == url]


@asynccontextmanager
async def running_checks(node: OneNode | None = None) -> AsyncIterator[OneNode]:
    """Run the checks of a node, with a look at its leader at each tick."""
    node = node or OneNode()

    async def tick() -> None:
        while True:
            await trio.sleep(0.2)
            node.runner.look()

    async with trio.open_nursery() as nursery:
        await nursery.start(node.runner.run)
        nursery.start_soon(tick)
        yield node
        nursery.cancel_scope.cancel()
