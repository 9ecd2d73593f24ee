"""Requests at any node of a cluster: each is answered, once, in time, and by the truth."""

from __future__ import annotations

import pytest
import trio

from hstore.node.cluster import membership
from hstore.node.driver import requests
from hstore.node.driver.requests import Request, Waiting
from hstore.node.errors import (
    HstoreError,
    NoLeader,
    NotApplied,
    OutcomeUnknown,
    Overloaded,
    Refused,
    Unavailable,
)
from hstore.node.model.commands import Put
from hstore.node.peers import link, wire
from hstore.node.peers.wire import Bundle, Forward, ForwardKind, ForwardReply, ForwardStatus
from hstore.node.raft.entry import Entry, EntryKind
from hstore.node.raft.messages import Append, AppendResponse, HeartbeatResponse
from hstore.node.raft.roles import Role
from tests.node.memory_cluster import Cluster, Member, running

TICK_S = 0.1


def forwards_of(cluster: Cluster) -> list[tuple[int, int, Forward]]:
    """Return a list that fills with the requests that are passed on."""
    forwards: list[tuple[int, int, Forward]] = []

    def tap(frm: int, to: int, frame: wire.Frame) -> None:
        if isinstance(frame, Forward):
            forwards.append((frm, to, frame))

    cluster.network.taps.append(tap)
    return forwards


def waiting_at(member: Member) -> int:
    """Count everything that waits at a node, in whatever state."""
    waiting = member.node.replica.waiting
    return (
        len(waiting.queued)
        + len(waiting.proposed)
        + len(waiting.in_log)
        + len(waiting.forwarded)
        + len(waiting.new_reads)
        + sum(len(reads) for _, reads in waiting.asked_reads.values())
        + len(waiting.reads_for_index._heap)
        + waiting.reads
    )


# -- the ordinary ------------------------------------------------------------------------------


async def test_a_write_on_any_node_is_readable_on_every_other(autojump_clock) -> None:
    async with running(3) as cluster:
        for writer in cluster.members:
            await cluster.write(writer, f"by-{writer}", "value")
            for reader in cluster.members:
                assert await cluster.read(reader, f"by-{writer}") == "value"


async def test_many_writers_at_all_nodes_are_all_served(autojump_clock) -> None:
    async with running(3) as cluster:
        revisions: list[int] = []

        async def write(number: int) -> None:
            revisions.append(await cluster.write(1 + number % 3, f"k{number}", "v"))

        before = cluster[1].node.replica.flushes.count
        async with trio.open_nursery() as nursery:
            for number in range(300):
                nursery.start_soon(write, number)
        assert len(set(revisions)) == 300
        # Group commit: what arrives together becomes durable together.
        assert cluster[1].node.replica.flushes.count - before < 50


# -- passing on --------------------------------------------------------------------------------


async def test_a_request_is_passed_on_once(autojump_clock) -> None:
    async with running(3) as cluster:
        forwards = forwards_of(cluster)
        await cluster.write(2, "key", "value")
        await cluster.write(1, "key", "other")
        assert [(frm, to) for frm, to, _ in forwards] == [(2, 1)]


async def test_a_request_refused_by_a_former_leader_waits_for_the_next(autojump_clock) -> None:
    async with running(3) as cluster:
        forwards = forwards_of(cluster)
        former = cluster[1].node.replica.core
        former.become_follower(former.term, 0)
        revision = await cluster.write(2, "key", "value")

        assert revision > 0
        assert forwards[0][1] == 1
        assert await cluster.read(3, "key") == "value"


async def test_a_request_that_reached_a_node_which_leads_no_more_is_not_passed_on_again(
    autojump_clock,
) -> None:
    """Its sender hears that it was not done there, and looks for the leader by itself."""
    async with running(3) as cluster:
        forwards = forwards_of(cluster)
        answers: list[object] = []
        request = Request(0, b"data", trio.current_time() + 5, answers.append, is_foreign=True)
        cluster[2].node.replica.submit(request)
        await trio.sleep(0.5)

        assert forwards == []
        assert [type(answer).__name__ for answer in answers] == ["NotLeading"]


async def test_a_leader_lost_while_it_had_the_request_leaves_the_outcome_unknown(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        cluster[1].disk.flush_gate = trio.Event()
        cluster[2].disk.flush_gate = gate = trio.Event()
        cluster[3].disk.flush_gate = gate

        started = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(expect, cluster, 2, OutcomeUnknown)
            await trio.sleep(0.05)
            cluster[1].crash()
        # At once, not at the deadline.
        assert trio.current_time() - started < 0.3
        gate.set()


async def test_a_learner_whose_leader_died_knows_at_once_that_no_answer_comes(
    autojump_clock,
) -> None:
    """It calls no election that would tell it."""
    async with running(2) as cluster:
        learner = await cluster.join(learner=True)
        cluster[2].disk.flush_gate = gate = trio.Event()
        started = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(expect, cluster, learner.id, OutcomeUnknown)
            await trio.sleep(0.05)
            cluster[1].crash()
        assert trio.current_time() - started < 0.3
        gate.set()


async def test_a_write_in_the_turn_in_which_its_leader_is_deposed_goes_to_the_next(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        replica = cluster[1].node.replica
        newer = AppendResponse(2, 1, replica.core.term + 1, 0, rejected=True)
        replica.received(2, newer)
        assert replica.core.role is Role.LEADER
        await cluster.write(1, "key", "value")
        assert replica.core.term >= newer.term
        assert await cluster.read(2, "key") == "value"


async def expect(
    cluster: Cluster, via: int, error: type[Unavailable], within_s: float = 5.0
) -> Unavailable:
    with pytest.raises(error) as caught:
        await cluster.write(via, "expected", "failure", within_s=within_s)
    return caught.value


async def test_a_lost_reply_leaves_the_outcome_unknown_and_never_not_applied(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        cluster.network.edit = lambda _f, _t, x: None if isinstance(x, ForwardReply) else x
        error = await expect(cluster, 2, OutcomeUnknown, 1.0)

        assert error.outcome == "unknown"
        cluster.network.edit = None
        assert await cluster.read(2, "expected") == "failure"


@pytest.mark.parametrize("together", [1, 3])
async def test_a_full_link_refuses_requests_for_certain(
    together: int, monkeypatch: pytest.MonkeyPatch, autojump_clock
) -> None:
    async with running(3) as cluster:
        monkeypatch.setattr(link, "_MAX_OUTBOX_BYTES", 0)

        async def refused() -> None:
            error = await expect(cluster, 2, Overloaded)
            assert error.outcome == "not applied"

        async with trio.open_nursery() as nursery:
            for _ in range(together):
                nursery.start_soon(refused)
        assert waiting_at(cluster[2]) == 0


async def test_requests_of_one_turn_go_to_the_leader_together_and_so_do_the_answers(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        frames: list[tuple[int, list[type]]] = []

        def tap(frm: int, _to: int, frame: wire.Frame) -> None:
            assert not isinstance(frame, Forward | ForwardReply), "by itself"
            if isinstance(frame, Bundle):
                frames.append((frm, [type(one) for one in frame.frames]))

        cluster.network.taps.append(tap)
        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(cluster.write, 2, f"key-{number}", "value")
        assert frames == [(2, [Forward] * 5), (1, [ForwardReply] * 5)]
        assert await cluster.read(3, "key-4") == "value"


async def test_a_reply_to_nobody_is_ignored(autojump_clock) -> None:
    async with running(2) as cluster:
        cluster[2].node.replica.intake.reply_received(
            1, ForwardReply(10**6, ForwardStatus.DONE, b"")
        )
        await cluster.write(2, "key", "value")


async def test_the_leader_keeps_no_request_longer_than_its_sender_waits(autojump_clock) -> None:
    async with running(3) as cluster:
        cluster.network.edit = lambda f, _t, x: x if f == 2 or not isinstance(x, Append) else None
        with pytest.raises(HstoreError):
            await cluster.write(2, "key", "value", within_s=1)
        await trio.sleep(2 * TICK_S)
        assert len(cluster[1].node.replica.waiting.in_log) == 0
        cluster.network.edit = None


# -- what became of it -------------------------------------------------------------------------


async def test_a_write_whose_entry_was_overwritten_was_certainly_not_applied(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        errors: list[Unavailable] = []

        async def write() -> None:
            errors.append(await expect(cluster, 1, NotApplied, 60))

        async with trio.open_nursery() as nursery:
            cluster.silence(1)
            nursery.start_soon(write)
            await cluster.until(lambda: any(m.is_leader for m in cluster.up if m.id != 1))
            await cluster.write(2, "other", "value")
            cluster.network.heal()
        assert errors[0].outcome == "not applied"
        assert await cluster.read(1, "expected") is None


async def test_a_write_that_no_majority_confirms_in_time_has_an_unknown_outcome(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        cluster.silence(1)
        started = trio.current_time()
        error = await expect(cluster, 1, OutcomeUnknown, 0.5)

        assert error.outcome == "unknown"
        assert trio.current_time() - started <= 0.5 + 2 * TICK_S


async def test_a_write_that_a_snapshot_leapt_over_has_an_unknown_outcome() -> None:
    told: list[object] = []
    in_log = requests.WritesInLog()
    in_log.add(Request(0, b"", 1e9, told.append), 5, 1)
    in_log.add(Request(0, b"", 1e9, told.append), 9, 1)
    in_log.snapshot_installed(7)

    assert [type(answer) for answer in told] == [OutcomeUnknown]
    assert len(in_log) == 1


async def test_a_write_displaced_in_the_log_has_an_unknown_outcome() -> None:
    told: list[object] = []
    in_log = requests.WritesInLog()
    in_log.add(Request(0, b"", 1e9, told.append), 5, 1)
    in_log.add(Request(0, b"", 1e9), 5, 3)
    assert [type(answer) for answer in told] == [OutcomeUnknown]


async def test_entries_of_another_term_or_place_answer_nobody_elses_request() -> None:
    told: list[object] = []
    in_log = requests.WritesInLog()
    in_log.add(Request(0, b"", 1e9, told.append), 5, 2)
    in_log.applied([Entry(4, 2, EntryKind.COMMAND, b"")], [None])
    assert told == []
    in_log.applied([Entry(5, 1, EntryKind.COMMAND, b"")], [None])
    assert [type(answer) for answer in told] == [NotApplied]


# -- deadlines ---------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["write", "read", "join", "remove"])
async def test_d15_without_a_leader_every_request_is_answered_within_a_tick_of_its_deadline(
    what: str, autojump_clock
) -> None:
    async with running(3) as cluster:
        cluster[1].crash()
        cluster[2].crash()
        await trio.sleep(5)
        node = cluster[3].node
        started = trio.current_time()
        deadline = started + 0.25
        with pytest.raises(NoLeader):
            if what == "write":
                await node.keys.write(Put(b"key", b"value"), deadline)
            elif what == "read":
                await node.keys.read_barrier(deadline)
            elif what == "join":
                await node.administration.join(cluster.add().request(), deadline)
            else:
                await node.administration.remove("n1", deadline)
        assert 0.25 <= trio.current_time() - started <= 0.25 + TICK_S + 0.001


async def test_d15_a_read_at_a_leader_without_a_majority_is_answered_in_time(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        cluster.silence(1)
        with pytest.raises(NoLeader):
            await cluster.read(1, "key", within_s=0.3)


async def test_a_deadline_that_is_over_is_answered_too(autojump_clock) -> None:
    async with running(3) as cluster:
        for via in (1, 2):
            with trio.fail_after(1):
                try:
                    await cluster.write(via, "key", "value", within_s=-1)
                except HstoreError:
                    continue


@pytest.mark.parametrize("what", ["write", "read"])
async def test_a_request_that_waits_for_a_link_leaves_when_it_is_made(
    what: str, autojump_clock
) -> None:
    """Not at the next tick, and not into the void."""
    async with running(3) as cluster:
        for way in cluster.network.between(1, 2):
            way.delay_s = 0.02
        for wait_ms in range(0, 100, 13):
            await trio.sleep(0.5 + wait_ms / 1000)
            cluster.network.reset(1, 2)
            await trio.sleep(0.001)
            assert not cluster[2].node.links.is_connected(1)
            started = trio.current_time()
            if what == "write":
                await cluster.write(2, "key", "value")
            else:
                await cluster.read(2, "key")
            # Two ways for the connection, two for the greeting, two for the request itself, which
            # may wait for the piece before it.
            assert trio.current_time() - started < 6 * 0.02 + 0.04


async def test_a_request_that_waits_for_a_leader_is_served_by_the_next(autojump_clock) -> None:
    async with running(3) as cluster:
        cluster[1].crash()
        await cluster.until(lambda: not cluster[2].node.links.is_connected(1))
        await cluster.write(2, "key", "value")
        assert await cluster.read(3, "key") == "value"


# -- who gives up ------------------------------------------------------------------------------


@pytest.mark.parametrize("via", [1, 2, 3])
async def test_a_client_that_gives_up_leaves_nothing_behind(via: int, autojump_clock) -> None:
    async with running(3) as cluster:
        cluster.network.edit = lambda _f, _t, x: None if isinstance(x, HeartbeatResponse) else x
        cluster[2].disk.flush_gate = cluster[3].disk.flush_gate = gate = trio.Event()
        with trio.move_on_after(0.05):
            async with trio.open_nursery() as nursery:
                for number in range(20):
                    nursery.start_soon(cluster.write, via, f"k{number}", "v", 600)
                    nursery.start_soon(cluster.read, via, "key", 600)
        await trio.sleep(2 * TICK_S + 0.01)
        # Nothing of it can have been answered yet: it was forgotten.
        waiting = cluster[via].node.replica.waiting
        assert (len(waiting.in_log), len(waiting.forwarded), len(waiting.queued)) == (0, 0, 0)
        cluster.network.edit = None
        gate.set()
        await trio.sleep(0.45)
        # One is the node's own, which asks how fresh its copy is.
        assert all(waiting_at(member) <= 2 for member in cluster.up)
        await cluster.write(via, "key", "value")


async def test_a_client_that_gives_up_without_a_leader_leaves_nothing_behind(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        cluster[1].crash()
        cluster[2].crash()
        await trio.sleep(5)
        with trio.move_on_after(0.05):
            async with trio.open_nursery() as nursery:
                for number in range(20):
                    nursery.start_soon(cluster.write, 3, f"k{number}", "v", 600)
                    nursery.start_soon(cluster.read, 3, "key", 600)
        await trio.sleep(2 * TICK_S)
        assert waiting_at(cluster[3]) <= 2


async def test_a_request_that_was_given_up_in_the_queue_is_not_proposed(autojump_clock) -> None:
    async with running(1) as cluster:
        replica = cluster[1].node.replica
        last = replica.core.log.last_index
        request = Request(0, b"", trio.current_time() + 5)
        replica.submit(request)
        request.is_done = True
        await trio.sleep(1)
        assert replica.core.log.last_index == last


# -- bounds ------------------------------------------------------------------------------------


async def test_more_writes_than_may_wait_are_refused(
    monkeypatch: pytest.MonkeyPatch, autojump_clock
) -> None:
    async with running(3) as cluster:
        monkeypatch.setattr(requests, "MAX_WAITING", 20)
        cluster[1].disk.flush_gate = gate = trio.Event()
        refused = 0

        async def write(number: int) -> None:
            nonlocal refused
            try:
                await cluster.write(1 + number % 2, f"k{number}", "v", 60)
            except Overloaded:
                refused += 1

        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(write, number)
                await trio.sleep(0.001)
            assert waiting_at(cluster[1]) <= 22
            assert waiting_at(cluster[2]) <= 22
            gate.set()
        assert 50 <= refused <= 80


async def test_more_reads_than_may_wait_are_refused_in_whatever_state_those_are(
    monkeypatch: pytest.MonkeyPatch, autojump_clock
) -> None:
    """Reads that have asked for their index wait as well; they once did not count."""
    async with running(3) as cluster:
        monkeypatch.setattr(requests, "MAX_WAITING", 20)
        cluster.silence(1)
        ends: list[str] = []

        async def read() -> None:
            try:
                await cluster.read(1, "key", 0.6)
            except HstoreError as error:
                ends.append(type(error).__name__)

        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(read)
                await trio.sleep(0.001)
        assert ends.count("Overloaded") >= 80
        assert ends.count("NoLeader") >= 15
        assert cluster[1].node.replica.waiting.reads <= 1


async def test_uncommitted_bytes_are_bounded_at_the_leader(autojump_clock) -> None:
    async with running(3) as cluster:
        cluster.silence(1)
        leader = cluster[1].node.replica
        leader.core.uncommitted_bytes = leader.core.options.max_uncommitted_bytes + 1
        error = await expect(cluster, 1, Overloaded, 0.5)
        assert error.outcome == "not applied"


async def test_joins_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch, autojump_clock) -> None:
    async with running(2) as cluster:
        monkeypatch.setattr(membership, "_MAX_REQUESTS", 3)
        cluster[2].disk.flush_gate = trio.Event()
        newcomers = [cluster.add() for _ in range(6)]
        errors: list[type[HstoreError]] = []

        async def join(member: Member) -> None:
            try:
                await cluster[1].node.administration.join(member.request(), trio.current_time() + 1)
            except HstoreError as error:
                errors.append(type(error))

        async with trio.open_nursery() as nursery:
            for member in newcomers:
                nursery.start_soon(join, member)
        assert errors.count(Overloaded) == 3
        assert len(errors) == 6
        await trio.sleep(1)
        assert cluster[1].node.membership._requests == 0


async def test_one_turn_proposes_no_more_than_its_bound(autojump_clock) -> None:
    """RocksDB holds the interpreter while it writes; what is left goes into the next turn."""
    async with running(1) as cluster:
        cluster[1].storage.records.clear()
        async with trio.open_nursery() as nursery:
            for number in range(30):
                nursery.start_soon(cluster.write, 1, f"k{number}", "v" * 100_000)
        writes = [r.index for r in cluster[1].storage.records if r.what == "write"]
        assert len(writes) >= 3


async def test_turns_in_a_row_write_and_apply_no_more_than_their_bound(
    autojump_clock, monkeypatch
) -> None:
    """DNS and all clients wait meanwhile: each turn is of 1 to 2 MiB here."""
    async with running(1) as cluster:
        replica, most = cluster[1].node.replica, 0
        log, take_turns = replica.core.log, replica.take_turns

        def measured() -> None:
            nonlocal most
            written, applied = log.last_index, log.applied
            for _ in range(3):  # The poller may ask for turns, too, and a tick.
                take_turns()
            size = log.size_between(written, log.last_index)
            most = max(most, size + log.size_between(applied, log.applied))

        monkeypatch.setattr(replica, "take_turns", measured)
        async with trio.open_nursery() as nursery:
            for number in range(30):
                nursery.start_soon(cluster.write, 1, f"k{number}", "v" * 700_000)
        assert 1024 * 1024 < most < 4 * 1024 * 1024


async def test_d16_a_copy_is_as_fresh_as_when_its_reads_were_asked_not_answered() -> None:
    told: list[object] = []
    reads = requests.ReadsForIndex()
    reads.add(5, 1.0, [Request(-1, b"", 9.0, told.append)])
    reads.add(7, 3.0, [Request(-1, b"", 9.0, told.append)])
    reads.applied(4)
    assert (told, reads.fresh_at) == ([], None)
    reads.applied(6)
    assert (told, reads.fresh_at) == ([None], 1.0)
    reads.add(2, 0.5, [])
    reads.applied(7)
    assert (told, reads.fresh_at) == ([None, None], 3.0)


async def test_every_bound_is_given_back() -> None:
    waiting = Waiting()
    request = Request(ForwardKind.WRITE, b"", 1.0)
    waiting.submit(request)
    waiting.expire(2.0, has_leader=True)
    assert not waiting.queued
    assert request.is_done


async def test_a_removal_of_nobody_is_answered_at_every_node(autojump_clock) -> None:
    async with running(3) as cluster:
        for member in cluster.up:
            with pytest.raises(Refused):
                await member.node.administration.remove("nobody", trio.current_time() + 5)
