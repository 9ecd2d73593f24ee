"""A catalog of dictionaries: the `Catalog` of `api/backend.py`, and the catalog's part of a `Reader`.

    catalog = FakeCatalog()
    catalog.add_member(1, "n1", "10.0.0.1")
    catalog.add_external("web-1", "192.0.2.1", meta=(("external-node", "true"),))
    catalog.register(1, "web", port=8080, tags=("v1",))
    catalog.check(1, "service:web", "passing", service="web")
    catalog.service_index(b"web")           # moves with each change of it
    catalog.listen({SERVICES}, call, restarted)

Each change has an index of its own, one more than the last, and tells the listeners. Its indexes are
coarse: one for each service, and else that of the last change of anything.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

import msgspec

from hstore.node.model.checks import SERF_HEALTH, SERF_HEALTH_NAME, Check, CheckStatus
from hstore.node.model.services import CONSUL, Pairs, Registration, Service
from hstore.node.state.catalog.reader import CatalogNode, Instance
from hstore.node.state.catalog.records import fold
from hstore.node.state.watching.changes import (
    CHECKS,
    NODE_CHECKS,
    NODE_HEALTH,
    NODE_SERVICES,
    NODES,
    SERVICES,
    Table,
)

EXTERNAL = 1 << 63


def number_key(number: int) -> bytes:
    return number.to_bytes(8, "big")


class FakeCatalog:
    """Nodes, services and checks; as a reader it is always as of now."""

    def __init__(self, own_number: int = 1) -> None:
        self.own_number = own_number
        self.applied = 1
        self.nodes: dict[int, CatalogNode] = {}
        self.services: dict[tuple[int, str], Service] = {}
        self.all_checks: dict[tuple[int, str], Check] = {}
        self.indexes: dict[bytes, int] = {}
        self.so: list[bool] = []
        self._listeners: list[tuple[frozenset[Table], Callable[[Table, bytes], None]]] = []

    # --- changing it -----------------------------------------------------------------------------

    def add_member(
        self, number: int, name: str, address: str, status: CheckStatus = "passing"
    ) -> None:
        uuid = f"00000000-0000-0000-{number >> 48:04x}-{number & (1 << 48) - 1:012x}"
        self._add_node(number, name, address, (), uuid, is_member=True)
        self.check(number, SERF_HEALTH, status, name=SERF_HEALTH_NAME)

    def add_external(self, name: str, address: str, *, meta: Pairs = (), uuid: str = "") -> int:
        number = EXTERNAL | (self.applied + 1) << 8
        self._add_node(number, name, address, meta, uuid, is_member=False)
        return number

    def _add_node(
        self, number: int, name: str, address: str, meta: Pairs, uuid: str, *, is_member: bool
    ) -> None:
        index = self._next()
        self.nodes[number] = CatalogNode(
            number, name, uuid, address, (), meta, index, index, is_member
        )
        self._tell((NODES, number_key(number)), (NODE_HEALTH, number_key(number)))

    def remove_node(self, number: int) -> None:
        for node, service_id in [key for key in self.services if key[0] == number]:
            self.deregister(node, service_id)
        for key in [key for key in self.all_checks if key[0] == number]:
            del self.all_checks[key]
        del self.nodes[number]
        self._next()
        self._tell((NODES, number_key(number)), (NODE_HEALTH, number_key(number)))

    def register(self, number: int, name: str, service_id: str = "", **fields: Any) -> Service:
        index = self._next()
        key = number, service_id or name
        before = self.services.get(key)
        shown = self.service_name(fold(name)) or name
        made = Service(
            number,
            key[1],
            shown,
            checks=() if before is None else before.checks,
            create_index=index if before is None else before.create_index,
            modify_index=index,
            **fields,
        )
        self.services[key] = made
        self._touch(made, index)
        self._tell((NODE_SERVICES, number_key(number)))
        return made

    def deregister(self, number: int, service_id: str) -> None:
        index = self._next()
        gone = self.services.pop((number, service_id))
        for check in gone.checks:
            del self.all_checks[number, check]
        self._touch(gone, index)
        self._tell((NODE_SERVICES, number_key(number)))

    def check(
        self,
        number: int,
        check_id: str,
        status: CheckStatus,
        *,
        service: str = "",
        name: str = "",
        **fields: Any,
    ) -> Check:
        index = self._next()
        before = self.all_checks.get((number, check_id))
        created = index if before is None else before.create_index
        made = Check(
            number,
            check_id,
            name or check_id,
            status,
            service=service,
            create_index=created,
            modify_index=index,
            **fields,
        )
        self.all_checks[number, check_id] = made
        if service:
            owner = self.services[number, service]
            checks = tuple(sorted({*owner.checks, check_id}))
            self.services[number, service] = msgspec.structs.replace(owner, checks=checks)
            self._touch(owner, index)
        else:
            self._tell((NODE_HEALTH, number_key(number)))
            for one in self.services.values():
                if one.node == number:
                    self.indexes[fold(one.name)] = index
        self._tell(
            (NODE_CHECKS, number_key(number)), (CHECKS, number_key(number) + check_id.encode())
        )
        return made

    def _next(self) -> int:
        self.applied += 1
        return self.applied

    def _touch(self, service: Service, index: int) -> None:
        folded = fold(service.name)
        self.indexes[folded] = index
        self._tell((SERVICES, folded))

    def listen(
        self,
        tables: Collection[Table],
        call: Callable[[Table, bytes], None],
        restarted: Callable[[], None],
    ) -> None:
        del restarted  # Never here.
        self._listeners.append((frozenset(tables), call))

    def _tell(self, *wakes: tuple[Table, bytes]) -> None:
        for table, key in wakes:
            for tables, call in self._listeners:
                if table in tables:
                    call(table, key)

    # --- the `Catalog` of the API, and the catalog of a `Reader` -------------------------------------

    def catalog_nodes(self) -> list[CatalogNode]:
        return sorted(self.nodes.values(), key=lambda node: node.name.encode())

    def catalog_node(self, text: str) -> CatalogNode | None:
        folded, uuid = fold(text), text.lower()
        found = (one for one in self.nodes.values() if fold(one.name) == folded or one.uuid == uuid)
        return next(found, None)

    def node_by_number(self, number: int) -> CatalogNode | None:
        return self.nodes.get(number)

    def instances(self, folded: bytes) -> list[Instance]:
        if folded == CONSUL.encode():
            members = [node for node in self.catalog_nodes() if node.is_member]
            return [
                Instance(one, Service(one.number, CONSUL, CONSUL, port=8500)) for one in members
            ]
        found = [
            Instance(self.nodes[one.node], one)
            for one in self.services.values()
            if fold(one.name) == folded
        ]
        return sorted(found, key=lambda one: (one.node.name.encode(), one.service.id.encode()))

    def each_instance(self, folded: bytes) -> Iterator[Instance]:
        return iter(self.instances(folded))

    def service_name(self, folded: bytes) -> str:
        found = (one.name for one in self.services.values() if fold(one.name) == folded)
        return next(found, "")

    def services_of(self, number: int) -> Iterator[Service]:
        found = [one for one in self.services.values() if one.node == number]
        return iter(sorted(found, key=lambda one: one.id.encode()))

    def service(self, number: int, service_id: str) -> Service | None:
        return self.services.get((number, service_id))

    def counts(self, number: int) -> tuple[int, int]:
        checks = sum(
            one.node == number and one.id != SERF_HEALTH for one in self.all_checks.values()
        )
        return sum(node == number for node, _ in self.services), checks

    def node_checks(self, number: int) -> list[Check]:
        return [one for one in self.checks(number) if not one.service]

    def service_checks(self, service: Service) -> list[Check]:
        now = self.services.get((service.node, service.id), service)
        return [self.all_checks[service.node, check_id] for check_id in now.checks]

    def checks(self, node: int) -> Iterator[Check]:
        found = [one for one in self.all_checks.values() if one.node == node]
        return iter(sorted(found, key=lambda one: one.id.encode()))

    def every_check(self) -> Iterator[Check]:
        found = self.all_checks.values()
        return iter(sorted(found, key=lambda one: (one.node, one.id.encode())))

    def service_set(self) -> list[tuple[str, list[str]]]:
        tags: dict[str, set[str]] = {CONSUL: set()}
        for one in self.services.values():
            tags.setdefault(one.name, set()).update(one.tags)
        return [(name, sorted(tags[name])) for name in sorted(tags)]

    def service_index(self, folded: bytes) -> int:
        if folded == CONSUL.encode():
            return self.applied
        has_any = any(fold(one.name) == folded for one in self.services.values())
        return self.indexes[folded] if has_any else 0

    def service_set_index(self, *, is_narrowed: bool) -> int:
        del is_narrowed
        return self.applied

    def catalog_node_index(self, text: str) -> int:
        del text
        return self.applied

    def node_health_index(self, text: str) -> int:
        del text
        return self.applied

    def check_states_index(self, state: str) -> int:
        del state
        return self.applied

    def nodes_of_service(self, folded: bytes) -> tuple[int, ...]:
        return tuple(dict.fromkeys(one.node.number for one in self.instances(folded)))

    def is_so(self, command: Registration) -> bool:
        """What `so` says, in turn: nothing is so any more when that is used up."""
        del command
        return bool(self.so) and self.so.pop(0)

    def scan(self, prefix: bytes = b"", after: bytes | None = None) -> Iterator[Any]:
        del prefix, after
        return iter(())  # There are no keys.

    def nodes_index(self) -> int:
        return self.applied

    def close(self) -> None:
        pass
