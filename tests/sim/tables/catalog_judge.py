"""What a real state machine shows of the catalog, in the shape of `catalog.py`, and who waits for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from hstore.node.errors import BadFrame
from hstore.node.state.catalog.index import CatalogIndex
from hstore.node.state.catalog.reader import CatalogNode
from hstore.node.state.intact import StateCheck
from hstore.node.state.machine import Reader, State
from hstore.node.state.watching.changes import (
    CHECK_STATES,
    INSTANCES,
    NODE_CHECKS,
    NODE_HEALTH,
    NODE_SERVICES,
    NODES,
    SERVICE_SET,
    SERVICES,
    Table,
)

from .catalog import Node, Question, answers, shown_check, shown_service
from .page import Page
from .services_looking import checks_of

KINDS = ("service", "services", "instances", "nodes", "catalog node", "health node", "state")

Target = tuple[Table, bytes, bool]
"""What is waited for: table, key, whether it is a prefix."""

_ALL_NODES: Target = (NODES, b"", True)


class Shown:
    """What one state of a node shows of the catalog.

    Args:
        reader: Of that state.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._nodes = reader.catalog_nodes()
        self._services = [one for node in self._nodes for one in reader.services_of(node.number)]
        self._with_names: dict[int, list[Any]] = {}

    def differs(self, page: Page, questions: Iterable[Question]) -> str:
        """Return where the node and the book differ; empty: nowhere.

        Args:
            page: Of the book.
            questions: Whose answers are compared, beside the services and checks themselves.
        """
        checks = {(check.node, check.id): check for check in self._reader.every_check()}
        if checks != page.checks:
            both = checks.keys() | page.checks.keys()
            key = next(key for key in both if checks.get(key) != page.checks.get(key))
            return f"check {key} is {checks.get(key)}, not {page.checks.get(key)}"
        services = {(one.node, one.id): one for one in self._services}
        if services.keys() != page.services.keys():
            return f"services {sorted(services.keys() ^ page.services.keys())} are in one only"
        for (number, service_id), service in services.items():
            ids = tuple(checks_of(page, number, service_id))
            known = page.services[number, service_id]
            if service.checks != ids or service.agent_tags != known.agent_tags:
                return f"{service}, not {known} with the checks {ids}"
        expected = answers(page)
        for question in questions:
            found = self.answer(question)
            if found != expected[question]:
                return f"the answer about {question} is {found}, not {expected[question]}"
        return ""

    def answer(self, question: Question) -> Any:
        """Return what the node answers."""
        kind, what = question
        reader = self._reader
        if kind == "service":
            return [
                (
                    _node(one.node), shown_service(one.service),
                    [shown_check(check) for check in reader.node_checks(one.node.number)],
                    [shown_check(check) for check in reader.service_checks(one.service)],
                )
                for one in reader.instances(what)
            ]  # fmt: skip
        if kind == "services":
            return reader.service_set()
        if kind == "nodes":
            return [_node(node) for node in self._nodes]
        if kind == "instances":
            services = [shown_service(one) for one in self._services]
            return [_node(node) for node in self._nodes], services
        if kind == "state":
            every = [one for node in self._nodes for one in self._checks(node)]
            return [one for one in every if what == b"any" or one[2].status.encode() == what]
        node = reader.catalog_node(what.decode())
        if kind == "health node":
            return node is not None, [] if node is None else self._checks(node)
        if node is None:
            return None, []
        return _node(node), [
            shown_service(one) for one in self._services if one.node == node.number
        ]

    def _checks(self, node: CatalogNode) -> list[Any]:
        known = self._with_names.get(node.number)
        if known is None:
            known = self._with_names[node.number] = _with_names(self._reader, node)
        return known


def _node(node: CatalogNode) -> Node:
    return (
        node.number, node.name, node.uuid, node.address, node.tagged, node.meta, node.create_index,
        node.modify_index,
    )  # fmt: skip


def _with_names(reader: Reader, node: CatalogNode) -> list[Any]:
    found = []
    for check in reader.checks(node.number):
        service = reader.service(node.number, check.service) if check.service else None
        of_service = None if service is None else (service.name, service.tags)
        found.append((node.name, of_service, shown_check(check)))
    return found


def index_of(question: Question, reader: Reader) -> int:
    """Return what a node says is the index of an answer."""
    kind, what = question
    if kind == "service":
        return reader.service_index(what)
    if kind in ("services", "instances"):
        return reader.service_set_index(is_narrowed=kind == "instances")
    if kind == "nodes":
        return reader.nodes_index()
    if kind == "state":
        return reader.check_states_index(what.decode())
    of_kind: dict[str, Callable[[str], int]] = {
        "catalog node": reader.catalog_node_index,
        "health node": reader.node_health_index,
    }
    return of_kind[kind](what.decode())


def targets(question: Question, page: Page) -> Sequence[Target]:
    """Return what somebody waits for who asked a question of the state of this page."""
    kind, what = question
    if kind == "service":
        shown = answers(page).get(question, ())
        healths = {(NODE_HEALTH, one[0][0].to_bytes(8, "big"), False) for one in shown}
        own = _ALL_NODES if what == b"consul" else (SERVICES, what, False)
        return own, *healths
    if kind == "services":
        return ((SERVICE_SET, b"", False),)
    if kind == "instances":
        return (SERVICE_SET, b"", False), (INSTANCES, b"", False), _ALL_NODES
    if kind == "nodes":
        return (_ALL_NODES,)
    if kind == "state":
        return ((CHECK_STATES, what, False),)
    node, _ = answers(page)["catalog node", what]
    if node is None:
        return (_ALL_NODES,)
    number, table = node[0].to_bytes(8, "big"), NODE_SERVICES
    if kind == "health node":
        table = NODE_CHECKS
    return (NODES, number, False), (table, number, False)


def is_apart(state: State, page: Page) -> str:
    """Return where what a node holds in memory, its records and the book are apart; empty: nowhere."""
    if state.catalog.owners != page.owners:
        return f"owners {state.catalog.owners}, not {page.owners}"
    view = state.snapshot()
    try:
        loaded = CatalogIndex.load(view).as_dict()
        held = state.catalog.as_dict()
        for name, value in held.items():
            if loaded[name] != value:
                return f"{name} is {value} in memory, and {loaded[name]} by the records"
        check = StateCheck()
        check.take(list(view.scan(b"")))
        check.end(state.applied, state.applied_term)
    except BadFrame as error:
        return str(error)
    finally:
        view.close()
    return ""
