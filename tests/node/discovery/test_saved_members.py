"""The members' addresses beside the database."""

from __future__ import annotations

import os
from typing import Any

import msgspec
import pytest
import trio

from hstore.node.discovery import saved_members
from hstore.node.discovery.saved_members import FILE, SavedMember, SavedMembers, read, write
from tests.node.memory_cluster import CLUSTER_ID, running

ONE = SavedMember("00000000000000a1", "n1", "10.0.0.1:8500", "10.0.0.1:8300", "10.0.0.1:8600")
SAVED = SavedMembers("00000000000000c1", "hstore.local", (ONE,))


def test_what_was_written_is_read(tmp_path):
    write(tmp_path, SAVED)
    assert read(tmp_path) == SAVED
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff", b"[]", b'{"cluster_id": 1}', b'{"cluster_id": "c1"}']
)
def test_what_cannot_be_read_counts_as_nothing(tmp_path, content):
    (tmp_path / FILE).write_bytes(content)
    assert read(tmp_path) is None


def test_where_nothing_was_saved_there_is_nothing(tmp_path):
    assert read(tmp_path) is None
    assert read(tmp_path / "none") is None


def test_a_pipe_or_a_link_in_its_place_counts_as_nothing_and_holds_nobody_up(tmp_path):
    (tmp_path / "kept").mkdir()
    write(tmp_path / "kept", SAVED)
    (tmp_path / FILE).symlink_to(tmp_path / "kept" / FILE)
    assert read(tmp_path) is None
    (tmp_path / FILE).unlink()
    os.mkfifo(tmp_path / FILE)
    assert read(tmp_path) is None


def test_a_writing_that_is_cut_off_leaves_the_old(tmp_path, monkeypatch):
    write(tmp_path, SAVED)

    def cut(_fd):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", cut)
    with pytest.raises(OSError, match="Input/output"):
        write(tmp_path, msgspec.structs.replace(SAVED, zone="other"))
    assert read(tmp_path) == SAVED


def test_an_address_that_is_none_is_left_out():
    bad = msgspec.structs.replace(ONE, address="nowhere:x:y")
    assert msgspec.structs.replace(SAVED, members=(bad, ONE)).api_addresses() == [
        ("10.0.0.1", 8500)
    ]


async def test_a_node_saves_the_members_and_each_change_of_them(
    tmp_path, autojump_clock, monkeypatch
):
    written = []

    async def at_once(function, *arguments):
        written.append(arguments)
        function(*arguments)

    monkeypatch.setattr(trio.to_thread, "run_sync", at_once)
    async with running(1) as cluster, trio.open_nursery() as nursery:
        nursery.start_soon(saved_members.keep, cluster.leader.node, tmp_path, print)
        await cluster.until(lambda: read(tmp_path) is not None)
        saved: Any = read(tmp_path)
        assert saved.cluster_id == CLUSTER_ID
        assert [one.address for one in saved.members] == ["10.0.0.1:8500"]
        await cluster.join()

        def are_two():
            saved: Any = read(tmp_path)
            return len(saved.members) == 2

        await cluster.until(are_two)
        count, seen = len(written), cluster[1].node.status.structure
        cluster[2].crash()
        await trio.sleep(60)
        assert cluster[1].node.status.structure > seen
        assert len(written) == count
        nursery.cancel_scope.cancel()
