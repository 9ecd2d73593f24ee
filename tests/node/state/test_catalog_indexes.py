"""The index of an answer about the catalog that is asked for in a way that is seldom used."""

from __future__ import annotations

from typing import Any

import pytest

from hstore.node.model.commands import (
    ClusterSettings,
    Command,
    InitCluster,
    PutMember,
    RemoveMember,
    ReplaceMember,
)
from hstore.node.state.batch import Batch
from hstore.node.state.catalog import writes as catalog_writes
from hstore.node.state.catalog.nodes import member_uuid
from hstore.node.state.machine import State
from tests.node.state.catalogs import (
    catalog_register,
    deregister,
    given,
    index_of,
    register,
    ttl,
)
from tests.node.state.machines import Now, copy_of, everything, member, new_machine, run


def two_members() -> State:
    machine = new_machine()
    run(machine, InitCluster("ab" * 8, ClusterSettings()), PutMember(member(1)))
    run(machine, PutMember(member(2)))
    return machine


def test_a_node_asked_for_by_its_uuid_keeps_its_index_when_it_is_gone() -> None:
    machine = two_members()

    def uuid(number: int) -> str:
        return f"{number:08x}-0000-0000-0000-{0:012x}"

    def told(text: str) -> int:
        with Now(machine) as now:
            return now.catalog_node_index(text)

    run(machine, catalog_register("web-1", uuid=uuid(1)))
    run(machine, catalog_register("web-1", uuid=uuid(2)))
    assert told(uuid(1)) == told(uuid(2)) == machine.applied
    run(machine, deregister("web-1"))
    assert told(uuid(2)) == told("web-1") == machine.applied
    run(machine, ReplaceMember(member(3, "n3"), 2))
    assert told(member_uuid(2)) == told(member_uuid(3)) == machine.applied
    run(machine, RemoveMember(3))
    assert told(member_uuid(3)) == told("n3") == machine.applied


def test_the_first_member_brings_the_first_service_of_all() -> None:
    machine = new_machine()
    run(machine, InitCluster("ab" * 8, ClusterSettings()), PutMember(member(1)))
    first = machine.applied
    run(machine, PutMember(member(2)), ReplaceMember(member(3), 1), RemoveMember(2))
    run(machine, ReplaceMember(member(4), 3))
    with Now(machine) as now:
        assert now.service_set() == [("consul", [])]
        assert now.service_set_index(is_narrowed=False) == first


@pytest.mark.parametrize("is_one_batch", [False, True])
def test_few_services_go_one_by_one_and_many_by_a_scan_with_the_same_effect(
    monkeypatch: pytest.MonkeyPatch, is_one_batch: bool
) -> None:
    """A scan looks at all that the batch has changed: of a thousand nodes that go, each time."""
    machine = two_members()
    made = [
        register("web-1", f"app{at}", given(f"c{at}", "warning", ttl()), address="192.0.2.1")
        for at in range(3)
    ]
    run(machine, *made[:2])
    twin, scans, scan = copy_of(machine), [], Batch.scan

    def counted(batch: Batch, start: bytes, end: bytes) -> Any:
        scans.append(start)
        return scan(batch, start, end)

    monkeypatch.setattr(Batch, "scan", counted)
    then: list[Command] = [made[2], deregister("web-1", is_catalog=True)]
    for one in (machine, twin):
        outcomes = run(one, *then) if is_one_batch else run(one, then[0]) + run(one, then[1])
        assert all(outcome.ok for outcome in outcomes)
        assert bool(scans) is (one is twin)
        monkeypatch.setattr(catalog_writes, "_SCANNED_ABOVE", 0)
    assert everything(machine) == everything(twin)
    assert index_of(machine).as_dict() == index_of(twin).as_dict()
    with Now(machine) as now:
        assert list(now.instances(b"app0")) == []
