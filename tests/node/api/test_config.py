"""/v1/config and /v1/node/rename."""

from __future__ import annotations

import pytest

from hstore.node.api.dialect.texts import is_dialect
from hstore.node.errors import ConfigError, NoLeader, OutcomeUnknown, Refused

CHANGES = [
    ("PUT", "/v1/config/heartbeat", {"value": "200ms"}, ("configure", "heartbeat", "200ms")),
    ("PUT", "/v1/config/n1.type", {"value": "learner"}, ("configure", "n1.type", "learner")),
    ("POST", "/v1/node/rename", {"name": "web"}, ("rename", "", "web")),
    ("POST", "/v1/node/rename", {"node": "n2", "name": "web"}, ("rename", "n2", "web")),
]


async def test_all_settings_are_shown_by_key_with_value_and_source(client):
    answer = await client.request("GET", "/v1/config")
    assert answer.json() == {
        "zone": {"value": "hstore.local", "source": "default"},
        "heartbeat": {"value": "1s", "source": "set"},
    }


async def test_one_setting_is_shown_and_an_unknown_one_is_not_found(client):
    answer = await client.request("GET", "/v1/config/zone")
    assert answer.json() == {"key": "zone", "value": "hstore.local", "source": "default"}
    answer = await client.request("GET", "/v1/config/hartbeat")
    assert answer.status == 404
    assert answer.error == "there is no setting 'hartbeat'; there are zone, heartbeat"


async def test_settings_are_the_newest_or_what_this_node_knows(client, backend):
    await client.request("GET", "/v1/config")
    assert backend.barriers == 1
    backend.error = NoLeader("there is no leader")
    assert (await client.request("GET", "/v1/config")).status == 503
    assert (await client.request("GET", "/v1/config?stale")).status == 200


@pytest.mark.parametrize(("method", "path", "body", "call"), CHANGES)
async def test_a_change_is_for_this_machine_only(connect, backend, method, path, body, call):
    assert (await connect(is_local=False).request(method, path, body)).status == 403
    assert backend.calls == []
    answer = await connect().request(method, path, body)
    assert answer.status == 200
    assert backend.calls == [call]


async def test_what_was_changed_is_answered(client):
    answer = await client.request("PUT", "/v1/config/heartbeat", {"value": "200ms"})
    assert answer.json() == {
        "key": "heartbeat",
        "value": "200ms",
        "source": "changed at revision 11",
    }
    answer = await client.request("POST", "/v1/node/rename", {"node": "n2", "name": "web"})
    assert answer.json() == {"name": "web", "was": "n2"}


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConfigError("heartbeat: 'x' is not allowed; allowed: a duration"), 400),
        (Refused("the name web is taken"), 409),
        (NoLeader("there is no leader"), 503),
        (OutcomeUnknown("it may or may not"), 503),
    ],
)
@pytest.mark.parametrize(("method", "path", "body", "_call"), CHANGES)
async def test_why_a_change_is_not_made_is_said(
    client, backend, method, path, body, _call, error, status
):
    backend.error = error
    answer = await client.request(method, path, body)
    assert (answer.status, answer.error) == (status, str(error))
    assert answer.outcome == getattr(error, "outcome", None)


@pytest.mark.parametrize("body", [b"200ms", b'{"value": 200}', b"{}", b""])
async def test_a_body_that_is_no_change_is_refused(client, backend, body):
    assert (await client.request("PUT", "/v1/config/heartbeat", body)).status == 400
    assert (await client.request("POST", "/v1/node/rename", body)).status == 400
    assert backend.calls == []


async def test_while_the_cluster_waits_for_nodes_local_reads_are_refused_too(client, backend):
    backend.set(b"k", b"v")
    backend.waiting = "waiting for 3 nodes"
    for path in ("/read/k?stale", "/read?stale", "/v1/kv/k?stale"):
        answer = await client.request("GET", path)
        if is_dialect(path.encode()):
            assert (answer.status, answer.error) == (500, "No cluster leader")
        else:
            assert (answer.status, answer.json()) == (503, {"error": "waiting for 3 nodes"})
        assert answer.headers["retry-after"] == "1"
    backend.waiting = ""
    assert (await client.request("GET", "/read/k?stale")).status == 200
