"""Commands of the catalog: short spellings of them, random ones, and what readers show after them."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from typing import Any

import msgspec

from hstore.node.model.checks import (
    NODE_MAINTENANCE,
    SERF_HEALTH,
    CheckDefinition,
    CheckKind,
    CheckStatus,
)
from hstore.node.model.commands import (
    DIGEST_BYTES,
    BecomeOnly,
    ChangeMember,
    Checkpoint,
    Command,
    Delete,
    Keyed,
    Put,
    PutMember,
    RemoveMember,
    ReplaceMember,
    Transaction,
    Write,
)
from hstore.node.model.locks import Acquire
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
from hstore.node.model.transactions import CheckNotExists
from hstore.node.state.catalog.index import CATALOG, CatalogIndex
from hstore.node.state.catalog.records import fold
from hstore.node.state.machine import State
from hstore.node.state.reader import Reader
from tests.node.state.machines import (
    Now,
    create,
    end,
    everything,
    member,
    serf_health,
    session_id,
)

SECOND = 10**9


# --- short spellings -------------------------------------------------------------------------------


def place(node: int | str, address: str = "") -> Place:
    return Place(node) if isinstance(node, int) else Place(0, node, address)


def ttl(seconds: float = 10, **more: Any) -> CheckDefinition:
    return CheckDefinition("ttl", int(seconds * SECOND), **more)


def http(**more: Any) -> CheckDefinition:
    return CheckDefinition("http", interval_ns=SECOND, http="http://192.0.2.1/", **more)


def given(
    check_id: str,
    status: str = "",
    definition: CheckDefinition | None = None,
    **more: Any,
) -> GivenCheck:
    return GivenCheck(check_id, check_id, status, definition=definition, **more)  # type: ignore[arg-type]


def register(
    node: int | str,
    name: str,
    *checks: GivenCheck,
    id: str = "",  # noqa: A002
    address: str = "",
    replaces: bool = False,
    time_ms: int = 0,
    **fields: Any,
) -> RegisterService:
    service = Service(0, id or name, name, **fields)
    return RegisterService(place(node, address), service, checks, replaces, time_ms)


def deregister(node: int | str, service: str | None = None, **more: Any) -> Deregister:
    return Deregister(place(node), service, **more)


def catalog_register(name: str, address: str = "192.0.2.1", **more: Any) -> CatalogRegister:
    fields = {one: more.pop(one) for one in ("uuid", "meta", "tagged") if one in more}
    return CatalogRegister(ExternalNode(0, name, address=address, **fields), **more)


def result(
    machine: State, node: int, check_id: str, status: CheckStatus, output: str = ""
) -> CheckResult:
    """What the member that runs a check says of the definition that is in the log."""
    check = machine.check(node, check_id)
    return CheckResult(node, check_id, 0 if check is None else check.defined, status, output)


def index_of(machine: State) -> CatalogIndex:
    found: CatalogIndex = machine._values[CATALOG]
    return found


# --- random ones -----------------------------------------------------------------------------------

NAMES = ("web", "Web", "db", "ä", "Ä", "cache")
IDS = ("a", "b", "a/b", "c#1")
CHECKS = ("x", "y", "service:a", SERF_HEALTH, NODE_MAINTENANCE)
TAGS = ((), ("v1",), ("v1", "v2"), ("V1",), ("v2", "v2"))
EXTERNALS = ("e1", "E1", "e2", "e3", "n7")
UUIDS = ("", "", f"{1:08x}-0000-0000-0000-{0:012x}", f"{2:08x}-0000-0000-0000-{0:012x}")
STATUSES: tuple[CheckStatus, ...] = ("passing", "warning", "critical")


class Draws:
    """Random commands about a small catalog, each drawn knowing what is there."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.time_ms = 0
        self.next_id = 10
        self._draws = [
            *[self._register] * 8,
            *[self._register_check] * 3,
            *[self._deregister] * 4,
            *[self._catalog_register] * 4,
            *[self._update] * 6,
            *[self._serf_health] * 2,
            self._critical,
            self._assign,
            self._keyed,
            self._member,
            self._key,
            self._session,
        ]

    def commands(self, machine: State, count: int) -> Iterator[Command]:
        for _ in range(count):
            self.time_ms += self.rng.choice((0, 10, 30_000))
            yield self.rng.choice(self._draws)(machine)

    def _number(self, machine: State) -> int:
        return self.rng.choice([*sorted(machine.node_numbers), 99])

    def _place(self, machine: State) -> Place:
        if self.rng.random() < 0.6:
            return Place(self._number(machine))
        return Place(0, self.rng.choice(EXTERNALS), self.rng.choice(("", "192.0.2.7")))

    def _definition(self) -> CheckDefinition | None:
        kind: CheckKind = self.rng.choice(("", "ttl", "http"))
        if not kind:
            return None
        gone_ms = self.rng.choice((0, 60_000))
        return CheckDefinition(kind, self.rng.choice((5, 6)) * SECOND, deregister_after_ms=gone_ms)

    def _given(self, service: str = "") -> GivenCheck:
        status = self.rng.choice(("", "", *STATUSES))
        return given(
            self.rng.choice(CHECKS), status, self._definition(), service=service,
            notes=self.rng.choice(("", "n")),
        )  # fmt: skip

    def _service(self) -> Service:
        rng = self.rng
        return Service(
            0, rng.choice(IDS), rng.choice(NAMES), rng.choice(TAGS), port=rng.choice((0, 80)),
            tag_override=rng.random() < 0.5,
        )  # fmt: skip

    def _givens(self) -> tuple[GivenCheck, ...]:
        return tuple(self._given() for _ in range(self.rng.choice((0, 1, 1, 2))))

    def _register(self, machine: State) -> Write:
        where, replaces = self._place(machine), self.rng.random() < 0.3
        return RegisterService(where, self._service(), self._givens(), replaces, self.time_ms)

    def _register_check(self, machine: State) -> Write:
        service = self.rng.choice(("", *IDS))
        return RegisterCheck(self._place(machine), self._given(service), self.time_ms)

    def _deregister(self, machine: State) -> Write:
        what = self.rng.choice(("service", "service", "check", "node"))
        service = self.rng.choice(IDS) if what == "service" else None
        check = self.rng.choice(CHECKS) if what == "check" else None
        is_catalog = self.rng.random() < 0.5
        if what == "node" and self.rng.random() < 0.7:
            service = "a"
        return Deregister(self._place(machine), service, check, is_catalog)

    def _catalog_register(self, machine: State) -> Write:
        rng = self.rng
        name = rng.choice((*EXTERNALS, "n1"))
        meta = rng.choice(((), (("external-node", "true"),)))
        node = ExternalNode(
            0, name, rng.choice(UUIDS), rng.choice(("192.0.2.1", "192.0.2.2")), (), meta
        )
        service = self._service() if rng.random() < 0.6 else None
        checks = tuple(
            self._given(rng.choice(("", "a", "b"))) for _ in range(rng.choice((0, 1, 2)))
        )
        return CatalogRegister(node, rng.random() < 0.3, service, checks, self.time_ms)

    def _update(self, machine: State) -> Command:
        rng = self.rng
        results = []
        for _ in range(rng.choice((1, 1, 3))):
            node, check = self._number(machine), rng.choice(CHECKS)
            one = result(machine, node, check, rng.choice(STATUSES), rng.choice(("", "out")))
            if rng.random() < 0.3:
                one = msgspec.structs.replace(one, defined=one.defined + 1)
            results.append(one)
        owner = rng.choice([*sorted(machine.members), 99])
        return UpdateChecks(owner, tuple(results), self.time_ms)

    def _serf_health(self, machine: State) -> Command:
        return serf_health(self.rng.choice(("passing", "critical")), self._number(machine))

    def _critical(self, machine: State) -> Command:
        node, check_id = self._number(machine), self.rng.choice(CHECKS)
        check = machine.check(node, check_id)
        seen = 1 if check is None else check.modify_index
        return DeregisterCritical(node, check_id, seen, self.time_ms)

    def _assign(self, machine: State) -> Command:
        owners = [*sorted(machine.members), 0, 99]
        return AssignNodes(((self._number(machine), self.rng.choice(owners)),))

    def _keyed(self, machine: State) -> Command:
        draw = self.rng.choice((self._register, self._deregister, self._catalog_register))
        key = str(self.rng.randrange(20)).encode()
        return Keyed(key, bytes(DIGEST_BYTES), draw(machine), self.time_ms)

    def _member(self, machine: State) -> Command:
        rng = self.rng
        ids = sorted(machine.members)
        what = rng.randrange(12)
        if what < 4 and len(ids) < 4:
            self.next_id += 1
            return PutMember(member(self.next_id, rng.choice(("", "e2", "n7"))))
        if what < 8 and ids:
            return ChangeMember(rng.choice(ids), name=rng.choice(("n1", "n7", "m1", "e3")))
        if what == 8 and ids:
            self.next_id += 1
            return ReplaceMember(
                member(self.next_id, rng.choice(("", "n2", "n7"))), rng.choice(ids)
            )
        if what == 9 and len(ids) > 1:
            return RemoveMember(rng.choice(ids))
        if what == 10 and ids and rng.random() < 0.1:
            return BecomeOnly("cd" * 8, rng.choice(ids))
        return Checkpoint()

    def _key(self, _machine: State) -> Command:
        key, draw = self.rng.choice((b"k", b"l")), self.rng.random()
        if draw < 0.4:
            other = Acquire(b"m", b"2", 0, session_id("s")) if draw < 0.2 else CheckNotExists(b"m")
            return Transaction(
                (Put(key, b"%d" % self.time_ms), other, Delete(b"l", 1 if draw < 0.1 else None))
            )
        return Delete(key) if draw < 0.6 else Put(key, b"1")

    def _session(self, _machine: State) -> Command:
        letter = self.rng.choice("st")
        return create(letter) if self.rng.random() < 0.5 else end(letter)


def digest(machine: State) -> str:
    found = hashlib.blake2b(digest_size=16)
    for key, record in everything(machine):
        found.update(b"%d %d " % (len(key), len(record)) + key + record)
    return found.hexdigest()


# --- what readers show -------------------------------------------------------------------------------

Shown = dict[tuple[str, Any], tuple[int, Any]]
"""By question: the index of its answer, and the answer."""


def shown(machine: State) -> Shown:
    """Ask a machine all that clients can ask about the catalog."""
    with Now(machine) as now:
        return dict(_answers(machine, now))


def _answers(machine: State, now: Reader) -> Iterator[tuple[tuple[str, Any], tuple[int, Any]]]:
    names = {fold(name) for name in (*NAMES, "consul")}
    for folded in sorted(names):
        found = [
            (
                one.node,
                one.service,
                now.node_checks(one.node.number),
                now.service_checks(one.service),
            )
            for one in now.instances(folded)
        ]
        yield ("service", folded), (now.service_index(folded), _plain(found))
    sets = now.service_set()
    yield ("services", ""), (now.service_set_index(is_narrowed=False), sets)
    nodes = now.catalog_nodes()
    yield ("nodes", ""), (now.nodes_index(), nodes)
    names_of_nodes = {fold(name) for name in (*EXTERNALS, "n1", "n2", "n3", "n4", "m1")}
    for text in sorted(name.decode() for name in names_of_nodes):
        node = now.catalog_node(text)
        services = [] if node is None else list(now.services_of(node.number))
        checks = [] if node is None else _checks(machine, now, list(now.checks(node.number)))
        yield ("node", text), (now.catalog_node_index(text), (node, _plain(services)))
        yield ("health", text), (now.node_health_index(text), (node, checks))
    every = list(now.every_check())
    for state in ("any", *STATUSES):
        found_ = _checks(machine, now, [one for one in every if state in ("any", one.status)])
        yield ("state", state), (now.check_states_index(state), found_)


def _checks(machine: State, now: Reader, checks: list[Any]) -> list[Any]:
    """Checks as they are shown: with the names of their nodes, and names and tags of their services."""
    found = []
    for check in checks:
        node, service = now.node_by_number(check.node), now.service(check.node, check.service)
        name = "" if node is None else node.name
        of_service = None if service is None else (service.name, service.tags)
        found.append((name, of_service, _plain(check)))
    return found


def _plain(one: Any) -> Any:
    """What nobody is shown is left out: `told`, `checks`, `agent_tags`."""
    if isinstance(one, list | tuple):
        return [_plain(each) for each in one]
    if isinstance(one, msgspec.Struct):
        hidden = {"told": 0, "checks": (), "agent_tags": None}
        known = {name: value for name, value in hidden.items() if hasattr(one, name)}
        return msgspec.structs.replace(one, **known)
    return one
