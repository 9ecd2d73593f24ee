"""The data directory itself: what is made in it, and what is never touched."""

from __future__ import annotations

from pathlib import Path

from hstore.node.storage.directory import has_data, remove_data
from hstore.node.storage.interface import Identity
from hstore.node.storage.rocks import RocksStorage


def test_removing_a_nodes_data_leaves_the_users_files_alone(tmp_path: Path) -> None:
    """A refused join once removed the whole folder that --data-dir named."""
    own = tmp_path / "thesis.txt"
    own.write_text("years of work")
    identity = Identity("0123456789abcdef", 7)
    RocksStorage.create(tmp_path, identity)

    remove_data(tmp_path)

    assert own.read_text() == "years of work"
    assert not has_data(tmp_path)
    RocksStorage.create(tmp_path, identity)
