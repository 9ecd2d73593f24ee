"""Whatever happens to the processes, clients at all nodes see one store that does one thing at a time.

Each test has a few clients at all nodes, does something to the nodes, reads everything once more
from each of them, and has the whole record checked.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence

from tests.histories.models import Action, Kind

from .clients import Connections, record
from .cluster import Cluster, Node, eventually


def wait_led(nodes: Sequence[Node], instead_of: str | None) -> None:
    """Wait until these nodes follow one leader, who is another than this."""

    def look() -> bool:
        leaders = {node.info().leader for node in nodes}
        return len(leaders) == 1 and not leaders & {None, instead_of}

    eventually(look, f"another than {instead_of} leads")


def test_kills_of_leaders_and_of_a_follower_are_not_seen_in_what_clients_are_told(
    shared: Cluster,
) -> None:
    with record(shared.nodes) as running:
        running.wait_more(100)
        for is_leader in (True, False, True):
            victim = shared.leader() if is_leader else shared.followers()[0]
            victim.kill()
            running.wait_more(60)
            shared.revive()
            running.wait_more(60)
    running.read_everywhere(shared.nodes)
    running.judge()


def test_a_frozen_leader_answers_nothing_stale_when_it_thaws(shared: Cluster) -> None:
    leader, others = shared.leader(), shared.followers()
    name = leader.info().leader
    with record(shared.nodes) as running:
        running.wait_more(60)
        leader.signal(signal.SIGSTOP)
        try:
            wait_led(others, name)
            running.wait_more(60)
            # These come after all that was acknowledged meanwhile, and are the first it finds.
            connections = [Connections() for _ in range(3)]
            latest = sorted(running.keys)[-len(connections) :]
            waiting = [
                running.begin(one, leader, key, Action(Kind.READ), "waited for the thaw")
                for one, key in zip(connections, latest, strict=True)
            ]
        finally:
            leader.signal(signal.SIGCONT)
        for end in waiting:
            end()
        for one in connections:
            one.close()
        running.wait_more(30)
    shared.wait_healthy()
    running.read_everywhere(shared.nodes)
    running.judge()


def test_all_nodes_killed_at_once_come_back_with_what_clients_were_told(shared: Cluster) -> None:
    with record(shared.nodes) as running:
        for _ in range(2):
            running.wait_more(150)
            for node in shared.nodes:
                node.signal(signal.SIGKILL)
            for node in shared.nodes:
                node.wait_end()
            shared.revive()
        running.wait_more(50)
    running.read_everywhere(shared.nodes)
    running.judge()
