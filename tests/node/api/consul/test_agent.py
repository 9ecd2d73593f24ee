"""The member that answers, and who votes: contract-services sections 3.1, 7 (operator, acl)."""

from __future__ import annotations

import json

import pytest

from hstore.node.errors import NoLeader, Unavailable
from hstore.node.model.commands import ChangeSetting
from tests.node.api.consul.conftest import is_refused

ID = "00000000-0000-0000-1f00-000000000001"


async def members(client, query=""):
    answer = await client.request("GET", f"/v1/agent/members{query}")
    assert answer.status == 200, answer
    return answer.json()


async def test_self(client, backend):
    answer = await client.request("GET", "/v1/agent/self")
    assert answer.status == 200
    found = answer.json()
    assert set(found) == {"Config", "Coord", "DebugConfig", "Member", "Meta", "Stats", "xDS"}
    assert found["Config"] == {
        "Datacenter": "dc1",
        "NodeName": "n1",
        "NodeID": ID,
        "Server": True,
        "Revision": "0.1.0",
        "Version": "1.20.0+hstore.0.1.0",
        "SessionTTLMin": 10_000_000_000,
    }
    assert found["DebugConfig"] == {
        "SessionTTLMin": "10s",
        "Datacenter": "dc1",
        "NodeName": "n1",
    }
    assert (found["Coord"], found["xDS"], found["Meta"]) == (None, None, {})
    assert found["Stats"] == {
        "consul": {"leader_addr": "10.0.0.1:8300"},
        "raft": {"state": "Leader", "term": "3", "commit_index": "9", "applied_index": "9"},
        "agent": {"services": "0", "checks": "0"},
    }
    leader = await client.request("GET", "/v1/status/leader")
    assert leader.json() == found["Stats"]["consul"]["leader_addr"]


async def test_self_of_a_follower_without_a_leader(client, backend):
    backend.leader, backend.error, backend.knows_leader = None, NoLeader("none"), False
    answer = await client.request("GET", "/v1/agent/self")
    assert answer.status == 200
    assert answer.json()["Stats"]["consul"]["leader_addr"] == ""
    assert answer.json()["Stats"]["raft"]["state"] == "Follower"
    assert answer.headers["x-consul-knownleader"] == "false"


async def test_self_follows_the_settings(client, backend):
    backend.apply(ChangeSetting("datacenter", "prod"))
    backend.apply(ChangeSetting("session_ttl_min_ms", 1500))
    found = (await client.request("GET", "/v1/agent/self")).json()
    assert found["Config"]["SessionTTLMin"] == 1_500_000_000
    assert found["DebugConfig"]["SessionTTLMin"] == "1.5s"  # as Go prints it
    assert found["Config"]["Datacenter"] == found["DebugConfig"]["Datacenter"] == "prod"
    assert found["Member"]["Tags"]["dc"] == "prod"


async def test_the_member_of_self_is_one_of_the_members_byte_for_byte(client, backend):
    backend.add("n2", 2, 8501)
    own = (await client.request("GET", "/v1/agent/self")).body
    every = (await client.request("GET", "/v1/agent/members")).body
    start = own.index(b'"Member":') + len(b'"Member":')
    member = own[start : own.index(b"}", own.index(b"Status", start)) + 1]
    assert json.loads(member)["Name"] == "n1"
    assert member in every


async def test_members(client, backend):
    backend.add("n2", 2, 8501)
    first, second = await members(client)
    assert first == {
        "Name": "n1",
        "Addr": "10.0.0.1",
        "Port": 8300,
        "Tags": {
            "role": "consul",
            "dc": "dc1",
            "id": ID,
            "port": "8300",
            "build": "1.20.0+hstore.0.1.0:0.1.0",
            "vsn": "2",
            "vsn_min": "2",
            "vsn_max": "3",
        },
        "Status": 1,
        "ProtocolMin": 1,
        "ProtocolMax": 5,
        "ProtocolCur": 2,
        "DelegateMin": 2,
        "DelegateMax": 5,
        "DelegateCur": 4,
    }
    assert (second["Name"], second["Port"]) == ("n2", 8301)


@pytest.mark.parametrize(
    ("health", "status"),
    [
        ("alive", 1),
        ("suspect", 1),
        ("joining", 1),
        ("stopped", 3),
        ("failed", 4),
        ("recovering", 4),
    ],
)
async def test_the_status_of_a_member(client, backend, health, status):
    backend.health["n1"] = health
    assert [member["Status"] for member in await members(client)] == [status]


async def test_members_are_in_the_order_of_bytes_and_may_be_filtered(client, backend):
    backend.add("n2", 2, 8501)
    backend.add("n10", 10, 8510)
    backend.health["n2"] = "failed"

    async def names(query=""):
        return [member["Name"] for member in await members(client, query)]

    assert await names() == ["n1", "n10", "n2"]
    assert await names("?wan") == await names("?wan=1") == ["n1.dc1", "n10.dc1", "n2.dc1"]
    assert await names("?filter=Status+!=+1") == ["n2"]
    assert await names("?filter=Tags.role+==+consul+and+Port==8310") == ["n10"]
    assert await names("?wan&filter=Name+==+%22n2.dc1%22") == ["n2.dc1"]
    answer = await client.request("GET", "/v1/agent/members?filter=Nope==1")
    assert answer.status == 400
    assert answer.body.startswith(b"Failed to create boolean expression evaluator: ")


@pytest.mark.parametrize("target", ["self", "members"])
async def test_another_datacenter(client, target):
    answer = await client.request("GET", f"/v1/agent/{target}?dc=dc2")
    is_refused(answer, 500, "No path to datacenter")


async def test_leave_stops_the_node_and_removes_no_member(client, backend):
    answer = await client.request("PUT", "/v1/agent/leave")
    assert (answer.status, answer.body) == (200, b"")
    assert backend.calls == ["stop"]
    assert answer.headers["connection"] == "close"


async def test_reload(client, backend):
    answer = await client.request("PUT", "/v1/agent/reload")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert backend.calls == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "agent/leave"),
        ("PUT", "agent/reload"),
        ("PUT", "agent/token/default"),
        ("DELETE", "operator/raft/peer?id=x"),
        ("POST", "operator/raft/transfer-leader"),
    ],
)
async def test_from_beyond_this_machine(connect, backend, method, path):
    answer = await connect(is_local=False).request(method, f"/v1/{path}")
    assert answer.status == 403
    assert answer.body.startswith(b"Permission denied")
    assert backend.calls == []


# --- tokens, and what there is not --------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE"])
@pytest.mark.parametrize("path", ["acl/list", "acl/token/self", "acl/policies", "acl/"])
async def test_there_are_no_tokens(client, method, path):
    is_refused(await client.request(method, f"/v1/{path}", b""), 401, "ACL support disabled")


async def test_no_token_of_the_agent(client):
    answer = await client.request("PUT", "/v1/agent/token/default", {"Token": "x"})
    is_refused(answer, 401, "ACL support disabled")


async def test_tokens_are_not_turned_on_yet(client):
    answer = await client.request("PUT", "/v1/acl/bootstrap", b"")
    assert answer.status == 404
    assert answer.body.startswith(b"Invalid URL path: ")


@pytest.mark.parametrize(
    "path", ["connect/ca/roots", "config/service-defaults", "peerings", "peering/x",
             "operator/keyring", "discovery-chain/x", "session/nope", "agent/nope"],
)  # fmt: skip
async def test_what_there_is_not(client, path):
    assert (await client.request("GET", f"/v1/{path}")).status == 404


# --- who votes ----------------------------------------------------------------------------------


async def test_the_configuration_of_raft(client, backend):
    found = (await client.request("GET", "/v1/operator/raft/configuration")).json()
    server = {
        "ID": ID,
        "Node": "n1",
        "Address": "10.0.0.1:8300",
        "Leader": True,
        "ProtocolVersion": "3",
        "Voter": True,
        "LastIndex": 9,
    }
    assert found == {"Servers": [server], "Index": 0}
    backend.add("n2", 2, 8501)
    found = (await client.request("GET", "/v1/operator/raft/configuration")).json()
    assert [each["Leader"] for each in found["Servers"]] == [True, False]
    assert found["Index"] == backend.members[2].create_index


async def test_the_configuration_without_a_leader(client, backend):
    backend.error, backend.knows_leader = NoLeader("none"), False
    answer = await client.request("GET", "/v1/operator/raft/configuration")
    is_refused(answer, 500, "No cluster leader")
    answer = await client.request("GET", "/v1/operator/raft/configuration?stale")
    assert (answer.status, answer.headers["x-consul-effective-consistency"]) == (200, "stale")


@pytest.mark.parametrize(
    "query", ["id=00000000-0000-0000-0000-000000000002", "address=10.0.0.1:8301"]
)
async def test_a_peer_is_removed(client, backend, query):
    backend.add("n2", 2, 8501)
    answer = await client.request("DELETE", f"/v1/operator/raft/peer?{query}")
    assert (answer.status, answer.body) == (200, b"")
    assert backend.calls[-1] == ("remove", "0000000000000002")


@pytest.mark.parametrize("query", ["id=n1", f"id={ID[:-1]}2", "address=10.0.0.1:8500", "id="])
async def test_a_peer_that_is_none(client, backend, query):
    answer = await client.request("DELETE", f"/v1/operator/raft/peer?{query}")
    assert answer.status == 500
    assert b"was not found in the Raft configuration" in answer.body
    assert ("remove" in dict.fromkeys(map(str, backend.calls))) is False


async def test_a_peer_that_may_not_go(client, backend):
    backend.refusal = "the rest would have no live majority"
    answer = await client.request("DELETE", f"/v1/operator/raft/peer?id={ID}")
    is_refused(answer, 500, backend.refusal)


async def test_a_peer_has_to_be_named_in_one_way(client):
    answer = await client.request("DELETE", "/v1/operator/raft/peer")
    assert (answer.status, answer.body[:19]) == (400, b"Must specify either")
    answer = await client.request("DELETE", "/v1/operator/raft/peer?id=x&address=y")
    is_refused(answer, 400, "Must specify only one of ?id or ?address")


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_the_lead_is_handed_over(client, backend, method):
    backend.add("n2", 2, 8501)
    target = "/v1/operator/raft/transfer-leader"
    answer = await client.request(method, target)
    assert (answer.status, answer.body) == (200, b'{"Success":true}')
    other = "00000000-0000-0000-0000-000000000002"
    assert (await client.request(method, f"{target}?id={other}")).status == 200
    assert backend.calls == [("transfer", ""), ("transfer", "0000000000000002")]


async def test_the_lead_that_nobody_can_take(client, backend):
    backend.refusal = "there is no other voter"
    target = "/v1/operator/raft/transfer-leader"
    is_refused(await client.request("POST", target), 500, "there is no other voter")
    is_refused(
        await client.request("POST", f"{target}?id=nope"),
        500,
        "id 'nope' was not found in the Raft configuration",
    )
    backend.error = Unavailable("leadership was not handed over in time")
    answer = await client.request("POST", target)
    is_refused(answer, 500, "leadership was not handed over in time")
    backend.error = NoLeader("none")
    is_refused(await client.request("POST", target), 500, "No cluster leader")
