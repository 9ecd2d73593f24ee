"""The keys and values of the log family: how entries, hard state and records are encoded.

Owns the bytes of that family and the two checks on them; knows nothing of RocksDB or files. The
layout is on every node's disk: it changes only together with `directory.FORMAT`.

    c<index >Q>   a second copy of the record of an entry that holds a configuration
    e<index >Q>   an entry: CRC32 (>I) | chain hash (16) | term (>Q) | kind (>B) | data
    g             >Q, the generation of the state family that is in force
    h             `HardState`, msgpack
    i             `Identity`, JSON: which directory this database belongs to
    l             `Loss`, msgpack: acknowledged entries that this node lost and still lacks
    n             `End`: CRC32 (>I) | batch number, last index (>QQ) | its chain hash (16)
    s             `SnapshotMeta`, msgpack: what the log starts after

Two checks, for two failures. The CRC32, over index and record, finds bytes that changed. The chain
hash h(i) = BLAKE2b(h(i-1), term, kind, data) finds records that are each intact and do not belong
together: one is missing, or an older version, or from another log. Two nodes whose logs have the
same chain hash at an index have the same log up to there.

Neither check is part of Raft, which assumes that a disk returns what was written to it. A checksum
alone does not find a write that never reached the disk, since the older record there is intact.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from hashlib import blake2b
from typing import TypeVar
from zlib import crc32

import msgspec

from ..errors import StorageError
from ..raft.entry import Entry, EntryKind, HardState, SnapshotMeta

_T = TypeVar("_T")

GENERATION_KEY = b"g"
HARD_STATE_KEY = b"h"
IDENTITY_KEY = b"i"
LOSS_KEY = b"l"
END_KEY = b"n"
SNAPSHOT_KEY = b"s"
# The first key behind the keys of all entries.
ENTRY_END = b"f"
# The range of the second copies of configurations. A node that lost an entry in the middle of its
# log can then still tell which configuration is in force.
CONFIG_START, CONFIG_END = b"c", b"d"

CHAIN_SIZE = 16
# The chain hash before the first entry of a cluster.
GENESIS = bytes(CHAIN_SIZE)

_CONFIG = int(EntryKind.CONFIG)
_ENTRY_KEY = struct.Struct(">cQ")
_GENERATION = struct.Struct(">Q")
_CRC = struct.Struct(">I")
_HEAD = struct.Struct(">QB")
_CHAIN_AT = _CRC.size
_HEAD_AT = _CHAIN_AT + CHAIN_SIZE
_DATA_AT = _HEAD_AT + _HEAD.size
_END = struct.Struct(f">QQ{CHAIN_SIZE}s")


class End(msgspec.Struct, frozen=True, gc=False):
    """The record at the end of every batch that changes the log (`recovery.py`).

    Attributes:
        batch: The batch's number, counted from 1.
        index, chain: The last entry after it, and the chain hash there.
    """

    batch: int
    index: int
    chain: bytes


class Loss(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Acknowledged entries that were lost.

    Attributes:
        recover_to: The node votes again when it has the log up to here.
        text: What was lost and why, for the operator.
    """

    recover_to: int
    text: str


def entry_key(index: int) -> bytes:
    """Return the key of the entry at `index`; keys sort as indexes do."""
    return _ENTRY_KEY.pack(b"e", index)


def config_key(index: int) -> bytes:
    """Return the key of the second copy of a configuration entry."""
    return _ENTRY_KEY.pack(b"c", index)


def entry_index(key: bytes) -> int:
    """Return the index in a key that `entry_key` or `config_key` made."""
    index: int = _ENTRY_KEY.unpack(key)[1]
    return index


def encode_entry(entry: Entry, chain: bytes) -> tuple[bytes, bytes]:
    """Return the record and chain hash of `entry`; `chain` is the hash of the entry before it."""
    head = _HEAD.pack(entry.term, entry.kind) + entry.data
    chain = blake2b(chain + head, digest_size=CHAIN_SIZE).digest()
    body = chain + head
    # The index is part of the CRC, not of the record: a record found under another key is damaged.
    return _CRC.pack(crc32(body, entry.index & 0xFFFFFFFF)) + body, chain


def encode_entries(
    entries: Sequence[Entry], last: int, chain: bytes
) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Return the records of `entries`, which follow entry `last`, and the new chain hash.

    Raises:
        StorageError: They leave a gap.
    """
    records = []
    for entry in entries:
        last += 1
        if entry.index != last:
            raise StorageError(f"entry {entry.index} does not follow entry {last - 1}")
        record, chain = encode_entry(entry, chain)
        records.append((entry_key(last), record))
        if entry.kind == _CONFIG:
            records.append((config_key(last), record))
    return records, chain


def decode_entry(index: int, record: bytes, chain: bytes) -> tuple[Entry, bytes]:
    """Check a record, and return its entry and chain hash.

    Args:
        index: The index in the key under which it was found.
        record: The stored bytes.
        chain: The chain hash of the entry before it.

    Raises:
        StorageError: The record was changed, or does not follow that entry.
    """
    found, term, kind = entry_head(index, record)
    entry = Entry(index, term, kind, record[_DATA_AT:])
    if blake2b(chain + record[_HEAD_AT:], digest_size=CHAIN_SIZE).digest() != found:
        raise StorageError(
            f"entry {index} of the log does not continue entry {index - 1}: one of them is from"
            " another log, or an older one"
        )
    return entry, found


def entry_head(index: int, record: bytes) -> tuple[bytes, int, int]:
    """Check only the CRC of a record, and return its chain hash, term and kind.

    Raises:
        StorageError: The record was changed.
    """
    if len(record) < _DATA_AT or _CRC.unpack_from(record)[0] != crc32(
        record[_CHAIN_AT:], index & 0xFFFFFFFF
    ):
        raise StorageError(f"entry {index} of the log is damaged on disk (its CRC differs)")
    term, kind = _HEAD.unpack_from(record, _HEAD_AT)
    return record[_CHAIN_AT:_HEAD_AT], term, kind


def entry_data(record: bytes) -> bytes:
    """Return the payload in a record."""
    return record[_DATA_AT:]


def encode_end(end: End) -> bytes:
    """Return the value of `END_KEY`."""
    body = _END.pack(end.batch, end.index, end.chain)
    return _CRC.pack(crc32(body)) + body


def decode_end(record: bytes | None) -> End | None:
    """Return the last batch's record of itself; None if it is missing or damaged."""
    if record is None or len(record) != _CRC.size + _END.size:
        return None
    if _CRC.unpack_from(record)[0] != crc32(record[_CRC.size :]):
        return None
    return End(*_END.unpack_from(record, _CRC.size))


_encode = msgspec.msgpack.Encoder().encode
_hard_state = msgspec.msgpack.Decoder(HardState)
_snapshot = msgspec.msgpack.Decoder(SnapshotMeta)
_loss = msgspec.msgpack.Decoder(Loss)

encode_hard_state = _encode
encode_snapshot = _encode
encode_loss = _encode


def decode_hard_state(record: bytes | None) -> HardState:
    """Return the stored hard state.

    Raises:
        StorageError: There is none, or it is damaged.
    """
    return _decode(_hard_state, record, "hard state (term and vote)")


def decode_snapshot(record: bytes | None) -> SnapshotMeta:
    """Return the snapshot that the log starts after.

    Raises:
        StorageError: There is no such record, or it is damaged.
    """
    return _decode(_snapshot, record, "snapshot record")


def decode_loss(record: bytes | None) -> Loss | None:
    """Return the loss that this node has not made up for yet; None if there is none.

    Raises:
        StorageError: The record is damaged.
    """
    return None if record is None else _decode(_loss, record, "record of what was lost")


def encode_generation(generation: int) -> bytes:
    """Return the value of `GENERATION_KEY`."""
    return _GENERATION.pack(generation)


def decode_generation(record: bytes | None) -> int:
    """Return the generation of the state that is in force.

    Raises:
        StorageError: There is no such record, or it is damaged.
    """
    if record is None or len(record) != _GENERATION.size:
        raise StorageError("the record of which state is in force is missing or damaged")
    generation: int = _GENERATION.unpack(record)[0]
    return generation


def _decode(decoder: msgspec.msgpack.Decoder[_T], record: bytes | None, what: str) -> _T:
    if record is None:
        raise StorageError(f"the {what} is missing")
    try:
        return decoder.decode(record)
    except msgspec.DecodeError as error:
        raise StorageError(f"the {what} is damaged: {error}") from error
