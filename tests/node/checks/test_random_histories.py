"""Random registrations, words, targets, cuts and leaders: what must be so at every moment, and after."""

from __future__ import annotations

from random import Random

import pytest
import trio
import trio.testing

from hstore.node.checks.verdict import Progress, Verdict
from hstore.node.errors import NoLeader
from hstore.node.model.checks import CheckDefinition, CheckStatus
from tests.node.checks.one_node import FAR, OWN, OneNode, http, running_checks, ttl

IDS = ("a", "b", "c", "d")
STATUSES: tuple[CheckStatus, ...] = ("passing", "warning", "critical")


class Watched(OneNode):
    """A node whose probes notice when two runs of a check are under way at once."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.under_way: set[str] = set()
        self.twice: set[str] = set()

    async def run(self, definition: CheckDefinition, progress: Progress) -> Verdict:
        name = definition.http.partition("?")[0]
        if name in self.under_way:
            self.twice.add(name)
        self.under_way.add(name)
        try:
            return await super().run(definition, progress)
        finally:
            self.under_way.discard(name)


class History:
    """Draws what happens."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.node = Watched(seed)

    def definition(self, name: str) -> CheckDefinition:
        rng = self.rng
        if rng.random() < 0.5:
            return ttl(rng.choice([1, 5, 20]), deregister_after_ms=rng.choice([0, 60_000]))
        return http(
            rng.choice([1, 3, 10]),
            f"{name}?{rng.randrange(2)}",
            timeout_ns=rng.choice([10**9, 4 * 10**9]),
            failures_critical=rng.choice([0, 0, 3]),
            successes=rng.choice([0, 0, 2]),
        )

    def target(self):
        rng = self.rng
        if rng.random() < 0.7:
            return rng.choice(STATUSES)
        seconds, status = rng.choice([0.5, 2, 9]), rng.choice(STATUSES)

        async def say() -> Verdict:
            await trio.sleep(seconds)
            return Verdict(status, f"after {seconds}")

        return say

    def step(self) -> None:
        rng = self.rng
        key = rng.choice([OWN, OWN, FAR]), rng.choice(IDS)
        draw = rng.randrange(12)
        if draw < 3:
            self.register(*key)
        elif draw == 3 and key in self.node.records:
            self.node.deregister(key[1], key[0])
        elif draw < 7:
            self.node.runner.word(*key, rng.choice(STATUSES), rng.choice(["", "x", "y"]))
        elif draw == 7:
            for version in range(2):
                self.node.targets[f"{key[0]}/{key[1]}?{version}"] = self.target()
        else:
            self.disturb(draw)

    def register(self, number: int, name: str) -> None:
        rng, node = self.rng, self.node
        definition, status = self.definition(f"{number}/{name}"), rng.choice([None, *STATUSES])
        wakes = rng.random() < 0.9
        node.register(name, definition, node=number, status=status, wakes=wakes)
        if not wakes:
            node.snapshot()

    def disturb(self, draw: int) -> None:
        rng, node = self.rng, self.node
        if draw == 8:
            node.is_current = not node.is_current
        elif draw == 9:
            node.error = None if node.error else NoLeader("none")
        elif draw == 10:
            node.assign(FAR, rng.choice([0, OWN, 2]))
        elif rng.random() < 0.5:
            node.lead()
        else:
            node.follow(rng.choice([2, 3]))

    def mine(self) -> dict[tuple[int, str], CheckDefinition]:
        """What this node has to run."""
        node = self.node
        found = {}
        for (number, name), check in node.records.items():
            assert check.definition is not None
            is_ttl = check.definition.kind == "ttl"
            keeps = node.facts.is_leader if is_ttl else node.owners.get(FAR) == OWN
            if number == OWN or keeps:
                found[number, name] = check.definition
        return found

    def check(self) -> None:
        """What must be so at every moment."""
        runner = self.node.runner
        assert self.node.twice == set(), "two runs of one check at once"
        running = {(one.node, one.id): one for one in runner._every()}
        assert set(running) == set(self.mine())
        for key, one in running.items():
            record = self.node.records[key]
            assert (one.defined, one.told) == (record.defined, record.told)

    def check_end(self) -> None:
        """What must be so when nothing has happened for long enough."""
        now = trio.current_time()
        for (number, name), definition in self.mine().items():
            check = self.node.records[number, name]
            assert self.node.newest(name, number)[0] == check.status, (number, name)
            running = self.node.runner._by_node[number][name]
            if definition.kind == "ttl" and check.status != "critical":
                assert now < running.expires_at + 0.2


@pytest.mark.parametrize("seed", range(12))
def test_a_random_history(seed):
    async def run() -> None:
        history = History(seed)
        node = history.node
        node.add_external(FAR, OWN)
        async with running_checks(node):
            for _ in range(200):
                history.step()
                await trio.sleep(history.rng.choice([0, 0.01, 0.3, 2, 7]))
                # A scan of all checks of a node takes a few steps of the loop.
                await trio.testing.wait_all_tasks_blocked()
                history.check()
            node.is_current, node.error = True, None
            for url in node.targets:
                node.targets[url] = "passing"
            await trio.sleep(90)
            history.check()
            history.check_end()

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))
