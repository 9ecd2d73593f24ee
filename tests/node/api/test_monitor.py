"""/v1/agent/monitor and /v1/timeline: the log as it comes, and what has happened."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import pytest
import structlog
import trio
import trio.testing

from hstore.node.api import monitor
from hstore.node.cluster.timeline import Happened
from hstore.node.config import log_followers, logs
from hstore.node.net.turn import SLICE_BYTES

REQUEST = b"GET /v1/agent/monitor%b HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """A log that writes errors only."""
    before = structlog.get_config()
    logs.configure("error", "text")
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(io.StringIO()))
    yield
    logs._log.followers = ()
    structlog.configure(**before)


async def open_monitor(client, query: bytes = b""):
    await client.send(REQUEST % query)
    head = await client.read_head()
    await trio.testing.wait_all_tasks_blocked()
    return head


@pytest.mark.parametrize("level", ["", "?loglevel=", "?loglevel=info", "?loglevel=INFO"])
async def test_lines_come_from_info_on_also_those_that_standard_error_does_not_get(client, level):
    head = await open_monitor(client, level.encode())
    assert (head.status, head.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    log = structlog.get_logger()
    log.debug("hidden")
    log.info("a member is back", member=2)
    line = (await client.read_chunk()).decode()
    assert line.endswith('level=info event="a member is back" member=unknown id=0000000000000002\n')


@pytest.mark.parametrize(
    ("said", "least"),
    [("trace", "debug"), ("WARN", "warning"), ("err", "error"), ("error", "error")],
)
async def test_levels_of_consul_are_taken_for_the_nearest_of_ours(client, said, least):
    assert (await open_monitor(client, b"?loglevel=%b" % said.encode())).status == 200
    log = structlog.get_logger()
    for level in ("debug", "info", "warning", "error"):
        getattr(log, level)(level)
    await trio.testing.wait_all_tasks_blocked()
    assert f"level={least}" in (await client.read_chunk()).decode().splitlines()[0]


async def test_lines_as_json(client):
    head = await open_monitor(client, b"?logjson&loglevel=debug")
    assert head.headers["content-type"] == "application/x-ndjson"
    structlog.get_logger().debug("said", why="a\nb", count=3)
    found = json.loads(await client.read_chunk())
    assert list(found) == ["time", "level", "event", "why", "count"]
    assert found["why"] == "a\nb"


async def test_an_unknown_level_is_400_in_consuls_words(client):
    answer = await client.request("GET", "/v1/agent/monitor?loglevel=loud")
    assert (answer.status, answer.body) == (400, b"Unknown log level: loud")
    assert logs.followers() == 0


async def test_another_machine_may_not_follow_and_its_refusal_is_logged(connect):
    with structlog.testing.capture_logs() as lines:
        for _ in range(3):
            answer = await connect(is_local=False).request("GET", "/v1/agent/monitor")
            assert answer.status == 403
    assert answer.body.startswith(b"Permission denied")
    assert logs.followers() == 0
    refused = [line for line in lines if line["event"] == "refused a request"]
    assert len(refused) <= 1  # Another test of this process may have been refused before.
    assert all(line["log_level"] == "warning" for line in refused)


async def test_so_many_follow_at_once_and_each_end_makes_room(connect):
    clients = [connect() for _ in range(monitor.READERS_MAX)]
    for one in clients:
        assert (await open_monitor(one)).status == 200
    answer = await connect().request("GET", "/v1/agent/monitor")
    assert answer.status == 503
    assert b"end one of them" in answer.body
    await clients[0].stream.aclose()
    structlog.get_logger().info("with the next line it is noticed at the latest")
    await trio.testing.wait_all_tasks_blocked()
    assert logs.followers() == monitor.READERS_MAX - 1
    assert (await open_monitor(connect())).status == 200


async def test_a_slow_reader_is_told_how_many_lines_it_lost(client):
    await open_monitor(client, b"?logjson")
    log = structlog.get_logger()
    for number in range(log_followers.LINES_MAX + 9):
        log.info("line", number=number)
    read = b""
    while b"log lines dropped" not in read:
        chunk = await client.read_chunk()
        assert len(chunk) <= SLICE_BYTES
        read += chunk
    *lines, last = map(json.loads, read.splitlines())
    assert [line["number"] for line in lines] == list(range(len(lines)))
    assert last["count"] == log_followers.LINES_MAX + 9 - len(lines)
    log.info("later")
    assert json.loads(await client.read_chunk())["event"] == "later"


async def test_a_reader_gets_the_end_of_its_answer_when_the_node_stops(client, server):
    await open_monitor(client)
    structlog.get_logger().info("stopping")
    assert b"stopping" in await client.read_chunk()
    server.close()
    assert await client.read_chunk() == b""
    await trio.testing.wait_all_tasks_blocked()
    assert logs.followers() == 0


async def test_a_token_of_a_request_that_fails_does_not_reach_the_log(
    connect, backend, monkeypatch
):
    def broken() -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(backend, "cluster", broken)
    reader = connect()
    await open_monitor(reader, b"?loglevel=debug")
    secret = "5e2c-secret"
    path = f"/v1/agent/self?token={secret}"
    assert (await connect().request("GET", path, X_Consul_Token=secret)).status == 500
    line = (await reader.read_chunk()).decode()
    assert 'event="request failed"' in line
    assert "a defect" in line
    assert secret not in line


async def test_the_timeline_is_what_the_node_saw_since_a_time(client, backend):
    happened = [Happened(at, "back", "n2", f"{2:016x}", "n2 is back") for at in (5, 7)]
    backend.timeline = lambda since_ms: [one for one in happened if one.at_ms >= since_ms]
    for query, count in (("", 2), ("?since=0", 2), ("?since=6", 1), ("?since=8", 0)):
        answer = await client.request("GET", f"/v1/timeline{query}")
        assert answer.status == 200
        assert len(answer.json()["events"]) == count
    answer = await client.request("GET", "/v1/timeline?since=6")
    assert answer.json() == {
        "events": [
            {"at_ms": 7, "kind": "back", "member": "n2", "id": f"{2:016x}", "text": "n2 is back"}
        ]
    }
    assert (await client.request("GET", "/v1/timeline?since=x")).status == 400
