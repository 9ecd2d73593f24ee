"""What an iterator yields, taken by a thread, so that a program can wait for it and for keys at once.

Owns that thread and its end. What the iterator yields and what is done with it is not known here.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from typing import TYPE_CHECKING, Generic, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

T = TypeVar("T")

_KEPT_MAX = 64
"""Further items wait in the iterator's source: here a node's stream, which the node may cut off."""

_LOOK_S = 0.2
"""How often the thread looks whether it shall end, while nobody takes what it has."""


class _Over(Exception):
    """The iterator has ended."""


class Feed(Generic[T]):
    """The items of an iterator. Closes: the thread, which ends with the next item, at the end of `with`.

    Args:
        items: Iterated by the thread only, and closed by it if it has `close`.
    """

    def __init__(self, items: Iterable[T]) -> None:
        self._items = items
        self._queue: queue.Queue[T | BaseException] = queue.Queue(_KEPT_MAX)
        self._error: BaseException | None = None
        self._is_closed = threading.Event()
        self._readable, self._writable = os.pipe()
        os.set_blocking(self._readable, False)
        os.set_blocking(self._writable, False)

    def __enter__(self) -> Self:
        """Start the thread."""
        # A daemon: it may wait for a node that hangs, and must not keep the process alive.
        threading.Thread(target=self._run, name="feed", daemon=True).start()  # noqa: TID251
        return self

    def __exit__(self, *_error: object) -> None:
        """Have the thread end; do not wait for that."""
        self._is_closed.set()
        os.close(self._readable)

    def fileno(self) -> int:
        """Return a descriptor that is readable when `take` has something."""
        return self._readable

    def take(self) -> tuple[list[T], bool]:
        """Return the items that came since the last call, and whether they were the last.

        Raises:
            BaseException: What the iterator raised, once all items before it are taken.
        """
        if self._error is not None:
            raise self._error
        with contextlib.suppress(BlockingIOError):
            os.read(self._readable, 4096)
        taken: list[T] = []
        while True:
            try:
                one = self._queue.get_nowait()
            except queue.Empty:
                return taken, False
            if isinstance(one, _Over):
                return taken, True
            if isinstance(one, BaseException):
                self._error = one
                return taken, False
            taken.append(one)

    def _run(self) -> None:
        try:
            for one in self._items:
                if not self._put(one):
                    break
            self._put(_Over())
        except BaseException as error:  # noqa: BLE001  # it is raised where the items are taken
            self._put(error)
        finally:
            if hasattr(self._items, "close"):
                self._items.close()
            os.close(self._writable)

    def _put(self, one: T | BaseException) -> bool:
        while not self._is_closed.is_set():
            try:
                self._queue.put(one, timeout=_LOOK_S)
            except queue.Full:
                continue
            self._wake()
            return True
        return False

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # full, or closed: the other side looks, or is gone
            os.write(self._writable, b"\0")
