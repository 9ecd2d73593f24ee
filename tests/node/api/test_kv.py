"""/v1/kv: contract section 4, the rows in Consul's style."""

from __future__ import annotations

import pytest

from hstore.node.model.commands import Delete, DeletePrefix, Put

U64_MAX = 2**64 - 1


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
