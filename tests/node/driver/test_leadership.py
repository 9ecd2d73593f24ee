"""What follows from a change of who leads: first the flush that others wait for, then all else."""

from __future__ import annotations

import trio
from structlog.testing import capture_logs

from hstore.node.driver.leadership import Leadership, _tell
from hstore.node.driver.requests import NotLeading, Request, Waiting
from hstore.node.errors import HstoreError
from hstore.node.model.commands import Put
from hstore.node.peers.wire import ForwardKind
from hstore.node.raft.errors import Reason
from hstore.node.raft.events import Receive, TransferLeader
from hstore.node.raft.messages import Heartbeat, HeartbeatResponse
from hstore.node.raft.roles import Role
from tests.node.memory_cluster import Cluster, Member, running


def told(member: Member) -> list[float]:
    """Return the list of all times at which this member tells of changes from now on."""
    times: list[float] = []
    notifier = member.node.replica.leadership
    on_change = notifier.on_change

    def note() -> None:
        times.append(trio.current_time())
        on_change()

    notifier.on_change = note
    return times


def lose_the_lead(member: Member) -> None:
    """Let it hear of a later term, and not who leads in it."""
    later = HeartbeatResponse(member.id % 3 + 1, member.id, member.core.term + 1, 0)
    member.node.replica.feed(Receive(later))


def follow_another(member: Member) -> None:
    """Let it hear from the leader of a later term."""
    later = Heartbeat(member.id % 3 + 1, member.id, member.core.term + 1, 0, 1)
    member.node.replica.feed(Receive(later))


async def test_a_change_is_told_after_the_flush_that_began_with_it(autojump_clock) -> None:
    async with running(3) as cluster:
        await trio.sleep(1.01)
        leader = cluster.leader
        times, gate = told(leader), trio.Event()
        leader.disk.flush_gate = gate
        follow_another(leader)
        began_at = trio.current_time()
        await cluster.until(lambda: leader.core.role is not Role.LEADER)
        await trio.sleep(0.03)
        assert times == []  # The new term is being made durable.
        gate.set()
        await cluster.until(lambda: times)
        assert times[0] - began_at < 0.05


async def test_a_change_is_told_within_a_tick_however_long_a_flush_takes(autojump_clock) -> None:
    async with running(3) as cluster:
        await trio.sleep(1.01)
        leader = cluster.leader
        times = told(leader)
        leader.disk.flush_gate = trio.Event()
        follow_another(leader)
        began_at = trio.current_time()
        await cluster.until(lambda: times)
        assert times[0] - began_at <= 0.1
        leader.disk.flush_gate.set()


async def test_a_change_without_a_flush_is_told_at_once(autojump_clock) -> None:
    async with running(3) as cluster:
        await trio.sleep(1.01)
        follower, leader = cluster[2], cluster.leader
        assert follower is not leader
        lose_the_lead(follower)
        await cluster.until(lambda: follower.core.leader == 0 and not follower.disk.unflushed)
        times = told(follower)
        # In the term that it has made durable by now: there is nothing to be written.
        news = Heartbeat(3, follower.id, follower.core.term, 0, 1)
        follower.node.replica.feed(Receive(news))
        began_at = trio.current_time()
        await cluster.until(lambda: times)
        assert times[0] - began_at <= 0.005


async def test_who_stands_or_votes_tells_nothing_before_the_tick(autojump_clock) -> None:
    """What follows from a change would take its time from the election, and be over with it."""
    async with running(3) as cluster:
        await trio.sleep(1.01)
        times = told(cluster[2])
        cluster.silence(2)
        await cluster.until(lambda: cluster[2].core.role is Role.PRE_CANDIDATE)
        assert cluster[2].core.leader == 0
        began_at = trio.current_time()
        await cluster.until(lambda: times)
        assert 0.05 <= times[0] - began_at <= 0.1


async def passed_on(cluster: Cluster) -> None:
    with trio.move_on_after(3):
        try:
            await cluster[2].node.keys.write(Put(b"k", b"v"), trio.current_time() + 2)
        except HstoreError:
            return


async def test_who_leads_no_more_gives_back_at_once_what_it_was_passed(autojump_clock) -> None:
    """It kept it until it knew the next leader, and may be the last to hear who that is."""
    async with running(3) as cluster, trio.open_nursery() as nursery:
        await trio.sleep(1.01)
        leader, waiting = cluster[1], cluster[2].node.replica.waiting
        cluster.silence(3, of=(1,))
        leader.node.replica.waiting.proposed[1] = Request(ForwardKind.WRITE, b"", 1e9)
        leader.node.replica.feed(TransferLeader(1, 3))
        await trio.sleep(0.01)
        assert leader.core.transfer is not None
        nursery.start_soon(passed_on, cluster)
        await cluster.until(lambda: leader.node.replica.waiting.queued)
        assert len(waiting.forwarded) == 1

        lose_the_lead(leader)
        await trio.sleep(0.005)
        assert leader.core.leader == 0
        assert not waiting.forwarded
        assert [request.data for request in waiting.queued]
        nursery.cancel_scope.cancel()


def test_a_refused_proposal_of_another_node_goes_back_to_it() -> None:
    waiting = Waiting()
    answers: list[object] = []
    ours = Request(ForwardKind.WRITE, b"data", 1e9)
    theirs = Request(ForwardKind.WRITE, b"data", 1e9, answers.append, is_foreign=True)
    waiting.proposed.update({1: ours, 2: theirs})
    for rid in (1, 2):
        waiting.reject(rid, Reason.NOT_LEADER, "")
    assert list(waiting.queued) == [ours]
    assert [type(answer) for answer in answers] == [NotLeading]


async def test_an_election_won_and_the_loss_of_the_lead_are_lines_of_the_log(
    autojump_clock,
) -> None:
    with capture_logs() as lines:
        async with running(3) as cluster:
            await trio.sleep(2)
            leader = cluster.leader
            follow_another(leader)
            await trio.sleep(5)
            term = cluster.leader.core.term
    told = [line for line in lines if line["log_level"] == "info" and "term" in line]
    said = [(line["event"], line["term"]) for line in told if line["event"] != "a member leads"]
    assert said[:2] == [("stands for election", 2), ("won an election", 2)]
    (lost,) = [line for line in told if line["event"] == "this node leads no more"]
    assert (lost["term"], lost["member"]) == (3, leader.id % 3 + 1)
    assert said[-1] == ("won an election", term)


async def test_a_lost_election_is_a_line_that_says_who_won_it() -> None:
    candidate = Leadership(Role.CANDIDATE, 4, 0)
    with capture_logs() as lines:
        _tell(candidate, Leadership(Role.FOLLOWER, 4, 3))
        _tell(candidate, Leadership(Role.PRE_CANDIDATE, 4, 0))
    assert [(line["event"], line["term"], line.get("member")) for line in lines] == [
        ("lost an election", 4, 3), ("lost an election", 4, None),
    ]  # fmt: skip
