"""Whatever happens to the processes, clients at all nodes see one store that does one thing at a time.

Each test has a few clients at all nodes, does something to the nodes, reads everything once more
from each of them, and has the whole record checked.
"""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import pytest

from hstore.node.model.cluster_info import ClusterInfo
from tests.histories.models import Action, Kind, Result

from .chaos import Battered, Chaos
from .clients import Connections, check_kept, record
from .cluster import Cluster, Node, eventually
from .lost_majority import lose_majority, recover
from .parted import parted_cluster

READERS = 12


def wait_led(nodes: Sequence[Node], instead_of: str | None, by: Node | None = None) -> None:
    """Wait until these nodes follow one leader, who is another than this, or is `by`."""

    def look() -> bool:
        seen = [node.info() for node in nodes]
        leaders = {info.leader for info in seen}
        if by is not None:
            return leaders == {name_in(seen[0], by)}
        return len(leaders) == 1 and not leaders & {None, instead_of}

    eventually(look, f"{by.address if by else f'another than {instead_of}'} leads")


def name_in(info: ClusterInfo, node: Node) -> str:
    return next(one.name for one in info.nodes if one.address == node.address)


def test_kills_of_leaders_and_of_a_follower_are_not_seen_in_what_clients_are_told(
    shared: Cluster,
) -> None:
    with record(shared.nodes) as running:
        running.wait_more(60)
        for is_leader in (True, False, True):
            victim = shared.leader() if is_leader else shared.followers()[0]
            victim.kill()
            running.wait_more(40)
            shared.revive()
        running.wait_more(40)
    running.read_everywhere(shared.nodes)
    running.judge()


def test_a_frozen_leader_answers_nothing_stale_when_it_thaws(shared: Cluster) -> None:
    leader, others = shared.leader(), shared.followers()
    name = leader.info().leader
    readers = [Connections() for _ in range(READERS)]
    with record(shared.nodes) as running:
        running.wait_more(60)
        latest = max(running.keys.copy())
        for one in readers:
            running.do(one, leader, latest, Action(Kind.READ), "before the frost")
        leader.signal(signal.SIGSTOP)
        try:
            wait_led(others, name)
            change = Action(Kind.WRITE, "written during the frost")
            eventually(
                lambda: running.do(readers[0], others[0], latest, change), "others take a write"
            )
            # These come after that write, and are among the first things that the leader finds.
            waiting = [
                running.begin(one, leader, latest, Action(Kind.READ), "waited for the thaw")
                for one in readers
            ]
        finally:
            leader.signal(signal.SIGCONT)
        for end in waiting:
            end()
        for one in readers:
            one.close()
        running.wait_more(30)
    shared.wait_healthy()
    running.read_everywhere(shared.nodes)
    running.judge()


def test_all_nodes_killed_at_once_come_back_with_what_clients_were_told(shared: Cluster) -> None:
    with record(shared.nodes) as running:
        running.wait_more(100)
        for node in shared.nodes:
            node.signal(signal.SIGKILL)
        for node in shared.nodes:
            node.wait_end()
        shared.revive()
        running.wait_more(20)
    running.read_everywhere(shared.nodes)
    running.judge()


def test_the_lead_goes_round_and_members_stop_and_return_while_clients_are_at_work(
    shared: Cluster,
) -> None:
    with record(shared.nodes) as running:
        running.wait_more(30)
        for node in shared.nodes:
            wish = json.dumps({"to": node.address}).encode()
            answer = node.request("POST", "/v1/leader/transfer", wish)
            assert answer.status == 200, answer
            wait_led([node], None, by=node)
            running.wait_more(20)
        for ending in (shared.leader(), shared.followers()[0]):
            said = shared.hstore("stop", "-h", ending.address)
            assert said.status == 0, said
            ending.wait_end()
            running.wait_more(20)
            ending.start()
            shared.wait_healthy()
    running.read_everywhere(shared.nodes)
    running.judge()


def test_clients_get_linearizable_answers_while_members_join_lead_leave_and_are_replaced(
    tmp_path: Path,
) -> None:
    with Cluster(tmp_path, 5) as cluster:
        *three, newcomer, replacement = cluster.nodes
        cluster.nodes = three
        cluster.up()
        leader, (through, other) = cluster.leader(), cluster.followers()
        with record(three) as running:
            running.wait_more(40)
            newcomer.join(through.address)
            eventually(lambda: through.sees(newcomer).voter, "the newcomer votes")
            running.wait_more(20)
            said = cluster.hstore("leave", "-h", leader.address)
            assert said.status == 0, said
            leader.wait_end()
            running.wait_more(20)
            name = through.sees(other).name
            other.kill()
            eventually(lambda: through.sees(other).health == "failed", "the dead member is missed")
            replacement.join(through.address, "--replace", name)
            eventually(lambda: through.sees(replacement).voter, "the replacement votes")
            assert through.sees(replacement).name == name
            cluster.nodes = [through, newcomer, replacement]
            running.wait_more(40)
        cluster.wait_healthy()
        running.read_everywhere(cluster.nodes)
        running.judge()
    cluster.assert_no_traceback()


_DONE = [
    Action(Kind.WRITE, "a", 3, result=Result.DONE),
    Action(Kind.CAS, "b", None, 3, Result.DONE),
    Action(Kind.READ, "b", 5, result=Result.DONE),
]
_OPEN = [Action(Kind.WRITE, "c"), Action(Kind.DELETE)]


@pytest.mark.parametrize(
    ("actions", "found", "up_to", "is_kept"),
    [
        (_DONE, ("b", 5), 5, True),
        (_DONE, ("a", 3), 4, True),
        (_DONE, ("a", 3), 5, False),
        (_DONE, None, 2, True),
        (_DONE, None, 3, False),
        (_DONE, ("a", 5), 5, False),
        (_DONE, ("x", 9), 5, False),
        ([*_DONE, *_OPEN], ("c", 9), 5, True),
        ([*_DONE, *_OPEN], None, 5, True),
        ([*_DONE, Action(Kind.DELETE, None, 4, result=Result.DONE)], None, 5, False),
        ([*_DONE, Action(Kind.DELETE, None, 7, result=Result.DONE)], None, 5, True),
        ([*_DONE, Action(Kind.DELETE, None, 7, result=Result.DONE)], ("b", 5), 7, False),
    ],
)
def test_what_a_recovered_node_lacks_is_noticed(
    actions: list[Action], found: tuple[str, int] | None, up_to: int, is_kept: bool
) -> None:
    """Of one key: what was done to it, what is found (a value and its revision), and up to where."""
    there = found and {"value": found[0], "revision": found[1]}
    with nullcontext() if is_kept else pytest.raises(AssertionError):
        check_kept("key", actions, there or None, up_to)


@pytest.fixture
def battered(require_tool: Callable[[str], str], tmp_path: Path) -> Iterator[Battered]:
    """Three nodes, each on a network and a disk of its own."""
    with parted_cluster(Battered, tmp_path, require_tool) as cluster:
        with cluster.network.inside():
            yield cluster


def test_copies_wiped_disks_lost_log_and_blows_on_top_and_at_last_a_lost_majority(
    battered: Battered,
) -> None:
    """Once each, in an order drawn from a seed; `tests/soak/` has minutes of it."""
    chance = random.Random(int(os.environ.get("HSTORE_SEED", "18")))
    chaos = Chaos(battered, chance)
    mishaps = chance.sample(sorted(chaos.mishaps), len(chaos.mishaps))
    blows = ["block the log of", "short disk at", "full disk at"]
    with record(battered.nodes, clients=3) as running:
        running.wait_more(20)
        for blow, mishap in zip(blows, mishaps, strict=True):
            if blow in chaos.blows:
                one, another = chance.sample(battered.nodes, 2)
                chaos.hit(blow, one)
                if blow == "block the log of":
                    chaos.hit("kill", another)  # which is a line or two in the log
                running.wait_more(10)
                chaos.end()
                chaos.wait_healthy()
            chaos.have(mishap, chance.choice(battered.nodes), running)
    running.read_everywhere(battered.nodes)
    running.judge()
    with record(battered.nodes, clients=3) as last:
        last.wait_more(30)
        told = lose_majority(battered, chance, last)
    last.judge()
    print(*chaos.happened, told, recover(battered, chance, last), battered.missing, sep="\n")  # noqa: T201
