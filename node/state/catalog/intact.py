"""The part of `intact.py` that looks at the records of the catalog, and whether they belong together.

The records come in the order of their keys: names, checks, external nodes, indexes of nodes, members,
owners, services. So what the earlier ones say is kept until the later ones have said the same.
"""

from __future__ import annotations

from ...config import command_limits
from ...model.commands import Member
from ...model.services import EXTERNAL_NODES_MAX, INSTANCES_MAX
from .. import records
from .records import (
    decode_catalog_indexes,
    decode_external,
    decode_name_index,
    decode_node_indexes,
    decode_service,
    fold,
    instance_key,
    node_of,
)


class CatalogCheck:
    """The check of the catalog of one state.

    Each method takes a record and raises `ValueError` or `StorageError` where it is none that this
    version writes.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        # Folded names, and those of them that have an instance.
        self._names: dict[bytes, str] = {}
        self._with_instance: set[bytes] = set()
        # By key of an instance: the IDs of its checks, in their order.
        self._checks: dict[bytes, list[str]] = {}
        self._nodes: set[int] = set()
        self._externals: set[int] = set()
        # Numbers that only nodes can have.
        self._noted: set[int] = set()
        self._instances = 0

    def end(self) -> str:
        """Return what does not belong together; empty: all of it does."""
        if self._checks:
            return "checks and services"
        if len(self._with_instance) != len(self._names):
            return "services and their names"
        if not self._noted <= self._nodes:
            return "services and nodes"
        return ""

    def member(self, member: Member) -> None:
        """Take note of a member."""
        self._nodes.add(member.catalog_number)

    def take_name(self, key: bytes, value: bytes) -> None:
        """Look at the last index of a service's name."""
        _, shown = decode_name_index(value)
        if not command_limits.is_catalog_name(shown) or fold(shown) != key[1:]:
            raise ValueError("a service under another name")
        self._names[key[1:]] = shown

    def take_check(self, key: bytes, value: bytes) -> None:
        """Look at a check."""
        check = records.decode_check_once(value)
        fault = command_limits.check_fault(check)
        if fault or key != records.check_key(check.node, check.id):
            raise ValueError(fault or "a check under another id or node")
        if check.service:
            self._checks.setdefault(instance_key(check.node, check.service), []).append(check.id)

    def take_external(self, key: bytes, value: bytes) -> None:
        """Look at an external node."""
        node = decode_external(value)
        fault = command_limits.external_fault(node)
        if fault or key != records.id_key(records.EXTERNAL, node.number):
            raise ValueError(fault or "an external node under another number")
        self._externals.add(node.number)
        self._nodes.add(node.number)
        if len(self._externals) > EXTERNAL_NODES_MAX:
            raise ValueError("too many external nodes")

    def take_node_indexes(self, key: bytes, value: bytes) -> None:
        """Look at the last indexes of a node."""
        decode_node_indexes(value)
        self._noted.add(_number_in(key))

    def take_owner(self, key: bytes, value: bytes) -> None:
        """Look at who runs the checks of an external node."""
        if not records.decode_index(value) or _number_in(key) not in self._externals:
            raise ValueError("somebody runs the checks of a node that is not there")

    def take_service(self, key: bytes, value: bytes) -> None:
        """Look at an instance."""
        service = decode_service(value)
        fault = command_limits.service_fault(service)
        if fault or key[1:] != instance_key(service.node, service.id):
            raise ValueError(fault or "a service under another id or node")
        folded = fold(service.name)
        if self._names.get(folded) != service.name:
            raise ValueError("a service whose name is not there")
        if tuple(self._checks.pop(key[1:], ())) != service.checks:
            raise ValueError("a service whose checks are not its own")
        self._with_instance.add(folded)
        self._noted.add(node_of(key[1:]))
        self._instances += 1
        if self._instances > INSTANCES_MAX:
            raise ValueError("too many services")


def check_indexes(value: bytes) -> None:
    """Look at the last indexes of the whole catalog."""
    decode_catalog_indexes(value)


def _number_in(key: bytes) -> int:
    if len(key) != 1 + 8:
        raise ValueError(f"the key {key[:32]!r}")
    return records.id_of(key)
