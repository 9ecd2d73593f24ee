"""The data directory itself: what is made in it, and what is never touched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hstore.node.errors import StorageError
from hstore.node.storage import directory
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


@pytest.mark.parametrize(
    ("total_mib", "free_mib", "is_short"),
    [
        (60, 30, False),
        (60, 29, True),
        (800, 100, False),
        (800, 99, True),
        (100_000, 256, False),
        (100_000, 255, True),
    ],
)
def test_a_small_file_system_keeps_less_for_itself(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, total_mib: int, free_mib: int, is_short: bool
) -> None:
    class System:
        f_frsize = 4096
        f_blocks = total_mib * 256
        f_bavail = free_mib * 256

    monkeypatch.setattr(os, "statvfs", lambda _path: System)

    assert directory.room(tmp_path).is_short == is_short


def test_a_database_without_its_identity_says_what_to_do(tmp_path: Path) -> None:
    RocksStorage.create(tmp_path, Identity("0123456789abcdef", 7))
    (tmp_path / "db" / "hstore.json").unlink()

    with pytest.raises(StorageError, match=r"hstore\.json is missing.\nThis node cannot recover"):
        directory.read_identity(tmp_path)
    with pytest.raises(StorageError, match=r"hstore\.json is missing$"):
        directory.read_identity(tmp_path / "none")
