"""One page of the book: all tables as one index leaves them, and the ways in which they change."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from hstore.node.model.checks import Check
from hstore.node.model.locks import Session
from hstore.node.model.services import ExternalNode, Service

from .indexes import Indexes


class Cell(NamedTuple):
    """A key.

    Attributes:
        value, flags, create, modify: As a client reads them.
        least, most: Between these is its `LockIndex`: of a key that was made again, it is that of
            its kept deletion, or the greatest that was forgotten.
        session: Who holds its lock; empty: nobody.
    """

    value: bytes
    flags: int
    create: int
    modify: int
    least: int = 0
    most: int = 0
    session: bytes = b""


class Face(NamedTuple):
    """A member as the catalog shows it: its catalog number, its name, where it is, its indexes."""

    number: int
    name: str
    address: str
    create: int
    modify: int


@dataclass
class Page:
    """Everything at one index.

    Attributes:
        time_ms: The cluster's time; it never falls.
        locked: The greatest `LockIndex` that each key ever had, absent ones included.
        most_locked: The greatest that the `LockIndex` of any key may have been.
        delays: Until when nobody gets a key that was held by a session that ended.
        members: By id.
        externals: The nodes that are no members, by number.
        services: By number of the node and ID; their lists of checks are not kept here.
        names: The names of services that have an instance: folded, and as first written.
        checks: By number of the node and ID.
        owners: The ids of the members that run the checks of external nodes, by number.
        seen: What is drawn knows of the checks of members: by number, the last index at which one was
            changed since its member came or changed; -1: none was, but it was set.
        fired: The ids of all events that ever were.
        changed: Keys that this entry wrote or deleted.
        is_open: False: this is another cluster from here on, and the book has ended.
        answers: What it shows of the catalog, once somebody has asked (`catalog.answers`).
    """

    index: int = 0
    time_ms: int = 0
    keys: dict[bytes, Cell] = field(default_factory=dict)
    locked: dict[bytes, int] = field(default_factory=dict)
    most_locked: int = 0
    delays: dict[bytes, float] = field(default_factory=dict)
    sessions: dict[bytes, Session] = field(default_factory=dict)
    members: dict[int, Face] = field(default_factory=dict)
    externals: dict[int, ExternalNode] = field(default_factory=dict)
    services: dict[tuple[int, str], Service] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    checks: dict[tuple[int, str], Check] = field(default_factory=dict)
    owners: dict[int, int] = field(default_factory=dict)
    seen: dict[int, int] = field(default_factory=dict)
    events: tuple[tuple[bytes, int], ...] = ()
    fired: frozenset[bytes] = frozenset()
    answered: frozenset[bytes] = frozenset()
    changed: tuple[bytes, ...] = ()
    indexes: Indexes = field(default_factory=Indexes)
    is_open: bool = True
    answers: dict[tuple[str, bytes], Any] | None = None

    def next(self, index: int) -> Page:
        """Return a copy, to be written for the next entry."""
        return replace(
            self,
            index=index,
            keys=dict(self.keys),
            locked=dict(self.locked),
            delays=dict(self.delays),
            sessions=dict(self.sessions),
            members=dict(self.members),
            externals=dict(self.externals),
            services=dict(self.services),
            names=dict(self.names),
            checks=dict(self.checks),
            owners=dict(self.owners),
            seen=dict(self.seen),
            changed=(),
            answers=None,
            indexes=self.indexes.copy(),
        )

    def has_node(self, number: int) -> bool:
        """Whether the catalog has a node of this number."""
        return number in self.externals or self.member_at(number) is not None

    def member_at(self, number: int) -> Face | None:
        """Return the member with this catalog number, or None."""
        return next((one for one in self.members.values() if one.number == number), None)

    # -- keys -------------------------------------------------------------------------------

    def put(self, key: bytes, cell: Cell) -> None:
        """Write a key; new ones take up the `LockIndex` where it was."""
        if key not in self.keys and cell.most == 0:
            cell = cell._replace(least=self.locked.get(key, 0), most=self.most_locked)
        self.keys[key] = cell
        self.most_locked = max(self.most_locked, cell.most)
        self.locked[key] = max(self.locked.get(key, 0), cell.least)
        self._changed(key)

    def remove(self, key: bytes, *, by_prefix: bool = False) -> None:
        """Delete a key that is there."""
        del self.keys[key]
        self._changed(key)
        self.indexes.deleted(key, self.index, is_own=not by_prefix)

    def remove_tree(self, prefix: bytes) -> None:
        """Delete all keys under a prefix."""
        gone = [key for key in self.keys if key.startswith(prefix)]
        for key in gone:
            self.remove(key, by_prefix=True)
        if gone:
            self.indexes.deleted_tree(prefix, self.index)

    def _changed(self, key: bytes) -> None:
        self.indexes.wrote(key, self.index)
        if key not in self.changed:
            self.changed = (*self.changed, key)

    # -- sessions ---------------------------------------------------------------------------

    def end(self, session: Session) -> None:
        """End a session, and its locks."""
        held = [key for key, cell in self.keys.items() if cell.session == session.id]
        for key in held:
            if session.behavior == "delete":
                self.remove(key)
            else:
                self.put(key, self.keys[key]._replace(session=b"", modify=self.index))
            if session.lock_delay_ns:
                self.delays[key] = self.time_ms + session.lock_delay_ns / 1_000_000
        del self.sessions[session.id]
        self.indexes.session(session.id, session.node, self.index, is_end=True)
