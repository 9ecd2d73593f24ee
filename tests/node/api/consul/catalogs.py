"""A catalog that tests change in few words, by the commands that do it.

catalog.register(OWN, "web", port=80)
catalog.check(OWN, "service:web", "passing", service="web")
"""

from __future__ import annotations

from typing import Any, Protocol

from hstore.node.model.checks import CheckDefinition, CheckStatus
from hstore.node.model.commands import Command, Outcome, RemoveMember
from hstore.node.model.services import (
    CatalogRegister,
    CheckResult,
    Deregister,
    ExternalNode,
    GivenCheck,
    Pairs,
    Place,
    RegisterCheck,
    RegisterService,
    Service,
    UpdateChecks,
)
from hstore.node.state.machine import State


class Backend(Protocol):
    """What `StateBackend` has."""

    id: int
    state: State

    def apply(self, command: Command) -> Outcome:
        """Have a command take effect."""
        ...


class Catalog:
    """The catalog of a real state, changed by commands."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    def apply(self, command: Any) -> Outcome:
        outcome = self.backend.apply(command)
        assert outcome.ok, outcome
        return outcome

    def _place(self, number: int) -> Place:
        if not number >> 63:
            return Place(number)
        reader = self.backend.state.view()
        try:
            node = reader.node_by_number(number)
        finally:
            reader.close()
        assert node is not None
        return Place(0, node.name)

    def add_external(self, name: str, address: str, *, meta: Pairs = (), uuid: str = "") -> int:
        self.apply(CatalogRegister(ExternalNode(0, name, uuid, address, (), meta)))
        reader = self.backend.state.view()
        try:
            node = reader.catalog_node(name)
        finally:
            reader.close()
        assert node is not None
        return node.number

    def remove_node(self, number: int) -> None:
        if number >> 63:
            self.apply(Deregister(self._place(number), is_catalog=True))
        else:
            self.apply(RemoveMember(number))

    def register(self, number: int, name: str, service_id: str = "", **fields: Any) -> None:
        service = Service(0, service_id or name, name, **fields)
        self.apply(RegisterService(self._place(number), service))

    def deregister(self, number: int, service_id: str) -> None:
        self.apply(Deregister(self._place(number), service_id))

    def check(
        self,
        number: int,
        check_id: str,
        status: CheckStatus,
        *,
        service: str = "",
        name: str = "",
        notes: str = "",
        definition: CheckDefinition | None = None,
    ) -> None:
        given = GivenCheck(
            check_id, name or check_id, status, notes, definition=definition, service=service
        )
        self.apply(RegisterCheck(self._place(number), given))

    def remove_check(self, number: int, check_id: str) -> None:
        self.apply(Deregister(self._place(number), check=check_id))

    def result(self, number: int, check_id: str, status: CheckStatus, output: str) -> None:
        """As its owner finds out."""
        check = self.backend.state.check(number, check_id)
        assert check is not None
        result = CheckResult(number, check_id, check.defined, status, output)
        self.apply(UpdateChecks(self.backend.id, (result,)))
