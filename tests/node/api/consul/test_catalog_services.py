"""The catalog of services: contract-services sections 2.3, 2.6, 5, 13.5, 13.6."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from tests.node.api.consul.conftest import OWN, is_read

UUID = "a1b2c3d4-0000-4000-8000-0123456789ab"


async def get(client, path):
    answer = await client.request("GET", f"/v1/catalog/{path}")
    assert answer.status == 200, answer
    is_read(answer)
    return answer.json()


async def test_a_service_of_the_catalog(client, backend, catalog):
    number = catalog.add_external("ext", "192.0.2.1", meta=(("os", "linux"),), uuid=UUID)
    catalog.register(
        number, "web", "web-1", port=80, tags=("b", "a"), address="10.9.9.9",
        tagged=(("lan", "10.9.9.9", 80),), meta=(("k", "v"),), weight_warning=0, tag_override=True,
    )  # fmt: skip
    answer = await client.request("GET", "/v1/catalog/service/web")
    [found] = answer.json()
    created, modified = found.pop("CreateIndex"), found.pop("ModifyIndex")
    assert created == modified > 0
    assert found == {
        "ID": UUID,
        "Node": "ext",
        "Address": "192.0.2.1",
        "Datacenter": "dc1",
        "TaggedAddresses": {},
        "NodeMeta": {"os": "linux"},
        "ServiceKind": "",
        "ServiceID": "web-1",
        "ServiceName": "web",
        "ServiceTags": ["b", "a"],
        "ServiceAddress": "10.9.9.9",
        "ServiceTaggedAddresses": {"lan": {"Address": "10.9.9.9", "Port": 80}},
        "ServiceWeights": {"Passing": 1, "Warning": 0},
        "ServiceMeta": {"k": "v"},
        "ServicePort": 80,
        "ServiceEnableTagOverride": True,
    }
    is_read(answer, modified)


@pytest.mark.parametrize("query", ["passing", "passing=true", "passing=0"])
async def test_the_catalog_ignores_passing_as_consul_does(client, catalog, query):
    catalog.register(OWN, "web")
    catalog.check(OWN, "c", "critical", service="web")
    [found] = await get(client, f"service/web?{query}")
    assert found["ServiceID"] == "web"


async def test_an_instance_on_a_member_has_the_members_addresses(client, catalog):
    catalog.register(OWN, "web")
    [found] = await get(client, "service/web")
    [node] = await get(client, "nodes")
    for name in ("ID", "Node", "Address", "Datacenter", "TaggedAddresses"):
        assert found[name] == node[name]
    assert found["NodeMeta"] == node["Meta"]


async def test_external_nodes_are_among_the_nodes(client, catalog):
    catalog.add_external("Zeta", "db.example", uuid=UUID)
    catalog.add_external("a", "192.0.2.2", meta=(("k", "v"),))
    first, _, last = (
        one for one in sorted(await get(client, "nodes"), key=lambda one: one["Node"].lower())
    )
    names = [one["Node"] for one in await get(client, "nodes")]
    assert names == ["Zeta", "a", "n1"]
    assert (first["ID"], first["Address"], first["Meta"]) == ("", "192.0.2.2", {"k": "v"})
    assert (last["ID"], last["Address"], last["TaggedAddresses"]) == (UUID, "db.example", {})
    assert [one["Node"] for one in await get(client, "nodes?node-meta=k:v")] == ["a"]
    assert [one["Node"] for one in await get(client, "nodes?filter=Meta.k==v")] == ["a"]


async def test_names_and_tags_are_sorted_and_each_is_there_once(client, backend, catalog):
    assert await get(client, "services") == {"consul": []}
    backend.add("n2", 2, 8501)
    catalog.register(OWN, "web", "1", tags=("b", "a"))
    catalog.register(2, "WEB", "2", tags=("a", "c", "c"))
    catalog.register(OWN, "Web2", "3")
    catalog.register(OWN, "db", "4", tags=("ä", "Z"))
    answer = await client.request("GET", "/v1/catalog/services")
    found = answer.json()
    assert found == {"Web2": [], "consul": [], "db": ["Z", "ä"], "web": ["a", "b", "c"]}
    assert list(found) == sorted(found)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("node-meta=os:linux", {"web": ["b"]}),
        ("node-meta=os:linux&node-meta=x:y", {}),
        ("filter=" + quote("ServiceTags contains a"), {"web": ["a"]}),
        ("filter=" + quote("ServiceName != consul"), {"db": ["x"], "web": ["a", "b"]}),
        ("filter=" + quote('NodeMeta.os == "linux"'), {"web": ["b"]}),
        ("filter=" + quote('Node == "n1" and ServiceTags is empty'), {"consul": []}),
        ("filter=" + quote('ServiceID == "nope"'), {}),
    ],
)
async def test_names_of_those_that_are_wanted(client, catalog, query, expected):
    number = catalog.add_external("ext", "192.0.2.1", meta=(("os", "linux"),))
    catalog.register(OWN, "web", "1", tags=("a",))
    catalog.register(number, "web", "2", tags=("b",))
    catalog.register(OWN, "db", tags=("x",))
    found = await get(client, f"services?{query}")
    assert found == expected
    assert list(found) == sorted(found)


async def test_a_node_with_its_services(client, catalog):
    number = catalog.add_external("Ext", "192.0.2.1", uuid=UUID)
    catalog.register(number, "web", "b", port=80)
    catalog.register(number, "web", "a", tags=("t",))
    catalog.register(OWN, "zz")
    for name in ("Ext", "ext", UUID, UUID.upper()):
        found = await get(client, f"node/{name}")
        assert list(found) == ["Node", "Services"]
        assert found["Node"] == (await get(client, "nodes?filter=Node==Ext"))[0]
        assert list(found["Services"]) == ["a", "b"]
    health = await client.request("GET", "/v1/health/service/web")
    assert [found["Services"][one] for one in "ab"] == [one["Service"] for one in health.json()]
    found = await get(client, "node/n1")
    assert list(found["Services"]) == ["consul", "zz"]
    assert found["Services"]["consul"]["Port"] == 8500
    [consul] = (await client.request("GET", "/v1/health/service/consul")).json()
    assert found["Services"]["consul"] == consul["Service"]


async def test_a_node_without_services(client, catalog):
    catalog.add_external("ext", "192.0.2.1")
    assert (await get(client, "node/ext"))["Services"] == {}


async def test_a_filter_of_a_nodes_services(client, catalog):
    for name in ("a", "b", "web"):
        catalog.register(OWN, name, tags=(name,))
    for expression, expected in (
        ('Service == "web"', ["web"]),
        ('Tags contains "a" or ID == "b"', ["a", "b"]),
        ("Tags is empty", ["consul"]),
        ('ID == "nope"', []),
    ):
        found = await get(client, f"node/n1?filter={quote(expression)}")
        assert found["Node"]["Node"] == "n1"
        assert list(found["Services"]) == expected


# --- many ---------------------------------------------------------------------------------------


async def test_long_answers_are_sent_while_they_are_made(client, catalog):
    """More than are made in one go: whole, in order, and with what narrows."""
    number = catalog.add_external("ext", "192.0.2.1", meta=(("k", "v"),))
    count = 150
    for k in range(count):
        catalog.register(number, "web", f"web-{k:03}", tags=("even",) if k % 2 == 0 else ())
        catalog.check(number, f"c{k:03}", "passing" if k % 3 else "critical", service=f"web-{k:03}")
    each = [f"web-{k:03}" for k in range(count)]
    for path, ids in (
        ("catalog/service/web", lambda body: [one["ServiceID"] for one in body]),
        ("health/service/web", lambda body: [one["Service"]["ID"] for one in body]),
        ("catalog/node/ext", lambda body: list(body["Services"])),
        ("health/node/ext", lambda body: [one["ServiceID"] for one in body]),
        ("health/checks/web", lambda body: [one["ServiceID"] for one in body]),
    ):
        answer = await client.request("GET", f"/v1/{path}")
        assert answer.status == 200
        assert answer.headers["transfer-encoding"] == "chunked"
        is_read(answer)
        assert ids(answer.json()) == each, path
    answer = await client.request("GET", "/v1/health/service/web?passing&tag=EVEN")
    expected = [one for k, one in enumerate(each) if k % 3 and k % 2 == 0]
    assert [one["Service"]["ID"] for one in answer.json()] == expected
    answer = await client.request("GET", "/v1/health/service/web?node-meta=k:other")
    assert answer.json() == []
    answer = await client.request("GET", "/v1/health/state/critical")
    assert [one["ServiceID"] for one in answer.json()] == each[::3]


async def test_long_outputs_are_sent_while_they_are_made(client, catalog):
    catalog.register(OWN, "web")
    for k in range(20):
        catalog.check(OWN, f"c{k:02}", "passing", service="web", notes="x" * 4096)
    [found] = (await client.request("GET", "/v1/health/service/web")).json()
    assert len(found["Checks"]) == 21


async def test_many_names(client, catalog):
    names = [f"service-{'x' * 200}-{k:03}" for k in range(400)]
    for name in names:
        catalog.register(OWN, name)
    answer = await client.request("GET", "/v1/catalog/services")
    assert answer.headers["transfer-encoding"] == "chunked"
    assert list(answer.json()) == ["consul", *names]


async def test_many_nodes(client, catalog):
    names = [f"ext-{k:03}" for k in range(200)]
    for name in names:
        catalog.add_external(name, "192.0.2.1")
    answer = await client.request("GET", "/v1/catalog/nodes")
    assert [one["Node"] for one in answer.json()] == [*names, "n1"]
