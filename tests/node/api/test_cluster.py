"""/v1/cluster, /v1/health, /v1/events, join and the admin requests."""

from __future__ import annotations

import json

import msgspec
import pytest
import trio
import trio.testing

from hstore.node.errors import NoLeader, OutcomeUnknown, Refused, Unavailable
from hstore.node.model.cluster_info import PROTOCOL, JoinRequest

NEWCOMER = {
    "id": "00000000000000aa",
    "address": "10.0.0.2:8500",
    "peer_address": "10.0.0.2:8300",
    "dns_address": "10.0.0.2:8600",
    "protocol": 1,
}
ADMIN = [
    ("/v1/node/stop", None, "stop"),
    ("/v1/node/restart", None, "restart"),
    ("/v1/node/kill", None, "kill"),
    ("/v1/node/leave", None, "leave"),
    ("/v1/cluster/stop", None, "stop all"),
    ("/v1/leader/remove", {"node": "n2"}, ("remove", "n2")),
    ("/v1/leader/transfer", {"to": "n2"}, ("transfer", "n2")),
]


async def test_cluster_shows_every_member_of_the_contract(client, backend):
    shown = (await client.request("GET", "/v1/cluster")).json()
    assert list(shown) == [
        "cluster_id", "leader", "term", "quorum", "failure_tolerance", "zone", "nodes",
    ]  # fmt: skip
    assert list(shown["nodes"][0]) == [
        "name", "id", "address", "peer_address", "dns_address", "type", "voter", "health", "term",
        "commit_index", "applied_index", "last_contact_ms", "version", "uptime_s",
        "reason", "disk_free", "disk_needed", "writes_per_s", "fsync_ms", "alarms",
    ]  # fmt: skip
    backend.leader = None
    assert (await client.request("GET", "/v1/cluster")).json()["leader"] is None


async def test_a_newcomer_sees_the_version_of_the_peer_protocol(client):
    answer = await client.request("GET", "/v1/cluster")
    assert answer.headers["x-hstore-protocol"] == str(PROTOCOL)


async def test_health_is_503_with_the_reason_without_a_leader(client, backend):
    assert (await client.request("GET", "/v1/health")).status == 200
    backend.reason = "no leader for 3 s"
    answer = await client.request("GET", "/v1/health")
    assert (answer.status, answer.json()) == (503, {"error": "no leader for 3 s"})
    assert answer.headers["retry-after"] == "1"


async def read_event(client):
    name, data, *rest = (await client.read_chunk()).decode().split("\n")
    assert (name, rest) == ("event: cluster", ["", ""])
    return json.loads(data.removeprefix("data: "))


async def open_events(client):
    await client.send(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    head = await client.read_head()
    assert head.headers["content-type"] == "text/event-stream"
    return head


async def test_events_begin_with_the_cluster_and_follow_each_change_at_once(
    client, backend, autojump_clock
):
    await open_events(client)
    assert (await read_event(client))["leader"] == "n1"
    before = trio.current_time()
    for leader, term in [(None, 4), ("n2", 5)]:
        # Let the server come to rest before the change, so that it is the change that wakes it.
        await trio.testing.wait_all_tasks_blocked()
        backend.elect(leader, term)
        event = await read_event(client)
        assert (event["leader"], event["term"]) == (leader, term)
    assert trio.current_time() == before


async def test_events_for_figures_come_at_most_twice_a_second(client, backend, autojump_clock):
    await open_events(client)
    await read_event(client)
    begin = trio.current_time()
    for _ in range(4):
        backend.term += 1  # Not announced: a mere figure.
        assert (await read_event(client))["term"] == backend.term
    assert trio.current_time() - begin == pytest.approx(2.0)


async def test_events_stay_open_when_nothing_happens(client, autojump_clock):
    await open_events(client)
    await read_event(client)
    for _ in range(20):  # five minutes, far beyond the patience with idle connections
        assert await client.read_chunk() == b":\n\n"
    assert trio.current_time() >= 300


async def test_events_over_http10_are_not_chunked(client, autojump_clock):
    await client.send(b"GET /v1/events HTTP/1.0\r\n\r\n")
    head = await client.read_head()
    assert "transfer-encoding" not in head.headers
    assert head.headers["connection"] == "close"
    assert await client.read_until(b"\n") == b"event: cluster"


async def test_join_is_open_to_other_hosts(connect, backend):
    answer = await connect(is_local=False).request("POST", "/v1/cluster/join", NEWCOMER)
    assert answer.json() == {
        "cluster_id": "c1",
        "name": "n3",
        "zone": "hstore.local",
        "peers": {"aa": "10.0.0.1:8300"},
    }
    assert backend.calls == [(msgspec.convert(NEWCOMER, JoinRequest), pytest.approx(5.0, abs=1))]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://localhost:8500"},
        {"Sec_Fetch_Site": "same-origin"},
        {"User_Agent": "Mozilla/5.0 (X11) Firefox/130"},
    ],
)
async def test_join_is_never_for_browsers(client, backend, headers):
    answer = await client.request("POST", "/v1/cluster/join", NEWCOMER, **headers)
    assert answer.status == 403
    assert not backend.calls


async def test_join_refused_is_409_with_the_reason(client, backend):
    backend.error = Refused("the name n1 is taken")
    answer = await client.request("POST", "/v1/cluster/join", NEWCOMER)
    assert (answer.status, answer.json()) == (409, {"error": "the name n1 is taken"})


async def test_join_without_a_field_is_400(client):
    body = {name: value for name, value in NEWCOMER.items() if name != "protocol"}
    answer = await client.request("POST", "/v1/cluster/join", body)
    assert (answer.status, "protocol" in answer.error) == (400, True)


@pytest.mark.parametrize(("path", "body", "call"), ADMIN)
async def test_admin_requests_reach_the_node_from_loopback_only(connect, backend, path, body, call):
    far = await connect(is_local=False).request("POST", path, body)
    assert (far.status, backend.calls) == (403, [])
    near = await connect().request("POST", path, body)
    assert (near.status, backend.calls) == (200, [call])


@pytest.mark.parametrize(("path", "body", "call"), ADMIN)
@pytest.mark.parametrize("mark", ["1", "", "0"])
async def test_admin_requests_that_a_health_check_makes_are_not_from_loopback(
    client, backend, path, body, call, mark
):
    answer = await client.request("POST", path, body, **{"X-Hstore-Check": mark})
    assert (answer.status, backend.calls) == (403, [])


@pytest.mark.parametrize(("path", "body", "call"), ADMIN)
async def test_admin_requests_are_refused_to_pages_of_other_sites(
    connect, backend, path, body, call
):
    answer = await connect().request("POST", path, body, Origin="http://evil.example")
    assert (answer.status, backend.calls) == (403, [])


async def test_a_stop_without_a_majority_says_that_the_node_is_still_a_voter(client, backend):
    backend.still_voter = "there is no leader"
    answer = await client.request("POST", "/v1/node/stop")
    assert answer.json() == {"stopping": True, "still_voter": "there is no leader"}


async def test_a_transfer_names_who_leads_then(client, backend):
    answer = await client.request("POST", "/v1/leader/transfer", {})
    assert (answer.status, answer.json()) == (200, {"leader": "n2"})
    backend.error = Unavailable("not in time")
    answer = await client.request("POST", "/v1/leader/transfer", {"to": "n2"})
    assert answer.status == 503


@pytest.mark.parametrize("path", ["/v1/node/leave", "/v1/leader/remove"])
async def test_membership_changes_that_fail_say_whether_they_may_happen_yet(connect, backend, path):
    for error, outcome in [
        (NoLeader("no leader"), "not applied"),
        (OutcomeUnknown("?"), "unknown"),
    ]:
        backend.error = error
        answer = await connect().request("POST", path, {"node": "n2"})
        assert (answer.status, answer.outcome) == (503, outcome)
    backend.error = Refused("the rest would have no live majority")
    assert (await connect().request("POST", path, {"node": "n2"})).status == 409


async def test_a_removal_must_name_a_node(client, backend):
    assert (await client.request("POST", "/v1/leader/remove", {"node": ""})).status == 400
    assert (await client.request("POST", "/v1/leader/remove", {})).status == 400
    assert not backend.calls


async def test_the_answer_to_stop_is_the_last_of_its_connection(client):
    answer = await client.request("POST", "/v1/node/stop")
    assert answer.headers["connection"] == "close"
    assert await client.read_to_end() == b""
