"""A node's data directory: its files, the node that owns it, and the lock against a second process.

Owns the files around the database, and knows nothing of what is in the database.

    <data dir>/lock             held by the running node; contains its process id
    <data dir>/db/              the database; readable by its owner only
    <data dir>/db/hstore.json   `Identity` and the format number
    <data dir>/db.new/          a database being made; what a crash left of one is deleted

A database is made under another name, completed, flushed, and renamed as the last step. So after a
crash at any moment it exists whole or not at all.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ..config import own_files
from ..errors import StorageError
from .interface import Identity, Room
from .recovery import RESET

# The format of directory, log and state that this version writes, and the newest that it reads. It reads
# all since 1, which has no sessions, checks, services and events: an older hstore that opened a directory
# with these would take one command that it does not know for damage, or read the catalog as absent.
FORMAT = 2

# Free space that clients' writes must leave to RocksDB for a WAL and the memtables, beside what its
# next compaction writes: the result exists beside what it replaces.
_RESERVE_BYTES = 256 << 20
# On a small file system the reserve is an eighth of it, but not less than what RocksDB needs at
# once for a full memtable (a table and the next WAL). With the compaction it is never more than half
# of the file system: what is used then fits twice.
_SWITCH_BYTES = 40 << 20
# However small the file system is: for the next WAL, of which RocksDB allocates a memtable and a tenth
# at once, while all memtables are written to tables and the former WALs are still there.
_NEXT_WAL_BYTES = 20 << 20

_IDENTITY_FILE = "hstore.json"


class _About(msgspec.Struct, omit_defaults=True):
    """`hstore.json`. Unknown fields of another version are ignored: `format` says what matters.

    `recovered_from` is the cluster that this directory belonged to before `hstore recover`.
    """

    format: int
    cluster_id: str = ""
    node_id: str = ""
    recovered_from: str = ""


def database_path(path: Path) -> Path:
    """Return the path of the database in a data directory."""
    return path / "db"


def has_data(path: Path) -> bool:
    """Return whether this directory has a node's data (then call `RocksStorage.open`)."""
    return database_path(path).exists()


def read_identity(path: Path) -> Identity:
    """Return which node owns a data directory. Works while that node is running.

    Raises:
        StorageError: There is no node's data, it is damaged, or a newer hstore wrote it.
    """
    about = _read_about(path)
    try:
        return Identity(about.cluster_id, int(about.node_id, 16))
    except ValueError as error:
        file = database_path(path) / _IDENTITY_FILE
        raise StorageError(f"{file} has no valid node id: {error}.\n{RESET}") from error


def recovered_from(path: Path) -> str:
    """Return the id of the cluster that a directory belonged to before `hstore recover`.

    Empty: it never belonged to another.

    Raises:
        StorageError: As `read_identity`.
    """
    return _read_about(path).recovered_from


def replace_identity(path: Path, identity: Identity, recovered_from: str) -> None:
    """Give a directory to another cluster; durable when this returns. A crash leaves old or new.

    Args:
        path: The data directory, whose lock the caller holds.
        identity: The cluster and node that own it from now on.
        recovered_from: The id of the cluster that it belonged to.

    Raises:
        StorageError: The disk refuses.
    """
    _replace(path, _About(FORMAT, identity.cluster_id, f"{identity.node_id:016x}", recovered_from))


def take_over(path: Path) -> None:
    """Note that this version writes a directory from now on, so that an older one refuses it.

    Durable when this returns. A crash leaves the old or the new format, which are both read.

    Args:
        path: The data directory, whose lock the caller holds.

    Raises:
        StorageError: As `replace_identity`.
    """
    about = _read_about(path)
    if about.format < FORMAT:
        _replace(path, msgspec.structs.replace(about, format=FORMAT))


def _replace(path: Path, about: _About) -> None:
    directory = database_path(path)
    new = directory / f"{_IDENTITY_FILE}.new"
    try:
        new.unlink(missing_ok=True)
        _write_durably(new, msgspec.json.encode(about))
        new.replace(directory / _IDENTITY_FILE)
        _sync_directory(directory)
    except OSError as error:
        raise StorageError(f"{directory / _IDENTITY_FILE} cannot be written: {error}") from error


def _read_about(path: Path) -> _About:
    file = database_path(path) / _IDENTITY_FILE
    try:
        about = msgspec.json.decode(file.read_bytes(), type=_About)
    except FileNotFoundError as error:
        what_then = f".\n{RESET}" if has_data(path) else ""
        raise StorageError(f"{path} holds no hstore node: {file} is missing{what_then}") from error
    except (OSError, UnicodeDecodeError, msgspec.MsgspecError) as error:
        raise StorageError(f"{file} cannot be read: {error}.\n{RESET}") from error
    if about.format > FORMAT:
        raise StorageError(
            f"{path} was written by a newer hstore (format {about.format}, this version reads up"
            f" to {FORMAT}): upgrade hstore, or use another --data-dir"
        )
    return about


def check_cluster(path: Path, identity: Identity, expected: str) -> None:
    """Refuse a directory of another cluster.

    Raises:
        StorageError: `identity` is not of the cluster `expected`.
    """
    if identity.cluster_id != expected:
        raise StorageError(
            f"{path} belongs to the cluster {identity.cluster_id}, not to {expected}: `hstore join` "
            "with an empty --data-dir makes a new member; `hstore start` starts the node whose "
            "directory this is"
        )


@contextlib.contextmanager
def making(path: Path, identity: Identity) -> Iterator[Path]:
    """Make a database directory: the body fills the one it is given, which then gets its name.

    Raises:
        StorageError: The directory has a database already, or the disk refuses.
    """
    new = path / "db.new"
    try:
        if has_data(path):
            raise StorageError(f"{path} holds a node already")
        if new.exists():
            shutil.rmtree(new)
        new.mkdir(mode=0o700)
        yield new
        # Order: content, then the names in it, then its own name, then the name in the parent. A
        # rename can reach the disk before the files if they are not synced first (ALICE, OSDI'14).
        _write_durably(new / _IDENTITY_FILE, encode_identity(identity))
        _sync_directory(new)
        new.rename(database_path(path))
        _sync_directory(path)
    except OSError as error:
        raise StorageError(f"{path} cannot be used as a data directory: {error}") from error


def remove_data(path: Path) -> None:
    """Undo `making` for a node that no other knows; everything else in `path` is left alone.

    Raises:
        StorageError: A process uses the directory, or the disk refuses.
    """
    lock = DirectoryLock(path)
    try:
        # First renamed to `db.new`: a crash in between leaves no half a node.
        new = path / "db.new"
        database_path(path).rename(new)
        shutil.rmtree(new)
    except OSError as error:
        raise StorageError(f"{path} cannot be cleared: {error}") from error
    finally:
        lock.release()


def room(path: Path, compaction_bytes: int = 0, memtable_bytes: int = 0) -> Room:
    """Return how much room there is, and how much hstore needs.

    Args:
        path: The data directory.
        compaction_bytes: What the next compaction may write before it deletes anything.
        memtable_bytes: What is in memtables, and will be written to tables.

    Raises:
        StorageError: The file system does not answer.
    """
    try:
        system = os.statvfs(path)
    except OSError as error:
        raise StorageError(f"{path} cannot be asked for its free space: {error}") from error
    total, free = (blocks * system.f_frsize for blocks in (system.f_blocks, system.f_bavail))
    reserve = min(_RESERVE_BYTES, max(total // 8, min(_SWITCH_BYTES, total // 2)))
    needed = min(reserve + compaction_bytes, total // 2)
    if memtable_bytes:
        needed = max(needed, memtable_bytes + _NEXT_WAL_BYTES)
    return Room(free, needed, str(path))


def encode_identity(identity: Identity) -> bytes:
    """Return the content of `hstore.json`."""
    return msgspec.json.encode(_About(FORMAT, identity.cluster_id, f"{identity.node_id:016x}"))


def is_record_of(identity: Identity, record: bytes | None) -> bool:
    """Whether the record in a database is of this node, by whatever version it was written.

    The record keeps the format of its first day; that of `hstore.json` counts.
    """
    try:
        about = msgspec.json.decode(record or b"", type=_About)
    except (UnicodeDecodeError, msgspec.MsgspecError):
        return False
    return record == msgspec.json.encode(
        _About(about.format, identity.cluster_id, f"{identity.node_id:016x}")
    )


class DirectoryLock:
    """Holds a data directory for this process until `release`, or until the process ends.

    RocksDB has a lock of its own inside `db/`. This one also covers the making of a directory, and
    can say which process holds it.

    Raises:
        StorageError: Another process, or this one, holds it already; or it is not this user's alone.
    """

    def __init__(self, path: Path) -> None:
        self._fd = -1
        try:
            own_files.make_directory(path)
            self._fd = own_files.open_own(path / "lock", os.O_RDWR | os.O_CREAT)
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
        """Release the directory. Idempotent."""
        # The file stays: if it were removed, a process that had opened it before would lock a file
        # without a name, and a third one a new file, so both would hold "the" lock.
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _write_durably(file: Path, content: bytes) -> None:
    with file.open("xb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())


def _sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    # fsync(2): "Calling fsync() does not necessarily ensure that the entry in the directory
    # containing the file has also reached disk. For that an explicit fsync() on a file descriptor
    # for the directory is also needed."
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
