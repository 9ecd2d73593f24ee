"""The watches and the listeners of a node, and the waking of its watches and waits.

A *watch* reads every change of the keys of one table under one prefix. The *waits*, which are called
after one change, are in `waits.py`. A *listener* is a part of this node that is called with every wake
(`changes.Wake`) of some tables, at once: what it holds of the state is right again before any wait
is called.

Owns who is woken by which change, and what a watch has read. The changes are in `changes.py`; how
they are sent to a client, and when a client is too slow, is the API's.

Theory of operation: a watch that has read all of its own holds nothing but its prefix. The next
change under it gives the watch a *cursor*, the number of that change in the shared history, and
wakes it. It reads on from there at its own pace, and holds one change at most; when it has reached
the end, it has no cursor again. So a slow watch costs no memory and delays nobody: it loses its
place when the history has forgotten the change that its cursor is at, and only then, and its next
`take` says so (`Compacted`). No change is ever left out in silence.

A change finds its watches by looking up the beginnings of its key, one for each length of prefix
that is watched in its table: with ten thousand watches of as many prefixes that is a few steps, not
ten thousand.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from ...errors import Compacted
from ...net.flag import Flag
from .by_prefix import ByPrefix
from .changes import KEYS, Change, History, Table, Wake
from .waits import Wait, Waits

TAKEN_AT_ONCE = 256
"""Changes that a watch looks at in one go: some 50 us, then other tasks have their turn."""

TAKEN_BYTES_MAX = 64 * 1024
"""Bytes of keys and values in one go; the first change is taken whatever its size."""


def _call(call: Callable[[], None]) -> None:
    """Call at once: the default of `Watches.wake`."""
    call()


class Watch:
    """The changes under a prefix of one table, in their order. One task uses it at a time.

    Attributes:
        table: Whose changes.
        prefix: Of the keys.
        start: It gives the changes with a higher revision; it may be one that is yet to come.

    Closes: its place among the watches, by `close`.
    """

    __slots__ = ("_cursor", "_flag", "_held", "_is_lost", "_watches", "prefix", "start", "table")

    def __init__(
        self, watches: Watches, table: Table, prefix: bytes, start: int, cursor: int | None
    ) -> None:
        self.table = table
        self.prefix = prefix
        self.start = start
        self._watches = watches
        self._cursor = cursor
        # A change that is read and not returned yet: whether it is the last of its revision depends
        # on those after it. An entry may change several tables, and keys in any order.
        self._held: Change | None = None
        self._is_lost = False
        self._flag = Flag()
        if cursor is not None:
            self._flag.set()

    @property
    def is_behind(self) -> bool:
        """Whether `take` has a change to return, or to raise `Compacted`."""
        return self._cursor is not None or self._is_lost

    @property
    def seen(self) -> int:
        """The revision up to which all has been taken; holds only while it is not behind."""
        return max(self.start, self._watches.history.revision)

    async def wait(self) -> None:
        """Wait until it is behind. It may wake up for nothing; always lets other tasks run.

        Cancellation: nothing is lost.
        """
        await self._flag.wait()

    def take(self) -> list[tuple[Change, bool]]:
        """Take the next changes, a bounded number; an empty list does not mean that it is the end.

        Returns:
            Each change with whether it is the last of its revision under the prefix: a client that
            has seen that one may go on after this revision later, here or on another node.

        Raises:
            Compacted: The history has forgotten what comes next.
        """
        history = self._watches.history
        number = self._cursor
        if self._is_lost or (number is not None and number < history.first):
            raise Compacted(_forgotten(history))
        taken: list[tuple[Change, bool]] = []
        if number is None:
            return taken
        end = history.end
        stop = min(end, number + TAKEN_AT_ONCE)
        size = 0
        held = self._held
        while number < stop and size < TAKEN_BYTES_MAX:
            change = history[number]
            number += 1
            is_ours = change.table == self.table and change.key.startswith(self.prefix)
            if held is not None and (is_ours or change.revision != held.revision):
                taken.append((held, change.revision != held.revision))
                held = None
            if is_ours:
                held = change
                size += len(change.key) + len(change.value or b"")
        if held is not None and number == end:  # All changes of an entry are added together.
            taken.append((held, True))
            held = None
        self._held = held
        self._cursor = number if number < end else None
        return taken

    def close(self) -> None:
        """Stop watching. Idempotent."""
        self._watches.forget(self)

    def notice(self, number: int) -> None:
        """Put the cursor at this change, unless it is at an earlier one."""
        if self._cursor is None:
            self._cursor = number
            self._watches.wake(self._flag.set)

    def lose(self) -> None:
        """Lose the place in the history: the next `take` raises `Compacted`."""
        self._is_lost = True
        self._watches.wake(self._flag.set)


class Listener:
    """A part of the node that is called with every wake of some tables. Made by `Watches.listen`."""

    __slots__ = ("_watches", "call", "restarted", "tables")

    def __init__(
        self,
        watches: Watches,
        tables: Collection[Table],
        call: Callable[[Table, bytes], None],
        restarted: Callable[[], None],
    ) -> None:
        self._watches = watches
        self.tables = frozenset(tables)
        self.call = call
        self.restarted = restarted

    def close(self) -> None:
        """Be called no more. Idempotent."""
        self._watches.forget_listener(self)


class Watches:
    """All watches and listeners of a node, and the waits that are called for the same changes.

    Args:
        history: What they read. Its callbacks `on_add`, `on_wake` and `on_restart` are set here.
        wake: Calls what wakes a watch, now or soon: one change may wake thousands.
    """

    def __init__(
        self, history: History, wake: Callable[[Callable[[], None]], None] = _call
    ) -> None:
        self.history = history
        self.wake = wake
        # Only tables that are watched.
        self._by_table: dict[Table, ByPrefix[Watch]] = {}
        self._waits: dict[Table, Waits] = {}
        # By table, and each as often as it has tables. Replaced whole: one that is called may close.
        self._listeners: dict[Table, tuple[Listener, ...]] = {}
        history.on_add = self._on_add
        history.on_wake = self._on_wake
        history.on_restart = self._on_restart

    def __len__(self) -> int:
        return sum(map(len, self._by_table.values()))

    def open(self, prefix: bytes, after: int | None, table: Table = KEYS) -> Watch:
        """Begin to watch.

        Args:
            prefix: Of the keys; the empty one is all.
            after: The revision after which to begin, which may be one that is yet to come; None:
                now, so that every entry is seen that takes effect after this call.
            table: Whose keys; the users' by default.

        Raises:
            Compacted: The history does not reach back to there.
        """
        history = self.history
        start = history.revision if after is None else after
        if start < history.floor:
            raise Compacted(_forgotten(history))
        cursor = history.after(start)
        watch = Watch(self, table, prefix, start, cursor if cursor < history.end else None)
        if table not in self._by_table:
            self._by_table[table] = ByPrefix()
        self._by_table[table].add(prefix, watch)
        return watch

    def once(
        self, table: Table, key: bytes, call: Callable[[], None], *, is_prefix: bool = False
    ) -> Wait:
        """Have `call` called once, soon after the next change; see `Wait.give_up`.

        Args:
            table: Whose change.
            key: As that table names it.
            call: Called through `wake`; also after `History.restart` where anything may have changed.
            is_prefix: A change of any key that starts with `key` will do.
        """
        waits = self._waits.get(table)
        if waits is None:
            waits = self._waits[table] = Waits()
        wait = Wait(waits, key, call, is_prefix=is_prefix)
        waits.add(wait, key)
        return wait

    def listen(
        self,
        tables: Collection[Table],
        call: Callable[[Table, bytes], None],
        restarted: Callable[[], None],
    ) -> Listener:
        """Have `call` called with every wake of some tables, until the listener is closed.

        Args:
            tables: Of the catalog; of keys, sessions and events there are no wakes.
            call: Called with table and key in the turn of the loop in which the entry took effect,
                when its records are written and before any wait is called. It may read the state,
                and must not raise, wait or take more than some microseconds.
            restarted: Called instead when a snapshot was installed: anything may have changed.
        """
        listener = Listener(self, tables, call, restarted)
        for table in listener.tables:
            self._listeners[table] = (*self._listeners.get(table, ()), listener)
        return listener

    def forget_listener(self, listener: Listener) -> None:
        """Remove a listener; also one that is removed already."""
        for table in listener.tables:
            left = tuple(one for one in self._listeners.get(table, ()) if one is not listener)
            if left:
                self._listeners[table] = left
            else:
                self._listeners.pop(table, None)

    def forget(self, watch: Watch) -> None:
        """Remove a watch; also one that is removed already."""
        watched = self._by_table.get(watch.table)
        if watched is not None:
            watched.remove(watch.prefix, watch)
            if not watched:
                del self._by_table[watch.table]

    def _on_add(self, number: int, changes: Sequence[Change]) -> None:
        if self._waits:
            self._end_waits(changes)
        if not self._by_table:
            return
        for at, change in enumerate(changes, number):
            watched = self._by_table.get(change.table)
            if watched is not None:
                for watch in watched.found(change.key):
                    if change.revision > watch.start:
                        watch.notice(at)

    def _on_wake(self, wakes: Collection[Wake]) -> None:
        if self._listeners:
            for table, key in wakes:
                for listener in self._listeners.get(table, ()):
                    listener.call(table, key)
        due: list[Wait] = []
        for table, key in wakes:
            waits = self._waits.get(table)
            if waits is not None:
                due += waits.take_key(key)
        self._end(due)

    def _on_restart(self, skipped: Sequence[Change] | None) -> None:
        if skipped is None:
            listeners = (one for same in self._listeners.values() for one in same)
            for listener in dict.fromkeys(listeners):
                listener.restarted()
            self._end([wait for waits in self._waits.values() for wait in waits.take_all()])
        else:
            self._end_waits(skipped)
        for watched in self._by_table.values():
            for watch in watched:
                # One that begins later than the history does misses nothing.
                if watch.start < self.history.floor:
                    watch.lose()

    def _end_waits(self, changes: Sequence[Change]) -> None:
        """Have those called that wait for one of these changes."""
        due: list[Wait] = []
        for change in changes:
            waits = self._waits.get(change.table)
            if waits is not None:
                due += waits.take(change)
        self._end(due)

    def _end(self, due: list[Wait]) -> None:
        """Have these called. All are due before the first of them is called."""
        for wait in due:
            wait.is_due = True
        for wait in due:
            self.wake(wait.end)


def _forgotten(history: History) -> str:
    return (
        f"compacted: changes are known here from after revision {history.floor} on. Read the keys "
        "again (GET /read?prefix=), and watch with after= the X-Hstore-Index of that answer; "
        f"after={history.floor} is the oldest that works here now"
    )
