"""Services, checks and nodes registered by HTTP in a real state: contract-services sections 3, 4, 5, 13."""

from __future__ import annotations

import json

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from hstore.node.api.http.server import ApiServer
from hstore.node.api.routes import ROUTES
from hstore.node.errors import NoLeader
from hstore.node.model.checks import CheckDefinition
from hstore.node.model.services import (
    EXTERNAL_NODE_META,
    Deregister,
    GivenCheck,
    Place,
    RegisterService,
    Service,
)
from tests.node.api.conftest import Client
from tests.node.api.consul.conftest import OWN, StateBackend, is_refused

EXTERNAL = "node=hall&node-address=192.0.2.7"
UNKNOWN = 'Unknown service ID "{}". Ensure that the service ID is passed, not the service name.'


async def put(client, path, body=None, status=200, **headers):
    raw = None if body is None else json.dumps(body).encode()
    answer = await client.request("PUT", f"/v1/{path}", raw, **headers)
    assert answer.status == status, answer
    return answer


async def get(client, path):
    answer = await client.request("GET", f"/v1/{path}")
    assert answer.status == 200, answer
    return answer.json()


async def register(client, query="", **body):
    return await put(client, f"agent/service/register{query}", body)


async def test_what_is_registered_is_shown_at_once(client):
    await register(client, Name="web", Tags=["a"], Check={"TTL": "10s"})
    assert list(await get(client, "agent/services")) == ["web"]
    check = (await get(client, "agent/checks"))["service:web"]
    assert (check["Status"], check["Type"], check["ServiceTags"]) == ("critical", "ttl", ["a"])
    assert (check["Node"], check["ServiceName"]) == ("n1", "web")


async def test_the_agent_counts_what_is_registered_on_it(client):
    ttl = {"TTL": "10s"}
    await register(client, Name="web", Checks=[ttl, ttl])
    await register(client, f"?{EXTERNAL}", Name="printer", Check=ttl)
    await put(client, "agent/check/register", {"Name": "c", "TTL": "1s"})
    stats = (await get(client, "agent/self"))["Stats"]
    assert stats["agent"] == {"services": "1", "checks": "3"}


async def test_registered_again_it_is_replaced_and_its_check_keeps_its_status(client):
    check = {"TTL": "10s", "Status": "passing"}
    await register(client, Name="web", Port=1, Check=check)
    await register(client, Name="web", Port=2, Check={"TTL": "20s"})
    assert (await get(client, "agent/services"))["web"]["Port"] == 2
    assert (await get(client, "agent/checks"))["service:web"]["Status"] == "passing"
    await register(client, Name="web", Check=check | {"Status": "warning"})
    assert (await get(client, "agent/checks"))["service:web"]["Status"] == "warning"


async def test_an_equal_registration_moves_no_index(client):
    body = {"Name": "web", "Check": {"TTL": "10s"}}
    await register(client, **body)
    before = await get(client, "agent/checks")
    await register(client, **body)
    assert await get(client, "agent/checks") == before


async def test_checks_that_are_not_named_stay_unless_they_are_to_go(client):
    ttl = {"TTL": "10s"}
    await register(client, Name="web", Checks=[ttl | {"ID": "a"}, ttl | {"ID": "b"}])
    await register(client, Name="web", Check=ttl | {"ID": "c"})
    assert list(await get(client, "agent/checks")) == ["a", "b", "c"]
    await register(client, "?replace-existing-checks", Name="web", Check=ttl | {"ID": "c"})
    assert list(await get(client, "agent/checks")) == ["c"]


async def test_a_service_goes_with_its_checks_and_only_once(client):
    await register(client, Name="web", ID="scope/me", Check={"TTL": "10s"})
    await put(client, "agent/service/deregister/scope/me")
    assert await get(client, "agent/services") == {}
    assert await get(client, "agent/checks") == {}
    answer = await put(client, "agent/service/deregister/scope/me", status=404)
    is_refused(answer, 404, UNKNOWN.format("scope/me"))


async def test_a_check_of_a_service_and_of_the_node(client):
    await register(client, Name="web")
    await put(client, "agent/check/register", {"Name": "c", "TTL": "1s", "ServiceID": "web"})
    await put(client, "agent/check/register", {"Name": "d", "TTL": "1s"})
    shown = await get(client, "agent/checks")
    assert {one: check["ServiceName"] for one, check in shown.items()} == {"c": "web", "d": ""}
    answer = await put(
        client, "agent/check/register", {"Name": "e", "TTL": "1s", "ServiceID": "x"}, status=404
    )
    is_refused(answer, 404, 'ServiceID "x" does not exist')
    await put(client, "agent/check/deregister/c")
    await put(client, "agent/check/deregister/c", status=404)
    await put(client, "agent/check/deregister/serfHealth", status=404)
    assert list(await get(client, "agent/checks")) == ["d"]


async def test_maintenance_is_a_check_that_is_critical(client):
    await register(client, Name="web")
    await put(client, "agent/service/maintenance/web?enable=true&reason=disk")
    await put(client, "agent/maintenance?enable=true")
    shown = await get(client, "agent/checks")
    assert list(shown) == ["_node_maintenance", "_service_maintenance:web"]
    service = shown["_service_maintenance:web"]
    assert (service["Type"], service["Status"], service["Notes"]) == (
        "maintenance", "critical", "disk",
    )  # fmt: skip
    await put(client, "agent/service/maintenance/web?enable=true&reason=fan")
    shown = await get(client, "agent/checks")
    assert shown["_service_maintenance:web"]["Notes"] == "fan"
    for _ in range(2):
        await put(client, "agent/service/maintenance/web?enable=false")
        await put(client, "agent/maintenance?enable=false")
    assert await get(client, "agent/checks") == {}
    for enable in ("true", "false"):
        path = f"agent/service/maintenance/x?enable={enable}"
        is_refused(await put(client, path, status=404), 404, UNKNOWN.format("x"))


async def test_a_machine_without_a_member_comes_with_its_first_service_and_goes_with_its_last(
    client, backend
):
    await register(client, f"?{EXTERNAL}", Name="printer", Check={"TTL": "10s"})
    node = backend.state.view().catalog_node("HALL")
    assert node is not None
    assert (node.address, node.meta, node.is_member) == ("192.0.2.7", (EXTERNAL_NODE_META,), False)
    assert await get(client, "agent/services") == {}
    assert list(await get(client, "agent/services?node=Hall")) == ["printer"]
    assert (await get(client, "agent/checks?node=hall"))["service:printer"]["Node"] == "hall"
    await put(client, "agent/service/deregister/printer?node=hall")
    assert backend.state.view().catalog_node("hall") is None
    answer = await put(client, "agent/service/deregister/printer?node=hall", status=404)
    is_refused(answer, 404, UNKNOWN.format("printer"))


@pytest.mark.parametrize("query", ["", "?node=n1", "?node=hall"])
async def test_an_agents_reads_show_what_another_member_has_just_answered(client, backend, query):
    place = Place(0, "hall", "192.0.2.7") if query == "?node=hall" else Place(OWN)
    check = GivenCheck("c", "c", definition=CheckDefinition("ttl", 10**10))

    async def catch_up(_deadline: float) -> None:
        await trio.lowlevel.checkpoint()
        command = RegisterService(place, Service(0, "web", "web"), (check,))
        assert backend.apply(command).ok

    backend.read_barrier = catch_up
    for path in ("services", "checks", "health/service/id/web", "health/service/name/web"):
        answer = await client.request("GET", f"/v1/agent/{path}{query}")
        assert answer.status in {200, 503}, answer
        assert answer.body != b"{}"
        assert answer.headers["x-consul-effective-consistency"] == "leader"
        backend.apply(Deregister(place, service="web"))


@pytest.mark.parametrize("query", ["", "?stale"])
async def test_an_agent_does_not_wait_long_for_a_leader(client, backend, query, autojump_clock):
    await register(client, Name="web")
    if not query:

        async def nobody(deadline: float) -> None:
            await trio.sleep_until(deadline)
            raise NoLeader("none")

        backend.read_barrier = nobody
    began, barriers = trio.current_time(), backend.barriers
    answer = await client.request("GET", f"/v1/agent/services{query}")
    assert list(answer.json()) == ["web"]
    assert answer.headers["x-consul-effective-consistency"] == "stale"
    assert trio.current_time() - began <= 1
    assert backend.barriers == barriers


async def test_a_check_of_a_service_that_is_nowhere_makes_no_node(client, backend):
    body = {"Name": "c", "TTL": "10s", "ServiceID": "printer"}
    answer = await put(client, f"agent/check/register?{EXTERNAL}", body, status=404)
    is_refused(answer, 404, 'ServiceID "printer" does not exist')
    assert backend.state.view().catalog_node("hall") is None


async def test_what_belongs_to_members_cannot_be_registered_and_repeating_does_not_help(client):
    body = {"Name": "web", "Check": {"CheckID": "serfHealth", "TTL": "10s"}}
    answer = await put(client, "agent/service/register", body, status=400)
    text = "serfHealth is kept by the leader: give the check another ID"
    is_refused(answer, 400, f"Invalid registration: {text}")
    node = {"Node": "db-1", "Address": "192.0.2.8", "Service": {"Service": "consul"}}
    answer = await put(client, "catalog/register", node, status=400)
    text = "the service consul is that of the members: give it another name and ID"
    is_refused(answer, 400, f"Invalid registration: {text}")
    assert await get(client, "agent/services") == {}


async def test_a_members_name_is_that_member(client):
    await register(client, "?node=N1", Name="web")
    assert list(await get(client, "agent/services")) == ["web"]


async def test_a_node_of_the_catalog_comes_and_goes(client, backend):
    body = {
        "Node": "db-1",
        "Address": "192.0.2.8",
        "Service": {"Service": "db", "Port": 5432},
        "Check": {"Name": "alive", "ServiceID": "db", "Status": "passing"},
    }
    for _ in range(2):
        assert (await put(client, "catalog/register", body)).json() is True
    assert list(await get(client, "agent/services?node=db-1")) == ["db"]
    assert (await get(client, "agent/checks?node=db-1"))["alive"]["Status"] == "passing"
    wrong = body | {"Check": {"Name": "c", "ServiceID": "none"}}
    answer = await put(client, "catalog/register", wrong, status=500)
    is_refused(answer, 500, "Missing service registration")
    for part in ({"CheckID": "alive"}, {"ServiceID": "db"}, {}, {}, {"ServiceID": "db"}):
        answer = await put(client, "catalog/deregister", {"Node": "DB-1"} | part)
        assert answer.json() is True
    assert backend.state.view().catalog_node("db-1") is None


async def test_what_is_a_members_is_registered_through_it(client):
    text = "n1 is a member: register through its agent"
    for body in (
        {"Node": "N1", "Address": "a"},
        {"Node": "n1", "Address": "a", "Service": {"Service": "web"}},
        {"Node": "n1", "SkipNodeUpdate": True, "Service": {"Service": "consul"}},
        {"Node": "n1", "Address": "a", "Check": {"Name": "c"}},
    ):
        is_refused(await put(client, "catalog/register", body, status=500), 500, text)
    for body, text in (
        ({"Node": "N1"}, "n1 is a member: use leave"),
        ({"Node": "n1", "CheckID": "serfHealth"}, "serfHealth of a member cannot be removed"),
        ({"Node": "n1", "ServiceID": "consul"}, "the service consul of a member cannot be removed"),
    ):
        is_refused(await put(client, "catalog/deregister", body, status=500), 500, text)


async def test_tags_under_tag_override_are_the_catalogs(client):
    await register(client, Name="web", Tags=["a"], EnableTagOverride=True)
    service = {"Service": "web", "Tags": ["b"], "EnableTagOverride": True}
    await put(client, "catalog/register", {"Node": "n1", "Address": "a", "Service": service})
    assert (await get(client, "agent/services"))["web"]["Tags"] == ["b"]
    await register(client, Name="web", Tags=["a"], EnableTagOverride=True)
    assert (await get(client, "agent/services"))["web"]["Tags"] == ["b"]
    await register(client, Name="web", Tags=["c"], EnableTagOverride=True)
    assert (await get(client, "agent/services"))["web"]["Tags"] == ["c"]


async def test_a_uuid_belongs_to_one_node(client):
    body = {"Node": "a", "Address": "x", "ID": "ABCDEF00-0000-0000-0000-000000000001"}
    await put(client, "catalog/register", body)
    answer = await put(client, "catalog/register", body | {"Node": "b"}, status=400)
    text = 'Invalid node ID: "abcdef00-0000-0000-0000-000000000001" is that of a'
    is_refused(answer, 400, text)


async def test_a_bound_is_named(client, monkeypatch):
    monkeypatch.setattr("hstore.node.state.catalog.services.SERVICES_OF_NODE_MAX", 1)
    await register(client, Name="web")
    answer = await put(client, "agent/service/register", {"Name": "db"}, status=400)
    assert answer.error.startswith("this node has 1 services")
    await register(client, Name="web", Port=1)


async def test_under_a_key_a_registration_takes_effect_once(client, backend):
    await put(client, "agent/service/register", {"Name": "web"}, Idempotency_Key="k")
    backend.apply(Deregister(Place(OWN), service="web"))
    await put(client, "agent/service/register", {"Name": "web"}, Idempotency_Key="k")
    assert await get(client, "agent/services") == {}
    answer = await put(
        client, "agent/service/register", {"Name": "db"}, status=422, Idempotency_Key="k"
    )
    assert "Idempotency-Key" in answer.error


@pytest.mark.parametrize("name", ["app#127.0.0.1#3000", "ä/b c", "x" * 255, "a.b"])
async def test_any_name_is_taken_and_found_by_its_id(client, name):
    await register(client, Name=name)
    assert list(await get(client, "agent/services")) == [name]
    path = "".join(f"%{byte:02x}" for byte in name.encode())
    await put(client, f"agent/service/deregister/{path}")
    assert await get(client, "agent/services") == {}


# --- anything at all ----------------------------------------------------------------------------------

PATHS = [
    "agent/service/register", "agent/service/deregister/", "agent/service/maintenance/",
    "agent/maintenance", "agent/check/register", "agent/check/deregister/", "agent/check/pass/",
    "agent/check/update/", "catalog/register", "catalog/deregister",
]  # fmt: skip
NAMES = [
    "Name", "ID", "id", "NAME", "Port", "Tags", "Meta", "Check", "Checks", "TTL", "Interval", "HTTP",
    "Status", "ServiceID", "Node", "Address", "Service", "NodeMeta", "SkipNodeUpdate", "CheckID", "Output",
]  # fmt: skip
FLAT = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(
        [2**63, 10**30, "10s", "http://a/", "web", "n1", "hall", "serfHealth", "consul", ""]
    )
    | st.text(max_size=6)
)
WHATEVER = st.recursive(
    FLAT,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)
    ),
    max_leaves=8,
)
BODIES = st.dictionaries(st.sampled_from(NAMES), WHATEVER, max_size=6).map(
    lambda body: json.dumps({"Name": "web", "Node": "hall", "Address": "a", "TTL": "1s", **body})
)
QUERIES = st.lists(
    st.sampled_from(
        [
            "node=hall", "node=n1", "node=%ff", "node=%00", "node=", "node-address=192.0.2.1",
            "node-address=x", "enable=true", "enable=0", "enable=x", "enable", "reason=%0a", "note=n",
            "replace-existing-checks=x", "replace-existing-checks", "NODE=hall", "dc=x", "token=t",
            "index=1", "timeout=x",
        ]
    ),
    max_size=4,
    unique=True,
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(PATHS),
            st.sampled_from(["", "web", "a%2Fb", "%zz", "%ff", "x" * 1100]),
            QUERIES,
            BODIES | st.text(max_size=9),
        ),
        min_size=5,
        max_size=20,
    )
)
async def test_whatever_is_asked_is_done_or_refused_in_one_line(asked):
    backend = StateBackend()
    server = ApiServer(backend.whole, ROUTES)
    near, far = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: server.serve_stream(far, is_local=True))
        client = Client(near)
        for path, end, query, body in asked:
            target = f"/v1/{path}{end if path.endswith('/') else ''}?{'&'.join(query)}"
            answer = await client.request("PUT", target, body.encode())
            assert answer.status in {200, 400, 404, 500}, answer
            if answer.status != 200:
                assert 0 < len(answer.error) < 500
                assert "defect" not in answer.error
        for path in ("services", "checks", "services?node=hall", "checks?node=hall"):
            assert isinstance(await get(client, f"agent/{path}"), dict)
        nursery.cancel_scope.cancel()
