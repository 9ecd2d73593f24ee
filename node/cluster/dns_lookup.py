"""What the DNS server asks about services, answered from this node's copy of the state.

Owns the translation between the catalog and `hstore.dns.lookup`: which status an instance has in DNS,
which weight and TTL, and which keys an answer depends on. Each question reads the state, and each
change of it is told by key to the server, which keeps what it has packed. Only of a few services with
many instances what was read is kept here, too, until it changes: there are several questions for one
service, and those for tags that nobody has are never kept by the server.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeAlias

import trio

from hstore.dns.lookup import (
    CRITICAL,
    EVERYTHING,
    PASSING,
    WARNING,
    Found,
    HostNode,
    Instance,
    Key,
    Names,
    OnChange,
    Service,
    node_key,
    number_key,
    service_key,
)
from hstore.dns.records import name_of
from hstore.dns.services import is_label

from ..model.checks import Check
from ..model.commands import ClusterSettings
from ..model.services import CONSUL
from ..model.values import service_ttls
from ..state.catalog.reader import CatalogNode
from ..state.catalog.records import fold
from ..state.reader import Reader
from ..state.watching.changes import NODE_HEALTH, NODES, SERVICES, SETTINGS, Table

_STATUS = {"passing": PASSING, "warning": WARNING, "critical": CRITICAL}

_CONSUL_KEY = service_key(CONSUL.encode())

# To read so many instances takes a millisecond. Memory of what is kept: some 300 bytes an instance.
_KEPT_FROM = 64
_KEPT_MAX = 16

# RFC 1464 gives each attribute a string. A key that begins so names a text that is no attribute
# (Consul: agent/dns.go, encodeKVasRFC1464).
_VERBATIM = "rfc1035-"


Listen: TypeAlias = Callable[
    [Collection[Table], Callable[[Table, bytes], None], Callable[[], None]], object
]
"""`Watches.listen`."""


class CatalogLookup:
    """Answers the DNS server from the catalog. A `hstore.dns.lookup.Lookup`.

    Attributes:
        on_change: Called with the keys of what has changed, in the turn in which it took effect.
        version: Grows with each such call.
    """

    def __init__(
        self,
        view: Callable[[], Reader],
        listen: Listen,
        settings: Callable[[], ClusterSettings],
        contact_at: Callable[[], float],
    ) -> None:
        """Listen to the changes of the catalog from now on.

        Args:
            view: Opens a reader of this node's copy of the state.
            listen: Registers for its changes.
            settings: Returns the settings of the cluster.
            contact_at: Returns when this node was last in contact with a leader, in seconds of
                `trio.current_time()`; infinity: it is now.
        """
        self.on_change: OnChange = lambda _keys: None
        self.version = 0
        self._view = view
        self._settings = settings
        self._contact_at = contact_at
        self._names: tuple[ClusterSettings, Names] | None = None
        self._ttls: tuple[str, dict[str, int]] = "", {}
        self._kept: dict[bytes, tuple[Found[Service], frozenset[Key]]] = {}
        listen((SERVICES, NODE_HEALTH, NODES, SETTINGS), self._changed, self._restarted)

    @property
    def names(self) -> Names:
        """The settings, as the DNS server has them."""
        settings = self._settings()
        if self._names is None or self._names[0] is not settings:
            self._names = settings, _names_of(settings)
        return self._names[1]

    @property
    def age_s(self) -> float:
        """Seconds since this node was last in contact with a leader; 0 in contact."""
        return max(0.0, trio.current_time() - self._contact_at())

    def service(self, name: bytes) -> Found[Service]:
        """Return a service by its name in lower case.

        Raises:
            StorageError: The state cannot be read.
        """
        kept = self._kept.get(name)
        if kept is not None:
            return kept[0]
        found = self._read(name)
        if found.what is not None and len(found.what.instances) >= _KEPT_FROM:
            if len(self._kept) >= _KEPT_MAX:
                del self._kept[next(iter(self._kept))]
            self._kept[name] = found, frozenset(found.keys)
        return found

    def _read(self, name: bytes) -> Found[Service]:
        reader = self._view()
        try:
            instances = reader.instances(name)
            worst: dict[int, int] = {}
            found = []
            for node, service in instances:
                if node.number not in worst:
                    worst[node.number] = _worst(reader.node_checks(node.number))
                own = _worst(reader.service_checks(service)) if service.checks else PASSING
                status = max(worst[node.number], own)
                weight = service.weight_warning if status == WARNING else service.weight_passing
                found.append(
                    Instance(
                        node=_label(node),
                        address=service.address,
                        node_address=node.address,
                        port=service.port,
                        weight=weight,
                        status=status,
                        tags=tuple(fold(tag) for tag in service.tags),
                        order=f"{node.name}/{service.id}".encode(),
                    )
                )
        finally:
            reader.close()
        keys = (service_key(name), *map(number_key, worst))
        if not found:
            return Found(None, keys)
        return Found(Service(self._ttl_s(name), tuple(found)), keys)

    def node(self, name: bytes) -> Found[HostNode]:
        """Return a node that is no member, by its name in lower case.

        Raises:
            StorageError: The state cannot be read.
        """
        reader = self._view()
        try:
            # A node is found by its UUID, too, which is no name in DNS.
            node = reader.catalog_node(name.decode("ascii", "replace"))
        finally:
            reader.close()
        key = node_key(name)
        if node is None or node.is_member or fold(node.name) != name:
            return Found(None, (key,))
        texts = tuple(_text(*pair) for pair in node.meta)
        # Its name may change, or go, and only its number is told then.
        return Found(HostNode(node.address, texts), (key, number_key(node.number)))

    # -- what changes -----------------------------------------------------------------------

    def _changed(self, table: Table, key: bytes) -> None:
        if table == SERVICES:
            self._tell(service_key(key))
        elif table == NODE_HEALTH:
            self._tell(number_key(int.from_bytes(key, "big")))
        elif table == NODES:
            self._node_changed(int.from_bytes(key, "big"))
        else:
            self._restarted()

    def _node_changed(self, number: int) -> None:
        reader = self._view()
        try:
            node = reader.node_by_number(number)
        finally:
            reader.close()
        names = () if node is None else (node_key(fold(node.name)),)
        self._tell(_CONSUL_KEY, number_key(number), *names)

    def _restarted(self) -> None:
        self._kept.clear()
        self._tell(EVERYTHING)

    def _tell(self, *keys: Key) -> None:
        self.version += 1
        for name, (_found, depends) in [*self._kept.items()]:
            if not depends.isdisjoint(keys):
                del self._kept[name]
        self.on_change(keys)

    def _ttl_s(self, name: bytes) -> int:
        """Return the TTL that is set for a name, or else for the longest of its beginnings."""
        text = self._settings().dns_service_ttl
        if not text:
            return 0
        if self._ttls[0] != text:
            ttls = {fold(one).decode(): ttl_s for one, ttl_s in service_ttls(text)}
            self._ttls = text, ttls
        ttls = self._ttls[1]
        written = name.decode("utf-8", "replace")
        if written in ttls:
            return ttls[written]
        beginnings = (written[:end] + "*" for end in range(len(written), -1, -1))
        return next((ttls[one] for one in beginnings if one in ttls), 0)


def _names_of(settings: ClusterSettings) -> Names:
    domains = [one for one in settings.alt_domains.split(",") if one]
    return Names(
        datacenter=fold(settings.datacenter),
        alt_domains=tuple(map(name_of, domains)),
        only_passing=bool(settings.dns_only_passing),
        empty_is_nxdomain=settings.dns_empty == "nxdomain",
        max_stale_s=settings.dns_max_stale_ms / 1000,
    )


def _worst(checks: Collection[Check]) -> int:
    return max((_STATUS[check.status] for check in checks), default=PASSING)


def _label(node: CatalogNode) -> bytes:
    name = fold(node.name)
    return name if is_label(name) else b""


def _text(key: str, value: str) -> bytes:
    """Return a pair of a node's meta as a text of RFC 1464: `key=value`.

    Section 2 of it: in the key an equals sign, a grave accent, and white space at either end are
    quoted with a grave accent.
    """
    if key.lower().startswith(_VERBATIM):
        return value.encode()
    quoted = key.replace("`", "``").replace("=", "`=")
    return f"{quoted}={value}".encode()
