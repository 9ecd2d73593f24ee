"""Writes what the core wants kept: one atomic batch for each `Persist` (rules D3, D4).

Owns the received snapshot between its last byte and the turn that takes it into use or throws it
away (rule D11). When a write is durable, `flushes.py` finds out.
"""

from __future__ import annotations

from typing import NoReturn

import structlog

from ..errors import StorageError
from ..raft.errors import CoreBug
from ..raft.update import Persist
from ..state.machine import State
from ..storage.interface import SnapshotInstall, Storage
from .compaction import DiskLog
from .flushes import Flushes

_log = structlog.get_logger()


class DiskWriter:
    """The writes of one node.

    Attributes:
        log: The part of the log on disk that outlasts the log in memory.
    """

    def __init__(self, storage: Storage, state: State, flushes: Flushes) -> None:
        self.log = DiskLog(storage)
        self._storage = storage
        self._state = state
        self._flushes = flushes
        self._staged: SnapshotInstall | None = None

    @property
    def is_installing(self) -> bool:
        """Whether a received snapshot waits for the core to take or refuse it."""
        return self._staged is not None

    def stage(self, staged: SnapshotInstall) -> None:
        """Keep the content of a received snapshot until the core takes or refuses it."""
        self._staged = staged

    def drop_staged(self) -> None:
        """Throw away a snapshot that the core has refused, if there is one."""
        if self._staged is not None:
            self._staged.abort()
            self._staged = None

    def write(self, persist: Persist) -> None:
        """Write, and have it flushed.

        Raises:
            StorageError: The disk failed.
            CoreBug: A snapshot is to be installed that was not received.
        """
        if persist.snapshot is not None:
            self._switch_state(persist)
            hard_state = None
        else:
            hard_state = persist.hard_state
        if hard_state is not None or persist.entries or persist.truncate_from is not None:
            self._storage.append(hard_state, persist.truncate_from, persist.entries)
        self.log.appended(persist.entries)
        self._flushes.written(persist)

    def end_as_older_copy(self, lost_to: int, last: int) -> NoReturn:
        """Record that this log, which ends at `last`, lacks acknowledged entries up to `lost_to`.

        Raises:
            StorageError: Always: the node that starts from this disk next is recovering.
        """
        self._storage.lost(
            lost_to,
            f"entries {last + 1} to {lost_to} (the directory holds an older copy of its data)",
        )
        raise StorageError(
            f"this directory holds an older copy of its data: its log ends at entry {last}, and the"
            f" leader has this node's acknowledgement of entries up to {lost_to}. Start the node"
            " again: it gets them from the leader, and does not vote until then"
        )

    def _switch_state(self, persist: Persist) -> None:
        """Take the received snapshot into use."""
        staged, self._staged = self._staged, None
        if staged is None or persist.snapshot is None or persist.hard_state is None:
            raise CoreBug("the core installs a snapshot that was not received")
        self._storage.install(staged, persist.snapshot, persist.hard_state)
        self._state.reload()
        _log.info("installed a snapshot", index=persist.snapshot.index)
