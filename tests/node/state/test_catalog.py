"""Services, checks and external nodes: what each command does, refuses, and leaves as it is."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hstore.node.errors import BadFrame
from hstore.node.model import commands
from hstore.node.model.checks import (
    NODE_MAINTENANCE,
    SERVICE_MAINTENANCE,
    Check,
    CheckDefinition,
    SetCheck,
)
from hstore.node.model.commands import (
    ChangeMember,
    ClusterSettings,
    Denial,
    InitCluster,
    Outcome,
    PutMember,
    RemoveMember,
    ReplaceMember,
)
from hstore.node.model.services import (
    AssignNodes,
    CheckResult,
    DeregisterCritical,
    GivenCheck,
    RegisterCheck,
    Service,
    UpdateChecks,
)
from hstore.node.state.catalog import services
from hstore.node.state.catalog.records import fold
from hstore.node.state.intact import StateCheck
from hstore.node.state.machine import State
from hstore.node.state.reader import Reader
from hstore.node.state.watching.changes import CHECKS, NODES, SERVICES, Wake
from hstore.node.state.watching.watches import Watches
from tests.fakes.catalog import FakeCatalog
from tests.node.state.catalogs import (
    catalog_register,
    deregister,
    given,
    http,
    index_of,
    place,
    register,
    result,
    ttl,
)
from tests.node.state.machines import (
    Now,
    checks_of,
    create,
    everything,
    member,
    new_machine,
    new_storage,
    run,
    run_one,
    serf_health,
    session,
)

MINUTE_MS = 60_000


@pytest.fixture
def machine() -> State:
    """A cluster of two healthy members."""
    made = new_machine()
    run(
        made, InitCluster("ab" * 8, ClusterSettings()), PutMember(member(1)), PutMember(member(2)),
        serf_health(node=1), serf_health(node=2),
    )  # fmt: skip
    return made


def external(machine: State, name: str = "web-1") -> int:
    return index_of(machine).numbers[fold(name)]


def service(machine: State, node: int, service_id: str) -> Service | None:
    with Now(machine) as now:
        return now.service(node, service_id)


def ids(machine: State, name: str) -> list[tuple[str, str]]:
    with Now(machine) as now:
        return [(one.node.name, one.service.id) for one in now.instances(fold(name))]


def index(machine: State, name: str) -> int:
    with Now(machine) as now:
        return now.service_index(fold(name))


def register_check(node: int | str, check: GivenCheck, address: str = "") -> RegisterCheck:
    return RegisterCheck(place(node, address), check)


def refused(outcome: Outcome, denial: Denial, text: str = "") -> bool:
    return not outcome.ok and outcome.denial == denial and text in outcome.text


# --- registering -------------------------------------------------------------------------------------


def test_a_service_and_its_check_are_there_with_the_index_of_the_entry(machine: State) -> None:
    outcome = run_one(machine, register(1, "web", given("c", "", ttl()), tags=("v1",), port=80))
    assert outcome == Outcome(True, machine.applied)
    at = machine.applied
    assert service(machine, 1, "web") == Service(
        1, "web", "web", ("v1",), port=80, checks=("c",), create_index=at, modify_index=at
    )
    assert checks_of(machine)["c"] == Check(
        1, "c", "c", "critical", "", 1, at, at, "web", "", ttl(), at
    )
    assert index(machine, "web") == at
    assert ids(machine, "WEB") == [("n1", "web")]


def test_what_is_so_already_moves_no_index_and_wakes_nobody(machine: State) -> None:
    command = register(1, "web", given("c", "", ttl()), tags=("v1",))
    run(machine, command)
    before, at = everything(machine), machine.applied
    told: list[Wake] = []
    machine.history.on_wake = told.extend
    assert run_one(machine, command).ok
    assert not told
    assert everything(machine)[:-1] == before[:-1]  # but for the applied index
    assert index(machine, "web") == at


def test_a_status_that_is_given_again_starts_a_ttl_again_and_nothing_else(machine: State) -> None:
    command = register(1, "web", given("c", "passing", ttl()))
    run(machine, command)
    at = machine.applied
    told: list[Wake] = []
    machine.history.on_wake = told.extend
    run(machine, command)
    found = checks_of(machine)["c"]
    assert (found.told, found.modify_index, index(machine, "web")) == (machine.applied, at, at)
    assert [table for table, _ in told] == [CHECKS]


@pytest.mark.parametrize(
    ("again", "status", "output"),
    [
        (given("c", "", ttl(), notes="other"), "warning", "word"),
        (given("c", "", ttl(99)), "warning", "word"),
        (given("c", "passing", ttl()), "passing", ""),
        (given("c", "", http()), "critical", ""),
        (given("c"), "critical", ""),
    ],
)
def test_a_check_keeps_its_status_while_it_is_of_the_same_kind_and_none_is_given(
    machine: State, again: GivenCheck, status: str, output: str
) -> None:
    run(machine, register(1, "web", given("c", "", ttl())))
    one = result(machine, 1, "c", "warning", "word")
    run(machine, UpdateChecks(1, (one,)), register(1, "web", again))
    found = checks_of(machine)["c"]
    assert (found.status, found.output, found.modify_index) == (status, output, machine.applied)


def test_only_another_definition_is_defined_anew(machine: State) -> None:
    run(machine, register(1, "web", given("c", "", ttl())))
    at = machine.applied
    run(machine, register(1, "web", given("c", "warning", ttl(), notes="n")))
    assert checks_of(machine)["c"].defined == at
    run(machine, register(1, "web", given("c", "", ttl(11))))
    assert checks_of(machine)["c"].defined == machine.applied


def test_checks_that_are_not_named_stay_unless_they_are_replaced(machine: State) -> None:
    run(machine, register(1, "web", given("a"), given("b")))
    run(machine, register(1, "web", given("c")))
    assert set(checks_of(machine)) == {"serfHealth", "a", "b", "c"}
    found = service(machine, 1, "web")
    assert found is not None
    assert found.checks == ("a", "b", "c")
    run(machine, register(1, "web", given("b"), replaces=True))
    assert set(checks_of(machine)) == {"serfHealth", "b"}
    assert index(machine, "web") == machine.applied


def test_a_service_under_another_name_leaves_the_old_one(machine: State) -> None:
    run(machine, register(1, "web", id="a"), register(1, "db", id="a"))
    assert ids(machine, "web") == []
    assert ids(machine, "db") == [("n1", "a")]
    # The name that is gone has the index of its end, and keeps it.
    gone = machine.applied
    run(machine, register(1, "other"))
    assert index(machine, "web") == gone
    assert machine.service_index(b"web") == 0


def test_names_are_found_without_regard_to_ascii_case_and_shown_as_first_written(
    machine: State,
) -> None:
    run(machine, register(1, "Web", id="a"), register(2, "web", id="b"))
    run(machine, register(1, "ä"), register(1, "Ä"))
    with Now(machine) as now:
        assert now.service_name(b"web") == "Web"
        assert [one.service.name for one in now.instances(b"web")] == ["Web", "Web"]
        assert [name for name, _ in now.service_set()] == ["Web", "consul", "Ä", "ä"]


def test_a_check_of_another_service_becomes_this_services(machine: State) -> None:
    run(machine, register(1, "web", given("c")), register(1, "db", given("c")))
    web, db = service(machine, 1, "web"), service(machine, 1, "db")
    assert web is not None
    assert db is not None
    assert (web.checks, db.checks) == ((), ("c",))
    assert index(machine, "web") == index(machine, "db") == machine.applied


def test_tags_of_the_catalog_stay_while_the_agent_gives_those_it_gave_before(
    machine: State,
) -> None:
    own = register(1, "web", tags=("v1",), tag_override=True)
    run(machine, own)
    given_ = Service(0, "web", "web", ("canary",), tag_override=True)
    assert run_one(machine, catalog_register("N1", service=given_)).ok
    run(machine, own)
    found = service(machine, 1, "web")
    assert found is not None
    assert (found.tags, found.agent_tags) == (("canary",), ("v1",))
    run(machine, register(1, "web", tags=("v2",), tag_override=True))
    found = service(machine, 1, "web")
    assert found is not None
    assert (found.tags, found.agent_tags) == (("v2",), None)


def test_who_changes_tags_in_the_catalog_need_not_say_all_else_again(machine: State) -> None:
    run(machine, register(1, "web", tags=("v1",), port=80, meta=(("k", "v"),), tag_override=True))
    before = service(machine, 1, "web")
    assert before is not None
    given_ = Service(0, "web", "WEB", ("canary",))
    assert run_one(machine, catalog_register("n1", service=given_)).ok
    found = service(machine, 1, "web")
    changed = {"tags": ("canary",), "agent_tags": ("v1",), "modify_index": machine.applied}
    assert found == msgspec.structs.replace(before, **changed)
    other = msgspec.structs.replace(given_, tags=("x",), port=81)
    assert refused(run_one(machine, catalog_register("n1", service=other)), Denial.MEMBER, "")


@pytest.mark.parametrize("name", ["web", "consul"])
def test_what_members_are_nobody_can_register(machine: State, name: str) -> None:
    taken = register(1, name, id="consul")
    assert refused(run_one(machine, taken), Denial.PROTECTED, "give it another name and ID")
    own = register_check(1, given("serfHealth"))
    assert refused(run_one(machine, own), Denial.PROTECTED, "kept by the leader")


def test_a_place_that_is_not_there_is_refused(machine: State) -> None:
    text = "Missing node registration"
    assert refused(run_one(machine, register(9, "web")), Denial.NO_NODE, text)
    assert refused(run_one(machine, register("web-1", "web")), Denial.NO_NODE, text)
    # A member's name is resolved before.
    named = register("N1", "web", address="192.0.2.1")
    assert refused(run_one(machine, named), Denial.NO_NODE, text)
    lost = register_check(1, given("c", service="web"))
    assert refused(run_one(machine, lost), Denial.NO_SERVICE_OF_CHECK, "web")


# --- bounds ------------------------------------------------------------------------------------------


def test_each_bound_is_named(machine: State, monkeypatch: pytest.MonkeyPatch) -> None:
    for bound, value in (
        ("SERVICES_OF_NODE_MAX", 2), ("INSTANCES_MAX", 3), ("EXTERNAL_NODES_MAX", 1),
        ("CHECKS_OF_SERVICE_MAX", 2), ("CHECKS_OF_NODE_MAX", 4),
    ):  # fmt: skip
        monkeypatch.setattr(services, bound, value)

    def limit(command: object) -> str:
        outcome = run_one(machine, command)  # type: ignore[arg-type]
        assert refused(outcome, Denial.LIMIT)
        return outcome.text

    run(machine, register(1, "a"), register(1, "b"))
    assert limit(register(1, "c")) == "this node has 2 services, and may not have more"
    assert run_one(machine, register(1, "b", port=1)).ok
    run(machine, register(2, "c"))
    everywhere = "there are 3 instances of services, and there may not be more"
    assert limit(register(2, "d")) == everywhere
    assert limit(catalog_register("web-1", service=Service(0, "d", "d"))) == everywhere
    assert not index_of(machine).externals
    run(machine, catalog_register("web-1"))
    one_more = "there are 1 external nodes, and there may not be more"
    assert limit(catalog_register("web-2")) == one_more
    assert limit(register_check("web-2", given("c"), "192.0.2.1")) == one_more
    three = [given(name) for name in "xyz"]
    assert (
        limit(register(1, "a", *three)) == "a service may have 2 checks, and this one would have 3"
    )
    run(machine, register(1, "a", *three[:2]), register(1, "b", given("p")))
    assert (
        limit(register_check(1, given("q")))
        == "a node may have 4 checks, and this one would have 5"
    )
    # What goes makes room for what comes.
    assert run_one(machine, register(1, "a", given("q"), given("r"), replaces=True)).ok


# --- deregistering -----------------------------------------------------------------------------------


def test_a_service_goes_with_its_checks(machine: State) -> None:
    run(machine, register(1, "web", given("c")), register_check(1, given("own")))
    assert run_one(machine, deregister(1, "web")) == Outcome(True, machine.applied)
    assert set(checks_of(machine)) == {"serfHealth", "own"}
    assert service(machine, 1, "web") is None
    assert index(machine, "web") == machine.applied


def test_what_is_not_there_is_an_error_for_agents_only(machine: State) -> None:
    assert refused(run_one(machine, deregister(1, "web")), Denial.NO_SERVICE)
    assert refused(run_one(machine, deregister("web-1", "web")), Denial.NO_SERVICE)
    assert refused(run_one(machine, deregister(1, check="c")), Denial.NO_CHECK)
    assert refused(run_one(machine, deregister(1, check="serfHealth")), Denial.NO_CHECK)
    under_maintenance = deregister(1, check="_service_maintenance:web")
    assert refused(run_one(machine, under_maintenance), Denial.NO_SERVICE)
    run(machine, register(1, "web"))
    assert refused(run_one(machine, under_maintenance), Denial.NO_CHECK)
    run(machine, deregister(1, "web"))
    for command in (
        deregister(1, "web", is_catalog=True),
        deregister(1, check="c", is_catalog=True),
        deregister("web-1", is_catalog=True),
    ):
        assert run_one(machine, command) == Outcome(True, 0)


def test_what_belongs_to_a_member_is_protected_from_the_catalog(machine: State) -> None:
    for command, text in (
        (deregister(1, is_catalog=True), "n1 is a member: use leave"),
        (deregister("N1", is_catalog=True), "n1 is a member: use leave"),
        (deregister(1, check="serfHealth", is_catalog=True), "serfHealth of a member cannot be"),
        (deregister(1, "consul", is_catalog=True), "the service consul of a member cannot be"),
    ):
        assert refused(run_one(machine, command), Denial.PROTECTED, text)


def test_a_node_made_by_a_registration_goes_with_its_last_service(machine: State) -> None:
    run(machine, register("web-1", "web", address="192.0.2.1"), register("web-1", "db"))
    number = external(machine)
    run(machine, register_check("web-1", given("own")))
    with Now(machine) as now:
        node = now.catalog_node("WEB-1")
        assert node is not None
        assert (node.address, node.meta) == ("192.0.2.1", (("external-node", "true"),))
    assert number >> 63 == 1
    run(machine, AssignNodes(((number, 1),)), deregister("web-1", "web"))
    assert number in machine.node_numbers
    run(machine, deregister("web-1", "db"))
    assert number not in machine.node_numbers
    assert not index_of(machine).externals
    assert not index_of(machine).owners
    assert checks_of(machine, number) == {}
    with Now(machine) as now:
        assert now.catalog_node_index("web-1") == machine.applied


def test_a_node_made_by_a_check_goes_with_its_last_check(machine: State) -> None:
    run(machine, register_check("web-1", given("a"), "192.0.2.1"))
    run(machine, register_check("web-1", given("b")), deregister("web-1", check="a"))
    assert external(machine)
    run(machine, deregister("web-1", check="b"))
    assert not index_of(machine).externals


def test_a_node_of_the_catalog_stays_without_services(machine: State) -> None:
    run(machine, catalog_register("web-1", service=Service(0, "web", "web")))
    run(machine, deregister("web-1", "web", is_catalog=True))
    assert external(machine)
    run(machine, deregister("WEB-1", is_catalog=True))
    assert not index_of(machine).externals


# --- the catalog -------------------------------------------------------------------------------------


def test_a_node_keeps_its_uuid_and_its_name_as_first_written_and_nothing_else(
    machine: State,
) -> None:
    uuid = f"{7:08x}-0000-0000-0000-{0:012x}"
    first = catalog_register("Web-1", uuid=uuid, meta=(("a", "b"),))
    run(machine, first, catalog_register("web-1", "192.0.2.9"))
    with Now(machine) as now:
        for text in ("web-1", "WEB-1", uuid, uuid.upper()):
            node = now.catalog_node(text)
            assert node is not None
            assert (node.name, node.uuid, node.address, node.meta) == (
                "Web-1", uuid, "192.0.2.9", (),
            )  # fmt: skip
            assert node.modify_index == machine.applied
    run(machine, catalog_register("web-1", "192.0.2.5", keeps_node=True))
    assert index_of(machine).externals[external(machine)].address == "192.0.2.9"


def test_two_nodes_cannot_have_one_uuid(machine: State) -> None:
    uuid = f"{7:08x}-0000-0000-0000-{0:012x}"
    run(machine, catalog_register("a", uuid=uuid))
    text = f'Invalid node ID: "{uuid}" is that of a'
    assert refused(run_one(machine, catalog_register("b", uuid=uuid)), Denial.LIMIT, text)
    members = "00000000-0000-0000-0000-000000000002"
    text = f'Invalid node ID: "{members}" is that of n2'
    assert refused(run_one(machine, catalog_register("b", uuid=members)), Denial.LIMIT, text)
    with Now(machine) as now:
        node = now.catalog_node(members)
        assert node is not None
        assert (node.name, node.is_member) == ("n2", True)


def test_checks_are_as_the_catalog_gives_them(machine: State) -> None:
    command = catalog_register(
        "web-1",
        service=Service(0, "web", "web"),
        checks=(given("own", "passing"), given("c", "warning", service="web", output="slow")),
    )
    run(machine, command)
    number = external(machine)
    found = checks_of(machine, number)
    assert found["c"].output == "slow"
    at = machine.applied
    run(machine, command)
    assert checks_of(machine, number) == found
    assert index(machine, "web") == at
    # No status counts as critical, also again.
    run(machine, catalog_register("web-1", checks=(given("own"),)))
    assert checks_of(machine, number)["own"].status == "critical"
    assert index(machine, "web") == machine.applied
    lost = catalog_register("web-1", checks=(given("d", service="db"),))
    assert refused(run_one(machine, lost), Denial.NO_SERVICE_OF_CHECK, "db")


def test_of_two_checks_with_one_id_the_later_one_counts(machine: State) -> None:
    a, b = Service(0, "a", "a"), Service(0, "b", "b")
    run(machine, catalog_register("web-1", service=b))
    run(machine, catalog_register("web-1", service=a, checks=(given("c", service="a"),)))
    twice = given("c", service="b"), given("c", service="a")
    run(machine, catalog_register("web-1", service=a, checks=twice))
    number = external(machine)
    assert checks_of(machine, number)["c"].service == "a"
    found = {one: service(machine, number, one) for one in "ab"}
    assert {one: each and each.checks for one, each in found.items()} == {"a": ("c",), "b": ()}


def test_a_members_things_are_registered_through_the_member(machine: State) -> None:
    run(machine, register(1, "web"), register(1, "db", tag_override=True))
    text = "n1 is a member: register through its agent"
    for command in (
        catalog_register("N1"),
        catalog_register("n1", service=Service(0, "web", "web", ("v2",))),
        catalog_register("n1", service=Service(0, "new", "new")),
        catalog_register("n1", service=Service(0, "db", "db", port=1, tag_override=True)),
        catalog_register("n1", checks=(given("c"),)),
    ):
        assert refused(run_one(machine, command), Denial.MEMBER, text)


# --- results of checks -------------------------------------------------------------------------------


def test_only_results_of_the_owner_and_of_the_definition_in_the_log_count(machine: State) -> None:
    run(machine, register(1, "web", given("c", "", ttl())), register_check(1, given("m")))
    good = result(machine, 1, "c", "passing", "fine")
    older = msgspec.structs.replace(good, defined=good.defined - 1)
    for command in (
        UpdateChecks(2, (good,)),
        UpdateChecks(1, (older,)),
        UpdateChecks(1, (CheckResult(1, "none", 0, "passing", ""),)),
        UpdateChecks(1, (CheckResult(1, "m", 0, "passing", ""),)),
    ):
        assert run_one(machine, command) == Outcome(True, 0)
    assert run_one(machine, UpdateChecks(1, (good,))) == Outcome(True, machine.applied)
    found = checks_of(machine)["c"]
    assert (found.status, found.output, found.modify_index) == ("passing", "fine", machine.applied)
    assert index(machine, "web") == machine.applied
    assert run_one(machine, UpdateChecks(1, (good,))) == Outcome(True, 0)


def test_the_checks_of_an_external_node_are_its_owners(machine: State) -> None:
    run(
        machine,
        register("web-1", "web", given("h", "", http()), given("t", "", ttl()), address="a"),
    )
    number = external(machine)
    by_http, by_ttl = (result(machine, number, one, "passing") for one in "ht")
    assert run_one(machine, UpdateChecks(1, (by_http,))).revision == 0
    assert run_one(machine, UpdateChecks(9, (by_ttl,))).revision == 0
    assert run_one(machine, UpdateChecks(2, (by_ttl,))).revision
    run(machine, AssignNodes(((number, 1), (99, 1))), AssignNodes(((number, 99),)))
    assert index_of(machine).owners == {number: 1}
    assert run_one(machine, UpdateChecks(2, (by_http,))).revision == 0
    assert run_one(machine, UpdateChecks(1, (by_http,))).revision
    run(machine, AssignNodes(((number, 0),)))
    assert index_of(machine).owners == {}


def test_a_service_that_was_critical_for_too_long_goes_once(machine: State) -> None:
    definition = ttl(deregister_after_ms=MINUTE_MS)
    run(machine, register(1, "web", given("c", "", definition), time_ms=1_000))
    seen = checks_of(machine)["c"].modify_index
    # A change of the output alone does not begin anew.
    run(machine, UpdateChecks(1, (result(machine, 1, "c", "critical", "x"),), 50_000))
    now = checks_of(machine)["c"]
    assert (now.critical_ms, now.modify_index) == (1_000, machine.applied)
    due = 1_000 + MINUTE_MS
    assert not run_one(machine, DeregisterCritical(1, "c", now.modify_index, due - 1)).ok
    assert not run_one(machine, DeregisterCritical(1, "c", seen, due)).ok
    assert run_one(machine, DeregisterCritical(1, "c", now.modify_index, due)).ok
    assert not run_one(machine, DeregisterCritical(1, "c", now.modify_index, due)).ok
    assert service(machine, 1, "web") is None


@pytest.mark.parametrize("definition", [None, ttl(), http()])
def test_a_service_without_such_a_time_stays(
    machine: State, definition: CheckDefinition | None
) -> None:
    run(machine, register(1, "web", given("c", "critical", definition)))
    seen = checks_of(machine)["c"].modify_index
    assert not run_one(machine, DeregisterCritical(1, "c", seen, 10**9)).ok


def test_a_member_that_took_anothers_place_runs_its_checks(machine: State) -> None:
    run(machine, register(1, "web", given("c", "", ttl())), ReplaceMember(member(5), 1))
    good = result(machine, 1, "c", "passing")
    assert run_one(machine, UpdateChecks(5, (good,))).revision
    assert ids(machine, "web") == [("n1", "web")]


def test_maintenance_is_a_check_that_nobody_runs(machine: State) -> None:
    maintenance = CheckDefinition("maintenance")
    of_service = SERVICE_MAINTENANCE + "web"

    def on(check_id: str, service_id: str, notes: str) -> RegisterCheck:
        one = given(check_id, "critical", maintenance, service=service_id, notes=notes)
        return register_check(1, one)

    run(machine, register(1, "web"), on(NODE_MAINTENANCE, "", "a"), on(of_service, "web", "b"))
    found = checks_of(machine)
    assert (found[of_service].status, found[of_service].service) == ("critical", "web")
    assert (found[NODE_MAINTENANCE].notes, found[NODE_MAINTENANCE].service) == ("a", "")
    run(machine, on(NODE_MAINTENANCE, "", "other"))
    assert checks_of(machine)[NODE_MAINTENANCE].notes == "other"
    assert index(machine, "web") == machine.applied
    said = result(machine, 1, of_service, "passing")
    assert run_one(machine, UpdateChecks(1, (said,))).revision == 0
    # It outlives a registration, which does not name it.
    run(machine, register(1, "web", given("c")))
    assert of_service in checks_of(machine)
    run(machine, deregister(1, check=of_service), deregister(1, check=NODE_MAINTENANCE))
    assert set(checks_of(machine)) == {"serfHealth", "c"}


# --- nodes -------------------------------------------------------------------------------------------


def test_a_member_that_goes_takes_its_services_and_checks_along(machine: State) -> None:
    run(machine, register(1, "web", given("c")), register(2, "web"), register(1, "db"))
    run(machine, RemoveMember(1))
    assert ids(machine, "web") == [("n2", "web")]
    assert ids(machine, "db") == []
    assert checks_of(machine, 1) == {}
    assert index(machine, "web") == index(machine, "db") == machine.applied
    with Now(machine) as now:
        assert now.catalog_node_index("n1") == now.check_states_index("critical") == machine.applied
        assert now.service_set_index(is_narrowed=False) == machine.applied


def test_a_renamed_member_moves_what_shows_its_name(machine: State) -> None:
    run(machine, register(1, "web", given("c", "warning")), ChangeMember(1, name="m1"))
    with Now(machine) as now:
        at = machine.applied
        assert now.service_index(b"web") == now.catalog_node_index("n1") == at
        assert now.check_states_index("warning") == now.check_states_index("any") == at
        assert now.check_states_index("critical") < at
        assert now.service_set_index(is_narrowed=False) < at
        assert now.service_set_index(is_narrowed=True) == at


def test_members_and_external_nodes_share_one_namespace(machine: State) -> None:
    run(machine, catalog_register("N3"), PutMember(member(3)))
    assert machine.members[3].name == "n4"
    outcome = run_one(machine, PutMember(member(6, "n3")))
    assert outcome.text == "the name n3 is taken by an external node"
    outcome = run_one(machine, ChangeMember(1, name="n3"))
    assert outcome.text == "the name n3 is taken by an external node"
    number = external(machine, "N3")
    outcome = run_one(machine, PutMember(member(number, "x", port=9000)))
    assert "is that of an external node" in outcome.text


def test_the_number_of_an_external_node_is_no_members(machine: State) -> None:
    # As if it had been drawn at random.
    clash = 1 << 63 | (machine.applied + 2) << 8
    run(machine, PutMember(member(clash, "x", port=9000)), catalog_register("web-1"))
    assert external(machine) == clash + 1


def test_every_member_is_the_service_consul(machine: State) -> None:
    at = index(machine, "consul")
    with Now(machine) as now:
        found = now.instances(b"consul")
        assert [(one.node.name, one.service.port) for one in found] == [("n1", 8501), ("n2", 8502)]
        assert now.service_set() == [("consul", [])]
        assert now.nodes_of_service(b"consul") == machine.nodes_of_service(b"consul") == (1, 2)
    run(machine, register(1, "web"), catalog_register("ext"), register("hall", "tv", address="a"))
    assert index(machine, "consul") == at
    for moving in (serf_health("critical", 2), ChangeMember(2, name="n9"), RemoveMember(2)):
        assert run_one(machine, moving).ok
        assert index(machine, "consul") == machine.applied


def test_the_health_of_a_node_counts_for_each_of_its_services(machine: State) -> None:
    run(machine, register(1, "web"), register(2, "db"))
    run(machine, serf_health("critical", 1))
    assert index(machine, "web") == machine.service_index(b"web") == machine.applied
    assert index(machine, "db") < machine.applied


# --- sessions ----------------------------------------------------------------------------------------


def test_a_session_depends_on_checks_of_services_too(machine: State) -> None:
    run(machine, register(1, "web", given("c", "passing"), given("d")))
    lost = msgspec.structs.replace(session("s"), service_checks=("none",))
    outcome = run_one(machine, msgspec.structs.replace(create("s"), session=lost))
    assert outcome.text == "Missing check 'none' registration"
    ill = msgspec.structs.replace(session("s"), service_checks=("c", "d"))
    outcome = run_one(machine, msgspec.structs.replace(create("s"), session=ill))
    assert outcome.text == "Check 'd' is in critical state"
    well = msgspec.structs.replace(session("s"), service_checks=("c",))
    assert run_one(machine, msgspec.structs.replace(create("s"), session=well)).ok


# --- who is told -------------------------------------------------------------------------------------


def test_listeners_are_called_before_waits_and_when_a_snapshot_came(machine: State) -> None:
    watches = Watches(machine.history)
    told: list[object] = []

    def hear(table: object, key: bytes) -> None:
        told.append((table, key))

    listener = watches.listen({SERVICES, NODES}, hear, lambda: told.append("anew"))
    watches.once(SERVICES, b"web", lambda: told.append("wait"))
    run(machine, register(1, "web"))
    assert told == [(SERVICES, b"web"), "wait"]
    run(machine, catalog_register("web-1"))
    assert told[2:] == [(NODES, external(machine).to_bytes(8, "big"))]
    machine.reload()
    assert told[3:] == ["anew"]
    listener.close()
    listener.close()
    run(machine, register(1, "web", port=1))
    machine.reload()
    assert len(told) == 4


def test_a_set_check_cannot_make_a_check_of_a_service(machine: State) -> None:
    made = Check(1, "c", "c", "passing", service="web", definition=ttl(), told=9)
    run(machine, SetCheck(made))
    found = checks_of(machine)["c"]
    assert (found.service, found.definition, found.told) == ("", None, 0)


# --- a whole state -----------------------------------------------------------------------------------


def test_a_state_whose_records_do_not_belong_together_is_refused(machine: State) -> None:
    run(machine, register(1, "web", given("c")), catalog_register("web-1"))
    number = external(machine)
    run(machine, AssignNodes(((number, 1),)))
    pairs = dict(everything(machine))

    def look(changed: dict[bytes, bytes | None]) -> None:
        check = StateCheck()
        mixed = {**pairs, **changed}
        check.take([(key, value) for key, value in sorted(mixed.items()) if value is not None])
        check.end(machine.applied, machine.applied_term)

    look({})
    node = (1).to_bytes(8, "big")
    for changed in (
        {b"bweb": None},
        {b"bother": pairs[b"bweb"]},
        {b"bother": pairs[b"bweb"][:8] + b"other"},
        {b"u" + node + b"web": None},
        {b"c" + node + b"c": None},
        {b"j" + (9).to_bytes(8, "big"): pairs[b"j" + node]},
        {b"j" + node: b"short"},
        {b"o" + node: pairs[b"o" + number.to_bytes(8, "big")]},
        {b"g" + number.to_bytes(8, "big"): None},
        {b"ac": b"short"},
        {b"u" + node + b"x": pairs[b"u" + node + b"web"]},
    ):
        with pytest.raises(BadFrame):
            look(changed)  # type: ignore[arg-type]


def test_what_was_written_before_there_were_services_is_read() -> None:
    machine = new_machine()
    run(machine, InitCluster("ab" * 8, ClusterSettings()), PutMember(member(1)))
    node = (1).to_bytes(8, "big")
    old: dict[str, Any] = {
        "node": 1, "id": "serfHealth", "name": "Serf Health Status", "status": "passing",
        "output": "Agent alive and reachable", "critical_ms": 0, "create_index": 2,
        "modify_index": 2,
    }  # fmt: skip
    pairs = dict(everything(machine))
    del pairs[b"ac"], pairs[b"j" + node]
    pairs[b"c" + node + b"serfHealth"] = msgspec.msgpack.encode(old)
    storage = new_storage()
    storage.state.write(list(pairs.items()))
    machine = State(storage.state)
    assert checks_of(machine)["serfHealth"].status == "passing"
    with Now(machine) as now:
        assert now.service_index(b"consul") == now.catalog_node_index("n1") == 2
        assert now.check_states_index("any") == now.service_set_index(is_narrowed=False) == 1
    check = StateCheck()
    check.take(everything(machine))
    check.end(machine.applied, machine.applied_term)
    assert run_one(machine, register(1, "web")).ok
    entry = msgspec.msgpack.encode(["C", {**old, "status": "critical"}, 7])
    command = commands.decode(entry)
    assert command == SetCheck(Check(**{**old, "status": "critical"}), 7)
    assert run_one(machine, command).ok


def test_the_fake_catalog_shows_what_a_state_shows(machine: State) -> None:
    fake = FakeCatalog()
    fake.add_member(1, "n1", "127.0.0.1")
    fake.add_member(2, "n2", "127.0.0.1")
    number = fake.add_external("Web-1", "192.0.2.1", uuid=f"{7:08x}-0000-0000-0000-{0:012x}")
    run(machine, catalog_register("Web-1", uuid=f"{7:08x}-0000-0000-0000-{0:012x}"))
    numbers = {1: 1, 2: 2, external(machine): number}
    for node, name, tags in (
        (2, "web", ("b",)),
        (external(machine), "Web", ("a",)),
        (1, "web", ()),
    ):
        run(machine, register("web-1" if node > 2 else node, name, tags=tags))
        fake.register(numbers[node], name, tags=tags)
    run(machine, register_check(1, given("own", "warning")))
    fake.check(1, "own", "warning")
    run(machine, register(2, "web", given("c", "passing"), tags=("b",)))
    fake.check(2, "c", "passing", service="web")

    def seen(reader: Reader | FakeCatalog) -> object:
        found = reader.instances(b"web")
        return (
            [
                (one.node.name, one.node.is_member, one.service.id, one.service.tags)
                for one in found
            ],
            [[check.id for check in reader.service_checks(one.service)] for one in found],
            [[check.id for check in reader.node_checks(one.node.number)] for one in found],
            [node.name for node in reader.catalog_nodes()],
            reader.service_set(),
            reader.service_name(b"web"),
            [one.node.name for one in reader.instances(b"consul")],
            [node and node.name for node in map(reader.catalog_node, ("WEB-1", "n1", "none"))],
            [check.id for check in reader.every_check()],
        )

    with Now(machine) as now:
        assert seen(fake) == seen(now)
    told: list[Wake] = []
    fake.listen({SERVICES}, lambda table, key: told.append((table, key)), lambda: None)
    before = fake.service_index(b"web")
    fake.deregister(number, "Web")
    assert fake.service_index(b"web") > before
    assert told == [(SERVICES, b"web")]
    fake.remove_node(2)
    assert [one.node.name for one in fake.instances(b"web")] == ["n1"]
    assert fake.service_index(b"none") == 0
