"""Which locks are held, by which session, and which keys are under a lock delay.

Owns the records under `records.HOLD` and `records.DELAY`, and what is held in memory of them: both
are small (`model/locks.py`, LOCKS_MAX), and are asked about by key, by session and in the order of
time. Both are changed in place, and a savepoint takes that back. What commands do with locks is in
`locks.py` and `sessions.py`.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from ...model.locks import SESSION_VALUES_MAX
from ...model.transactions import OPERATIONS_MAX
from ...storage.interface import StateReader
from .. import cluster_time, records
from ..batch import Batch, InMemory

_FORGOTTEN_AT_ONCE = OPERATIONS_MAX
"""Delays that are over, and that one entry forgets: as many as it can take locks. A lock gets one delay
at most, so they never pile up."""


class Holds:
    """The locks that are held. The session that holds a key is also in the key's own record.

    Attributes:
        by_key: By user's key: the session that holds it.
    """

    def __init__(self) -> None:
        self.by_key: dict[bytes, bytes] = {}
        # The keys that each session holds, how long their values are, and the sum of that.
        self._by_session: dict[bytes, dict[bytes, int]] = {}
        self._sums: dict[bytes, int] = {}

    def count(self, session: bytes) -> int:
        """Return how many keys a session holds."""
        return len(self._by_session.get(session, ()))

    def size(self, key: bytes) -> int:
        """Return how long the value of a key is, as it was noted; 0: nobody holds it."""
        session = self.by_key.get(key)
        return 0 if session is None else self._by_session[session][key]

    def sum(self, session: bytes) -> int:
        """Return how long the values of the keys that a session holds are together."""
        return self._sums.get(session, 0)

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

    def add(self, key: bytes, session: bytes, size: int) -> None:
        """Note that a session holds a key, and how long its value is; also one that it holds already."""
        self.by_key[key] = session
        sizes = self._by_session.setdefault(session, {})
        self._sums[session] = self._sums.get(session, 0) + size - sizes.get(key, 0)
        sizes[key] = size

    def remove(self, key: bytes) -> None:
        """Note that nobody holds a key that was held."""
        session = self.by_key.pop(key)
        sizes = self._by_session[session]
        self._sums[session] -= sizes.pop(key)
        if not sizes:
            del self._by_session[session], self._sums[session]


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
    for record_key, record in view.scan(records.HOLD, records.HOLD_END):
        session, key = records.hold_in(record_key)
        holds.add(key, session, records.decode_size(record))
    return holds


def _load_delays(view: StateReader) -> Delays:
    found = view.scan(records.DELAY, records.DELAY_END)
    return Delays({key[1:]: records.decode_index(record) for key, record in found})


HOLDS = InMemory("holds", _load_holds)
DELAYS = InMemory("delays", _load_delays)

IN_MEMORY = (HOLDS, DELAYS)


def hold(batch: Batch, key: bytes, session: bytes, size: int) -> None:
    """Note that a session holds a key that no other holds, and how long the value is that it gets."""
    holds = batch.value(HOLDS)
    is_new, before = key not in holds.by_key, holds.size(key)
    if before == size and not is_new:
        return
    holds.add(key, session, size)
    batch.put(records.hold_key(session, key), records.encode_size(size))
    if batch.undo is not None:
        batch.undo_by(lambda: holds.remove(key) if is_new else holds.add(key, session, before))


def too_long(batch: Batch, key: bytes, session: bytes, size: int) -> str:
    """Return why a value of this length is too long for a key that a session holds; empty: it is not."""
    holds = batch.value(HOLDS)
    if holds.sum(session) - holds.size(key) + size <= SESSION_VALUES_MAX:
        return ""
    return f"the values of the keys that a session holds may have {SESSION_VALUES_MAX:,} bytes together"


def let_go(batch: Batch, key: bytes, session: bytes) -> None:
    """Note that the session does not hold this key any more."""
    holds = batch.value(HOLDS)
    size = holds.size(key)
    holds.remove(key)
    batch.delete(records.hold_key(session, key))
    if batch.undo is not None:
        batch.undo_by(lambda: holds.add(key, session, size))


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

    At the beginning of an entry, and never within a savepoint: it cannot be undone.
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
