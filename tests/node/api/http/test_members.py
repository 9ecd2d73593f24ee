"""JSON bodies with a member twice: the decoder takes the last, another program the first."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstore.node.api.http.answers import HttpError
from hstore.node.api.http.params import refuse_repeated_members

NEWCOMER = {
    "id": "aa",
    "address": "10.0.0.3:8500",
    "peer_address": "10.0.0.3:8300",
    "dns_address": "10.0.0.3:8600",
    "protocol": 1,
}


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b'{"key":"a","value":"x","value":"y"}', "'value'"),
        (b'{"value":"x","key":"a","value":"y"}', "'value'"),
        (b'{"key":"","value":"","key":"a"}', "'key'"),
        (b'{"key":"a","value":"x","key":"a"}', "'key'"),
        (b'{"key":"a","value":"' + b"x" * 99_999 + b'","value":"y"}', "'value'"),
        (b'{"key":"a","value":"x","value":"' + b"\\u0000" * 9_999 + b'"}', "'value'"),
        (b'{"key":"a","value":"x","\\u0076alue":"y"}', "'key', 'value'"),
        (b'{"key":"a","value":"x","more":1,"more":[]}', "'more'"),
        (b'{"key":"a","value":"\\"value\\\\","value":"y"}', "'value'"),
        (b' { "key" : "a" ,\r\n "value" : "x" , "value" : "y" } ', "'value'"),
    ],
)
@pytest.mark.parametrize("path", ["/write", "/update"])
async def test_a_member_that_is_there_twice_is_refused_by_name(client, backend, path, body, named):
    """Whoever checked the first one would let pass what the last one says."""
    backend.set(b"a", b"before")
    answer = await client.request("POST", path, body)
    assert answer.status == 400
    assert f"is there more than once ({named})" in answer.error
    assert (backend.items[b"a"].value, backend.calls) == (b"before", [])


@pytest.mark.parametrize(
    ("method", "path", "body", "named"),
    [
        ("POST", "/v1/leader/remove", b'{"node":"n1","node":"n2"}', "'node'"),
        ("POST", "/v1/leader/transfer", b'{"to":"n1","to":"n2"}', "'to'"),
        ("POST", "/v1/node/rename", b'{"name":"a","node":"n1","node":"n2"}', "'node'"),
        ("PUT", "/v1/config/heartbeat", b'{"value":"1s","value":"2s"}', "'value'"),
        (
            "POST",
            "/v1/cluster/join",
            json.dumps({**NEWCOMER, "learner": True}).encode()[:-1] + b',"learner":false}',
            "'learner'",
        ),
    ],
)
async def test_so_is_one_in_what_an_operator_or_a_newcomer_sends(
    client, backend, method, path, body, named
):
    answer = await client.request(method, path, body)
    assert answer.status == 400
    assert f"is there more than once ({named})" in answer.error
    assert backend.calls == []


@pytest.mark.parametrize("more", [b'"\xff":1', b'"x":"\xff"', b'"x":[[1,{"a":"\xff"}]]'])
async def test_a_further_member_that_is_no_text_is_no_defect_of_ours(client, more):
    answer = await client.request("POST", "/write", b'{"key":"a","value":"x",' + more + b"}")
    assert answer.status in {200, 400}
    if answer.status == 400:
        assert "not the JSON expected here" in answer.error


TEXT = st.text(st.sampled_from('"\\:{},keyvalu\n é\0'), max_size=12)


@given(
    key=TEXT, value=TEXT, more=st.dictionaries(TEXT, TEXT), is_ascii=st.booleans(), data=st.data()
)
def test_no_object_is_refused_but_one_with_a_member_twice(key, value, more, is_ascii, data):
    pairs = list((more | {"key": key, "value": value}).items())
    spaces = data.draw(st.sampled_from([None, 2]))

    def text(pairs):
        parts = (
            json.dumps({name: text}, ensure_ascii=is_ascii, indent=spaces) for name, text in pairs
        )
        return ("{" + ",".join(part.strip()[1:-1] for part in parts) + "}").encode()

    refuse_repeated_members(text(pairs))
    refuse_repeated_members(text([("key", key), ("value", value)]), quotes=8)
    twice = data.draw(st.sampled_from(pairs))
    pairs.insert(data.draw(st.integers(0, len(pairs))), (twice[0], data.draw(TEXT)))
    for quotes in (0, 8):
        with pytest.raises(HttpError, match="more than once"):
            refuse_repeated_members(text(pairs), quotes)
