"""A node's data directory: what lies where, who it belongs to, and that one process has it.

Owns the files around the database. What is in the database is not known here.

    <data dir>/lock             held by the running node; its process id is written in it
    <data dir>/db/              the database; readable by its owner only
    <data dir>/db/hstore.json   `Identity` and the format number
    <data dir>/db.new/          a directory in the making; whatever is left of one is thrown away

A directory is made under another name, complete and flushed, and renamed as the last step. So it
exists entirely or not at all, wherever a crash fell.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ..errors import StorageError
from .interface import Identity

FORMAT = 1
"""The layout of directory, log and state that this version writes, and the newest it reads."""

_RESERVE_BYTES = 256 << 20
_SWITCH_BYTES = 40 << 20
"""Kept free of clients' writes: a WAL, the memtables and a compaction beside what they replace.
On a small file system an eighth, but what RocksDB takes at once for a full memtable, which is a
table and the room of the next WAL, or half of all where there is not even twice that."""

_IDENTITY_FILE = "hstore.json"


class _About(msgspec.Struct):
    """`hstore.json`. What another version adds is not looked at: `format` says whether it matters."""

    format: int
    cluster_id: str = ""
    node_id: str = ""


def database_path(path: Path) -> Path:
    """Return where the database of a data directory is."""
    return path / "db"


def has_data(path: Path) -> bool:
    """Return whether a node lives in this directory (and `RocksStorage.open` is to be called)."""
    return database_path(path).exists()


def read_identity(path: Path) -> Identity:
    """Return whom a data directory belongs to; also while a node is running in it.

    Raises:
        StorageError: There is no node's data, it is damaged, or a newer hstore wrote it.
    """
    file = database_path(path) / _IDENTITY_FILE
    try:
        about = msgspec.json.decode(file.read_bytes(), type=_About)
    except FileNotFoundError as error:
        raise StorageError(f"{path} holds no hstore node: {file} is missing") from error
    except (OSError, msgspec.DecodeError) as error:
        raise StorageError(f"{file} cannot be read: {error}") from error
    if about.format > FORMAT:
        raise StorageError(
            f"{path} was written by a newer hstore (format {about.format}, this version reads up"
            f" to {FORMAT}): upgrade hstore, or use another --data-dir"
        )
    try:
        return Identity(about.cluster_id, int(about.node_id, 16))
    except ValueError as error:
        raise StorageError(f"{file} has no valid node id: {error}") from error


def check_cluster(path: Path, identity: Identity, expected: str) -> None:
    """Refuse a directory of another cluster.

    Raises:
        StorageError: `identity` is not of the cluster `expected`.
    """
    if identity.cluster_id != expected:
        raise StorageError(
            f"{path} belongs to the cluster {identity.cluster_id}, not to {expected}: use another"
            " --data-dir, or an address of its own cluster"
        )


@contextlib.contextmanager
def making(path: Path, identity: Identity) -> Iterator[Path]:
    """Make a database directory: the body fills the given one, then it is there as a whole.

    Raises:
        StorageError: There is one already, or the disk refuses.
    """
    new = path / "db.new"
    try:
        if has_data(path):
            raise StorageError(f"{path} holds a node already")
        if new.exists():
            shutil.rmtree(new)
        new.mkdir(mode=0o700)
        yield new
        _write_durably(new / _IDENTITY_FILE, encode_identity(identity))
        _sync_directory(new)
        new.rename(database_path(path))
        _sync_directory(path)
    except OSError as error:
        raise StorageError(f"{path} cannot be used as a data directory: {error}") from error


def remove_data(path: Path) -> None:
    """Undo `making` for a node that nobody knows; whatever else lies in `path` is left alone.

    Raises:
        StorageError: A process has the directory, or the disk refuses.
    """
    lock = DirectoryLock(path)
    try:
        # Under the name of one in the making first: a crash in between leaves no half a node.
        new = path / "db.new"
        database_path(path).rename(new)
        shutil.rmtree(new)
    except OSError as error:
        raise StorageError(f"{path} cannot be cleared: {error}") from error
    finally:
        lock.release()


def shortage(path: Path) -> str:
    """Return why no new write should be taken, for lack of room; empty: there is room.

    Raises:
        StorageError: The file system does not answer.
    """
    try:
        system = os.statvfs(path)
    except OSError as error:
        raise StorageError(f"{path} cannot be asked for its free space: {error}") from error
    total, free = (blocks * system.f_frsize for blocks in (system.f_blocks, system.f_bavail))
    reserve = min(_RESERVE_BYTES, max(total // 8, min(_SWITCH_BYTES, total // 2)))
    if free >= reserve:
        return ""
    return (
        f"the disk of {path} has {free >> 20} MiB left, less than the {reserve >> 20} MiB that"
        " hstore keeps for itself"
    )


def encode_identity(identity: Identity) -> bytes:
    """Return the content of `hstore.json`."""
    return msgspec.json.encode(_About(FORMAT, identity.cluster_id, f"{identity.node_id:016x}"))


class DirectoryLock:
    """Holds a data directory for this process until `release`, or until the process ends.

    RocksDB has a lock of its own inside `db/`; this one covers the making too, and it can say
    which process has it.

    Raises:
        StorageError: Another process, or this one, has it already.
    """

    def __init__(self, path: Path) -> None:
        self._fd = -1
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._fd = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, str(os.getpid()).encode(), 0)
        except BlockingIOError as error:
            owner = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip()
            self.release()
            by = f"process {owner}" if owner else "another process"
            raise StorageError(
                f"{path} is in use by {by}: stop that node, or use another --data-dir"
            ) from error
        except OSError as error:
            self.release()
            raise StorageError(f"{path} cannot be used as a data directory: {error}") from error

    def release(self) -> None:
        """Let go of the directory. Idempotent. The file stays: removing it would be a race."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _write_durably(file: Path, content: bytes) -> None:
    with file.open("xb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())


def _sync_directory(path: Path) -> None:
    """Make names in a directory durable: fsync(2) says that syncing the file does not."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
