"""How many keys users have, exactly: counted once when a state is loaded, then kept as keys come and go.

This is for people (metrics, statistics, the dashboard), and no command depends on it. So it is no part
of the replicated state: each node counts its own copy, and no record, snapshot or older version has to
know of it. RocksDB has an estimate only, which counts a key again for each time it was written lately.

Theory of operation: a batch sums up what its entries have added and removed. Two events leave no sum:
another state was loaded, and a prefix with more keys than may be read in one turn was deleted. After
either, the keys are counted in a view of that moment. The first are counted at once, so that a small
state is never without its number; the rest in slices, with pauses in which the node does all else
(`driver/key_counting.py`). What is applied meanwhile is added as ever, since the view does not show it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ...storage.interface import StateReader
from ..records import USER, USER_END

AT_ONCE_PAIRS = 4096
"""Some 4 ms."""

_BYTES = 512 * 1024
"""Of keys and values, after which a slice ends: reading takes as long as they are."""


class KeyCount:
    """The number of keys in one state.

    Attributes:
        on_begin: Called when keys are left to be counted by `step`.
    """

    def __init__(self) -> None:
        self._number = 0
        self._view: StateReader | None = None
        self._left: Iterator[tuple[bytes, bytes]] | None = None
        self.on_begin: Callable[[], None] = lambda: None

    @property
    def number(self) -> int | None:
        """How many keys there are now; None: they are being counted."""
        return self._number if self._left is None else None

    def add(self, more: int) -> None:
        """Note that there are so many more keys than before; fewer, if it is negative."""
        self._number += more

    def begin(self, view: StateReader) -> None:
        """Count anew; at once, if there are few.

        Args:
            view: Of the state as of now; closed here.

        Raises:
            StorageError: It cannot be read.
        """
        self.end()
        self._number, self._view = 0, view
        self._left = view.scan(USER, USER_END)
        if self.step(AT_ONCE_PAIRS):
            self.on_begin()

    def step(self, pairs: int) -> bool:
        """Count some more keys, `pairs` at most; return whether there may be more to be counted.

        Raises:
            StorageError: The state cannot be read.
        """
        if self._left is None:
            return False
        size = 0
        for _ in range(pairs):
            pair = next(self._left, None)
            if pair is None:
                self.end()
                return False
            self._number += 1
            size += len(pair[0]) + len(pair[1])
            if size > _BYTES:
                break
        return True

    def end(self) -> None:
        """Close the view, and count no more."""
        self._left = None
        if self._view is not None:
            self._view.close()
            self._view = None
