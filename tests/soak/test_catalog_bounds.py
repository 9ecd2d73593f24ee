"""The catalog at its real bounds: what is one too many is refused, and the whole is read again.

50,000 instances with 100,000 checks, 10,000 external nodes, in RocksDB.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterable
from pathlib import Path

from hstore.node.model.commands import (
    ClusterSettings,
    Command,
    Denial,
    InitCluster,
    PutMember,
    RemoveMember,
)
from hstore.node.model.services import (
    CHECKS_OF_NODE_MAX,
    CHECKS_OF_SERVICE_MAX,
    EXTERNAL_NODES_MAX,
    INSTANCES_MAX,
    SERVICES_OF_NODE_MAX,
    RegisterCheck,
    RegisterService,
    Service,
)
from hstore.node.state.catalog.index import CatalogIndex
from hstore.node.state.machine import State
from hstore.node.storage.interface import Identity
from hstore.node.storage.rocks import RocksStorage
from tests.node.state.catalogs import (
    SECOND,
    catalog_register,
    given,
    index_of,
    place,
    register,
    ttl,
)
from tests.node.state.machines import member, run, run_one

MEMBERS = INSTANCES_MAX // SERVICES_OF_NODE_MAX
LOAD_S, REMOVAL_S = 4.0, 0.1
LOADED_BYTES = 120 << 20


def apply(machine: State, made: Iterable[Command]) -> None:
    commands = list(made)
    for first in range(0, len(commands), 500):
        assert all(one.ok for one in run(machine, *commands[first : first + 500]))


def full(number: int, k: int) -> RegisterService:
    checks = given(f"c{k}", "passing", ttl()), given(f"d{k}", "", ttl(SECOND))
    # One place is left for the check of the member itself.
    return register(
        number, f"s{k % 2_000}", *checks[: 1 if k == 0 else 2], id=f"i{k}", tags=("a", "b")
    )


async def test_the_catalog_at_its_bounds(tmp_path: Path) -> None:
    RocksStorage.create(tmp_path / "data", Identity("00" * 8, 1))
    storage = RocksStorage.open(tmp_path / "data", cache_bytes=64 << 20)
    storage.load()
    machine = State(storage.state)
    numbers = range(1, MEMBERS + 1)
    run(machine, InitCluster("ab" * 8, ClusterSettings()))
    apply(machine, (PutMember(member(number)) for number in (*numbers, 99)))
    apply(machine, (catalog_register(f"e{number}") for number in range(EXTERNAL_NODES_MAX)))
    for number in numbers:
        apply(machine, (full(number, k) for k in range(SERVICES_OF_NODE_MAX)))

    def limit(command: Command) -> str:
        outcome = run_one(machine, command)
        assert outcome.denial == Denial.LIMIT
        return outcome.text

    of_all = f"there are {INSTANCES_MAX:,} instances of services, and there may not be more"
    assert limit(register(1, "more")) == "this node has 5,000 services, and may not have more"
    assert limit(register(99, "more")) == of_all
    assert limit(catalog_register("e0", service=Service(0, "more", "more"))) == of_all
    one_more = "there are 10,000 external nodes, and there may not be more"
    assert limit(catalog_register("more")) == one_more
    assert limit(RegisterCheck(place("more", "192.0.2.1"), given("c"))) == one_more
    check = RegisterCheck(place(1), given("more"))
    assert limit(check) == "a node may have 10,000 checks, and this one would have 10,001"
    checks = [given(f"x{k}") for k in range(CHECKS_OF_SERVICE_MAX - 1)]
    apply(machine, [RegisterCheck(place("e0"), given("own"))])
    of_service = RegisterService(place(2), full(2, 1).service, tuple(checks))
    assert limit(of_service) == "a service may have 64 checks, and this one would have 65"
    assert len(index_of(machine).checks_of[1]) == CHECKS_OF_NODE_MAX

    view = machine.snapshot()
    took = []
    for _ in range(3):
        before = time.process_time()
        loaded = CatalogIndex.load(view)
        took.append(time.process_time() - before)
    assert loaded.as_dict() == index_of(machine).as_dict()
    tracemalloc.start()
    again = CatalogIndex.load(view)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert again.names.keys() == loaded.names.keys()
    view.close()
    removals = []
    for number in numbers[:4]:
        before = time.process_time()
        run(machine, RemoveMember(number))
        removals.append(time.process_time() - before)
    print(f"loaded in {min(took):.2f} s, {size >> 20} MiB; a full node goes in {removals}")
    await storage.close()
    assert min(took) < LOAD_S
    assert size < LOADED_BYTES
    assert min(removals) < REMOVAL_S
