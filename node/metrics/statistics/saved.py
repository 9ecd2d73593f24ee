"""Files in which a node keeps what it would like to know after a restart, and can do without.

Owns their form: a line with kind and version, a checksum, the content. Another file replaces the old
one in one step, so a crash leaves the old one or the new one. Nothing here ends a node: what cannot
be read is put aside, and what cannot be written is warned of.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path

import structlog
import trio

from ...config import own_files
from ...config.log_limit import LogLimit

SAVE_S = 300.0
_LAST_SAVE_S = 1.0
"""For the last one at a stop, which must not wait for a disk that hangs."""

CONTENT_BYTES_MAX = 8 << 20
"""What is larger is not read."""

_DIGEST_BYTES = 32

_log = structlog.get_logger()


class Saved:
    """One such file: read once, then written every five minutes and at the end.

    Args:
        path: In the data directory.
        kind: What the content is, one word.
        version: Of its form.
        pack: Returns the content as of now.
        unpack: Takes the content of an earlier run; returns what is wrong with it, or nothing.
        has_room: Whether the disk has room for it: the last of it belongs to the database.
    """

    def __init__(
        self,
        path: Path,
        kind: str,
        version: int,
        *,
        pack: Callable[[], bytes],
        unpack: Callable[[bytes], str],
        has_room: Callable[[], bool] = lambda: True,
    ) -> None:
        self._path, self._kind, self._version = path, kind, version
        self._pack, self._unpack, self._has_room = pack, unpack, has_room
        self._log_limit = LogLimit()
        self._writer = trio.CapacityLimiter(1)  # also while a write that was given up goes on

    async def load(self) -> None:
        """Take what an earlier run has saved, if that can be used."""
        content = await trio.to_thread.run_sync(read, self._path, self._kind, self._version)
        if content is not None:
            fault = self._unpack(content)
            if fault:
                await trio.to_thread.run_sync(set_aside, self._path, fault)

    async def keep(self) -> None:
        """Save now and then until cancelled, and once more then, for which it waits a second at most."""
        try:
            while True:
                await trio.sleep(SAVE_S)
                await self._save()
        finally:
            with trio.move_on_after(_LAST_SAVE_S, shield=True):
                await self._save()

    async def _save(self) -> None:
        """Save all as of now. A disk that refuses is warned of: the node goes on."""
        if not self._has_room():
            return
        content = self._pack()
        try:
            await trio.to_thread.run_sync(
                write,
                self._path,
                self._kind,
                self._version,
                content,
                abandon_on_cancel=True,
                limiter=self._writer,
            )
        except OSError as error:
            if self._log_limit.is_due("unsaved"):
                _log.warning("figures cannot be saved", file=str(self._path), error=str(error))


def write(path: Path, kind: str, version: int, content: bytes) -> None:
    """Replace a file. It waits for the disk: call it in a thread.

    Args:
        path: In the data directory.
        kind: What the content is, one word.
        version: Of its form.
        content: At most `CONTENT_BYTES_MAX`.

    Raises:
        OSError: The disk refuses; the old file is as it was.
    """
    head = _head(kind, version)
    own_files.replace(path, head + _digest(head, content) + content, is_durable=True)


def read(path: Path, kind: str, version: int) -> bytes | None:
    """Return the content of a file; None: there is none that can be used.

    A file that is damaged, or of another kind or version, is put aside, with a warning.
    """
    try:
        whole = own_files.read_own(path, CONTENT_BYTES_MAX + 1024)
    except FileNotFoundError:
        return None
    except OSError as error:
        set_aside(path, str(error))
        return None
    head = _head(kind, version)
    start = len(head) + _DIGEST_BYTES
    if not whole.startswith(head):
        set_aside(path, f"it is no file of this version for {kind}")
    elif whole[len(head) : start] != _digest(head, whole[start:]):
        set_aside(path, "its checksum is wrong: it is damaged or cut short")
    else:
        return whole[start:]
    return None


def set_aside(path: Path, why: str) -> None:
    """Rename a file that cannot be used, so that it can be looked at; one that was there before goes."""
    aside = path.with_name(f"{path.name}.damaged")
    with contextlib.suppress(OSError):
        path.replace(aside)
    _log.warning(
        "a file of figures cannot be used: they begin anew",
        file=str(path),
        why=why,
        kept=str(aside),
    )


def _head(kind: str, version: int) -> bytes:
    return f"hstore {kind} {version}\n".encode()


def _digest(head: bytes, content: bytes) -> bytes:
    return hashlib.blake2b(head + content, digest_size=_DIGEST_BYTES).digest()
