"""The HTTP API of real nodes, as curl and a browser use it."""

from __future__ import annotations

import http.client
import json
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from .cluster import Cluster, Node, eventually, run


@pytest.fixture
def curl(shared: Cluster, require_tool: Callable[[str], str]) -> Callable[..., str]:
    """Return a function that runs curl and gives the body."""
    path = require_tool("curl")

    def ask(*arguments: str) -> str:
        said = run(path, "-sS", "--max-time", "20", *arguments, env=shared.env)
        assert said.status == 0, said
        return said.out

    return ask


def test_curl_writes_at_one_node_and_reads_at_another(
    shared: Cluster, curl: Callable[..., str]
) -> None:
    first, second, third = (f"localhost:{node.port}" for node in shared.nodes)
    written = json.loads(curl("-d", '{"key":"foo","value":"bar"}', f"{third}/write"))
    assert json.loads(curl(f"{second}/read/foo")) == {
        "key": "foo",
        "value": "bar",
        "revision": written["revision"],
    }
    updated = json.loads(curl("-d", '{"key":"foo","value":"baz"}', f"{first}/update"))
    assert updated["revision"] > written["revision"]
    assert json.loads(curl(f"{third}/read?prefix=foo")) == {"foo": "baz"}
    assert json.loads(curl(f"{second}/delete/foo"))["key"] == "foo"
    assert "error" in json.loads(curl(f"{first}/read/foo"))


def test_curl_puts_and_gets_raw_values(shared: Cluster, curl: Callable[..., str]) -> None:
    first, second, third = (f"localhost:{node.port}/v1/kv/" for node in shared.nodes)
    assert curl("-X", "PUT", "--data-binary", "a\nb", f"{third}raw/key") == "true"
    assert curl(f"{second}raw/key?raw") == "a\nb"
    assert curl("-X", "PUT", "-d", "x", f"{second}raw/key?cas=0") == "false"
    assert json.loads(curl(f"{first}raw/?keys")) == ["raw/key"]
    assert curl("-X", "DELETE", f"{first}raw/?recurse") == "true"


def test_curl_sees_leader_and_peers_and_events(shared: Cluster, curl: Callable[..., str]) -> None:
    leader = shared.leader()
    addresses = {node.peer_address for node in shared.nodes}
    for node in shared.nodes:
        assert json.loads(curl(f"{node.address}/v1/status/leader")) == leader.peer_address
        assert set(json.loads(curl(f"{node.address}/v1/status/peers"))) == addresses
        assert curl("-o", "/dev/null", "-w", "%{http_code}", f"{node.address}/v1/health") == "200"


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Host": "evil.example"},
    ],
    ids=["fetch metadata", "another port of the site", "origin", "rebound host"],
)
def test_a_page_of_another_site_cannot_delete_a_key(
    shared: Cluster, headers: dict[str, str]
) -> None:
    node = shared.nodes[1]
    assert node.write("precious", "1").status == 200
    assert node.request("GET", "/delete/precious", headers=headers).status == 403
    assert node.read("precious") == "1"


def test_a_page_of_another_site_cannot_end_a_node(shared: Cluster) -> None:
    node = shared.nodes[1]
    answer = node.request(
        "POST", "/v1/node/kill", b"{}", {"Sec-Fetch-Site": "cross-site", "Origin": "https://a.b"}
    )
    assert answer.status == 403
    assert node.is_running


def test_a_local_read_says_how_old_it_may_be(shared: Cluster) -> None:
    node = shared.nodes[2]
    assert node.write("fresh", "1").status == 200
    answer: str = eventually(lambda: _fresh(node), "the copy has caught up")
    assert 0 <= int(answer) < 5000


def _fresh(node: Node) -> str | None:
    answer = node.get("/read/fresh?stale")
    return answer.headers.get("x-hstore-stale-ms") if answer.status == 200 else None


def test_a_node_takes_no_host_no_query_and_no_body_that_another_reads_otherwise(
    shared: Cluster,
) -> None:
    node = shared.nodes[0]
    name = node.info().nodes[0].name
    for host, status in (
        ("anything.hstore.local", 403),
        ("nobody.node.hstore.local", 403),
        (f"{name}.node.hstore.local:{node.port}", 200),
        ("leader.hstore.local", 200),
        ("db-1", 200),
    ):
        assert node.request("GET", "/v1/health", headers={"Host": host}).status == status, host
    for target, status in (
        ("/v1/kv/lock?acquire=anything", 500),
        ("/v1/kv/lock?CAS=0", 400),
        ("/v1/kv/lock?cas=0&cas=1", 400),
    ):
        assert node.request("PUT", target, b"mine").status == status, target
    twice = b'{"key":"lock","value":"x","value":"y"}'
    assert node.request("POST", "/write", twice).status == 400
    assert node.read("lock") is None


def test_a_read_on_a_follower_waits_for_a_change_and_a_stop_ends_it(shared: Cluster) -> None:
    leader, follower = shared.leader(), shared.followers()[0]
    assert leader.request("PUT", "/v1/kv/waited", b"1").status == 200
    index = follower.get("/v1/kv/waited").headers["x-consul-index"]
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(follower.get, f"/v1/kv/waited?raw&index={index}&wait=30s")
        all_ = pool.submit(follower.get, f"/v1/kv/?keys&index={index}&wait=30s")
        while not (one.done() or all_.done()):
            assert leader.request("PUT", "/v1/kv/waited", b"2").status == 200
        assert one.result(5).body == b"2"
        assert "waited" in all_.result(5).json()
        again = one.result().headers["x-consul-index"]
    waiting = http.client.HTTPConnection("127.0.0.1", follower.port, timeout=20)
    waiting.request("GET", f"/v1/kv/waited?stale&index={int(again) + 10**6}&wait=30s")
    # What is asked later is answered later, so that one waits by then.
    assert follower.get("/v1/kv/waited?stale").status == 200
    assert follower.request("POST", "/v1/node/restart").status == 200
    assert waiting.getresponse().status == 500
    waiting.close()
    eventually(lambda: follower.get("/v1/health").status == 200, "it is back")


def test_without_a_quorum_requests_end_in_time_with_503_and_when_to_try_again(
    shared: Cluster,
) -> None:
    survivor = shared.followers()[0]
    assert survivor.write("kept", "1").status == 200
    eventually(lambda: survivor.get("/read/kept?stale").status == 200, "it has the key")
    for node in shared.nodes:
        if node is not survivor:
            node.signal(signal.SIGKILL)
            node.wait_end()
    eventually(lambda: survivor.info().leader is None, "it has no leader")
    for method, path, body in (
        ("POST", "/write?timeout=500ms", b'{"key":"a","value":"b"}'),
        ("GET", "/read/kept?timeout=500ms", None),
        ("GET", "/read?timeout=500ms", None),
        ("PUT", "/v1/kv/a?timeout=500ms", b"b"),
        ("DELETE", "/v1/kv/a?timeout=500ms", None),
    ):
        begun = time.monotonic()
        answer = survivor.request(method, path, body)
        took = time.monotonic() - begun
        if path.startswith("/v1/kv/"):
            assert (answer.status, answer.body) == (500, b"No cluster leader")
        else:
            assert answer.status == 503, (path, answer)
        assert int(answer.headers["retry-after"]) >= 1
        assert 0.3 < took < 3, (path, took)
        if method != "GET":
            assert answer.outcome == "not applied"
    assert survivor.get("/read/kept?stale").json()["value"] == "1"
    assert survivor.get("/v1/health").status == 503
    assert survivor.get("/v1/status/leader").json() == ""
    said = shared.hstore("list", "-h", survivor.address)
    assert said.status == 1
    assert "no leader" in said.err
