"""Minutes of faults of all kinds, one after the other and on top of each other, drawn from a seed.

The seed is printed, and `HSTORE_SEED` sets it: the same faults are drawn in the same order. When
they strike, among real processes, is up to the machine. `HSTORE_MINUTES` says how many; each has
nodes of its own and the next seed. At the end of each, a majority is lost and one node recovered.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.system.chaos import Battered, Chaos
from tests.system.clients import Record, record
from tests.system.lost_majority import lose_majority, recover
from tests.system.parted import parted_cluster

MINUTES = int(os.environ.get("HSTORE_MINUTES", "5"))
SEED = int(os.environ.get("HSTORE_SEED", random.SystemRandom().randrange(1 << 32)))


@pytest.fixture
def battered(
    require_tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Battered]:
    """Three nodes, each on a network and a disk of its own."""
    folder = tmp_path_factory.mktemp("battered")
    with parted_cluster(Battered, folder, require_tool) as cluster:
        with cluster.network.inside():
            yield cluster


def strike(chaos: Chaos, running: Record) -> None:
    """Have a minute of faults."""
    chance, pause = chaos.chance, threading.Event()
    end = time.monotonic() + 60
    while time.monotonic() < end:
        for _ in range(chance.choice([1, 1, 2, 3])):
            chaos.strike()
            pause.wait(chance.uniform(0, 1.0))
        pause.wait(chance.uniform(0.2, 3.0))
        chaos.end()
        # Most times they have the time to agree again before the next blow.
        if chance.random() < 0.7:
            chaos.wait_healthy()
            running.wait_more(chance.randrange(100))
            if chance.random() < 0.5:
                chaos.mishap(running)


@pytest.mark.parametrize("minute", range(MINUTES))
def test_a_minute_of_faults_drawn_from_a_seed_is_not_seen_in_what_clients_are_told(
    minute: int, battered: Battered, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = SEED + minute
    chaos = Chaos(battered, random.Random(seed))
    try:
        with record(battered.nodes, seed=seed) as running:
            strike(chaos, running)
        chaos.wait_healthy()
        running.read_everywhere(battered.nodes)
        judgement = running.judge()
        with record(battered.nodes, seed=seed) as last:
            last.wait_more(60)
            chaos.happened.append(lose_majority(battered, chaos.chance, last))
        last.judge()
        chaos.happened.append(recover(battered, chaos.chance, last))
    except BaseException as error:
        error.add_note(f"HSTORE_SEED={seed} HSTORE_MINUTES=1: {chaos.happened}")
        raise
    assert judgement.operations > 0
    with capsys.disabled():
        print(
            f"\nHSTORE_SEED={seed} HSTORE_MINUTES=1: {len(chaos.happened)} faults, "
            f"{judgement.operations} operations checked in {judgement.steps} steps; "
            f"{battered.missing}\n{'; '.join(chaos.happened)}"
        )
