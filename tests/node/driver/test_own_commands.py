"""What a node proposes itself keeps the limits of every node: followers refuse an entry that does not.

A leader that had such an entry in its log could replicate nothing any more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import trio

from hstore.node.checks.proposals import Proposals
from hstore.node.config import command_limits
from hstore.node.driver.requests import Answer, Request
from hstore.node.errors import Refused
from hstore.node.model import commands
from hstore.node.model.checks import RESULT_BYTES_MAX, Check, SetCheck
from hstore.node.model.commands import (
    KEY_BYTES_MAX,
    VALUE_BYTES_MAX,
    BecomeOnly,
    Command,
    Delete,
    Keyed,
    Put,
    Transaction,
)
from hstore.node.model.locks import EndSession
from hstore.node.model.services import (
    ASSIGNED_MAX,
    RESULTS_MAX,
    AssignNodes,
    CheckResult,
    DeregisterCritical,
    UpdateChecks,
)
from hstore.node.model.transactions import OPERATIONS_MAX, Get
from hstore.node.peers.wire import ForwardKind
from tests.node.memory_cluster import Cluster, running
from tests.node.state.catalogs import catalog_register, deregister, given, register, ttl

LONG = "x" * 10_000


def result(output: str = "", status: str = "passing", node: int = 1) -> CheckResult:
    return CheckResult(node, "c", 1, status, output)  # type: ignore[arg-type]


# Some are refused by their texts, some by the types of their fields as they are decoded.
OUT_OF_BOUNDS: dict[str, Command] = {
    "key": Put(b"", b""),
    "long key": Put(b"k" * (KEY_BYTES_MAX + 1), b""),
    "key not UTF-8": Put(b"\xff", b""),
    "value": Put(b"k", bytes(VALUE_BYTES_MAX + 1)),
    "cas": Put(b"k", b"", 0, -1),
    "flags": Put(b"k", b"", -1),
    "deletion": Delete(b""),
    "keyed": Keyed(b"k", bytes(16), Put(b"", b"")),
    "idempotency key": Keyed(b"k" * 257, bytes(16), Put(b"k", b"")),
    "operations": Transaction((Get(b"k"),) * (OPERATIONS_MAX + 1)),
    "no operations": Transaction(()),
    "service": register(1, LONG),
    "service's check": register(1, "web", given("c", "", ttl(-1))),
    "status": register(1, "web", given("c", "green", ttl())),
    "port": register(1, "web", port=-1),
    "node": catalog_register("n", LONG),
    "deregistration": deregister(1, LONG),
    "place": deregister("", "web"),
    "results": UpdateChecks(1, (result(),) * (RESULTS_MAX + 1)),
    "no results": UpdateChecks(1, ()),
    "output": UpdateChecks(1, (result("x" * (RESULT_BYTES_MAX + 1)),)),
    "status of a result": UpdateChecks(1, (result(status="green"),)),
    "owners": AssignNodes(((1, 1),) * (ASSIGNED_MAX + 1)),
    "critical": DeregisterCritical(-1, "c", 1),
    "size": register(1, "web", *(given(f"c{n}", "", ttl(), notes="x" * 4096) for n in range(600))),
    "recovery": BecomeOnly("c1", 1),
    "check": SetCheck(Check(1, "serfHealth", LONG + LONG, "passing")),
}


async def replicates(cluster: Cluster) -> None:
    """Fail unless what is written now is applied everywhere."""
    revision = await cluster.write(1, "key", "value")
    await cluster.until(lambda: min(one.node.keys.applied_index for one in cluster.up) >= revision)


@pytest.mark.parametrize("via", [1, 2])
async def test_a_command_out_of_bounds_is_refused_wherever_it_is_proposed(
    via: int, autojump_clock
) -> None:
    async with running(3) as cluster:
        replica = cluster[via].node.replica
        for name, command in OUT_OF_BOUNDS.items():
            with pytest.raises(Refused, match="command"):
                await replica.propose(command, trio.current_time() + 5)
                pytest.fail(name)
        await replicates(cluster)


@pytest.mark.parametrize("is_foreign", [False, True])
async def test_so_is_one_that_its_author_encodes_himself(is_foreign: bool, autojump_clock) -> None:
    """As the leader's clocks do, whose commands must not be forwarded."""
    async with running(3) as cluster:
        told: list[Answer] = []
        for command in OUT_OF_BOUNDS.values():
            request = Request(
                ForwardKind.WRITE,
                commands.encode(command),
                float("inf"),
                told.append,
                is_foreign=is_foreign,
            )
            cluster[1].node.replica.submit(request)
        await cluster.until(lambda: len(told) == len(OUT_OF_BOUNDS))
        assert {type(answer) for answer in told} == {Refused}
        await replicates(cluster)


async def test_results_of_checks_are(autojump_clock) -> None:
    async with running(3) as cluster:
        told: list[Answer] = []
        proposals = Proposals(cluster[1].node.replica)
        for is_foreign in (False, True):
            proposals.propose((result(LONG),), told.append, is_foreign=is_foreign)
        await cluster.until(lambda: len(told) == 2)
        assert {type(answer) for answer in told} == {Refused}
        await replicates(cluster)


async def test_what_keeps_them_is_not(autojump_clock) -> None:
    async with running(3) as cluster:
        replica = cluster[1].node.replica
        for command in (Put("ä".encode(), b""), Delete(b"k"), EndSession(bytes(16))):
            await replica.propose(command, trio.current_time() + 5)
        await replicates(cluster)


@pytest.mark.parametrize(
    "field", ["key", "value", "flags", "cas"], ids=lambda field: f"of the {field}"
)
def test_a_write_that_counts_as_sound_is(field: str) -> None:
    """What is not decoded is judged as if it were."""
    sound = Put(b"k", b"v", 1, 1)
    assert command_limits.is_sound(sound)
    values: dict[str, tuple[Any, ...]] = {
        "key": (b"", b"k" * KEY_BYTES_MAX, b"k" * (KEY_BYTES_MAX + 1), b"\xff"),
        "value": (bytes(VALUE_BYTES_MAX), bytes(VALUE_BYTES_MAX + 1)),
        "flags": (-1, 0, (1 << 64) - 1),
        "cas": (-1, 0, None, (1 << 64) - 1),
    }
    judge: Callable[[bytes], str] = command_limits.fault_in
    for value in values[field]:
        command = msgspec.structs.replace(sound, **{field: value})
        assert command_limits.is_sound(command) is not bool(judge(commands.encode(command))), value
