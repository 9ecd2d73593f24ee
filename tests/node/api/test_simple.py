"""/read, /write, /update, /delete: contract section 4, the first rows."""

from __future__ import annotations

import json

import pytest

from hstore.node.model.commands import Delete, Put

MIB = 1024 * 1024


async def test_read_gives_key_value_and_revision(client, backend):
    backend.set(b"foo", b"bar")
    answer = await client.request("GET", "/read/foo")
    assert (answer.status, answer.json()) == (200, {"key": "foo", "value": "bar", "revision": 11})
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-hstore-index"] == "11"


async def test_read_of_a_missing_key_is_404_with_the_index(client):
    answer = await client.request("GET", "/read/foo")
    assert answer.status == 404
    assert "foo" in answer.error
    assert answer.headers["x-hstore-index"] == "10"


async def test_a_value_that_is_not_utf8_reads_as_base64(client, backend):
    backend.set(b"foo", b"\xff\x00")
    answer = await client.request("GET", "/read/foo")
    assert answer.json() == {"key": "foo", "value_base64": "/wA=", "revision": 11}
    assert (await client.request("GET", "/read")).json() == {"foo": {"base64": "/wA="}}


async def test_reads_are_linearizable_unless_stale(client, backend):
    backend.set(b"foo", b"bar")
    fresh = await client.request("GET", "/read/foo")
    assert backend.barriers == 1
    stale = await client.request("GET", "/read/foo?stale")
    assert backend.barriers == 1
    assert "x-hstore-stale-ms" not in fresh.headers
    assert stale.headers["x-hstore-stale-ms"] == "12"
    backend.stale = None
    never = await client.request("GET", "/read/foo?stale")
    assert "x-hstore-stale-ms" not in never.headers
    missing = await client.request("GET", "/read/nope?stale=1")
    assert (missing.status, backend.barriers) == (404, 1)


async def test_read_all_is_one_object_in_key_order(client, backend):
    for key in ["b", "a", "c/d", "ä"]:
        backend.set(key.encode(), key.upper().encode())
    answer = await client.request("GET", "/read")
    assert answer.headers["transfer-encoding"] == "chunked"
    assert list(answer.json().items()) == [("a", "A"), ("b", "B"), ("c/d", "C/D"), ("ä", "Ä")]
    assert backend.readers[0].is_closed


async def test_read_all_of_nothing_is_an_empty_object(client):
    assert (await client.request("GET", "/read")).json() == {}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?prefix=a", ["a1", "a2", "a3"]),
        ("?prefix=a&after=a1", ["a2", "a3"]),
        ("?prefix=a&after=a1&limit=1", ["a2"]),
        ("?limit=2", ["a1", "a2"]),
        ("?limit=0", []),
        ("?limit=18446744073709551615", ["a1", "a2", "a3", "b"]),
        ("?after=a2", ["a3", "b"]),
        ("?after=", ["a1", "a2", "a3", "b"]),
        ("?prefix=%61", ["a1", "a2", "a3"]),
    ],
)
async def test_read_all_takes_prefix_after_and_limit(client, backend, query, expected):
    for key in [b"a1", b"a2", b"a3", b"b"]:
        backend.set(key, b"")
    assert list((await client.request("GET", "/read" + query)).json()) == expected


@pytest.mark.parametrize("query", ["limit=x", "limit=-1", "limit=", "prefix=%ff", "after=%zz"])
async def test_read_all_refuses_bad_query_values(client, query):
    assert (await client.request("GET", "/read?" + query)).status == 400


async def test_read_all_is_of_one_moment(client, backend):
    """Keys that change while the answer is under way change nothing in it."""
    for i in range(3000):
        backend.set(b"k%04d" % i, b"x" * 100)
    await client.send(b"GET /read HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await client.read_head()
    first = await client.read_chunk()
    backend.set(b"k2999", b"changed")
    del backend.items[b"k2998"]
    rest = b""
    while chunk := await client.read_chunk():
        rest += chunk
    everything = json.loads(first + rest)
    assert len(everything) == 3000
    assert everything["k2999"] == "x" * 100


async def test_write_creates_and_overwrites(client, backend):
    first = await client.request("POST", "/write", {"key": "foo", "value": "bär"})
    assert (first.status, first.json()) == (200, {"key": "foo", "revision": 11})
    second = await client.request("POST", "/write", {"key": "foo", "value": ""})
    assert second.json() == {"key": "foo", "revision": 12}
    assert [call[0] for call in backend.calls] == [
        Put(b"foo", "bär".encode()),
        Put(b"foo", b""),
    ]


async def test_update_needs_the_key(client, backend):
    answer = await client.request("POST", "/update", {"key": "foo", "value": "bar"})
    assert answer.status == 404
    backend.set(b"foo", b"")
    answer = await client.request("POST", "/update", {"key": "foo", "value": "bar"})
    assert (answer.status, answer.json()) == (200, {"key": "foo", "revision": 13})
    assert backend.calls[-1][0] == Put(b"foo", b"bar", must_exist=True)


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_delete_removes_a_key(client, backend, method):
    backend.set(b"a/b", b"")
    answer = await client.request(method, "/delete/a/b")
    assert (answer.status, answer.json()) == (200, {"key": "a/b", "revision": 12})
    assert backend.calls[-1][0] == Delete(b"a/b")
    answer = await client.request(method, "/delete/a/b")
    assert answer.status == 404


async def test_head_of_delete_is_405_and_deletes_nothing(client, backend):
    backend.set(b"foo", b"")
    answer = await client.request("HEAD", "/delete/foo")
    assert (answer.status, answer.headers["allow"]) == (405, "DELETE, GET")
    assert b"foo" in backend.items


@pytest.mark.parametrize("path", ["/write", "/update"])
@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "truncated"),
        (b"{", "truncated"),
        (b"[]", "expected `object`"),
        (b'{"value":"v"}', "`key`"),
        (b'{"key":"k"}', "`value`"),
        (b'{"key":1,"value":"v"}', "$.key"),
        (b'{"key":"k","value":1}', "$.value"),
        (b'{"key":"k","value":null}', "$.value"),
        (b'{"key":"","value":"v"}', "empty"),
        (b'{"key":"\xff","value":"v"}', "utf-8"),
        (b'{"key":"\\ud800","value":"v"}', "surrogate"),
        (b'{"key":"k","value":"v"} x', "trailing"),
        (b'{"key":"k","value":"v","x":' + b"[" * 50_000 + b"]" * 50_000 + b"}", "recursion"),
    ],
)
async def test_malformed_json_is_400_and_says_what_is_wrong(client, backend, path, body, says):
    answer = await client.request("POST", path, body)
    assert answer.status == 400
    assert says in answer.error.lower()
    assert not backend.calls


async def test_keys_and_values_up_to_the_limit_are_kept_and_larger_ones_are_413(client, backend):
    key, value = "ä" * 2048, "\x00" * MIB  # 4,096 bytes; six times a mebibyte as JSON
    assert (await client.request("POST", "/write", {"key": key, "value": value})).status == 200
    assert backend.items[key.encode()].value == value.encode()
    too_long = await client.request("POST", "/write", {"key": key + "a", "value": ""})
    too_large = await client.request("POST", "/write", {"key": "k", "value": value + "a"})
    assert (too_long.status, too_large.status) == (413, 413)
    assert len(backend.items) == 1


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/read/", 400),
        ("/delete/", 400),
        ("/read/%", 400),
        ("/read/%4", 400),
        ("/read/%zz", 400),
        ("/read/%ff", 400),
        ("/read/%C3", 400),
        ("/read/" + "a" * 4097, 413),
        ("/read/" + "%61" * 4096, 404),
        ("/read/" + "%61" * 4097, 413),
        ("/read/a#b", 400),
    ],
)
async def test_keys_in_paths_are_taken_strictly(client, path, status):
    answer = await client.request("DELETE" if "delete" in path else "GET", path)
    assert answer.status == status
    assert answer.error


async def test_a_key_in_a_path_is_decoded_once_and_keeps_its_slashes(client, backend):
    backend.set("a//b/../ä%2F+ ".encode(), b"x")
    answer = await client.request("GET", "/read/a//b/../%C3%A4%252F+%20")
    assert answer.json()["key"] == "a//b/../ä%2F+ "
