"""/v1/kv: contract section 4, the rows in Consul's style."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from hstore.node.api.consul.trees import KEYS_COUNTED
from hstore.node.model.commands import Delete, DeletePrefix, Put
from hstore.node.model.locks import CreateSession, Session
from hstore.node.net.turn import SLICE_BYTES
from tests.node.api.conftest import FakeBackend

U64_MAX = 2**64 - 1


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


async def test_put_keeps_the_raw_body(client, backend):
    answer = await client.request("PUT", "/v1/kv/a/b", b"\xff\x00")
    assert (answer.status, answer.body) == (200, b"true")
    assert backend.calls[-1][0] == Put(b"a/b", b"\xff\x00")


async def test_put_takes_flags_up_to_64_bits(client, backend):
    await client.request("PUT", f"/v1/kv/a?flags={U64_MAX}", b"x")
    assert backend.items[b"a"].flags == U64_MAX
    for bad in [str(U64_MAX + 1), "-1", "x", "", "1.5", "%D9%A3"]:
        assert (await client.request("PUT", f"/v1/kv/a?flags={bad}", b"x")).status == 400


async def test_put_with_cas_answers_whether_it_was_done(client, backend):
    assert (await client.request("PUT", "/v1/kv/a?cas=0", b"1")).body == b"true"
    assert (await client.request("PUT", "/v1/kv/a?cas=0", b"2")).body == b"false"
    revision = backend.items[b"a"].revision
    assert (await client.request("PUT", f"/v1/kv/a?cas={revision}", b"3")).body == b"true"
    refused = await client.request("PUT", f"/v1/kv/a?cas={revision}", b"4")
    assert (refused.status, refused.body) == (200, b"false")
    assert (await client.request("PUT", "/v1/kv/a?cas=x", b"5")).status == 400
    assert backend.items[b"a"].value == b"3"


async def test_put_with_cas_or_flags_names_the_revision_it_made(client, backend):
    # The body is Consul's; a client that needs the revision for its next `?cas=` would have to read.
    for query in ("cas=0", "flags=0"):
        answer = await client.request("PUT", f"/v1/kv/a?{query}", b"1")
        assert answer.headers["x-hstore-revision"] == str(backend.items[b"a"].revision)
    refused = await client.request("PUT", "/v1/kv/a?cas=0", b"2")
    assert "x-hstore-revision" not in refused.headers


async def test_put_of_an_empty_value_reads_as_null(client):
    assert (await client.request("PUT", "/v1/kv/a", b"")).body == b"true"
    assert (await client.request("GET", "/v1/kv/a")).json()[0]["Value"] is None


async def test_put_of_a_value_too_large_is_413(client, backend):
    assert (await client.request("PUT", "/v1/kv/a", b"x" * 1024 * 1024)).status == 200
    assert (await client.request("PUT", "/v1/kv/b", b"x" * (1024 * 1024 + 1))).status == 413
    assert list(backend.items) == [b"a"]


async def test_get_gives_consuls_object(client, backend):
    backend.set("ä".encode(), b"old", flags=7)
    backend.set("ä".encode(), b"new", flags=7)
    answer = await client.request("GET", "/v1/kv/%C3%A4")
    assert answer.json() == [
        {
            "LockIndex": 0,
            "Key": "ä",
            "Flags": 7,
            "Value": "bmV3",
            "CreateIndex": 11,
            "ModifyIndex": 12,
        }
    ]


async def test_get_raw_gives_the_bytes_that_no_browser_may_guess_at(client, backend):
    backend.set(b"a", b"<script>\xff")
    answer = await client.request("GET", "/v1/kv/a?raw")
    assert answer.body == b"<script>\xff"
    assert answer.headers["content-type"] == "text/plain"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "sandbox"


async def test_get_recurse_lists_the_prefix_which_may_be_empty(client, backend):
    for key in [b"a/1", b"a/2", b"b"]:
        backend.set(key, key)
    some = await client.request("GET", "/v1/kv/a/?recurse")
    assert [entry["Key"] for entry in some.json()] == ["a/1", "a/2"]
    every = await client.request("GET", "/v1/kv/?recurse")
    assert [entry["Key"] for entry in every.json()] == ["a/1", "a/2", "b"]
    assert all(reader.is_closed for reader in backend.readers)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/v1/kv/?keys", ["a", "a/b", "a/c/d", "a/c/e", "b/"]),
        ("/v1/kv/?keys&separator=/", ["a", "a/", "b/"]),
        ("/v1/kv/a/?keys&separator=/", ["a/b", "a/c/"]),
        ("/v1/kv/a/?keys&separator=%2F", ["a/b", "a/c/"]),
        ("/v1/kv/a/?keys&separator=", ["a/b", "a/c/d", "a/c/e"]),
        ("/v1/kv/b?keys", ["b/"]),
    ],
)
async def test_keys_are_listed_each_once(client, backend, target, expected):
    for key in [b"a", b"a/b", b"a/c/d", b"a/c/e", b"b/"]:
        backend.set(key, b"")
    assert (await client.request("GET", target)).json() == expected


@pytest.mark.parametrize(
    "target", ["/v1/kv/x", "/v1/kv/x?raw", "/v1/kv/x?recurse", "/v1/kv/x?keys", "/v1/kv/?recurse"]
)
async def test_404_when_nothing_matches(client, backend, target):
    answer = await client.request("GET", target)
    assert (answer.status, answer.body, answer.index) == (404, b"", 1)
    assert all(reader.is_closed for reader in backend.readers)


async def test_the_empty_key_is_400(client):
    for method in ["GET", "PUT", "DELETE"]:
        answer = await client.request(method, "/v1/kv/", b"")
        assert (method, answer.status) == (method, 400)


async def test_delete_answers_true_also_when_there_is_no_such_key(client, backend):
    backend.set(b"a", b"")
    assert (await client.request("DELETE", "/v1/kv/a")).body == b"true"
    assert (await client.request("DELETE", "/v1/kv/a")).body == b"true"
    assert backend.calls[-1][0] == Delete(b"a")


async def test_delete_with_cas_answers_whether_it_was_done(client, backend):
    backend.set(b"a", b"")
    assert (await client.request("DELETE", "/v1/kv/a?cas=99")).body == b"false"
    assert (await client.request("DELETE", "/v1/kv/a?cas=11")).body == b"true"


async def test_delete_recurse_takes_the_prefix(client, backend):
    assert (await client.request("DELETE", "/v1/kv/a/?recurse")).body == b"true"
    assert (await client.request("DELETE", "/v1/kv/?recurse")).body == b"true"
    assert [call[0] for call in backend.calls] == [DeletePrefix(b"a/"), DeletePrefix(b"")]
    assert (await client.request("DELETE", "/v1/kv/a?recurse&cas=1")).status == 400


async def test_head_has_the_length_and_no_body(client, backend):
    backend.set(b"a", b"12345")
    whole = await client.request("GET", "/read/a")
    answer = await client.request("HEAD", "/read/a")
    assert (answer.status, answer.headers["content-length"]) == (200, str(len(whole.body)))
    listing = await client.request("HEAD", "/read")
    assert listing.status == 200
    assert (await client.request("HEAD", "/v1/kv/a")).status == 405
    assert (await client.request("HEAD", "/")).status == 200
    assert all(reader.is_closed for reader in backend.readers)
    # The connection is still in step: nothing of a body was sent.
    assert (await client.request("GET", "/v1/kv/a?raw")).body == b"12345"


async def test_requests_of_one_piece_share_one_confirmation_until_a_write(client, backend):
    """The confirmation began after all of them came, so each sees what it must see."""
    get = b"GET /v1/kv/a?raw HTTP/1.1\r\nHost: localhost\r\n\r\n"
    put = b"PUT /v1/kv/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n%d"
    await client.send(put % 1 + get + get + put % 2 + get)
    bodies = [(await client.response()).body for _ in range(5)]
    assert bodies == [b"true", b"1", b"1", b"true", b"2"]
    assert backend.barriers == 2
    await client.send(get)
    await client.response()
    assert backend.barriers == 3


# --- locks: contract-services section 6.1 -----------------------------------------------------


SID = "11111111-2222-3333-4444-555555555555"
OTHER = "99999999-2222-3333-4444-555555555555"


@pytest.fixture
def session(backend) -> str:
    for sid in (SID, OTHER):
        id_ = bytes.fromhex(sid.replace("-", ""))
        made = CreateSession(Session(id_, "", 1, 15 * 10**9, "release", "", 0, ()))
        assert backend.apply(made).ok
    return SID


async def object_of(client, key: str = "a") -> dict[str, Any]:
    found: dict[str, Any] = (await client.request("GET", f"/v1/kv/{key}")).json()[0]
    return found


async def test_a_lock_is_taken_held_and_released(client, session):
    async def put(query: str, body: bytes) -> bytes:
        answer: bytes = (await client.request("PUT", f"/v1/kv/a?{query}", body)).body
        return answer

    assert await put(f"acquire={session}", b"1") == b"true"
    held = await object_of(client)
    assert (held["Session"], held["LockIndex"], held["Value"]) == (session, 1, "MQ==")
    assert await put(f"acquire={OTHER}", b"2") == b"false"
    assert await put(f"acquire={session.upper()}&flags=7", b"3") == b"true"
    again = await object_of(client)
    assert (again["LockIndex"], again["Flags"], again["Session"]) == (1, 7, session)
    assert await put("", b"plain") == b"true"
    assert (await object_of(client))["Session"] == session
    assert await put(f"release={OTHER}", b"4") == b"false"
    assert await put("release=foo", b"4") == b"false"
    assert await put(f"release={session}", b"5") == b"true"
    free = await object_of(client)
    assert (free.get("Session"), free["LockIndex"], free["Value"]) == (None, 1, "NQ==")
    assert await put(f"acquire={OTHER}", b"6") == b"true"
    assert (await object_of(client))["LockIndex"] == 2


async def test_a_lock_of_a_key_with_a_large_value_is_shown_too(client, session):
    large = b"x" * 100_000
    await client.request("PUT", f"/v1/kv/null?acquire={session}", large)
    for target in ["/v1/kv/null", "/v1/kv/?recurse"]:
        [found] = (await client.request("GET", target)).json()
        assert (found["Session"], found["LockIndex"]) == (session, 1)
        assert base64.b64decode(found["Value"]) == large


@pytest.mark.parametrize("sid", ["", "foo", "12345678-2222-3333-4444-555555555555", "%22"])
async def test_a_lock_for_no_session_is_an_error_that_clients_know(client, backend, sid):
    answer = await client.request("PUT", f"/v1/kv/a?acquire={sid}", b"1")
    sid = sid.replace("%22", '"')
    assert (answer.status, answer.error) == (500, f'invalid session "{sid}"')
    assert answer.outcome == "not applied"
    assert b"a" not in backend.items


async def test_release_of_no_key_is_false_and_makes_none(client, backend, session):
    answer = await client.request("PUT", f"/v1/kv/a?release={session}", b"1")
    assert (answer.status, answer.body) == (200, b"false")
    assert b"a" not in backend.items


async def test_delete_with_cas_of_no_key_is_true(client, backend):
    assert (await client.request("DELETE", "/v1/kv/a?cas=5")).body == b"true"
    backend.set(b"a", b"")
    assert (await client.request("DELETE", "/v1/kv/a?cas=0")).body == b"false"


async def test_the_keys_of_an_empty_store_are_an_empty_list(client, backend):
    for query in ["?keys", "?keys&separator=/", "?keys&recurse"]:
        answer = await client.request("GET", "/v1/kv/" + query)
        assert (answer.status, answer.body, answer.index) == (200, b"[]", 1)
    assert all(reader.is_closed for reader in backend.readers)


@pytest.mark.parametrize("name", ["separator", "seperator"])
async def test_both_spellings_of_the_separator_are_known(client, backend, name):
    for key in [b"bar", b"base/foo", b"base/base/foo"]:
        backend.set(key, b"1")
    answer = await client.request("GET", f"/v1/kv/base/?keys&{name}=/")
    assert answer.json() == ["base/base/", "base/foo"]


async def test_a_path_is_taken_as_it_is(client, backend):
    for path, key in [("/v1/kv//a", "/a"), ("/v1/kv/a//b", "a//b"), ("/v1/kv/a%23%3A%20b", "a#: b"),
                      ("/v1/kv/%252F", "%2F"), ("/v1/kv/../x", "../x")]:  # fmt: skip
        assert (await client.request("PUT", path, b"1")).body == b"true"
        assert (await object_of(client, path.removeprefix("/v1/kv/")))["Key"] == key


# --- indexes: contract-services section 2.3 ---------------------------------------------------


async def index(client, target: str) -> int:
    found: int = (await client.request("GET", f"/v1/kv/{target}")).index
    return found


async def test_the_index_of_a_key_is_its_own(client, backend):
    assert await index(client, "a") == 1
    backend.set(b"a", b"1")
    backend.set(b"b", b"1")
    assert await index(client, "a") == await index(client, "a?raw") == 11
    backend.apply(Delete(b"a"))
    backend.set(b"b", b"2")
    assert await index(client, "a") == 13
    backend.apply(Put(b"b", b"3", cas=1))
    assert await index(client, "b") == 14


@pytest.mark.parametrize("what", ["recurse", "keys"])
async def test_the_index_of_a_prefix_is_that_of_its_latest_change(client, backend, what):
    assert await index(client, f"p/?{what}") == 1
    for key in [b"p/a", b"p/b", b"q"]:
        backend.set(key, b"1")
    assert await index(client, f"p/?{what}") == 12
    backend.apply(Delete(b"p/a"))
    backend.set(b"q", b"1")
    assert await index(client, f"p/?{what}") == 14
    assert await index(client, f"p?{what}") == 14
    assert await index(client, f"q?{what}") == 15
    backend.apply(DeletePrefix(b"p/"))
    assert await index(client, f"p/?{what}") == await index(client, f"p/b?{what}") == 16
    assert await index(client, f"?{what}") == 16


async def test_of_more_than_a_thousand_keys_it_is_that_of_any_key(client, backend):
    for number in range(KEYS_COUNTED):
        backend.set(b"p/%04d" % number, b"")
    last = backend.applied_index
    backend.set(b"q", b"")
    assert await index(client, "p/?keys") == last
    backend.set(b"p/new", b"")
    backend.set(b"q", b"2")
    assert await index(client, "p/?keys") == last + 3
    assert await index(client, "p/0?keys") == last


async def test_the_pass_over_large_values_takes_turns(client, backend, server, monkeypatch):
    taken: list[int] = []
    turn = server._shared.turn
    real = turn.slice

    async def slice_(size: int = SLICE_BYTES) -> None:
        taken.append(size)
        await real(size)

    monkeypatch.setattr(type(turn), "slice", lambda _self, size=SLICE_BYTES: slice_(size))
    for number in range(20):
        backend.set(b"p/%04d" % number, b"x" * 100_000)
    assert await index(client, "p/?keys") == backend.applied_index
    assert len([size for size in taken if size >= 100_000]) == 20
