"""Links between nodes break in several ways; what clients on both sides are told fits together."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.histories.models import Action, Kind

from .clients import Connections, record
from .cluster import eventually
from .parted import Parted, parted_cluster
from .test_linearizability import wait_led


@pytest.fixture(scope="module")
def _network(
    require_tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Parted]:
    with parted_cluster(Parted, tmp_path_factory.mktemp("parted"), require_tool) as cluster:
        yield cluster


@pytest.fixture
def parted(_network: Parted) -> Iterator[Parted]:
    """Three nodes, each on a network of its own, of one healthy cluster."""
    with _network.network.inside():
        # What a test that failed has left behind is not the next one's.
        _network.network.heal()
        _network.revive()
        yield _network


def cut_off_the_leader(parted: Parted) -> None:
    leader, others = parted.leader(), parted.followers()
    name = leader.info().leader
    with record(parted.nodes) as running:
        running.wait_more(30)
        parted.isolate(leader)
        wait_led(others, name)
        running.wait_more(30)
        parted.reunite(leader)
        running.wait_more(30)
    parted.wait_healthy()
    running.read_everywhere(parted.nodes)
    running.judge()


def test_a_leader_cut_off_from_the_others_acknowledges_and_reads_nothing_more(
    parted: Parted,
) -> None:
    cut_off_the_leader(parted)


def test_a_restart_behind_connections_that_still_stand_is_no_second_process(
    parted: Parted,
) -> None:
    """Its machine lost the network, then the process died: nobody was told that it ended."""
    follower = parted.followers()[0]
    parted.isolate(follower)
    follower.kill()
    parted.reunite(follower)
    follower.start()

    parted.wait_healthy()
    assert follower.write("half-open", "1").status == 200
    assert all("duplicate" not in node.log() for node in parted.nodes)


def test_a_leader_that_thaws_where_nobody_tells_it_what_happened_answers_nothing_stale(
    parted: Parted,
) -> None:
    """Its own clock stood still: only who asks the others finds out that it leads no more."""
    leader, others = parted.leader(), parted.followers()
    name = leader.info().leader
    readers = [Connections() for _ in range(12)]
    with record(parted.nodes) as running:
        running.wait_more(30)
        key = max(running.keys.copy())
        for one in readers:
            running.do(one, leader, key, Action(Kind.READ), "before the frost")
        leader.signal(signal.SIGSTOP)
        try:
            parted.isolate(leader)
            wait_led(others, name)
            change = Action(Kind.WRITE, "written during the frost")
            writer = Connections()
            eventually(lambda: running.do(writer, others[0], key, change), "others take a write")
            waiting = [
                running.begin(one, leader, key, Action(Kind.READ), "waited for the thaw")
                for one in readers
            ]
        finally:
            leader.signal(signal.SIGCONT)
        for end in waiting:
            end()
        parted.reunite(leader)
        for one in (writer, *readers):
            one.close()
        running.wait_more(10)
    parted.wait_healthy()
    running.read_everywhere(parted.nodes)
    running.judge()


def test_a_leader_whose_link_goes_down_is_replaced_and_comes_back_as_a_follower(
    parted: Parted,
) -> None:
    leader, others = parted.leader(), parted.followers()
    name = leader.info().leader
    with record(parted.nodes) as running:
        running.wait_more(30)
        parted.unplug(leader)
        wait_led(others, name)
        running.wait_more(30)
        parted.plug(leader)
        running.wait_more(30)
    parted.wait_healthy()
    running.read_everywhere(parted.nodes)
    running.judge()


def mute_the_leader(parted: Parted) -> None:
    leader, others = parted.leader(), parted.followers()
    name = leader.info().leader
    with record(parted.nodes) as running:
        running.wait_more(30)
        parted.mute(leader)
        wait_led(others, name)
        running.wait_more(30)
        parted.unmute(leader)
        running.wait_more(30)
    parted.wait_healthy()
    running.read_everywhere(parted.nodes)
    running.judge()


def test_a_leader_that_hears_the_others_and_is_not_heard_by_them_is_replaced(
    parted: Parted,
) -> None:
    mute_the_leader(parted)


def test_two_followers_that_lose_each_other_disturb_nobody(parted: Parted) -> None:
    leader, (one, other) = parted.leader(), parted.followers()
    term = leader.info().term
    with record(parted.nodes) as running:
        running.wait_more(30)
        parted.network.separate(parted.number(one), parted.number(other))
        running.wait_more(150)
        parted.network.join(parted.number(one), parted.number(other))
    parted.wait_healthy()
    assert (parted.leader(), leader.info().term) == (leader, term)
    running.read_everywhere(parted.nodes)
    running.judge()


def test_without_any_majority_nothing_is_acknowledged_until_two_meet_again(
    parted: Parted,
) -> None:
    with record(parted.nodes) as running:
        running.wait_more(30)
        for pair in ((0, 1), (1, 2), (0, 2)):
            parted.network.separate(*pair)
        for node in parted.nodes:
            answer = node.request("POST", "/write?timeout=700ms", b'{"key":"alone","value":"1"}')
            assert answer.status == 503, answer
        parted.network.join(0, 1)
        running.wait_more(30)
        parted.network.join(1, 2)
        parted.network.join(0, 2)
        running.wait_more(30)
    parted.wait_healthy()
    running.read_everywhere(parted.nodes)
    running.judge()


def test_where_there_are_no_namespaces_a_relay_cuts_the_same(
    require_tool: Callable[[str], str], tmp_path: Path
) -> None:
    with parted_cluster(Parted, tmp_path, require_tool, is_relayed=True) as relayed:
        cut_off_the_leader(relayed)
        mute_the_leader(relayed)
