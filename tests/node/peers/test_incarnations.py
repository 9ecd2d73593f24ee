"""Two processes with one node id: the one that comes while the other answers is refused, and ends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog
import trio
import trio.testing
from structlog.testing import capture_logs

from hstore.node.config.log_limit import INTERVAL_SECONDS
from hstore.node.errors import DuplicateProcess, PeerError
from hstore.node.model.cluster_info import PROTOCOL
from hstore.node.peers import incarnations, wire
from hstore.node.peers.incarnations import Incarnations
from hstore.node.peers.links import Links
from hstore.node.peers.wire import Purpose, Refusal
from tests.node.memory_cluster import Cluster, Member, running

from .test_links import Notes, greet, hello, make_link, peers_of


def processes(member: Member, peer: int) -> set[int]:
    """Return the incarnations of a peer to which a node has connections, either way."""
    links: Links = member.node.links
    found = {links._accepted[peer][1]} if peer in links._accepted else set()
    if peer in links._links:
        found.add(links._links[peer][0].incarnation)
    return found - {0}


def assert_one_each(cluster: Cluster, members: list[Member]) -> None:
    for member in members:
        for peer in (1, 2, 3):
            assert len(processes(member, peer)) <= 1, (member.id, peer, processes(member, peer))


async def run_for(cluster: Cluster, members: list[Member], seconds: float) -> None:
    end = trio.current_time() + seconds
    while trio.current_time() < end:
        assert_one_each(cluster, members)
        await trio.sleep(0.005)


@pytest.fixture
def logged() -> Iterator[list[structlog.typing.EventDict]]:
    with capture_logs() as lines:
        yield lines


# -- a copied directory ------------------------------------------------------------------------


async def test_a_copy_beside_its_original_ends_and_says_where_the_other_runs(
    autojump_clock, logged
):
    async with running(3) as cluster:
        await cluster.write(1, "k", "v")
        copy = cluster.add_copy(cluster[2])
        await copy.start()
        with trio.fail_after(1):
            await copy.ended.wait()

        error = copy.take_error()
        assert isinstance(error, DuplicateProcess)
        assert "n2" in str(error)
        assert "10.0.0.2:8500" in str(error)
        await run_for(cluster, [cluster[1], cluster[2], cluster[3]], 20)
        lost = [line for line in logged if line["event"] == "lost the link to peer"]
        assert lost == []
        await cluster.write(2, "k", "w")


async def test_copies_that_start_together_leave_one(autojump_clock):
    """Both are new to a member that has just started, too: it asks where the cluster says they are."""
    async with running(3) as cluster:
        await cluster.write(1, "k", "v")
        copy = cluster.add_copy(cluster[2])
        for node in (1, 2, 3):
            cluster[node].crash()
        await trio.sleep(1)
        for member in (cluster[2], copy, cluster[1], cluster[3]):
            await member.start()
        with trio.fail_after(5):
            await copy.ended.wait()

        assert isinstance(copy.take_error(), DuplicateProcess)
        await cluster.until(cluster.agrees)
        await cluster.write(2, "k", "w")


async def test_an_earlier_process_that_hangs_does_not_count_and_ends_when_it_goes_on(
    autojump_clock,
):
    async with running(3) as cluster:
        await cluster.write(1, "k", "v")
        old, new = cluster[2], cluster.add_copy(cluster[2])
        cluster.silence(2)
        await new.start()
        await cluster.until(lambda: new.core.leader == 1 and new.health_of(2) == "alive")
        assert processes(cluster[1], 2) == {new.node.links.me.incarnation}
        cluster.network.heal()
        with trio.fail_after(5):
            await old.ended.wait()

        error = old.take_error()
        assert isinstance(error, DuplicateProcess)
        await run_for(cluster, [cluster[1], cluster[3]], 5)
        assert not new.ended.is_set()
        new.crash()


# -- no copy: nothing of that shows --------------------------------------------------------------


async def test_a_restart_in_place_is_no_copy_and_costs_one_more_connection_at_most(autojump_clock):
    async with running(3) as cluster:
        for node in (2, 3, 1):
            dials = cluster.network.dials.copy()
            cluster[node].crash()
            await trio.sleep(0.001)
            began = trio.current_time()
            await cluster[node].start()
            others = [other for other in (1, 2, 3) if other != node]
            mine = {cluster[node].node.links.me.incarnation}

            def is_linked(node: int = node, mine: set[int] = mine) -> bool:
                return all(processes(cluster[o], node) == mine for o in (1, 2, 3) if o != node)

            await cluster.until(is_linked)
            assert trio.current_time() - began < 0.1
            for other in others:
                assert cluster.network.dials[other, node] - dials[other, node] <= 4
            await cluster.until(cluster.agrees)


async def test_a_restart_through_a_connection_that_still_stands_goes_on(autojump_clock):
    """The power went at node 2, so the others' connections to it stand; then it is back."""
    async with running(3) as cluster:
        cluster.silence(2)
        cluster[2].crash()
        await trio.sleep(0.05)
        for way in cluster.network.between(1, 2, 3):
            way.release()
        await cluster[2].start()
        await cluster.until(lambda: cluster[1].health_of(2) == "alive")
        assert_one_each(cluster, [cluster[1], cluster[3]])
        await cluster.write(2, "k", "v")


@pytest.mark.parametrize("is_silent", [False, True], ids=["it refuses", "it is silent"])
async def test_a_node_that_moved_is_no_copy_whatever_its_old_machine_does(
    autojump_clock, is_silent
):
    async with running(3) as cluster:
        old = cluster[2]
        old.crash()
        if is_silent:
            cluster.silence(2)
        moved = cluster.add_copy(old)
        began = trio.current_time()
        await moved.start()
        await cluster.until(lambda: moved.core.leader == 1 and moved.health_of(2) == "alive")
        assert trio.current_time() - began < 2.5
        moved.crash()


async def test_only_the_process_that_answers_after_the_other_came_counts(autojump_clock):
    """Whoever answers at the earlier address as another process, or node, is not the earlier one."""
    answers: dict[str, wire.Welcome] = {}

    async def answer(_dial, address, _me, _to):
        await trio.lowlevel.checkpoint()
        if address not in answers:
            raise ConnectionRefusedError
        return answers[address]

    async with running(1) as cluster:
        known = cluster[1].node.links._incarnations
        here = "10.0.0.9:8300"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(incarnations, "ask", answer)
            admit = known.admit
            assert await admit(9, 1, here, is_dialled=False) == ""
            for welcome in (
                wire.Welcome(PROTOCOL, 9, "n9", "", 2),
                wire.Welcome(PROTOCOL, 9, "n9", "", 7),
                wire.Welcome(PROTOCOL, 8, "n8", Refusal.WRONG_NODE, 1),
                wire.Welcome(PROTOCOL, 9, "n9", Refusal.CLUSTER, 1),
                wire.Welcome(PROTOCOL, 9, "n9", ""),
            ):
                answers[here] = welcome
                assert await admit(9, 2, "10.0.0.19:8300", is_dialled=False) == ""
                answers.clear()
                assert await admit(9, 1, here, is_dialled=False) == ""
            for refusal in ("", Refusal.REMOVED):
                answers[here] = wire.Welcome(PROTOCOL, 9, "n9", refusal, 1)
                assert await admit(9, 2, "10.0.0.19:8300", is_dialled=False) == here
            assert known.of(9) == 1


async def test_a_peer_nobody_knew_is_asked_for_where_the_cluster_says_it_is(autojump_clock):
    async with running(2) as cluster:
        known = Incarnations(
            cluster[1].node.links.me,
            cluster.network.dialler(1),
            stated=lambda peer: f"10.0.0.{peer}:8300",
            on_change=lambda *_: None,
        )
        there = cluster[2].node.links.me.incarnation
        assert await known.admit(2, 77, "10.0.0.22:8300", is_dialled=False) == "10.0.0.2:8300"
        assert known.of(2) == 0
        assert await known.admit(2, there, "10.0.0.2:8300", is_dialled=False) == ""
        assert known.of(2) == there


async def test_a_link_to_the_earlier_process_ends_when_another_one_is_let_in(autojump_clock):
    """TCP may believe in it for a while: the machine of a peer lost its power, and is up again."""
    dials: list[str] = []
    async with trio.open_nursery() as nursery:

        async def dial(address: str) -> trio.abc.Stream:
            dials.append(address)
            if len(dials) > 1:
                raise ConnectionRefusedError
            near, far = trio.testing.memory_stream_pair()
            await far.send_all(wire.encode(wire.Welcome(PROTOCOL, 2, "n2", "", 1)))
            nursery.start_soon(far.receive_some)
            return near

        mine = peers_of(Notes(), dial)
        await nursery.start(mine.run)
        mine.set_addresses({2: "10.0.0.2:8300"})
        await trio.sleep(1)
        assert mine.is_connected(2)
        near, far = trio.testing.memory_stream_pair()
        nursery.start_soon(mine.serve, far)
        said = hello(node_id=2, to=9, address="10.0.0.2:8300", incarnation=2)
        await near.send_all(wire.encode(said))
        welcome = wire.FrameReader().feed(await near.receive_some())[0]
        assert isinstance(welcome, wire.Welcome)
        assert welcome.refusal == ""
        await trio.sleep(1)
        assert not mine.is_connected(2)
        assert len(dials) > 2
        nursery.cancel_scope.cancel()


async def test_a_probe_holds_up_nobody_else_and_they_are_bounded(autojump_clock):
    async with running(1) as cluster:
        never = trio.Event()

        async def hang(_address: str) -> trio.abc.Stream:
            await never.wait()
            raise OSError

        links = cluster[1].node.links
        links._incarnations._dial = hang
        count = incarnations._MAX_PROBES + 1
        for peer in range(20, 20 + count):
            await links._incarnations.admit(peer, 1, f"10.0.0.{peer}:8300", is_dialled=False)
        began = trio.current_time()
        ended: list[float] = []

        async def come(peer: int) -> None:
            try:
                await greet(cluster, hello(node_id=peer, incarnation=2))
            except IndexError:  # hung up on
                ended.append(trio.current_time() - began)
            else:
                ended.append(trio.current_time() - began)

        async with trio.open_nursery() as nursery:
            for peer in range(20, 20 + count):
                nursery.start_soon(come, peer)
            await trio.sleep(0.1)
            assert len(ended) == 1
            await greet(cluster, hello())
            assert trio.current_time() - began < 0.2
        assert max(ended) < 1.2


# -- who only asks -------------------------------------------------------------------------------


async def test_a_hello_that_only_asks_which_node_answers_changes_nothing(autojump_clock):
    async with running(1) as cluster:
        first, _ = await greet(cluster, hello(incarnation=1))
        _, welcome = await greet(cluster, hello(incarnation=2, purpose=Purpose.IDENTIFY))
        assert (welcome.refusal, welcome.incarnation) == ("", cluster[1].node.links.me.incarnation)
        with trio.move_on_after(1) as scope:
            await first.receive_some()
        assert scope.cancelled_caught


async def test_a_snapshot_of_another_process_is_refused_like_its_messages(autojump_clock):
    async with running(2) as cluster:
        said = hello(
            node_id=2,
            incarnation=99,
            purpose=Purpose.SNAPSHOT,
            address="10.0.0.22:8300",
        )
        _, welcome = await greet(cluster, said)
        assert (welcome.refusal, welcome.other) == (Refusal.DUPLICATE, "10.0.0.2:8300")


# -- logs ------------------------------------------------------------------------------------------


async def test_a_peer_that_is_refused_again_and_again_is_logged_rarely(autojump_clock, logged):
    async with running(1) as cluster:
        await cluster.write(1, "k", "v")
        for _ in range(30):
            await greet(cluster, hello(cluster_id="ffffffffffffffff", purpose=Purpose.SNAPSHOT))
        assert [line["event"] for line in logged].count("refused a peer") == 1
        await trio.sleep(INTERVAL_SECONDS + 1)
        await greet(cluster, hello(cluster_id="ffffffffffffffff"))
        assert [line["event"] for line in logged].count("refused a peer") == 2
        await greet(cluster, hello(to=5))
        assert [line["why"] for line in logged if line["event"] == "refused a peer"] == [
            Refusal.CLUSTER,
            Refusal.CLUSTER,
            Refusal.WRONG_NODE,
        ]


async def test_a_node_that_is_refused_again_and_again_says_so_rarely(autojump_clock, logged):
    async with running(1) as cluster:
        for _ in range(30):
            cluster[1].node.refused(9, Refusal.CLUSTER)
        assert len([line for line in logged if line["event"] == "a peer refused this node"]) == 1
        cluster[1].node.refused(9, Refusal.PROTOCOL)
        assert len([line for line in logged if line["event"] == "a peer refused this node"]) == 2


async def test_a_link_that_ends_as_soon_as_it_is_made_is_logged_rarely(autojump_clock, logged):
    notes = Notes()
    async with trio.open_nursery() as nursery:

        async def welcome_and_close(far: trio.abc.Stream) -> None:
            await far.receive_some()
            await far.send_all(wire.encode(wire.Welcome(PROTOCOL, 2, "n2", "")))
            await far.aclose()

        async def dial(_address: str) -> trio.abc.Stream:
            near, far = trio.testing.memory_stream_pair()
            nursery.start_soon(welcome_and_close, far)
            return near

        nursery.start_soon(make_link(notes, dial).run)
        await trio.sleep(60)
        nursery.cancel_scope.cancel()
    assert notes.made > 50
    assert 1 <= len([line for line in logged if line["log_level"] == "info"]) <= 4


async def test_a_link_is_not_made_to_another_process_while_the_known_one_answers(
    autojump_clock, logged
):
    """What is dialled may be the address of a copy: it was said, or found in a search."""
    first, second = "10.0.0.2:8300", "10.0.0.22:8300"
    incarnation = {first: 1, second: 2}
    async with trio.open_nursery() as nursery:

        async def answer(far: trio.abc.Stream, address: str) -> None:
            await far.receive_some()
            welcome = wire.Welcome(PROTOCOL, 2, "n2", "", incarnation[address])
            await far.send_all(wire.encode(welcome))

        async def dial(address: str) -> trio.abc.Stream:
            near, far = trio.testing.memory_stream_pair()
            nursery.start_soon(answer, far, address)
            return near

        mine = peers_of(Notes(), dial)
        await nursery.start(mine.run)
        mine.set_addresses({2: first})
        await trio.sleep(0.5)
        assert mine._links[2][0].incarnation == 1
        mine.set_addresses({2: second})
        mine._links[2][0].reset()
        await trio.sleep(1)

        assert mine._links[2][0].incarnation == 1
        assert mine.address_of(2) == first
        told = [line for line in logged if line["event"] == "two processes with the id of one peer"]
        assert [(line["linked_at"], line["not_linked_at"]) for line in told] == [(first, second)]
        with pytest.raises(PeerError):
            mine._move(2, second)
            await mine.connect(2, Purpose.SNAPSHOT)
        nursery.cancel_scope.cancel()
