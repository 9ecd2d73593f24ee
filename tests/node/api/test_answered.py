"""Each answer of a server is counted once: by route, never by key, by method and by status."""

from __future__ import annotations

import trio

from hstore.node.api.routes import ROUTES
from hstore.node.errors import Overloaded


def counted(server) -> dict[tuple[str, str], dict[str, int]]:
    return {
        (tally.route, tally.method): tally.statuses
        for tally in server.answered.tallies
        if tally.statuses
    }


async def test_each_answer_is_counted_by_its_route_and_status(client, server):
    for key in ("a", "b/c"):
        await client.request("PUT", f"/v1/kv/{key}", b"value")
    await client.request("GET", "/v1/kv/a")
    await client.request("GET", "/v1/kv/none")
    await client.request("HEAD", "/read/a")
    await client.request("POST", "/write", {"key": "k", "value": "v"})
    await client.request("POST", "/write", b"{")
    assert counted(server) == {
        ("/v1/kv/{key}", "PUT"): {"200": 2},
        ("/v1/kv/{key}", "GET"): {"200": 1, "404": 1},
        ("/read/{key}", "HEAD"): {"200": 1},
        ("/write", "POST"): {"200": 1, "400": 1},
    }
    assert (server.answered.requests, server.answered.writes) == (7, 4)
    assert sum(server.answered.seconds().counts) == 7


async def test_what_has_no_route_shares_one_label(client, server, connect):
    for method, path in (("GET", "/nothing/1"), ("GET", "/nothing/2"), ("PATCH", "/v1/kv/a")):
        await client.request(method, path, b"")
    bad = connect()
    await bad.send(b"GET / HTTP/1.1\r\n\r\n")
    await bad.response()
    found = counted(server)
    assert set(found) == {("other", "other")}
    assert sum(found["other", "other"].values()) == 4


async def test_a_request_that_the_guard_refuses_is_counted_under_its_route(client, server):
    await client.request("GET", "/v1/kv/a", Host="evil.example")
    assert counted(server) == {("/v1/kv/{key}", "GET"): {"403": 1}}


async def test_a_large_answer_is_counted_when_it_was_sent(client, server):
    await client.request("GET", "/read")
    assert counted(server) == {("/read", "GET"): {"200": 1}}


async def test_a_read_that_waits_for_a_change_is_not_timed(client, server, connect, autojump_clock):
    first = await client.request("GET", "/v1/kv/?recurse")
    index = first.headers["x-consul-index"]
    with trio.fail_after(60):
        await client.request("GET", f"/v1/kv/?recurse&index={index}&wait=5s")
    assert counted(server) == {("/v1/kv/{key}", "GET"): {"404": 2}}
    assert sum(server.answered.seconds().counts) == 1


def test_every_route_has_counts_of_its_own():
    tallies = ROUTES.make_tallies()
    labels = [(tally.route, tally.method) for tally in tallies]
    assert len(set(labels)) == len(labels)
    assert labels[0] == ("other", "other")


async def test_what_is_refused_because_there_is_too_much_is_counted(client, server, backend):
    assert set(server.answered.shed.values()) == {0}
    backend.error = Overloaded("too many writes are waiting; try again in a moment")
    assert (await client.request("PUT", "/v1/kv/a", b"v")).status in (500, 503)
    assert server.answered.shed["requests"] == 1
    assert server.answered.served().connections == 1
