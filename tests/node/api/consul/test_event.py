"""Events of users: contract-services section 7."""

from __future__ import annotations

import base64
import gc
from collections import Counter

import pytest
import trio

from hstore.node.api.dialect import filters
from hstore.node.model.user_events import EVENTS_MAX
from hstore.node.net.turn import BYTES_MAX, SLICE_BYTES
from tests.node.api.consul.conftest import is_read, is_refused, waits


async def fire(client, target, body=b""):
    answer = await client.request("PUT", f"/v1/event/fire/{target}", body)
    assert answer.status == 200, answer
    return answer.json()


async def names(client, query=""):
    answer = await client.request("GET", f"/v1/event/list{query}")
    is_read(answer)
    return [event["Name"] for event in answer.json()]


async def test_fire_answers_with_the_event(client, backend):
    target = "deploy%20it/now?node=%5Eweb&service=s&tag=t&dc=dc1"
    answer = await client.request("PUT", f"/v1/event/fire/{target}", b"\x00\xff")
    fired = answer.json()
    assert list(fired) == [
        *("ID", "Name", "Payload", "NodeFilter", "ServiceFilter", "TagFilter", "Version", "LTime")
    ]
    assert len(fired.pop("ID")) == 36
    assert fired == {
        "Name": "deploy it/now",
        "Payload": base64.b64encode(b"\x00\xff").decode(),
        "NodeFilter": "^web",
        "ServiceFilter": "s",
        "TagFilter": "t",
        "Version": 1,
        "LTime": backend.applied_index,
    }
    assert answer.headers["x-consul-default-acl-policy"] == "allow"
    assert "x-consul-index" not in answer.headers


async def test_no_payload_is_null(client):
    assert (await fire(client, "a"))["Payload"] is None


async def test_the_list_has_what_fire_answered_oldest_first(client, backend):
    nothing = await client.request("GET", "/v1/event/list")
    assert nothing.body == b"[]"
    is_read(nothing, 1)
    fired = [await fire(client, "a", b"1"), await fire(client, "b"), await fire(client, "a", b"2")]
    answer = await client.request("GET", "/v1/event/list")
    assert answer.json() == fired
    is_read(answer, backend.applied_index)


async def test_the_last_256_are_kept(client):
    for number in range(EVENTS_MAX + 2):
        await fire(client, f"e{number}")
    assert await names(client) == [f"e{number}" for number in range(2, EVENTS_MAX + 2)]


async def test_the_list_by_name(client):
    for name in ["a", "b", "ab"]:
        await fire(client, name)
    assert await names(client, "?name=a") == ["a"]
    assert await names(client, "?name=") == ["a", "b", "ab"]
    assert await names(client, "?name=none") == []


@pytest.mark.parametrize("which", ["node", "service", "tag"])
async def test_the_list_by_patterns_of_filters(client, which):
    for name, given in [("web1", "web-1"), ("web2", "web-2"), ("db", "db-1"), ("every", "")]:
        await fire(client, f"{name}?{which}={given}")
    assert await names(client, f"?{which}=%5Eweb") == ["web1", "web2", "every"]
    assert await names(client, f"?{which}=-1$") == ["web1", "db", "every"]
    assert await names(client, f"?{which}=none") == ["every"]
    assert await names(client, f"?{which}=") == ["web1", "web2", "db", "every"]
    assert await names(client, f"?{which}=%5Eweb&name=web2") == ["web2"]


@pytest.mark.parametrize("pattern", ["(", "(?=x)", "x" * 257])
async def test_a_pattern_that_cannot_be_used(client, pattern):
    answer = await client.request("GET", f"/v1/event/list?tag={pattern}")
    assert answer.status == 400
    assert answer.body.startswith(b"Invalid tag: ")


async def test_patterns_are_looked_for_in_a_few_events_at_a_time(client, monkeypatch, nursery):
    """The worst pattern takes milliseconds for one text: 256 events at once would be a stall."""
    turns = 0
    looks: Counter[int] = Counter()

    async def count_turns():
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    def patterns(query, *names):
        return [lambda _: bool(looks.update([turns])) or True for _ in names]

    for number in range(EVENTS_MAX):
        await fire(client, f"e{number}?node=x")
    monkeypatch.setattr(filters, "patterns", patterns)
    nursery.start_soon(count_turns)
    assert len(await names(client, "?node=x")) == EVENTS_MAX
    assert sum(looks.values()) == EVENTS_MAX
    assert max(looks.values()) <= filters.PER_SLICE * BYTES_MAX // SLICE_BYTES


async def test_a_list_that_waits_holds_no_compiled_pattern(client, connect, backend):
    def compiled():
        gc.collect()
        return sum(type(one).__name__ == "_Regexp" for one in gc.get_objects())

    await fire(client, "a?node=xy")
    before = compiled()
    await waits(client, f"/v1/event/list?node=%5Ex&index={backend.applied_index}")
    await waits(other := connect(), f"/v1/event/list?node=%5Ey&index={backend.applied_index}")
    assert compiled() == before
    await fire(connect(), "b?node=xz")
    assert [event["Name"] for event in (await client.response()).json()] == ["a", "b"]
    assert (await other.response()).json() == []


async def test_the_list_waits_for_the_next_event(client, connect, backend, autojump_clock):
    await fire(client, "a")
    await waits(client, f"/v1/event/list?index={backend.applied_index}")
    backend.add("n2", 2, 8501)
    fired = await fire(connect(), "b")
    answer = await client.response()
    assert answer.json()[-1] == fired
    is_read(answer, fired["LTime"])
    assert trio.current_time() == 0


async def test_names_that_are_none(client):
    is_refused(await client.request("PUT", "/v1/event/fire/", b""), 400, "Missing name")
    answer = await client.request("PUT", "/v1/event/fire/_x", b"")
    assert (answer.status, answer.body[:12]) == (400, b"Invalid name")
    assert answer.headers["x-hstore-outcome"] == "not applied"


async def test_bounds(client):
    await fire(client, "a", b"x" * 4096)
    answer = await client.request("PUT", "/v1/event/fire/a", b"x" * 4097)
    is_refused(answer, 413, "Request body(4097 bytes) too large, max size: 4096 bytes.")
    answer = await client.request("PUT", f"/v1/event/fire/a?node={'x' * 5000}", b"")
    assert (answer.status, answer.body[:14]) == (400, b"Invalid event:")


@pytest.mark.parametrize("which", ["node", "service", "tag"])
async def test_a_filter_of_an_event_is_no_longer_than_a_pattern(client, which):
    await fire(client, f"a?{which}={'x' * 256}")
    answer = await client.request("PUT", f"/v1/event/fire/a?{which}={'x' * 257}", b"")
    text = f"Invalid event: its {which} has 257 bytes: at most 256 are taken"
    is_refused(answer, 400, text)


async def test_another_datacenter(client):
    answer = await client.request("PUT", "/v1/event/fire/a?dc=dc2", b"")
    is_refused(answer, 500, "No path to datacenter")
    is_refused(await client.request("GET", "/v1/event/list?dc=x"), 500, "No path to datacenter")


async def test_the_same_request_sent_again_fires_once(client):
    answers = [
        await client.request("PUT", "/v1/event/fire/a", b"x", Idempotency_Key="k") for _ in range(2)
    ]
    assert answers[0].status == 200
    assert answers[0].body == answers[1].body
    assert await names(client) == ["a"]


async def test_a_list_of_large_payloads(client):
    fired = [await fire(client, f"e{number}", b"x" * 4096) for number in range(40)]
    answer = await client.request("GET", "/v1/event/list")
    assert answer.json() == fired
    is_read(answer, fired[-1]["LTime"])
