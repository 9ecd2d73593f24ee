"""Errors and conventions of the dialect: contract-services sections 2.1, 2.2, 2.4 to 2.6."""

from __future__ import annotations

import pytest

from hstore.node.api.dialect.texts import is_dialect
from hstore.node.errors import (
    NoLeader,
    NoSpace,
    NotApplied,
    OutcomeUnknown,
    Overloaded,
    StorageError,
)
from hstore.node.model.commands import ChangeSetting

OWN = ["/read", "/write", "/update", "/delete/a", "/v1/cluster", "/v1/events", "/v1/watch",
       "/v1/health", "/v1/node/stop", "/v1/leader/remove", "/v1/config", "/v2/kv/a", "/kv", "/v1",
       "/v1/kvs", "/v1/kv2/a", "/xv1/kv/a"]  # fmt: skip
DIALECT = ["/", "/v1/kv", "/v1/kv/", "/v1/kv/a/b", "/v1/session/list", "/v1/txn",
           "/v1/catalog/nodes", "/v1/health/service/web", "/v1/health/", "/v1/agent/self",
           "/v1/event/list", "/v1/query", "/v1/coordinate/nodes", "/v1/snapshot",
           "/v1/operator/raft/configuration", "/v1/acl/tokens", "/v1/status/leader"]  # fmt: skip


def test_which_paths_speak_it():
    assert [path for path in OWN + DIALECT if is_dialect(path.encode())] == DIALECT


@pytest.mark.parametrize(
    ("error", "knows_leader", "status", "text", "outcome"),
    [
        (NoLeader("nobody"), False, 500, "No cluster leader", "not applied"),
        (NotApplied("dropped"), True, 500, "No cluster leader", "not applied"),
        (OutcomeUnknown("?"), True, 500, "leadership lost while committing log", "unknown"),
        (OutcomeUnknown("?"), False, 500, "No cluster leader", "unknown"),
        (Overloaded("much"), True, 503, "much", "not applied"),
        (NoSpace("full"), True, 503, "full", "not applied"),
        (StorageError("bad\ndisk"), True, 503, "bad disk", "unknown"),
    ],
)
async def test_an_error_of_the_node_is_one_line_of_text(
    client, backend, error, knows_leader, status, text, outcome
):
    backend.error, backend.knows_leader = error, knows_leader
    for method, body in [("PUT", b"x"), ("DELETE", None), ("GET", None)]:
        answer = await client.request(method, "/v1/kv/a", body)
        assert (answer.status, answer.error) == (status, text)
        assert answer.outcome == (None if method == "GET" else outcome)
        assert ("retry-after" in answer.headers) is not isinstance(error, NoSpace | StorageError)


async def test_every_answer_has_the_headers_of_the_dialect(client, backend):
    backend.set(b"a", b"1")
    for method, target, body in [
        ("GET", "/v1/kv/a", None), ("GET", "/v1/kv/a?raw", None), ("GET", "/v1/kv/?keys", None),
        ("GET", "/v1/kv/b", None), ("GET", "/v1/kv/", None), ("PUT", "/v1/kv/a", b""),
        ("PUT", "/v1/kv/a?cas=x", b""), ("POST", "/v1/kv/a", b""), ("GET", "/v1/kv", None),
        ("GET", "/", None), ("GET", "/v1/status/leader", None), ("OPTIONS", "/v1/kv/a", None),
        ("GET", "/v1/kv/a?dc=x", None),
    ]:  # fmt: skip
        headers = (await client.request(method, target, body)).headers
        assert headers["x-consul-default-acl-policy"] == "allow"
        assert headers["vary"] == "Accept-Encoding"
        assert int(headers["x-hstore-index"]) >= 11
        assert "x-cache" not in headers
        assert "x-consul-translate-addresses" not in headers
    own = (await client.request("GET", "/read/a")).headers
    assert not [name for name in own if name.startswith("x-consul")]


@pytest.mark.parametrize("what", ["a", "a?raw", "b", "?keys", "?recurse", "b?recurse", "b?keys"])
async def test_a_read_says_how_consistent_it_is(client, backend, what):
    backend.set(b"a", b"1")
    sign = "&" if "?" in what else "?"
    backend.last_contact_ms = 7
    for query, mode, contact in [
        ("", "leader", "0"), ("consistent", "consistent", "0"), ("stale", "stale", "7"),
        ("stale=false", "stale", "7"), ("max_stale=12ms", "stale", "7"),
        ("max_stale=11ms", "leader", "0"),
    ]:  # fmt: skip
        answer = await client.request("GET", f"/v1/kv/{what}{sign}{query}")
        assert answer.headers["x-consul-effective-consistency"] == mode
        assert answer.headers["x-consul-lastcontact"] == contact
        assert answer.headers["x-consul-knownleader"] == "true"
        assert answer.index >= 1
        assert ("x-hstore-stale-ms" in answer.headers) is (mode == "stale")
    backend.knows_leader, backend.error = False, NoLeader("none")
    answer = await client.request("GET", f"/v1/kv/{what}{sign}stale")
    assert answer.headers["x-consul-knownleader"] == "false"


@pytest.mark.parametrize(
    ("method", "target", "text"),
    [
        ("GET", "/v1/kv/a?stale&consistent", "Conflicting flags: consistent,stale"),
        ("GET", "/v1/kv/a?consistent&cached", "Conflicting flags: cached,consistent"),
        ("PUT", "/v1/kv/a?release=x&cas=1", "Conflicting flags: cas,release"),
        ("PUT", "/v1/kv/a?cas=1&acquire=x&release=y", "Conflicting flags: acquire,cas,release"),
        ("DELETE", "/v1/kv/a?recurse&cas=1", "Conflicting flags: cas,recurse"),
        ("GET", "/v1/kv/a?index=x", "Invalid index"),
        ("GET", "/v1/kv/a?index=-1", "Invalid index"),
        ("GET", "/v1/kv/a?index=18446744073709551616", "Invalid index"),
        ("GET", "/v1/kv/a?index=%D9%A3", "Invalid index"),
        ("GET", "/v1/kv/a?wait=10", "Invalid wait time"),
        ("GET", "/v1/kv/a?wait=-1s&index=1", "Invalid wait time"),
        ("GET", "/v1/kv/a?recurse&wait=1x&index=1", "Invalid wait time"),
        ("GET", "/v1/kv/", "Missing key name"),
        ("PUT", "/v1/kv/", "Missing key name"),
        ("DELETE", "/v1/kv/", "Missing key name"),
    ],
)
async def test_a_malformed_request_is_400(client, backend, method, target, text):
    answer = await client.request(method, target, b"" if method == "PUT" else None)
    assert (answer.status, answer.error) == (400, text)
    assert not backend.calls


@pytest.mark.parametrize(
    ("method", "target"),
    [("PUT", "/v1/kv/a?cas=abc"), ("PUT", "/v1/kv/a?flags=-1"), ("DELETE", "/v1/kv/a?cas="),
     ("GET", "/v1/kv/a?max_stale=x"), ("GET", "/v1/kv/a?timeout=x"), ("GET", "/v1/kv/%zz"),
     ("GET", "/v1/kv/%ff"), ("GET", "/v1/kv/a?%zz"), ("PUT", "/v1/kv/a?CAS=1")],
)  # fmt: skip
async def test_what_is_invalid_says_so_first(client, method, target):
    answer = await client.request(method, target, b"" if method == "PUT" else None)
    assert (answer.status, answer.error[:8]) == (400, "Invalid ")


@pytest.mark.parametrize("target", ["/v1/kv/a", "/v1/kv/a?keys", "/v1/status/leader", "/"])
async def test_there_is_one_datacenter(client, backend, target):
    backend.set(b"a", b"1")
    sign = "&" if "?" in target else "?"
    for name in ["", "dc1"]:
        assert (await client.request("GET", f"{target}{sign}dc={name}")).status == 200
    answer = await client.request("GET", f"{target}{sign}dc=dc2")
    assert (answer.status, answer.error) == (500, "No path to datacenter")


async def test_the_datacenter_is_called_as_the_cluster_says(client, backend):
    backend.apply(ChangeSetting("datacenter", "west"))
    assert (await client.request("PUT", "/v1/kv/a?dc=west", b"")).status == 200
    answer = await client.request("PUT", "/v1/kv/a?dc=dc1", b"")
    assert (answer.status, answer.error, answer.outcome) == (
        500, "No path to datacenter", "not applied",
    )  # fmt: skip


@pytest.mark.parametrize(
    "target",
    ["/v1/kv", "/v1/session/nothing", "/v1/agent/nothing", "/v1/health/nothing", "/v1/operator/x"],
)
async def test_an_unknown_path_says_so(client, target):
    answer = await client.request("GET", target)
    assert answer.status == 404
    assert answer.error == "Invalid URL path: not a recognized HTTP API endpoint"


async def test_a_wrong_method_is_named(client):
    answer = await client.request("POST", "/v1/kv/a", b"")
    assert (answer.status, answer.error) == (405, "method POST not allowed")
    assert answer.headers["allow"] == "DELETE, GET, PUT"


async def test_the_root_is_one_line(client):
    answer = await client.request("GET", "/")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    assert answer.body
    assert b"\n" not in answer.body


@pytest.mark.parametrize("size", [1024 * 1024 + 1, 7 * 1024 * 1024])
@pytest.mark.parametrize(
    ("method", "path", "most"),
    [("PUT", "/v1/kv/a", 1024 * 1024), ("PUT", "/v1/event/fire/a", 4096),
     ("PUT", "/v1/txn", 2 * 1024 * 1024), ("GET", "/v1/kv/a", 6 * (1024 * 1024 + 4096) + 1024)],
)  # fmt: skip
async def test_a_body_too_large_says_how_large(connect, backend, size, method, path, most):
    """The bound is that of the path, also where the connection refuses what no path takes."""
    if size <= most:
        return
    client = connect()
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n"
    await client.send(head.encode() + (b"x" * size if size < 2**21 else b""))
    answer = await client.response()
    text = f"Request body({size} bytes) too large, max size: {most} bytes."
    assert (answer.status, answer.error) == (413, text)
    assert answer.outcome == ("not applied" if method == "PUT" else None)
    assert not backend.calls


async def test_a_chunked_body_is_counted(connect):
    client = connect()
    await client.send(
        b"PUT /v1/kv/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"100001\r\n%b\r\n0\r\n\r\n" % (b"x" * 0x100001)
    )
    answer = await client.response()
    assert answer.status == 413
    assert answer.error == "Request body(1048577 bytes) too large, max size: 1048576 bytes."


async def test_what_the_parser_refuses_is_plain_text_where_the_path_is_known(connect):
    for path, is_text in [("/v1/kv/a", True), ("/read/a", False)]:
        client = connect()
        await client.send(f"GET {path} HTTP/1.1\r\n\r\n".encode())
        answer = await client.response()
        assert (answer.status, "Host" in answer.error) == (400, True)
        assert answer.headers["content-type"].startswith("text/plain") is is_text


async def test_a_strange_host_is_told_what_to_do(client):
    answer = await client.request("GET", "/v1/kv/a", Host="kv.evil.example:8500")
    assert answer.status == 403
    assert answer.error == 'Permission denied: Host "kv.evil.example"; add it to http.hosts'
    answer = await client.request("PUT", "/v1/kv/a", b"", Origin="http://evil.example")
    assert (answer.status, answer.error[:17]) == (403, "Permission denied")


@pytest.mark.parametrize(
    "host", ["consul", "consul:8500", "hstore-1", "consul.service.hstore.local"]
)
async def test_names_that_clients_of_consul_use_are_ours(client, host):
    assert (await client.request("GET", "/v1/status/peers", Host=host)).status == 200
