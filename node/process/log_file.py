"""The log of a node in the background: a file in its data directory, of bounded size.

Standard output and standard error are led there, so that whatever a library writes, and the last
words of a node that fails, stand in the same place. When the file is full it becomes `hstore.log.1`
and the one before that is gone: twice `BYTES_MAX`, and what is written within one look. A file that
somebody has removed or renamed is begun anew; where that cannot be done, what is written to the old one
is thrown away when it is full, for it takes room on a disk where nobody sees it.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import trio

from ..config import own_files

NAME = "hstore.log"

BYTES_MAX = 16 << 20
"""Some weeks of a healthy node at the level `info`, and little beside its data."""

_LOOK_SECONDS = 10.0


def take_over(data_dir: Path) -> Path:
    """Lead standard output and standard error into the log of a data directory; return its path.

    Raises:
        OSError: It cannot be written, or it is not this user's alone.
    """
    own_files.make_directory(data_dir)
    file = data_dir / NAME
    _lead_into(file)
    return file


def _lead_into(file: Path) -> None:
    if file.exists() and file.stat().st_size >= BYTES_MAX:
        file.replace(file.with_name(f"{NAME}.1"))
    fd = own_files.open_own(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)


async def keep_bounded(file: Path) -> None:
    """See to the size of the log until cancelled. A disk that refuses is no reason to stop."""
    while True:
        await trio.sleep(_LOOK_SECONDS)
        _look_at(file)


def _look_at(file: Path) -> None:
    with contextlib.suppress(OSError):
        if not _is_in_its_place(file) or os.fstat(2).st_size >= BYTES_MAX:
            _lead_into(file)
    with contextlib.suppress(OSError):
        if os.fstat(2).st_size >= BYTES_MAX:
            os.ftruncate(2, 0)


def _is_in_its_place(file: Path) -> bool:
    try:
        return os.path.samestat(file.stat(), os.fstat(2))
    except FileNotFoundError:
        return False
