"""What clients, members and leaders of the layer of cores propose about the catalog."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Literal

import msgspec

from hstore.node.model.checks import (
    NODE_MAINTENANCE,
    SERF_HEALTH,
    Check,
    CheckDefinition,
    CheckKind,
    CheckStatus,
    SetCheck,
)
from hstore.node.model.commands import ChangeMember
from hstore.node.model.locks import CreateSession, EndSession, Session
from hstore.node.model.services import (
    AssignNodes,
    CatalogRegister,
    CheckResult,
    Deregister,
    DeregisterCritical,
    ExternalNode,
    GivenCheck,
    Place,
    RegisterCheck,
    RegisterService,
    Service,
    UpdateChecks,
)

from .page import Page

_NAMES = ("web", "web", "Web", "db", "ä", "Ä")
_IDS = ("a", "b", "a/b", "c#1")
_CHECKS = ("x", "y", "service:a", NODE_MAINTENANCE)
_TAGS = ((), ("v1",), ("v1", "v2"), ("V1",), ("v2", "v2"))
_EXTERNALS = ("e1", "E1", "e2", "e3", "m-1")
_MADE = ("e1", "E1", "p1", "p2")
"""External nodes, as the catalog makes them, and as registrations do."""
_MARK = (("external-node", "true"),)
_UUIDS = ("", "", "00000001-0000-0000-0000-000000000000", "00000002-0000-0000-0000-000000000000")
_STATUSES: tuple[CheckStatus, ...] = ("passing", "warning", "critical")
GivenStatus = Literal["", "passing", "warning", "critical"]
_NOBODY = 1 << 60
_SECOND_NS = 10**9


class CatalogDraws:
    """One draw, knowing what is there: `page` is the newest page of the book."""

    def __init__(self, rng: Random, rid: int, page: Page) -> None:
        self._rng = rng
        self._rid = rid
        self._page = page
        self._members = [face.number for face in page.members.values()]
        self._externals = list(page.externals)

    def draw(self) -> Any:
        """Return a command."""
        rng = self._rng
        (make,) = rng.choices(tuple(_DRAWS), tuple(_DRAWS.values()))
        return make(self)

    # -- where and what ---------------------------------------------------------------------

    def _chance(self, part: float) -> bool:
        return self._rng.random() < part

    def _place(self) -> Place:
        if self._chance(0.5):
            return self._place_of(self._number())
        address = "192.0.2.7" if self._chance(0.85) else ""
        return Place(0, self._rng.choice(_MADE), address)

    def _place_of(self, number: int) -> Place:
        node = self._page.externals.get(number)
        return Place(number) if node is None else Place(0, node.name)

    def _number(self) -> int:
        there = self._externals if self._externals and self._chance(0.4) else self._members
        return self._rng.choice(there) if self._chance(0.97) else _NOBODY

    def _definition(self) -> CheckDefinition | None:
        rng = self._rng
        kind: CheckKind = rng.choice(("", "ttl", "ttl", "http", "maintenance"))
        if not kind:
            return None
        gone_ms = rng.choice((0, 200, 1_000))
        return CheckDefinition(
            kind, rng.choice((5, 6)) * _SECOND_NS, deregister_after_ms=gone_ms, is_shown=self._chance(0.2)
        )  # fmt: skip

    def _given(self, service: str = "") -> GivenCheck:
        rng = self._rng
        check_id = rng.choice(_CHECKS) if self._chance(0.95) else SERF_HEALTH
        status: GivenStatus = rng.choice(("", "", *_STATUSES))
        return GivenCheck(
            check_id, check_id, status, rng.choice(("", "n")), "", self._definition(), service
        )  # fmt: skip

    def _givens(self) -> tuple[GivenCheck, ...]:
        return tuple(self._given() for _ in range(self._rng.choice((0, 1, 1, 2))))

    def _service(self) -> Service:
        rng = self._rng
        service_id, name = rng.choice(_IDS), rng.choice(_NAMES)
        if self._chance(0.02):
            service_id, name = rng.choice((("consul", "web"), ("a", "Consul")))
        return Service(
            0, service_id, name, rng.choice(_TAGS), port=rng.choice((0, 80)),
            tag_override=self._chance(0.5),
        )  # fmt: skip

    def _known(self) -> Service | None:
        there = list(self._page.services.values())
        if self._chance(0.5):
            there = [one for one in there if one.node in self._page.externals] or there
        return self._rng.choice(there) if there else None

    def _check(self) -> Check | None:
        there = [check for check in self._page.checks.values() if check.id != SERF_HEALTH]
        return self._rng.choice(there) if there else None

    # -- commands -----------------------------------------------------------------------------

    def register(self) -> Any:
        """A service, with checks."""
        return RegisterService(self._place(), self._service(), self._givens(), self._chance(0.3))

    def again(self) -> Any:
        """A service as it is, perhaps with its checks, as a client gives them at each start."""
        known = self._known()
        if known is None:
            return self.register()
        tags = known.tags if known.agent_tags is None else known.agent_tags
        checks = [
            GivenCheck(one.id, one.name, "", one.notes, "", one.definition)
            for one in self._page.checks.values()
            if (one.node, one.service) == (known.node, known.id) and self._chance(0.7)
        ]
        return RegisterService(self._place_of(known.node), _bare(known, tags=tags), tuple(checks))

    def other_name(self) -> Any:
        """A service under another name, or with other tags."""
        known = self._known()
        if known is None:
            return self.register()
        rng = self._rng
        other = _bare(known, name=rng.choice(_NAMES), tags=rng.choice((known.tags, *_TAGS)))
        return RegisterService(self._place_of(known.node), other)

    def register_check(self) -> Any:
        """A check, of a node or of a service."""
        known = self._known()
        if known is not None and self._chance(0.5):
            service = known.id if self._chance(0.6) else ""
            return RegisterCheck(self._place_of(known.node), self._given(service))
        service = self._rng.choice(("", "", *_IDS))
        return RegisterCheck(self._place(), self._given(service))

    def deregister(self) -> Any:
        """Something that is there, or not; by an agent or by the catalog."""
        is_catalog, known, check = self._chance(0.3), self._known(), self._check()
        if known is not None and self._chance(0.5):
            return Deregister(self._place_of(known.node), known.id, None, is_catalog)
        if check is not None and self._chance(0.5):
            return Deregister(self._place_of(check.node), None, check.id, is_catalog)
        service = self._rng.choice(("a", "consul", None, None))
        check_id = None if service else self._rng.choice(("x", SERF_HEALTH))
        return Deregister(self._place(), service, check_id, is_catalog)

    def deregister_node(self) -> Any:
        """A whole node, or what is on it."""
        name = self._rng.choice((*_EXTERNALS, *_MADE))
        place = Place(0, name) if self._chance(0.8) else self._place()
        return Deregister(place, self._rng.choice((None, None, "a")), None, self._chance(0.9))

    def catalog_register(self) -> Any:
        """A node, a service, checks; at times in the name of a member."""
        rng = self._rng
        known = self._known()
        if known is not None and known.node not in self._page.externals and self._chance(0.3):
            return self._change_tags(known)
        node = ExternalNode(
            0, rng.choice(_EXTERNALS), rng.choice(_UUIDS), rng.choice(("192.0.2.1", "192.0.2.2")), (),
            rng.choice(((), _MARK)),
        )  # fmt: skip
        service = self._service() if self._chance(0.6) else None
        of_service = service.id if service is not None else rng.choice(_IDS)
        checks = tuple(
            self._given(rng.choice(("", of_service))) for _ in range(rng.choice((0, 1, 1, 2)))
        )
        return CatalogRegister(node, self._chance(0.3), service, checks)

    def _change_tags(self, known: Service) -> Any:
        member = self._page.member_at(known.node)
        name = "m-1" if member is None else member.name
        service = _bare(known, tags=self._rng.choice(_TAGS))
        return CatalogRegister(ExternalNode(0, name, address="192.0.2.1"), True, service)

    def update(self) -> Any:
        """Results, most of them of who runs the check, and of the definition in the log."""
        rng, results = self._rng, list[CheckResult]()
        owner = rng.choice([*self._page.members, *self._page.members, _NOBODY])
        for _ in range(rng.choice((1, 1, 2))):
            check = self._check()
            if check is None:
                break
            if not results and self._chance(0.8):
                owner = self._owner_of(check) or owner
            defined = check.defined - (check.defined > 0 and self._chance(0.3))
            results.append(
                CheckResult(
                    check.node, check.id, defined, rng.choice(_STATUSES), rng.choice(("", "out"))
                )
            )
        return UpdateChecks(owner, tuple(results)) if results else self.register()

    def _owner_of(self, check: Check) -> int:
        page = self._page
        if check.node in page.externals:
            return page.owners.get(check.node, 0)
        return next((one for one, face in page.members.items() if face.number == check.node), 0)

    def critical(self) -> Any:
        """The end of a service whose check is critical, as its leader saw it or before that."""
        there = [
            check
            for check in self._page.checks.values()
            if check.definition is not None and check.definition.deregister_after_ms
        ]
        critical = [check for check in there if check.status == "critical"]
        if not there:
            return self.register_check()
        check = self._rng.choice(critical if critical and self._chance(0.8) else there)
        seen = check.modify_index - self._chance(0.25)
        return DeregisterCritical(check.node, check.id, seen)

    def assign(self) -> Any:
        """Who runs the checks of an external node."""
        owners = [*self._page.members, *self._page.members, 0, _NOBODY]
        return AssignNodes(((self._number(), self._rng.choice(owners)),))

    def rename(self) -> Any:
        """A member, which may ask for the name of an external node."""
        known = self._rng.choice(list(self._page.members))
        name = self._rng.choice((f"m{self._rid}", f"m{known}", "e1", "e2", "m-1"))
        return ChangeMember(known, name=name)

    def serf_health(self) -> Any:
        """The check of a member."""
        return SetCheck(
            Check(
                self._rng.choice(self._members), SERF_HEALTH, "Serf Health Status",
                self._rng.choice(("passing", "critical")),
            )
        )  # fmt: skip

    def session(self) -> Any:
        """A session that depends on checks, or the end of one for its check."""
        check, sessions = self._check(), list(self._page.sessions)
        if check is None:
            return self.register_check()
        if sessions and self._chance(0.4):
            seen = self._rng.choice((check.modify_index, check.modify_index, 0))
            return EndSession(self._rng.choice(sessions), (check.node, check.id, seen))
        is_of_service = bool(check.service)
        return CreateSession(
            Session(
                id=self._rid.to_bytes(16, "big"), name="", node=check.node, lock_delay_ns=0,
                behavior="release", ttl="10s", ttl_ms=10_000,
                node_checks=() if is_of_service else (check.id,),
                service_checks=(check.id,) if is_of_service else None,
            )
        )  # fmt: skip


def _bare(service: Service, **others: Any) -> Service:
    """Return a service as a client gives it."""
    nothing = {"node": 0, "agent_tags": None, "checks": (), "create_index": 0, "modify_index": 0}
    return msgspec.structs.replace(service, **nothing | others)


_DRAWS: dict[Callable[[CatalogDraws], Any], float] = {
    CatalogDraws.register: 6,
    CatalogDraws.again: 2,
    CatalogDraws.other_name: 1.5,
    CatalogDraws.register_check: 3,
    CatalogDraws.deregister: 3,
    CatalogDraws.deregister_node: 0.7,
    CatalogDraws.catalog_register: 3,
    CatalogDraws.update: 4,
    CatalogDraws.critical: 1,
    CatalogDraws.assign: 1,
    CatalogDraws.rename: 0.4,
    CatalogDraws.serf_health: 0.7,
    CatalogDraws.session: 1,
}
