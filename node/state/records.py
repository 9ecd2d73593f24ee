"""How the state machine's data is laid out as keys and values of a `StateStore`.

Owns the bytes, with `catalog/records.py`: they are on every node's disk and in every snapshot on the wire, so a layout is never
changed, only added to. Knows nothing of commands (the modules of the tables) or of RocksDB.

    ac              >7Q the last indexes of the catalog: that changed the set of names and tags of
                    services; any instance; the status of any check; that of a check which is, or
                    was, passing; warning; critical; a member as the catalog shows it, or their set
    ak              >Q the last index that changed a user's key
    al              >Q the greatest lock index that any key was ever given
    an              >Q the last index that changed the list of the catalog's nodes
    as              >Q the last index that changed the list of sessions
    at<node >Q>     >Q the last index that changed the list of sessions of one node
    b<name>         >Q the last index that changed an instance of this service, or a check of one;
                    then the name as its first instance wrote it, UTF-8. <name>: its UTF-8, in
                    which A-Z are a-z (`fold`). It is there while the name has an instance
    c<node >Q><id>  a `Check`, msgpack
    d<table><index >Q><n >Q>
                    a deletion in this table, the n-th of its entry: >BQ whether it is of a prefix,
                    lock index; then the key or the prefix. Tables: `k` keys, `p` sessions, `s`
                    names of services, `n` names of nodes, both folded, and UUIDs of nodes
    e<index >Q>     a `UserEvent`, msgpack
    f<table>        >QQ of the deletions of this table that are forgotten: the greatest index, the
                    greatest lock index
    g<number >Q>    an `ExternalNode`, msgpack
    h<session><key> >I how long the value of this user's key is, whose lock this session, 16 bytes, holds
    j<number >Q>    >QQQ of a node of the catalog: the last indexes that changed its services; any
                    of its checks; its *health*, which is its own record and its checks that belong
                    to no service
    k<user key>     >QQQ create revision, flags, revision; then the value. If the top bit of the
                    create revision is set: before the value >Q lock index, 16 bytes session that
                    holds the lock (zeros: none does)
    m<id >Q>        a `Member`, msgpack
    o<number >Q>    >Q the id of the member that runs the checks of an external node; no record:
                    nobody does
    p<session>      >Q the node of a session
    q<node >Q><session>
                    a `Session`, msgpack
    r<id >Q>        empty: a member that was removed and can never come back
    s               `Cluster`, msgpack: the cluster's id, its settings, how many nodes it waits for
    t<user key>     >Q the cluster's time in ms until which nobody gets the lock of this key
    u<node >Q><id>  a `Service`, msgpack
    w<client's key> a keyed write that was remembered: 16 bytes digest of the request; then >BQ
                    `ok` and `revision` of the answer; then, if it has more than that, a `_Rest`,
                    msgpack
    x<number >Q>    >Q the cluster's time in ms when keyed write `number` took effect; then its
                    client's key
    y               >QQQ the cluster's time in ms; the first number of `x` that is there; the number
                    that the next keyed write gets
    z               >QQ index and term of the last applied entry (`storage.interface.APPLIED_KEY`)
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

import msgspec

from ..errors import StorageError
from ..model.checks import Check
from ..model.commands import DIGEST_BYTES, ClusterSettings, Member, Outcome
from ..model.locks import SESSION_ID_BYTES, Session
from ..model.transactions import KeyRow
from ..model.user_events import UserEvent

T = TypeVar("T")

CATALOG_INDEXES_KEY = b"ac"
KEY_CHANGE_KEY = b"ak"
GREATEST_LOCK_KEY = b"al"
NODES_CHANGE_KEY = b"an"
SESSIONS_CHANGE_KEY = b"as"
NODE_SESSIONS_CHANGE = b"at"
NAME_INDEX = b"b"
NAME_INDEX_END = b"c"
CHECK = b"c"
CHECK_END = b"d"
DELETION = b"d"
EVENT = b"e"
EVENT_END = b"f"
FORGOTTEN = b"f"
EXTERNAL = b"g"
EXTERNAL_END = b"h"
HOLD = b"h"
HOLD_END = b"i"
NODE_INDEXES = b"j"
NODE_INDEXES_END = b"k"
USER = b"k"
USER_END = b"l"
MEMBER = b"m"
MEMBER_END = b"n"
OWNER = b"o"
OWNER_END = b"p"
SESSION_NODE = b"p"
SESSION_NODE_END = b"q"
SESSION = b"q"
SESSION_END = b"r"
REMOVED = b"r"
REMOVED_END = b"s"
CLUSTER_KEY = b"s"
DELAY = b"t"
DELAY_END = b"u"
SERVICE = b"u"
SERVICE_END = b"v"
ANSWER = b"w"
TURN = b"x"
KEYED_WRITES_KEY = b"y"

_RECORD = struct.Struct(">QQQ")
_ID = struct.Struct(">Q")
_ANSWER = struct.Struct(f">{DIGEST_BYTES}s?Q")
_KEYED_WRITES = struct.Struct(">QQQ")
_SIZE = struct.Struct(">I")
_LOCK = struct.Struct(f">Q{SESSION_ID_BYTES}s")
_DELETION_KEY = struct.Struct(">QQ")
_DELETION = struct.Struct(">?Q")
_FORGOTTEN = struct.Struct(">QQ")

LOCKED = 1 << 63
"""Added to the create revision of a key that has lock data."""

_VALUE_AT = _RECORD.size
LOCKED_VALUE_AT = _RECORD.size + _LOCK.size
_NOBODY = bytes(SESSION_ID_BYTES)


class Item(msgspec.Struct, frozen=True, gc=False):
    """A user's key and all that is stored with it.

    Attributes:
        key: As the user gave it.
        value: As the user gave it.
        flags: An unsigned 64-bit number that the user gave with the value.
        create_revision: The Raft index of the write that created the key.
        revision: The Raft index of the write that last touched it.
        lock_index: How often it was locked by a new holder.
        session: The session that holds its lock; empty: it is not locked.
    """

    key: bytes
    value: bytes
    flags: int
    create_revision: int
    revision: int
    lock_index: int = 0
    session: bytes = b""


class Cluster(msgspec.Struct, frozen=True, array_like=True):
    """The cluster's id, its settings, and how many nodes it waits for.

    Attributes:
        cluster_id: Its permanent id; empty: it has not been created yet.
        settings: Its settings.
        changed: By field of the settings: the revision that last changed it.
        expect: Voters that it still waits for before it serves clients; 0: it does not wait.
    """

    cluster_id: str = ""
    settings: ClusterSettings = ClusterSettings()
    changed: dict[str, int] = {}
    expect: int = 0


pack_head: Callable[[int, int, int], bytes] = _RECORD.pack
"""Encode what stands before the value in the record of a key without lock data."""


def encode_record(create_revision: int, flags: int, revision: int, value: bytes) -> bytes:
    """Return the stored form of a user's key."""
    return _RECORD.pack(create_revision, flags, revision) + value


def encode_locked(
    create_revision: int, flags: int, revision: int, lock: bytes, value: bytes
) -> bytes:
    """Return the stored form of a user's key that has lock data (see `encode_lock`, `lock_in`)."""
    return _RECORD.pack(create_revision | LOCKED, flags, revision) + lock + value


def encode_lock(lock_index: int, session: bytes) -> bytes:
    """Return the lock data of a key; an empty session: nobody holds it."""
    return _LOCK.pack(lock_index, session)


def lock_in(record: bytes) -> bytes:
    """Return the lock data in the record of a user's key; empty: it has none."""
    return record[_VALUE_AT:LOCKED_VALUE_AT] if record[0] & 0x80 else b""


def decode_item(key: bytes, record: bytes) -> Item:
    """Return what is stored under the user's `key`.

    Raises:
        StorageError: The record is too short to be one.
    """
    create_revision, flags, revision = record_head(key, record)
    if create_revision < LOCKED:
        return Item(key, record[_VALUE_AT:], flags, create_revision, revision)
    lock_index, session = decode_lock(key, record)
    create_revision -= LOCKED
    value = record[LOCKED_VALUE_AT:]
    return Item(key, value, flags, create_revision, revision, lock_index, session)


def record_head(key: bytes, record: bytes) -> tuple[int, int, int]:
    """Return create revision (with `LOCKED`, where so), flags and revision, but not the value."""
    try:
        head: tuple[int, int, int] = _RECORD.unpack_from(record)
    except struct.error as error:
        raise StorageError(f"the record of key {key[:64]!r} is damaged: {error}") from error
    return head


def decode_lock(key: bytes, record: bytes) -> tuple[int, bytes]:
    """Return lock index and session (empty: none) of a key, without copying the value.

    Raises:
        StorageError: The record is damaged.
    """
    try:
        return decode_lock_data(lock_in(record))
    except struct.error as error:
        raise StorageError(f"the lock of key {key[:64]!r} is damaged: {error}") from error


def decode_lock_data(lock: bytes) -> tuple[int, bytes]:
    """Return the lock index and the session (empty: none) of lock data; empty data: 0 and none."""
    if not lock:
        return 0, b""
    lock_index, session = _LOCK.unpack(lock)
    return lock_index, b"" if session == _NOBODY else session


def id_key(prefix: bytes, node_id: int) -> bytes:
    """Return the key of what is stored under `prefix` for a node."""
    return prefix + _ID.pack(node_id)


def id_of(key: bytes) -> int:
    """Return the node id in a key that `id_key` made."""
    node_id: int = _ID.unpack_from(key, 1)[0]
    return node_id


def turn_key(number: int) -> bytes:
    """Return the store's key of the place of keyed write `number` in the order of all."""
    return TURN + _ID.pack(number)


def encode_turn(time_ms: int, key: bytes) -> bytes:
    """Return the record of such a place: the cluster's time, and the client's key."""
    return _ID.pack(time_ms) + key


def decode_turn(record: bytes | None) -> tuple[int, bytes]:
    """Return the cluster's time of a keyed write, and its client's key.

    Raises:
        StorageError: There is no record where one has to be, or it is damaged.
    """
    if record is None or len(record) <= _ID.size:
        raise StorageError("the order of the idempotency keys is damaged")
    return _ID.unpack_from(record)[0], record[_ID.size :]


class _Rest(msgspec.Struct, frozen=True, array_like=True):
    """What an answer has beside `ok` and `revision`; as in `Outcome`."""

    text: str = ""
    denial: int = 0
    rows: tuple[KeyRow, ...] = ()
    faults: tuple[tuple[int, str], ...] = ()


_NO_REST = _Rest()
_rest_decoder = msgspec.msgpack.Decoder(_Rest)


def encode_answer(digest: bytes, outcome: Outcome) -> bytes:
    """Return the record of the answer to a keyed write."""
    head = _ANSWER.pack(digest, outcome.ok, outcome.revision)
    rest = _Rest(outcome.text, outcome.denial, outcome.rows, outcome.faults)
    return head if rest == _NO_REST else head + encode_msgpack(rest)


def decode_answer(record: bytes) -> tuple[bytes, Outcome]:
    """Return the digest of a keyed write's request, and its answer.

    Raises:
        StorageError: It is not such a record.
    """
    try:
        digest, ok, revision = _ANSWER.unpack_from(record)
        more = record[_ANSWER.size :]
        rest = _rest_decoder.decode(more) if more else _NO_REST
    except (struct.error, msgspec.MsgspecError) as error:
        raise StorageError(f"the record of an idempotency key is damaged: {error}") from error
    return digest, Outcome(ok, revision, rest.text, rest.denial, rest.rows, rest.faults)


def encode_keyed_writes(time_ms: int, first: int, following: int) -> bytes:
    """Return the record of the cluster's time and of the first and the next number of keyed writes."""
    return _KEYED_WRITES.pack(time_ms, first, following)


def decode_keyed_writes(record: bytes | None) -> tuple[int, int, int]:
    """Return the cluster's time, the first and the next number; None (no such key): all are 0.

    Raises:
        StorageError: It is not such a record.
    """
    if record is None:
        return 0, 0, 0
    try:
        ends: tuple[int, int, int] = _KEYED_WRITES.unpack(record)
    except struct.error as error:
        raise StorageError(f"the record of the cluster's time is damaged: {error}") from error
    return ends


encode_index: Callable[[int], bytes] = _ID.pack
"""Encode the record of one index, number or time."""


def decode_index(record: bytes | None, otherwise: int = 0) -> int:
    """Return what such a record holds; None (no such key): `otherwise`.

    Raises:
        StorageError: It is not such a record.
    """
    if record is None:
        return otherwise
    try:
        index: int = _ID.unpack(record)[0]
    except struct.error as error:
        raise StorageError(f"the record of an index is damaged: {error}") from error
    return index


def deletion_key(table: bytes, index: int, number: int) -> bytes:
    """Return the store's key of the deletion `number` of the entry at `index`."""
    return DELETION + table + _DELETION_KEY.pack(index, number)


def encode_deletion(name: bytes, lock_index: int, *, is_prefix: bool) -> bytes:
    """Return the record of a deletion."""
    return _DELETION.pack(is_prefix, lock_index) + name


def decode_deletion(key: bytes, record: bytes) -> tuple[int, int, bool, int, bytes]:
    """Return index, number, whether it is of a prefix, lock index, and the key or prefix.

    Raises:
        StorageError: It is no deletion.
    """
    try:
        index, number = _DELETION_KEY.unpack(key[2:])
        is_prefix, lock_index = _DELETION.unpack_from(record)
    except struct.error as error:
        raise StorageError(f"the record of a deletion is damaged: {error}") from error
    return index, number, is_prefix, lock_index, record[_DELETION.size :]


def encode_forgotten(index: int, lock_index: int) -> bytes:
    """Return the record of the greatest index and lock index of deletions that are forgotten."""
    return _FORGOTTEN.pack(index, lock_index)


def decode_forgotten(record: bytes | None) -> tuple[int, int]:
    """Return that greatest index and lock index; None (no such key): none is forgotten.

    Raises:
        StorageError: It is not such a record.
    """
    if record is None:
        return 0, 0
    try:
        greatest: tuple[int, int] = _FORGOTTEN.unpack(record)
    except struct.error as error:
        raise StorageError(f"the floor of the deletions is damaged: {error}") from error
    return greatest


def hold_key(session: bytes, key: bytes) -> bytes:
    """Return the store's key that says that `session` holds the lock of the user's `key`."""
    return HOLD + session + key


def hold_in(key: bytes) -> tuple[bytes, bytes]:
    """Return session and user's key in a key that `hold_key` made."""
    at = 1 + SESSION_ID_BYTES
    return key[1:at], key[at:]


def encode_size(size: int) -> bytes:
    """Return the record under `hold_key`: how long the value of the key is."""
    return _SIZE.pack(size)


def decode_size(record: bytes) -> int:
    """Return what `encode_size` was given.

    Raises:
        StorageError: The record is damaged.
    """
    try:
        (size,) = _SIZE.unpack(record)
    except struct.error as error:
        raise StorageError(f"the record of a lock is damaged: {error}") from None
    return int(size)


def session_key(node: int, session: bytes) -> bytes:
    """Return the store's key of a session of the node with this catalog number."""
    return SESSION + _ID.pack(node) + session


def check_key(node: int, check: str) -> bytes:
    """Return the store's key of a check of the node with this catalog number."""
    return CHECK + _ID.pack(node) + check.encode()


encode_msgpack = msgspec.msgpack.Encoder().encode
"""Encode a `Member`, `Cluster`, `Session`, `Check`, `UserEvent`, `Service` or `ExternalNode`."""


def decoder(kind: type[T], what: str) -> Callable[[bytes], T]:
    """Return the opposite of `encode_msgpack` for one type; `what` names its records in the error."""
    decode = msgspec.msgpack.Decoder(kind).decode

    def decoded(record: bytes) -> T:
        try:
            return decode(record)
        except msgspec.DecodeError as error:
            raise StorageError(f"the record of {what} is damaged: {error}") from error

    return decoded


# Each returns what is stored. Raises `StorageError`: it is not such a record.
decode_member = decoder(Member, "a member")
decode_cluster = decoder(Cluster, "the cluster")
decode_session = decoder(Session, "a session")
decode_check_once = decoder(Check, "a check")
# Each answer about a service asks for the same few checks of nodes.
decode_check = lru_cache(maxsize=256)(decode_check_once)
decode_event = decoder(UserEvent, "an event")


def prefix_end(prefix: bytes) -> bytes | None:
    """Return the first key after every key that starts with `prefix`; None: there is none."""
    stripped = prefix.rstrip(b"\xff")
    if not stripped:
        return None
    return stripped[:-1] + bytes([stripped[-1] + 1])
