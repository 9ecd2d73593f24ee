"""What a page shows of the catalog, and the index of each answer.

The index of an answer is that of the last page on which it differed from the page before. So it is
computed from what is shown, and not from what commands do.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from hstore.node.model.checks import Check
from hstore.node.model.services import ExternalNode, Service

from .page import Face, Page
from .services_looking import checks_of, folded, services_of, uuid_of

Question = tuple[str, bytes]
"""`service` by folded name; `services`, `instances` (names of services, asked for by a filter), `nodes`;
`catalog node` and `health node` by folded name or UUID; `state` by status or `any`."""

Answers = dict[Question, Any]

STATES = (b"any", b"passing", b"warning", b"critical")
NEVER = "never"
"""What nothing is called."""

_DASHES = 4
"""Of a UUID. The checks of a node are asked for by its name only: they are found in the same way."""

Node = tuple[Any, ...]
"""A node as it is shown: number, name, UUID, address, tagged addresses, meta, indexes."""


def shown_service(service: Service) -> Service:
    """Return a service without what nobody is shown."""
    return msgspec.structs.replace(service, checks=(), agent_tags=None)


def shown_check(check: Check) -> Check:
    """Return a check without what nobody is shown."""
    return msgspec.structs.replace(check, told=0) if check.told else check


def _member(id_: int, face: Face) -> Node:
    number, name, address, create, modify = face
    host = address.rpartition(":")[0]
    return number, name, uuid_of(id_), host, (), (), create, modify


def _external(node: ExternalNode) -> Node:
    return (
        node.number, node.name, node.uuid, node.address, node.tagged, node.meta, node.create_index,
        node.modify_index,
    )  # fmt: skip


def nodes_of(page: Page) -> list[Node]:
    """Return all nodes, by name."""
    members = (_member(one, face) for one, face in page.members.items())
    nodes = (*members, *map(_external, page.externals.values()))
    return sorted(nodes, key=lambda node: str(node[1]).encode())


class _Shown:
    """What one page shows."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.nodes = nodes_of(page)
        self.by_name = {folded(node[1]): node for node in self.nodes}
        self.by_uuid = {node[2]: node for node in self.nodes if node[2]}

    def node(self, text: str) -> Node | None:
        return self.by_name.get(text) or self.by_uuid.get(text)

    def service(self, name: str) -> list[Any]:
        if name == "consul":
            return [
                self._built_in(node) for node in self.nodes if node[0] not in self.page.externals
            ]
        found = []
        for node in self.nodes:
            for service_id in services_of(self.page, node[0]):
                service = self.page.services[node[0], service_id]
                if folded(service.name) == name:
                    of_service = self.checks(checks_of(self.page, node[0], service_id), node[0])
                    found.append((node, shown_service(service), self.own(node[0]), of_service))
        return found

    def _built_in(self, node: Node) -> Any:
        face = self.page.member_at(node[0])
        assert face is not None
        port = int(face.address.rpartition(":")[2])
        service = Service(
            face.number, "consul", "consul", port=port, create_index=face.create,
            modify_index=face.modify,
        )  # fmt: skip
        return node, service, self.own(node[0]), []

    def own(self, number: int) -> list[Check]:
        return self.checks(checks_of(self.page, number, ""), number)

    def checks(self, ids: Iterable[str], number: int) -> list[Check]:
        return [shown_check(self.page.checks[number, one]) for one in ids]

    def with_names(self, status: str | None, node: Node) -> list[Any]:
        """Return checks of a node with the names that they show: its own, and of their services."""
        found = []
        for check in self.checks(checks_of(self.page, node[0]), node[0]):
            if status in (None, check.status):
                service = self.page.services.get((node[0], check.service))
                of_service = None if service is None else (service.name, service.tags)
                found.append((node[1], of_service, check))
        return found

    def set_(self) -> list[Any]:
        tags: dict[str, set[str]] = {name: set() for name in self.page.names.values()}
        for service in self.page.services.values():
            tags[service.name].update(service.tags)
        if self.page.members:
            tags["consul"] = set()
        return sorted((name, sorted(of_name)) for name, of_name in tags.items())

    def answers(self, names: Iterable[str], nodes: Iterable[str]) -> Answers:
        page = self.page
        services = [
            shown_service(page.services[node[0], one])
            for node in self.nodes
            for one in services_of(page, node[0])
        ]
        answers: Answers = {
            ("services", b""): self.set_(),
            ("instances", b""): (self.nodes, services),
            ("nodes", b""): self.nodes,
        }
        for name in names:
            answers["service", name.encode()] = self.service(name)
        for text in nodes:
            node = self.node(text)
            of_node = [one for one in services if node is not None and one.node == node[0]]
            answers["catalog node", text.encode()] = node, of_node
            if text in self.by_uuid or text.count("-") == _DASHES:
                continue
            checks = [] if node is None else self.with_names(None, node)
            answers["health node", text.encode()] = node is not None, checks
        every = [one for node in self.nodes for one in self.with_names(None, node)]
        for state in STATES:
            name = state.decode()
            answers["state", state] = [o for o in every if name in ("any", o[2].status)]
        return answers


def answers(page: Page) -> Answers:
    """Return what a page shows."""
    if page.answers is None:
        shown = _Shown(page)
        names = {folded(name) for name in page.names}
        known = [what.decode() for kind, what in page.indexes.catalog if kind == "service"]
        nodes = [what.decode() for kind, what in page.indexes.catalog if kind == "catalog node"]
        page.answers = shown.answers(
            dict.fromkeys((*known, *sorted(names), "consul", NEVER)),
            dict.fromkeys((*nodes, *sorted(shown.by_name), *sorted(shown.by_uuid), NEVER)),
        )
    return page.answers


def note(before: Page, page: Page) -> None:
    """Note which answers a page has changed."""
    tables = "members", "externals", "services", "checks"
    if all(getattr(before, name) == getattr(page, name) for name in tables):
        page.answers = before.answers
        return
    was, now = answers(before), answers(page)
    changed = {
        question for question in now if question not in was or was[question] != now[question]
    }
    changed -= {question for question in now if question not in was and _is_nothing(now[question])}
    page.indexes.catalog = {
        question: page.index if question in changed else page.indexes.catalog.get(question, 0)
        for question in now
    }
    _note_gone(page, "service", before.names.keys() - page.names.keys())
    _note_gone(page, "node", _names_of(before) - _names_of(page))


def _is_nothing(answer: Any) -> bool:
    return not answer or answer in ((None, []), (False, []))


def _names_of(page: Page) -> set[str]:
    nodes = nodes_of(page)
    return {folded(node[1]) for node in nodes} | {node[2] for node in nodes if node[2]}


def _note_gone(page: Page, kind: str, names: set[str]) -> None:
    if names:
        more = (page.index,) * len(names)
        page.indexes.gone[kind] = page.indexes.gone.get(kind, ()) + more


def between(question: Question, page: Page) -> tuple[int, int]:
    """Return the least and the greatest index that an answer may have, without the floor."""
    indexes = page.indexes
    least = most = indexes.catalog.get(question, 0)
    kind, what = question
    if kind == "services":
        least = max(least, indexes.meta)
        most = max(least, indexes.cleared)
    elif question == ("service", b"consul"):
        # Of the members, and any other node that comes or goes counts as one.
        most = max(least, indexes.catalog.get(("nodes", b""), 0))
    elif kind == "health node":
        node, _ = answers(page)["catalog node", what]
        most = max(least, 0 if node is None else node[7])
    elif kind in ("service", "state"):
        most = max(least, indexes.twice)
    return least, most


def forgotten(question: Question, page: Page, most: int) -> tuple[int, ...]:
    """Return which indexes an answer may have instead, where too many names are gone to be kept."""
    kind, what = question
    if kind == "service":
        is_there = what.decode() in page.names or what == b"consul"
        gone = page.indexes.gone.get("service", ())
    elif kind in ("catalog node", "health node"):
        is_there = answers(page)["catalog node", what][0] is not None
        gone = page.indexes.gone.get("node", ())
    else:
        return ()
    return gone if not is_there and len(gone) > most else ()
