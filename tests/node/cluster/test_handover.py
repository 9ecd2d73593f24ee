"""Stop, leave and transfer: what a node hands over, and that the others go on meanwhile."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

import msgspec
import pytest
import trio

from hstore.node.errors import Refused, Unavailable
from hstore.node.model import commands
from hstore.node.model.commands import PutMember
from hstore.node.peers import wire
from hstore.node.peers.wire import ForwardKind
from hstore.node.raft.core import Core
from hstore.node.raft.events import Event
from hstore.node.raft.messages import TimeoutNow
from hstore.node.raft.update import Update
from tests.node.memory_cluster import Cluster, Member, running


async def stop(member: Member) -> str:
    """Stop a node as `hstore stop` does; return why it is still a voter, if it is."""
    why = await member.node.process.stop()
    await member.ended.wait()
    await member.storage.close()
    return why


class Load:
    """Writes at some nodes, one after the other, until it is ended."""

    def __init__(self, cluster: Cluster, *via: int) -> None:
        self._cluster = cluster
        self._via = via
        self._scopes: list[trio.CancelScope] = []
        self.done = 0

    async def __aenter__(self) -> Self:
        for via in self._via:
            self._cluster.nursery.start_soon(self._run, via)
        return self

    async def __aexit__(self, *_: object) -> None:
        for scope in self._scopes:
            scope.cancel()

    async def _run(self, via: int) -> None:
        with trio.CancelScope() as scope:
            self._scopes.append(scope)
            for number in range(10_000):
                await self._cluster.write(via, f"{via}-{number}", "value")
                self.done += 1
                await trio.sleep(0.005)


def voters(cluster: Cluster) -> set[int]:
    return set(cluster.leader.core.config.voters)


@pytest.mark.parametrize("who", [3, 1], ids=["follower", "leader"])
async def test_who_stops_leaves_the_quorum_and_is_a_voter_again_when_it_runs(
    who: int, autojump_clock
) -> None:
    async with running(3) as cluster:
        assert await stop(cluster[who]) == ""
        await cluster.until(cluster.agrees)

        assert voters(cluster) == {1, 2, 3} - {who}
        seen = cluster.leader.sees(who)
        assert seen is not None
        assert (seen.type, seen.voter) == ("learner", False)
        await cluster.until(lambda: cluster.leader.health_of(who) == "stopped")
        seen = cluster.leader.sees(who)
        assert seen is not None
        assert seen.reason == "stopped on purpose, and votes again once it runs"
        await trio.sleep(10)
        assert voters(cluster) == {1, 2, 3} - {who}, "it is not promoted while it does not run"

        await cluster[who].start()
        await cluster.until(lambda: voters(cluster) == {1, 2, 3})
        await cluster.until(lambda: cluster.leader.health_of(who) == "alive")


async def test_two_of_three_can_stop_and_the_last_one_goes_on(autojump_clock) -> None:
    async with running(3) as cluster:
        await stop(cluster[1])
        await cluster.until(cluster.agrees)
        await stop(cluster.leader)
        await cluster.until(cluster.agrees)

        await cluster.write(cluster.leader.id, "key", "value")
        assert len(cluster.up) == 1
        assert voters(cluster) == {cluster.leader.id}


async def test_the_only_voter_just_stops(autojump_clock) -> None:
    async with running(1) as cluster:
        assert await stop(cluster[1]) == ""
        await cluster[1].start()
        await cluster.until(cluster.agrees)


async def test_two_of_two_that_stop_at_once_leave_a_cluster_that_can_start(autojump_clock) -> None:
    async with running(2) as cluster:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop, cluster[1])
            nursery.start_soon(stop, cluster[2])
        for member in cluster.members.values():
            await member.start()

        await cluster.until(cluster.agrees)
        await cluster.until(lambda: voters(cluster) == {1, 2})


async def test_without_a_majority_it_stops_as_the_voter_it_is_and_says_so(autojump_clock) -> None:
    async with running(3) as cluster:
        cluster[2].crash()
        cluster[3].crash()

        begun = trio.current_time()
        why = await cluster[1].node.process.stop()

        assert why
        assert trio.current_time() - begun < 2.5
        assert (
            cluster[1].node.process.stop_began_at == begun
        )  # 5 s in all, so this was a part of them
        assert cluster[1].core.config.is_voter(1)


async def test_who_the_others_cannot_do_without_stops_as_the_voter_it_is(autojump_clock) -> None:
    """Without its vote two would be left, of whom one is dead: that could never be committed."""
    async with running(3) as cluster:
        cluster[3].crash()
        await cluster.until(lambda: cluster[1].health_of(3) == "failed")

        why = await stop(cluster[2])

        assert "only 1 of 2 voters would be live" in why
        assert cluster[1].core.config.voters == (1, 2, 3)


async def test_the_mark_survives_the_leader_that_made_it(autojump_clock) -> None:
    async with running(4) as cluster:
        await stop(cluster[4])
        cluster[1].crash()
        await cluster.until(cluster.agrees)
        await cluster.until(lambda: cluster.leader.health_of(4) == "stopped")

        await trio.sleep(5)

        assert voters(cluster) == {1, 2, 3}


async def test_the_mark_is_known_to_leaders_that_never_heard_the_goodbye(autojump_clock) -> None:
    async with running(3) as cluster:
        await stop(cluster[3])
        for node in (1, 2):
            cluster[node].crash()
            await cluster[node].ended.wait()
        for node in (1, 2):
            await cluster[node].start()
        await cluster.until(cluster.agrees)

        await cluster.until(lambda: cluster.leader.health_of(3) == "stopped")


async def test_who_is_to_stop_is_not_counted_on_by_the_next_who_stops(
    autojump_clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wish holds from its apply, the configuration a moment later."""
    async with running(2) as cluster:
        reconciler = cluster[1].node.membership._reconciler
        monkeypatch.setattr(reconciler, "_step", trio.lowlevel.checkpoint)
        marked = msgspec.structs.replace(cluster[1].node.replica.state.members[2], stopped=True)
        command = commands.encode(PutMember(marked))
        await cluster[1].node.replica.request(ForwardKind.WRITE, command, trio.current_time() + 5)

        assert reconciler.rest(cluster[1].node.replica.state.members[1]) == []


async def fail_to_transfer(cluster: Cluster) -> None:
    with pytest.raises(Unavailable):
        await cluster[1].node.administration.transfer("n3", trio.current_time() + 3)


async def test_writes_wait_for_the_end_of_a_transfer_without_being_tried_again_and_again(
    autojump_clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(3) as cluster:
        core: Core = cluster[1].core
        steps, step_all = 0, core.step_all

        def count(events: Iterable[Event]) -> Update:
            nonlocal steps
            steps += 1
            assert steps < 2000, "a loop without a pause"
            return step_all(events)

        cluster.silence(3)
        monkeypatch.setattr(core, "step_all", count)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail_to_transfer, cluster)
            await cluster.until(lambda: core.transfer)
            await cluster.write(1, "key", "value")

        assert core.transfer is None
        assert steps < 200


async def test_several_wishes_become_one_change_through_a_joint_configuration(
    autojump_clock,
) -> None:
    async with running(5) as cluster:
        leader = cluster.leader
        seen = set()
        changed = leader.node.replica.leadership.on_change

        def watch() -> None:
            seen.add(leader.core.config)
            changed()

        leader.node.replica.leadership.on_change = watch
        async with trio.open_nursery() as nursery:
            for node in (4, 5):
                member = msgspec.structs.replace(
                    leader.node.replica.state.members[node], stopped=True
                )
                nursery.start_soon(
                    leader.node.replica.request,
                    ForwardKind.WRITE,
                    commands.encode(PutMember(member)),
                    trio.current_time() + 5,
                )
        await cluster.until(lambda: voters(cluster) == {1, 2, 3})

        assert any(config.outgoing for config in seen)
        assert leader.core.config.learners == (4, 5)


@pytest.mark.parametrize("end", ["signal", "stop", "leave"])
async def test_a_leader_that_goes_costs_nobody_a_write(end: str, autojump_clock) -> None:
    async with running(3) as cluster, Load(cluster, 2, 3) as load:
        await trio.sleep(1)
        term = cluster[1].core.term
        asked: list[wire.Frame] = []
        cluster.network.taps.append(
            lambda _frm, _to, frame: asked.append(frame) if isinstance(frame, TimeoutNow) else None
        )
        if end == "signal":
            await cluster[1].stop()
        elif end == "stop":
            assert await stop(cluster[1]) == ""
        else:
            await cluster[1].node.administration.leave(trio.current_time() + 5)
            await cluster[1].ended.wait()
        before = load.done
        await trio.sleep(0.2)

        assert load.done > before + 10, "nobody had to wait for an election timeout"
        assert asked, "another node was asked to lead"
        assert cluster.leader.core.term == term + 1
        assert cluster.leader.id != 1


async def test_a_signal_leaves_the_node_its_vote(autojump_clock) -> None:
    async with running(3) as cluster:
        await cluster[1].stop()
        await cluster.until(cluster.agrees)

        assert voters(cluster) == {1, 2, 3}
        await cluster.until(lambda: cluster.leader.health_of(1) == "stopped")
        seen = cluster.leader.sees(1)
        assert seen is not None
        assert seen.reason == "stopped on purpose, and still a voter"


async def test_a_learner_for_good_that_stops_had_no_vote_to_come_back_to(autojump_clock) -> None:
    async with running(3) as cluster:
        learner = await cluster.join(learner=True)
        await stop(learner)
        await cluster.until(lambda: cluster.leader.health_of(learner.id) == "stopped")
        seen = cluster.leader.sees(learner.id)
        assert seen is not None
        assert seen.reason == "stopped on purpose"


@pytest.mark.parametrize("via", [1, 2, 3])
async def test_leadership_is_handed_over_by_any_node_and_costs_nobody_a_write(
    via: int, autojump_clock
) -> None:
    async with running(3) as cluster, Load(cluster, 1, 2, 3):
        for to in ("n3", "n2", "n2", "n1"):
            leader = await cluster[via].node.administration.transfer(to, trio.current_time() + 5)
            assert leader == to
            await cluster.until(cluster.agrees)
            assert f"n{cluster.leader.id}" == to


async def test_without_a_name_somebody_else_leads(autojump_clock) -> None:
    async with running(3) as cluster:
        assert await cluster[2].node.administration.transfer("", trio.current_time() + 5) in (
            "n2",
            "n3",
        )


async def test_a_transfer_that_cannot_be_says_why(autojump_clock) -> None:
    async with running(3) as cluster:
        await cluster.join(learner=True)
        cluster[3].crash()
        await cluster.until(lambda: cluster[1].health_of(3) == "failed")

        for to, text in (("n9", "no member"), ("n4", "learner"), ("n3", "not live")):
            with pytest.raises(Refused, match=text):
                await cluster[2].node.administration.transfer(to, trio.current_time() + 5)


async def test_a_transfer_to_who_does_not_answer_is_given_up_and_the_leader_leads_on(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        await trio.sleep(1)
        cluster.silence(3)
        with pytest.raises(Unavailable):
            await cluster[1].node.administration.transfer("n3", trio.current_time() + 3)

        assert cluster[1].is_leader
        await cluster.write(2, "key", "value")


async def test_a_leader_that_stops_chooses_nobody_who_stops_as_well(autojump_clock) -> None:
    async with running(3) as cluster:
        cluster[2].node.status.say_goodbye()
        await trio.sleep(0.1)

        assert await cluster[1].node.administration.transfer("", trio.current_time() + 5) == "n3"
