"""JSON bodies and durations of the dialect: contract-services section 2.1."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hstore.node.api.dialect import bodies, ids
from hstore.node.api.http.answers import HttpError
from hstore.node.model import durations
from hstore.node.model.values import uuid_text


class Part(msgspec.Struct, rename="pascal"):
    id: str = msgspec.field(default="", name="ID")


class Body(msgspec.Struct, rename="pascal"):
    name: str = ""
    parts: list[Part] | None = None
    meta: dict[str, str] | None = None
    lock_delay: str | int | None = None
    ttl: str = msgspec.field(default="", name="TTL")


ALIASES = {"checks": "Parts", "lock_delay": "LockDelay"}


@pytest.fixture
def exchange(backend) -> Any:
    class Exchange:
        pass

    one: Any = Exchange()
    one.backend = backend.whole
    return one


def decode(exchange: Any, text: bytes, **more: Any) -> Body:
    return bodies.decode(exchange, Body, text, ALIASES, **more)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b'{"name":"a","TTL":"10s"}', Body("a", ttl="10s")),
        (b'{"NAME":"a","ttl":"10s"}', Body("a", ttl="10s")),
        (b'{"Name":"a","nAmE":"b"}', Body("b")),
        (b'{"Unknown":{"Name":1},"lockdelay":15}', Body(lock_delay=15)),
        (b'{"lock_delay":"0.001s"}', Body(lock_delay="0.001s")),
        (b'{"parts":[{"id":"x"},{"ID":"y"}]}', Body(parts=[Part("x"), Part("y")])),
        (b'{"Checks":[]}', Body(parts=[])),
        (b'{"Name":null,"Parts":null}', Body()),
        (b'{"META":{"Name":"Kept","name":"too"}}', Body(meta={"Name": "Kept", "name": "too"})),
        (b'{"Datacenter":"dc1"}', Body()),
        (b" {} ", Body()),
    ],
)
def test_members_are_found_in_any_letters(exchange, text, expected):
    assert decode(exchange, text) == expected


@pytest.mark.parametrize(
    "text",
    [b"[]", b'"a"', b"{", b'{"Name":1}', b'{"Parts":{}}', b'{"Parts":[1]}', b'{"TTL":["x"]}',
     b'{"Name":"\xff"}', b"[" * 100_000, b'{"LockDelay":1.5}', b"null", b""],
)  # fmt: skip
def test_what_is_no_such_body_is_400(exchange, text):
    with pytest.raises(HttpError) as caught:
        decode(exchange, text)
    assert caught.value.status == 400
    assert (caught.value.plain or "").startswith("Request decode failed: ")


class ExactPart(Part, rename="pascal", forbid_unknown_fields=True):
    pass


class Exact(msgspec.Struct, rename="pascal", forbid_unknown_fields=True):
    name: str = ""
    parts: list[ExactPart] | None = None
    meta: dict[str, str] | None = None
    lock_delay: str | int | None = None
    ttl: str = msgspec.field(default="", name="TTL")


_VALUES = st.sampled_from(
    [b'""', b'"a"', b'"dc1"', b'"dc2"', b"null", b"5", b"1.0", b"-0.0", b"1e400", b"1" * 30, b"true", b"[]",
     b"{}", b'[{"ID":"x"}]', b'[{"id":"x"}]', b'[{"ID":null}]', b'[{"Other":1}]', b'{"Name":"a"}',
     b'"\\ud800"', b'"\xff"']
)  # fmt: skip
_NAMES = st.sampled_from(
    [b"Name", b"name", b"Parts", b"PARTS", b"Checks", b"checks", b"Meta", b"LockDelay", b"lock_delay",
     b"TTL", b"ttl", b"Ttl", b"Datacenter", b"datacenter", b"Other", b"\\u004eame"]
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(members=st.lists(st.tuples(_NAMES, _VALUES), max_size=4))
def test_a_shape_that_is_decoded_in_one_go_takes_the_same_bodies(exchange, members):
    text = b"{%b}" % b",".join(b'"%b":%b' % member for member in members)
    outcomes = []
    for shape in (Body, Exact):
        try:
            found = bodies.decode(exchange, shape, text, ALIASES)
            outcomes.append(msgspec.to_builtins(found))
        except HttpError as error:
            outcomes.append((error.status, error.plain))
    assert outcomes[0] == outcomes[1]


def test_a_datacenter_that_a_shape_knows_is_looked_at_all_the_same(exchange):
    class Placed(msgspec.Struct, rename="pascal", forbid_unknown_fields=True):
        datacenter: str = ""

    assert bodies.decode(exchange, Placed, b'{"Datacenter":"dc1"}') == Placed("dc1")
    with pytest.raises(HttpError) as caught:
        bodies.decode(exchange, Placed, b'{"Datacenter":"dc2"}')
    assert caught.value.plain == "No path to datacenter"


def test_an_empty_body_may_mean_the_defaults(exchange):
    assert decode(exchange, b"", allows_empty=True) == Body()
    with pytest.raises(HttpError) as caught:
        decode(exchange, b" ")
    assert caught.value.plain == "Request decode failed: EOF"


def test_another_datacenter_in_a_body_is_500(exchange):
    for name in [b"Datacenter", b"datacenter"]:
        with pytest.raises(HttpError) as caught:
            decode(exchange, b'{"%b":"dc2"}' % name)
        assert (caught.value.status, caught.value.plain) == (500, "No path to datacenter")


# --- durations --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "ns"),
    [("0", 0), ("+0", 0), ("10s", 10**10), ("150.0s", 150 * 10**9), ("120000ms", 120 * 10**9),
     ("1h30m", 5400 * 10**9), ("-1.5h", -5400 * 10**9), (".5s", 5 * 10**8), ("1.s", 10**9),
     ("0.001s", 10**6), ("1us", 1000), ("1µs", 1000), ("1μs", 1000), ("9.98s", 9_980_000_000),
     ("2562047h", 2562047 * 3600 * 10**9), ("0.0000000001s", 0),
     ("10", None), ("", None), ("s", None), (".s", None), ("1d", None), ("1s ", None), ("1 s", None),
     ("--1s", None), ("-", None), ("1s1", None), ("٣s", None), ("9223372036854775808ns", None),
     ("1" * 101 + "s", None)],
)  # fmt: skip
def test_durations_are_those_of_go(text, ns):
    assert durations.parse(text) == ns


@pytest.mark.parametrize(
    ("ns", "text"),
    [(0, "0s"), (1, "1ns"), (1500, "1.5µs"), (10**6, "1ms"), (2 * 10**8, "200ms"), (10**9, "1s"),
     (60 * 10**9, "1m0s"), (86400 * 10**9, "24h0m0s"), (1_500_000_000, "1.5s"),
     (3661 * 10**9, "1h1m1s"), (-(10**9), "-1s")],
)  # fmt: skip
def test_durations_look_as_go_prints_them(ns, text):
    assert durations.show(ns) == text


@given(st.integers(-durations.NS_MAX, durations.NS_MAX))
def test_what_is_printed_is_read_back(ns):
    assert durations.parse(durations.show(ns)) == ns


@pytest.mark.parametrize(
    ("value", "ns"),
    [(None, 0), ("", None), ("15s", 15 * 10**9), (15, 15), (15e9, 15 * 10**9), ("x", None), (1e300, None)],
)  # fmt: skip
def test_a_number_is_nanoseconds(value, ns):
    assert bodies.duration_ns(value) == ns


@given(st.binary(min_size=16, max_size=16))
def test_a_uuid_is_read_back_in_any_letters(one):
    text = uuid_text(one)
    assert len(text) == 36
    assert ids.parse(text) == ids.parse(text.upper()) == one
    for bad in [text[:-1], text + "0", text.replace("-", ""), f" {text}", text.replace("-", "_")]:
        assert ids.parse(bad) is None


def test_a_new_uuid_says_that_it_is_random():
    made = {ids.new() for _ in range(100)}
    assert len(made) == 100
    assert {(uuid.UUID(bytes=one).version, uuid.UUID(bytes=one).variant) for one in made} == {
        (4, uuid.RFC_4122)
    }
