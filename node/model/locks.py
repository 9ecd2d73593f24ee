"""Sessions, and the locks on keys that they hold: as stored, and the commands that change them.

A *session* stands for a client that lives. It holds locks on keys until it ends: destroyed, its TTL
over, its node or one of its checks failed. Consul's page "Sessions" describes the idea; what hstore
promises beyond it is in the contract of services, section 6.

The tags and the order of fields are on disk in every log: add at the end, never change.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from .numbers import Unsigned

SESSION_ID_BYTES = 16
SessionId = Annotated[bytes, msgspec.Meta(min_length=SESSION_ID_BYTES, max_length=SESSION_ID_BYTES)]
"""The UUID of a session, as 16 bytes. It is in the command that makes the session."""

SESSIONS_MAX = 50_000
SESSION_KEYS_MAX = 1_000
"""Keys that one session may hold: its end is one write."""
SESSION_VALUES_MAX = 32 * 1024 * 1024
"""Bytes of the values of those keys together, whoever writes them: its end writes them all again."""
LOCKS_MAX = 100_000
"""Locks that are held, and delays that are not over, together."""

LOCK_DELAY_NS = 15 * 1_000_000_000
"""Where a client gives none."""
LOCK_DELAY_NS_MAX = 60 * 1_000_000_000
SESSION_TEXT_BYTES_MAX = 16 * 1024
"""Of the name, the TTL and the IDs of the checks of a session together, one more for each."""

Behavior = Literal["release", "delete"]
"""What becomes of the keys that a session holds when it ends."""


class Session(msgspec.Struct, frozen=True, gc=False):
    """A session.

    Attributes:
        id: Its UUID.
        name: As its client gave it; may be empty.
        node: The catalog number of the node it is bound to (`Member.number`).
        lock_delay_ns: As its client gave it, at most 60 s: for so long nobody gets a key that it
            held when it ended.
        behavior: What becomes of its keys when it ends.
        ttl: As its client gave it; empty: it has none.
        ttl_ms: The same in milliseconds; 0: it has none.
        node_checks: IDs of checks of its node that it depends on.
        service_checks: IDs of checks of services on its node that it depends on; None: none were given.
        create_index, modify_index: Raft indexes.
    """

    id: SessionId
    name: str
    node: Unsigned
    lock_delay_ns: Unsigned
    behavior: Behavior
    ttl: str
    ttl_ms: Unsigned
    node_checks: tuple[str, ...]
    service_checks: tuple[str, ...] | None = None
    create_index: Unsigned = 0
    modify_index: Unsigned = 0


class Acquire(msgspec.Struct, frozen=True, array_like=True, tag="a", gc=False):
    """Set a key and lock it for a session; also one that this session has locked already.

    The outcome is false (`ok`) where another session holds it or its lock delay is not over, and
    has a `denial` where there is no such session or it holds too many keys.

    Attributes:
        key, value, flags: As in `Put`.
        session: Who gets the lock.
        time_ms: The cluster's time, for lock delays.
    """

    key: bytes
    value: bytes
    flags: Unsigned
    session: SessionId
    time_ms: Unsigned = 0


class Release(msgspec.Struct, frozen=True, array_like=True, tag="l", gc=False):
    """Set a key and end its lock, if this session holds it; else the outcome is false."""

    key: bytes
    value: bytes
    flags: Unsigned
    session: SessionId


class CreateSession(msgspec.Struct, frozen=True, array_like=True, tag="S", gc=False):
    """Begin a session. Refused where its node or a check is not there, or a check is critical.

    Attributes:
        session: As it shall be; its indexes are set when it takes effect.
        ttl_ns: Its TTL, to be held against the setting `session_ttl_min` when it takes effect: a node
            that is behind does not know the setting. 0: it is not.
    """

    session: Session
    ttl_ns: Unsigned = 0


class EndSession(msgspec.Struct, frozen=True, array_like=True, tag="E", gc=False):
    """End a session: its locks end, and its keys are under its lock delay from then on.

    Attributes:
        id: Of the session; without one, the outcome is false.
        check: (node, check ID, its `modify_index`): only if this check is still what it was then;
            None: in any case.
        time_ms: The cluster's time, from which lock delays count.
    """

    id: SessionId
    check: tuple[Unsigned, str, Unsigned] | None = None
    time_ms: Unsigned = 0
