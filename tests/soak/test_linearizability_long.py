"""Minutes of faults of all kinds, one after the other and on top of each other, drawn from a seed.

The seed is printed, and `HSTORE_SEED` sets it: the same faults are drawn in the same order. When
they strike, among real processes, is up to the machine. `HSTORE_MINUTES` says how many; each has
nodes of its own and the next seed.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.system.clients import record
from tests.system.cluster import Node
from tests.system.parted import Parted, parted_cluster

MINUTES = int(os.environ.get("HSTORE_MINUTES", "5"))
SEED = int(os.environ.get("HSTORE_SEED", random.SystemRandom().randrange(1 << 32)))


@pytest.fixture
def parted(
    require_tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Parted]:
    """Three nodes, each on a network of its own."""
    with parted_cluster(tmp_path_factory.mktemp("parted"), require_tool) as cluster:
        with cluster.network.inside():
            yield cluster


class Faults:
    """What happens to the nodes, and how it ends. One node can have several troubles at a time."""

    def __init__(self, cluster: Parted, chance: random.Random) -> None:
        self._cluster = cluster
        self.chance = chance
        self._ends: list[Callable[[], None]] = []
        self._troubled: set[tuple[str, int]] = set()

    def strike(self) -> str:
        """Do something to somebody; return what."""
        kinds = {
            "kill": self._kill,
            "freeze": self._freeze,
            "isolate": self._pair(self._cluster.isolate, self._cluster.reunite, "routes"),
            "mute": self._pair(self._cluster.mute, self._cluster.unmute, "neighbours"),
            "unplug": self._pair(self._cluster.unplug, self._cluster.plug, "plug"),
            "kill all": self._kill_all,
        }
        weights = [4, 3, 3, 3, 2, 1]
        (kind,) = self.chance.choices(list(kinds), weights)
        node = self.chance.choice(self._cluster.nodes)
        kinds[kind](node)
        return f"{kind} {node.address}"

    def end(self) -> None:
        """End all of it."""
        for end in self._ends:
            end()
        self._ends.clear()
        self._troubled.clear()
        for node in self._cluster.nodes:
            if not node.is_running:
                node.start()

    def _pair(
        self, begin: Callable[[Node], None], end: Callable[[Node], None], trouble: str
    ) -> Callable[[Node], None]:
        def strike(node: Node) -> None:
            # Routes to a link that is down are gone with it, so these two are not mixed.
            number = self._cluster.number(node)
            if any(kind != "process" for kind, _ in self._troubled):
                return
            self._troubled.add((trouble, number))
            begin(node)
            self._ends.append(lambda: end(node))

        return strike

    def _kill(self, node: Node) -> None:
        if node.is_running:
            node.kill()

    def _kill_all(self, _node: Node) -> None:
        for node in self._cluster.running():
            node.signal(signal.SIGKILL)
        for node in self._cluster.nodes:
            node.wait_end()

    def _freeze(self, node: Node) -> None:
        if not node.is_running:
            return
        node.signal(signal.SIGSTOP)
        self._troubled.add(("process", self._cluster.number(node)))

        def thaw() -> None:
            if node.is_running:
                node.signal(signal.SIGCONT)

        self._ends.append(thaw)


@pytest.mark.parametrize("minute", range(MINUTES))
def test_a_minute_of_faults_drawn_from_a_seed_is_not_seen_in_what_clients_are_told(
    minute: int, parted: Parted, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = SEED + minute
    faults = Faults(parted, random.Random(seed))
    happened: list[str] = []
    pause = threading.Event()
    end = time.monotonic() + 60
    with record(parted.nodes, seed=seed) as running:
        while time.monotonic() < end:
            for _ in range(faults.chance.choice([1, 1, 2, 3])):
                happened.append(faults.strike())
                pause.wait(faults.chance.uniform(0, 1.0))
            pause.wait(faults.chance.uniform(0.2, 3.0))
            faults.end()
            # Most times they have the time to agree again before the next blow.
            if faults.chance.random() < 0.7:
                parted.wait_healthy()
                running.wait_more(faults.chance.randrange(100))
    parted.revive()
    try:
        running.read_everywhere(parted.nodes)
        judgement = running.judge()
    except AssertionError as error:
        error.add_note(f"HSTORE_SEED={seed} HSTORE_MINUTES=1: {happened}")
        raise
    assert judgement.operations > 0
    with capsys.disabled():
        print(
            f"\nHSTORE_SEED={seed} HSTORE_MINUTES=1: {len(happened)} faults, "
            f"{judgement.operations} operations checked in {judgement.steps} steps"
        )
