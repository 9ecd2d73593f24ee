"""What the DNS server asks about registered services, and how it is told that an answer has changed.

Owns the questions and the shapes of their answers: plain data, so that nothing here depends on where
services are kept. Which names exist and which records they have is decided in `services.py`.

Theory of operation: the server asks when a client does, and keeps what it has packed from the answer.
Each answer names the *keys* that it depends on. When something changes, the lookup calls `on_change`
with the keys of it, and the server drops what it has packed with them. So a change costs what was
asked about, however much is registered, and a cached reply costs no comparison of versions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from .records import Name

Key: TypeAlias = bytes
"""What an answer depends on: made by `service_key`, `number_key` or `node_key`."""

EVERYTHING: Key = b"*"
"""Told when everything may have changed: all that is packed goes, and `names` is read again."""

PASSING, WARNING, CRITICAL = 0, 1, 2
"""The worst status of an instance's checks and its node's."""


def service_key(name: bytes) -> Key:
    """Return the key of a service's instances and their checks; `name` is in lower case."""
    return b"s" + name


def number_key(number: int) -> Key:
    """Return the key of a catalog node's record and its own checks, by its number."""
    return b"n" + number.to_bytes(8, "big")


def node_key(name: bytes) -> Key:
    """Return the key of what a node's name stands for; `name` is in lower case."""
    return b"N" + name


class Instance(NamedTuple):
    """One instance of a service.

    Attributes:
        node: The label of its node, in lower case; empty where DNS cannot carry its name.
        address: Its own address as registered, mostly an IP literal or a host name; empty: it has
            its node's.
        node_address: Its node's, likewise; never empty.
        port: 0 to 65535.
        weight: Of its present status, 0 to 65535.
        status: `PASSING`, `WARNING` or `CRITICAL`.
        tags: In lower case.
        order: What instances are sorted by and told apart by: their node's name and their id.
    """

    node: bytes
    address: str
    node_address: str
    port: int
    weight: int
    status: int
    tags: tuple[bytes, ...]
    order: bytes


class Service(NamedTuple):
    """All instances of one service, sorted by `order`, and the TTL of its records in seconds."""

    ttl_s: int
    instances: tuple[Instance, ...]


class HostNode(NamedTuple):
    """A node that is no member of the cluster.

    Attributes:
        address: As registered: an IP literal, a host name, or a text that is neither.
        texts: Contents of its TXT records.
    """

    address: str
    texts: tuple[bytes, ...]


_What = TypeVar("_What")


class Found(NamedTuple, Generic[_What]):
    """The answer to a question; `keys` is all that it depends on, also where there is nothing."""

    what: _What | None
    keys: tuple[Key, ...]


class Names(NamedTuple):
    """Settings of the cluster.

    Attributes:
        datacenter: The cluster's, in lower case.
        alt_domains: Domains that have the same names as the zone.
        only_passing: Whether instances with a warning are left out.
        empty_is_nxdomain: Whether the name of a service does not exist while no instance is shown.
        max_stale_s: How long services are answered without contact with a leader.
    """

    datacenter: bytes = b""
    alt_domains: tuple[Name, ...] = ()
    only_passing: bool = False
    empty_is_nxdomain: bool = False
    max_stale_s: float = 300.0


OnChange: TypeAlias = Callable[[Sequence[Key]], None]


class Lookup(Protocol):
    """Answers the server's questions from what is registered now.

    Attributes:
        on_change: Called with the keys of what has changed, after it has; set by the server.
        version: Grows with every call of `on_change`.
    """

    on_change: OnChange
    version: int

    @property
    def names(self) -> Names:
        """The settings; a change of them is a change of `EVERYTHING`."""

    @property
    def age_s(self) -> float:
        """Seconds since this node was last in contact with a leader; 0 in contact."""

    def service(self, name: bytes) -> Found[Service]:
        """Return a service by its name in lower case; None: it has no instance."""

    def node(self, name: bytes) -> Found[HostNode]:
        """Return a node that is no member, by its name in lower case."""


class NoLookup:
    """Nothing is registered, and nothing ever changes. A `Lookup`."""

    def __init__(self) -> None:
        self.on_change: OnChange = lambda _keys: None
        self.version = 0

    @property
    def names(self) -> Names:
        """The defaults: no alternative domain, and no datacenter that has a name."""
        return _DEFAULTS

    @property
    def age_s(self) -> float:
        """Nothing gets old."""
        return 0.0

    def service(self, name: bytes) -> Found[Service]:
        """Find nothing."""
        return Found(None, (service_key(name),))

    def node(self, name: bytes) -> Found[HostNode]:
        """Find nothing."""
        return Found(None, (node_key(name),))


_DEFAULTS = Names()
