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


class KeyRow(msgspec.Struct, rename="pascal"):
    """A key as Consul shows it, and as a row of a transaction.

    Attributes:
        value: In base64; None: it is empty, or the operation does not answer with it.
        session: Who holds its lock; empty: nobody.
    """

    key: str
    value: str | None = None
    modify_index: int = 0
    lock_index: int = 0
    session: str = ""

    def data(self) -> bytes:
        """Return the bytes of the value.

        Raises:
            ValueError: They are no base64.
        """
        return binascii.a2b_base64(self.value or "")


class SessionInfo(msgspec.Struct, rename="pascal"):
    """A session, as the paths under `/v1/session` show it.

    Attributes:
        lock_delay: In nanoseconds.
        ttl: As it was given; empty: none.
        node_checks: The checks of its node that it depends on.
    """

    id: str = msgspec.field(name="ID")
    name: str = ""
    node: str = ""
    lock_delay: int = 0
    behavior: str = ""
    ttl: str = msgspec.field(name="TTL", default="")
    node_checks: list[str] | None = None


class _SessionId(msgspec.Struct):
    id: str = msgspec.field(name="ID")


class TxnRow(msgspec.Struct):
    """What one operation of a transaction answers."""

    kv: KeyRow | None = msgspec.field(name="KV", default=None)


class TxnFault(msgspec.Struct, rename="pascal"):
    """Why an operation of a transaction could not be done.

    Attributes:
        op_index: Its place in the transaction, from 0.
        what: In words.
    """

    op_index: int
    what: str


class TxnReply(msgspec.Struct, rename="pascal"):
    """The answer to a transaction: rows, or the reasons why nothing was changed."""

    results: list[TxnRow] | None = None
    errors: list[TxnFault] | None = None


class NodeRow(msgspec.Struct, rename="pascal"):
    """A node of the catalog."""

    node: str
    address: str = ""


class ServiceRow(msgspec.Struct, rename="pascal"):
    """A service, as the paths under `/v1/health/service` show it."""

    id: str = msgspec.field(name="ID")
    service: str = ""
    tags: list[str] = []
    address: str = ""
    port: int = 0


class CheckRow(msgspec.Struct, rename="pascal"):
    """A check.

    Attributes:
        service_id: Of its service; empty: it is a check of the node.
        type: `maintenance` among others.
        modify_index: Since when it is as it is.
    """

    check_id: str = msgspec.field(name="CheckID")
    node: str = ""
    name: str = ""
    status: str = ""
    notes: str = ""
    output: str = ""
    service_id: str = msgspec.field(name="ServiceID", default="")
    service_name: str = ""
    type: str = ""
    modify_index: int = 0


class InstanceRow(msgspec.Struct, rename="pascal"):
    """An instance of a service, with the checks that count for it."""

    node: NodeRow
    service: ServiceRow
    checks: list[CheckRow] = []


class _AgentConfig(msgspec.Struct, rename="pascal"):
    node_name: str = ""


class _Agent(msgspec.Struct, rename="pascal"):
    config: _AgentConfig


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
ROWS = msgspec.json.Decoder(list[KeyRow])
SESSIONS = msgspec.json.Decoder(list[SessionInfo])
SESSION_ID = msgspec.json.Decoder(_SessionId)
TXN = msgspec.json.Decoder(TxnReply)
WRITTEN = msgspec.json.Decoder(_Written)
AGENT = msgspec.json.Decoder(_Agent)
SERVICE_TAGS = msgspec.json.Decoder(dict[str, list[str]])
BY_ID = msgspec.json.Decoder(dict[str, msgspec.Raw])
INSTANCES = msgspec.json.Decoder(list[InstanceRow])
CHECKS = msgspec.json.Decoder(list[CheckRow])
ANYTHING = msgspec.json.Decoder()
