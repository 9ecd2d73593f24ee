"""The index of an answer about the catalog that is asked for in a way that is seldom used."""

from __future__ import annotations

from hstore.node.model.commands import (
    ClusterSettings,
    InitCluster,
    PutMember,
    RemoveMember,
    ReplaceMember,
)
from hstore.node.state.machine import State
from hstore.node.state.nodes import member_uuid
from tests.node.state.catalogs import catalog_register, deregister
from tests.node.state.machines import Now, member, new_machine, run


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
