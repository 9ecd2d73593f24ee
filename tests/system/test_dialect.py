"""What Consul's clients ask beyond keys, of three real nodes."""

from __future__ import annotations

import base64
import json

from .cluster import Answer, Cluster, Node, eventually


def put(node: Node, path: str, body: object = None) -> Answer:
    return node.request("PUT", path, b"" if body is None else json.dumps(body).encode())


def test_a_session_is_the_same_through_every_node(shared: Cluster) -> None:
    first, second, third = shared.nodes
    made = put(first, "/v1/session/create", {"TTL": "30s", "LockDelay": "0s"})
    assert made.status == 200, made
    session = made.json()["ID"]
    [shown] = put(second, f"/v1/session/renew/{session}").json()
    assert (shown["ID"], shown["TTL"], shown["Node"]) == (
        session,
        "30s",
        first.get("/v1/agent/self").json()["Config"]["NodeName"],
    )
    for node in shared.nodes:
        assert node.get(f"/v1/session/info/{session}").json() == [shown]
        assert shown in node.get("/v1/session/list").json()
        assert shown in node.get(f"/v1/session/node/{shown['Node']}").json()
    locked = put(
        third,
        "/v1/txn",
        [
            {"KV": {"Verb": "lock", "Key": "dialect/l", "Value": "eA==", "Session": session}},
            {"KV": {"Verb": "set", "Key": "dialect/n", "Value": "eQ=="}},
            {"KV": {"Verb": "get-tree", "Key": "dialect/"}},
        ],
    )
    rows = [result["KV"] for result in locked.json()["Results"]]
    assert [row["Key"][-1] for row in rows] == ["l", "n", "l", "n"]
    assert len({row["ModifyIndex"] for row in rows}) == 1
    assert rows[0]["Session"] == session
    refused = put(
        second,
        "/v1/txn",
        [
            {"KV": {"Verb": "check-not-exists", "Key": "dialect/l"}},
            {"KV": {"Verb": "set", "Key": "dialect/n"}},
        ],
    )
    assert refused.status == 409
    assert refused.json()["Errors"] == [{"OpIndex": 0, "What": 'key "dialect/l" exists'}]
    assert put(second, f"/v1/session/destroy/{session}").json() is True
    for node in shared.nodes:
        assert node.get(f"/v1/session/info/{session}").json() == []
        [key] = node.get("/v1/kv/dialect/l").json()
        assert ("Session" in key, key["LockIndex"]) == (False, rows[0]["LockIndex"])
    assert put(first, f"/v1/session/renew/{session}").status == 404


def test_events_have_one_order_on_all_nodes(shared: Cluster) -> None:
    fired = [
        node.request("PUT", f"/v1/event/fire/dialect{number}", b"hello").json()
        for number, node in enumerate(shared.nodes)
    ]
    assert base64.b64decode(fired[0]["Payload"]) == b"hello"
    for node in shared.nodes:
        assert node.get("/v1/event/list").json()[-3:] == fired


def test_every_node_shows_the_same_catalog_and_itself(shared: Cluster) -> None:
    catalogs = [node.get("/v1/catalog/nodes").json() for node in shared.nodes]
    assert catalogs[0] == catalogs[1] == catalogs[2]
    names = [entry["Node"] for entry in catalogs[0]]
    assert names == sorted(node.name for node in shared.nodes[0].info().nodes)
    raft = shared.nodes[0].get("/v1/operator/raft/configuration").json()
    assert sum(server["Leader"] for server in raft["Servers"]) == 1
    assert {server["ID"] for server in raft["Servers"]} == {entry["ID"] for entry in catalogs[0]}
    assert raft["Index"] > 0
    for node in shared.nodes:
        own = node.get("/v1/agent/self").json()
        members = node.get("/v1/agent/members").json()
        assert own["Member"] in members
        assert [member["Status"] for member in members] == [1, 1, 1]
        assert own["Stats"]["consul"]["leader_addr"] == shared.leader().peer_address
        path = f'/v1/catalog/nodes?filter=Node+==+"{names[1]}"+and+Address+matches+"^127"'
        assert [entry["Node"] for entry in node.get(path).json()] == [names[1]]


def test_an_agent_that_leaves_ends_and_stays_a_member(shared: Cluster) -> None:
    *others, last = shared.nodes
    name = last.get("/v1/agent/self").json()["Config"]["NodeName"]
    assert put(last, "/v1/agent/leave").status == 200
    assert last.wait_end(within=5.0) == 0

    def status() -> int:
        members = others[0].get("/v1/agent/members").json()
        return next(int(member["Status"]) for member in members if member["Name"] == name)

    eventually(lambda: status() == 3, "the others see that it was stopped")
    assert len(others[1].get("/v1/catalog/nodes").json()) == 3
