"""Large values: in every interface, the bytes are those of a rendering as a whole."""

from __future__ import annotations

import base64
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstore.node.api import watch
from hstore.node.api.http import large
from hstore.node.net.turn import SLICE_BYTES
from hstore.node.state.watching.changes import KEYS, Change

from .conftest import FakeBackend

MIB = 1024 * 1024
VALUES = {
    "NULs": bytes(MIB),
    "quotes": b'"\\' * (MIB // 2),
    "plain": b"a" * (MIB - 1),
    "all of ASCII": bytes(range(128)) * (MIB // 128),
    "two bytes": "é".encode() * (MIB // 2),
    "four bytes, shifted": b"a" + "😀".encode() * (MIB // 4 - 1),
    "no text": b"\xff" * (MIB - 2),
    "text that ends within a character": "é".encode() * (MIB // 2 - 1) + b"\xc3",
    "just large": b"x" * (large.WHOLE_BYTES_MAX + 1),
    "not large": b"\x00" * large.WHOLE_BYTES_MAX,
}
_encode = msgspec.json.encode


def member(value: bytes) -> bytes:
    try:
        return b'"value":' + _encode(value.decode())
    except UnicodeDecodeError:
        return b'"value_base64":"' + base64.b64encode(value) + b'"'


@pytest.fixture(params=VALUES)
def value(request) -> bytes:
    return VALUES[request.param]


@pytest.fixture
def stored(backend: FakeBackend, value: bytes) -> bytes:
    backend.set(b"k", value, flags=7)
    return value


async def test_one_key_is_read_byte_for_byte_as_before(client, backend, stored):
    response = await client.request("GET", "/read/k")
    assert response.body == b'{"key":"k",%b,"revision":%d}' % (
        member(stored),
        backend.applied_index,
    )
    assert int(response.headers["content-length"]) == len(response.body)
    again = await client.request("HEAD", "/read/k")
    assert again.headers["content-length"] == response.headers["content-length"]
    assert (await client.request("GET", "/v1/health")).status == 200


async def test_an_entry_is_read_byte_for_byte_as_before(client, backend, stored):
    index = backend.applied_index
    entry = (
        b'{"LockIndex":0,"Key":"k","Flags":7,"Value":"%b","CreateIndex":%d,"ModifyIndex":%d}'
        % (
            base64.b64encode(stored),
            index,
            index,
        )
    )
    for path in ("/v1/kv/k", "/v1/kv/?recurse"):
        assert (await client.request("GET", path)).body == b"[%b]" % entry
    raw = await client.request("GET", "/v1/kv/k?raw&stale")
    assert raw.body == stored
    assert raw.headers["content-type"] == "text/plain"
    assert raw.headers["x-hstore-stale-ms"] == "12"


async def test_a_listing_is_read_byte_for_byte_as_before(client, backend, stored):
    backend.set(b"a", b"1")
    backend.set(b"z", b"2")
    try:
        shown = _encode(stored.decode())
    except UnicodeDecodeError:
        shown = b'{"base64":"%b"}' % base64.b64encode(stored)
    body = (await client.request("GET", "/read")).body
    assert body == b'{"a":"1","k":%b,"z":"2"}' % shown
    assert json.loads(body)


async def test_an_old_client_gets_it_with_its_length(connect, stored):
    client = connect()
    await client.send(b"GET /v1/kv/k?raw HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    response = await client.response()
    assert (response.body, response.headers["connection"]) == (stored, "keep-alive")
    await client.send(b"GET /v1/kv/k?raw HTTP/1.0\r\n\r\n")
    response = await client.response()
    assert (response.body, response.headers["connection"]) == (stored, "close")


async def test_a_watch_gets_it_byte_for_byte_as_before(client, backend, value):
    await client.send(b"GET /v1/watch HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await client.read_head()
    await client.read_chunk()
    backend.set(b"k", value)
    index = backend.applied_index
    event = b'id: %d\ndata: {"key":"k","revision":%d,%b}\n\n' % (index, index, member(value))
    body = b""
    while len(body) < len(event):
        chunk = await client.read_chunk()
        assert len(chunk) <= SLICE_BYTES
        body += chunk
    assert body == event


async def test_pieces_of_a_listing_are_no_larger_than_a_slice(client, backend):
    backend.set(b"\x01" * 4096, b"\x01" * large.WHOLE_BYTES_MAX)
    backend.set(b"\x01" * 4095 + b"a", bytes(MIB))
    backend.set(b"a", b"1")
    await client.send(b"GET /read HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await client.read_head()
    body = b""
    while chunk := await client.read_chunk():
        assert len(chunk) <= SLICE_BYTES
        body += chunk
    assert json.loads(body) == {key.decode(): i.value.decode() for key, i in backend.items.items()}


async def test_a_value_that_changes_while_its_turn_is_waited_for_is_read_anew(
    client, backend, server
):
    backend.set(b"k", b"x" * MIB)
    turn = server._shared.turn
    turn.bytes_left = 0
    await client.send(b"GET /v1/kv/k HTTP/1.1\r\nHost: localhost\r\n\r\n")
    backend.set(b"k", b"")
    response = await client.response()
    assert response.json()[0]["Value"] is None
    backend.set(b"k", b"x" * MIB)
    assert len((await client.request("GET", "/v1/kv/k?raw")).body) == MIB


@given(st.text(max_size=30), st.integers(1, 7))
def test_pieces_of_any_text_make_the_whole(text, size):
    value = text.encode()
    whole = large.large_text(value).between(b'"', b'"')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large, "_TEXT_BYTES", size + 3)
        assert b"".join(whole) == _encode(text)
    assert whole.length() == len(_encode(text))


@given(st.binary(max_size=30))
def test_pieces_of_any_value_make_the_whole(value):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large, "_BASE64_BYTES", 6)
        assert b"".join(large.large_base64(value)) == base64.b64encode(value)
    assert large.large_base64(value).length() == len(base64.b64encode(value))


def test_watches_of_one_change_share_its_pieces():
    change = Change(KEYS, b"k", 7, bytes(MIB))
    pairs = list(zip(watch._pieces(change, True), watch._pieces(change, True), strict=True))
    assert all(one is other for one, other in pairs[1:-1])
    assert len(pairs) > 100
