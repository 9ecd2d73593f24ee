"""Checks a whole state that another node sends, before this node takes it for its own.

A state is installed as it came: a record that cannot be read would stop this node each time that it
starts. So each record is looked at as it arrives, and at the end whether they belong together. Knows
the layout (`records.py`), and nothing of how a state travels (`peers/snapshot_transfer.py`).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from ..config import command_limits
from ..errors import BadFrame, StorageError
from ..model.commands import IDEMPOTENCY_KEY_BYTES_MAX, KEY_BYTES_MAX
from ..model.locks import LOCKS_MAX, SESSION_ID_BYTES, SESSIONS_MAX
from ..storage.interface import APPLIED_KEY, unpack_applied
from . import records
from .catalog.intact import CatalogCheck, check_indexes
from .kv import deletions

_RECORD_HEAD = 24
"""Bytes of the revisions and flags before a user's value."""

_INDEX_KEYS = frozenset(
    (
        records.KEY_CHANGE_KEY,
        records.GREATEST_LOCK_KEY,
        records.NODES_CHANGE_KEY,
        records.SESSIONS_CHANGE_KEY,
    )
)


class StateCheck:
    """The check of one state; its records come in the order of their keys."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._applied = (0, 0)
        # Of the keyed writes: the first number, and the one after the last; as they came, and as
        # the record of their ends has it.
        self._turns: tuple[int, int] | None = None
        self._expected = (0, 0)
        # Where two records speak of the same thing, what the first said and the second did not yet.
        self._sessions: dict[bytes, int] = {}
        self._holds: dict[bytes, tuple[bytes, int]] = {}
        self._holders: set[bytes] = set()
        self._catalog = catalog = CatalogCheck()
        self._with_others = {
            records.HOLD: self._take_hold,
            records.SESSION_NODE: self._take_session_node,
            records.SESSION: self._take_session,
            records.TURN: self._take_turn,
            records.MEMBER: self._take_member,
            records.NAME_INDEX: catalog.take_name,
            records.CHECK: catalog.take_check,
            records.EXTERNAL: catalog.take_external,
            records.NODE_INDEXES: catalog.take_node_indexes,
            records.OWNER: catalog.take_owner,
            records.SERVICE: catalog.take_service,
        }

    def take(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        """Look at some more records.

        Raises:
            BadFrame: One of them is none that this version writes.
        """
        for key, value in pairs:
            # Nearly all are the users' own: without the calls below.
            is_plain = len(value) >= _RECORD_HEAD and value[0] < 0x80  # without lock data
            if key[:1] == records.USER and is_plain and key.isascii():
                if 1 < len(key) <= KEY_BYTES_MAX + 1:
                    continue
                raise BadFrame("a state with a key of a length that no key has")
            try:
                self._take(key, value)
            except (StorageError, ValueError, struct.error) as error:
                raise BadFrame(f"a state with a record that is damaged: {error}") from None

    def end(self, index: int, term: int) -> None:
        """See whether that was the whole state as of entry `index`, of `term`.

        Raises:
            BadFrame: It was not, or its records do not belong together.
        """
        if self._applied != (index, term):
            raise BadFrame(f"a state that is not the one at entry {index}")
        first, following = self._expected
        if (self._turns or (first, first)) != (first, following):
            raise BadFrame("a state whose keyed writes are not all there")
        if self._sessions or self._holds or self._holders:
            raise BadFrame("a state whose sessions and locks do not belong together")
        apart = self._catalog.end()
        if apart:
            raise BadFrame(f"a state whose {apart} do not belong together")

    def _take(self, key: bytes, value: bytes) -> None:
        check = _CHECKS.get(key[:1]) or self._with_others.get(key[:1])
        if check is not None:
            check(key, value)
        elif key[:1] == records.USER:
            self._take_user(key, value)
        elif key == records.KEYED_WRITES_KEY:
            _, first, following = records.decode_keyed_writes(value)
            self._expected = first, following
        elif key == APPLIED_KEY:
            self._applied = unpack_applied(value)
        else:
            raise ValueError(f"the key {key[:32]!r}")

    def _take_turn(self, key: bytes, value: bytes) -> None:
        number = _id_in(key)
        first, following = self._turns or (number, number)
        if number != following:
            raise ValueError("the order of the idempotency keys has a gap")
        records.decode_turn(value)
        self._turns = first, number + 1

    def _take_user(self, key: bytes, value: bytes) -> None:
        item = records.decode_item(key[1:], value)
        _check_name(item.key)
        session, size = self._holds.pop(item.key, (b"", len(item.value)))
        if item.session != session or len(item.value) != size:
            raise ValueError(
                "a key whose lock another session holds, or whose value has another length"
            )

    def _take_hold(self, key: bytes, value: bytes) -> None:
        session, name = records.hold_in(key)
        _check_name(name)
        if name in self._holds or len(self._holds) >= LOCKS_MAX:
            raise ValueError("a lock that two sessions hold, or too many locks")
        self._holds[name] = session, records.decode_size(value)
        self._holders.add(session)

    def _take_member(self, key: bytes, value: bytes) -> None:
        member = records.decode_member(value)
        fault = command_limits.member_fault(member)
        if fault or not member.name or member.id != _id_in(key):
            raise ValueError(fault or "a member under another id or without a name")
        self._catalog.member(member)

    def _take_session_node(self, key: bytes, value: bytes) -> None:
        if len(key) != 1 + SESSION_ID_BYTES or len(self._sessions) >= SESSIONS_MAX:
            raise ValueError("an id that no session has, or too many sessions")
        self._sessions[key[1:]] = records.decode_index(value)
        self._holders.discard(key[1:])

    def _take_session(self, key: bytes, value: bytes) -> None:
        session = records.decode_session(value)
        fault = command_limits.session_fault(session)
        node = self._sessions.pop(session.id, None)
        if fault or node != session.node or key != records.session_key(node, session.id):
            raise ValueError(fault or "a session under another id or node")


def _id_in(key: bytes) -> int:
    if len(key) != 1 + 8:
        raise ValueError(f"the key {key[:32]!r}")
    return records.id_of(key)


def _check_name(name: bytes) -> None:
    if not 0 < len(name) <= KEY_BYTES_MAX:
        raise ValueError(f"a key of {len(name)} bytes")
    name.decode()


def _check_index(key: bytes, value: bytes) -> None:
    if key == records.CATALOG_INDEXES_KEY:
        check_indexes(value)
        return
    is_of_node = key[:2] == records.NODE_SESSIONS_CHANGE and len(key) == 2 + 8
    if key not in _INDEX_KEYS and not is_of_node:
        raise ValueError(f"the key {key[:32]!r}")
    records.decode_index(value)


def _check_deletion(key: bytes, value: bytes) -> None:
    name = records.decode_deletion(key, value)[-1]
    if key[1:2] not in deletions.TABLES or len(name) > KEY_BYTES_MAX:
        raise ValueError(f"the deletion {key[:32]!r}")


def _check_forgotten(key: bytes, value: bytes) -> None:
    if key[1:] not in deletions.TABLES:
        raise ValueError(f"the key {key[:32]!r}")
    records.decode_forgotten(value)


def _check_event(key: bytes, value: bytes) -> None:
    event = records.decode_event(value)
    fault = command_limits.event_fault(event)
    if fault or event.index != _id_in(key):
        raise ValueError(fault or "an event under another index")


def _check_delay(key: bytes, value: bytes) -> None:
    _check_name(key[1:])
    records.decode_index(value)


def _check_removed(key: bytes, _value: bytes) -> None:
    _id_in(key)


def _check_cluster(key: bytes, value: bytes) -> None:
    fault = command_limits.settings_fault(records.decode_cluster(value).settings)
    if fault or key != records.CLUSTER_KEY:
        raise ValueError(fault or f"the key {key[:32]!r}")


def _check_answer(key: bytes, value: bytes) -> None:
    records.decode_answer(value)
    if not 1 < len(key) <= IDEMPOTENCY_KEY_BYTES_MAX + 1:
        raise ValueError("an idempotency key of a length that none has")


_CHECKS: dict[bytes, Callable[[bytes, bytes], None]] = {
    records.KEY_CHANGE_KEY[:1]: _check_index,
    records.DELETION: _check_deletion,
    records.EVENT: _check_event,
    records.FORGOTTEN: _check_forgotten,
    records.REMOVED: _check_removed,
    records.CLUSTER_KEY: _check_cluster,
    records.DELAY: _check_delay,
    records.ANSWER: _check_answer,
}
"""By the first byte of a key: the check of a record that needs no other."""
