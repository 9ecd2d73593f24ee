"""`/ui/` and `/v1/ui/`: the files with their policy, who may do what, and the stream of all tabs."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import trio

from hstore.node.api import ui
from hstore.node.errors import NoLeader
from hstore.node.model.locks import Acquire, CreateSession, EndSession, Session
from hstore.node.web import files


async def test_the_document_comes_with_a_policy_that_lets_nothing_else_in(connect):
    answer = await connect().request("GET", "/ui/")

    policy = answer.headers["content-security-policy"]
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.body == files.load()[b"index.html"].body
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for wanted in ("worker-src 'self'", "frame-ancestors 'none'", "connect-src 'self'"):
        assert wanted in policy


@pytest.mark.parametrize("name", sorted(name.decode() for name in files.load()))
async def test_every_file_is_served_with_its_type(connect, name):
    answer = await connect().request("GET", f"/ui/{name}")

    assert answer.status == 200
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.body == files.load()[name.encode()].body


async def test_a_file_that_the_browser_has_is_not_sent_again(connect):
    client = connect()
    etag = (await client.request("GET", "/ui/app.js")).headers["etag"]

    asked = f"GET /ui/app.js HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: {etag}\r\n\r\n"
    await client.send(asked.encode())
    again = await client.read_until(b"\r\n\r\n")
    # On the same connection: it had no body.
    other = await client.request("GET", "/ui/app.js", b"", **{"If-None-Match": '"old"'})

    assert again.startswith(b"HTTP/1.1 304 ")
    assert other.status == 200


@pytest.mark.parametrize("name", ["nothing.js", "../backend.py", "%2e%2e/backend.py", "pages/"])
async def test_what_is_no_file_of_the_dashboard_is_404(connect, name):
    assert (await connect().request("GET", f"/ui/{name}")).status == 404


async def test_the_address_without_its_slash_leads_to_the_one_with_it(connect):
    answer = await connect().request("GET", "/ui")

    assert (answer.status, answer.headers["location"]) == (301, "/ui/")


async def test_changes_are_offered_on_this_machine_only(connect):
    here = json.loads((await connect().request("GET", "/v1/ui/me")).body)
    away = json.loads((await connect(is_local=False).request("GET", "/v1/ui/me")).body)

    assert here["may"] == list(ui.MAY)
    assert away["may"] == []
    assert here["node"] == away["node"]


async def test_sessions_are_shown_with_their_holder_their_keys_and_the_time_that_is_left(
    connect, backend
):
    id_ = b"s" * 16
    session = Session(id_, "web<b>", 1, 0, "release", "10s", 10_000, ())
    assert backend.apply(CreateSession(session)).ok
    assert backend.apply(Acquire(b"lock/a", b"", 0, id_)).ok

    found = (await connect().request("GET", "/v1/ui/sessions")).json()

    (one,) = found["sessions"]
    assert (one["name"], one["node"], one["ttl_s"], one["ttl_left_s"]) == ("web<b>", "n1", 10, 7.25)
    assert (one["keys"], one["held"], found["next"], found["total"]) == (["lock/a"], 1, None, 1)


async def test_sessions_come_by_pages_each_on_one_of_them(connect, backend):
    ids = [bytes([n]) * 16 for n in range(1, 8)]
    for id_ in ids:
        made = Session(id_, f"Job {id_[0]}", 1, 0, "release", "", 0, ())
        assert backend.apply(CreateSession(made)).ok
    client, seen, cursor = connect(), [], ""
    for _ in range(4):
        path = f"/v1/ui/sessions?limit=2&after={cursor}"
        found = (await client.request("GET", path)).json()
        seen += [one["name"] for one in found["sessions"]]
        cursor = found["next"]
        if cursor == found["sessions"][-1]["at"] and len(seen) == 4:
            # One that has gone meanwhile is no longer there to begin behind.
            assert backend.apply(EndSession(ids[3])).ok

    assert seen == [f"Job {n}" for n in range(1, 8)]
    assert (cursor, found["total"]) == (None, 6)


async def test_a_page_of_sessions_with_long_keys_ends_before_it_is_large(connect, backend):
    for n in range(1, 5):
        id_ = bytes([n]) * 16
        assert backend.apply(CreateSession(Session(id_, "", 1, 0, "release", "", 0, ()))).ok
        for k in range(10):
            assert backend.apply(Acquire(b"%d%d" % (n, k) + b"k" * 4_000, b"", 0, id_)).ok

    found = (await connect().request("GET", "/v1/ui/sessions")).json()

    assert len(found["sessions"]) == 2
    assert found["next"] == found["sessions"][-1]["at"]


async def test_sessions_are_searched_by_name_id_node_and_key(connect, backend):
    for id_, name in ((b"s" * 16, "web"), (b"t" * 16, "Cron")):
        assert backend.apply(CreateSession(Session(id_, name, 1, 0, "release", "", 0, ()))).ok
    assert backend.apply(Acquire(b"lock/A", b"", 0, b"s" * 16)).ok
    client = connect()

    async def named(text):
        found = (await client.request("GET", f"/v1/ui/sessions?text={text}")).json()
        return [one["name"] for one in found["sessions"]]

    assert await named("cRON") == ["Cron"]
    assert await named("73737373-7373") == ["web"]
    assert await named("LOCK/a") == ["web"]
    assert await named("n1") == ["web", "Cron"]
    assert await named("nothing") == []
    assert (await client.request("GET", "/v1/ui/sessions?after=x")).status == 400


async def test_without_a_leader_sessions_are_shown_without_the_time_that_is_left(connect, backend):
    session = Session(b"s" * 16, "job", 1, 0, "release", "10s", 10_000, ())
    assert backend.apply(CreateSession(session)).ok
    backend.error = NoLeader("nobody leads")

    (one,) = (await connect().request("GET", "/v1/ui/sessions")).json()["sessions"]

    assert (one["ttl_s"], one["ttl_left_s"]) == (10, None)


async def open_stream(client):
    await client.send(b"GET /v1/ui/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert b"200 OK" in await client.read_until(b"\r\n\r\n")


async def test_a_stream_tells_a_change_at_once_and_the_figures_once_a_second(
    connect, backend, autojump_clock
):
    client = connect()
    await open_stream(client)
    first = await client.read_chunk()
    began = trio.current_time()
    backend.elect("n2", 4)
    changed = await client.read_chunk()
    took = trio.current_time() - began
    await client.read_chunk()
    later = trio.current_time()
    await client.read_chunk()

    assert first.startswith(b'event: cluster\ndata: {"cluster_id":"c1","leader":"n1"')
    assert b'"leader":"n2"' in changed
    assert took == 0
    assert trio.current_time() - later == pytest.approx(ui.PERIOD_S)


async def test_all_streams_of_a_node_share_one_rendering(
    connect, backend, autojump_clock, monkeypatch
):
    made, whole = [], backend.cluster

    def rendered():
        made.append(trio.current_time())
        return whole()

    monkeypatch.setattr(backend, "cluster", rendered)
    clients = [connect() for _ in range(20)]
    for client in clients:
        await open_stream(client)
        await trio.sleep(0.03)
    for _ in range(3):
        said = {await client.read_chunk() for client in clients}

    assert len(said) == 1
    # One for each second, and those of the first moment of each stream.
    assert len(made) <= len(clients) + 4


def test_the_newest_point_of_the_statistics_comes_with_the_cluster_where_there_is_one():
    class Statistics:
        points: ClassVar = [(0, {}), (1_700_000_000_000, {"keys": 3.0})]

        def newest(self):
            return self.points.pop(0)

    backend: Any = SimpleNamespace(statistics=Statistics())
    none_yet, told = ui._newest(backend), ui._newest(backend)

    assert none_yet == b""
    assert told.startswith(b'event: statistics\ndata: {"at_ms":1700000000000,"series":{"keys":3')
    assert told.endswith(b"}}\n\n")
