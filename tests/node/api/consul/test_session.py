"""Sessions: contract-services sections 2.5, 2.6, 6.2, 13.3, and what Consul's clients rely on."""

from __future__ import annotations

import base64
import json
import re
import uuid

import pytest
import trio
import trio.testing

from hstore.node.api.consul.session import WHOLE_MAX
from hstore.node.errors import NoLeader
from hstore.node.model.commands import ChangeSetting, RemoveMember
from hstore.node.model.locks import SESSIONS_MAX, CreateSession, EndSession, Session
from hstore.node.state import sessions
from hstore.node.state.kv import holds
from tests.node.api.consul.conftest import OWN, is_read, is_refused, waits

NOBODY = "6fa459ea-ee8a-3ca4-894e-db77e160355e"
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


async def create(client, body=None, target="/v1/session/create"):
    answer = await client.request(
        "PUT", target, None if body is None else json.dumps(body).encode()
    )
    assert answer.status == 200, answer
    return answer.json()["ID"]


async def only(client, session):
    [found] = (await client.request("GET", f"/v1/session/info/{session}")).json()
    return found


# --- create -------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [None, b"", b"{}", b" ", b"null"])
async def test_without_a_body_all_is_the_default(client, backend, body):
    answer = await client.request("PUT", "/v1/session/create", body)
    assert answer.status == 200
    assert list(answer.json()) == ["ID"]
    session = answer.json()["ID"]
    assert UUID.fullmatch(session)
    index = backend.applied_index
    assert (await client.request("GET", f"/v1/session/info/{session}")).body == (
        b'[{"ID":"%b","Name":"","Node":"n1","LockDelay":15000000000,"Behavior":"release","TTL":"",'
        b'"NodeChecks":["serfHealth"],"ServiceChecks":null,"CreateIndex":%d,"ModifyIndex":%d}]'
        % (session.encode(), index, index)
    )


async def test_no_header_of_a_body_is_needed(client):
    await client.send(b"PUT /v1/session/create HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (await client.response()).status == 200


async def test_each_member_of_the_body_is_taken(client, backend):
    backend.add("n2", 2, 8501)
    backend.check(2, "web:1", "passing")
    body = {
        "Name": "my lock",
        "Node": "N2",
        "LockDelay": "1m30s",
        "Behavior": "delete",
        "TTL": "20s",
        "NodeChecks": [],
        "ServiceChecks": [{"ID": "web:1"}],
        "Datacenter": "dc1",
        "Nonsense": {"x": [1]},
    }
    found = await only(client, await create(client, body))
    assert found["Name"] == "my lock"
    assert found["Node"] == "n2"
    assert found["LockDelay"] == 60_000_000_000
    assert found["Behavior"] == "delete"
    assert found["TTL"] == "20s"
    assert found["NodeChecks"] == []
    assert found["ServiceChecks"] == [{"ID": "web:1"}]


async def test_members_are_matched_without_regard_to_case(client):
    body = {"name": "a", "lockdelay": "2s", "ttl": "10s", "BEHAVIOR": "delete", "checks": []}
    found = await only(client, await create(client, body))
    assert (found["Name"], found["LockDelay"], found["TTL"]) == ("a", 2_000_000_000, "10s")
    assert (found["Behavior"], found["NodeChecks"]) == ("delete", [])


@pytest.mark.parametrize(
    ("given", "ns"),
    [
        (5, 5_000_000_000),
        (0, 0),
        (999, 60_000_000_000),
        (1000, 1000),
        (1e9, 1_000_000_000),
        ("0", 0),
        ("0.001s", 1_000_000),
        ("150ns", 150),
        ("60s", 60_000_000_000),
        ("2h", 60_000_000_000),
        (None, 15_000_000_000),
    ],
)
async def test_lock_delay(client, given, ns):
    found = await only(client, await create(client, {"LockDelay": given}))
    assert found["LockDelay"] == ns


@pytest.mark.parametrize("given", ["", "15", "x", "-1s", -5, "1s "])
async def test_a_lock_delay_that_is_none(client, given):
    answer = await client.request("PUT", "/v1/session/create", {"LockDelay": given})
    assert answer.status == 400
    assert answer.body.startswith(b"Request decode failed: ")


@pytest.mark.parametrize(
    "ttl", ["", "0", "0s", "10s", "10.0s", "10000ms", "24h", "24h0m0s", "1h30m"]
)
async def test_a_ttl_is_kept_as_given(client, backend, ttl):
    session = await create(client, {"TTL": ttl})
    assert (await only(client, session))["TTL"] == ttl
    kept = backend.view().session(uuid.UUID(session).bytes)
    ms = {"10s": 10_000, "10.0s": 10_000, "10000ms": 10_000, "1h30m": 5_400_000}
    assert kept.ttl_ms == ms.get(ttl, 86_400_000 if "24h" in ttl else 0)


async def test_a_part_of_a_millisecond_is_no_reason_to_end_early(client, backend):
    session = await create(client, {"TTL": "10.0000001s"})
    assert backend.view().session(uuid.UUID(session).bytes).ttl_ms == 10_001


@pytest.mark.parametrize(
    ("ttl", "ns"),
    [("9.999s", 9_999_000_000), ("24h0m0.1s", 86_400_100_000_000), ("1ns", 1), ("-10s", -(10**10))],
)
async def test_a_ttl_out_of_bounds(client, ttl, ns):
    answer = await client.request("PUT", "/v1/session/create", {"TTL": ttl})
    is_refused(answer, 500, f"Invalid Session TTL '{ns}', must be between [10s=24h0m0s]")
    assert answer.headers["x-hstore-outcome"] == "not applied"


async def test_the_least_ttl_is_a_setting_and_holds_where_the_session_is_made(client, backend):
    assert backend.apply(ChangeSetting("session_ttl_min_ms", 1500)).ok
    await create(client, {"TTL": "1500ms"})
    answer = await client.request("PUT", "/v1/session/create", {"TTL": "1s"})
    text = "Invalid Session TTL '1000000000', must be between [1.5s=24h0m0s]"
    is_refused(answer, 500, text)


@pytest.mark.parametrize("ttl", ["10", "x", "10 s"])
async def test_a_ttl_that_is_none(client, ttl):
    answer = await client.request("PUT", "/v1/session/create", {"TTL": ttl})
    assert answer.status == 500
    assert answer.body.startswith(f"Session TTL '{ttl}' invalid: ".encode())


@pytest.mark.parametrize("behavior", ["keep", "Release", "x" * 300])
async def test_another_behavior(client, behavior):
    answer = await client.request("PUT", "/v1/session/create", {"Behavior": behavior})
    is_refused(answer, 400, f"Invalid Behavior: '{behavior[:40]}'")


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b'"x"', b'{"TTL":10}', b'{"Name":1}', b'{"NodeChecks":"x"}', b'{"Node":null,}'],
)
async def test_a_body_that_is_none(client, body):
    answer = await client.request("PUT", "/v1/session/create", body)
    assert answer.status == 400
    assert answer.body.startswith(b"Request decode failed: ")
    assert b"\n" not in answer.body


async def test_a_node_that_is_not_known(client, backend):
    answer = await client.request("PUT", "/v1/session/create", {"Node": "nope"})
    is_refused(answer, 500, "Missing node registration")
    assert answer.headers["x-hstore-outcome"] == "not applied"
    assert backend.barriers == 1  # Perhaps this node was behind.


async def test_a_node_that_becomes_known_while_the_lead_is_confirmed(client, backend):
    joined = []

    async def barrier(_deadline):
        joined.append(backend.add("n2", 2, 8501))

    backend.read_barrier = barrier
    session = await create(client, {"Node": "n2"})
    assert joined
    assert (await only(client, session))["Node"] == "n2"


async def test_a_node_may_be_named_by_its_uuid(client, backend):
    backend.add("n2", 2, 8501)
    session = await create(client, {"Node": "00000000-0000-0000-0000-000000000002"})
    assert (await only(client, session))["Node"] == "n2"


async def test_a_check_that_is_not_there(client):
    answer = await client.request("PUT", "/v1/session/create", {"NodeChecks": ["serfHealth", "x"]})
    is_refused(answer, 500, "Missing check 'x' registration")
    answer = await client.request("PUT", "/v1/session/create", {"ServiceChecks": [{"ID": "y"}]})
    is_refused(answer, 500, "Missing check 'y' registration")


async def test_a_critical_check(client, backend):
    backend.check(OWN, "serfHealth", "critical")
    answer = await client.request("PUT", "/v1/session/create")
    is_refused(answer, 500, "Check 'serfHealth' is in critical state")
    await create(client, {"NodeChecks": []})


async def test_texts_that_are_too_long(client):
    answer = await client.request("PUT", "/v1/session/create", {"Name": "x" * 20_000})
    assert answer.status == 400
    assert answer.body.startswith(b"Invalid session: ")


async def test_more_sessions_than_there_may_be(client, backend, monkeypatch):
    assert SESSIONS_MAX == 50_000
    monkeypatch.setattr(sessions, "SESSIONS_MAX", 1)
    await create(client)
    answer = await client.request("PUT", "/v1/session/create")
    assert answer.status == 400
    assert b"1 sessions" in answer.body


async def test_another_datacenter(client):
    for method, target, body in [
        ("PUT", "/v1/session/create?dc=dc2", None),
        ("PUT", "/v1/session/create", {"Datacenter": "dc2"}),
        ("PUT", f"/v1/session/destroy/{NOBODY}?dc=dc2", None),
        ("PUT", f"/v1/session/renew/{NOBODY}?dc=dc2", None),
        ("GET", f"/v1/session/info/{NOBODY}?dc=dc2", None),
        ("GET", "/v1/session/node/n1?dc=dc2", None),
        ("GET", "/v1/session/list?dc=dc2", None),
    ]:
        is_refused(await client.request(method, target, body), 500, "No path to datacenter")


async def test_the_same_request_sent_again_makes_one_session(client):
    answers = [
        await client.request("PUT", "/v1/session/create", {"Name": "a"}, Idempotency_Key="k1")
        for _ in range(2)
    ]
    assert [answer.status for answer in answers] == [200, 200]
    assert answers[0].body == answers[1].body
    assert len((await client.request("GET", "/v1/session/list")).json()) == 1
    other = await client.request("PUT", "/v1/session/create", {"Name": "b"}, Idempotency_Key="k1")
    assert other.status == 422


async def test_without_a_leader(client, backend):
    backend.error = NoLeader("none")
    backend.knows_leader = False
    for target in ["create", f"renew/{NOBODY}", f"destroy/{NOBODY}"]:
        answer = await client.request("PUT", f"/v1/session/{target}")
        is_refused(answer, 500, "No cluster leader")
        assert answer.headers["x-hstore-outcome"] == "not applied"
    for target in [f"info/{NOBODY}", "node/n1", "list"]:
        is_refused(await client.request("GET", f"/v1/session/{target}"), 500, "No cluster leader")
        stale = await client.request("GET", f"/v1/session/{target}?stale")
        assert (stale.status, stale.headers["x-consul-knownleader"]) == (200, "false")


# --- renew and destroy --------------------------------------------------------------------------


async def test_renew_starts_its_time_again_and_shows_it(client, backend):
    session = await create(client, {"TTL": "10s"})
    entries = backend.applied_index
    answer = await client.request("PUT", f"/v1/session/renew/{session}")
    assert answer.status == 200
    assert answer.json() == [await only(client, session)]
    assert backend.renewed == [uuid.UUID(session).bytes]
    assert backend.applied_index == entries  # It is no entry of the log.


async def test_renew_within_a_timeout(client, backend):
    session = await create(client)
    await client.request("PUT", f"/v1/session/renew/{session}?timeout=2s")
    assert backend.calls[-1] == ("renew", pytest.approx(2, abs=0.1))


async def test_a_session_that_is_made_once_may_be_asked_for_again_at_another_node(client, backend):
    """It is on the node that was asked first, if none is named; that is not what was asked for."""
    backend.add("n2", 2, 8600)

    async def ask(**body):
        return await client.request("PUT", "/v1/session/create", body, Idempotency_Key="k1")

    first = await ask(Name="a")
    assert first.status == 200
    backend.id = 2
    again = await ask(Name="a")
    assert (again.status, again.body) == (200, first.body)
    assert (await only(client, first.json()["ID"]))["Node"] == "n1"
    assert [(await ask(Name="a", Node=node)).status for node in ("n1", "n2")] == [422, 422]


async def test_an_idempotency_key_does_no_harm_to_a_renewal(client, backend):
    session = await create(client)
    for _ in range(2):
        answer = await client.request("PUT", f"/v1/session/renew/{session}", Idempotency_Key="k")
        assert answer.status == 200
    assert len(backend.renewed) == 2


@pytest.mark.parametrize("session", [NOBODY, "nonsense", "a/b", "%20", "x" * 100])
async def test_renew_of_what_is_no_session(client, session):
    answer = await client.request("PUT", f"/v1/session/renew/{session}")
    is_refused(answer, 404, f"Session id '{session.replace('%20', ' ')}' not found")


async def test_destroy(client):
    session = await create(client)
    answer = await client.request("PUT", f"/v1/session/destroy/{session}")
    assert (answer.status, answer.body) == (200, b"true")
    assert (await client.request("GET", f"/v1/session/info/{session}")).body == b"[]"
    assert (await client.request("PUT", f"/v1/session/renew/{session}")).status == 404


@pytest.mark.parametrize("session", [NOBODY, "nonsense", "a/b"])
async def test_destroy_of_what_is_no_session_is_true(client, session):
    answer = await client.request("PUT", f"/v1/session/destroy/{session}")
    assert (answer.status, answer.body) == (200, b"true")


async def test_an_id_in_capitals_is_the_same(client):
    session = (await create(client)).upper()
    assert (await client.request("PUT", f"/v1/session/renew/{session}")).status == 200
    assert await only(client, session)


@pytest.mark.parametrize(
    ("method", "target", "text"),
    [
        ("PUT", "renew/", "Missing session"),
        ("PUT", "destroy/", "Missing session"),
        ("GET", "info/", "Missing session"),
        ("GET", "node/", "Missing node name"),
    ],
)
async def test_nothing_named(client, method, target, text):
    is_refused(await client.request(method, f"/v1/session/{target}"), 400, text)


# --- reads --------------------------------------------------------------------------------------


@pytest.mark.parametrize("session", [NOBODY, "1" * 36, "nonsense", "a/b", NOBODY.replace("-", "")])
async def test_info_of_what_is_no_session_is_an_empty_list(client, session):
    answer = await client.request("GET", f"/v1/session/info/{session}")
    assert (answer.status, answer.body) == (200, b"[]")
    is_read(answer, 1)


async def test_lists(client, backend):
    backend.add("n2", 2, 8501)
    for target in ["list", "node/n1", "node/n2", "node/nope"]:
        answer = await client.request("GET", f"/v1/session/{target}")
        assert (answer.status, answer.body) == (200, b"[]")
        is_read(answer)
    here = await create(client, {"Name": "here"})
    there = await create(client, {"Name": "there", "Node": "n2"})

    async def ids(target):
        answer = await client.request("GET", f"/v1/session/{target}")
        is_read(answer)
        return [session["ID"] for session in answer.json()]

    assert set(await ids("list")) == {here, there}
    assert await ids("node/n1") == [here]
    assert await ids("node/N2") == [there]
    assert await ids("node/00000000-0000-0000-0000-000000000002") == [there]
    assert await ids("node/nope") == []


async def test_info_waits_for_its_session_alone(client, connect, backend, autojump_clock):
    session = await create(client)
    index = (await client.request("GET", f"/v1/session/info/{session}")).headers["x-consul-index"]
    await waits(client, f"/v1/session/info/{session}?index={index}")
    other = connect()
    await create(other)
    await trio.testing.wait_all_tasks_blocked()
    assert (await other.request("PUT", f"/v1/session/destroy/{session}")).body == b"true"
    answer = await client.response()
    assert answer.body == b"[]"
    is_read(answer, backend.applied_index)
    assert trio.current_time() == 0


async def test_a_renewal_moves_no_index(client, connect, autojump_clock):
    session = await create(client)
    before = await client.request("GET", f"/v1/session/info/{session}")
    await client.request("PUT", f"/v1/session/renew/{session}")
    after = await client.request("GET", f"/v1/session/info/{session}")
    assert before.headers["x-consul-index"] == after.headers["x-consul-index"]


async def test_a_list_of_a_node_waits_for_its_own_sessions(
    client, connect, backend, autojump_clock
):
    backend.add("n2", 2, 8501)
    first = await client.request("GET", "/v1/session/node/n2")
    await waits(client, f"/v1/session/node/n2?index={first.headers['x-consul-index']}")
    other = connect()
    await create(other, {"Name": "here"})
    await trio.testing.wait_all_tasks_blocked()
    there = await create(other, {"Node": "n2"})
    answer = await client.response()
    assert [session["ID"] for session in answer.json()] == [there]
    assert trio.current_time() == 0


async def test_the_list_waits_for_any(client, connect, backend, autojump_clock):
    first = await client.request("GET", "/v1/session/list")
    await waits(client, f"/v1/session/list?index={first.headers['x-consul-index']}")
    session = await create(connect())
    answer = await client.response()
    assert [each["ID"] for each in answer.json()] == [session]
    is_read(answer, backend.applied_index)


async def test_a_renamed_node_keeps_its_sessions_under_its_new_name(
    client, connect, backend, autojump_clock
):
    session = await create(client)
    targets = ["list", "node/n1", f"info/{session}"]
    others = []
    for target in targets:
        first = await client.request("GET", f"/v1/session/{target}")
        others.append(connect())
        index = first.headers["x-consul-index"]
        await waits(others[-1], f"/v1/session/{target}?index={index}")
    unknown = await client.request("GET", "/v1/session/node/new")
    others.append(connect())
    await waits(others[-1], f"/v1/session/node/new?index={unknown.headers['x-consul-index']}")
    backend.renamed(OWN, "new")
    bodies = [(await other.response()).json() for other in others]
    assert [[each["Node"] for each in body] for body in bodies] == [["new"], [], ["new"], ["new"]]
    assert trio.current_time() == 0


async def test_no_index_falls_when_a_node_comes_and_goes(client, backend):
    last = {"node/n2": 0, "list": 0}

    async def look():
        for target, before in last.items():
            answer = await client.request("GET", f"/v1/session/{target}")
            last[target] = int(answer.headers["x-consul-index"])
            assert last[target] >= before, target
        return answer

    await look()
    backend.add("n2", 2, 8501)
    await look()
    session = await create(client, {"Node": "n2"})
    last[f"info/{session}"] = 0
    await look()
    backend.renamed(2, "n3")
    await look()
    backend.renamed(2, "n2")
    await look()
    backend.apply(RemoveMember(2))
    await look()
    assert (await only(client, session))["Node"] == "00000000-0000-0000-0000-000000000002"
    await client.request("PUT", f"/v1/session/destroy/{session}")
    await look()
    backend.add("n2", 3, 8502)
    await look()


def many(backend, count, name=""):
    """Make sessions without asking for them one by one."""
    for number in range(count):
        session = Session(uuid.UUID(int=number + 1).bytes, name, OWN, 0, "delete", "", 0, ())
        assert backend.apply(CreateSession(session)).ok


@pytest.mark.parametrize("count", [WHOLE_MAX, WHOLE_MAX + 1, 1000])
async def test_a_long_list(client, backend, count):
    many(backend, count, "x" * 200)
    for target in ["list", "node/n1", "list?stale", "list?index=3"]:
        answer = await client.request("GET", f"/v1/session/{target}")
        assert [int(uuid.UUID(each["ID"])) for each in answer.json()] == list(range(1, count + 1))
        assert int(answer.headers["x-consul-index"]) == backend.applied_index
        assert answer.headers["content-type"] == "application/json"
    await trio.testing.wait_all_tasks_blocked()
    assert all(reader.is_closed for reader in backend.readers)


async def test_a_long_list_waits(client, connect, backend, autojump_clock):
    many(backend, 1000)
    await waits(client, f"/v1/session/list?index={backend.applied_index}")
    session = await create(connect())
    answer = await client.response()
    assert session in {each["ID"] for each in answer.json()}
    assert len(answer.json()) == 1001
    assert trio.current_time() == 0


async def test_a_long_list_whose_client_goes_closes_its_reader(client, connect, backend):
    many(backend, 5000, "x" * 400)
    await client.send(b"GET /v1/session/list HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await trio.testing.wait_all_tasks_blocked()
    await client.stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert backend.readers
    assert all(reader.is_closed for reader in backend.readers)


async def test_a_long_list_that_becomes_short_meanwhile(client, backend):
    many(backend, 200)
    view = backend.view

    def later():
        if backend.readers:  # It was found to be long, and is read again in its turn.
            for number in range(150):
                backend.apply(EndSession(uuid.UUID(int=number + 1).bytes))
        return view()

    backend.view = later
    answer = await client.request("GET", "/v1/session/list")
    assert len(answer.json()) == 50
    is_read(answer, backend.applied_index)
    assert len(backend.readers) == 2
    assert all(reader.is_closed for reader in backend.readers)


async def test_values_that_are_too_long_for_what_a_session_holds(client, monkeypatch):
    """Also in writes that ask for no lock: the end of the session writes them all."""
    monkeypatch.setattr(holds, "SESSION_VALUES_MAX", 100)
    session, value = await create(client), b"x" * 101
    locked = await client.request("PUT", f"/v1/kv/held?acquire={session}", b"x")
    assert locked.body == b"true"
    text = "the values of the keys that a session holds may have 100 bytes together"
    for path in (f"/v1/kv/other?acquire={session}", "/v1/kv/held", "/v1/kv/held?flags=1"):
        is_refused(await client.request("PUT", path, value), 400, f"Invalid request: {text}")
    body = json.dumps({"key": "held", "value": value.decode()}).encode()
    answer = await client.request("POST", "/write", body)
    assert (answer.status, answer.json()["error"]) == (400, text)
    operation = {"Verb": "set", "Key": "held", "Value": base64.b64encode(value).decode()}
    answer = await client.request("PUT", "/v1/txn", json.dumps([{"KV": operation}]).encode())
    assert answer.status == 409
    assert answer.json()["Errors"] == [{"OpIndex": 0, "What": text}]
    assert (await client.request("GET", "/v1/kv/held?raw")).body == b"x"
