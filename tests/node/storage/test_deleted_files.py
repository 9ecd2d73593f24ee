"""Room of deleted files, given back piece by piece."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import trio

from hstore.node.storage import deleted_files
from hstore.node.storage.deleted_files import DeletedFiles
from hstore.node.storage.engine import Engine

_MIB = 1 << 20


@pytest.fixture
def deleted(tmp_path: Path) -> Iterator[DeletedFiles]:
    made = DeletedFiles(tmp_path)
    yield made
    made.close()


def _make(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    return path


@contextmanager
def _watched(path: Path) -> Iterator[Callable[[], int]]:
    """A way to ask for the size of a file that may be deleted by then."""
    file = os.open(path, os.O_RDONLY)
    try:
        yield lambda: os.fstat(file).st_size
    finally:
        os.close(file)


def _open_files() -> list[int]:
    """The inodes of what this process has open."""
    found = []
    for path in Path("/dev/fd").iterdir():
        with suppress(OSError):  # What the listing itself had open.
            found.append(os.fstat(int(path.name)).st_ino)
    return sorted(found)


@pytest.mark.parametrize("name", ["000007.log", "000007.sst"])
def test_what_is_deleted_is_freed_by_the_mib(tmp_path: Path, deleted: DeletedFiles, name: str):
    path = _make(tmp_path / name, 3 * _MIB + 5)
    deleted.look()
    inode = path.stat().st_ino
    with _watched(path) as size:
        path.unlink()
        assert size() == 3 * _MIB + 5
        deleted.look()
        sizes = []
        while deleted.give_back():
            sizes.append(size())
        # The last piece goes with the file, and would be seen here if nobody else held it.
        assert sizes == [2 * _MIB + 5, _MIB + 5, 5, 5]
    assert inode not in _open_files()


def test_what_is_not_deleted_keeps_every_byte(tmp_path: Path, deleted: DeletedFiles):
    path = tmp_path / "000007.log"
    path.write_bytes(b"x" * 2 * _MIB)
    for _ in range(3):
        deleted.look()
        assert not deleted.give_back()
    assert path.read_bytes() == b"x" * 2 * _MIB


def test_a_file_that_has_another_name_keeps_every_byte(tmp_path: Path, deleted: DeletedFiles):
    """As a database copied with links has it, or NFS, where the deletion is put off."""
    path = tmp_path / "000007.sst"
    path.write_bytes(b"x" * 2 * _MIB)
    deleted.look()
    copy = tmp_path / "copy"
    os.link(path, copy)
    path.unlink()
    deleted.look()
    assert not deleted.give_back()
    assert copy.read_bytes() == b"x" * 2 * _MIB


def test_other_files_are_left_alone(tmp_path: Path, deleted: DeletedFiles):
    path = _make(tmp_path / "MANIFEST-000007", 2 * _MIB)
    deleted.look()
    with _watched(path) as size:
        path.unlink()
        deleted.look()
        assert not deleted.give_back()
        assert size() == 2 * _MIB


def test_a_directory_of_many_files_has_its_newest_held(tmp_path: Path, deleted: DeletedFiles):
    """Else a large database would use up the descriptors that connections need."""
    before = len(_open_files())
    for number in range(999_900, 1_000_100):
        _make(tmp_path / f"{number:06}.sst", 2 * _MIB)
    deleted.look()
    assert len(_open_files()) == before + 64
    old, new = tmp_path / "999999.sst", tmp_path / "1000099.sst"
    with _watched(old) as old_size, _watched(new) as new_size:
        old.unlink()
        new.unlink()
        deleted.look()
        while deleted.give_back():
            pass
        assert (old_size(), new_size()) == (2 * _MIB, _MIB)


def test_files_are_let_go_as_newer_ones_come(tmp_path: Path, deleted: DeletedFiles):
    before = len(_open_files())
    for number in range(100):
        _make(tmp_path / f"{number:06}.sst", 1)
        deleted.look()
    assert len(_open_files()) == before + 64


def test_the_more_waits_the_more_is_freed_at_once(tmp_path: Path, deleted: DeletedFiles):
    """Else a node that writes faster than pieces go would fill its disk with what is deleted."""
    paths = [_make(tmp_path / f"{number:06}.sst", 256 * _MIB) for number in range(4)]
    deleted.look()
    with _watched(paths[0]) as size:
        for path in paths:
            path.unlink()
        deleted.look()
        assert deleted.give_back()
        assert size() == (256 - 16) * _MIB


def test_a_file_deleted_between_listing_and_opening_is_nobodys_error(
    tmp_path: Path, deleted: DeletedFiles, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Path, "iterdir", lambda path: iter([path / "000007.log"]))
    deleted.look()
    assert not deleted.give_back()


def test_a_directory_that_is_gone_does_not_end_the_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    looks = threading.Semaphore(0)
    deleted = DeletedFiles(tmp_path / "none")
    monkeypatch.setattr(deleted_files, "_AT_REST_S", 0.001)
    monkeypatch.setattr(deleted_files, "_BETWEEN_LOOKS_S", 0.02)
    look = deleted.look

    def looked() -> None:
        looks.release()
        look()

    monkeypatch.setattr(deleted, "look", looked)
    deleted.look_soon()
    for _ in range(3):
        assert looks.acquire(timeout=10)
    deleted.close()


async def test_closing_ends_the_thread_and_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """At once: a node that stops would else be as late as the next look."""
    monkeypatch.setattr(deleted_files, "_AT_REST_S", 1e6)
    await trio.to_thread.run_sync(_open_files)  # Which makes the thread that closes, below.
    before = _open_files()
    for number in range(3):
        _make(tmp_path / f"{number:06}.sst", 100 * _MIB)
    deleted = DeletedFiles(tmp_path)
    deleted.look()
    (tmp_path / "000001.sst").unlink()
    deleted.look()
    deleted.look_soon()
    for _ in range(2):
        with trio.fail_after(10):
            await trio.to_thread.run_sync(deleted.close, abandon_on_cancel=True)
    assert _open_files() == before
    assert not any(thread.name == "deleted-files" for thread in threading.enumerate())


async def test_the_log_files_of_a_database_are_freed_by_the_piece(tmp_path: Path):
    engine = Engine(tmp_path, 1 << 20)

    async def write() -> None:
        engine.write(lambda batch: batch.put(b"key", b"v" * _MIB))
        await engine.flush()

    try:
        await write()
        with _watched(min(tmp_path.glob("*.log"))) as size:  # noqa: ASYNC240 - a few names
            largest = 0
            with trio.fail_after(60):
                while size() >= largest:
                    largest = size()
                    await write()
    finally:
        await engine.close()
    assert largest > 8 * _MIB
