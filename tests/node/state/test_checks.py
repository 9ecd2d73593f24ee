"""Checks of nodes, the list of nodes, and events: what moves an index and what does not."""

from __future__ import annotations

import msgspec
import pytest

from hstore.node.model.checks import AGENT_NOT_LIVE
from hstore.node.model.commands import (
    BecomeOnly,
    ChangeMember,
    Command,
    Outcome,
    PutMember,
    RemoveMember,
    ReplaceMember,
)
from hstore.node.model.user_events import FireEvent, UserEvent
from hstore.node.state import user_events
from hstore.node.state.machine import State
from hstore.node.state.watching.changes import CHECKS, EVENTS, NODES, Change, Wake
from tests.node.state.machines import (
    NODE,
    Now,
    check,
    checks_of,
    copy_of,
    everything,
    member,
    new_machine,
    run,
    run_one,
    serf_health,
)


@pytest.fixture
def machine() -> State:
    machine = new_machine()
    run(machine, PutMember(member(NODE)))
    return machine


def nodes_index(machine: State) -> int:
    with Now(machine) as now:
        return now.nodes_index()


def test_a_new_member_has_a_check_that_is_critical_until_the_leader_knows(machine: State) -> None:
    made = checks_of(machine)["serfHealth"]
    assert (made.status, made.output) == ("critical", AGENT_NOT_LIVE)
    assert (made.create_index, made.modify_index, made.name) == (1, 1, "Serf Health Status")
    assert made.critical_ms > 0

    run(machine, serf_health(), PutMember(member(NODE, "other")))
    assert checks_of(machine)["serfHealth"].status == "passing"


def test_what_a_check_says_already_moves_nothing(machine: State) -> None:
    told: list[Wake] = []
    machine.history.on_wake = lambda wakes: told.extend(one for one in wakes if one[0] == CHECKS)
    assert run_one(machine, check("own")) == Outcome(True, 2)
    before = everything(machine)[:-1]

    assert run_one(machine, check("own")) == Outcome(True, 2)
    assert everything(machine)[:-1] == before
    assert run_one(machine, check("own", "warning")) == Outcome(True, 4)

    found = checks_of(copy_of(machine))["own"]
    assert (found.create_index, found.modify_index, found.critical_ms) == (2, 4, 0)
    assert told == [(CHECKS, NODE.to_bytes(8, "big") + b"own")] * 2, "at indexes 2 and 4"


def test_a_check_that_changes_takes_no_place_in_the_history(machine: State) -> None:
    """No watch reads checks: listeners and waits are told of them at once."""
    end = machine.history.end
    for status in ("warning", "critical", "passing"):
        run(machine, serf_health(status=status))
    assert machine.history.end == end


def test_since_when_a_check_is_critical_stays_while_it_is(machine: State) -> None:
    def at(time_ms: int, status: str, output: str = "") -> None:
        made = check("own", status)
        made = msgspec.structs.replace(
            made, time_ms=time_ms, check=msgspec.structs.replace(made.check, output=output)
        )
        run(machine, made)

    at(100, "critical")
    at(200, "critical", "still")
    assert checks_of(machine)["own"].critical_ms == 100
    at(300, "passing")
    assert checks_of(machine)["own"].critical_ms == 0
    at(400, "critical")
    assert checks_of(machine)["own"].critical_ms == 400


def test_a_check_needs_a_node(machine: State) -> None:
    assert run_one(machine, check("own", node=2)) == Outcome(False, 0, "Missing node registration")


@pytest.mark.parametrize(
    ("command", "moves"),
    [
        (PutMember(member(2)), True),
        (PutMember(member(NODE)), False),
        (ChangeMember(NODE, name="other"), True),
        (ChangeMember(NODE, stopped=True), False),
        (ChangeMember(NODE, learner=True), False),
        (ChangeMember(NODE, addresses=("127.0.0.1:8501", "127.0.0.1:1", "127.0.0.1:2")), False),
        (ChangeMember(NODE, addresses=("127.0.0.1:9", "127.0.0.1:1", "127.0.0.1:2")), True),
        (ReplaceMember(member(2), NODE), True),
        (RemoveMember(NODE), True),
        (RemoveMember(9), False),
        (BecomeOnly("cd" * 8, 9, (NODE,)), True),
        (check("own"), False),
    ],
)
def test_the_list_of_nodes_moves_with_names_and_addresses_only(
    machine: State, command: Command, moves: bool
) -> None:
    told: list[Change] = []
    machine.history.on_add = lambda _, changes: told.extend(changes)
    assert nodes_index(machine) == 1

    assert run_one(machine, command).ok

    assert nodes_index(machine) == nodes_index(copy_of(machine)) == (2 if moves else 1)
    assert bool([one for one in told if one.table == NODES]) == moves


def test_the_indexes_of_a_member_are_those_of_its_writes(machine: State) -> None:
    run(machine, ChangeMember(NODE, stopped=True), ChangeMember(NODE, name="other"))
    known = machine.members[NODE]
    assert (known.create_index, known.modify_index, known.stopped) == (1, 3, True)


def test_what_a_newcomer_says_of_its_number_and_indexes_does_not_count(machine: State) -> None:
    liar = msgspec.structs.replace(member(2), number=NODE, create_index=9, modify_index=9)
    run(machine, PutMember(liar))
    known = machine.members[2]
    assert (known.catalog_number, known.create_index, known.modify_index) == (2, 2, 2)


def test_the_last_events_are_kept_in_their_order(
    machine: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_events, "EVENTS_MAX", 3)
    told: list[Change] = []
    machine.history.on_add = lambda _, changes: told.extend(changes)
    with Now(machine) as now:
        assert now.events_index() == 1
    fired = [UserEvent(b"%d" % n * 16, f"event {n}", b"payload", "node") for n in range(5)]

    outcomes = run(machine, *map(FireEvent, fired))

    assert outcomes[0] == Outcome(True, 2, "30303030-3030-3030-3030-303030303030")
    for one in (machine, copy_of(machine)):
        with Now(one) as now:
            expected = [
                msgspec.structs.replace(event, index=index)
                for index, event in enumerate(fired[2:], 4)
            ]
            assert list(now.events()) == expected
            assert now.events_index() == 6
    assert [(one.table, one.key, one.revision) for one in told] == [
        (EVENTS, b"", index) for index in range(2, 7)
    ]
