"""Which locks are held, by which session, and which keys are under a lock delay.

Owns the records under `records.HOLD` and `records.DELAY`, and what is held in memory of them: both
are small (`model/locks.py`, LOCKS_MAX), and are asked about by key, by session and in the order of
time. Both are changed in place, and a savepoint takes that back. What commands do with locks is in
`locks.py` and `sessions.py`.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from ..storage.interface import StateReader
from . import cluster_time, records
from .batch import Batch, InMemory

_FORGOTTEN_AT_ONCE = 4
"""Delays that are over, and that one entry forgets. A lock gets one delay at most, and is taken by an
entry: so more are forgotten than come."""


class Holds:
    """The locks that are held. The session that holds a key is also in the key's own record.

    Attributes:
        by_key: By user's key: the session that holds it.
    """

    def __init__(self) -> None:
        self.by_key: dict[bytes, bytes] = {}
        self._by_session: dict[bytes, set[bytes]] = {}

    def count(self, session: bytes) -> int:
        """Return how many keys a session holds."""
        return len(self._by_session.get(session, ()))

    def keys(self, session: bytes) -> list[bytes]:
        """Return the keys that a session holds, sorted."""
        return sorted(self._by_session.get(session, ()))

    def among(self, prefix: bytes, keys: Sequence[bytes] | None) -> list[bytes]:
        """Return the held keys that start with `prefix`, sorted.

        Args:
            prefix: Of the keys.
            keys: All keys that start with it; None: they are too many.
        """
        held = self.by_key
        if keys is not None and len(keys) < len(held):
            return [key for key in keys if key in held]
        return sorted(key for key in held if key.startswith(prefix))

    def add(self, key: bytes, session: bytes) -> None:
        """Note that a session holds a key."""
        self.by_key[key] = session
        self._by_session.setdefault(session, set()).add(key)

    def remove(self, key: bytes) -> None:
        """Note that nobody holds a key that was held."""
        session = self.by_key.pop(key)
        keys = self._by_session[session]
        keys.remove(key)
        if not keys:
            del self._by_session[session]


class Delays:
    """The lock delays, those that are over and not forgotten yet among them.

    Attributes:
        ends: By user's key: the cluster's time in ms when it is over.
        queue: (time, key), a heap. May have pairs that are not true any more.
    """

    def __init__(self, ends: dict[bytes, int]) -> None:
        self.ends = ends
        self.queue = [(end_ms, key) for key, end_ms in ends.items()]
        heapq.heapify(self.queue)


def _load_holds(view: StateReader) -> Holds:
    holds = Holds()
    for record_key, _ in view.scan(records.HOLD, records.HOLD_END):
        session, key = records.hold_in(record_key)
        holds.add(key, session)
    return holds


def _load_delays(view: StateReader) -> Delays:
    found = view.scan(records.DELAY, records.DELAY_END)
    return Delays({key[1:]: records.decode_index(record) for key, record in found})


HOLDS = InMemory("holds", _load_holds)
DELAYS = InMemory("delays", _load_delays)

IN_MEMORY = (HOLDS, DELAYS)


def hold(batch: Batch, key: bytes, session: bytes) -> None:
    """Note that a session holds a key that nobody held."""
    holds = batch.value(HOLDS)
    holds.add(key, session)
    batch.put(records.hold_key(session, key), b"")
    if batch.undo is not None:
        batch.undo_by(lambda: holds.remove(key))


def let_go(batch: Batch, key: bytes, session: bytes) -> None:
    """Note that the session does not hold this key any more."""
    holds = batch.value(HOLDS)
    holds.remove(key)
    batch.delete(records.hold_key(session, key))
    if batch.undo is not None:
        batch.undo_by(lambda: holds.add(key, session))


def delay(batch: Batch, key: bytes, delay_ms: int) -> None:
    """Let nobody get the lock of a key for so long, in the cluster's time."""
    delays = batch.value(DELAYS)
    end_ms, before = cluster_time.now_ms(batch.values) + delay_ms, delays.ends.get(key)
    delays.ends[key] = end_ms
    heapq.heappush(delays.queue, (end_ms, key))
    batch.put(records.DELAY + key, records.encode_index(end_ms))

    def undo() -> None:
        del delays.ends[key]
        if before is not None:
            delays.ends[key] = before

    batch.undo_by(undo)


def is_delayed(batch: Batch, key: bytes) -> bool:
    """Whether the lock of a key is under a delay that is not over."""
    end_ms = batch.value(DELAYS).ends.get(key)
    return end_ms is not None and cluster_time.now_ms(batch.values) < end_ms


def forget_delays(batch: Batch) -> None:
    """Forget some delays that are over, the earliest first.

    At the end of an entry, and never within a savepoint: it cannot be undone.
    """
    delays = batch.value(DELAYS)
    queue, ends, now_ms = delays.queue, delays.ends, cluster_time.now_ms(batch.values)
    count = 0
    while queue and queue[0][0] <= now_ms and count < _FORGOTTEN_AT_ONCE:
        end_ms, key = heapq.heappop(queue)
        if ends.get(key) == end_ms:
            del ends[key]
            batch.delete(records.DELAY + key)
            count += 1


def locks(batch: Batch) -> int:
    """Return how many locks are held or delayed."""
    return len(batch.value(HOLDS).by_key) + len(batch.value(DELAYS).ends)
