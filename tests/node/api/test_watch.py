"""/v1/watch: what is sent of the changes under a prefix, and what becomes of slow and lost clients."""

from __future__ import annotations

import base64
import json

import pytest
import trio
import trio.testing

from hstore.node.api.http.server import ApiServer
from hstore.node.api.routes import ROUTES
from hstore.node.api.watch import KEEPALIVE_S
from hstore.node.model.commands import Put, Transaction
from hstore.node.state.watching import changes

from .conftest import Client


async def open_watch(client, query="", **headers):
    lines = [f"GET /v1/watch{query} HTTP/1.1", "Host: localhost"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    await client.send("\r\n".join(lines).encode() + b"\r\n\r\n")
    return await client.read_head()


class Stream:
    """The events of a response, whatever chunks they come in, as EventSource would read them."""

    def __init__(self, client):
        self.client = client
        self.last_id = ""
        self._text = b""

    async def block(self):
        while b"\n\n" not in self._text:
            chunk = await self.client.read_chunk()
            if not chunk:
                raise EOFError
            self._text += chunk
        block, _, self._text = self._text.partition(b"\n\n")
        fields = [line.partition(": ")[::2] for line in block.decode().split("\n")]
        found = dict(fields)
        assert len(found) == len(fields)
        self.last_id = found.get("id", self.last_id)
        return found

    async def event(self):
        while True:
            found = await self.block()
            if "data" in found:
                return json.loads(found["data"])


@pytest.fixture
def stream(client):
    return Stream(client)


async def test_the_head_and_where_it_begins_come_at_once_and_then_each_change(
    client, stream, backend
):
    head = await open_watch(client, "?prefix=a/")
    assert head.status == 200
    assert head.headers["content-type"] == "text/event-stream"
    assert head.headers["x-hstore-index"] == "10"
    # Written after the head was seen: it must be told.
    backend.set(b"a/1", b"one")
    backend.set(b"b/1", b"other")
    backend.set(b"a/2", b"\xff\x00")
    assert await stream.block() == {"id": "10"}
    assert await stream.event() == {"key": "a/1", "revision": 11, "value": "one"}
    assert stream.last_id == "11"
    binary = base64.b64encode(b"\xff\x00").decode()
    assert await stream.event() == {"key": "a/2", "revision": 13, "value_base64": binary}


async def test_a_deletion_says_so_and_that_of_a_prefix_has_an_id_when_it_is_complete(
    client, connect, stream, backend
):
    for key in (b"a/1", b"a/2", b"b"):
        backend.set(key, b"")
    await open_watch(client, "?prefix=a")
    await connect().request("DELETE", "/v1/kv/?recurse")
    assert await stream.event() == {"key": "a/1", "revision": 14, "deleted": True, "more": True}
    assert stream.last_id == "13"
    assert await stream.event() == {"key": "a/2", "revision": 14, "deleted": True}
    assert stream.last_id == "14"


async def test_all_but_the_last_change_of_a_transaction_say_that_there_is_more(
    client, stream, backend
):
    large = b"x" * 100_000
    await open_watch(client, "?prefix=a")
    done = Transaction((Put(b"a", b"1"), Put(b"b", b"2"), Put(b"a2", large), Put(b"a3", b"3")))
    assert backend.apply(done).ok
    backend.set(b"a", b"4")
    first, second, third, fourth = [await stream.event() for _ in range(4)]
    assert first == {"key": "a", "revision": 11, "value": "1", "more": True}
    assert second == {"key": "a2", "revision": 11, "value": large.decode(), "more": True}
    assert third == {"key": "a3", "revision": 11, "value": "3"}
    assert fourth == {"key": "a", "revision": 12, "value": "4"}


@pytest.mark.parametrize(
    ("query", "headers", "first"),
    [
        ("?after=10", {}, 11),
        ("?after=12", {}, 13),
        ("?after=12&prefix=k", {}, 13),
        # A browser connects again with the old address and what it has seen since.
        ("?after=10", {"Last_Event_ID": "12"}, 13),
        ("", {"Last_Event_ID": "11"}, 12),
    ],
)
async def test_it_goes_on_after_a_revision(client, stream, backend, query, headers, first):
    for _ in range(3):
        backend.set(b"k", b"v")
    await open_watch(client, query, **headers)
    assert (await stream.event())["revision"] == first


async def test_a_revision_that_is_yet_to_come_is_waited_for(client, stream, backend):
    await open_watch(client, "?after=12")
    for _ in range(3):
        backend.set(b"k", b"v")
    assert await stream.block() == {"id": "12"}
    assert (await stream.event())["revision"] == 13


@pytest.mark.parametrize(
    ("query", "headers"),
    [("?after=9", {}), ("?after=11", {"Last_Event_ID": "9"}), ("?after=0", {})],
)
async def test_what_is_not_kept_any_more_is_410_with_what_works(client, backend, query, headers):
    answer = await client.request("GET", f"/v1/watch{query}", **headers)
    assert answer.status == 410
    assert "after=10 is the oldest that works" in answer.error
    assert len(backend.watches) == 0
    assert (await open_watch(client, "?after=10")).status == 200


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("?after=-1", {}),
        ("?after=x", {}),
        ("?after=18446744073709551616", {}),
        ("?prefix=%ff", {}),
        ("", {"Last_Event_ID": "abc"}),
        ("", {"Last_Event_ID": "18446744073709551616"}),
    ],
)
async def test_bad_values_are_400(client, query, headers):
    assert (await client.request("GET", f"/v1/watch{query}", **headers)).status == 400


async def test_a_quiet_watch_says_from_time_to_time_how_far_it_has_come(
    client, stream, backend, autojump_clock
):
    await open_watch(client, "?prefix=quiet")
    assert await stream.block() == {"id": "10"}
    for seen in (11, 12, 13):
        backend.set(b"other", b"")
        assert await stream.block() == {"id": str(seen)}
        assert trio.current_time() == pytest.approx((seen - 10) * KEEPALIVE_S)


async def test_a_client_that_does_not_read_holds_nobody_up_and_is_told_what_it_lost(
    server, client, backend, nursery, monkeypatch, autojump_clock
):
    monkeypatch.setattr(changes, "BYTES_MAX", 400_000)
    near, far = trio.testing.lockstep_stream_pair()  # Sends only what is received.
    nursery.start_soon(server.serve_stream, far)
    slow = Client(near)
    await slow.send(b"GET /v1/watch HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await slow.read_head()
    await open_watch(client)
    quick = Stream(client)
    for k in range(50):
        backend.set(b"k", b"v" * 20_000)
        assert (await quick.event())["revision"] == 11 + k
    assert backend.history.end - backend.history.first <= 20
    stream = Stream(slow)
    seen = []
    with pytest.raises(EOFError):
        while True:
            found = await stream.block()
            seen.append(found)
    assert "compacted" in json.loads(seen[-1]["data"])["error"]
    assert seen[-1]["event"] == "error"
    # What it got before that has no gap.
    told = [json.loads(one["data"])["revision"] for one in seen[:-1] if "data" in one]
    assert told == list(range(11, 11 + len(told)))
    # The end of the response is a whole one, and the connection goes on.
    assert (await slow.request("GET", f"/v1/watch?after={stream.last_id}")).status == 410


async def test_a_client_that_reads_nothing_for_long_is_given_up(
    server, backend, nursery, autojump_clock
):
    near, far = trio.testing.lockstep_stream_pair()
    nursery.start_soon(server.serve_stream, far)
    await near.send_all(b"GET /v1/watch HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await near.receive_some()
    backend.set(b"k", b"")
    await trio.sleep(100)
    assert len(backend.watches) == 0
    assert not server._connections


async def test_a_large_value_arrives_whole_in_bounded_pieces(client, backend):
    await open_watch(client)
    value = "\x01" * 300_000
    backend.set(b"k", value.encode())
    backend.set(b"k", b"small")
    text, longest = b"", 0
    while b"small" not in text:
        chunk = await client.read_chunk()
        longest = max(longest, len(chunk))
        text += chunk
    assert longest <= 64 * 1024
    events = [json.loads(part.split(b"data: ")[1]) for part in text.split(b"\n\n")[1:3]]
    assert [one["value"] for one in events] == [value, "small"]


async def test_a_client_that_goes_and_a_head_request_leave_no_watch_behind(
    client, connect, backend
):
    assert (await connect().request("HEAD", "/v1/watch")).status == 200
    assert len(backend.watches) == 0
    await open_watch(client)
    assert len(backend.watches) == 1
    await client.stream.aclose()
    backend.set(b"k", b"")
    await trio.testing.wait_all_tasks_blocked()
    assert len(backend.watches) == 0


async def test_the_end_of_the_node_is_a_whole_end_of_the_response(
    server, client, stream, backend, autojump_clock
):
    await open_watch(client)
    backend.set(b"k", b"")
    await stream.event()
    await trio.testing.wait_all_tasks_blocked()
    server.close()
    with pytest.raises(EOFError):
        await stream.block()
    assert await client.read_to_end() == b""
    assert trio.current_time() == 0
    assert len(backend.watches) == 0


async def test_the_end_of_the_node_does_not_put_an_end_into_a_piece_that_is_half_sent(
    server, backend, nursery, autojump_clock
):
    near, far = trio.testing.lockstep_stream_pair()
    nursery.start_soon(server.serve_stream, far)
    await near.send_all(b"GET /v1/watch HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await near.receive_some()
    backend.set(b"k", b"")
    await trio.testing.wait_all_tasks_blocked()
    text = await near.receive_some(5)
    server.close()
    with pytest.raises((trio.BrokenResourceError, EOFError)):
        while True:
            more = await near.receive_some()
            if not more:
                raise EOFError
            text += more
    assert not text.endswith(b"0\r\n\r\n")
    assert not server._connections


async def test_watches_have_room_beside_other_connections_and_a_bound(backend, nursery):
    server = ApiServer(backend.whole, ROUTES, connections_max=1, streams_max=2)

    async def connect():
        near, far = trio.testing.memory_stream_pair()
        nursery.start_soon(server.serve_stream, far)
        return Client(near)

    first, second = await connect(), None
    await open_watch(first)
    second = await connect()
    await open_watch(second)
    third = await connect()
    answer = await third.request("GET", "/v1/watch")
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert len(backend.watches) == 2
    assert (await third.request("GET", "/v1/health")).status == 200
    await first.stream.aclose()
    backend.set(b"k", b"")
    await trio.testing.wait_all_tasks_blocked()
    assert (await open_watch(third)).status == 200
