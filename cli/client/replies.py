"""What a node answers, as plain data, and the decoders that read it from JSON.

Owns the shapes of replies that `hstore.node.model.cluster_info` does not have. No request is made
here.
"""

from __future__ import annotations

import binascii
from typing import NamedTuple

import msgspec

from hstore.node.model.cluster_info import ClusterInfo, ConfigValue


class Value(NamedTuple):
    """What is stored under a key, and the revision of the write that last touched it."""

    data: bytes
    revision: int


class Seen(NamedTuple):
    """One message of a watch: a change, or only how far the watch has come.

    Attributes:
        position: The watch has sent all changes up to this revision; None: not yet all of this
            revision, which changed several keys.
        key: The key that has changed; None: the message has no change.
        revision: Of the change.
        value: The new value; None: the key was deleted.
    """

    position: int | None
    key: str | None = None
    revision: int = 0
    value: bytes | None = None


class Base64Value(msgspec.Struct):
    """A value of a listing that is not UTF-8."""

    base64: str

    def data(self) -> bytes:
        """Return its bytes.

        Raises:
            ValueError: It is no base64.
        """
        return binascii.a2b_base64(self.base64)


class Entry(msgspec.Struct):
    """A key with its value, or a change of it."""

    key: str
    revision: int
    value: str = ""
    value_base64: str | None = None
    deleted: bool = False

    def data(self) -> bytes:
        """Return the bytes of the value.

        Raises:
            ValueError: `value_base64` is no base64.
        """
        if self.value_base64 is None:
            return self.value.encode()
        return binascii.a2b_base64(self.value_base64)


class _Renamed(msgspec.Struct):
    was: str


class _Leading(msgspec.Struct):
    leader: str


class _Stopping(msgspec.Struct):
    still_voter: str = ""


class _Written(msgspec.Struct):
    revision: int


# Made here and not at each use. Clients run in several threads at a time (`search/find.py`), and when
# two threads are the first to decode into one type, msgspec 0.22 reads a half-filled table, and the
# process crashes.
CLUSTER = msgspec.json.Decoder(ClusterInfo)
CONFIG = msgspec.json.Decoder(dict[str, ConfigValue])
CONFIG_VALUE = msgspec.json.Decoder(ConfigValue)
RENAMED = msgspec.json.Decoder(_Renamed)
LEADING = msgspec.json.Decoder(_Leading)
ENTRY = msgspec.json.Decoder(Entry)
DONE = msgspec.json.Decoder(bool)
LISTING = msgspec.json.Decoder(dict[str, str | Base64Value])
STOPPING = msgspec.json.Decoder(_Stopping)
WRITTEN = msgspec.json.Decoder(_Written)
