"""`Idempotency-Key`: which requests are the same one, and what each is answered."""

from __future__ import annotations

import pytest

from hstore.node.errors import NoLeader, Overloaded
from hstore.node.model.commands import Keyed


def keyed(backend) -> list[Keyed]:
    """Give the keyed commands that the node was asked for, in order."""
    return [call[0] for call in backend.calls if isinstance(call[0], Keyed)]


WRITES = [
    ("POST", "/write", b'{"key":"a","value":"1"}'),
    ("POST", "/update", b'{"key":"a","value":"1"}'),
    ("GET", "/delete/a", None),
    ("DELETE", "/delete/a", None),
    ("PUT", "/v1/kv/a", b"1"),
    ("PUT", "/v1/kv/a?cas=0", b"1"),
    ("PUT", "/v1/kv/a?cas=1", b"1"),
    ("PUT", "/v1/kv/a?flags=7", b"1"),
    ("PUT", "/v1/kv/a", b"2"),
    ("PUT", "/v1/kv/b", b"1"),
    ("DELETE", "/v1/kv/a", None),
    ("DELETE", "/v1/kv/a?cas=1", None),
    ("DELETE", "/v1/kv/a?recurse", None),
    ("DELETE", "/v1/kv/?recurse", None),
]


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
async def test_any_write_with_a_key_takes_effect_once_and_is_answered_the_same(
    client, backend, method, path, body
):
    first = await client.request(method, path, body, Idempotency_Key="one")
    backend.set(b"a", b"of somebody else")
    items = dict(backend.items)
    again = await client.request(method, path, body, Idempotency_Key="one")

    assert (again.status, again.body) == (first.status, first.body)
    assert backend.items == items
    assert [command.key for command in keyed(backend)] == [b"one", b"one"]


async def test_no_two_different_writes_pass_for_the_same_request(connect, backend):
    for method, path, body in WRITES:
        await connect().request(method, path, body, Idempotency_Key=f"{method}{path}{body!r}")

    digests = [command.digest for command in keyed(backend)]
    assert len(set(digests)) == len(digests) == len(WRITES)


@pytest.mark.parametrize(
    ("method", "path", "body", "other_path", "other_body"),
    [
        ("PUT", "/v1/kv/a%2Fb", b"1", "/v1/kv/a/b", b"1"),
        ("PUT", "/v1/kv/a?timeout=4s", b"1", "/v1/kv/a", b"1"),
        ("PUT", "/v1/kv/a?cas=0&flags=1", b"1", "/v1/kv/a?flags=01&cas=0", b"1"),
        ("POST", "/write", b'{"key":"a","value":"1"}', "/write", b'{"value": "1", "key": "\\u0061"}'),
        ("DELETE", "/delete/%61", None, "/delete/a?timeout=1s", None),
        ("DELETE", "/v1/kv/a?recurse", None, "/v1/kv/a?recurse=true", None),
    ],
)  # fmt: skip
async def test_what_is_only_spelled_otherwise_is_the_same_request(
    client, method, path, body, other_path, other_body
):
    first = await client.request(method, path, body, Idempotency_Key="k")
    again = await client.request(method, other_path, other_body, Idempotency_Key="k")

    assert (again.status, again.body) == (first.status, first.body)


async def test_not_found_and_false_are_answers_and_stay_what_they_were(client, backend):
    missing = await client.request("DELETE", "/delete/a", None, Idempotency_Key="1")
    refused = await client.request("PUT", "/v1/kv/a?cas=99", b"", Idempotency_Key="2")
    assert (missing.status, refused.body) == (404, b"false")
    backend.set(b"a", b"now it is there")
    assert (await client.request("DELETE", "/delete/a", None, Idempotency_Key="1")).status == 404
    again = await client.request("PUT", "/v1/kv/a?cas=99", b"", Idempotency_Key="2")
    assert (again.status, again.body) == (200, b"false")
    assert b"a" in backend.items


async def test_a_key_of_another_request_is_422_and_nothing_is_changed(client, backend):
    await client.request("PUT", "/v1/kv/a", b"1", Idempotency_Key="k")
    answer = await client.request("PUT", "/v1/kv/a", b"2", Idempotency_Key="k")

    assert (answer.status, "used before" in answer.error) == (422, True)
    assert "retry-after" not in answer.headers
    assert backend.items[b"a"].value == b"1"
    assert (await client.request("GET", "/v1/health")).status == 200


@pytest.mark.parametrize("error", [NoLeader("x"), Overloaded("too many keys")])
async def test_a_503_is_not_an_answer(client, backend, error):
    backend.error = error
    answer = await client.request("PUT", "/v1/kv/a", b"1", Idempotency_Key="k")
    assert (answer.status, answer.outcome) == (
        500 if isinstance(error, NoLeader) else 503,
        "not applied",
    )
    assert answer.headers["retry-after"] == "1"
    backend.error = None
    answer = await client.request("PUT", "/v1/kv/a", b"1", Idempotency_Key="k")
    assert (answer.status, answer.body) == (200, b"true")


@pytest.mark.parametrize("key", ["k", "x" * 256, "\x80\xff", '"quoted, with a comma"'])
async def test_a_key_is_any_bytes_up_to_256(client, backend, key):
    await client.send(
        f"PUT /v1/kv/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n"
        f"Idempotency-Key: {key}\r\n\r\n".encode("latin-1")
    )
    assert (await client.response()).status == 200
    assert [command.key for command in keyed(backend)] == [key.encode("latin-1")]


async def test_two_keys_are_400_and_not_a_third_one(client, backend):
    """A proxy that adds a header each time it tries again had a write take effect each time."""
    await client.send(
        b"PUT /v1/kv/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n"
        b"Idempotency-Key: k\r\nIdempotency-Key: k\r\n\r\n"
    )
    answer = await client.response()
    assert (answer.status, "more than one" in answer.error) == (400, True)
    assert not backend.calls


@pytest.mark.parametrize("key", ["", "x" * 257])
async def test_a_key_that_is_empty_or_longer_is_400(client, backend, key):
    answer = await client.request("PUT", "/v1/kv/a", b"", Idempotency_Key=key)
    assert (answer.status, "1 to 256" in answer.error) == (400, True)
    assert not backend.calls


@pytest.mark.parametrize(
    "path", ["/v1/node/stop", "/v1/node/leave", "/v1/leader/remove", "/v1/cluster/join"]
)
async def test_what_is_no_write_does_not_promise_to_happen_once(client, backend, path):
    answer = await client.request("POST", path, b'{"node":"n2"}', Idempotency_Key="k")
    assert (answer.status, "writes of keys" in answer.error) == (400, True)
    assert not backend.calls


async def test_a_read_does_not_mind_a_key(client, backend):
    backend.set(b"a", b"1")
    assert (await client.request("GET", "/read/a", None, Idempotency_Key="k")).status == 200
    assert (await client.request("GET", "/v1/kv/a", None, Idempotency_Key="k")).status == 200


async def test_a_write_without_a_key_is_done_each_time(client, backend):
    for revision in (11, 12):
        answer = await client.request("POST", "/write", b'{"key":"a","value":"1"}')
        assert answer.json() == {"key": "a", "revision": revision}
    assert keyed(backend) == []
