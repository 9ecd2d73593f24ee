"""Room of deleted files, given back piece by piece."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import trio
import trio.testing

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
    _make(tmp_path / "000009.log", 1)
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
    monkeypatch.setattr(os, "listdir", lambda _: ["000007.log"])
    deleted.look()
    assert not deleted.give_back()


def test_a_directory_that_is_gone_does_not_end_the_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    looks = threading.Semaphore(0)
    deleted = DeletedFiles(tmp_path / "none")
    monkeypatch.setattr(deleted_files, "_AT_REST_S", 0.001)
    monkeypatch.setattr(deleted_files, "_BETWEEN_LOOKS_S", 0.001)
    look = deleted.look

    def looked() -> None:
        looks.release()
        look()

    monkeypatch.setattr(deleted, "look", looked)
    deleted.look_soon()
    for _ in range(3):
        assert looks.acquire(timeout=10)
    deleted.close()


def test_a_file_system_that_knows_nothing_of_deleted_files_has_none_left_open(
    tmp_path: Path, deleted: DeletedFiles, monkeypatch: pytest.MonkeyPatch
):
    """As QEMU's 9p: each deleted file would else keep its room until the node ends."""
    path = _make(tmp_path / "000007.sst", 2 * _MIB)
    inode = path.stat().st_ino
    deleted.look()
    assert inode in _open_files()
    path.unlink()

    def fail(_: int) -> os.stat_result:
        raise FileNotFoundError

    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", fail)
        deleted.look()
    assert inode not in _open_files()


def test_a_file_that_cannot_be_shortened_is_freed_whole(
    tmp_path: Path, deleted: DeletedFiles, monkeypatch: pytest.MonkeyPatch
):
    path = _make(tmp_path / "000007.sst", 5 * _MIB)
    inode = path.stat().st_ino
    deleted.look()
    path.unlink()
    deleted.look()

    def fail(_: int, __: int) -> None:
        raise OSError("the file system is read-only")

    monkeypatch.setattr(os, "ftruncate", fail)
    assert deleted.give_back()
    assert inode not in _open_files()
    assert not deleted.give_back()


def test_where_room_is_scarce_nothing_is_held(
    tmp_path: Path, deleted: DeletedFiles, monkeypatch: pytest.MonkeyPatch
):
    """Else a node would refuse writes for lack of room that it has itself."""
    kept, gone = (_make(tmp_path / f"{number:06}.log", 5 * _MIB) for number in (7, 6))
    inodes = {kept.stat().st_ino, gone.stat().st_ino}
    deleted.look()
    gone.unlink()
    deleted.look()
    assert inodes <= set(_open_files())
    room = list(os.statvfs(tmp_path))
    room[4] = (1 << 30) // room[1] - 1  # `f_bavail`, in units of `f_frsize`
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(room))
    deleted.look()
    assert inodes.isdisjoint(_open_files())
    assert kept.stat().st_size == 5 * _MIB


@pytest.mark.parametrize("left", [[], ["000008.log"]])
def test_what_somebody_else_deletes_keeps_every_byte(
    tmp_path: Path, deleted: DeletedFiles, left: list[str]
):
    """RocksDB still reads and writes it, and never deletes the newest log itself."""
    log, table = _make(tmp_path / "000009.log", 5 * _MIB), _make(tmp_path / "000007.sst", 5 * _MIB)
    deleted.look()
    with _watched(log) as log_size, _watched(table) as table_size:
        log.unlink()
        table.unlink()
        for name in left:
            _make(tmp_path / name, 5)
        for _ in range(3):
            deleted.look()
            assert not deleted.give_back()
        assert (log_size(), table_size()) == (5 * _MIB, 5 * _MIB)
    assert deleted._ended.is_set()  # What else is deleted so keeps its bytes as well.


def test_no_more_deleted_files_wait_than_are_held(tmp_path: Path, deleted: DeletedFiles):
    before = len(_open_files())
    for start in (0, 64, 128):
        paths = [_make(tmp_path / f"{number:06}.sst", 1) for number in range(start, start + 64)]
        deleted.look()
        for path in paths:
            path.unlink()
        deleted.look()
    assert len(_open_files()) == before + 64


def test_a_flush_does_not_fail_where_no_thread_can_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(_: object) -> None:
        raise RuntimeError("can't start new thread")

    deleted = DeletedFiles(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("threading.Thread.start", fail)
        deleted.look_soon()
    deleted.close()


@pytest.mark.parametrize("what", ["rests", "frees"])
async def test_closing_ends_the_thread_at_once_and_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
):
    """A node that stops would else be as late as the next look, or as all that waits."""
    monkeypatch.setattr(deleted_files, "_AT_REST_S", 1e6)
    monkeypatch.setattr(deleted_files, "_BETWEEN_LOOKS_S", 0.001)
    await trio.to_thread.run_sync(_open_files)  # Which makes the thread that closes, below.
    before = _open_files()
    deleted = DeletedFiles(tmp_path)
    _make(tmp_path / "000002.sst", _MIB)
    if what == "frees":
        monkeypatch.setattr(deleted_files, "_PAUSE_S", 1e6)
        _make(tmp_path / "000001.sst", 100 * _MIB)
        deleted.look()
        (tmp_path / "000001.sst").unlink()
        deleted.look()
    waits = threading.Semaphore(0)
    event = deleted._ended if what == "frees" else deleted._written
    wait = event.wait

    def waiting(timeout: float) -> bool:
        if timeout == 1e6:
            waits.release()
        return wait(timeout)

    monkeypatch.setattr(event, "wait", waiting)
    deleted.look_soon()
    for _ in range(2 if what == "rests" else 1):
        assert await trio.to_thread.run_sync(lambda: waits.acquire(timeout=10))
    with trio.fail_after(10):
        await trio.to_thread.run_sync(deleted.close, abandon_on_cancel=True)
    assert _open_files() == before
    assert deleted._thread is not None
    assert not deleted._thread.is_alive()


def test_closing_twice_closes_nothing_of_others(tmp_path: Path, deleted: DeletedFiles):
    for number in range(2):
        _make(tmp_path / f"{number:06}.sst", 2 * _MIB)
    deleted.look()
    (tmp_path / "000001.sst").unlink()
    deleted.look()
    before = _open_files()
    deleted.close()
    others = [os.open(tmp_path / "000000.sst", os.O_RDONLY) for _ in range(2)]
    deleted.close()
    for other in others:
        os.close(other)  # Raises where it is closed.
    assert len(_open_files()) == len(before) - 2


async def test_closing_waits_for_what_the_thread_is_doing(
    tmp_path: Path, deleted: DeletedFiles, monkeypatch: pytest.MonkeyPatch
):
    """Else it would close descriptors that are being used, and perhaps are others' by then."""
    monkeypatch.setattr(deleted_files, "_BETWEEN_LOOKS_S", 0.001)
    begun, gate = threading.Semaphore(0), threading.Semaphore(0)

    def look() -> None:
        begun.release()
        gate.acquire(timeout=10)

    monkeypatch.setattr(deleted, "look", look)
    deleted.look_soon()
    assert await trio.to_thread.run_sync(lambda: begun.acquire(timeout=10))
    closed = trio.Event()

    async def close() -> None:
        await trio.to_thread.run_sync(deleted.close)
        closed.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(close)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert not closed.is_set()
        gate.release()


def test_all_is_given_back_without_another_write(
    tmp_path: Path, deleted: DeletedFiles, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(deleted_files, "_AT_REST_S", 1e6)
    monkeypatch.setattr(deleted_files, "_BETWEEN_LOOKS_S", 0.001)
    monkeypatch.setattr(deleted_files, "_PAUSE_S", 0.001)
    path = _make(tmp_path / "000001.sst", 60 * _MIB)
    deleted.look()
    path.unlink()
    pieces = threading.Semaphore(0)
    give_back = deleted.give_back

    def given_back() -> bool:
        if not give_back():
            return False
        pieces.release()
        return True

    monkeypatch.setattr(deleted, "give_back", given_back)
    deleted.look_soon()
    for _ in range(60):
        assert pieces.acquire(timeout=10)


async def test_the_log_files_of_a_database_are_freed_by_the_piece(tmp_path: Path):
    engine = Engine(tmp_path, 1 << 20)
    threads = set(threading.enumerate())
    try:
        engine.write(lambda batch: batch.put(b"key", b"v" * _MIB))
        engine._deleted.look()  # Before the thread begins to.
        with _watched(min(tmp_path.glob("*.log"))) as size:  # noqa: ASYNC240 - a few names
            largest = 0
            with trio.fail_after(60):
                while size() >= largest:
                    largest = size()
                    engine.write(lambda batch: batch.put(b"key", b"v" * _MIB))
                    await engine.flush()
    finally:
        await engine.close()
    assert largest > 8 * _MIB
    left = {thread.name for thread in threading.enumerate() if thread not in threads}
    assert "deleted-files" not in left
