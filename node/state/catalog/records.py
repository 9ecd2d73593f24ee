"""How the services and nodes of the catalog are laid out as records; a part of `records.py`.

The keys' prefixes, and the list of all records, are there. Checks are there too, since members have
had one before there were services.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import msgspec

from ...errors import StorageError
from ...model.checks import CheckStatus
from ...model.services import ExternalNode, Service
from ..records import decoder

_ID = struct.Struct(">Q")
_NODE_INDEXES = struct.Struct(">QQQ")
_CATALOG_INDEXES = struct.Struct(">7Q")


def instance_key(node: int, service: str) -> bytes:
    """Return the key of an instance, without the prefix: that in memory, too."""
    return _ID.pack(node) + service.encode()


def node_of(key: bytes) -> int:
    """Return the catalog number in a key that `instance_key` made."""
    number: int = _ID.unpack_from(key)[0]
    return number


def fold(name: str) -> bytes:
    """Return a name as it is found: in UTF-8, in which A-Z are a-z.

    Not `str.lower`: it depends on the Unicode tables of the Python that runs, so two members could
    file one name in two places.
    """
    return name.encode().lower()


def encode_name_index(index: int, shown: str) -> bytes:
    """Return the record of a service's name: its last index, and the name as it is shown."""
    return _ID.pack(index) + shown.encode()


def decode_name_index(record: bytes) -> tuple[int, str]:
    """Return the last index of a service's name, and the name as it is shown.

    Raises:
        StorageError: It is not such a record.
    """
    try:
        return _ID.unpack_from(record)[0], record[_ID.size :].decode()
    except (struct.error, UnicodeDecodeError) as error:
        raise StorageError(f"the index of a service is damaged: {error}") from error


encode_node_indexes: Callable[..., bytes] = _NODE_INDEXES.pack
"""Encode the record of the last indexes of a node: of its services, checks and health."""


def decode_node_indexes(record: bytes) -> list[int]:
    """Return the last indexes of a node: of its services, of its checks, of its health.

    Raises:
        StorageError: It is not such a record.
    """
    try:
        return list(_NODE_INDEXES.unpack(record))
    except struct.error as error:
        raise StorageError(f"the indexes of a node are damaged: {error}") from error


CATALOG_INDEXES = 7
"""How many last indexes the catalog has as a whole: see `index.AT_NAMES` and those after it."""

encode_catalog_indexes: Callable[..., bytes] = _CATALOG_INDEXES.pack
"""Encode the record of the last indexes of the catalog, given as seven arguments."""


def decode_catalog_indexes(record: bytes | None) -> list[int]:
    """Return the last indexes of the catalog; None (no such key): all are 0.

    Raises:
        StorageError: It is not such a record.
    """
    if record is None:
        return [0] * CATALOG_INDEXES
    try:
        return list(_CATALOG_INDEXES.unpack(record))
    except struct.error as error:
        raise StorageError(f"the indexes of the catalog are damaged: {error}") from error


class Named(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The first fields of a `Service`: all that a service leaves behind that goes with its node."""

    node: int
    id: str
    name: str
    tags: tuple[str, ...] = ()


class _Status(msgspec.Struct, frozen=True, gc=False):
    """One field of a `Check`."""

    status: CheckStatus


# Each returns what is stored. Raises `StorageError`: it is not such a record.
decode_service = decoder(Service, "a service")
decode_external = decoder(ExternalNode, "an external node")
decode_named = decoder(Named, "a service")
decode_status = decoder(_Status, "a check")
