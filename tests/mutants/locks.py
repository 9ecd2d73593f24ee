"""The part of the gallery in what clients lock, wait for and write together.

Mistakes in the state are found by the layer of cores, where each node has a real state machine in a
quarter of the runs (`tests/sim/tables/`); those in clocks of sessions and in waiting reads by whole nodes.
"""

from __future__ import annotations

from .mutant import Mutant

_BATCH = "node/state/batch.py"
_CLOCKS = "node/cluster/session_clocks.py"
_DELETIONS = "node/state/deletions.py"
_EVENTS = "node/state/user_events.py"
_HOLDS = "node/state/holds.py"
_KEYS = "node/state/keys.py"
_LOCKS = "node/state/locks.py"
_QUESTIONS = "node/api/dialect/questions.py"
_READER = "node/state/reader.py"
_SESSIONS = "node/state/sessions.py"
_TRANSACTIONS = "node/state/transactions.py"
_WATCHES = "node/state/watches.py"


def _mutant(name: str, about: str, file: str, old: str, new: str, *, layer: str = "A") -> Mutant:
    return Mutant(name, (), about, ((file, old, new),), layer)


_STATE = (
    _mutant(
        "lock-delay-is-forgotten", "The next one gets a lock as soon as a session ends.",
        _LOCKS, "        if delay_ms:\n", "        if delay_ms < 0:\n",
    ),
    _mutant(
        "lock-delay-is-in-memory-only", "A restart, or the next leader, knows nothing of it.",
        _HOLDS, "    batch.put(records.DELAY + key, records.encode_index(end_ms))\n", "",
    ),
    _mutant(
        "a-lock-that-was-released-is-delayed", "As if its session had ended.",
        _LOCKS, "    holds.let_go(batch, key, holder)\n",
        "    holds.let_go(batch, key, holder)\n    holds.delay(batch, key, 2000)\n",
    ),
    _mutant(
        "end-of-a-session-leaves-its-locks", "The keys show a holder that is gone.",
        _LOCKS, '            lock = records.encode_lock(item.lock_index, b"")\n',
        "            lock = records.encode_lock(item.lock_index, session.id)\n",
    ),
    _mutant(
        "keys-that-go-with-their-session-leave-no-deletion", "The index of an answer falls.",
        _LOCKS, "            keys.remove(batch, index, key, record)\n",
        "            holds.let_go(batch, key, session.id)\n"
        "            batch.delete(records.USER + key)\n"
        "            batch.changes.append(Change(KEYS, key, index, None))\n",
    ),
    _mutant(
        "a-holder-that-takes-its-lock-again-raises-it", "The fencing token of a lock that it has.",
        _LOCKS, "    lock = records.encode_lock(lock_index, session)\n",
        "    lock = records.encode_lock(lock_index + (holder == session), session)\n",
    ),
    _mutant(
        "anybody-may-release-a-lock", "The session is not compared.",
        _LOCKS, "    if holder != command.session:\n", "    if not holder:\n",
    ),
    _mutant(
        "a-key-made-again-has-no-lock-index", "As in Consul: the token begins again.",
        _KEYS, '    return records.encode_lock(lock_index, b"") if lock_index else b""\n',
        '    return b""\n',
    ),
    _mutant(
        "a-tree-that-is-deleted-takes-its-lock-indexes-along", "Keys under it begin anew.",
        _KEYS, "batch.value(GREATEST_LOCK), is_prefix=True)", "0, is_prefix=True)",
    ),
    _mutant(
        "a-tree-leaves-no-deletion", "Only keys that are deleted one by one do.",
        _KEYS, "    deletions.keep(batch, KEYS, index, prefix, batch.value(GREATEST_LOCK), is_prefix=True)\n",
        "",
    ),
    _mutant(
        "a-write-takes-the-lock-away", "Of who writes without a session.",
        _KEYS, "        lock = records.lock_in(found)\n", '        lock = b""\n',
    ),
    _mutant(
        "last-change-of-keys-is-in-memory-only", "After a restart its index is lower.",
        _KEYS, "        batch.changed[KEY_CHANGE_KEY] = encode_index(changes[at].revision)\n",
        "        pass\n",
    ),
    _mutant(
        "floor-is-not-in-snapshots", "It is in the memory of who has seen it rise.",
        _DELETIONS, "            batch.put(records.FORGOTTEN + name, record)\n", "",
    ),
    _mutant(
        "floor-does-not-rise", "What was forgotten is as if it had never been.",
        _DELETIONS, "        self._begin(cut, lock_floor)\n",
        "        self._begin(self.floor, lock_floor)\n",
    ),
    _mutant(
        "forgotten-deletions-lose-their-lock-index", "The floor of locks does not rise.",
        _DELETIONS, "        self._begin(cut, lock_floor)\n", "        self._begin(cut, 0)\n",
    ),
    _mutant(
        "index-of-the-table-for-that-of-the-key", "As in Consul: any write wakes who waits.",
        _READER, "self._as_of_now(self._values[DELETIONS].of(KEYS).key_index(key))",
        "self._as_of_now(self._values[KEY_CHANGE])",
    ),
    _mutant(
        "sessions-of-a-node-have-no-index-of-their-own", "Only the list of all has.",
        _SESSIONS, "    batch.put(records.NODE_SESSIONS_CHANGE + node, at)\n", "",
    ),
    _mutant(
        "session-ends-though-its-check-is-well-again", "What the leader saw of it is not compared.",
        _SESSIONS, "    return modify_index == (0 if found is None else found.modify_index)\n",
        "    return True\n",
    ),
    _mutant(
        "session-begins-on-a-critical-check", "It is not looked at.",
        _SESSIONS, "        if check in critical:\n", "        if not check:\n",
    ),
    _mutant(
        "a-failed-operation-leaves-the-others", "The transaction is refused, and half of it is done.",
        _TRANSACTIONS, "        batch.rollback(savepoint)\n", "        batch.release(savepoint)\n",
    ),
    _mutant(
        "savepoint-leaves-what-is-changed-in-place", "Locks and deletions in memory.",
        _BATCH, "        for call in reversed(self._calls[savepoint.calls :]):\n            call()\n",
        "",
    ),
    _mutant(
        "the-first-fault-is-the-only-one", "What fails after it is not tried.",
        _TRANSACTIONS,
        "                _READS[type(operation)](answer, operation)\n        except _Fault as fault:\n"
        "            faults.append((number, str(fault)))\n",
        "                _READS[type(operation)](answer, operation)\n        except _Fault as fault:\n"
        "            faults.append((number, str(fault)))\n            break\n",
    ),
    _mutant(
        "one-event-too-many-is-kept", "The oldest stays in the store.",
        _EVENTS, "    for oldest in kept[:-EVENTS_MAX]:\n", "    for oldest in kept[: -EVENTS_MAX - 1]:\n",
    ),
    _mutant(
        "an-event-has-the-index-of-its-sender", "All of them are number 0.",
        _EVENTS, "msgspec.structs.replace(command.event, index=index)", "command.event",
    ),
    _mutant(
        "a-snapshot-wakes-nobody", "Who waits goes on waiting for a change that has been.",
        _WATCHES, "                for wait in waits.take_all():\n                    self.wake(wait.end)\n",
        "                waits.take_all()\n",
    ),
    _mutant(
        "a-change-wakes-nobody-who-waits-for-a-prefix", "Only who waits for the key itself.",
        _WATCHES, "            taken += self._by_prefix.take(key)\n", "            pass\n",
    ),
    _mutant(
        "changes-of-a-transaction-are-told-apart", "Each says that it is the last of its revision.",
        _WATCHES, "taken.append((held, change.revision != held.revision))",
        "taken.append((held, True))",
    ),
)  # fmt: skip

_WHOLE = (
    _mutant(
        "a-new-leader-gives-sessions-what-is-left", "Of the time since they were made.",
        _CLOCKS, "        started_at = self._since\n", "        started_at = 0.0\n", layer="B",
    ),
    _mutant(
        "a-renewed-session-never-ends", "Its clock is not looked at again.",
        _CLOCKS, "                heappush(due, (end, session_id))\n", "                pass\n", layer="B",
    ),
    _mutant(
        "who-waits-is-woken-for-nothing", "By a change that has not changed the result.",
        _QUESTIONS, "            if after is not None and index <= after:\n",
        "            if after is not None and index < after:\n", layer="B",
    ),
    _mutant(
        "who-waits-for-a-prefix-is-not-woken", "Only changes of one key are waited for.",
        _QUESTIONS, "for table, key, is_prefix in on\n", "for table, key, is_prefix in on if not is_prefix\n",
        layer="B",
    ),
)  # fmt: skip

LOCKS = (*_STATE, *_WHOLE)
