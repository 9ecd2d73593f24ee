"""The catalog's nodes and their coordinates: contract-services sections 1, 2.6, 2.7, 5, 7."""

from __future__ import annotations

import pytest
import trio

from hstore.node.errors import NoLeader
from hstore.node.model.commands import (
    ChangeMember,
    ChangeSetting,
    Delete,
    Member,
    Put,
    RemoveMember,
    ReplaceMember,
)
from tests.node.api.consul.conftest import OWN, is_read, is_refused, waits


async def nodes(client, query=""):
    answer = await client.request("GET", f"/v1/catalog/nodes{query}")
    assert answer.status == 200, answer
    is_read(answer)
    return [node["Node"] for node in answer.json()]


async def test_datacenters(client, backend):
    answer = await client.request("GET", "/v1/catalog/datacenters")
    assert (answer.status, answer.body) == (200, b'["dc1"]')
    backend.apply(ChangeSetting("datacenter", "prod"))
    backend.error, backend.knows_leader = NoLeader("none"), False
    answer = await client.request("GET", "/v1/catalog/datacenters?dc=prod")
    assert (answer.status, answer.body) == (200, b'["prod"]')
    assert answer.headers["x-consul-knownleader"] == "false"


async def test_nodes(client, backend):
    backend.add("n2", 2, 8501)
    answer = await client.request("GET", "/v1/catalog/nodes")
    first, second = answer.json()
    created = first["CreateIndex"]
    assert first == {
        "ID": "00000000-0000-0000-1f00-000000000001",
        "Node": "n1",
        "Address": "10.0.0.1",
        "Datacenter": "dc1",
        "TaggedAddresses": {"lan": "10.0.0.1", "wan": "10.0.0.1"},
        "Meta": {},
        "CreateIndex": created,
        "ModifyIndex": created,
    }
    assert second["ID"] == "00000000-0000-0000-0000-000000000002"
    assert second["CreateIndex"] > created > 0
    is_read(answer, second["ModifyIndex"])


async def test_a_node_does_not_change_when_others_do(client, backend):
    [first] = (await client.request("GET", "/v1/catalog/nodes")).json()
    backend.add("n2", 2, 8501)
    backend.check(OWN, "serfHealth", "critical")
    assert (await client.request("GET", "/v1/catalog/nodes")).json()[0] == first


async def test_nodes_are_in_the_order_of_bytes(client, backend):
    for number, name in enumerate(["n10", "n2", "a-b", "a"], 2):
        backend.add(name, number, 8500 + number)
    assert await nodes(client) == ["a", "a-b", "n1", "n10", "n2"]


async def test_nodes_by_meta(client):
    assert await nodes(client, "?node-meta=os:linux") == []
    assert await nodes(client, "?node-meta=os:linux&node-meta=env:prod") == []


async def test_nodes_by_filter(client, backend):
    backend.add("n2", 2, 8501)
    assert await nodes(client, "?filter=Node%20==%20n2") == ["n2"]
    assert await nodes(client, "?filter=Node%20matches%20%22%5En%22%20and%20Meta%20is%20empty") == [
        "n1",
        "n2",
    ]
    assert await nodes(client, '?filter=%2210.0.0.1%22+in+Address+and+Node+!=+"n1"') == ["n2"]
    assert await nodes(client, "?filter=TaggedAddresses.lan==x") == []
    assert await nodes(client, "?filter=") == ["n1", "n2"]
    assert await nodes(client, "?filter=Node==n1&node-meta=a:b") == []


@pytest.mark.parametrize("text", ["Node", "Nope%20==%20x", "CreateIndex==x", "Node==1+or", "%00"])
async def test_a_filter_that_cannot_be_used(client, text):
    for query in [f"?filter={text}", f"?filter={text}&node-meta=none:x"]:
        answer = await client.request("GET", f"/v1/catalog/nodes{query}")
        assert answer.status == 400
        assert answer.body.startswith(b"Failed to create boolean expression evaluator: ")
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"


async def test_a_filter_narrows_no_index(client, backend):
    backend.add("n2", 2, 8501)
    answers = [
        await client.request("GET", f"/v1/catalog/nodes{query}")
        for query in ["", "?filter=Node==n1", "?node-meta=a:b"]
    ]
    assert len({answer.headers["x-consul-index"] for answer in answers}) == 1


async def test_nodes_wait_for_a_node(client, backend, autojump_clock):
    first = await client.request("GET", "/v1/catalog/nodes")
    index = int(first.headers["x-consul-index"])
    await waits(client, f"/v1/catalog/nodes?index={index}")
    backend.apply(Put(b"k", b"v"))
    backend.check(OWN, "serfHealth", "critical")
    backend.apply(Delete(b"k"))
    backend.apply(ChangeMember(OWN, stopped=True))
    backend.add("n2", 2, 8501)
    answer = await client.response()
    assert [node["Node"] for node in answer.json()] == ["n1", "n2"]
    assert int(answer.headers["x-consul-index"]) == answer.json()[1]["CreateIndex"]
    assert trio.current_time() == 0


async def test_each_change_of_a_node_moves_the_index(client, backend):
    backend.add("n2", 2, 8501)
    replaced = Member(3, "", "10.0.0.3:8500", "10.0.0.3:8300", "10.0.0.3:8600")
    for change in [
        ChangeMember(2, name="n3"),
        ChangeMember(2, addresses=("10.0.0.2:1", "10.0.0.2:2", "10.0.0.2:3")),
        ReplaceMember(replaced, 2),
        RemoveMember(3),
    ]:
        assert backend.apply(change).ok
        answer = await client.request("GET", "/v1/catalog/nodes")
        is_read(answer, backend.applied_index)


async def test_nodes_need_a_leader_unless_stale(client, backend):
    backend.error, backend.knows_leader = NoLeader("none"), False
    is_refused(await client.request("GET", "/v1/catalog/nodes"), 500, "No cluster leader")
    backend.last_contact_ms = 1234
    answer = await client.request("GET", "/v1/catalog/nodes?stale=")
    assert (answer.status, answer.headers["x-consul-effective-consistency"]) == (200, "stale")
    assert answer.headers["x-consul-lastcontact"] == "1234"
    assert answer.headers["x-consul-knownleader"] == "false"


# --- coordinates --------------------------------------------------------------------------------

ORIGIN = {"Vec": [0] * 8, "Error": 1.5, "Adjustment": 0, "Height": 0.00001}


async def test_coordinates(client, backend):
    backend.add("n2", 2, 8501)
    places = [{"Node": name, "Segment": "", "Coord": ORIGIN} for name in ["n1", "n2"]]
    answer = await client.request("GET", "/v1/coordinate/nodes")
    assert answer.json() == places
    is_read(answer)
    answer = await client.request("GET", "/v1/coordinate/node/N2")
    assert answer.json() == places[1:]
    is_read(answer)
    [dc] = (await client.request("GET", "/v1/coordinate/datacenters")).json()
    assert (dc["Datacenter"], dc["AreaID"]) == ("dc1", "wan")
    assert [place["Coord"] for place in dc["Coordinates"]] == [ORIGIN, ORIGIN]


async def test_coordinates_of_a_node_by_the_name_that_datacenters_gives(client):
    [dc] = (await client.request("GET", "/v1/coordinate/datacenters")).json()
    name = dc["Coordinates"][0]["Node"]
    [place] = (await client.request("GET", f"/v1/coordinate/node/{name}")).json()
    assert place["Node"] == name


async def test_coordinates_of_no_node(client):
    answer = await client.request("GET", "/v1/coordinate/node/nope")
    assert (answer.status, answer.body) == (404, b"")
    is_read(answer)


async def test_coordinates_are_taken_and_not_used(client):
    body = {"Node": "n1", "Coord": {"Vec": [1.0] * 8}}
    answer = await client.request("PUT", "/v1/coordinate/update", body)
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize(
    "target", ["coordinate/nodes", "coordinate/datacenters", "coordinate/node/n1", "catalog/nodes"]
)
async def test_another_datacenter(client, target):
    answer = await client.request("GET", f"/v1/{target}?dc=dc2")
    is_refused(answer, 500, "No path to datacenter")
