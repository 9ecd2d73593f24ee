"""Files and directories of this user alone: they are made so, and others are refused.

A data directory, a log or a run record in a place where others may write could be a link that another
user put there, and what a node writes would go where that link leads. So a directory has to belong to
this user, and no other may write into it; a file is opened without following a link at its name.

A link to a directory is followed if the owner of the link is this user, root, or the owner of the
directory (a home on another disk is often a link). Root may use a directory of any user: a service
may be started by root, and have a directory of another user.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_ROOT = 0


class NotOursError(PermissionError):
    """A file or directory that belongs to another user, or that others may change.

    `strerror` says how to mend it.
    """

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(errno.EPERM, f"{path} {problem}", str(path))

    def __str__(self) -> str:
        """Return what is wrong, without a number."""
        return self.strerror or ""


def make_directory(path: Path) -> None:
    """Make a directory for this user alone, if there is none; else check the one that is there.

    An empty one of this user is made so: with the umask 002, which many systems give to users, what
    `mkdir` makes can be written by a group. PostgreSQL's initdb does likewise.

    Raises:
        NotOursError: It is not this user's alone.
        OSError: It cannot be made.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:
        raise NotOursError(path, "is no directory") from None
    _check_owner(path)
    _close_if_empty(path)
    check_directory(path)


def check_directory(path: Path) -> None:
    """Do nothing where a directory is this user's alone.

    Raises:
        NotOursError: It is not.
        OSError: There is none.
    """
    _check_owner(path)
    if path.stat().st_mode & _OTHERS_WRITE:
        raise NotOursError(path, f"can be written by other users: `chmod go-w {path}`")


def _close_if_empty(path: Path) -> None:
    """Take the right to write into an empty directory of this user from everybody else.

    Not where only the owner of a file may remove it (the sticky bit): that is shared on purpose.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        there = os.fstat(fd)
        mode = stat.S_IMODE(there.st_mode)
        is_shared = mode & _OTHERS_WRITE and not mode & stat.S_ISVTX
        if is_shared and there.st_uid == os.geteuid() and not _names_in(fd):
            os.fchmod(fd, mode & ~_OTHERS_WRITE)
            if _names_in(fd):
                # Somebody was quicker. What they have put there must not pass for the user's own.
                os.fchmod(fd, mode)
    finally:
        os.close(fd)


def _names_in(directory: int) -> list[str]:
    return os.listdir(directory)


def _check_owner(path: Path) -> None:
    user, there, name = os.geteuid(), path.stat(), path.lstat()
    if stat.S_ISLNK(name.st_mode) and name.st_uid not in {user, _ROOT, there.st_uid}:
        raise NotOursError(path, f"is a link that user {name.st_uid} has made: remove it")
    if user not in {there.st_uid, _ROOT}:
        raise NotOursError(
            path,
            f"belongs to user {there.st_uid}, and this is user {user}: chown it, or use another",
        )


def open_own(path: Path, flags: int) -> int:
    """Open a file of this user, made with mode 0600 if `flags` has O_CREAT; return the descriptor.

    Args:
        path: In a directory that was checked.
        flags: As of `os.open`, without O_TRUNC: nothing is changed before the file is checked.

    Raises:
        NotOursError: It is a link, no regular file, or not this user's alone.
        OSError: It cannot be opened.
    """
    try:
        # O_NONBLOCK: a pipe at this name must not be waited for. It changes nothing for a file.
        fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if path.is_symlink():
            raise NotOursError(path, "is a link, which is not followed: remove it") from error
        raise
    try:
        _check_file(path, os.fstat(fd))
    except BaseException:
        os.close(fd)
        raise
    return fd


def read_own(path: Path, most: int) -> bytes:
    """Return up to `most` bytes of a file that is this user's alone.

    Raises:
        NotOursError: It is a link, no regular file, or another user's, also where this user is root.
        OSError: It cannot be read.
    """
    fd = open_own(path, os.O_RDONLY)
    with os.fdopen(fd, "rb") as file:
        owner = os.fstat(fd).st_uid
        if owner != os.geteuid():
            raise NotOursError(path, f"belongs to user {owner}")
        return file.read(most)


def replace(path: Path, content: bytes, *, is_durable: bool = False) -> None:
    """Put a file of mode 0600 in the place of another; a reader sees one or the other.

    Args:
        path: In a directory that was checked; one process at a time does this.
        content: All of it.
        is_durable: It is on the disk before it takes its name.

    Raises:
        OSError: It cannot be written.
    """
    new = path.with_name(f"{path.name}.new")
    with contextlib.suppress(FileNotFoundError):
        new.unlink()  # left by a crash, or a link, of which this removes the link and not its target
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        file.flush()
        if is_durable:
            os.fsync(fd)
    new.replace(path)


def _check_file(path: Path, file: os.stat_result) -> None:
    user = os.geteuid()
    if not stat.S_ISREG(file.st_mode):
        raise NotOursError(path, "is no regular file: remove it")
    owners = {user}
    if user == _ROOT:
        # In a directory of another user there are that user's files. One of root's is there by a
        # second name that this user has given it, or root's node has made it.
        owners.add(path.parent.stat().st_uid)
        if file.st_uid == _ROOT and file.st_nlink > 1 and owners != {_ROOT}:
            raise NotOursError(path, "is a file of root with another name: remove it here")
    if file.st_uid not in owners:
        raise NotOursError(path, f"belongs to user {file.st_uid}, and this is user {user}")
    if file.st_mode & _OTHERS_WRITE:
        raise NotOursError(path, f"can be written by other users: `chmod go-w {path}`")
