"""The waits of a node: each is about one key or one prefix, and is called after its next change.

A wait is called once, and reads nothing: a blocking read looks at the state by itself then.

Owns which waits a change ends. When they are called, `watches.py` decides, as for the watches.

Waits for one key are found by the key itself, waits for a prefix by the beginnings of the key that
changed. A recursive deletion raises the index of every key and of every prefix under it, of those that
are not there, too: the waits for them are found in a sorted list of what is waited for.
"""

from __future__ import annotations

from collections.abc import Callable

from .by_prefix import ByPrefix, SortedNames
from .changes import Change, FirstOfTree


class Wait:
    """A wait for the next change of one key, or of any under a prefix. Made by `Watches.once`.

    Attributes:
        is_prefix: It is for any key that starts with its own.
        is_due: The change has come; it is called soon.
    """

    __slots__ = ("_call", "_key", "_waits", "is_due", "is_prefix")

    def __init__(
        self, waits: Waits, key: bytes, call: Callable[[], None], *, is_prefix: bool
    ) -> None:
        self._waits = waits
        self._key = key
        self._call: Callable[[], None] | None = call
        self.is_prefix = is_prefix
        self.is_due = False

    def give_up(self) -> None:
        """Wait no longer: it is not called any more. Idempotent."""
        if self._call is not None:
            self._call = None
            self._waits.remove(self, self._key)

    def end(self) -> None:
        """Call, unless it was given up meanwhile."""
        call, self._call = self._call, None
        if call is not None:
            call()


class Waits:
    """The waits for changes of one table, each for one change."""

    def __init__(self) -> None:
        self._by_key: dict[bytes, dict[Wait, None]] = {}
        self._keys = SortedNames()
        self._by_prefix: ByPrefix[Wait] = ByPrefix()

    def add(self, wait: Wait, key: bytes) -> None:
        """Add a wait for this key, or for this prefix where it is for one."""
        if wait.is_prefix:
            self._by_prefix.add(key, wait)
            return
        same = self._by_key.get(key)
        if same is None:
            same = self._by_key[key] = {}
            self._keys.add(key)
        same[wait] = None

    def remove(self, wait: Wait, key: bytes) -> None:
        """Remove a wait; also one that is not here any more."""
        if wait.is_prefix:
            self._by_prefix.remove(key, wait)
            return
        same = self._by_key.get(key)
        if same is None:
            return
        same.pop(wait, None)
        if not same:
            del self._by_key[key]
            self._keys.remove(key)

    def take_key(self, key: bytes) -> list[Wait]:
        """Remove and return those that a change of this key is for."""
        taken: list[Wait] = []
        same = self._by_key.pop(key, None)
        if same is not None:
            taken += same
            self._keys.remove(key)
        if self._by_prefix:
            taken += self._by_prefix.take(key)
        return taken

    def take(self, change: Change) -> list[Wait]:
        """Remove and return those that this change is for."""
        key = change.key
        taken = self.take_key(key)
        if type(change) is not Change:
            prefix = change.prefix if isinstance(change, FirstOfTree) else key
            taken += self._by_prefix.take(prefix)
            taken += self._by_prefix.take_under(prefix)
            for longer in self._keys.take_under(prefix):
                taken += self._by_key.pop(longer)
        return taken

    def take_all(self) -> list[Wait]:
        """Remove and return all."""
        taken = [wait for same in self._by_key.values() for wait in same]
        taken += self._by_prefix
        self._by_key, self._keys, self._by_prefix = {}, SortedNames(), ByPrefix()
        return taken
