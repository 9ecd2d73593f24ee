"""Disks with no room left: who leads, what is refused, what gives room back; and nothing is lost."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from . import disks
from .clients import record
from .cluster import WAIT_S, Answer, Cluster, Node, eventually

_DISK_BYTES = 64 << 20
_LEFT_BYTES = 256 << 10
"""More than is written before the disk is full, and less than is written after."""

_SHORT_BYTES = 24 << 20
"""Less than the half of such a disk that hstore wants free, and more than deletions need."""

_VALUE = "." * 20_000
_WRITES = _LEFT_BYTES // len(_VALUE) + 5
_BIG = "." * 100_000
_HUGE = "." * 1_000_000

MakeDisk = Callable[[str], Path]


@pytest.fixture
def make_disk(tmp_path: Path, require_tool: Callable[[str], str]) -> Iterator[MakeDisk]:
    """Make a folder on a file system of its own."""
    for tool in ("mount", "umount"):
        require_tool(tool)
    with ExitStack() as stack:

        def make(name: str) -> Path:
            try:
                return stack.enter_context(disks.small_disk(tmp_path / name, _DISK_BYTES))
            except disks.CannotMount as error:
                pytest.skip(str(error))

        yield make


@pytest.fixture
def small_disk(make_disk: MakeDisk) -> Path:
    """A folder on a file system of its own."""
    return make_disk("small")


def fill(disk: Path, left_bytes: int = _LEFT_BYTES) -> Path:
    """Leave so much room, by default very little; return the file that takes the rest."""
    return disks.fill(disk, left_bytes)


def test_a_follower_with_a_full_disk_stops_with_one_line_and_loses_nothing(
    small_disk: Path, tmp_path: Path
) -> None:
    with Cluster(tmp_path) as cluster:
        full, others = cluster.nodes[2], cluster.nodes[:2]
        full.directory = small_disk / "data"
        cluster.up()
        assert cluster.leader() is not full
        with record(cluster.nodes) as running:
            running.wait_more(30)
            filler = fill(small_disk)
            write_much(others)
            assert_stops(full)
            running.wait_more(30)
        filler.unlink()
        cluster.revive()
        assert_all_there(cluster)
        running.read_everywhere(cluster.nodes)
        running.judge()
    cluster.assert_no_traceback()


def test_a_leader_with_a_full_disk_hands_over_and_stops_before_it_is_spent(
    small_disk: Path, tmp_path: Path
) -> None:
    with Cluster(tmp_path) as cluster:
        full, *others = cluster.nodes
        full.directory = small_disk / "data"
        cluster.up()
        assert cluster.leader() is full
        with record(cluster.nodes) as running:
            running.wait_more(30)
            filler = fill(small_disk)
            eventually(lambda: leads_elsewhere(others, full), "another leads")
            write_much(others)
            assert_stops(full)
            running.wait_more(30)
        filler.unlink()
        cluster.revive()
        assert_all_there(cluster)
        running.read_everywhere(cluster.nodes)
        running.judge()
    cluster.assert_no_traceback()


def test_a_leader_whose_disk_becomes_short_hands_over_without_refusing_a_write(
    small_disk: Path, tmp_path: Path
) -> None:
    with Cluster(tmp_path) as cluster:
        short, *others = cluster.nodes
        short.directory = small_disk / "data"
        cluster.up()
        with writing(others[0]) as answers:
            eventually(lambda: len(answers) > 20, "writes are answered")
            filler = fill(small_disk, _SHORT_BYTES)
            eventually(lambda: leads_elsewhere(others, short), "another leads")
            seen = len(answers)
            eventually(lambda: len(answers) > seen + 20, "writes go on")
        assert {answer.status for answer in answers} == {200}, answers

        answer = transfer(others[0], short)
        assert answer.status == 409, answer
        assert "MiB left" in answer.json()["error"]

        # Only a quarter more than the least is room again, and then the lead may come back.
        filler.unlink()
        eventually(lambda: transfer(others[0], short).status == 200, "it may lead again")
        assert cluster.leader() is short
        assert len(cluster.running()) == 3
    cluster.assert_no_traceback()


def test_two_short_disks_of_three_stop_new_values_and_nothing_else(
    make_disk: MakeDisk, tmp_path: Path
) -> None:
    with Cluster(tmp_path) as cluster:
        leader, *short = cluster.nodes
        disks = [make_disk(f"disk{number}") for number in (1, 2)]
        for node, disk in zip(short, disks, strict=True):
            node.directory = disk / "data"
        cluster.up()
        assert cluster.leader() is leader
        for key in ("one", "two", "three", "four", "five"):
            assert leader.write(key, _VALUE).status == 200
        fillers = [fill(disk, _SHORT_BYTES) for disk in disks]

        refused: Answer = eventually(lambda: is_refused(short[0]), "writes are refused")
        assert refused.json()["outcome"] == "not applied"
        for name in ("n2", "n3"):
            assert f"the disk of {name} has" in refused.json()["error"]
        assert "retry-after" not in refused.headers
        assert leader.read("one") == _VALUE

        # What gives room back, or may, passes everywhere: deletions in all their spellings, ...
        assert short[0].request("DELETE", "/delete/one").status == 200
        assert leader.request("DELETE", "/v1/kv/two?recurse").body == b"true"
        revision = json.loads(leader.get("/read/three").body)["revision"]
        assert short[1].request("DELETE", f"/v1/kv/three?cas={revision}").body == b"true"
        keyed = {"Idempotency-Key": "once"}
        assert leader.request("DELETE", "/delete/four", headers=keyed).status == 200
        assert cluster.hstore("cli", "-h", leader.address, "del", "five").status == 0
        # ... settings, and members that go.
        assert cluster.hstore("config", "dns_ttl", "2s", "-h", leader.address).status == 0
        assert cluster.hstore("leave", "-h", short[1].address).status == 0
        # A smaller value in the place of a larger one is a new value all the same.
        assert leader.write("one", "").status == 503

        fillers[0].unlink()
        eventually(lambda: leader.write("one", "back").status == 200, "writes are taken again")
        assert len(cluster.running()) == 2
    cluster.assert_no_traceback()


def test_what_is_deleted_on_full_disks_makes_room_for_new_values(
    make_disk: MakeDisk, tmp_path: Path
) -> None:
    with Cluster(tmp_path) as cluster:
        for number, node in enumerate(cluster.nodes):
            node.directory = make_disk(f"disk{number}") / "data"
        cluster.up()
        client = cluster.nodes[0]
        written = 0
        while (answer := client.write(f"{'ab'[written % 2]}/{written}", _BIG)).status == 200:
            written += 1
            assert written * len(_BIG) < _DISK_BYTES, "it is refused before the disk is full"
        assert "MiB left" in answer.json()["error"]
        kept = client.read_all("b/")
        assert len(kept) == written // 2

        assert client.request("DELETE", "/v1/kv/a/?recurse").body == b"true"

        eventually(lambda: client.write("a/new", _BIG).status == 200, "there is room again", 10)
        assert client.read_all("b/") == kept
        assert len(cluster.running()) == 3
    cluster.assert_no_traceback()


def test_small_disks_that_are_filled_at_full_speed_stop_no_node(
    make_disk: MakeDisk, tmp_path: Path
) -> None:
    with Cluster(tmp_path) as cluster:
        for number, node in enumerate(cluster.nodes):
            node.directory = make_disk(f"disk{number}") / "data"
        cluster.up()

        def fill_up(number: int) -> int:
            node, taken, refused = cluster.nodes[number % 3], 0, 0
            while refused < 20:
                status = node.write(f"{number}-{taken}-{refused}", _HUGE).status
                taken += status == 200
                refused += status != 200
            return taken

        with ThreadPoolExecutor(6) as pool:
            taken = sum(pool.map(fill_up, range(6)))

        assert taken >= 10
        assert len(cluster.running()) == 3
    cluster.assert_no_traceback()


def leads_elsewhere(nodes: list[Node], but: Node) -> bool:
    """Whether one of these leads, as all of them see it."""
    leaders = {node.info().leader for node in nodes}
    return len(leaders) == 1 and leaders.isdisjoint((None, nodes[0].sees(but).name))


def transfer(via: Node, to: Node) -> Answer:
    return via.request("POST", "/v1/leader/transfer", json.dumps({"to": to.address}).encode())


@contextmanager
def writing(node: Node) -> Iterator[list[Answer]]:
    """Write at a node, one write after the other, until the end of `with`; collect the answers."""
    answers: list[Answer] = []
    over = threading.Event()

    def write() -> None:
        while not over.is_set():
            answers.append(node.write("key", str(len(answers))))

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(write)
        try:
            yield answers
        finally:
            over.set()
        running.result(WAIT_S)


def is_refused(node: Node) -> Answer | None:
    answer = node.write("refused", "1")
    return answer if answer.status == 503 else None


def assert_stops(node: Node) -> None:
    """It ends by itself, and says why in one line."""
    assert node.wait_end(WAIT_S) == 1
    said = errors_in(node.log())
    assert len(said) == 1, said
    assert "the node stops" in said[0]
    assert "No space left on device" in said[0]


def assert_all_there(cluster: Cluster) -> None:
    for node in cluster.nodes:
        assert len(node.read_all("big/")) == _WRITES


def write_much(nodes: list[Node]) -> None:
    """Write more than there is room for; all of it is acknowledged, whoever leads meanwhile."""
    for number in range(_WRITES):
        write = partial(nodes[number % 2].write, f"big/{number}", _VALUE)
        eventually(partial(is_done, write), "the nodes that have room take writes")


def is_done(write: Callable[[], Answer]) -> bool:
    return write().status == 200


def errors_in(log: str) -> list[str]:
    return [line for line in log.splitlines() if not line.startswith("time=") and line]
