"""How the state machine's data is laid out as keys and values of a `StateStore`.

Owns the bytes: they are on every node's disk and in every snapshot on the wire, so a layout is never
changed, only added to. Knows nothing of commands (the modules of the tables) or of RocksDB.

    k<user key>     >QQQ create revision, flags, revision; then the value
    m<id >Q>        a `Member`, msgpack
    r<id >Q>        empty: a member that was removed and can never come back
    s               `Cluster`, msgpack: the cluster's id, its settings, how many nodes it waits for
    w<client's key> a keyed write that was remembered: 16 bytes digest of the request; then >BQ
                    `ok` and `revision` of the answer
    x<number >Q>    >Q the cluster's time in ms when keyed write `number` took effect; then its
                    client's key
    y               >QQQ the cluster's time in ms; the first number of `x` that is there; the number
                    that the next keyed write gets
    z               >QQ index and term of the last applied entry (`storage.interface.APPLIED_KEY`)
"""

from __future__ import annotations

import struct

import msgspec

from ..errors import StorageError
from ..model.commands import DIGEST_BYTES, ClusterSettings, Member

USER = b"k"
USER_END = b"l"
MEMBER = b"m"
MEMBER_END = b"n"
REMOVED = b"r"
REMOVED_END = b"s"
CLUSTER_KEY = b"s"
ANSWER = b"w"
TURN = b"x"
KEYED_WRITES_KEY = b"y"

_RECORD = struct.Struct(">QQQ")
_ID = struct.Struct(">Q")
_ANSWER = struct.Struct(f">{DIGEST_BYTES}s?Q")
_KEYED_WRITES = struct.Struct(">QQQ")


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


def encode_record(create_revision: int, flags: int, revision: int, value: bytes) -> bytes:
    """Return the stored form of a user's key."""
    return _RECORD.pack(create_revision, flags, revision) + value


def decode_item(key: bytes, record: bytes) -> Item:
    """Return what is stored under the user's `key`.

    Raises:
        StorageError: The record is too short to be one.
    """
    create_revision, flags, revision = record_head(key, record)
    return Item(key, record[_RECORD.size :], flags, create_revision, revision)


def record_head(key: bytes, record: bytes) -> tuple[int, int, int]:
    """Return create revision, flags and revision without copying the value."""
    try:
        head: tuple[int, int, int] = _RECORD.unpack_from(record)
    except struct.error as error:
        raise StorageError(f"the record of key {key[:64]!r} is damaged: {error}") from error
    return head


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


def encode_answer(digest: bytes, *, ok: bool, revision: int) -> bytes:
    """Return the record of the answer to a keyed write."""
    return _ANSWER.pack(digest, ok, revision)


def decode_answer(record: bytes) -> tuple[bytes, bool, int]:
    """Return the digest of a keyed write's request, and `ok` and `revision` of its answer.

    Raises:
        StorageError: It is not such a record.
    """
    try:
        answer: tuple[bytes, bool, int] = _ANSWER.unpack(record)
    except struct.error as error:
        raise StorageError(f"the record of an idempotency key is damaged: {error}") from error
    return answer


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


_member_decoder = msgspec.msgpack.Decoder(Member)
_cluster_decoder = msgspec.msgpack.Decoder(Cluster)

encode_msgpack = msgspec.msgpack.Encoder().encode
"""Encode a `Member` or a `Cluster`."""


def decode_member(record: bytes) -> Member:
    """Return a stored member.

    Raises:
        StorageError: It is not one.
    """
    try:
        member: Member = _member_decoder.decode(record)
    except msgspec.DecodeError as error:
        raise StorageError(f"the record of a member is damaged: {error}") from error
    return member


def decode_cluster(record: bytes) -> Cluster:
    """Return the stored cluster id and settings.

    Raises:
        StorageError: It is not such a record.
    """
    try:
        cluster: Cluster = _cluster_decoder.decode(record)
    except msgspec.DecodeError as error:
        raise StorageError(f"the record of the cluster is damaged: {error}") from error
    return cluster


def prefix_end(prefix: bytes) -> bytes | None:
    """Return the first key after every key that starts with `prefix`; None: there is none."""
    stripped = prefix.rstrip(b"\xff")
    if not stripped:
        return None
    return stripped[:-1] + bytes([stripped[-1] + 1])
