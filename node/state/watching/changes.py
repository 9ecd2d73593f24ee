"""The history: the latest changes of the state, in the order of the log, bounded.

Owns the memory of recent changes that watches are served from, and the rule of how far back it
reaches. Each node has its own, filled by its state machine as entries take effect; it is no part of
the replicated state, and begins anew with the process and with an installed snapshot. The watches
themselves, and their waiting, are in `watches.py`.

All tables share one history, so that readers of several see their changes in one order.

Every change has a *number*, one more than the one before, by which readers find it again; numbers
mean something in this process only. To users a change is known by its revision, which the changes
of one entry share.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import NewType

import msgspec

CHANGES_MAX = 50_000
"""At 10,000 writes a second, 5 s: longer than a client takes to find another node and go on."""

BYTES_MAX = 32 * 1024 * 1024
"""Half of what the cache of hot keys may take. Reached before `CHANGES_MAX` when values are large."""

_OVERHEAD_BYTES = 200
"""What a change takes beside its key and value: three objects and a place in the deque."""

_FORGOTTEN_AT_ONCE = 32
"""Changes that make room together, so that most writes need make none."""


Table = NewType("Table", int)
"""What part of the state a change belongs to. The numbers are in memory only."""

KEYS = Table(0)
"""The users' keys."""
SESSIONS = Table(1)
"""Sessions, by id."""
NODE_SESSIONS = Table(2)
"""Which sessions a node has, by its catalog number, 8 bytes."""
NODES = Table(3)
"""The nodes of the catalog, by number, 8 bytes."""
CHECKS = Table(4)
"""Checks, by the number of their node, 8 bytes, and then their id."""
EVENTS = Table(5)
"""Events of users; the key is empty."""

# The tables of the catalog, whose changes are told and not kept: see `Wake`.
SERVICES = Table(6)
"""The instances of a service, or their checks, by its folded name."""
NODE_HEALTH = Table(7)
"""The record of a node, or a check that belongs to the node itself, by number, 8 bytes."""
NODE_SERVICES = Table(8)
"""The services of a node, by number, 8 bytes."""
NODE_CHECKS = Table(9)
"""Any check on a node, by number, 8 bytes."""
SERVICE_SET = Table(10)
"""The set of names of services and of their tags; the key is empty."""
INSTANCES = Table(11)
"""Any instance; the key is empty."""
CHECK_STATES = Table(12)
"""Checks by status: `any`, `passing`, `warning`, `critical`."""
OWNERS = Table(13)
"""Which member runs the checks of an external node, by number, 8 bytes."""
SETTINGS = Table(14)
"""The settings of the cluster; the key is empty."""

Wake = tuple[Table, bytes]
"""A table, and a key of it, that something has changed.

It is told to waits and listeners, and is kept nowhere: a registration has some eight of them, which
would push the changes of keys out of the history. Of nodes there are changes as well, for who waits for
any of them; of checks there are wakes alone."""


class Change(msgspec.Struct, frozen=True, gc=False):
    """One key of a table that was written or deleted.

    Attributes:
        table: Where.
        key: As that table names it; a user's key as the user gave it.
        revision: The Raft index of the entry that did it.
        value: What it was set to (in other tables than the users' keys: the record, see
            `records.py`); None: it was deleted.
    """

    table: Table
    key: bytes
    revision: int
    value: bytes | None


class Tree(Change, frozen=True, gc=False):
    """All keys that start with `key`: they were deleted, and are too many to list.

    It is told to those that wait, and is never in the history.
    """


class FirstOfTree(Change, frozen=True, gc=False):
    """The first of the keys that one recursive deletion deleted: a change like the others.

    Attributes:
        prefix: All keys under it have this deletion's index now, also those that did not exist.
    """

    prefix: bytes


class History:
    """The latest changes.

    Attributes:
        floor: Every change with a higher revision that has taken effect is here.
        revision: Index of the last entry that took effect, whether or not it changed anything.
        first: The number of the oldest change that is here.
        on_add: Called with the number of the first of the changes that were added, and them.
        on_wake: Called with the wakes, before `on_add` and `on_restart`; each is there once.
        on_restart: Called after `restart`, with its `skipped`.
    """

    def __init__(self) -> None:
        self.floor = 0
        self.revision = 0
        self.first = 0
        self.on_add: Callable[[int, Sequence[Change]], None] | None = None
        self.on_wake: Callable[[Collection[Wake]], None] | None = None
        self.on_restart: Callable[[Sequence[Change] | None], None] | None = None
        self._changes: deque[Change] = deque()
        self._bytes = 0

    @property
    def end(self) -> int:
        """The number that the next change will have."""
        return self.first + len(self._changes)

    def __getitem__(self, number: int) -> Change:
        """Return a change, which must be from `first` on and before `end`."""
        return self._changes[number - self.first]

    def after(self, revision: int) -> int:
        """Return the number of the first change with a higher revision; `end` when none has."""
        # Most callers ask for what is newest.
        if not self._changes or self._changes[-1].revision <= revision:
            return self.end
        return self.first + bisect_right(self._changes, revision, key=_revision_of)

    def add(
        self,
        changes: Sequence[Change],
        revision: int,
        gap: int = 0,
        wakes: Sequence[Wake] = (),
    ) -> None:
        """Append what the entries up to `revision` have changed, and forget the oldest for it.

        Args:
            changes: In the order of the log.
            revision: Index of the last of these entries.
            gap: How many of them there are up to the last `Tree`: the history begins anew
                after it. 0: none is.
            wakes: What else they have changed, which is told and not kept.
        """
        self.revision = revision
        if wakes and self.on_wake is not None:
            self.on_wake(dict.fromkeys(wakes))
        if gap:
            self.restart(changes[gap - 1].revision, changes[:gap])
            changes = changes[gap:]
            self.revision = revision
        if not changes:
            return
        number = self.end
        self._changes.extend(changes)
        self._bytes += _size(changes)
        self._make_room()
        if self.on_add is not None:
            self.on_add(number, changes)

    def _make_room(self) -> None:
        kept = self._changes
        while self._bytes > BYTES_MAX or len(kept) > CHANGES_MAX:
            # Some at once, but few when few are left: watches have hardly seen those yet.
            count = min(_FORGOTTEN_AT_ONCE, len(kept) // 8 + 1)
            oldest = [kept.popleft() for _ in range(count)]
            self._bytes -= _size(oldest)
            self.floor = oldest[-1].revision
            self.first += len(oldest)

    def restart(self, revision: int, skipped: Sequence[Change] | None = None) -> None:
        """Forget everything: what was changed up to `revision` is not known here.

        Args:
            revision: Of the last change that is not known.
            skipped: What has changed since the last change that is known; None: perhaps anything.
        """
        self.first = self.end
        self._changes.clear()
        self._bytes = 0
        self.floor = self.revision = revision
        if self.on_restart is not None:
            self.on_restart(skipped)


def _size(changes: Sequence[Change]) -> int:
    sizes = [len(change.key) + len(change.value or b"") for change in changes]
    return sum(sizes) + len(sizes) * _OVERHEAD_BYTES


def _revision_of(change: Change) -> int:
    return change.revision
