"""The data of the log: entries, the hard state, and the description of a snapshot.

The core, the driver, the wire and the storage all use these types. Nothing here decides anything.
The payload of an entry is opaque bytes, except for membership entries, whose payload is an encoded
`Configuration` (see `membership.py`).
"""

from __future__ import annotations

import enum
from typing import Annotated

import msgspec

from .membership import Configuration

NUMBER_MAX = 1 << 62
"""No index and no term is above it: at a million a second that takes more than a hundred thousand
years, and 64 bits still hold what follows it."""

Number = Annotated[int, msgspec.Meta(ge=0, le=NUMBER_MAX)]
"""An index or a term, checked where a message of a peer is decoded."""


class EntryKind(enum.IntEnum):
    """What an entry is for. The numbers are on disk and on the wire: never reuse one."""

    COMMAND = 0
    """A command for the state machine."""
    NOOP = 1
    """Appended by a new leader, so that it can commit in its own term (section 8)."""
    CONFIG = 2
    """A whole `Configuration`, in force from the moment it is appended (thesis section 4.1)."""


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One entry of the log.

    Attributes:
        index: Position in the log, from 1.
        term: Term of the leader that appended it, from 1.
        kind: An `EntryKind`, kept as a plain integer because entries are decoded in bulk.
        data: The payload.
    """

    index: Number
    term: Number
    kind: int
    data: bytes


class HardState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a node must never forget (Figure 2, "Persistent state on all servers").

    Attributes:
        term: The latest term this node has seen.
        vote: Id of the node it voted for in `term`, 0 for none.
        commit: A commit index this node has known; a hint, never above the last durable entry.
    """

    term: int = 0
    vote: int = 0
    commit: int = 0


class SnapshotMeta(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Describes a snapshot, which replaces all entries up to and including `index` (section 7).

    Attributes:
        index: The last entry that the snapshot replaces; 0 is the empty state.
        term: That entry's term.
        config: The configuration in force at `index`.
        chain: The chain hash of the log at `index`; the storage fills it in and checks it.
    """

    index: Number = 0
    term: Number = 0
    # Section 7: "To enable cluster membership changes (Section 6), the snapshot also includes the
    # latest configuration in the log as of last included index."
    config: Configuration = Configuration()
    chain: bytes = b""
