"""Services in a dictionary, for the DNS server: a `hstore.dns.lookup.Lookup`."""

from __future__ import annotations

from collections.abc import Sequence

from hstore.dns.lookup import (
    EVERYTHING,
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

NAMES = Names(datacenter=b"dc1", alt_domains=((b"consul",),))


def instance(number: int = 1, **changes: object) -> Instance:
    """Instance `number`, on node w<number> at 10.1.0.<number>, passing, with port 8000 + number."""
    facts: dict[str, object] = {
        "node": b"w%d" % number,
        "address": "",
        "node_address": f"10.1.{number // 256}.{number % 256}",
        "port": 8000 + number,
        "weight": 1,
        "status": 0,
        "tags": (),
        "order": b"w%05d/id" % number,
    }
    return Instance(**(facts | changes))  # type: ignore[arg-type]  # facts of mixed types


class FakeLookup:
    """What is registered, by name; every change of it is told.

    Attributes:
        asked: How often the server has asked.
        age_s: Since contact.
    """

    def __init__(self, names: Names = NAMES) -> None:
        self.on_change: OnChange = lambda _keys: None
        self.version = 0
        self.asked = 0
        self.age_s = 0.0
        self._names = names
        self._services: dict[bytes, Service] = {}
        self._nodes: dict[bytes, HostNode] = {}

    @property
    def names(self) -> Names:
        return self._names

    @names.setter
    def names(self, names: Names) -> None:
        self._names = names
        self.tell(EVERYTHING)

    def tell(self, *keys: Key) -> None:
        self.version += 1
        self.on_change(keys)

    def put(self, name: bytes, instances: Sequence[Instance], ttl_s: int = 0) -> None:
        """Register all instances of a service; none: it is gone."""
        if instances:
            ordered = sorted(instances, key=lambda one: one.order)
            self._services[name] = Service(ttl_s, tuple(ordered))
        else:
            self._services.pop(name, None)
        self.tell(service_key(name))

    def put_node(self, name: bytes, node: HostNode | None) -> None:
        """Register a node; None: it is gone. Its instances are changed by `put`."""
        if node is None:
            self._nodes.pop(name, None)
        else:
            self._nodes[name] = node
        self.tell(node_key(name))

    def service(self, name: bytes) -> Found[Service]:
        self.asked += 1
        found = self._services.get(name)
        nodes = dict.fromkeys(one.node for one in found.instances) if found else {}
        numbers = [number_key(int(node[1:])) for node in nodes if node[1:].isdigit()]
        return Found(found, (service_key(name), *numbers))

    def node(self, name: bytes) -> Found[HostNode]:
        self.asked += 1
        return Found(self._nodes.get(name), (node_key(name),))
