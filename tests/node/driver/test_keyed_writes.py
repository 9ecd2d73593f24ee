"""Keyed writes on whole nodes: once, across leaders, links that break, restarts and snapshots."""

from __future__ import annotations

import time
import typing
from typing import cast

import msgspec
import pytest
import trio

from hstore.node.driver import compaction
from hstore.node.errors import (
    HstoreError,
    KeyReused,
    OutcomeUnknown,
    Overloaded,
    Refused,
    Unavailable,
)
from hstore.node.model import commands
from hstore.node.model.checks import Check, CheckDefinition, SetCheck
from hstore.node.model.commands import (
    ChangeMember,
    ChangeSetting,
    Checkpoint,
    ClusterSettings,
    Delete,
    DeletePrefix,
    InitCluster,
    Keyed,
    Outcome,
    Put,
    PutMember,
    RemoveMember,
)
from hstore.node.model.locks import Acquire, CreateSession, EndSession, Release, Session
from hstore.node.model.services import (
    AssignNodes,
    CatalogRegister,
    CheckResult,
    Deregister,
    DeregisterCritical,
    ExternalNode,
    GivenCheck,
    Place,
    RegisterCheck,
    RegisterService,
    Service,
    UpdateChecks,
)
from hstore.node.model.user_events import FireEvent, UserEvent
from hstore.node.peers import wire
from hstore.node.peers.wire import ForwardKind
from hstore.node.state import idempotency, records
from hstore.node.state.keyed_writes import KeyedWrites
from tests.fakes.leap import leap
from tests.node.memory_cluster import PATIENCE_S, Cluster, Member, running

CREATE = Put(b"a", b"1", cas=0)
"""Done a second time, it is refused."""


FORMER_KIND = cast("ForwardKind", 3)
"""Of a keyed write, in protocol 3."""


def keyed(key: str, command: Put | Delete | DeletePrefix = CREATE, digest: bytes = b"d") -> Keyed:
    return Keyed(key.encode(), digest * 16, command)


async def write(member: Member, command: Keyed, within_s: float = PATIENCE_S) -> Outcome:
    return await member.node.keys.write(command, trio.current_time() + within_s)


async def resend(member: Member, command: Keyed) -> Outcome:
    """Do as a client does that has to know: a 503 is not an answer."""
    with trio.fail_after(PATIENCE_S):
        while True:
            try:
                return await write(member, command)
            except Unavailable:
                await trio.sleep(0.01)


def tables(cluster: Cluster) -> set[KeyedWrites]:
    return {member.node.replica.state.keyed_writes for member in cluster.up}


async def test_a_write_sent_again_to_another_node_after_its_leader_died_is_answered_the_same(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        first = await write(cluster[2], keyed("k"))
        await cluster.write(3, "b", "later")
        cluster[1].crash()
        assert [await resend(cluster[n], keyed("k")) for n in (2, 3)] == [first, first]
        assert first.ok


async def test_of_duplicates_in_flight_one_takes_effect_and_all_get_its_answer(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        outcomes: list[Outcome] = []

        async def send(node: int) -> None:
            outcomes.append(await write(cluster[node], keyed("k")))

        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                for node in (1, 2, 3, 3, 2, 1):
                    nursery.start_soon(send, node)
        assert len(outcomes) == 6
        assert len({(outcome.ok, outcome.revision) for outcome in outcomes}) == 1
        assert outcomes[0].ok


async def test_a_write_whose_answer_was_lost_can_be_sent_again(autojump_clock) -> None:
    async with running(3) as cluster:

        def lose(_frm: int, _to: int, frame: wire.Frame) -> wire.Frame | None:
            return None if isinstance(frame, wire.ForwardReply) else frame

        cluster.network.edit = lose
        with pytest.raises(OutcomeUnknown):
            await write(cluster[2], keyed("k"), within_s=1.0)
        cluster.network.edit = None
        outcome = await write(cluster[2], keyed("k"))
        assert outcome.ok
        item = cluster[1].node.keys.get(b"a")
        assert item is not None
        assert item.revision == outcome.revision


async def test_the_table_survives_that_all_nodes_lose_power(autojump_clock) -> None:
    async with running(3) as cluster:
        first = await write(cluster[2], keyed("k"))
        for member in cluster.up:
            member.crash()
        for member in cluster.members.values():
            await member.ended.wait()
            await member.start()
        await cluster.until(cluster.agrees)
        assert await write(cluster[3], keyed("k")) == first
        with pytest.raises(KeyReused):
            await write(cluster[3], keyed("k", digest=b"e"))


async def test_who_came_by_a_snapshot_gives_the_answer_of_before(
    monkeypatch: pytest.MonkeyPatch, autojump_clock
) -> None:
    monkeypatch.setattr(compaction, "KEEP_ENTRIES", 10)
    async with running(3) as cluster:
        cluster[3].crash()
        await cluster[3].ended.wait()
        first = await write(cluster[2], keyed("k"))
        await trio.sleep(3)  # until nobody keeps entries for it
        for number in range(60):
            await cluster.write(1, f"key-{number}", "")
        await cluster[3].start()
        await cluster.read(3, "a")
        assert "install" in cluster[3].storage.order()
        cluster[1].crash()

        assert await resend(cluster[3], keyed("k")) == first
        await cluster.until(lambda: len(tables(cluster)) == 1)


async def test_what_is_denied_is_told_on_whichever_node(
    monkeypatch: pytest.MonkeyPatch, autojump_clock
) -> None:
    monkeypatch.setattr(idempotency, "KEYS_MAX", 2)
    async with running(3) as cluster:
        await write(cluster[1], keyed("1"))
        await write(cluster[2], keyed("2", Delete(b"none")))
        for node in (1, 2):
            with pytest.raises(KeyReused):
                await write(cluster[node], keyed("1", digest=b"e"))
            with pytest.raises(Overloaded):
                await write(cluster[node], keyed("3"))
        assert not (await write(cluster[3], keyed("2", Delete(b"none")))).ok


async def test_time_passes_for_keys_while_nobody_writes(
    monkeypatch: pytest.MonkeyPatch, autojump_clock
) -> None:
    """And a change of leaders neither hurries nor stops it."""
    monkeypatch.setattr(idempotency, "KEEP_MS", 20_000)
    monkeypatch.setattr(idempotency, "KEYS_MAX", 1)
    async with running(3) as cluster:
        start = trio.current_time()
        first = await write(cluster[2], keyed("k"))
        await trio.sleep(8)
        cluster[1].crash()
        await trio.sleep(8)
        assert await write(cluster[3], keyed("k")) == first
        with pytest.raises(Overloaded):
            await write(cluster[3], keyed("other"))

        await trio.sleep(start + 22 - trio.current_time())
        assert (await write(cluster[3], keyed("other", Put(b"b", b"")))).ok


async def test_a_calendar_that_is_set_forgets_no_key_and_keeps_none_for_ever(
    monkeypatch: pytest.MonkeyPatch, autojump_clock
) -> None:
    monkeypatch.setattr(idempotency, "KEEP_MS", 20_000)
    async with running(1) as cluster:
        await write(cluster[1], keyed("k"))
        present = time.time()
        for hours in (1_000, -1_000):
            monkeypatch.setattr(time, "time", lambda hours=hours: present + 3600 * hours)
            before = tables(cluster).pop().time_ms
            await trio.sleep(1)
            await write(cluster[1], keyed(f"later {hours}", Delete(b"none")))
            assert 500 < tables(cluster).pop().time_ms - before < 2_000


async def test_the_leader_says_what_time_it_is_not_who_passes_a_write_on(autojump_clock) -> None:
    async with running(3) as cluster:
        clock = cluster[2].node.replica.clock
        leap(clock, clock.ms + 3_600_000)
        await write(cluster[2], keyed("k"))
        await cluster.until(lambda: len(tables(cluster)) == 1)
        assert tables(cluster).pop().time_ms < 60_000


async def test_a_leader_that_knows_less_of_the_time_goes_on_from_the_log(autojump_clock) -> None:
    async with running(3) as cluster:
        leap(cluster[1].node.replica.clock, 1_000_000)
        await write(cluster[1], keyed("1"))
        cluster[1].crash()
        await cluster.until(cluster.agrees)
        leap(cluster.leader.node.replica.clock, 0)
        await write(cluster[2], keyed("2"))
        assert cluster.leader.node.replica.state.time_ms >= 1_000_000
        await trio.sleep(5)
        await write(cluster[2], keyed("3"))
        assert 1_004_000 < cluster.leader.node.replica.state.time_ms < 1_010_000


async def test_a_long_pause_of_a_leader_makes_no_key_older(autojump_clock) -> None:
    """A process that was stopped for an hour wakes up to one tick: who was to send again within
    ten minutes has been waiting for it."""
    async with running(1) as cluster:
        replica = cluster[1].node.replica
        before = replica.clock.ms
        autojump_clock.jump(3_600)
        await trio.sleep(1)
        assert replica.clock.ms - before < 2_000


@pytest.mark.parametrize(
    ("kind", "command"),
    [(FORMER_KIND, keyed("k")), (FORMER_KIND, CREATE), (ForwardKind.WRITE, None)],
)
async def test_a_write_that_is_passed_on_as_what_it_is_not_is_refused(
    kind: ForwardKind, command: commands.Command | None, autojump_clock
) -> None:
    async with running(2) as cluster:
        data = commands.encode(command) if command else b"\xc1"
        with pytest.raises(Refused):
            await cluster[2].node.replica.request(kind, data, trio.current_time() + 5)


@pytest.mark.parametrize("via", [1, 2])
async def test_the_time_that_another_node_put_into_a_command_does_not_count(
    via: int, autojump_clock
) -> None:
    """Only the leader's word for the cluster's time does: a later one would make keys forgotten."""
    async with running(2) as cluster:
        hasty = msgspec.structs.replace(keyed("k"), time_ms=10**12)
        outcome = await cluster[via].node.replica.propose(hasty, trio.current_time() + 5)
        assert outcome.ok
        await cluster.until(lambda: len(set(tables(cluster))) == 1)
        for member in cluster.up:
            assert member.node.replica.state.keyed_writes.time_ms < 10**9


EVERY_COMMAND: tuple[commands.Command, ...] = (
    CREATE,
    Delete(b"a"),
    DeletePrefix(b"a"),
    keyed("k" * 256, Put(b"a", bytes(2000))),
    InitCluster("c1", ClusterSettings()),
    PutMember(commands.Member(1, "n1", "a", "b", "c")),
    RemoveMember(1),
    commands.ReplaceMember(commands.Member(2, "n1", "a", "b", "c"), 1),
    Checkpoint(),
    ChangeSetting("dns_ttl_s", 1),
    ChangeMember(1),
    commands.BecomeOnly("c2", 1, (2,)),
    Acquire(b"a", b"1", 0, b"s" * 16),
    Release(b"a", b"1", 0, b"s" * 16),
    CreateSession(Session(b"s" * 16, "", 1, 0, "release", "", 0, ())),
    EndSession(b"s" * 16),
    SetCheck(Check(1, "serfHealth", "", "passing")),
    commands.Transaction((CREATE,)),
    FireEvent(UserEvent(b"e" * 16, "deploy", b"")),
    RegisterService(Place(1), Service(0, "web", "web"), (GivenCheck("c", "c"),)),
    RegisterCheck(Place(1), GivenCheck("c", "c", definition=CheckDefinition("ttl", 10**9))),
    Deregister(Place(0, "web-1"), service="web"),
    CatalogRegister(ExternalNode(0, "web-1", address="192.0.2.1")),
    DeregisterCritical(1, "c", 7),
    UpdateChecks(1, (CheckResult(1, "c", 7, "passing", ""),)),
    AssignNodes(((1 << 63, 1),)),
)


def test_what_needs_the_clusters_time_is_told_by_its_first_bytes() -> None:
    is_timed = {type(one): "time_ms" in type(one).__struct_fields__ for one in EVERY_COMMAND}
    assert is_timed.keys() == set(typing.get_args(commands.Command))

    for one in EVERY_COMMAND:
        data = commands.encode(one)
        assert commands.needs_time(data) is is_timed[type(one)]
        if is_timed[type(one)]:
            stamped = commands.decode(commands.stamped(data, 5))
            assert stamped == msgspec.structs.replace(one, time_ms=5)
            for time_ms in (0, 5, 300, 1 << 62):
                before = commands.encode_unstamped(msgspec.structs.replace(one, time_ms=time_ms))
                for own in (data, before):
                    assert commands.first_stamped(own, time_ms) == commands.stamped(data, time_ms)


async def test_a_keyed_write_waits_for_the_next_leader_and_is_stamped_there(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        cluster[1].crash()
        with pytest.raises(HstoreError):  # nobody yet
            await write(cluster[2], keyed("k"), within_s=0.001)
        outcome = await resend(cluster[2], keyed("k"))
        assert outcome.ok
        # Whoever leads has applied what is answered; the other hears of it later.
        record = cluster.leader.node.replica.storage.state.get(records.turn_key(0))
        assert records.decode_turn(record)[1] == b"k"
