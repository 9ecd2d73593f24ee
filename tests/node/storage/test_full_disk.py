"""A real file system without room: the engine stops, and what it had flushed is there afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hstore.node.errors import StorageError
from hstore.node.raft.entry import HardState
from hstore.node.storage.rocks import RocksStorage

from .conftest import CACHE_BYTES, IDENTITY, entries


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    where = tmp_path / "small"
    where.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    mount = subprocess.run(
        ["/bin/mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(where)],
        check=False,
        capture_output=True,
    )
    if mount.returncode:
        pytest.skip(f"mounting is not allowed here: {mount.stderr.decode().strip()}")
    yield where
    subprocess.run(["/bin/umount", "-l", str(where)], check=True)


async def test_a_disk_that_fills_up_stops_the_node_and_loses_nothing_that_was_flushed(
    small: Path, tmp_path: Path
) -> None:
    RocksStorage.create(small / "data", IDENTITY)
    storage = RocksStorage.open(small / "data", cache_bytes=CACHE_BYTES)
    storage.load()
    flushed = 0
    with pytest.raises(StorageError, match=r"No space left.*; free some space, and try again"):
        for index in range(1, 200):
            new = entries(index, index, data=os.urandom(256 << 10))
            storage.append(HardState(1, 7, 0), None, new)
            await storage.flush()
            flushed = index
    with pytest.raises(StorageError, match="No space left"):
        await storage.flush()
    await storage.close()
    # Without room RocksDB cannot even close; the end of the process does that.
    shutil.copytree(small / "data", tmp_path / "copy")
    again = RocksStorage.open(tmp_path / "copy", cache_bytes=CACHE_BYTES)
    found = again.load()
    await again.close()

    assert len(found.entries) >= flushed > 10
    assert found.recover_to == 0
