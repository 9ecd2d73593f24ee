"""Transactions: contract-services sections 6.4, 13.4."""

from __future__ import annotations

import base64
import json
from collections import Counter

import pytest
import trio

from hstore.node.api.consul import txn
from hstore.node.errors import NoLeader
from hstore.node.model.commands import Put
from hstore.node.net.turn import BYTES_MAX, SLICE_BYTES
from hstore.node.state import transactions
from tests.node.api.consul.conftest import is_refused

NOBODY = "6fa459ea-ee8a-3ca4-894e-db77e160355e"


def b64(value):
    return base64.b64encode(value).decode()


def kv(verb, key="", value=None, **members):
    asked = {"Verb": verb, "Key": key} | members
    return {"KV": asked if value is None else asked | {"Value": b64(value)}}


async def send(client, *operations, query="", **headers):
    body = json.dumps(operations).encode()
    return await client.request("PUT", f"/v1/txn{query}", body, **headers)


async def carried_out(client, *operations, **more):
    answer = await send(client, *operations, **more)
    assert answer.status == 200, answer
    found = answer.json()
    assert list(found) == ["Results", "Errors"]
    assert found["Errors"] is None
    assert all(list(result) == ["KV"] for result in found["Results"])
    return [result["KV"] for result in found["Results"]]


async def refused(client, *operations):
    answer = await send(client, *operations)
    assert answer.status == 409, answer
    assert answer.headers["content-type"] == "application/json"
    found = answer.json()
    assert list(found) == ["Results", "Errors"]
    assert found["Results"] is None
    return {error["OpIndex"]: error["What"] for error in found["Errors"]}


async def session(client, **body):
    return (await client.request("PUT", "/v1/session/create", body)).json()["ID"]


# --- what is carried out ------------------------------------------------------------------------


async def test_sets_share_one_index(client, backend):
    rows = await carried_out(client, kv("set", "a", b"1", Flags=7), kv("set", "b", b""))
    index = backend.applied_index
    assert rows == [
        {
            "LockIndex": 0,
            "Key": key,
            "Flags": flags,
            "Value": None,
            "CreateIndex": index,
            "ModifyIndex": index,
        }
        for key, flags in [("a", 7), ("b", 0)]
    ]
    assert backend.get(b"a").value == b"1"
    assert backend.get(b"b").value == b""


async def test_operations_see_those_before_them(client, backend):
    rows = await carried_out(
        client,
        kv("check-not-exists", "a"),
        kv("set", "a", b"1"),
        kv("get", "a"),
        kv("set", "a", b"2"),
        kv("get", "a"),
        kv("delete", "a"),
        kv("get-or-empty", "a"),
        kv("get-tree", "a"),
    )
    index = backend.applied_index
    assert [row["Value"] for row in rows] == [None, b64(b"1"), None, b64(b"2"), None]
    assert [row["ModifyIndex"] for row in rows] == [index] * 4 + [0]
    assert backend.get(b"a") is None


async def test_rows_of_each_verb(client, backend):
    owner = await session(client)
    backend.apply(Put(b"t/a", b"1"))
    backend.apply(Put(b"t/b", b"2"))
    old = backend.applied_index
    rows = await carried_out(
        client,
        kv("get-tree", "t/"),
        kv("cas", "t/b", b"3", Index=old),
        kv("lock", "l", b"x", Session=owner),
        kv("check-session", "l", Session=owner),
        kv("unlock", "l", b"y", Session=owner),
        kv("check-index", "t/a", Index=old - 1),
        kv("delete-cas", "t/a", Index=old - 1),
        kv("delete-cas", "nope", Index=5),
        kv("delete", "nope"),
        kv("delete-tree", "t/"),
        kv("check-not-exists", "t/b"),
        kv("get", "l"),
    )
    assert [(row["Key"], row["Value"]) for row in rows] == [
        ("t/a", b64(b"1")),
        ("t/b", b64(b"2")),
        ("t/b", None),
        ("l", None),
        ("l", None),
        ("l", None),
        ("t/a", None),
        ("l", b64(b"y")),
    ]
    locked, checked, unlocked, last = rows[3], rows[4], rows[5], rows[7]
    assert list(locked) == [
        *("LockIndex", "Key", "Flags", "Value", "Session", "CreateIndex", "ModifyIndex")
    ]
    assert locked["Session"] == checked["Session"] == owner
    assert "Session" not in unlocked
    assert [row["LockIndex"] for row in (locked, unlocked, last)] == [1, 1, 1]


async def test_cas_zero_makes_a_key(client):
    [row] = await carried_out(client, kv("cas", "a", b"1", Index=0))
    assert row["CreateIndex"] == row["ModifyIndex"] > 0


async def test_members_are_matched_without_regard_to_case(client, backend):
    rows = await carried_out(client, {"kv": {"verb": "set", "key": "a", "VALUE": b64(b"1")}})
    assert rows[0]["Key"] == "a"
    assert backend.get(b"a").value == b"1"


async def test_members_that_are_null_or_unknown(client, backend):
    kv_set = {
        "Verb": "set",
        "Key": "a",
        "Value": None,
        "Flags": None,
        "Session": "",
        "Namespace": "",
    }
    await carried_out(client, {"KV": kv_set, "Node": None, "Intention": None})
    assert backend.get(b"a").value == b""


async def test_line_breaks_in_base64_do_not_matter(client, backend):
    await carried_out(client, {"KV": {"Verb": "set", "Key": "a", "Value": "YWJj\r\nZA==\n"}})
    assert backend.get(b"a").value == b"abcd"


async def test_no_operation_at_all(client, backend):
    before = backend.applied_index
    assert await carried_out(client) == []
    assert backend.applied_index == before


async def test_a_large_answer(client, backend):
    backend.apply(Put(b"a", b"x" * 1_000_000))
    rows = await carried_out(client, kv("set", "b"), kv("get", "a"))
    assert rows[1]["Value"] == b64(b"x" * 1_000_000)
    [row] = await carried_out(client, kv("get", "a"))
    assert row["Value"] == b64(b"x" * 1_000_000)


# --- only reads ---------------------------------------------------------------------------------


async def test_only_reads_make_no_entry(client, backend):
    backend.apply(Put(b"a", b"1"))
    before = backend.applied_index
    answer = await send(
        client,
        kv("get", "a"),
        kv("get-tree", ""),
        kv("check-index", "a", Index=before),
        kv("get-or-empty", "n"),
        kv("check-not-exists", "n"),
        kv("check-session", "a"),
    )
    assert [row["KV"]["Key"] for row in answer.json()["Results"]] == ["a", "a", "a", "n", "a"]
    assert backend.applied_index == before
    assert backend.barriers == 1
    headers = answer.headers
    assert headers["x-consul-knownleader"] == "true"
    assert headers["x-consul-lastcontact"] == "0"
    assert headers["x-consul-effective-consistency"] == "leader"
    assert "x-consul-index" not in headers


async def test_only_reads_may_be_stale(client, backend):
    backend.apply(Put(b"a", b"1"))
    backend.error, backend.knows_leader = NoLeader("none"), False
    is_refused(await send(client, kv("get", "a")), 500, "No cluster leader")
    answer = await send(client, kv("get", "a"), query="?stale")
    assert (answer.status, answer.headers["x-consul-effective-consistency"]) == (200, "stale")
    assert answer.headers["x-consul-knownleader"] == "false"


async def test_reads_that_fail(client, backend):
    before = backend.applied_index
    faults = await refused(
        client, kv("get", "n"), kv("get-tree", "n"), kv("check-index", "n", Index=1)
    )
    assert faults == {
        0: 'key "n" doesn\'t exist',
        2: 'failed to check index, key "n" doesn\'t exist',
    }
    assert backend.applied_index == before


# --- what is not carried out --------------------------------------------------------------------


async def test_all_or_nothing_and_every_error_is_told(client, backend):
    owner = await session(client)
    other = await session(client)
    backend.apply(Put(b"a", b"1"))
    index = backend.applied_index
    await carried_out(client, kv("lock", "l", b"x", Session=owner))
    before = dict.fromkeys([b"a", b"l", b"n"])
    before = {key: backend.get(key) for key in before}
    faults = await refused(
        client,
        kv("set", "n", b"new"),
        kv("cas", "a", b"2", Index=index + 50),
        kv("delete-cas", "a", Index=1),
        kv("lock", "l", b"y", Session=other),
        kv("lock", "n", b"y", Session=NOBODY),
        kv("unlock", "l", b"y", Session=other),
        kv("get", "none"),
        kv("check-index", "a", Index=3),
        kv("check-session", "l", Session=other),
        kv("check-not-exists", "a"),
        kv("get", "n"),
    )
    assert faults == {
        1: 'failed to set key "a", index is stale',
        2: 'failed to delete key "a", index is stale',
        3: 'failed to lock key "l", lock is already held',
        4: f'invalid session "{NOBODY}"',
        5: 'failed to unlock key "l", lock isn\'t held, or is held by another session',
        6: 'key "none" doesn\'t exist',
        7: f'failed index check for key "a", current modify index {index} != 3',
        8: f'failed session check for key "l", current session "{owner}" != "{other}"',
        9: 'key "a" exists',
    }
    assert {key: backend.get(key) for key in before} == before


async def test_what_can_be_done_in_no_state_is_told_with_the_other_errors(client, backend):
    faults = await refused(
        client,
        kv("set", "a", b"1"),
        kv("nope", "a"),
        kv("SET", "a"),
        kv("", "a"),
        kv("set", "", b"1"),
        kv("lock", "a", Session="nonsense"),
        kv("lock", "a"),
        kv("unlock", "a", Session="nonsense"),
        kv("check-session", "a", Session="nonsense"),
        kv("set", "x" * 4097),
        {"Node": {"Verb": "set", "Node": {"Node": "n"}}},
        {"Service": {"Verb": "get", "Node": "n", "Service": {}}},
        {"Check": {"Verb": "delete", "Check": {"CheckID": "x"}}},
        {"Session": {"Verb": "delete"}},
        {},
        kv("get", "none"),
    )
    assert sorted(faults) == list(range(1, 16))
    assert faults[1] == 'unknown KV verb "nope"'
    assert faults[2] == 'unknown KV verb "SET"'
    assert faults[4] == "Must provide key"
    assert faults[5] == 'invalid session "nonsense"'
    assert faults[6] == "missing session"
    assert faults[7].startswith('failed to unlock key "a"')
    assert "nonsense" in faults[8]
    assert [faults[n].split()[0] for n in (10, 11, 12)] == ["Node", "Service", "Check"]
    assert all("not supported" in faults[n] for n in (10, 11, 12))
    assert faults[13] == faults[14] == "no operation specified"
    assert faults[15] == 'key "none" doesn\'t exist'
    assert backend.get(b"a") is None


async def test_what_can_be_done_in_no_state_among_reads(client, backend):
    before = backend.applied_index
    faults = await refused(client, kv("get", "none"), kv("nope", "a"))
    assert faults == {0: 'key "none" doesn\'t exist', 1: 'unknown KV verb "nope"'}
    assert backend.applied_index == before


async def test_a_lock_within_its_delay_is_an_error(client, backend):
    owner = await session(client, LockDelay="15s")
    await carried_out(client, kv("lock", "l", b"x", Session=owner))
    await client.request("PUT", f"/v1/session/destroy/{owner}")
    other = await session(client)
    faults = await refused(client, kv("lock", "l", b"x", Session=other))
    assert faults == {0: 'failed to lock key "l" due to lock delay'}
    backend.time_ms += 15_000
    assert len(await carried_out(client, kv("lock", "l", b"x", Session=other))) == 1


async def test_the_outcome_of_one_that_was_not_applied(client):
    answer = await send(client, kv("set", "a"), kv("get", "none"))
    assert (answer.status, answer.headers["x-hstore-outcome"]) == (409, "not applied")


# --- bodies and bounds --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{}",
        b'[{"KV":1}]',
        b'[{"KV":{"Verb":1}}]',
        b'[{"KV":{"Verb":"set","Key":"a","Value":"%%%"}}]',
        b'[{"KV":{"Verb":"set","Key":"a","Value":"YQ"}}]',
        b'[{"KV":{"Verb":"set","Key":"a","Value":7}}]',
        b'[{"KV":{"Verb":"set","Key":"a","Flags":-1}}]',
        b'[{"KV":{"Verb":"set","Key":"a","Index":18446744073709551616}}]',
        b'[{"KV":{"Verb":"set","Key":"a","Index":"1"}}]',
        b"[1]",
    ],
)
async def test_a_body_that_is_none(client, body):
    answer = await client.request("PUT", "/v1/txn", body)
    assert answer.status == 400
    assert answer.body.startswith(b"Failed to parse body: ")
    assert answer.headers["x-hstore-outcome"] == "not applied"


async def test_the_largest_flags_and_index(client):
    most = 2**64 - 1
    [row] = await carried_out(client, kv("set", "a", b"1", Flags=most, Index=most))
    assert row["Flags"] == most


async def test_at_most_128_operations(client):
    assert len(await carried_out(client, *[kv("set", f"k{n}") for n in range(128)])) == 128
    answer = await send(client, *[kv("set", "k")] * 129)
    is_refused(answer, 413, "Transaction contains too many operations (129 > 128)")


async def test_at_most_1_mib_of_values(client):
    half = b"x" * 2**19
    await carried_out(client, kv("set", "a", half), kv("set", "b", half))
    answer = await send(client, kv("set", "a", half), kv("set", "b", half), kv("set", "c", b"1"))
    is_refused(answer, 413, "Cumulative size of key data is too large (1048577 > 1048576 bytes)")


async def test_at_most_2_mib_of_body(client):
    body = b"[" + b" " * (2 * 2**20) + b"]"
    answer = await client.request("PUT", "/v1/txn", body)
    text = f"Request body({len(body)} bytes) too large, max size: 2097152 bytes."
    is_refused(answer, 413, text)
    assert (await client.request("PUT", "/v1/txn", body.replace(b"  ", b"", 1))).status == 200


async def test_another_datacenter(client):
    is_refused(await send(client, kv("set", "a"), query="?dc=x"), 500, "No path to datacenter")


async def test_without_a_leader(client, backend):
    backend.error = NoLeader("none")
    backend.knows_leader = False
    answer = await send(client, kv("set", "a"))
    is_refused(answer, 500, "No cluster leader")
    assert answer.headers["x-hstore-outcome"] == "not applied"


async def test_the_same_request_sent_again_is_carried_out_once(client, backend):
    answers = [await send(client, kv("cas", "a", b"1", Index=0), Idempotency_Key="k") for _ in "12"]
    assert answers[0].status == 200
    assert answers[0].body == answers[1].body
    failed = [await send(client, kv("cas", "a", b"1", Index=0), Idempotency_Key="f") for _ in "12"]
    assert [answer.status for answer in failed] == [409, 409]
    assert failed[0].body == failed[1].body


async def test_another_method(client):
    answer = await client.request("POST", "/v1/txn", b"[]")
    is_refused(answer, 405, "method POST not allowed")
    assert answer.headers["allow"] == "PUT"


async def test_many_rows_are_read_and_shown_in_several_turns(client, backend, monkeypatch, nursery):
    """10,000 rows in one turn were a stall of 120 ms."""
    turns = 0
    looks: Counter[int] = Counter()
    add, shown = transactions._Answer.add, txn._shown

    async def count_turns():
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    def counted_add(*args, **more):
        looks[turns] += 1
        return add(*args, **more)

    def counted_shown(row):
        looks[turns] += 1
        return shown(row)

    monkeypatch.setattr(transactions._Answer, "add", counted_add)
    monkeypatch.setattr(txn, "_shown", counted_shown)
    for number in range(2000):
        backend.apply(Put(b"many/%04d" % number, b"x"))
    nursery.start_soon(count_turns)
    rows = await carried_out(client, kv("get-tree", "many/"), kv("get", "many/0000"))
    assert [row["Key"] for row in rows] == [f"many/{n:04}" for n in (*range(2000), 0)]
    assert sum(looks.values()) == 2 * 2001 + transactions.ROWS_PER_STEP
    # Between two counts there may be the end of one turn and the beginning of another.
    in_a_turn = transactions.ROWS_PER_STEP * BYTES_MAX // SLICE_BYTES
    assert max(looks.values()) <= 2 * in_a_turn
    faults = await refused(client, kv("get-tree", "many/"), kv("get", "none"))
    assert list(faults) == [1]
