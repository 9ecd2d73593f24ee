"""Reads of the catalog that wait: which change answers which, and that no other does (2.3, 5)."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from hstore.node.api.dialect.questions import LocalWait
from hstore.node.errors import NoLeader
from hstore.node.model.checks import SERF_HEALTH, CheckDefinition
from hstore.node.model.commands import ChangeMember, Member, Put, PutMember
from tests.node.api.consul.conftest import OWN, waits

TTL = CheckDefinition(kind="ttl", ttl_ns=10**10)
OF_A_SERVICE = ["health/service/web", "health/checks/web", "catalog/service/web",
                "health/connect/web", "health/service/web?passing", "catalog/service/WEB?tag=x",
                "health/service/web?filter=Service.ID==nope"]  # fmt: skip


def with_index(path, index):
    return f"/v1/{path}{'&' if '?' in path else '?'}index={index}&wait=10m"


async def is_answered(client):
    await trio.testing.wait_all_tasks_blocked()
    with trio.move_on_after(0):
        await client.read_until(b"\r\n")
        return True
    return False


async def woken(client):
    """Read the answer that a change has brought: no time has passed."""
    answer = await client.response()
    assert answer.status == 200
    assert trio.current_time() == 0
    return answer


async def asleep(client, path):
    """Read, and then wait for the next change; return the index."""
    first = await client.request("GET", f"/v1/{path}")
    assert first.status == 200, first
    await waits(client, with_index(path, first.index))
    return first.index


def changes_of_web(catalog, backend, external):
    """Each moves the index of the service `web`, which is on n1."""
    return [
        lambda: catalog.register(OWN, "web", "web-2"),
        lambda: catalog.register(OWN, "web", "web-2", tags=("x",)),
        lambda: catalog.register(external, "WEB", "web-3"),
        lambda: catalog.check(OWN, "c", "passing", service="web-2"),
        lambda: catalog.check(OWN, "c", "warning", service="web-2"),
        lambda: catalog.check(OWN, "disk", "critical"),
        lambda: catalog.check(external, "cpu", "critical"),
        lambda: backend.check(OWN, SERF_HEALTH, "critical", "Serf Health Status"),
        lambda: backend.renamed(OWN, "n9"),
        lambda: catalog.remove_check(OWN, "c"),
        lambda: catalog.remove_check(OWN, "disk"),
        lambda: catalog.deregister(OWN, "web-2"),
        lambda: catalog.remove_node(external),
        lambda: catalog.deregister(OWN, "web"),
        lambda: catalog.register(OWN, "Web", "again"),
    ]


@pytest.mark.parametrize("path", OF_A_SERVICE)
async def test_a_read_of_a_service_is_answered_by_each_change_of_it(
    client, backend, catalog, path, autojump_clock
):
    external = catalog.add_external("ext", "192.0.2.1")
    catalog.register(OWN, "web", tags=("x",))
    for number, change in enumerate(changes_of_web(catalog, backend, external)):
        index = await asleep(client, path)
        change()
        answer = await woken(client)
        assert answer.index == backend.applied_index > index, number


@pytest.mark.parametrize("path", OF_A_SERVICE)
async def test_and_by_no_other(client, backend, catalog, path, autojump_clock):
    backend.add("n2", 2, 8501)
    external = catalog.add_external("ext", "192.0.2.1")
    catalog.register(OWN, "web", tags=("x",))
    catalog.check(OWN, "c", "passing", service="web", definition=TTL)
    index = await asleep(client, path)
    catalog.register(OWN, "web2")
    catalog.register(external, "web2", tags=("x",))
    catalog.check(OWN, "d", "critical", service="web2")
    catalog.check(external, "disk", "critical")
    backend.check(2, SERF_HEALTH, "critical", "Serf Health Status")
    backend.renamed(2, "n3")
    backend.apply(Put(b"web", b"x"))
    catalog.deregister(OWN, "web2")
    catalog.remove_node(external)
    # What is so already changes nothing.
    catalog.register(OWN, "web", tags=("x",))
    catalog.check(OWN, "c", "passing", service="web", definition=TTL)
    assert not await is_answered(client)
    catalog.check(OWN, "c", "critical", service="web", definition=TTL)
    answer = await woken(client)
    assert answer.index == backend.applied_index > index


async def test_a_service_that_never_was_waits_for_itself_only(
    client, backend, catalog, autojump_clock
):
    catalog.register(OWN, "db")
    index = await asleep(client, "health/service/web")
    catalog.deregister(OWN, "db")
    catalog.register(OWN, "db2")
    assert not await is_answered(client)
    catalog.register(OWN, "web")
    answer = await woken(client)
    assert len(answer.json()) == 1
    assert answer.index > index


async def test_the_index_of_a_service_that_is_gone_is_that_of_its_end(client, backend, catalog):
    catalog.register(OWN, "web")
    catalog.deregister(OWN, "web")
    gone = backend.applied_index
    catalog.register(OWN, "db")
    catalog.deregister(OWN, "db")
    for path in ("health/service/web", "catalog/service/Web", "health/checks/WEB"):
        answer = await client.request("GET", f"/v1/{path}")
        assert (answer.json(), answer.index) == ([], gone)


async def test_nodes_are_looked_up_anew_when_a_read_goes_on_waiting(
    client, backend, catalog, autojump_clock
):
    """With an index beyond the next changes it stays asleep; the node it came to counts all the same."""
    external = catalog.add_external("ext", "192.0.2.1")
    catalog.register(OWN, "web")
    beyond = backend.applied_index + 1
    await waits(client, f"/v1/health/service/web?index={beyond}")
    catalog.register(external, "web", "web-2")
    assert not await is_answered(client)
    catalog.check(external, "disk", "critical")
    answer = await woken(client)
    assert answer.index == backend.applied_index


async def test_the_built_in_service_waits_for_members(client, backend, catalog, autojump_clock):
    await asleep(client, "health/service/consul")
    catalog.register(OWN, "web")
    catalog.check(OWN, "c", "passing", service="web")
    assert not await is_answered(client)
    backend.add("n2", 2, 8501)
    answer = await woken(client)
    await asleep(client, "health/service/consul")
    backend.check(2, SERF_HEALTH, "critical", "Serf Health Status")
    answer = await woken(client)
    assert len(answer.json()) == 2
    assert answer.index == backend.applied_index


async def test_names_wait_for_names_and_tags(client, backend, catalog, autojump_clock):
    catalog.register(OWN, "web", "1", tags=("a",))
    for change in (
        lambda: catalog.register(OWN, "db"),
        lambda: catalog.register(OWN, "web", "1", tags=("b",)),
        lambda: catalog.register(OWN, "web", "2", tags=("a",)),
        lambda: catalog.deregister(OWN, "2"),
        lambda: catalog.deregister(OWN, "db"),
    ):
        index = await asleep(client, "catalog/services")
        change()
        answer = await woken(client)
        assert answer.index == backend.applied_index > index
    index = await asleep(client, "catalog/services")
    catalog.register(OWN, "WEB", "3", tags=("b",))
    catalog.register(OWN, "web", "1", tags=("b",), port=80)
    catalog.check(OWN, "c", "critical", service="1")
    backend.check(OWN, SERF_HEALTH, "critical", "Serf Health Status")
    assert not await is_answered(client)
    catalog.register(OWN, "web", "1", tags=("b", "new"))
    answer = await woken(client)
    assert answer.json() == {"consul": [], "web": ["b", "new"]}
    assert answer.index > index


@pytest.mark.parametrize("query", ["node-meta=os:linux", "filter=NodeMeta.os==linux"])
async def test_narrowed_names_wait_for_instances_too(
    client, backend, catalog, query, autojump_clock
):
    """A name that is there already comes to be on another node: the plain index does not move."""
    external = catalog.add_external("ext", "192.0.2.1", meta=(("os", "linux"),))
    catalog.register(OWN, "web")
    plain = await client.request("GET", "/v1/catalog/services")
    await asleep(client, f"catalog/services?{query}")
    catalog.register(external, "web", "2")
    answer = await woken(client)
    assert answer.json() == {"web": []}
    assert (await client.request("GET", "/v1/catalog/services")).index == plain.index
    await asleep(client, f"catalog/services?{query}")
    catalog.check(OWN, "c", "critical", service="web")
    assert not await is_answered(client)
    catalog.deregister(external, "2")
    answer = await woken(client)
    assert answer.json() == {}


async def test_one_node_waits_for_its_record_and_its_services(
    client, backend, catalog, autojump_clock
):
    external = catalog.add_external("ext", "192.0.2.1")
    for change in (
        lambda: catalog.register(external, "web"),
        lambda: catalog.register(external, "web", port=1),
        lambda: catalog.deregister(external, "web"),
        lambda: catalog.remove_node(external),
        lambda: catalog.add_external("EXT", "192.0.2.2"),
    ):
        index = await asleep(client, "catalog/node/ext")
        catalog.register(OWN, "web", port=index)
        catalog.check(OWN, "disk", "critical", notes=str(index))
        assert not await is_answered(client)
        change()
        answer = await woken(client)
        assert answer.index == backend.applied_index > index
    assert answer.json()["Node"]["Node"] == "EXT"


async def test_the_checks_of_a_node_wait_for_these(client, backend, catalog, autojump_clock):
    external = catalog.add_external("ext", "192.0.2.1")
    catalog.register(external, "web")
    for change in (
        lambda: catalog.check(external, "c", "critical", service="web"),
        lambda: catalog.check(external, "c", "passing", service="web"),
        lambda: catalog.check(external, "disk", "critical"),
        lambda: catalog.remove_check(external, "disk"),
        lambda: catalog.deregister(external, "web"),
        lambda: catalog.remove_node(external),
    ):
        index = await asleep(client, "health/node/ext")
        catalog.check(OWN, "disk", "critical", notes=str(index))
        backend.check(OWN, SERF_HEALTH, "passing", str(index))
        assert not await is_answered(client)
        change()
        answer = await woken(client)
        assert answer.index == backend.applied_index > index


async def test_a_state_waits_for_checks_that_have_it_or_had_it(
    connect, backend, catalog, autojump_clock
):
    catalog.check(OWN, "c", "passing")
    catalog.check(OWN, "w", "warning")
    clients = {state: connect() for state in ("any", "passing", "warning", "critical", "xyz")}
    for state, client in clients.items():
        await asleep(client, f"health/state/{state}")
    catalog.check(OWN, "c", "critical")
    await trio.testing.wait_all_tasks_blocked()
    for state in ("any", "passing", "critical"):
        answer = await woken(clients[state])
        assert answer.index == backend.applied_index, state
    for state in ("warning", "xyz"):
        assert not await is_answered(clients[state])
    assert (await connect().request("GET", "/v1/health/state/xyz")).index == 1


async def test_nodes_are_answered_by_an_external_one(client, backend, catalog, autojump_clock):
    await asleep(client, "catalog/nodes")
    catalog.register(OWN, "web")
    backend.apply(ChangeMember(OWN, stopped=True))
    assert not await is_answered(client)
    catalog.add_external("ext", "192.0.2.1")
    answer = await woken(client)
    assert [one["Node"] for one in answer.json()] == ["ext", "n1"]


async def test_a_read_about_one_node_is_not_woken_by_external_ones(
    client, backend, catalog, autojump_clock, monkeypatch
):
    """Ten thousand of them come and go: it waits for the node that it is about."""
    looks = []
    look = LocalWait.look

    def looking(wait):
        looks.append(wait)
        return look(wait)

    monkeypatch.setattr(LocalWait, "look", looking)
    created = await client.request("PUT", "/v1/session/create")
    name = created.json()["ID"]
    for path in (
        *(f"session/info/{name}", "session/node/n1", "session/list"),
        *("catalog/node/n1", "health/node/n1"),
    ):
        index = await asleep(client, path)
        looks.clear()
        number = catalog.add_external("ext", "192.0.2.1")
        catalog.register(number, "web")
        catalog.remove_node(number)
        assert not await is_answered(client)
        assert looks == []
        backend.renamed(OWN, f"n{index}")
        answer = await woken(client)
        assert answer.index == backend.applied_index
        backend.renamed(OWN, "n1")


async def test_a_session_on_an_external_node(client, backend, catalog):
    catalog.add_external("Ext", "192.0.2.1")
    body = {"Node": "ext", "NodeChecks": []}
    created = await client.request("PUT", "/v1/session/create", body)
    assert created.status == 200, created
    [found] = (await client.request("GET", "/v1/session/node/EXT")).json()
    assert (found["ID"], found["Node"]) == (created.json()["ID"], "Ext")
    [same] = (await client.request("GET", f"/v1/session/info/{found['ID']}")).json()
    assert same == found


# --- the time is over, and nobody leads -----------------------------------------------------------


@pytest.mark.parametrize("path", ["health/service/web", "catalog/services", "health/node/n1"])
async def test_when_the_time_is_over_it_answers_what_is_true(
    client, backend, catalog, path, autojump_clock
):
    catalog.register(OWN, "web")
    first = await client.request("GET", f"/v1/{path}")
    answer = await client.request("GET", f"/v1/{path}?index={first.index}&wait=16s")
    assert (answer.index, answer.body) == (first.index, first.body)
    assert 16 <= trio.current_time() <= 17
    backend.knows_leader = False
    answer = await client.request("GET", f"/v1/{path}?index={first.index}&wait=16s")
    assert (answer.status, answer.body) == (500, b"No cluster leader")
    answer = await client.request("GET", f"/v1/{path}?index={first.index}&wait=16s&stale")
    assert (answer.index, answer.body) == (first.index, first.body)
    backend.error = NoLeader("none")
    answer = await client.request("GET", f"/v1/{path}?index=1&wait=16s")
    assert (answer.status, answer.body) == (500, b"No cluster leader")


@pytest.mark.parametrize("path", ["health/service/consul", "catalog/service/consul"])
async def test_the_members_are_a_service_that_external_nodes_do_not_change(
    client, backend, catalog, path, autojump_clock
):
    index = await asleep(client, path)
    external = catalog.add_external("ext", "192.0.2.1")
    catalog.register(external, "web")
    catalog.remove_node(external)
    catalog.register(OWN, "web")
    assert not await is_answered(client)
    assert backend.state.service_index(b"consul") == index
    for change in (
        lambda: backend.apply(PutMember(Member(2, "n2", "10.0.0.1:1", "10.0.0.1:2", "10.0.0.1:3"))),
        lambda: backend.renamed(2, "n3"),
        lambda: backend.check(2, SERF_HEALTH, "critical", "Serf Health Status"),
        lambda: catalog.remove_node(2),
    ):
        change()
        answer = await woken(client)
        assert answer.index == backend.state.applied > index
        index = answer.index
        await waits(client, with_index(path, index))
