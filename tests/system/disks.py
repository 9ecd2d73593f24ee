"""Disks that are small, that fill, and that lose what they had flushed.

It takes root to mount one, or to be it inside `unshare -rm`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .cluster import Node


class CannotMount(Exception):
    """There can be no disk of its own here; the text says why."""


@contextmanager
def small_disk(folder: Path, size: int | str) -> Iterator[Path]:
    """Make a folder on a file system of its own, of so many bytes, for the time of `with`.

    Raises:
        CannotMount: This machine does not let us.
    """
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if os.geteuid() != 0:
        raise CannotMount("needs root, to mount a small disk; `unshare -rm` is enough")
    if mount is None or umount is None:
        raise CannotMount("needs the programs `mount` and `umount`, to mount a small disk")
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    done = subprocess.run([mount, *options], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CannotMount(f"a disk cannot be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        # Lazily: whoever still has a file open there does not keep it in the way.
        subprocess.run([umount, "--lazy", str(folder)], check=True)


def fill(disk: Path, left_bytes: int) -> Path:
    """Leave so much room on a disk; return the file that takes the rest."""
    filler = disk / "filler"
    with filler.open("wb") as file:
        room = os.statvfs(disk)  # an earlier filler is empty now
        taken = room.f_bavail * room.f_frsize - left_bytes
        if taken > 0:
            os.posix_fallocate(file.fileno(), 0, taken)
    return filler


def lose_the_end_of_the_log(node: Node, size: int) -> None:
    """Take bytes off the newest write-ahead log, as a disk does that lost what it had flushed."""
    logs = sorted((node.directory / "db").glob("*.log"))
    newest = next(path for path in reversed(logs) if path.stat().st_size)
    os.truncate(newest, newest.stat().st_size - size)
