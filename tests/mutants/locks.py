"""The part of the gallery in what clients lock, wait for and write together.

Mistakes in the state are found by the layer of cores, where each node has a real state machine in a
quarter of the runs (`tests/sim/tables/`); those in clocks of sessions and in waiting reads by whole nodes.
"""

from __future__ import annotations

from .mutant import one_change as _mutant

_API_SESSIONS = "node/api/consul/session.py"
_API_TXN = "node/api/consul/txn.py"
_BATCH = "node/state/batch.py"
_CATALOG_NODES = "node/state/catalog/nodes.py"
_CLOCKS = "node/cluster/session_clocks.py"
_CLUSTER_CLOCK = "node/driver/cluster_clock.py"
_DELETIONS = "node/state/kv/deletions.py"
_EVENTS = "node/state/user_events.py"
_HOLDS = "node/state/kv/holds.py"
_KEYS = "node/state/kv/keys.py"
_LOCKS = "node/state/kv/locks.py"
_QUESTIONS = "node/api/dialect/questions.py"
_NODES = "node/cluster/session_nodes.py"
_REQUESTS = "node/driver/requests.py"
_READER = "node/state/reader.py"
_SESSIONS = "node/state/sessions.py"
_TRANSACTIONS = "node/state/transactions.py"
_WAITS = "node/state/watching/waits.py"
_WATCHES = "node/state/watching/watches.py"


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
        "            batch.changes.append(keys.Change(keys.KEYS, key, index, None))\n",
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
        "self.key_change_index",
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
        "savepoint-leaves-what-is-deleted-as-a-range", "A tree is gone though its deletion was undone.",
        _BATCH, "        del self._ranges[savepoint.ranges :]\n", "",
    ),
    _mutant(
        "index-of-a-tree-knows-no-floor", "It falls when the deletions in it are forgotten.",
        _DELETIONS, "            self.floor,\n            self._keys", "            0,\n            self._keys",
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
        _WATCHES, "            self._end([wait for waits in self._waits.values() for wait in waits.take_all()])\n",
        "            for waits in self._waits.values():\n                waits.take_all()\n",
    ),
    _mutant(
        "a-change-wakes-nobody-who-waits-for-a-prefix", "Only who waits for the key itself.",
        _WAITS, "            taken += self._by_prefix.take(key)\n", "            pass\n",
    ),
    _mutant(
        "lock-floor-is-in-memory-only", "After a restart a key that is made begins lower.",
        _DELETIONS, "encode_forgotten(kept.floor, kept.lock_floor)", "encode_forgotten(kept.floor, 0)",
    ),
    _mutant(
        "locks-are-held-in-memory-only", "After a restart the end of a session leaves them.",
        _HOLDS, "    batch.put(records.hold_key(session, key), records.encode_size(size))\n", "",
    ),
    _mutant(
        "deleted-locks-are-noticed-with-the-next-batch", "A key made again in the same one begins anew.",
        _DELETIONS, "        batch.locks_deleted = True\n", "        pass\n",
    ),
    _mutant(
        "a-node-that-comes-or-goes-moves-no-index", "Nobody hears of it who waits with one.",
        _CATALOG_NODES,
        "    batch.put(records.NODES_CHANGE_KEY, records.encode_index(index))\n"
        "    batch.value(CATALOG).set_nodes_index(batch, index)\n", "",
    ),
    _mutant(
        "a-node-that-comes-or-goes-wakes-nobody", "Who waits for the list of nodes goes on waiting.",
        _CATALOG_NODES,
        "    batch.changes.append(Change(NODES, key, index, record))\n    batch.wakes.append((NODES, key))\n", "",
    ),
    _mutant(
        "a-recursive-deletion-wakes-who-waits-for-what-was-there", "And not who waits for an absent key.",
        _KEYS, "batch.changes.append(FirstOfTree(KEYS, names[0], index, None, prefix))",
        "batch.changes.append(Change(KEYS, names[0], index, None))",
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
        "sessions-end-by-a-check-that-passes", "As soon as it has passed for the grace.",
        _NODES, 'is_bad = record is None or record.status == "critical"', "is_bad = True", layer="B",
    ),
    _mutant(
        "a-renewal-starts-all-clocks", "As long as anybody renews, no session ends.",
        _CLOCKS, "            clock.started_at = now\n",
        "            for clock in self._clocks.values():\n                clock.started_at = now\n",
        layer="B",
    ),
    _mutant(
        "a-session-ends-after-three-ttls", "Its locks are kept from the others for too long.",
        _CLOCKS, "_TTLS * session.ttl_ms / 1000", "3 * session.ttl_ms / 1000", layer="B",
    ),
    _mutant(
        "the-clusters-time-runs-fast", "Lock delays are over too soon.",
        _CLUSTER_CLOCK, "min(seconds, now - self._ticked_at) * 1000\n",
        "min(seconds, now - self._ticked_at) * 2000\n", layer="B",
    ),
    _mutant(
        "a-transaction-that-reads-is-stale", "It does not ask who leads, and what is committed.",
        _API_TXN, "    return Deferred(None, query, finish)\n",
        '    return Deferred(None, {**query, "stale": ""}, finish)\n', layer="B",
    ),
    _mutant(
        "an-event-is-fired-again-after-a-broken-link", "Whatever became of it.",
        _REQUESTS,
        "                del self.forwarded[rid]\n                request.finish(unknown(why))\n",
        "                del self.forwarded[rid]\n"
        '                if b"deploy" in request.data:\n'
        "                    self.queued.append(request)\n                    continue\n"
        "                request.finish(unknown(why))\n", layer="B",
    ),
    _mutant(
        "sessions-of-a-node-are-asked-for-by-its-own-index", "It does not move with them.",
        _API_SESSIONS, "max(reader.sessions_index(node.number), node.modify_index)",
        "node.modify_index", layer="B",
    ),
    _mutant(
        "who-waits-for-a-prefix-is-not-woken", "Only changes of one key are waited for.",
        _QUESTIONS, "for table, key, is_prefix in on\n", "for table, key, is_prefix in on if not is_prefix\n",
        layer="B",
    ),
)  # fmt: skip

LOCKS = (*_STATE, *_WHOLE)
