"""Blocking reads: contract-services section 2.3."""

from __future__ import annotations

import pytest
import trio
import trio.testing


async def ask(client, target: str) -> None:
    await client.send(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    await trio.testing.wait_all_tasks_blocked()


def index_of(answer) -> int:
    return int(answer.headers["x-consul-index"])


@pytest.mark.parametrize("what", ["", "&raw", "&stale", "&recurse", "&keys"])
async def test_a_read_waits_until_its_result_changes(client, backend, what, autojump_clock):
    backend.set(b"a", b"1")
    await ask(client, f"/v1/kv/a?index=11{what}")
    backend.set(b"b", b"x")
    await trio.testing.wait_all_tasks_blocked()
    backend.set(b"a", b"2")
    answer = await client.response()
    assert (answer.status, index_of(answer)) == (200, 13)
    assert trio.current_time() == 0
    assert (await client.request("GET", "/v1/kv/a?raw")).body == b"2"


async def test_what_is_newer_than_the_index_is_answered_at_once(client, backend, autojump_clock):
    backend.set(b"a", b"1")
    for query in ["?index=10", "?index=0", "?index=", "?wait=10s", "?index=10&recurse"]:
        assert (await client.request("GET", "/v1/kv/a" + query)).status == 200
    assert trio.current_time() == 0


@pytest.mark.parametrize("what", ["", "&stale", "&recurse", "&keys"])
async def test_when_the_time_is_over_it_answers_what_is_true(client, backend, what, autojump_clock):
    backend.set(b"a", b"1")
    answer = await client.request("GET", f"/v1/kv/a?index=11&wait=16s{what}")
    assert (answer.status, index_of(answer)) == (200, 11)
    assert 16 <= trio.current_time() <= 17
