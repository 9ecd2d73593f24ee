"""Why there is no leader: each member's health as one node sees it alone, and what it says."""

from __future__ import annotations

import pytest
import trio

from hstore.node.errors import NoLeader
from hstore.node.raft.messages import Append
from tests.node.memory_cluster import Cluster, running

LOST = "lost acknowledged log: entries"


async def restart_alone(cluster: Cluster, node: int) -> None:
    """Crash everybody, and start one node again."""
    for member in cluster.members.values():
        member.crash()
    await cluster[node].ended.wait()
    await cluster[node].start()


async def lose(cluster: Cluster, node: int, batches: int = 4) -> None:
    """Let a node crash, and its disk forget what it had flushed last."""
    cluster[node].disk.remember_from_now(20)
    for number in range(6):
        await cluster.write(node, f"k{number}", "value")
    cluster[node].crash()
    await cluster[node].ended.wait()
    cluster[node].disk.lose_flushed(batches)


def why(cluster: Cluster, node: int) -> str:
    return cluster[node].node.process.unhealthy() or ""


def seen(cluster: Cluster, node: int) -> dict[int, tuple[str, str | None]]:
    nodes = cluster[node].node.administration.cluster().nodes
    return {int(one.id, 16): (one.health, one.reason) for one in nodes}


async def test_a_node_restarted_without_a_quorum_is_alive_and_names_the_missing_voters(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        await restart_alone(cluster, 2)
        gone = ("failed", "refuses connections: no node runs there")
        await cluster.until(lambda: seen(cluster, 2) == {1: gone, 2: ("alive", None), 3: gone})
        text = why(cluster, 2)
        assert "electing one takes 2 of 3 voters" in text
        assert "n1 at 10.0.0.1:8500 (refuses connections" in text
        assert "n3 at 10.0.0.3:8500 (refuses connections" in text
        assert "`hstore recover --data-dir DIR` shows how to go on without them" in text
        with pytest.raises(NoLeader) as raised:
            await cluster.write(2, "key", "value", within_s=1)
        assert str(raised.value) == text
        await trio.sleep(20)
        assert why(cluster, 2) == text  # no number in it changes

        await cluster[1].ended.wait()
        await cluster[1].start()
        await cluster.until(cluster.agrees)
        await cluster.until(lambda: seen(cluster, 2)[1] == ("alive", None))
        assert why(cluster, 2) == ""


async def test_without_a_leader_a_silent_member_is_suspect_and_then_failed(autojump_clock) -> None:
    async with running(3) as cluster:
        for member in cluster.members.values():
            member.crash()
        await cluster[2].ended.wait()
        cluster.silence(2)
        await cluster[2].start()
        await cluster.until(lambda: seen(cluster, 2)[1] == ("suspect", "does not answer"))
        took = await cluster.until(lambda: seen(cluster, 2)[1] == ("failed", "does not answer"))
        assert 2.0 < took < 3.1
        assert "n1 at 10.0.0.1:8500 (does not answer)" in why(cluster, 2)


async def test_without_a_leader_members_that_hang_are_named_although_their_connections_live(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        cluster.network.edit = lambda frm, _to, frame: None if frm in (1, 2) else frame
        await cluster.until(lambda: "n2 at 10.0.0.2:8500 (does not answer)" in why(cluster, 3))
        text = why(cluster, 3)
        assert "electing one takes 2 of 3 voters" in text
        assert "n1 at 10.0.0.1:8500 (does not answer)" in text
        await trio.sleep(20)
        assert why(cluster, 3) == text
        cluster.network.edit = None
        await cluster.until(cluster.agrees)
        assert why(cluster, 3) == ""


async def test_without_a_leader_members_that_run_are_never_taken_for_hanging(
    autojump_clock,
) -> None:
    async with running(5) as cluster:
        for gone in (1, 2, 3):
            cluster[gone].crash()
        await cluster.until(lambda: "these are missing" in why(cluster, 4))
        for _ in range(120):
            await trio.sleep(0.5)
            assert "n5" not in why(cluster, 4)
            assert "n4" not in why(cluster, 5)


async def test_without_a_leader_a_stopped_member_is_stopped_and_a_newcomer_joining(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        newcomer = cluster.add()
        cluster.network.edit = lambda _frm, to, frame: (
            None if to == newcomer.id and isinstance(frame, Append) else frame
        )
        await cluster.let_in(newcomer, 1)
        assert newcomer.node.administration.cluster().nodes == []
        await cluster[3].node.process.stop()
        await cluster[3].ended.wait()
        await cluster[3].storage.close()
        await restart_alone(cluster, 1)
        # 3 gave its vote up before it ended.
        why_stopped = "stopped on purpose, and votes again once it runs"
        await cluster.until(lambda: seen(cluster, 1)[3] == ("stopped", why_stopped))
        cluster.network.edit = None
        cluster[3].disk.crash()
        await cluster[3].start()
        await cluster.until(lambda: seen(cluster, 1)[3] == ("alive", None))
        assert seen(cluster, 3)[3] == ("alive", None)


async def test_all_nodes_show_a_member_that_lost_log_as_recovering_until_it_has_it_again(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        await lose(cluster, 3)
        cluster.network.edit = lambda _frm, to, frame: (
            None if to == 3 and isinstance(frame, Append) else frame
        )
        await cluster[3].start()
        await cluster.until(
            lambda: all(seen(cluster, node)[3][0] == "recovering" for node in (1, 2, 3))
        )
        reasons = {seen(cluster, node)[3][1] for node in (1, 2, 3)}
        assert len(reasons) == 1
        (reason,) = reasons
        assert reason is not None
        assert reason.startswith(LOST)
        last = cluster[3].core._recover_to
        assert f"votes again when a leader has sent it the log up to entry {last}" in reason
        view = cluster.leader.node.status.view()
        assert view is not None
        assert [m.live for m in view.members if m.name == "n3"] == [False]
        before = cluster.leader.node.status.structure
        await trio.sleep(10)
        assert cluster.leader.node.status.structure == before  # it changes, and wakes, nobody

        cluster.network.edit = None
        await cluster.until(
            lambda: all(seen(cluster, node)[3] == ("alive", None) for node in (1, 2, 3))
        )


async def test_of_two_voters_one_lost_log_and_both_know_that_there_can_be_no_leader(
    autojump_clock,
) -> None:
    async with running(2) as cluster:
        await lose(cluster, 2)
        cluster[1].crash()
        await cluster[1].ended.wait()
        await cluster[1].start()
        await cluster[2].start()
        await cluster.until(lambda: "there can be no leader: n2 lost log" in why(cluster, 1))
        await cluster.until(lambda: "there can be no leader: this node lost" in why(cluster, 2))
        for node in (1, 2):
            assert "`hstore recover --data-dir DIR`" in why(cluster, node)
            assert "tart them" not in why(cluster, node)
            assert seen(cluster, node)[1] == ("alive", None)
            assert seen(cluster, node)[2][0] == "recovering"


async def test_the_only_voter_says_that_it_is_and_what_ends_it(autojump_clock) -> None:
    async with running(1) as cluster:
        await lose(cluster, 1)
        await cluster[1].start()
        await cluster.until(lambda: "this node is the only voter" in why(cluster, 1))
        health, reason = seen(cluster, 1)[1]
        assert health == "recovering"
        assert (reason or "").startswith(LOST)
        assert "`hstore recover --data-dir DIR`" in why(cluster, 1)
        assert "tart" not in why(cluster, 1)


async def test_a_majority_that_is_there_but_for_one_that_lost_log_is_waited_for(
    autojump_clock,
) -> None:
    """Of three, one lost log and one is down: the one that is down is what is missing."""
    async with running(3) as cluster:
        await lose(cluster, 3)
        cluster[1].crash()
        cluster[2].crash()
        await cluster[2].ended.wait()
        await cluster[2].start()
        await cluster[3].start()
        await cluster.until(lambda: "n3 lost acknowledged log" in why(cluster, 2))
        assert "n1 at 10.0.0.1:8500 (refuses connections" in why(cluster, 2)
        assert "Start them" in why(cluster, 2)
        await cluster[1].ended.wait()
        await cluster[1].start()
        await cluster.until(cluster.agrees)
        await cluster.until(lambda: not cluster[3].core.is_recovering)


async def test_a_member_at_whose_address_another_cluster_answers_has_that_as_its_reason(
    autojump_clock,
) -> None:
    async with running(2) as cluster:
        for member in cluster.members.values():
            member.crash()
        await cluster[1].ended.wait()
        await cluster[2].ended.wait()
        cluster[2].disk.identity = type(cluster[2].disk.identity)("ee" * 8, 2)
        cluster[2].disk.live.cluster_id = cluster[2].disk.durable.cluster_id = "ee" * 8
        await cluster[2].start()
        await cluster[1].start()
        stranger = ("failed", "another cluster's node answers at its address")
        await cluster.until(lambda: seen(cluster, 1)[2] == stranger)
        assert "`hstore join` it with an empty directory" in why(cluster, 1)
        assert "n2 at 10.0.0.2:8500 (another cluster's node answers" in why(cluster, 1)
