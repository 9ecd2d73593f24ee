"""What has happened to the cluster: each event once, and with its line in the log."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
import structlog
import trio
from structlog.testing import capture_logs

from hstore.node.cluster import timeline
from hstore.node.cluster.timeline import EVENTS_MAX, LINES, Happened
from hstore.node.storage.interface import Room
from tests.node.memory_cluster import Cluster, Member, running


@pytest.fixture
def logged() -> Iterator[list[structlog.typing.EventDict]]:
    with capture_logs() as lines:
        yield lines


def events(member: Member) -> list[tuple[str, str]]:
    return [(event.kind, event.member) for event in member.node.administration.timeline(0)]


def texts(member: Member, kind: str) -> list[str]:
    return [one.text for one in member.node.administration.timeline(0) if one.kind == kind]


async def settled(cluster: Cluster) -> None:
    """Let every node have seen what there is."""
    await cluster.until(cluster.agrees)
    await trio.sleep(1)


async def test_the_first_events_of_a_cluster(autojump_clock, logged) -> None:
    async with running(3) as cluster:
        await settled(cluster)
        assert events(cluster[1]) == [
            ("leader", "n1"), ("joined", "n1"), ("joined", "n2"), ("joined", "n3"),
        ]  # fmt: skip
        # Who was there before has not joined just now.
        assert sorted(events(cluster[3])) == [("joined", "n3"), ("leader", "n1")]
        assert texts(cluster[1], "joined")[0] == "n1 (this node) founded the cluster"
        assert texts(cluster[3], "joined") == ["n3 (this node) joined"]
        joined = [line for line in logged if line["event"] == "a member joined"]
        assert {(line["member"], line["id"], line["log_level"]) for line in joined} == {
            (f"n{number}", f"{number:016x}", "info") for number in (1, 2, 3)
        }
        assert len(joined) == 3 + 2 + 1


async def test_a_member_that_fails_and_one_that_is_back_is_an_event_each_at_every_node(
    autojump_clock, logged
) -> None:
    async with running(3) as cluster:
        await settled(cluster)
        del logged[:]
        cluster[3].crash()
        await trio.sleep(4)
        for member in (cluster[1], cluster[2]):
            assert events(member)[-1] == ("failed", "n3")
        (one, other) = [line for line in logged if line["event"] == "a member failed"]
        assert (one["log_level"], one["member"], one["id"]) == ("warning", "n3", f"{3:016x}")
        assert one["text"] == other["text"]
        await cluster[3].start()
        await trio.sleep(4)
        for member in (cluster[1], cluster[2]):
            assert events(member)[-2:] == [("failed", "n3"), ("back", "n3")]
        # Of itself a node knows that it was started; that its leader had not heard yet is no event.
        assert events(cluster[3]) == [("back", "n3"), ("leader", "n1")]
        assert texts(cluster[3], "back") == ["n3 (this node) was started"]


async def test_a_change_of_leader_is_one_event_and_says_how_long_there_was_none(
    autojump_clock, logged
) -> None:
    async with running(3) as cluster:
        await settled(cluster)
        del logged[:]
        cluster.leader.crash()
        await trio.sleep(6)
        leader = cluster.leader.node.process.name
        for member in cluster.up:
            kinds = [kind for kind, _ in events(member)]
            assert kinds.count("leader") == 2
            assert kinds.count("no leader") == 1
            assert events(member)[-3:] in (
                [("no leader", "n1"), ("leader", leader), ("failed", "n1")],
                [("no leader", "n1"), ("failed", "n1"), ("leader", leader)],
            )
            assert f"{leader} leads, in term" in texts(member, "leader")[-1]
            assert texts(member, "leader")[-1].endswith("s")
        leads = [line for line in logged if line["event"] == "a member leads"]
        assert [(line["member"], line["log_level"]) for line in leads] == [(leader, "info")] * 2
        lost = [line for line in logged if line["event"] == "lost the leader"]
        assert [(line["member"], line["log_level"]) for line in lost] == [("n1", "warning")] * 2


async def test_a_lost_quorum_is_an_error_that_says_who_is_missing(autojump_clock, logged) -> None:
    async with running(3) as cluster:
        await settled(cluster)
        del logged[:]
        cluster[2].crash()
        cluster[3].crash()
        await trio.sleep(6)
        assert texts(cluster[1], "no leader")[0] == (
            "this node led, and hears no majority of the voters any more"
        )
        (line,) = [line for line in logged if line["event"] == "no leader"]
        assert line["log_level"] == "error"
        assert "these are missing: n2" in line["why"]
        assert line["why"] == texts(cluster[1], "no leader")[1]


async def test_nodes_that_were_halted_do_not_say_that_the_others_were_missing_meanwhile(
    autojump_clock, logged
) -> None:
    """As after SIGSTOP and SIGCONT, or a machine that slept: they have not looked for so long."""
    async with running(3) as cluster:
        await settled(cluster)
        del logged[:]
        autojump_clock.jump(8)
        await trio.sleep(2)
        assert cluster.agrees()
        assert [line for line in logged if line["event"] == "no leader"] == []


async def test_a_member_that_was_silent_before_an_election_is_not_back_by_it(
    autojump_clock,
) -> None:
    """A new leader gives everyone time since its election, and shows the silent as alive for so long."""
    async with running(5) as cluster:
        await settled(cluster)
        silent = next(member for member in cluster.up if not member.is_leader)
        cluster.silence(silent.id)
        await trio.sleep(4)
        assert events(cluster.leader)[-1] == ("failed", silent.node.process.name)
        cluster.leader.crash()
        await trio.sleep(8)
        rest = [member for member in cluster.up if member is not silent]
        assert len(rest) == 3
        for member in rest:
            about = [kind for kind, name in events(member) if name == silent.node.process.name]
            assert [kind for kind in about if kind != "joined"] == ["failed"]


async def test_a_silent_member_that_answers_again_is_back_also_after_an_election(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        await settled(cluster)
        cluster[3].crash()
        await trio.sleep(4)
        await cluster[3].start()
        await cluster[1].node.administration.transfer("n2", trio.current_time() + 5)
        await trio.sleep(6)
        assert ("back", "n3") in events(cluster[2])


async def test_a_setting_is_an_event_with_what_it_was_and_is(autojump_clock, logged) -> None:
    async with running(2) as cluster:
        await settled(cluster)
        del logged[:]
        settings = cluster[2].node.settings
        await settings.change("dns_ttl", "7s", trio.current_time() + 5)
        await settings.change("n2.type", "learner", trio.current_time() + 5)
        await trio.sleep(1)
        for member in cluster.up:
            assert texts(member, "setting") == [
                "dns_ttl was 1s, is 7s", "n2.type was voter, is learner",
            ]  # fmt: skip
        lines = [line for line in logged if line["event"] == "a setting was changed"]
        assert {(one["log_level"], one["setting"], one["was"], one["now"]) for one in lines} == {
            ("info", "dns_ttl", "1s", "7s"), ("info", "n2.type", "voter", "learner"),
        }  # fmt: skip


async def test_the_level_of_the_log_is_an_event_of_its_node_alone(autojump_clock) -> None:
    before = structlog.get_config()["wrapper_class"]
    try:
        async with running(2) as cluster:
            await settled(cluster)
            await cluster[2].node.settings.change("log_level", "debug", trio.current_time() + 5)
            assert texts(cluster[2], "setting") == ["log_level on n2 was info, is debug"]
            assert texts(cluster[1], "setting") == []
    finally:
        structlog.configure(wrapper_class=before)


async def test_a_new_name_a_removal_and_a_member_that_leaves(autojump_clock, logged) -> None:
    async with running(4) as cluster:
        await settled(cluster)
        del logged[:]
        deadline = trio.current_time() + 60
        await cluster[1].node.settings.rename("n2", "beta", deadline)
        cluster[3].crash()
        await trio.sleep(4)
        await cluster[1].node.administration.remove("n3", deadline)
        await cluster[4].node.administration.leave(deadline)
        await trio.sleep(1)
        assert events(cluster[1])[-4:] == [
            ("renamed", "beta"), ("failed", "n3"), ("removed", "n3"), ("left", "n4"),
        ]  # fmt: skip
        assert texts(cluster[1], "renamed") == ["n2 is called beta now"]
        said = {line["event"]: line["log_level"] for line in logged}
        for kind in ("renamed", "removed", "left"):
            level, event = LINES[kind]
            assert said[event] == level == "info"


async def test_a_stopped_member_has_not_failed(autojump_clock) -> None:
    async with running(3) as cluster:
        await settled(cluster)
        await cluster[3].stop()
        await trio.sleep(6)
        assert events(cluster[1])[-1] == ("stopped", "n3")
        assert "failed" not in dict(events(cluster[1]))
        assert events(cluster[3])[-1] == ("stopped", "n3")
        assert texts(cluster[3], "stopped") == ["n3 (this node) stops: SIGTERM"]


async def test_an_alarm_is_an_event(autojump_clock) -> None:
    async with running(2) as cluster:
        await settled(cluster)
        node = cluster[1].node
        for _ in range(3):  # Its cause is seen again and again.
            node.alarms.sound("term_jump", 2, member=2, why="its term is high", hint="look at it")
        assert events(cluster[1])[-1] == ("alarm", "n2")
        assert texts(cluster[1], "alarm") == ["term_jump: its term is high"]
        node.status.timeline.disk(Room(1 << 20, 3 << 20, "the disk"), is_short=True)
        node.status.timeline.disk(Room(1 << 20, 3 << 20, "the disk"), is_short=True)
        assert len(texts(cluster[1], "alarm")) == 2


async def test_the_last_thousand_are_kept_and_asked_for_by_time(autojump_clock) -> None:
    async with running(1) as cluster:
        now = iter(range(10_000))
        line = timeline.Timeline(cluster[1].node.replica.facts, lambda: next(now))
        for _ in range(EVENTS_MAX + 5):
            line.note("alarm", "once more")
        assert [event.at_ms for event in line.since()] == list(range(5, EVENTS_MAX + 5))
        assert [event.at_ms for event in line.since(EVENTS_MAX + 3)] == [1003, 1004]
        later = timeline.Timeline(cluster[1].node.replica.facts, lambda: next(now))
        later.note("alarm", "of this run")
        later.restore(line.since())
        assert len(later.since()) == EVENTS_MAX
        assert later.since()[-1].text == "of this run"


async def test_the_events_of_an_earlier_run_come_back_from_their_bytes(autojump_clock) -> None:
    async with running(1) as cluster:
        await settled(cluster)
        kept = cluster[1].node.status.timeline
        kept.note("alarm", "of the earlier run")
        later = timeline.Timeline(cluster[1].node.replica.facts)
        later.note("alarm", "of this run")

        assert later.unpack(kept.pack()) == ""
        assert later.since()[:-1] == kept.since()
        assert later.since()[-1].text == "of this run"


async def test_bytes_that_are_no_events_change_nothing_and_say_what_is_wrong(
    autojump_clock,
) -> None:
    async with running(1) as cluster:
        await settled(cluster)
        line = cluster[1].node.status.timeline
        before = line.since()

        for content in (b"", b"\xc1", msgspec.msgpack.encode([{"at_ms": "now"}])):
            assert line.unpack(content).startswith("it has no events: ")
        assert line.since() == before


async def test_a_member_that_had_failed_before_this_node_was_started_does_not_fail_again(
    autojump_clock,
) -> None:
    async with running(3) as cluster:
        await settled(cluster)
        cluster[3].crash()
        await trio.sleep(4)
        kept = cluster[2].node.status.timeline.since()
        await cluster[2].stop()
        await cluster[2].start()
        cluster[2].node.status.timeline.restore(kept)
        await trio.sleep(4)
        assert [one for one in events(cluster[2]) if one == ("failed", "n3")] == [("failed", "n3")]
        assert isinstance(kept[0], Happened)
