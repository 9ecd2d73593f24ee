"""Random registrations: every replica agrees, no index falls, and who waits is told.

`make soak` runs more of them (tests/soak/test_catalog_long.py).
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Collection

import pytest

from hstore.node.model.commands import ClusterSettings, Command, InitCluster, PutMember
from hstore.node.state import deletions
from hstore.node.state.changes import (
    CHECK_STATES,
    NODE_CHECKS,
    NODE_HEALTH,
    NODE_SERVICES,
    NODES,
    SERVICE_SET,
    SERVICES,
    Wake,
)
from hstore.node.state.intact import StateCheck
from hstore.node.state.machine import State
from tests.node.state.catalogs import Draws, digest, index_of, shown
from tests.node.state.machines import (
    copy_of,
    everything,
    log,
    member,
    new_machine,
    run,
    serf_health,
)


def begin(machine: State) -> list[Command]:
    begin_: list[Command] = [
        InitCluster("ab" * 8, ClusterSettings()),
        *(PutMember(member(number)) for number in (1, 2, 3)),
        *(serf_health("passing", number) for number in (1, 2, 3)),
    ]
    run(machine, *begin_)
    return begin_


def assert_intact(machine: State) -> None:
    check = StateCheck()
    check.take(everything(machine))
    check.end(machine.applied, machine.applied_term)


def agree(seed: int, count: int) -> str:
    """One machine takes each command by itself, the other in batches, and is restarted at times.

    Returns a digest of what they end with.
    """
    one, other = new_machine(), new_machine()
    rng = random.Random(seed)
    waiting = begin(one)
    told = list(other.apply(log(*waiting)))
    waiting.clear()
    told.clear()
    for step, command in enumerate(Draws(seed).commands(one, count)):
        told += run(one, command)
        waiting.append(command)
        if rng.random() > 0.08:
            continue
        assert other.apply(log(*waiting, first=other.applied + 1)) == told
        waiting.clear()
        told.clear()
        if step % 20 == 0:
            assert digest(one) == digest(other)
            assert index_of(one).as_dict() == index_of(other).as_dict()
            assert_intact(one)
            other = copy_of(one)
            assert index_of(one).as_dict() == index_of(other).as_dict()
    other.apply(log(*waiting, first=other.applied + 1))
    assert digest(one) == digest(other)
    return digest(one)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deletions, "KEPT_MAX", 40)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.usefixtures("few")
def test_replicas_agree_whatever_the_batches_and_after_a_restart(seed: int) -> None:
    agree(seed, 2_000)


_PROGRAM = "from tests.node.state.test_catalog_random import agree; print(agree(7, 600))"


def test_replicas_agree_whatever_the_hash_seed() -> None:
    found = {
        subprocess.run(
            [sys.executable, "-c", _PROGRAM],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


def targets(machine: State, question: str, about: object) -> Collection[Wake]:
    """What a blocking read of this question waits for."""
    if question == "service":
        assert isinstance(about, bytes)
        numbers = machine.nodes_of_service(about)
        healths = {(NODE_HEALTH, number.to_bytes(8, "big")) for number in numbers}
        return healths | ({(NODES, b"")} if about == b"consul" else {(SERVICES, about)})
    if question in ("node", "health"):
        node = machine.view().catalog_node(str(about))
        if node is None:
            return {(NODES, b"")}
        number = node.number.to_bytes(8, "big")
        return {(NODES, number), (NODE_SERVICES if question == "node" else NODE_CHECKS, number)}
    if question == "services":
        return {(SERVICE_SET, b"")}
    if question == "nodes":
        return {(NODES, b"")}
    return {(CHECK_STATES, str(about).encode())}


@pytest.mark.parametrize("seed", range(100, 104))
@pytest.mark.usefixtures("few")
def test_an_index_moves_with_its_answer_never_falls_and_wakes_who_waits(seed: int) -> None:
    machine = new_machine()
    begin(machine)
    told: list[Wake] = []
    machine.history.on_wake = told.extend
    before = shown(machine)
    moved = needless = 0
    for command in Draws(seed).commands(machine, 400):
        waits = {asked: targets(machine, *asked) for asked in before}
        told.clear()
        index = machine.applied + 1
        run(machine, command)
        after = shown(machine)
        woken = {*told, *((NODES, b"") for table, _ in told if table == NODES)}
        for asked, (was_index, was) in before.items():
            now_index, now = after[asked]
            assert now_index >= was_index, (asked, command)
            if now != was:
                assert now_index == index, (asked, command, was, now)
                assert woken & set(waits[asked]), (asked, command)
            if now_index != was_index:
                moved += 1
                assert now_index == index
                needless += now == was
        before = after
    assert moved > 1_000
    assert needless < moved / 20
