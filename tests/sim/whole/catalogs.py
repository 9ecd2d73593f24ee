"""The catalog of services, by the log and by what members show of it.

- V1: what was answered 200 is committed, has been applied at the member that was asked, and is in every
  later default read on any member, until it is deregistered: which instances there are at an index is
  known here from the log alone.
- V7: what members show of a service at one index is the same, and so is what they answer of it;
  health/service and catalog/service list the same instances in one order.
- V5: an instance goes for a check only when that has been critical for as long as was asked for, in the
  cluster's time.
"""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING, Any, NamedTuple

import trio
from msgspec.structs import replace

from hstore.node.model.commands import Command, Keyed, Outcome, RemoveMember, ReplaceMember
from hstore.node.model.services import (
    AssignNodes,
    CatalogRegister,
    Deregister,
    DeregisterCritical,
    GivenCheck,
    Place,
    RegisterCheck,
    RegisterService,
    Service,
)

from ..tables.page import Page

if TYPE_CHECKING:
    from hstore.node.state.reader import Reader

    from .clients import Answer
    from .member import SimMember
    from .simulation import WholeSimulation

NAMES = ("web", "db", "cache")
"""Of all services of a run, in lower case."""

Node = int | str
"""A member by its number, an external node by its name in lower case."""

Instances = dict[tuple[Node, str], tuple[str, int]]
"""Name in lower case and port, by node and ID."""


class Seen(NamedTuple):
    """What a life of a member has shown of a service since a time.

    Attributes:
        at: When that was.
        applied: The last entry that it had applied then.
        at_index: That of the answers about the service.
        shown: Instances with their checks.
    """

    at: float
    applied: int
    at_index: int
    shown: tuple[Any, ...]


class Catalogs:
    """The catalog of one run. Nothing is done where nobody registers anything."""

    def __init__(self, sim: WholeSimulation) -> None:
        self.sim = sim
        self.instances: Instances = {}
        self.registered_at: dict[int, int] = {}
        self._checks: dict[tuple[Node, str], GivenCheck] = {}
        self._well_ms: dict[tuple[int, str], int] = {}
        self._indexes = [0]
        self._pages: list[Instances] = [{}]
        self._known_to = 0
        self._shown: dict[tuple[str, int], tuple[Any, ...]] = {}
        self._seen: dict[tuple[int, int, str], list[Seen]] = {}
        self._told: dict[tuple[str, str, int], list[Any]] = {}
        self._made_by_agents: set[Node] = set()
        self._owners: dict[int, list[tuple[int, int]]] = {}

    @property
    def is_used(self) -> bool:
        """Whether anything is registered in this run."""
        return self.sim.options.registrars > 0

    # -- by the log -------------------------------------------------------------------------

    def written(self, command: Command, outcome: Outcome, page: Page, before: Page) -> None:
        """A command of the log has taken effect for the first time, on some node.

        Args:
            command: What was committed.
            outcome: It is ok.
            page: Of the book, of this entry.
            before: The page before it.
        """
        self._known_to = page.index
        if isinstance(command, Keyed):
            if command.key in before.answered:
                return  # A copy of one that has taken effect.
            command = command.command
        effect = _EFFECTS.get(type(command))
        if effect is None or not self.is_used:
            return
        self.instances = dict(self.instances)
        effect(self, command, page.index, before)
        self._indexes.append(page.index)
        self._pages.append(self.instances)

    def at(self, index: int, name: str) -> set[tuple[str, int]]:
        """Return ID and port of each instance of a service, as of an index."""
        page = self._pages[bisect.bisect_right(self._indexes, index) - 1]
        return {(key[1], port) for key, (other, port) in page.items() if other == name}

    def was_anothers(self, number: int, member: int, after: int, until: int) -> bool:
        """Tell whether another member was to run the checks of a node, by an entry after one index."""
        changes = self._owners.get(number, ())
        return any(after < index <= until and owner != member for index, owner in changes)

    def _put(self, node: Node, service: Service, index: int) -> None:
        self.instances[node, service.id] = service.name.lower(), service.port
        self.registered_at.setdefault(service.port, index)

    def _register_service(self, command: RegisterService, index: int, _: Page) -> None:
        node = _node(command.place)
        if not command.place.number:
            self._made_by_agents.add(node)
        self._put(node, command.service, index)
        for check in command.checks:
            self._checks[node, check.id] = replace(check, service=command.service.id)

    def _register_check(self, command: RegisterCheck, _index: int, _: Page) -> None:
        self._checks[_node(command.place), command.check.id] = command.check

    def _register_in_catalog(self, command: CatalogRegister, index: int, _: Page) -> None:
        if command.service is not None:
            self._put(command.node.name.lower(), command.service, index)

    def _deregister(self, command: Deregister, _index: int, _: Page) -> None:
        node = _node(command.place)
        if command.service is not None:
            self.instances.pop((node, command.service), None)
            if node in self._made_by_agents and not any(at == node for at, _ in self.instances):
                self._made_by_agents.discard(node)
        elif command.check is None:
            self._forget(node)

    def _deregister_critical(self, command: DeregisterCritical, _index: int, before: Page) -> None:
        external = before.externals.get(command.node)
        node: Node = command.node if external is None else external.name.lower()
        check = self._checks.get((node, command.check))
        if check is None or check.definition is None:
            return
        self.instances.pop((node, check.service), None)
        sim, after_ms = self.sim, check.definition.deregister_after_ms
        took_ms = sim.checker.judge.book.last.time_ms - self._well_ms.get(
            (command.node, check.id), 0
        )
        sim.counts["deregistered as critical"] += 1
        if took_ms < after_ms:
            sim.fail(
                f"V5: {check.id} was well {took_ms} ms ago, its instance goes after {after_ms} ms"
            )

    def _remove_member(self, command: RemoveMember, _index: int, before: Page) -> None:
        face = before.members.get(command.id)
        if face is not None:
            self._forget(face.number)

    def _replace_member(self, command: ReplaceMember, _index: int, before: Page) -> None:
        face = before.members.get(command.replaces)
        if face is not None and command.member.id in before.members:
            self._forget(face.number)

    def _assign(self, command: AssignNodes, index: int, _: Page) -> None:
        for number, owner in command.pairs:
            self._owners.setdefault(number, []).append((index, owner))

    def _forget(self, node: Node) -> None:
        for key in [key for key in self.instances if key[0] == node]:
            del self.instances[key]

    # -- by what members show ---------------------------------------------------------------

    def look(self, member: SimMember) -> None:
        """A member has applied something, or installed a snapshot: what does it show now?"""
        if not self.is_used or member.is_frozen:
            return
        keys = member.node.keys
        applied = member.node.replica.state.applied
        reader = keys.view()
        try:
            for name in NAMES:
                folded = name.encode()
                shown, index = _shown(reader, folded), reader.service_index(folded)
                self._look_at(
                    member, name, applied, Seen(trio.current_time(), applied, index, shown)
                )
        finally:
            reader.close()

    def _look_at(self, member: SimMember, name: str, applied: int, now: Seen) -> None:
        if (name, applied) not in self._shown:
            self._note_well(applied, now.shown)
        known = self._shown.setdefault((name, applied), now.shown)
        if known != now.shown:
            self.sim.fail(f"V7: node {member.id} at {applied} shows {now.shown}, elsewhere {known}")
        self.sim.counts["catalogs compared"] += 1
        seen = self._seen.setdefault((member.id, member.lives, name), [])
        if seen and seen[-1].shown == now.shown:
            return
        if seen and now.at_index <= seen[-1].at_index:
            self.sim.fail(
                f"V8: node {member.id}: the index of {name} is as it was: {seen[-1]}, {now}"
            )
        seen.append(now)

    def _note_well(self, applied: int, shown: tuple[Any, ...]) -> None:
        pages = self.sim.checker.judge.book.pages
        time_ms = pages[min(applied, len(pages) - 1)].time_ms
        for number, *_, checks in shown:
            for check, status, _output in checks:
                if status != "critical":
                    # Another node may have a check of that ID.
                    at = number, check
                    self._well_ms[at] = max(time_ms, self._well_ms.get(at, 0))

    def changed_after(self, member: SimMember, life: int, name: str, index: int) -> Seen | None:
        """Return when a life of a member first showed something else of a service, after an index."""
        seen = self._seen.get((member.id, life, name), ())
        return next((one for one in seen if one.at_index > index), None)

    # -- by what is answered ----------------------------------------------------------------

    def check_read(self, kind: str, name: str, least: int, answer: Answer) -> None:
        """A read of a service is answered: `least` is what it must have applied (V1, V7)."""
        sim, index = self.sim, answer.index
        found = _listed(answer.json(), kind)
        about = f"{kind}/service/{name} at {index} of node"
        if index < least:
            sim.fail(f"V1: {about}: {least} was committed before it was asked")
        key = ("health" if kind == "passing" else kind, name, answer.result_index)
        if kind != "passing":
            known = self._told.setdefault(key, found)
            if known != found:
                sim.fail(f"V7: {about}: {found}, and elsewhere {known}")
            for other in ("health", "catalog"):
                beside = self._told.get((other, name, answer.result_index), found)
                if [one[:2] for one in beside] != [one[:2] for one in found]:
                    sim.fail(f"V7: {about}: {found}, and {other} has {beside}")
        if not sim.checker.judge.book.last.is_open or index > self._known_to:
            return
        sim.counts["catalog reads judged"] += 1
        expected, instances = self.at(index, name), {(one[1], one[2]) for one in found}
        if (instances != expected) if kind != "passing" else not instances <= expected:
            sim.fail(f"V1: {about}: {sorted(instances)}, by the log {sorted(expected)}")
        self._compare_shown(kind, name, index, found)

    def _compare_shown(self, kind: str, name: str, index: int, found: list[Any]) -> None:
        shown = self._shown.get((name, index))
        if shown is None or kind == "catalog":
            return
        expected = [
            (node, service, port, tuple((check, status) for check, status, _ in checks))
            for _, node, service, port, checks in shown
            if kind == "health" or all(status == "passing" for _, status, _ in checks)
        ]
        if [one[:4] for one in found] != expected:
            self.sim.fail(f"V7: {kind}/service/{name} at {index}: {found}, the state is {expected}")

    def check_done(self, member: SimMember, life: int, port: int, answer: Answer) -> None:
        """A registration with a port of its own is answered with 200 (V1)."""
        if not self.sim.checker.judge.book.last.is_open:
            return
        index = self.registered_at.get(port)
        if index is None:
            self.sim.fail(f"V1: a registration with port {port} is acknowledged, and not committed")
        elif index > answer.index:
            self.sim.fail(f"V1: registered at {index} with port {port}, answered at {answer.index}")
        elif member.is_up and member.lives == life and member.node.keys.applied_index < index:
            self.sim.fail(f"V1: node {member.id} acknowledges {index} before it has applied it")
        self.sim.counts["registrations acknowledged"] += 1


def _node(place: Place) -> Node:
    return place.number or place.name.lower()


def _shown(reader: Reader, name: bytes) -> tuple[Any, ...]:
    found = []
    for node, service in reader.instances(name):
        checks = [*reader.node_checks(node.number), *reader.service_checks(service)]
        told = tuple((check.id, check.status, check.output) for check in checks)
        found.append((node.number, node.name, service.id, service.port, told))
    return tuple(found)


def _listed(body: list[Any], kind: str) -> list[Any]:
    """Return node, ID and port of each instance that is listed, with its checks where these are told."""
    if kind == "catalog":
        return [(one["Node"], one["ServiceID"], one["ServicePort"]) for one in body]
    return [
        (
            one["Node"]["Node"],
            one["Service"]["ID"],
            one["Service"]["Port"],
            tuple((check["CheckID"], check["Status"]) for check in one["Checks"]),
        )
        for one in body
    ]


_EFFECTS: dict[type, Any] = {
    AssignNodes: Catalogs._assign,
    RegisterService: Catalogs._register_service,
    RegisterCheck: Catalogs._register_check,
    CatalogRegister: Catalogs._register_in_catalog,
    Deregister: Catalogs._deregister,
    DeregisterCritical: Catalogs._deregister_critical,
    RemoveMember: Catalogs._remove_member,
    ReplaceMember: Catalogs._replace_member,
}
