"""Sessions: what `CreateSession` and `EndSession` do.

Owns the records of the sessions, and the last indexes that changed the list of all of them and that
of each node. When a session ends is decided by the leader's clock (`cluster/session_clocks.py`).
"""

from __future__ import annotations

import msgspec

from ..errors import StorageError
from ..model import values
from ..model.commands import Denial, Outcome
from ..model.locks import SESSIONS_MAX, CreateSession, EndSession, Session
from ..raft.entry import Entry
from ..storage.interface import StateReader
from . import records
from .batch import Batch, Effects, InMemory
from .catalog import checks, nodes
from .catalog import writes as catalog_writes
from .catalog.index import CATALOG
from .kv import deletions, locks
from .members import CLUSTER
from .watching.changes import NODE_SESSIONS, SESSIONS, Change

_NS_PER_MS = 1_000_000


def _load_nodes(view: StateReader) -> dict[bytes, int]:
    found = view.scan(records.SESSION_NODE, records.SESSION_NODE_END)
    return {key[1:]: records.decode_index(record) for key, record in found}


SESSION_NODES = InMemory("nodes of the sessions", _load_nodes)
"""By id of each session: the catalog number of its node. Changed in place."""


def _create(batch: Batch, entry: Entry, command: CreateSession) -> Outcome:
    session = command.session
    least_ms = batch.value(CLUSTER).settings.session_ttl_min_ms
    if 0 < command.ttl_ns < least_ms * _NS_PER_MS:
        return Outcome(False, 0, str(least_ms), Denial.TTL_TOO_SHORT)
    refusal = _refusal(batch, session)
    if refusal:
        return Outcome(False, 0, refusal, Denial.SESSION_REFUSED)
    known = batch.value(SESSION_NODES)
    if len(known) >= SESSIONS_MAX:
        limit = f"there are {len(known):,} sessions, and there may not be more"
        return Outcome(False, 0, limit, Denial.LIMIT)
    index = entry.index
    session = msgspec.structs.replace(session, create_index=index, modify_index=index)
    record = records.encode_msgpack(session)
    batch.put(records.SESSION_NODE + session.id, records.encode_index(session.node))
    batch.put(records.session_key(session.node, session.id), record)
    known[session.id] = session.node
    batch.undo_by(lambda: known.pop(session.id))
    _note_change(batch, index, session, record)
    return Outcome(True, index, values.uuid_text(session.id))


def _refusal(batch: Batch, session: Session) -> str:
    """Return why a session cannot be made, in Consul's words; empty: it can."""
    if not any(session.id):
        return "invalid session ID"  # It stands for no session in the records of keys.
    if session.id in batch.value(SESSION_NODES):
        return "the session exists already"
    if not nodes.is_node(batch, session.node):
        return checks.NO_NODE
    catalog = batch.value(CATALOG)
    known = catalog.checks_of.get(session.node, {})
    critical = catalog.critical_of.get(session.node, {})
    for check in (*session.node_checks, *(session.service_checks or ())):
        if check not in known:
            return f"Missing check '{check}' registration"
        if check in critical:
            return f"Check '{check}' is in critical state"
    return ""


def get(batch: Batch, session_id: bytes) -> Session | None:
    """Return a session as the batch has left it, or None."""
    node = batch.value(SESSION_NODES).get(session_id)
    if node is None:
        return None
    record = batch.get(records.session_key(node, session_id))
    if record is None:
        raise StorageError(f"the record of the session {session_id.hex()} is missing")
    return records.decode_session(record)


def _end(batch: Batch, entry: Entry, command: EndSession) -> Outcome:
    session = get(batch, command.id)
    if session is None or not _is_still(batch, command.check):
        return Outcome(False, 0)
    index = entry.index
    locks.end_all(batch, index, session)
    batch.delete(records.SESSION_NODE + session.id)
    batch.delete(records.session_key(session.node, session.id))
    known = batch.value(SESSION_NODES)
    del known[session.id]
    batch.undo_by(lambda: known.update({session.id: session.node}))
    deletions.keep(batch, SESSIONS, index, session.id)
    _note_change(batch, index, session, None)
    return Outcome(True, index)


def _is_still(batch: Batch, seen: tuple[int, str, int] | None) -> bool:
    """Whether a check is still what was seen of it: (node, ID, `modify_index`; 0: it was not there)."""
    if seen is None:
        return True
    node, check, modify_index = seen
    found = catalog_writes.check_at(batch, node, check)
    return modify_index == (0 if found is None else found.modify_index)


def _note_change(batch: Batch, index: int, session: Session, record: bytes | None) -> None:
    at, node = records.encode_index(index), records.encode_index(session.node)
    batch.put(records.SESSIONS_CHANGE_KEY, at)
    batch.put(records.NODE_SESSIONS_CHANGE + node, at)
    batch.changes.append(Change(SESSIONS, session.id, index, record))
    batch.changes.append(Change(NODE_SESSIONS, node, index, b""))


IN_MEMORY = (SESSION_NODES,)

EFFECTS: Effects = {CreateSession: _create, EndSession: _end}
