"""Random registrations: every replica agrees, no index falls, and who waits is told.

`make soak` runs more of them (tests/soak/test_catalog_long.py).
"""

from __future__ import annotations

import copy
import os
import random
import subprocess
import sys
from collections.abc import Collection
from typing import get_args

import pytest

from hstore.node.model.commands import ClusterSettings, Command, InitCluster, PutMember, Write
from hstore.node.model.services import (
    AssignNodes,
    CatalogRegister,
    DeregisterCritical,
    RegisterCheck,
    RegisterService,
    Registration,
    UpdateChecks,
)
from hstore.node.raft.entry import Entry, EntryKind
from hstore.node.state.batch import Batch
from hstore.node.state.catalog import services
from hstore.node.state.catalog import writes as catalog_writes
from hstore.node.state.catalog.records import fold
from hstore.node.state.intact import StateCheck
from hstore.node.state.kv import deletions
from hstore.node.state.kv.deletions import DELETIONS
from hstore.node.state.machine import EFFECTS, State
from hstore.node.state.records import KEYED_WRITES_KEY
from hstore.node.state.watching.changes import (
    CHECK_STATES,
    NODE_CHECKS,
    NODE_HEALTH,
    NODE_SERVICES,
    NODES,
    SERVICE_SET,
    SERVICES,
    Wake,
)
from hstore.node.storage.interface import APPLIED_KEY
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


@pytest.mark.parametrize("seed", range(2))
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


def records_of(machine: State) -> dict[bytes, bytes]:
    """All that there is but for the index of the last entry and its time."""
    found = dict(everything(machine))
    for key in (APPLIED_KEY, KEYED_WRITES_KEY):
        found.pop(key, None)
    return found


def test_a_registration_of_what_is_so_would_change_nothing() -> None:
    machine = new_machine()
    begin(machine)
    again = 0
    for command in Draws(3).commands(machine, 1_500):
        if not isinstance(command, Registration):
            run(machine, command)
            continue
        is_so, before = machine.is_so(command), records_of(machine)
        (outcome,) = run(machine, command)
        if is_so:
            assert outcome.ok
            assert records_of(machine) == before
        is_so = machine.is_so(command)
        if is_so:
            again += 1
            before = records_of(machine)
            run(machine, command)
            assert records_of(machine) == before
        given = (command.check,) if isinstance(command, RegisterCheck) else command.checks
        is_plain = len({one.id for one in given}) == len(given)
        if isinstance(command, CatalogRegister):
            # A member is not looked at, and each status of a check that is run counts anew.
            is_plain &= not any(one.definition and one.definition.kind for one in given)
            is_plain &= fold(command.node.name) in index_of(machine).numbers
        else:
            is_plain &= not any(one.status for one in given)
        assert is_so == (outcome.ok and is_plain), command
    assert again > 100


class Side:
    """A machine whose entries all go into one batch."""

    def __init__(self) -> None:
        self.machine = new_machine()
        begin(self.machine)
        self.batch = Batch(self.machine._store, self.machine._values, EFFECTS)

    def carry_out(self, index: int, command: Command) -> None:
        self.batch.carry_out(Entry(index, 1, EntryKind.COMMAND, b""), command)

    def all(self) -> object:
        """All that a rollback has to restore."""
        batch = self.batch
        catalog = index_of(self.machine).as_dict()
        kept = [list(one.order) for _, one in batch.value(DELETIONS).all]
        return copy.deepcopy((batch.changed, batch.changes, batch.wakes, catalog, kept))

    def commit(self, index: int) -> str:
        catalog_writes.note_catalog(self.batch)
        self.batch.commit(Entry(index, 1, EntryKind.COMMAND, b""))
        return digest(self.machine)


def test_a_savepoint_takes_back_all_that_was_done_in_it() -> None:
    seed = 3
    one, other = Side(), Side()
    rng, index = random.Random(seed), one.machine.applied
    written = get_args(Write)
    undone = 0
    for command in Draws(seed).commands(one.machine, 500):
        if not isinstance(command, (*written, UpdateChecks, DeregisterCritical, AssignNodes)):
            continue
        index += 1
        if rng.random() < 0.5:
            one.carry_out(index, command)
            other.carry_out(index, command)
            continue
        before = one.all()
        savepoint = one.batch.savepoint()
        one.carry_out(index, command)
        undone += one.all() != before
        one.batch.rollback(savepoint)
        assert one.all() == before
    assert undone > 40
    assert one.commit(index) == other.commit(index)
    assert index_of(one.machine).as_dict() == index_of(other.machine).as_dict()


def _slowly(
    batch: Batch, index: int, number: int, command: RegisterService, ids: tuple[str, ...]
) -> None:
    services.put_service(batch, index, None, command.service, number=number, checks=ids)
    for each in command.checks:
        services.upsert(batch, index, number, each, service=command.service.id)


def test_what_is_made_in_one_go_is_as_if_it_were_made_step_by_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, other = new_machine(), new_machine()
    begin(one)
    begin(other)
    told: list[set[Wake]] = []
    for machine in (one, other):
        machine.history.on_wake = lambda wakes: told.append(set(wakes))
    made = 0
    for command in Draws(5).commands(one, 3_000):
        count = len(index_of(one).by_instance)
        told.clear()
        with monkeypatch.context() as patch:
            outcome = run(one, command)
            patch.setattr(services, "_make_service", _slowly)
            assert run(other, command) == outcome
        half = len(told) // 2
        assert told[:half] == told[half:]
        made += isinstance(command, RegisterService) and len(index_of(one).by_instance) > count
        assert index_of(one).as_dict() == index_of(other).as_dict()
    assert made > 100
    assert digest(one) == digest(other)


def targets(machine: State, question: str, about: object) -> Collection[Wake]:
    """What a blocking read of this question waits for."""
    if question == "service":
        assert isinstance(about, bytes)
        numbers = machine.nodes_of_service(about)
        healths = {(NODE_HEALTH, number.to_bytes(8, "big")) for number in numbers}
        return healths | {(SERVICES, about)}
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


@pytest.mark.parametrize("seed", [100, 101])
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
