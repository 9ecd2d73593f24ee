"""Query parameters: what a path does not know is ignored, unless to ignore it would be to deceive."""

from __future__ import annotations

import pytest

from hstore.node.api.parameters import MEANINGFUL
from hstore.node.api.routes import RECORDS
from hstore.node.model.commands import ChangeSetting, Delete, Put

KNOWN = {name for route in RECORDS for name in route.known}

IGNORED = [
    "pretty", "consistent", "cached", "max_stale=1s", "near=_agent", "leader", "wait=10s", "token=abc",
    "ns=team", "partition=one", "segment=", "peer=", "wan", "local-only", "relay-factor=1", "connect",
    "merge-central-config", "dc=", "dc=dc1", "utm_source=mail", "x=1&x=2", "", "&&", "=",
]  # fmt: skip

ASKED = [
    ("GET", "/v1/kv/a", None),
    ("GET", "/v1/kv/a?raw", None),
    ("PUT", "/v1/kv/a", b"x"),
    ("DELETE", "/v1/kv/gone", None),
    ("GET", "/read/a", None),
    ("GET", "/read", None),
    ("POST", "/write", {"key": "a", "value": "x"}),
    ("POST", "/update", {"key": "a", "value": "x"}),
    ("GET", "/v1/health", None),
    ("GET", "/v1/status/leader", None),
    ("GET", "/v1/status/peers", None),
    ("GET", "/v1/cluster", None),
    ("GET", "/v1/config", None),
    ("GET", "/v1/node/load", None),
    ("POST", "/v1/leader/transfer", {"to": "n2"}),
]


def with_query(target: str, query: str) -> str:
    return target + ("&" if "?" in target else "?") + query


@pytest.mark.parametrize("name", [*sorted(set(MEANINGFUL) | KNOWN), "CAS", "Acquire", "rEcurse"])
async def test_what_would_change_the_meaning_is_refused_where_it_is_not_supported(
    client, backend, name
):
    """`PUT ?acquire=` answered true, and nobody had a lock."""
    backend.set(b"a", b"1")
    for method, target, body in ASKED:
        path = target.partition("?")[0]
        route = next(
            r for r in RECORDS
            if r.method == method.encode()
            and (path.encode() == r.path or (r.has_key and path.encode().startswith(r.path)))
        )  # fmt: skip
        if name in route.known or name.lower() not in {*MEANINGFUL, *route.known}:
            continue
        answer = await client.request(method, with_query(target, f"{name}=1"), body)
        assert (method, target, answer.status) == (method, target, 400)
        assert f"?{name.lower()}" in answer.error
    assert not [one for one, _ in backend.calls if isinstance(one, Put | Delete)]


@pytest.mark.parametrize("query", IGNORED)
async def test_what_means_nothing_here_is_ignored(client, backend, query):
    backend.set(b"a", b"1")
    for method, target, body in ASKED:
        answer = await client.request(method, with_query(target, query), body)
        assert (method, target, answer.status) == (method, target, 200)


@pytest.mark.parametrize(
    ("method", "target", "said"),
    [
        (
            "POST",
            "/write?acquire=6e4d",
            "?acquire is not supported here (it would be about a lock)",
        ),
        ("DELETE", "/v1/kv/a?release=6e4d", "?release is not supported here"),
        ("PUT", "/v1/kv/a?CAS=0", "?CAS is not known here: write it ?cas"),
        ("PUT", "/v1/kv/a?Acquire=1", "?Acquire is not known here: write it ?acquire"),
        ("GET", "/v1/kv/a?Index=1", "?Index is not known here: write it ?index"),
        ("PUT", "/v1/kv/a?%63as=0&%43AS=1", "?CAS is not known here"),
        ("PUT", "/v1/kv/a?+cas=0", "write it ?cas"),
        ("PUT", "/v1/kv/a?ttl=30s", "?ttl is not supported here (no key ends by itself yet)"),
        ("PUT", "/v1/kv/a?recurse", "?recurse is not supported here"),
        ("GET", "/read/a?index=7&wait=10s", "?index is not supported here"),
        ("GET", "/v1/kv/?recurse&prefix=a", "?prefix is not supported here"),
        ("GET", "/v1/kv/a?cas=1", "?cas is not supported here"),
        ("DELETE", "/delete/a?recurse", "?recurse is not supported here"),
        ("DELETE", "/delete/a?cas=1", "?cas is not supported here"),
        ("GET", "/read/a?raw", "?raw is not supported here"),
        ("GET", "/v1/watch?limit=1", "?limit is not supported here"),
        ("GET", "/v1/events?prefix=a", "?prefix is not supported here"),
        ("GET", "/read/a?dc=other", "?dc=other: there is one datacenter, dc1"),
        ("GET", "/read/a?stale&consistent", "contradict each other"),
        ("GET", "/read?after=1&after=2", "?after is there 2 times"),
        ("GET", "/read?after=1&%61fter=1", "?after is there 2 times"),
        ("PUT", "/v1/kv/a?cas=0&cas=1", "?cas is there 2 times"),
        ("GET", "/v1/kv/a?dc=dc1&dc=other", "?dc is there 2 times"),
    ],
)
async def test_a_refusal_names_the_parameter(client, backend, method, target, said):
    backend.set(b"a", b"1")
    body = {"PUT": b"x", "POST": {"key": "a", "value": "x"}}.get(method)
    answer = await client.request(method, target, body)
    assert answer.status == 400
    assert said in answer.error
    assert backend.items[b"a"].value == b"1"


async def test_dc_may_name_the_datacenter_as_the_cluster_does(client, backend):
    backend.set(b"a", b"1")
    backend.apply(ChangeSetting("datacenter", "west"))
    assert (await client.request("GET", "/read/a?dc=west")).status == 200
    answer = await client.request("GET", "/read/a?dc=dc1")
    assert (answer.status, answer.error) == (400, "?dc=dc1: there is one datacenter, west")


async def test_a_gate_comes_before_what_the_query_says(connect, client):
    far = connect(is_local=False)
    assert (await far.request("POST", "/v1/node/stop?cas=1", b"")).status == 403
    assert (await client.request("GET", "/nothing?cas=1")).status == 404
    assert (await client.request("POST", "/v1/kv/a?cas=1", b"")).status == 405


_ENDS = {
    "/v1/kv/": "key",
    "/read/": "key",
    "/delete/": "key",
    "/v1/config/": "name of the setting",
    "/v1/agent/check/": "check ID",
    "/v1/agent/service/": "service ID",
    "/v1/agent/health/service/id/": "service ID",
    "/v1/agent/health/service/name/": "service name",
    "/v1/catalog/node/": "node name",
    "/v1/catalog/": "service name",
    "/v1/coordinate/node/": "node name",
    "/v1/event/fire/": "name of the event",
    "/v1/health/node/": "node name",
    "/v1/health/state/": "check state",
    "/v1/health/": "service name",
    "/v1/session/node/": "node name",
    "/v1/session/": "session ID",
}


@pytest.mark.parametrize(
    "route",
    [
        one
        for one in RECORDS
        if one.path.decode().startswith(tuple(_ENDS)) and one.path[-1:] == b"/"
    ],
    ids=lambda one: f"{one.method.decode()} {one.path.decode()}",
)
async def test_a_bad_end_of_a_path_is_called_what_it_is(client, route):
    method, path = route.method.decode(), route.path.decode()
    what = next(what for start, what in _ENDS.items() if path.startswith(start))
    body = {"Status": "passing", "value": "1s"} if method == "PUT" else None
    query = "?enable=true" if "maintenance" in path else ""
    answer = await client.request(method, f"{path}%ff{query}", body)
    assert answer.status == 400
    assert answer.error.removeprefix("Invalid request: ") == f"the {what} is not UTF-8"
    answer = await client.request(method, path + "a" * 4097 + query, body)
    assert answer.status == 413
    assert answer.error.startswith(f"the {what} has 4,097 bytes: ")
