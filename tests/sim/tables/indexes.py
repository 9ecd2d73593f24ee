"""What may be told as the index of an answer: the last index that changed it, or the floor.

By the contract, 2.3: the index of a key that is there is its own; that of one that is not, is that
of its kept deletion; that of keys under a prefix is the greatest of both. A deletion of a prefix is
one deletion, and is one of every key and of every prefix that it overlaps. Where more were deleted
than are kept, the index may be that of any deletion in that table: the floor.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace


@dataclass
class Indexes:
    """The last changes, at one index.

    Attributes:
        wrote_at: By key: the last write or deletion of it.
        trees: By prefix: the last time that anything under it was deleted together.
        forgotten: Indexes of deletions of keys, which may be the floor.
        count: How many deletions of keys there were.
        sessions: By id: its making or its end.
        ends: Indexes of ends of sessions, likewise.
        lists: By number of a node: the last change of the list of its sessions; None: of all.
        members: The last change of a member, which may change what is shown of sessions.
        events: Of the last event.
        catalog: By question about the catalog: the last time that its answer changed.
        gone: Of each kind of what is looked up by name (services, nodes): when one ceased to be.
        meta: The last change of the meta of a node.
        cleared: The last time that a node went that had services.
        twice: The last command that changed one check twice: what it was in between may count, too.
    """

    wrote_at: dict[bytes, int] = field(default_factory=dict)
    trees: dict[bytes, int] = field(default_factory=dict)
    forgotten: tuple[int, ...] = ()
    count: int = 0
    sessions: dict[bytes, int] = field(default_factory=dict)
    ends: tuple[int, ...] = ()
    lists: dict[int | None, int] = field(default_factory=dict)
    members: int = 0
    events: int = 0
    catalog: dict[tuple[str, bytes], int] = field(default_factory=dict)
    gone: dict[str, tuple[int, ...]] = field(default_factory=dict)
    meta: int = 0
    cleared: int = 0
    twice: int = 0

    def copy(self) -> Indexes:
        """Return what can be written on without changing this."""
        return replace(
            self,
            wrote_at=dict(self.wrote_at),
            trees=dict(self.trees),
            sessions=dict(self.sessions),
            lists=dict(self.lists),
            gone=dict(self.gone),
        )

    # -- what happens -----------------------------------------------------------------------

    def wrote(self, key: bytes, index: int) -> None:
        """A key was written or deleted."""
        self.wrote_at[key] = index

    def deleted(self, key: bytes, index: int, *, is_own: bool) -> None:
        """A key was deleted: by itself, or with others under a prefix."""
        self.wrote_at[key] = index
        if is_own:
            self._deletion(index)

    def deleted_tree(self, prefix: bytes, index: int) -> None:
        """Something under a prefix was deleted."""
        self.trees[prefix] = index
        self._deletion(index)

    def _deletion(self, index: int) -> None:
        self.count += 1
        if self.forgotten[-1:] != (index,):
            self.forgotten = (*self.forgotten, index)

    def session(self, session: bytes, node: int, index: int, *, is_end: bool) -> None:
        """A session was made, or has ended."""
        self.sessions[session] = self.lists[node] = self.lists[None] = index
        if is_end:
            self.ends = (*self.ends, index)

    # -- what may be told -------------------------------------------------------------------

    def of_absent(self, key: bytes) -> tuple[int, int]:
        """Return the least and the greatest index of a key that is not there, without the floor."""
        own = self.wrote_at.get(key, 0)
        trees = (at for prefix, at in self.trees.items() if key.startswith(prefix))
        return own, max(own, *trees, 0)

    def of_tree(self, prefix: bytes) -> tuple[int, int]:
        """Return the least and the greatest index of the keys under a prefix, without the floor."""
        own = max((at for key, at in self.wrote_at.items() if key.startswith(prefix)), default=0)
        overlapping = (
            at for p, at in self.trees.items() if p.startswith(prefix) or prefix.startswith(p)
        )
        return own, max(own, *overlapping, 0)

    @property
    def keys_changed(self) -> int:
        """The last index that changed any key."""
        return max(self.wrote_at.values(), default=0)
