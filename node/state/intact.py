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
from ..storage.interface import APPLIED_KEY, unpack_applied
from . import records

_RECORD_HEAD = 24
"""Bytes of the revisions and flags before a user's value."""


class StateCheck:
    """The check of one state; its records come in the order of their keys."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._applied = (0, 0)
        # Of the keyed writes: the first number, and the one after the last; as they came, and as
        # the record of their ends has it.
        self._turns: tuple[int, int] | None = None
        self._expected = (0, 0)

    def take(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        """Look at some more records.

        Raises:
            BadFrame: One of them is none that this version writes.
        """
        for key, value in pairs:
            # Nearly all are the users' own: without the calls below.
            if key[:1] == records.USER and len(value) >= _RECORD_HEAD and key.isascii():
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

    def _take(self, key: bytes, value: bytes) -> None:
        check = _CHECKS.get(key[:1])
        if check is not None:
            check(key, value)
        elif key[:1] == records.TURN:
            self._take_turn(key, value)
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


def _id_in(key: bytes) -> int:
    if len(key) != 1 + 8:
        raise ValueError(f"the key {key[:32]!r}")
    return records.id_of(key)


def _check_user(key: bytes, value: bytes) -> None:
    records.record_head(key[1:], value)
    if not 1 < len(key) <= KEY_BYTES_MAX + 1:
        raise ValueError(f"a key of {len(key) - 1} bytes")
    key[1:].decode()


def _check_member(key: bytes, value: bytes) -> None:
    member = records.decode_member(value)
    fault = command_limits.member_fault(member)
    if fault or not member.name or member.id != _id_in(key):
        raise ValueError(fault or "a member under another id or without a name")


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
    records.USER: _check_user,
    records.MEMBER: _check_member,
    records.REMOVED: _check_removed,
    records.CLUSTER_KEY: _check_cluster,
    records.ANSWER: _check_answer,
}
"""By the first byte of a key: the check of a record that needs no other."""
